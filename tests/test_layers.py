"""The layout of the package: `python -m tests.house` prints what these tests require."""

import ast
import subprocess
import sys

import house
import pytest
from counts import long

HEAVY = {
    "onnxruntime",
    "tokenizers",
    "tqdm",
    "torch",
    "transformers",
    "ai_edge_litert",
    "usearch",
    "cryptography",
    "pydantic",
}


def test_no_rule_is_broken():
    assert house.broken() == []


def test_every_room_has_a_floor():
    found = {house.room(module) for module in house.modules()}
    assert found == {name for names in house.FLOORS for name in names}


@pytest.mark.parametrize("fault", house.EXAMPLES, ids=lambda fault: fault.rule)
def test_a_broken_rule_is_seen(fault):
    assert house.faults(fault.module, ast.parse(fault.source))


def test_the_picture_shows_the_floors():
    page = (house.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.partition("```text\n")[2].partition("```")[0]
    drawn = [
        set(line.split("  ")[0].replace("/", "").split(" | "))
        for line in picture.splitlines()
        if not line.startswith(" ")
    ]
    assert drawn == [set(names) for names in reversed(house.FLOORS)]


def imports_of(body):
    return [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def test_heavy_packages_are_not_imported_at_module_level():
    for module, tree in house.modules().items():
        outside = {
            name.split(".")[0] for name in house.imported(imports_of(tree.body))
        } - sys.stdlib_module_names
        assert outside <= {"edgeret", "numpy"}, module


def test_import_pulls_in_nothing_heavy():
    script = "import edgeret, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_what_is_used_was_imported_with_the_package(tmp_path):
    """Modules that NumPy imports when they are first needed take milliseconds and megabytes of the first call."""
    script = """
import sys, edgeret
loaded = {*sys.modules}
text = "One sentence of nine words is not yet a passage. " * 100
with edgeret.Index.create(sys.argv[1], model="nano", filters=["year"]) as index:
    index.add([edgeret.Document("a", text, {"year": 1}), edgeret.Document("b", "\\u3042 or \\u3044", {"year": 2})])
    for mode in ("dense", "lexical", "hybrid"):
        assert index.search("a sentence", mode=mode, where={"year": 1})[0].highlights
    assert index.search('"nine words"')
print(*(name for name in {*sys.modules} - loaded if not name.startswith("encodings.")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


def test_export_and_benchmarks_are_not_reached_from_the_device_side():
    reached = {name.split(".")[0] for tree in house.modules().values() for name in house.imported([tree])}
    assert not reached & {"export", "benchmarks", "tests"}


@long
def test_the_rooms_are_printed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.house"], cwd=house.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "rules broken: none" in done.stdout
    assert "storage" in done.stdout
