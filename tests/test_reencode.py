"""Reencode: other vectors from the stored texts; the index is in use meanwhile and changes in one transaction."""

import gzip
import json
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from counts import long, tries
from crash import shim, workload
from damage import alter
from fake import DIM, NARROW_DIM, FakeEncoder, NarrowEncoder
from formats.make import Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeret import Document, Encoder, Index
from edgeret.errors import (
    BudgetError,
    CorruptIndexError,
    IndexMissingError,
    InvalidDocumentError,
    InvalidQueryError,
    LockedError,
    ReadOnlyError,
    SpaceMismatchError,
    StorageError,
)
from edgeret.fleet.contents import Contents
from edgeret.shell.cli import main
from edgeret.storage import drafts
from edgeret.storage.checksum import checksum
from edgeret.storage.store import Store
from edgeret.upkeep import reencode

FORMATS = Path(__file__).parent / "formats"
KILLS = tries(20, 300)
QUERIES = [{"query": "red cat number3", "mode": mode} for mode in ("lexical", "dense", "hybrid")] + [
    {"query": "red cat number3", "where": {"year": 3}}
]
FINER = FakeEncoder(passage_tokens=12)
"""Of the space of the encoder that the fixtures give, with other passages."""


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    monkeypatch.setattr(reencode, "_BATCH", 16)
    monkeypatch.setattr(drafts, "_COMMIT_S", 0.0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


@pytest.fixture
def narrow() -> NarrowEncoder:
    return NarrowEncoder()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `large` copies."""
    path = tmp_path_factory.mktemp("made") / "large.edgeret"
    with (
        pytest.MonkeyPatch.context() as monkeypatch,
        Index.create(path, model=FakeEncoder(), bits=96, filters=["year"]) as index,
    ):
        shrink(monkeypatch)
        index.add(workload.documents(0, 140))
        index.delete([f"d{number}" for number in (1, 2, 40, 90, 135)])
        assert index.check().blocks == 2
    return path


@pytest.fixture
def large(path: Path, made: Path) -> Path:
    """Two sealed blocks with deleted rows in them, and a tail with a hole; every third vector is a document's own."""
    return Path(shutil.copy(made, path))


@pytest.fixture(scope="module")
def reencoded(tmp_path_factory: pytest.TempPathFactory, made: Path) -> str:
    """The name of what `large` becomes with the narrow encoder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        target = tmp_path_factory.mktemp("anew") / "anew"
        return name(anew(made, target, NarrowEncoder(), bits=64, keep_vectors=False))


@pytest.fixture(scope="module")
def drafted(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Path:
    """All drafts of `large` for the narrow encoder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        path = shutil.copy(made, tmp_path_factory.mktemp("drafted") / "large.edgeret")
        return interrupted(Path(path), NarrowEncoder(), 135)


def anew(source: Path, target: Path, encoder: FakeEncoder, bits: int, keep_vectors: bool) -> Path:
    """The documents of an index in their order, added to a new one."""
    documents = []
    with closing(Store(source, readonly=True)) as store:
        for doc, own in store.connection.execute("SELECT doc, own_vector FROM documents ORDER BY doc"):
            found = store.rows.document(doc)
            vector = None
            if own and keep_vectors:
                vector = np.frombuffer(store.rows.passages_of(doc)[0].vector, np.int8).astype(float)
            documents.append(Document(found.id, found.text, found.metadata, vector))
    with Index.create(target, encoder, bits, ["year"]) as index:
        index.add(documents)
    return target


def name(path: Path) -> str:
    """The name of all that an index holds, codes included."""
    with closing(Store(path, readonly=True)) as store, store.reading():
        return Contents.of(store).fingerprint


def answers(path: Path, encoder: FakeEncoder) -> list[object]:
    """Hits in all modes; the index is checked, and so every code computed anew."""
    with Index.open(path, encoder) as index:
        index.check()
        return [index.search(**query, k=200) for query in QUERIES]


def draft(path: Path, drafted: Path) -> Path:
    """Leave all drafts beside an index that is one of `large`; where they are kept."""
    return Path(shutil.copy(drafted, path.with_name(f"{path.name}-reencode")))


def alone(path: Path) -> bool:
    return [file.name for file in path.parent.iterdir() if file.name.startswith(path.name)] == [path.name]


def texts(encoder: FakeEncoder) -> int:
    """How many texts were encoded, the one that tells encoders apart not counted."""
    return sum(text != reencode._PROBE for text in encoder.encoded)


# -- what changes and what does not


def test_an_index_of_another_geometry_is_one_made_with_it(large, tmp_path, encoder, narrow):
    made = anew(large, tmp_path / "anew", narrow, bits=64, keep_vectors=False)
    with Index.open(large, encoder) as index:
        before, next_row = index.info(), index._store.counters().next_row
    with pytest.raises(SpaceMismatchError, match=r"another geometry.*'edgeret reencode'"):
        Index.open(large, narrow)
    summary = Index.reencode(large, narrow, bits=64)
    assert alone(large)
    assert answers(large, narrow) == answers(made, narrow)
    assert name(large) == name(made)
    with Index.open(large, narrow) as index:
        info = index.info()
        assert (info.space, info.geometry, info.dim, info.bits) == (
            narrow.space,
            narrow.geometry,
            NARROW_DIM,
            64,
        )
        assert (info.generation, info.filters) == (before.generation + 1, ["year"])
        assert (summary.documents, summary.passages) == (info.documents, info.passages)
        assert (summary.model, summary.encoded) == (narrow.name, 135)
        assert summary.own_vectors_lost == [f"d{n}" for n in range(0, 140, 3) if n not in (90, 135)]
        assert index._store.connection.execute("SELECT min(row) >= ? FROM passages", (next_row,)).fetchone()[
            0
        ]
        index.add(["a new red cat", *workload.documents(4, 2, "second")])
        index.delete(["d5"], erase=True)
        index.compact()
        index.check()
    with pytest.raises(SpaceMismatchError, match="another geometry"):
        Index.open(large, encoder)


@pytest.mark.parametrize("bits", [None, 64])
def test_in_the_same_space_vectors_that_documents_brought_stay(large, tmp_path, encoder, bits):
    made = anew(large, tmp_path / "anew", FINER, bits=bits or 96, keep_vectors=True)
    FINER.encoded.clear()
    summary = Index.reencode(large, FINER, bits)
    assert (summary.encoded, summary.own_vectors_lost) == (90, [])
    assert texts(FINER) == summary.passages - (135 - 90)
    assert answers(large, encoder) == answers(made, encoder)
    assert name(large) == name(made)
    with Index.open(large, encoder) as index:
        assert index.info().model == FINER.name


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 60), st.integers(1, 70)),
            st.tuples(st.sampled_from(["delete", "update"]), st.integers(0, 60), st.integers(1, 70)),
            st.tuples(st.sampled_from(["compact", "finer", "encoder"]), st.just(0), st.just(0)),
        ),
        max_size=6,
    )
)
def test_whatever_was_done_to_an_index_it_becomes_one_made_anew(tmp_path_factory, steps):
    folder, encoder, narrow = tmp_path_factory.mktemp("steps"), FakeEncoder(), NarrowEncoder()
    path = folder / "test.edgeret"
    Index.create(path, encoder, bits=64, filters=["year"]).close()
    for step, first, count in steps:
        if step in ("finer", "encoder"):
            Index.reencode(path, FINER if step == "finer" else encoder)
            continue
        with Index.open(path, encoder) as index:
            if step == "add":
                index.add(workload.documents(first, count))
            elif step == "delete":
                index.delete(f"d{number}" for number in range(first, first + count))
            elif step == "update":
                index.update_many((f"d{number}", {"year": count}) for number in range(first, first + count))
            else:
                index.compact()
    Index.reencode(path, narrow)
    made = anew(path, folder / "anew", narrow, bits=64, keep_vectors=False)
    assert answers(path, narrow) == answers(made, narrow)
    assert name(path) == name(made)


