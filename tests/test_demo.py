from __future__ import annotations

import sys
from pathlib import Path

import pytest
from counts import long

from edgeret.documents import Document, Record
from edgeret.errors import InvalidDocumentError
from edgeret.shell import demo
from edgeret.shell.demo import corpus

SOURCE = '''
"""Tools for tea."""
try:
    from _tea import brew
except ImportError:
    def brew():
        """Brew a cup."""
        def inner():
            """Not seen."""
else:
    def pour():
        """Pour it."""

class Pot:
    """Holds tea."""
    def fill(self):
        """Fill the pot."""
    def _leak(self):
        """Hidden."""
    def silent(self):
        pass

async def sip():
    """Sip it."""

def _private():
    """Hidden."""

raise SystemExit("imported")
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    files = {
        "tea.py": SOURCE,
        "cups/__init__.py": '"""Cups."""',
        "cups/mug.py": '"""A mug."""\nimport no_such_module',
        "cups/tests/test_mug.py": '"""Hidden."""',
        "_hidden.py": '"""Hidden."""',
        "test/support.py": '"""Hidden."""',
        "site-packages/other.py": '"""Hidden."""',
        "plain.py": "x = 1",
    }
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_the_corpus_is_what_is_public(sources: Path) -> None:
    found = corpus(None, sources)
    assert [document.id for document in found] == [
        "cups", "cups.mug", "tea", "tea.Pot", "tea.Pot.fill", "tea.brew", "tea.pour", "tea.sip",
    ]  # fmt: skip
    assert found[4] == Document(
        id="tea.Pot.fill", text="tea.Pot.fill: Fill the pot.", metadata={"module": "tea", "kind": "function"}
    )
    assert [found[row].metadata["kind"] for row in (0, 3)] == ["module", "class"]


def test_a_limit_keeps_the_fewest_dots(sources: Path) -> None:
    assert [document.id for document in corpus(2, sources)] == ["cups", "tea"]
    assert [document.id for document in corpus(4, sources)] == ["cups", "cups.mug", "tea", "tea.brew"]
    assert corpus(100, sources) == corpus(None, sources)


def test_a_long_docstring_is_cut_at_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(f'"""{"a" * 500}\n\n{"b" * 200}\n\n{"c" * 500}"""')
    (tmp_path / "wide.py").write_text(f'"""{"a" * 5000}"""')
    long, wide = corpus(None, tmp_path)
    assert long.text == f"long: {'a' * 500}\n\n{'b' * 200}"
    assert wide.text == f"wide: {'a' * 800}"


def test_no_sources_are_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "python311.zip"):
        with pytest.raises(InvalidDocumentError, match="expected the sources of the standard library in"):
            corpus(folder=folder)


@long
def test_the_standard_library_of_this_python() -> None:
    before = set(sys.modules)
    found = corpus()
    # What is read here and nobody needs: that it is read without being run.
    assert not {"this", "antigravity", "turtle", "smtpd"} & (set(sys.modules) - before)
    assert len(found) == demo.ENTRIES
    identities = [str(document.id) for document in found]
    assert identities == sorted(set(identities))
    assert {"gzip", "gzip.open", "tempfile.TemporaryDirectory", "subprocess.run", "smtplib"} <= set(
        identities
    )
    assert not any(part.startswith("_") for name in identities for part in name.split("."))
    for document in found:
        Record.of(document)
