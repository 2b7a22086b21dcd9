"""Handover: the other side has all documents, and returns the same neighbors."""

import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from crash import workload
from fake import DIM, FakeEncoder

from edgeret import Document, Index
from edgeret.codec import quantize, unpack, words
from edgeret.errors import BackendError, CorruptIndexError, IndexExistsError, IndexMissingError
from edgeret.storage.store import Store
from export import handover
from export.__main__ import main

PAGE = Path(__file__).parent.parent / "docs" / "outgrown.md"
BITS, K = 96, 10


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    monkeypatch.setattr(handover, "_BATCH", 20)


@pytest.fixture
def path(tmp_path) -> Path:
    """Blocks with dead rows, a tail, documents of one passage, of several, and with vectors of their own."""
    path = tmp_path / "test.edgeret"
    with Index.create(path, model=FakeEncoder(), bits=BITS, filters=["year"]) as index:
        index.add(workload.documents(0, 140))
        index.delete([f"d{number}" for number in (1, 2, 40, 90, 135)])
        index.add(workload.documents(4, 5, "naïve"))
        assert index.check().blocks == 2
    return path


@pytest.fixture
def queries() -> list[np.ndarray]:
    """Vectors that int8 holds, so that nobody rounds them."""
    vectors = FakeEncoder().encode(["red cat number7", "naïve red", "Sentence 3 of first number13", "cat"])
    return list(quantize(vectors))


def nearest(path: Path, query: np.ndarray) -> list[str]:
    with Index.open(path, model=FakeEncoder()) as index:
        return [hit.id for hit in index.search(query.astype(np.float32), k=K, oversample=40)]


def nearest_by_code(path: Path, query: np.ndarray) -> list[int]:
    """Hamming distances of all codes, the smallest first."""
    with closing(Store(path, readonly=True)) as store:
        stored = store.connection.execute("SELECT vector FROM passages ORDER BY row").fetchall()
    vectors = np.frombuffer(b"".join(vector for (vector,) in stored), dtype=np.int8).reshape(-1, DIM)
    codec = FakeEncoder().codec
    ours = unpack(codec.encode(np.concatenate([query[None], vectors]), BITS), BITS)
    return sorted((ours[1:] != ours[0]).sum(axis=1).tolist())[:K]


def code_of(query: np.ndarray) -> np.ndarray:
    return FakeEncoder().codec.encode(query[None], BITS).astype("<u8").view(np.uint8)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def documents(path: Path) -> list[dict[str, object]]:
    with closing(Store(path, readonly=True)) as store:
        found = store.connection.execute("SELECT id, text, metadata FROM documents ORDER BY doc").fetchall()
    return [{"id": identity, "text": text, "metadata": json.loads(kept)} for identity, text, kept in found]


def ids(rows: list[int], passages: list[dict[str, object]]) -> list[object]:
    """The first K documents of passages, each once."""
    by_row = {passage["row"]: passage["id"] for passage in passages}
    return list(dict.fromkeys(by_row[row] for row in rows))[:K]


def check_lines(path: Path, out: Path) -> list[dict[str, object]]:
    assert lines(out / "documents.jsonl") == documents(path)
    texts = {document["id"]: str(document["text"]) for document in documents(path)}
    passages = lines(out / "passages.jsonl")
    for passage in passages:
        assert texts[passage["id"]][passage["start"] : passage["stop"]].strip()
    return passages


def test_faiss_finds_the_same(path, queries, tmp_path):
    faiss = pytest.importorskip("faiss", reason="faiss is missing: pip install 'edgeret[handover]'")
    out = tmp_path / "out"
    summary = handover.handover(path, "faiss", out)
    assert summary == json.loads((out / "handover.json").read_text())
    assert (summary["documents"], summary["space"], summary["bits"]) == (135, FakeEncoder().space, BITS)
    assert summary["prompts"] is None
    passages = check_lines(path, out)
    assert len(passages) == summary["passages"]
    vectors = faiss.read_index(str(out / "vectors.faiss"))
    codes = faiss.read_index_binary(str(out / "codes.faiss"))
    for query in queries:
        _, rows = vectors.search(query[None].astype(np.float32), 3 * K)
        assert ids(rows[0].tolist(), passages) == nearest(path, query)
        distances, _ = codes.search(code_of(query), K)
        assert distances[0].tolist() == nearest_by_code(path, query)


def test_usearch_finds_the_same(path, queries, tmp_path):
    usearch = pytest.importorskip(
        "usearch.index", reason="usearch is missing: pip install 'edgeret[handover]'"
    )
    out = tmp_path / "out"
    handover.handover(path, "usearch", out)
    passages = check_lines(path, out)
    vectors, codes = (usearch.Index.restore(str(out / f"{name}.usearch")) for name in ("vectors", "codes"))
    for query in queries:
        found = vectors.search(query, 3 * K, exact=True)
        assert ids(found.keys.tolist(), passages) == nearest(path, query)
        found = codes.search(code_of(query)[0], K, exact=True)
        assert found.distances.tolist() == nearest_by_code(path, query)