def test_a_document_whose_first_passages_were_moved_behind_its_others_is_encoded_whole(path, narrow):
    """`compact` empties the block that a document begins in, and not the one that it ends in."""
    encoder, text = FakeEncoder(passage_tokens=8), " ".join(f"word{number}." for number in range(60))
    with Index.create(path, encoder) as index:
        index.add(Document(f"f{number}", "filler") for number in range(60))
        index.add([Document("long", text)], chunk=lambda document: [(0, len(document.text), "handbook")])
        vectors = index.vectors("long")
        index.delete(f"f{number}" for number in range(60))
        index.compact()
        assert index.check().blocks == 0
        np.testing.assert_array_equal(index.vectors("long"), vectors)
    Index.reencode(path, narrow, bits=64)
    with Index.open(path, narrow) as index:
        for number in range(60):
            (hit,) = index.search(f"word{number}", mode="lexical")
            assert hit.passage == f"handbook\n{hit.text}"


def test_an_index_of_an_old_format_with_blocks_of_full_size(tmp_path, monkeypatch, encoder):
    monkeypatch.undo()
    path = tmp_path / "index.edgeret"
    path.write_bytes(gzip.decompress((FORMATS / "index-1" / "index.edgeret.gz").read_bytes()))
    reader = Reader(FORMATS / "bundle-1")
    with Index.open(path, model=reader) as index:
        documents = index.check().documents
        lost = [
            identity
            for identity, text in index._store.connection.execute("SELECT id, text FROM documents")
            if not text.strip()
        ]
        index.delete(lost)
    assert Index.reencode(path, encoder, bits=96).documents == documents - len(lost)
    with Index.open(path, model=encoder) as index:
        assert index.check().passages == index.info().passages


