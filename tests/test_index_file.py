"""The file of an index: opened, closed, locked, compacted, erased, shared by threads and processes."""

import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document, Index, blocks
from edgeret.errors import (
    BudgetError,
    ClosedError,
    ForkedError,
    IndexExistsError,
    IndexMissingError,
    InvalidDocumentError,
    InvalidQueryError,
    LockedError,
    NotAnIndexError,
    ReadOnlyError,
    SpaceMismatchError,
)
from edgeret.storage import codes

WORDS = [
    "red",
    "green",
    "blue",
    "cat",
    "dog",
    "bird",
    "runs",
    "sleeps",
    "eats",
    "fast",
    "slowly",
    "today",
    "never",
]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 5)) + f" number{i}" for i in range(count)]


def ids(hits: list[edgeret.Hit]) -> list[str]:
    return [hit.id for hit in hits]


# -- the file


def test_create_open_and_exist_ok(path, encoder):
    with pytest.raises(IndexMissingError):
        Index.open(path, model=encoder)
    Index.create(path, model=encoder, bits=64).close()
    with pytest.raises(IndexExistsError):
        Index.create(path, model=encoder, bits=64)
    with pytest.raises(IndexExistsError, match="64 bits"):
        Index.create(path, model=encoder, bits=96, exist_ok=True)
    with Index.create(path, model=encoder, exist_ok=True) as index:
        assert index.info().bits == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_create_takes_over_the_empty_file_of_an_interrupted_create(path, encoder):
    path.touch()
    with Index.create(path, model=encoder, bits=64, exist_ok=True) as index:
        index.add(["red"])
        assert len(index) == 1


def test_closing_leaves_one_file(path, encoder):
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(texts(50))
        index.search("red")
    assert list(path.parent.iterdir()) == [path]
    with Index.open(path, model=encoder, readonly=True) as index:
        assert index.search("red")
    assert list(path.parent.iterdir()) == [path]


def test_what_was_added_is_there_after_opening(path, encoder):
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(texts(200))
        answer = index.search("red cat sleeps")
    for readonly in (False, True):
        with Index.open(path, model=encoder, readonly=readonly) as index:
            assert index.search("red cat sleeps") == answer


def test_other_files_are_not_indexes(path, encoder, tmp_path):
    path.write_bytes(b"hello" * 100)
    with pytest.raises(NotAnIndexError, match="another kind of file"):
        Index.open(path, model=encoder)
    with pytest.raises(NotAnIndexError, match="is a folder"):
        Index.open(tmp_path, model=encoder)
    path.write_bytes(b"")
    with pytest.raises(NotAnIndexError):
        Index.open(path, model=encoder)


@pytest.mark.parametrize(
    "document",
    [Document("a", "cat " * 2000), Document("i" * 6000, "cat"), Document("a", "cat", {"note": "x" * 6000})],
    ids=["text", "id", "metadata"],
)
def test_a_document_larger_than_sqlite_stores_is_refused_by_name(index, document):
    index._store.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)
    with pytest.raises(InvalidDocumentError, match=r"less than 5,000 bytes.*split it"):
        index.add(["red cat", document])
    index.add(["red cat"])
    assert len(index) == 1


def test_an_index_of_another_space_is_refused_with_the_remedy(path, encoder):
    Index.create(path, model=encoder, bits=64).close()
    with pytest.raises(SpaceMismatchError, match="another geometry: open it with a model of its own space"):
        Index.open(path, model=FakeEncoder(seed=1))
    recoded = FakeEncoder()
    recoded.space = "f" * 32
    with pytest.raises(SpaceMismatchError, match=r"another codec: open it with a model.*'edgeret recode'"):
        Index.open(path, model=recoded)


def test_a_readonly_index_refuses_writes(path, encoder):
    Index.create(path, model=encoder, bits=64).close()
    with Index.open(path, model=encoder, readonly=True) as index:
        for write in (lambda: index.add(["x"]), lambda: index.delete(["x"]), index.compact):
            with pytest.raises(ReadOnlyError):
                write()


def test_after_close_everything_says_so(index):
    index.close()
    index.close()
    for use in (
        lambda: index.search("x"),
        lambda: index.add(["x"]),
        lambda: len(index),
        index.info,
        index.check,
    ):
        with pytest.raises(ClosedError):
            use()
    assert "closed" in repr(index)