def test_qdrant_finds_the_same(path, queries, tmp_path):
    qdrant = pytest.importorskip(
        "qdrant_client", reason="qdrant-client is missing: pip install 'edgeret[handover]'"
    )
    out = tmp_path / "out"
    handover.handover(path, "qdrant", out)
    passages = check_lines(path, out)
    texts = {document["id"]: document for document in documents(path)}
    with closing(qdrant.QdrantClient(path=str(out / "qdrant"))) as client:
        assert client.count(handover.COLLECTION).count == len(passages)
        for query in queries:
            points = client.query_points(handover.COLLECTION, query=query.astype(float), limit=3 * K).points
            assert ids([point.id for point in points], passages) == nearest(path, query)
            for point in points:
                document = texts[point.payload["id"]]
                span = slice(point.payload["start"], point.payload["stop"])
                assert point.payload["text"] == document["text"][span]
                assert point.payload["metadata"] == document["metadata"]


def test_parquet_holds_the_same(path, queries, tmp_path):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is missing: pip install 'edgeret[handover]'"
    )
    out = tmp_path / "out"
    handover.handover(path, "parquet", out)
    kept = parquet.read_table(out / "documents.parquet").to_pylist()
    assert [{**one, "metadata": json.loads(one["metadata"])} for one in kept] == documents(path)
    passages = parquet.read_table(out / "passages.parquet").to_pylist()
    vectors = np.array([passage["vector"] for passage in passages], dtype=np.int8)
    codes = np.frombuffer(b"".join(passage["code"] for passage in passages), dtype="<u8")
    expected = FakeEncoder().codec.encode(vectors, BITS)
    assert (codes.reshape(-1, words(BITS)) == expected).all()
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    for query in queries:
        best = np.argsort(-(unit @ query), kind="stable")[: 3 * K]
        assert ids([passages[place]["row"] for place in best], passages) == nearest(path, query)


@pytest.mark.parametrize("system", handover.SYSTEMS)
def test_an_empty_index_is_handed_over_too(tmp_path, system):
    pytest.importorskip(handover.SYSTEMS[system][0], reason=f"what {system} needs is missing")
    Index.create(tmp_path / "empty.edgeret", model=FakeEncoder(), bits=64).close()
    assert handover.handover(tmp_path / "empty.edgeret", system, tmp_path / "out")["passages"] == 0


def test_refusals_have_names_and_leave_nothing(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(handover.SYSTEMS, "lines", ("json", (handover._Lines,)))
    with pytest.raises(IndexMissingError):
        handover.handover(tmp_path / "missing", "lines", tmp_path / "out")
    with pytest.raises(IndexExistsError, match="choose another name"):
        handover.handover(path, "lines", tmp_path)
    with closing(Store(path, readonly=False)) as store:
        store.connection.execute("UPDATE passages SET vector = zeroblob(96) WHERE row = 50")
    with pytest.raises(CorruptIndexError, match="row 50"):
        handover.handover(path, "lines", tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]
    monkeypatch.setattr(handover, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"expected faiss, .*pip install 'edgeret\[handover\]'"):
        handover.handover(path, "faiss", tmp_path / "out")
    assert main(["handover", str(path), "--to", "faiss", "--out", str(tmp_path / "out")]) == 1
    assert "export: expected faiss" in capsys.readouterr().err


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """An index of real vectors, in the folder where the page's snippets run."""
    path = tmp_path_factory.mktemp("house") / "house.edgeret"
    with Index.create(path, model="base") as index:
        index.add(
            [
                Document("wifi", "Hold the button for five seconds to reset the Wi-Fi."),
                Document("lamp", "The lamp turns red when its battery is low."),
                Document("oven", "Preheat the oven to 200 degrees before baking."),
            ]
        )
    return path


@pytest.mark.parametrize("system", handover.SYSTEMS)
def test_the_page_shows_how_to_ask_the_other_side(house, system, monkeypatch, capsys):
    package, _ = handover.SYSTEMS[system]
    pytest.importorskip(package, reason=f"{package} is missing: pip install 'edgeret[handover]'")
    monkeypatch.chdir(house.parent)
    assert main(["handover", "house.edgeret", "--to", system, "--out", system]) == 0
    capsys.readouterr()
    snippets = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (source,) = [snippet for snippet in snippets if f'"{system}/' in snippet]
    exec(compile(source, system, "exec"), {})
    assert capsys.readouterr().out == "wifi\n"


def test_the_command_hands_over(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(handover.SYSTEMS, "parquet", ("json", (handover._Lines,)))
    assert main(["handover", str(path), "--to", "parquet", "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["passages"] == len(check_lines(path, tmp_path / "out"))