def test_damaged_vectors_are_made_anew(large, narrow):
    alter(large, "UPDATE passages SET vector = zeroblob(96)", "UPDATE tail SET code = x'00'")
    Index.reencode(large, narrow, bits=64)
    answers(large, narrow)


def test_a_sealed_index_is_reencoded_and_sealed_again(large, tmp_path, encoder, narrow):
    sealed, again = tmp_path / "sealed", tmp_path / "again"
    with Index.open(large, encoder) as index:
        index.seal(sealed)
    Index.reencode(sealed, narrow, bits=64)
    with Index.open(sealed, narrow) as index:
        index.seal(again)
    assert name(again) == name(sealed)
    # Their rows, by which ties are ordered, are not the same.
    found = [[sorted(hits, key=repr) for hits in answers(path, narrow)] for path in (again, sealed)]
    assert found[0] == found[1]


# -- company


def test_meanwhile_the_index_answers_and_takes_changes(large, tmp_path, encoder, narrow):
    done = 0
    with (
        Index.open(large, encoder) as writer,
        Index.open(large, encoder, readonly=True) as reader,
        Index.open(large, encoder, readonly=True) as cold,
    ):
        expected = reader.search("red cat", k=50)
        totals = []

        def look(now: int, total: int) -> None:
            nonlocal done
            done += 1
            totals.append((now, total))
            assert reader.search("red cat", k=50) == expected
            if done == 30:
                writer.add([*workload.documents(3, 2, "blue dog"), *workload.documents(200, 5, "blue dog")])
                writer.delete(["d50", "d6", "d130"])
                # Of documents that have drafts, and of others.
                writer.update_many({f"d{number}": {"seen": number} for number in range(60, 130)})
                expected[:] = reader.search("red cat", k=50)

        summary = Index.reencode(large, narrow, bits=64, progress=look)
        for call in (lambda: reader.search("red cat"), lambda: len(cold), lambda: writer.add(["x"])):
            with pytest.raises(SpaceMismatchError, match=r"96 bits.*by now has 64 bits.*open it again"):
                call()
    assert alone(large)
    assert [now for now, _ in totals] == list(range(1, len(totals) + 1))
    assert totals[-1][0] == totals[-1][1]
    assert summary.documents == 137
    made = anew(large, tmp_path / "anew", narrow, bits=64, keep_vectors=False)
    assert answers(large, narrow) == answers(made, narrow)


def test_what_comes_at_the_last_moment_is_encoded_too(large, encoder, narrow, monkeypatch):
    def commit(self: drafts.Drafts) -> None:
        with Index.open(large, encoder) as writer:
            writer.add(["late", *workload.documents(100, 3, "late")])
            writer.update_many((id, {"late": True}) for id in writer.ids(limit=9))

    monkeypatch.setattr(drafts, "_COMMIT_S", 1000.0)
    monkeypatch.setattr(drafts.Drafts, "commit", commit)
    assert Index.reencode(large, narrow, bits=64).documents == 136
    with Index.open(large, narrow) as index:
        index.check()
        assert index.search("late", k=4, mode="lexical")
        assert index.get("d101").text.startswith("late")
        assert list(index.ids({"late": True})) == list(index.ids(limit=9))