def test_a_forked_child_that_opens_the_file_anew_keeps_its_log(index, path):
    """SQLite's locks are a process's: of those that came along with the fork the child has none."""
    index.add(["red cat"])
    index.search("cat")
    (added, tell_added), (closed, tell_closed) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        failed = True
        try:
            with Index.open(path, FakeEncoder()) as own:
                own.add(["blue dog"])
                os.write(tell_added, b"1")
                os.read(closed, 1)
                own.add(["green bird"])
                failed = len(own) != 3
        finally:
            os._exit(failed)
    os.close(tell_added)
    os.read(added, 1)
    assert len(index) == 2
    index.close()
    os.write(tell_closed, b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for end in (added, closed, tell_closed):
        os.close(end)
    with Index.open(path, FakeEncoder()) as left:
        assert left.check().documents == 3


def test_a_forked_child_is_refused(index):
    index.add(["red"])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            index.search("red")
            os.write(writer, b"answered")
        except ForkedError:
            os.write(writer, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"refused"
    os.close(reader)
    os.close(writer)
    assert index.search("red")


def test_a_second_writer_is_told_at_once(index, path, encoder):
    with Index.open(path, model=encoder, wait=0) as other, index._store.writing(), pytest.raises(LockedError):
        other.add(["x"])
    index.add(["y"])


def test_a_second_writer_waits_as_long_as_asked(index, path, encoder):
    with Index.open(path, model=encoder, wait=30) as patient:
        with index._store.writing():
            waiting = threading.Thread(target=patient.add, args=[["x"]])
            waiting.start()
            waiting.join(0.3)
            assert waiting.is_alive()
        waiting.join(30)
        assert len(index) == 1
    with Index.open(path, model=encoder, wait=0.2) as hasty, index._store.writing():
        begun = time.monotonic()
        with pytest.raises(LockedError):
            hasty.add(["y"])
        assert 0.15 < time.monotonic() - begun < 10
    for wait in (-1, math.nan):
        with pytest.raises(InvalidQueryError, match="0 seconds or more"):
            Index.open(path, model=encoder, wait=wait)
    with Index.create(path, model=encoder, exist_ok=True, wait=math.inf) as endless:
        endless.add(["z"])


def test_a_budget_too_small_is_refused_and_one_that_fits_is_planned(path, encoder):
    with pytest.raises(BudgetError, match="at least"):
        Index.create(path, model=encoder, bits=64, memory_budget="1MB")
    assert not path.exists()
    with Index.create(path, model=encoder, bits=64, memory_budget="40MB") as index:
        assert index.info().planned_bytes <= 40_000_000


# -- blocks, compaction, threads

BLOCK_ROWS = 1024
"""Rows of a sealed block here."""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Iterator[tuple[Path, np.ndarray]]:
    """Three sealed blocks and a tail, of vectors."""
    path = tmp_path_factory.mktemp("large") / "large.edgeret"
    vectors = np.random.default_rng(0).normal(size=(3 * BLOCK_ROWS + 100, DIM)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_ROWS", BLOCK_ROWS)
        with Index.create(path, model=FakeEncoder(), bits=64) as index:
            index.add(Document(str(i), "", {}, vector) for i, vector in enumerate(vectors))
        yield path, vectors


def test_blocks_are_sealed_and_every_row_is_found(large):
    path, vectors = large
    with Index.open(path, model=FakeEncoder(), readonly=True) as index:
        assert index.check().blocks == 3
        for row in (0, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 7, len(vectors) - 1):
            assert ids(index.search(vectors[row], k=1)) == [str(row)]


def test_a_tail_with_gaps_is_read_in_parts_as_whole(tmp_path, encoder, monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(60, DIM)).astype(np.float32)
    with Index.create(tmp_path / "a", model=encoder, bits=64) as index:
        index.add(Document(str(i), "", {}, vector) for i, vector in enumerate(vectors))
        index.delete(map(str, [0, 7, *range(20, 40), 59]))
        kept = [*range(1, 7), *range(8, 20), *range(40, 59)]
        with index._store.reading():
            rows, all_codes = index._store.codes.tail()
            assert rows.tolist() == index._store.codes.tail_rows(-1).tolist() == kept
            for octets in (8, 24, 80):
                monkeypatch.setattr(codes, "_OCTETS_AT_ONCE", octets)
                rows, some_codes = index._store.codes.tail(after=6)
                assert rows.tolist() == kept[6:]
                assert some_codes.tolist() == all_codes[6:].tolist()


def file_of(path, encoder, budget):
    with Index.open(path, model=encoder, readonly=True, memory_budget=budget) as index:
        return index.info()


def test_streamed_codes_give_the_same_answers(large, encoder):
    path, vectors = large
    with Index.open(path, model=encoder, readonly=True) as resident:
        budget = resident.info().planned_bytes - resident._plan.parts["passages"]
    # A part of the page cache gives way first, then some of the codes.
    while file_of(path, encoder, budget).codes_resident:
        budget -= 100_000
    with (
        Index.open(path, model=encoder, readonly=True) as resident,
        Index.open(path, model=encoder, readonly=True, memory_budget=budget) as streamed,
    ):
        assert resident.info().codes_resident
        assert not streamed.info().codes_resident
        for query in vectors[:5]:
            assert streamed.search(query) == resident.search(query)


def test_deleting_everywhere_then_compacting(large, encoder, tmp_path):
    path, vectors = large
    copy = tmp_path / "copy.edgeret"
    with Index.open(path, model=encoder, readonly=True) as index:
        index.backup(copy)
        with pytest.raises(IndexExistsError):
            index.backup(copy)
    with Index.open(copy, model=encoder) as index:
        index.search(vectors[0])
        # All of block 0, half of block 1, a little of block 2 and of the tail.
        gone = [
            *range(BLOCK_ROWS),
            *range(BLOCK_ROWS, 2 * BLOCK_ROWS, 2),
            2 * BLOCK_ROWS + 5,
            len(vectors) - 1,
        ]
        kept = sorted(set(range(len(vectors))) - set(gone))
        assert index.delete(map(str, gone)) == len(gone)
        index.check()
        probes = [gone[3], gone[-1], gone[-2], kept[0], kept[-1], kept[400]]
        before = [index.search(vectors[row], k=5, oversample=400) for row in probes]
        assert [ids(hits)[0] for hits in before[3:]] == [str(row) for row in probes[3:]]
        assert not {str(row) for row in probes[:3]} & {hit.id for hits in before for hit in hits}
        size = copy.stat().st_size
        index.compact()
        summary = index.check()
        assert (summary.documents, summary.blocks) == (len(kept), 1)
        assert copy.stat().st_size < size * 0.7
        assert [index.search(vectors[row], k=5, oversample=400) for row in probes] == before
        assert index._store.codes.columns(2)[:, 5].tolist() == [0]


def test_erased_content_is_in_no_page(path, encoder):
    secret = "xylophonist"
    with Index.create(path, model=encoder, bits=64) as index:
        index.add([*texts(50), Document("s", f"the {secret} lives at home", {"name": secret})])
        assert secret.encode() in path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
        index.delete(["s"], erase=True)
        assert secret.encode() not in path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
        index.check()


def test_erase_says_when_a_reader_keeps_the_old_content_alive(index, path, encoder):
    index.add([Document("s", "secret"), Document("t", "other")])
    with Index.open(path, model=encoder, readonly=True) as reader, reader._store.reading():
        with pytest.raises(LockedError, match="another connection is reading"):
            index.delete(["s"], erase=True)
        assert index.get("s") is None
    index.compact()


def test_a_reader_sees_commits_without_reopening(index, path, encoder):
    with Index.open(path, model=encoder, readonly=True) as reader:
        for number in range(3):
            index.add([Document(f"n{number}", f"red number{number}")])
            assert ids(reader.search(f"number{number}", k=1)) == [f"n{number}"]
        index.delete(["n1"])
        assert "n1" not in ids(reader.search("number1"))


ANOTHER_WRITER = """
import sys, edgeret
from fake import FakeEncoder
with edgeret.Index.open(sys.argv[1], model=FakeEncoder()) as index:
    index.add(["another"])
"""


def test_opening_again_drops_no_lock_of_this_process(path, encoder):
    """POSIX locks go when any descriptor of the file is closed; then another process would remove the log."""
    with Index.create(path, model=encoder, bits=96) as index:
        index.add(["one"])
    with Index.open(path, model=encoder, readonly=True) as reader:
        assert len(reader) == 1
        tests = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
        subprocess.run([sys.executable, "-c", ANOTHER_WRITER, str(path)], check=True, env=environment)
        assert path.with_name(path.name + "-wal").exists()
        assert len(reader) == 2


def test_threads_may_search_while_one_adds(index):
    index.add(texts(200))
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for _ in range(30):
                hits = index.search("red cat sleeps", k=5)
                assert len(hits) == 5
        except (edgeret.EdgeretError, AssertionError, sqlite3.Error) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(10):
        index.add([f"added text {number}"])
    for thread in threads:
        thread.join()
    assert failures == []
    index.check()


@pytest.mark.parametrize("suffix", ["-journal", "-wal"])
def test_a_copy_is_not_made_beside_the_log_of_another_file(index, tmp_path, suffix):
    """SQLite would take it for its own, and empty the copy."""
    left = tmp_path / f"copy.edgeret{suffix}"
    left.write_bytes(b"of another")
    with pytest.raises(
        IndexExistsError, match=f"copy.edgeret{suffix}' is the log of another file .*: remove it"
    ):
        index.backup(tmp_path / "copy.edgeret")
    assert not (tmp_path / "copy.edgeret").exists()
    left.unlink()
    index.backup(tmp_path / "copy.edgeret")
