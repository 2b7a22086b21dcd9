"""Every adapter of the comparison, on a few documents: what it finds, keeps and lets go."""

import ast
from importlib import import_module
from pathlib import Path

import pytest
from fake import FakeEncoder

from benchmarks import systems
from benchmarks.systems import Batch, Question, UnsupportedError

# First: onnxruntime 1.31 crashes where it is imported after usearch 2.26.
import_module("onnxruntime")

ROWS = 600
WORDS = ("river", "bread", "engine", "winter", "garden", "copper", "violin", "harbor")
FOLDER = Path(systems.__file__).parent


def batch(rows):
    texts = [f"{WORDS[row % 8]} {WORDS[row // 8 % 8]} number{row}" for row in rows]
    return Batch(rows, texts, FakeEncoder().encode(texts))


def question(row):
    """Asks for a document by all of its own words."""
    found = batch([row])
    return Question(found.texts[0], found.vectors[0])


@pytest.fixture(params=systems.STORES)
def opened(request, tmp_path):
    """A function that opens a store of this kind, filled."""
    encoder = FakeEncoder()
    package = systems.STORES[request.param].place.partition(":")[0].replace("fts5", "sqlite3")
    package = {"qdrant": "qdrant_client", "chroma": "chromadb"}.get(package, package)
    pytest.importorskip(package, reason=f"needs {package}, which the extra `bench` brings")
    store = systems.open_store(request.param, tmp_path, encoder)
    store.build(iter([batch(range(400)), batch(range(400, ROWS))]))
    store.close()
    return lambda: systems.open_store(request.param, tmp_path, encoder)


def first(store, row):
    return [hit.row for hit in store.search(question(row))]


@pytest.mark.filterwarnings("ignore")
def test_a_store_answers_with_texts_after_it_is_opened_again(opened):
    store = opened()
    hits = store.search(question(77))
    assert len(hits) <= systems.K
    assert batch([77]).texts[0] in {hit.text for hit in hits if hit.row == 77}
    store.close()


@pytest.mark.filterwarnings("ignore")
def test_changes_are_kept(opened):
    store = opened()
    try:
        store.add(batch([ROWS, ROWS + 1]))
        store.delete(ROWS)
        store.delete(5)
    except UnsupportedError:
        store.close()
        return
    store.close()
    store = opened()
    assert ROWS + 1 in first(store, ROWS + 1)
    assert ROWS not in first(store, ROWS)
    assert 5 not in first(store, 5)
    store.close()


def test_every_stack_has_a_store_and_an_encoder():
    for stack in systems.STACKS:
        assert systems.store_of(stack) in systems.STORES
        assert systems.encoder_of(stack) in {None, *systems.ENCODERS}
    assert systems.BASELINE in systems.STACKS
    assert systems.index_of("static/vicinity") != systems.index_of("base/vicinity")
    assert "numpy" in systems.packages_of("small/edgeret")
    assert {systems.parts_of(index) for index in ("chroma", "edgeret-world", "vicinity-static")} == {
        ("chroma", "base"), ("edgeret", "world"), ("vicinity", "static")
    }  # fmt: skip
    assert (
        systems.index_of("world/edgeret-hybrid") == systems.index_of("world_small/edgeret") == "edgeret-world"
    )
    assert {*systems.MULTILINGUAL} <= {*systems.STACKS}
    hybrid = [stack for stack in systems.STACKS if systems.is_hybrid(stack)]
    assert {stack for stack in systems.STACKS if systems.encodes_itself(stack)} <= {*hybrid}
    assert len(hybrid) == 8


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_adapters_are_short(path):
    longest = max(
        (
            node.end_lineno - node.lineno
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.ClassDef)
        ),
        default=0,
    )
    assert longest < 70