def test_readers_of_the_same_space_go_on(large, encoder):
    with (
        Index.open(large, encoder, readonly=True) as reader,
        Index.open(large, encoder) as writer,
        Index.open(large, encoder, readonly=True, memory_budget="15MB") as cold,
    ):
        reader.search("red cat", k=10)
        Index.reencode(large, FINER)
        for index in (reader, writer, cold):
            assert [index.search(**query, k=200) for query in QUERIES] == answers(large, encoder)
        writer.add(["a new cat"])
        assert reader.search("a new cat", k=1)[0].text == "a new cat"
        Index.reencode(large, FakeEncoder())
        assert [reader.search(**query, k=200) for query in QUERIES] == answers(large, encoder)


def test_while_another_writes_the_switch_is_refused_and_the_drafts_stay(large, encoder, narrow):
    with Index.open(large, encoder) as index, index._store.writing(), pytest.raises(LockedError):
        Index.reencode(large, narrow, bits=64, wait=0)
    assert Index.reencode(large, narrow, bits=64).encoded == 0
    answers(large, narrow)


def test_only_one_at_a_time(large, narrow):
    def again(done: int, _: int) -> None:
        if done == 5:
            with pytest.raises(LockedError, match="-reencode"):
                Index.reencode(large, NarrowEncoder(), bits=64, wait=0)

    assert Index.reencode(large, narrow, bits=64, progress=again).encoded == 135


# -- interruptions


