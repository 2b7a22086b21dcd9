"""The examples of docs/frameworks.md, each as far as its framework is there."""

import contextlib
import io
import sys
from itertools import pairwise

import pytest
from test_docs import ROOT, blocks, same

FENCES = [*blocks(ROOT / "docs" / "frameworks.md")]
EXAMPLES = [(source, shown) for (kind, source), (_, shown) in pairwise(FENCES) if kind == "python"]


@pytest.mark.parametrize(
    ("package", "example"),
    [*zip(("langchain_core", "llama_index", "haystack"), EXAMPLES, strict=True)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_example_prints_what_the_page_shows(package, example, tmp_path, monkeypatch):
    pytest.importorskip(package, reason="make frameworks brings what this needs")
    source, shown = example
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, package, "exec"), {"__name__": package})
    assert same(shown, printed.getvalue())


@pytest.mark.parametrize("name", ["langchain", "llamaindex", "haystack"])
def test_a_framework_that_is_missing_is_named_with_its_extra(name, monkeypatch):
    for package in ("langchain_core", "llama_index.core", "haystack"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"edgeret.adapters.{name}", raising=False)
    from importlib import import_module

    import edgeret

    with pytest.raises(edgeret.ExtraMissingError, match=rf"edgeret\[{name}\]"):
        import_module(f"edgeret.adapters.{name}")
