"""Dependencies point down, the device side stays light, and nothing reaches for the network."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgeret"

# Bottom to top: a module may import those in floors below it only.
FLOORS = [
    {"errors", "native"},
    {"turns", "door"},
    {
        "codec",
        "documents",
        "files",
        "filters",
        "footprint",
        "masks",
        "pages",
        "place",
        "passages",
        "ranking",
        "schema",
        "scan",
        "unknown",
    },
    {"graph", "manifest"},
    {"bundle", "plan", "reports", "inputs", "update", "sides"},
    {"tokens", "tokenizer"},
    {"backends", "static", "windows"},
    {"tflite"},
    {"encoder", "target", "log"},
    {"database"},
    {"store", "signing"},
    {"codes", "change", "connections", "contents", "partitions", "drafts"},
    {"candidates", "clustering", "forecast"},
    {"search", "check", "writer"},
    {"encoding", "seal"},
    {"recode", "repair", "searcher"},
    {"reencode"},
    {"index", "shipping"},
    {"__init__", "answers", "demo", "smoke", "tally"},
    {"arguments", "bench"},
    {"cli"},
    {"__main__"},
]
# From C; each belongs to the module of its name.
BUILT = {"_scan", "_static"}
HEAVY = {
    "onnxruntime",
    "tokenizers",
    "tqdm",
    "torch",
    "transformers",
    "ai_edge_litert",
    "usearch",
    "cryptography",
}
STANDARD = sys.stdlib_module_names


def floor(module: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if module in names)


def drawn() -> list[set[str]]:
    """The floors of the picture in docs/architecture.md, bottom to top."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.partition("```text\n")[2].partition("```")[0]
    lines = (line.partition("  ")[0] for line in picture.splitlines())
    return [set(line.split(" | ")) for line in lines][::-1]


def imported(path: Path, top_level: bool) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "edgeret":
                names |= {f"edgeret.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return names


def test_the_picture_shows_the_floors():
    assert drawn() == FLOORS


def test_every_module_has_a_floor():
    assert sorted(name for names in FLOORS for name in names) == sorted(
        path.stem for path in PACKAGE.glob("*.py")
    )


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_imports_point_down(path):
    for name in imported(path, top_level=False):
        if not name.startswith("edgeret"):
            continue
        below = name.removeprefix("edgeret").removeprefix(".") or "__init__"
        if not (PACKAGE / f"{below}.py").exists():
            below = below.removeprefix("_") if below in BUILT else "__init__"
        its_own_build = below == path.stem and f"_{below}" in BUILT
        assert its_own_build or floor(below) < floor(path.stem), f"{path.stem} imports {below}"


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.stem)
def test_heavy_packages_are_not_imported_at_module_level(path):
    outside = {name.split(".")[0] for name in imported(path, top_level=True)} - STANDARD
    assert outside <= {"edgeret", "numpy"}


def test_import_pulls_in_nothing_heavy():
    script = "import edgeret, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)


def test_export_and_benchmarks_are_not_reached_from_the_device_side():
    reached = set().union(*(imported(path, top_level=False) for path in PACKAGE.glob("*.py")))
    assert not {name.split(".")[0] for name in reached} & {"export", "benchmarks", "tests"}