def stop_at(number: int):
    def stop(done: int, _: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    return stop


def interrupted(path: Path, encoder: FakeEncoder, number: int, bits: int = 64) -> Path:
    """Encode `number` documents and end; where they are kept."""
    with pytest.raises(KeyboardInterrupt):
        Index.reencode(path, encoder, bits, progress=stop_at(number))
    return path.with_name(f"{path.name}-reencode")


def test_an_interrupted_call_goes_on_where_it_was(large, encoder, narrow):
    before = answers(large, encoder)
    kept = interrupted(large, narrow, 100)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert answers(large, encoder) == before
    done = texts(narrow)
    narrow.encoded.clear()
    summary = Index.reencode(large, narrow, bits=64)
    assert summary.encoded == 35
    # A few documents are encoded again, to see whether the others can be believed; each has a passage or more.
    most = summary.passages - (summary.documents - reencode._COMPARED)
    assert summary.passages - done <= texts(narrow) <= summary.passages - done + most
    assert alone(large)
    answers(large, narrow)


def test_documents_that_changed_since_are_encoded_again(large, drafted, encoder, narrow):
    draft(large, drafted)
    with Index.open(large, encoder) as index:
        index.add(workload.documents(10, 3, "second"))
        index.delete(["d4"])
        index.compact()
    assert Index.reencode(large, narrow, bits=64).encoded == 3
    answers(large, narrow)


def test_another_target_begins_anew(large, encoder, narrow):
    interrupted(large, narrow, 100)
    interrupted(large, FINER, 60, bits=96)
    assert Index.reencode(large, encoder).encoded == 90
    assert alone(large)
    answers(large, encoder)


def test_an_older_copy_of_the_index_gets_no_draft_of_another_document(large, tmp_path, encoder, narrow):
    older = large.read_bytes()
    with Index.open(large, encoder) as index:
        index.delete([f"d{number}" for number in range(100, 140)])
        index.add(workload.documents(100, 40, "second"))
    interrupted(large, narrow, 135)
    large.write_bytes(older)
    made = anew(large, tmp_path / "anew", narrow, bits=64, keep_vectors=False)
    assert Index.reencode(large, narrow, bits=64).encoded == 39
    assert name(large) == name(made)


@pytest.mark.parametrize("statement", ["zeroblob(64)", "'text'", "x''", "CAST(spans || x'00' AS BLOB)"])
def test_a_damaged_draft_is_made_again(large, drafted, reencoded, narrow, statement):
    kept = draft(large, drafted)
    column = "spans" if "spans" in statement else "vectors"
    connection = sqlite3.connect(kept)
    connection.execute(f"UPDATE OR IGNORE drafts SET {column} = {statement} WHERE doc < 20")
    connection.commit()
    connection.close()
    Index.reencode(large, narrow, bits=64)
    assert name(large) == reencoded


def test_drafts_that_cannot_be_read_are_told_from_a_damaged_index(large, drafted, encoder, narrow):
    before = answers(large, encoder)
    kept = draft(large, drafted)
    kept.write_bytes(kept.read_bytes()[:4096] + b"\xff" * 8192 + kept.read_bytes()[12288:])
    with pytest.raises(StorageError, match=r"-reencode' is not what.*malformed.*move it away"):
        Index.reencode(large, narrow, bits=64)
    assert answers(large, encoder) == before


def test_a_file_of_somebody_else_in_that_place_is_left_alone(large, encoder, narrow):
    taken = large.with_name(f"{large.name}-reencode")
    other = sqlite3.connect(large.with_name("other"))
    other.execute("CREATE TABLE notes (note)")
    other.close()
    before = answers(large, encoder)
    for content in (b"my notes, which are no database" * 40, large.with_name("other").read_bytes()):
        taken.write_bytes(content)
        with pytest.raises(StorageError, match=r"-reencode' is not what.*move it away"):
            Index.reencode(large, narrow, bits=64)
        assert taken.read_bytes() == content
    assert answers(large, encoder) == before
    taken.write_bytes(b"")
    Index.reencode(large, narrow, bits=64)
    assert not taken.exists()


def test_kill_9_leaves_the_old_index_or_the_new_one_and_what_was_encoded(tmp_path, trust):
    (counts,) = shim.child("crash.reencoding", tmp_path, KILLS)
    trust(**json.loads(counts))


# -- refusals


def test_a_document_without_a_text_is_refused_by_name(large, encoder, narrow):
    with Index.open(large, encoder) as index:
        index.add([Document("picture", " \n", {}, np.ones(DIM))])
    before = large.read_bytes()
    with pytest.raises(
        InvalidDocumentError, match=r"'picture' is a vector of the old geometry alone.*delete it"
    ):
        Index.reencode(large, narrow, bits=64)
    assert narrow.encoded == []
    assert large.read_bytes() == before
    assert Index.reencode(large, FINER).documents == 136
    with Index.open(large, encoder) as index:
        index.delete(["picture"])
    assert Index.reencode(large, narrow, bits=64).documents == 135


def test_a_document_without_a_text_that_comes_meanwhile_changes_nothing(large, encoder, narrow):
    before = answers(large, encoder)

    def look(done: int, _: int) -> None:
        if done == 100:
            with Index.open(large, encoder) as index:
                index.add([Document("picture", "", {}, np.ones(DIM))])

    with pytest.raises(InvalidDocumentError, match="'picture'"):
        Index.reencode(large, narrow, bits=64, progress=look)
    with Index.open(large, encoder) as index:
        index.delete(["picture"])
    assert answers(large, encoder) == before
    assert Index.reencode(large, narrow, bits=64).encoded == 0


def test_what_cannot_be_reencoded_is_refused_with_the_remedy(large, encoder, narrow, monkeypatch):
    before = large.read_bytes()
    with pytest.raises(InvalidQueryError, match="one of 64, got 96: choose"):
        Index.reencode(large, narrow)
    with pytest.raises(InvalidQueryError, match="0 seconds or more, got nan"):
        Index.reencode(large, narrow, bits=64, wait=float("nan"))
    with pytest.raises(BudgetError, match=r"at least \d+MB, got 3MB; the largest part is the"):
        Index.reencode(large, narrow, bits=64, memory_budget="3MB")
    with pytest.raises(IndexMissingError):
        Index.reencode(large.with_name("missing"), narrow)
    wide = FakeEncoder()
    wide.dim = 64
    with pytest.raises(CorruptIndexError, match="vectors of dim 96 in a geometry of dim 64"):
        Index.reencode(large, wide)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ReadOnlyError):
        Index.reencode(large, narrow, bits=64)
    assert alone(large)
    assert large.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE documents SET text = 'else' WHERE id = 'd7'", "document 'd7' is not what was written"),
        ("DELETE FROM documents WHERE id = 'd7'", "expected 135 documents with .* passages, found 134"),
        ("UPDATE documents SET digest = 7 WHERE id = 'd7'", "document 'd7' is not what was written"),
        ("INSERT INTO passages VALUES (900, 800, 0, 1, x'00', 0)", "found 135 with"),
        ("UPDATE documents SET own_vector = 'x' WHERE id = 'd7'", "document 'd7' is not what was written"),
    ],
)
def test_a_damaged_index_is_refused_and_stays_as_it_is(large, narrow, statement, complaint):
    alter(large, statement)
    before = large.read_bytes()
    with pytest.raises(CorruptIndexError, match=complaint):
        Index.reencode(large, narrow, bits=64)
    assert large.read_bytes() == before


# -- the shell


def test_the_command_reencodes(large, monkeypatch, capsys, narrow):
    asked = []
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda name: asked.append(name) or narrow))
    command = ["reencode", str(large), "--model", "mine", "--bits", "64"]
    assert main([*command, "--memory-budget", "2MB"]) == 1
    assert "expected a memory budget of at least" in capsys.readouterr().err
    assert main([*command, "--memory-budget", "20MB", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["encoded"], summary["bits"], summary["space"]) == (135, 64, narrow.space)
    assert len(summary["own_vectors_lost"]) == 45
    assert main(["reencode", str(large), "--model", "mine"]) == 0
    assert "own_vectors_lost: \n" in capsys.readouterr().out
    assert asked == ["mine", "mine", "mine"]
    with pytest.raises(SystemExit):
        main(["reencode", str(large)])


# -- drafts that somebody made


def forge(kept: Path, change) -> None:
    """Give drafts other content with checksums that are right."""
    with closing(sqlite3.connect(kept, isolation_level=None)) as connection:
        for doc, *row in connection.execute(
            "SELECT doc, digest, spans, vectors, codes FROM drafts"
        ).fetchall():
            forged = change(*row)
            crc = checksum(doc, content=b"".join(forged))
            connection.execute("INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, ?, ?)", (doc, *forged, crc))


def spans_of(*numbers: int) -> bytes:
    return np.array(numbers, "<i8").tobytes()


VECTOR = np.full((1, NARROW_DIM), 127, np.int8)
CODE = NarrowEncoder().codec.encode(VECTOR, 64).astype("<u8").tobytes()
FORGERIES = {
    "no passages": lambda digest, *_: (digest, b"", b"", b""),
    "half a span": lambda digest, spans, *rest: (digest, spans[:-1], *rest),
    "past the text": lambda digest, *_: (digest, spans_of(0, 10**9), VECTOR.tobytes(), CODE),
    "before the text": lambda digest, *_: (digest, spans_of(-3, 2), VECTOR.tobytes(), CODE),
    "backwards": lambda digest, *_: (digest, spans_of(3, 2), VECTOR.tobytes(), CODE),
    "over one another": lambda digest, *_: (digest, spans_of(0, 3, 2, 4), VECTOR.tobytes() * 2, CODE * 2),
    "many passages": lambda digest, *_: (digest, spans_of(*[0] * 2000), VECTOR.tobytes() * 1000, CODE * 1000),
    "another dim": lambda digest, spans, vectors, codes: (digest, spans, vectors[:-1], codes),
    "longer codes": lambda digest, spans, vectors, codes: (digest, spans, vectors, codes * 2),
    "zeros": lambda digest, spans, vectors, codes: (digest, spans, bytes(len(vectors)), codes),
    "-128": lambda digest, spans, vectors, codes: (digest, spans, b"\x80" * len(vectors), codes),
    "other codes": lambda digest, spans, vectors, codes: (digest, spans, vectors, bytes(len(codes))),
    "no encoder's": lambda digest, *_: (digest, spans_of(0, 4), VECTOR.tobytes(), CODE),
}


@pytest.mark.parametrize("name", FORGERIES)
@pytest.mark.parametrize("compared", [pytest.param(0, marks=long), 32])
def test_forged_drafts_put_nothing_into_the_index(
    large, drafted, reencoded, narrow, monkeypatch, name, compared
):
    """Also where none is made again to compare: but for what an encoder could have made."""
    if name == "no encoder's" and not compared:
        return
    monkeypatch.setattr(reencode, "_COMPARED", compared)
    forge(draft(large, drafted), FORGERIES[name])
    assert Index.reencode(large, narrow, bits=64).encoded == 135
    answers(large, narrow)
    assert globals()["name"](large) == reencoded


def test_drafts_with_another_schema_are_refused_by_name(large, narrow):
    for sql in (
        "CREATE TRIGGER t AFTER DELETE ON drafts BEGIN DELETE FROM encoder; END",
        "CREATE INDEX i ON drafts (digest)",
        "ALTER TABLE drafts ADD COLUMN more",
        "DROP TABLE drafts; CREATE VIEW drafts AS SELECT 1 AS doc",
    ):
        kept = interrupted(large, narrow, 5)
        with closing(sqlite3.connect(kept)) as connection:
            connection.executescript(sql)
        with pytest.raises(StorageError, match=r"-reencode.*move it away"):
            Index.reencode(large, narrow, bits=64)
        kept.unlink()
