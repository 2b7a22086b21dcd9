import math
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index
from edgeret.errors import (
    BudgetError,
    ClosedError,
    CorruptIndexError,
    FilterError,
    ForkedError,
    IndexExistsError,
    IndexMissingError,
    InvalidDocumentError,
    InvalidQueryError,
    InvalidVectorError,
    LockedError,
    NotAnIndexError,
    ReadOnlyError,
    SpaceMismatchError,
)
from edgeret.store import BLOCK_ROWS

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


# -- the path from text to answers


def test_the_nearest_document_is_found_with_its_score_and_text(index, encoder):
    index.add([Document(f"d{i}", text, {"year": i}) for i, text in enumerate(texts(300))])
    hit = index.search(texts(300)[42], k=3)[0]
    assert (hit.id, hit.text, hit.metadata) == ("d42", texts(300)[42], {"year": 42})
    assert hit.score == pytest.approx(1, abs=1e-3)


def test_results_are_those_of_exact_search_when_everything_is_rescored(index, encoder):
    corpus = texts(400)
    index.add([Document(f"{i:03}", text) for i, text in enumerate(corpus)])
    vectors = encoder.encode(corpus)
    for query in ("red cat sleeps", "blue bird eats slowly", "number7"):
        exact = vectors @ encoder.encode([query])[0]
        found = index.search(query, k=5, oversample=40)
        assert [hit.score for hit in found] == pytest.approx(np.sort(exact)[::-1][:5].tolist(), abs=2e-3)


def test_many_queries_answer_as_one_by_one(index):
    index.add(texts(500))
    queries = ["red cat", "dog runs fast", "bird today never"]
    assert index.search_many(queries, k=7) == [index.search(query, k=7) for query in queries]
    assert index.search_many([]) == []


def test_explain_returns_the_same_hits_and_counts(index):
    index.add([Document(f"d{i}", text, {"year": i % 2}) for i, text in enumerate(texts(100))])
    explained = index.explain("red cat", k=5, where={"year": 1}, oversample=4)
    assert explained.hits == index.search("red cat", k=5, where={"year": 1})
    assert (explained.documents, explained.passages, explained.eligible) == (100, 100, 50)
    assert explained.candidates == 40
    assert min(explained.encode_ms, explained.filter_ms, explained.search_ms, explained.fetch_ms) >= 0


def test_ties_are_ordered_by_row_and_the_same_text_under_two_ids_keeps_both(index):
    index.add([Document(identity, "red cat") for identity in ("b", "a", "c")])
    for mode in ("dense", "lexical", "hybrid"):
        assert ids(index.search("red cat", mode=mode)) == ["b", "a", "c"]


def test_k_beyond_the_index_and_an_empty_index(index):
    for mode in ("dense", "lexical", "hybrid"):
        assert index.search("red", mode=mode) == []
    index.add(texts(3))
    assert len(index.search("red", k=50)) == 3


def test_a_query_of_no_words_finds_nothing_by_words(index):
    index.add(["red cat"])
    assert index.search("?!", mode="lexical") == []


@pytest.mark.parametrize(
    "query", ['" OR 1', "red AND (", "text:red", "-red *", "NEAR(red cat)", "'; DROP TABLE meta"]
)
def test_lexical_queries_are_words_and_never_syntax(index, query):
    index.add(["red cat", "NEAR text drop table or and meta"])
    assert index.search(query, mode="lexical")


# -- passages


def test_a_hit_is_the_best_passage_with_its_offsets(index):
    sentences = [f"Sentence {i} speaks of topic{i} and nothing else." for i in range(40)]
    text = " ".join(sentences)
    index.add([Document("long", text), Document("other", "red cat")])
    for mode in ("dense", "lexical", "hybrid"):
        hit = index.search("topic17", k=1, mode=mode)[0]
        assert hit.id == "long"
        assert "topic17" in hit.text
        assert hit.text == text[hit.start : hit.end] != text
    assert index.info().passages > 5


def test_search_widens_when_passages_of_one_document_take_all_places(index):
    index.add([Document("greedy", " ".join(f"red cat sleeps {i}." for i in range(2000)))])
    index.add(texts(30))
    assert len(index.search("red cat sleeps", k=20)) == 20
    assert len(index.search("red cat sleeps", k=20, mode="lexical")) == 20


def test_a_text_without_any_token_is_still_found(index):
    index.add([Document("zero-width", "\u200b\u200b")])
    assert ids(index.search("anything")) == ["zero-width"]


# -- adding, replacing, deleting


def test_ids_come_back_in_order_and_strings_are_named_by_their_text(index):
    assert index.add([Document("a", "x"), "hello", Document("b", "y")]) == [
        "a",
        "46fb7408d4f285228f4af516ea25851b",
        "b",
    ]


def test_the_last_of_the_same_id_wins(index):
    index.add([Document("a", "red"), Document("a", "green"), Document("b", "blue")])
    index.add([Document("b", "cat")])
    assert (index.get("a").text, index.get("b").text, len(index)) == ("green", "cat", 2)
    assert index.search("red", mode="lexical") == []
    index.check()


def test_going_back_to_the_stored_version_within_one_call_wins_too(index):
    index.add([Document("a", "red")])
    index.add([Document("a", "green"), Document("a", "red")])
    assert index.get("a").text == "red"
    index.check()


def test_an_unchanged_document_costs_no_encoding(index, encoder):
    documents = [Document(f"d{i}", text, {"n": i}) for i, text in enumerate(texts(20))]
    index.add(documents)
    encoder.encoded.clear()
    generation = index.info().generation
    index.add(documents)
    assert encoder.encoded == []
    assert index.info().generation <= generation + 1
    index.add([Document("d3", documents[3].text, {"n": "changed"})])
    assert encoder.encoded == [documents[3].text]
    assert index.get("d3").metadata == {"n": "changed"}


def test_delete_then_add_again(index):
    index.add([Document("a", "red cat"), Document("b", "blue bird")])
    assert index.delete(["a", "unknown"]) == 1
    assert index.get("a") is None
    assert ids(index.search("red cat")) == ["b"]
    index.add([Document("a", "green dog")])
    assert ids(index.search("green dog", k=1)) == ["a"]
    index.check()


def test_an_atomic_call_leaves_the_index_as_it_was(index):
    index.add([Document("a", "red")])
    before = index.info()
    for bad in (Document("c", ""), Document("c", "x", {"n": math.nan}), Document("c", "x", {}, [1.0])):
        with pytest.raises((InvalidDocumentError, InvalidVectorError)):
            index.add([Document("a", "changed"), Document("b", "new"), bad])
    assert index.info() == before
    assert index.get("a").text == "red"
    index.add([Document("d", "later")])
    assert index.get("b") is None


def test_commit_every_keeps_what_was_committed(index):
    def stream():
        yield from (Document(f"d{i}", f"text {i}") for i in range(25))
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        index.add(stream(), commit_every=10)
    assert len(index) == 20
    index.check()


@pytest.mark.parametrize("count", [0, -1])
def test_commit_every_is_at_least_one(index, count):
    with pytest.raises(InvalidQueryError, match="commit_every"):
        index.add(["x"], commit_every=count)


def test_one_document_instead_of_a_list_is_refused(index):
    with pytest.raises(InvalidQueryError, match="put it in a list"):
        index.add("text")
    with pytest.raises(InvalidQueryError, match="pass \\['a'\\]"):
        index.delete("a")


# -- vectors of one's own


def test_a_vector_may_come_with_the_document_and_be_the_query(index, encoder):
    vectors = np.random.default_rng(5).normal(size=(50, DIM))
    index.add([Document(f"v{i}", "", {}, vector) for i, vector in enumerate(vectors)])
    assert encoder.encoded == []
    hit = index.search(vectors[7] * 100, k=1)[0]
    assert (hit.id, round(hit.score, 2)) == ("v7", 1.0)
    index.check()


def test_another_vector_for_the_same_text_replaces(index):
    one, other = np.eye(DIM)[0], np.eye(DIM)[1]
    index.add([Document("a", "x", {}, one)])
    index.add([Document("a", "x", {}, other)])
    assert index.search(other, k=1)[0].score == pytest.approx(1, abs=1e-3)
    index.add([Document("a", "x")])
    assert index.search(other, k=1)[0].score < 0.9


@pytest.mark.parametrize(
    "bad", [np.full(DIM, np.nan), np.full(DIM, np.inf), np.zeros(DIM), np.ones(DIM + 1), np.ones((2, DIM))]
)
def test_bad_vectors_are_refused(index, bad):
    with pytest.raises(InvalidVectorError):
        index.add([Document("a", "x", {}, bad)])
    with pytest.raises(InvalidVectorError):
        index.search(bad)


# -- filters


def test_where_filters_before_the_scan(index):
    index.add(
        [Document(f"d{i}", text, {"year": i % 10, "tag": [f"t{i % 3}"]}) for i, text in enumerate(texts(500))]
    )
    for where in ({"year": 3}, {"year": {"$gte": 8}}, {"tag": {"$contains": "t1"}}, {"year": {"$in": [1]}}):
        for mode in ("dense", "lexical", "hybrid"):
            hits = index.search("red cat", k=40, where=where, mode=mode)
            assert len(hits) == 40 if mode == "dense" else len(hits) > 5
            single = Index.search(index, "red cat", k=500, where=where)
            assert set(ids(hits)) <= set(ids(single))
    assert {hit.metadata["year"] for hit in index.search("red", k=50, where={"year": 3})} == {3}
    assert index.search("red cat", where={"year": 99}) == []
    with pytest.raises(FilterError, match=r"\$near"):
        index.search("red", where={"year": {"$near": 3}})


@pytest.mark.parametrize("key", ["", 'a"b', "a\\b", "a\nb"])
def test_keys_that_cannot_be_indexed_are_refused(path, encoder, key):
    with pytest.raises(FilterError):
        Index.create(path, model=encoder, bits=64, filters=[key])
    assert not path.exists()


def test_the_same_key_twice_is_refused(path, encoder):
    with pytest.raises(FilterError, match="distinct"):
        Index.create(path, model=encoder, bits=64, filters=["a", "a"])


# -- wrong arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": ""}, "empty"),
        ({"query": " \n"}, "empty"),
        ({"query": "x", "k": 0}, "expected k"),
        ({"query": "x", "k": -3}, "expected k"),
        ({"query": "x", "k": 2.5}, "expected k"),
        ({"query": "x", "oversample": 0}, "expected oversample"),
        ({"query": "x", "mode": "magic"}, "dense, lexical, hybrid"),
        ({"query": np.ones(DIM), "mode": "hybrid"}, "needs the words"),
    ],
)
def test_wrong_searches_are_refused(index, arguments, message):
    with pytest.raises(InvalidQueryError, match=message):
        index.search(**arguments)


def test_bits_that_the_codec_lacks_are_refused(path, encoder):
    with pytest.raises(InvalidQueryError, match="64, 96, got 100"):
        Index.create(path, model=encoder, bits=100)
    assert not path.exists()


# -- the file


def test_create_open_and_exist_ok(path, encoder):
    with pytest.raises(IndexMissingError):
        Index.open(path, model=encoder)
    Index.create(path, model=encoder, bits=64).close()
    with pytest.raises(IndexExistsError):
        Index.create(path, model=encoder, bits=64)
    with Index.create(path, model=encoder, bits=96, exist_ok=True) as index:
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
    with pytest.raises(SpaceMismatchError, match="another geometry: open it with a bundle of its own space"):
        Index.open(path, model=FakeEncoder(seed=1))
    recoded = FakeEncoder()
    recoded.space = "f" * 32
    with pytest.raises(SpaceMismatchError, match=r"another codec: open it with a bundle.*'edgeret recode'"):
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
    with Index.open(path, model=encoder) as other, index._store.writing(), pytest.raises(LockedError):
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


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """Three sealed blocks and a tail, of vectors."""
    path = tmp_path_factory.mktemp("large") / "large.edgeret"
    vectors = np.random.default_rng(0).normal(size=(3 * BLOCK_ROWS + 100, DIM)).astype(np.float32)
    with Index.create(path, model=FakeEncoder(), bits=64) as index:
        index.add(Document(str(i), "", {}, vector) for i, vector in enumerate(vectors))
    return path, vectors


def test_blocks_are_sealed_and_every_row_is_found(large):
    path, vectors = large
    with Index.open(path, model=FakeEncoder(), readonly=True) as index:
        assert index.check().blocks == 3
        for row in (0, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 7, len(vectors) - 1):
            assert ids(index.search(vectors[row], k=1)) == [str(row)]


def test_streamed_codes_give_the_same_answers(large, encoder):
    path, vectors = large
    with Index.open(path, model=encoder, readonly=True) as resident:
        # Half of the page cache gives way first, then some of the codes.
        budget = resident.info().planned_bytes - 2_200_000
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
        probes = [gone[3], gone[-1], gone[-2], kept[0], kept[-1], kept[7000]]
        before = [index.search(vectors[row], k=5, oversample=400) for row in probes]
        assert [ids(hits)[0] for hits in before[3:]] == [str(row) for row in probes[3:]]
        assert not {str(row) for row in probes[:3]} & {hit.id for hits in before for hit in hits}
        size = copy.stat().st_size
        index.compact()
        summary = index.check()
        assert (summary.documents, summary.blocks) == (len(kept), 1)
        assert copy.stat().st_size < size * 0.7
        assert [index.search(vectors[row], k=5, oversample=400) for row in probes] == before
        assert index._store.read_columns(2)[:, 5].tolist() == [0]


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
    with Index.open(path, model=encoder, readonly=True) as reader, reader._connections.reading():
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


# -- damage: the parts that this suite can name one by one


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE documents SET text = 'other' WHERE id = 'd3'", "'d3' is not what was written"),
        ("UPDATE documents SET metadata = '{}' WHERE id = 'd3'", "'d3' is not what was written"),
        ("UPDATE passages SET vector = zeroblob(96) WHERE row = 3", "row 3 is not what was written"),
        ("UPDATE passages SET vector = zeroblob(9) WHERE row = 3", "does not have 96 bytes"),
        ("UPDATE passages SET stop = 2 WHERE row = 3", "row 3 is not what was written"),
        ("UPDATE tail SET code = zeroblob(8) WHERE row = 3", "row 3 is not what was written"),
        ("UPDATE tail SET code = zeroblob(3) WHERE row = 3", "row 3 is not what was written"),
        ("DELETE FROM tail WHERE row = 3", "are not the same"),
        ("DELETE FROM passages WHERE row = 3", "expected 20 documents and 20 passages"),
        ("DELETE FROM documents WHERE doc = 3", "expected 20 documents and 20 passages"),
        ("UPDATE state SET next_row = 3", "the state is not what was written"),
        ("DELETE FROM state", "the state is missing"),
        ("INSERT INTO lexicon (lexicon, rowid, text) VALUES ('delete', 3, 'x')", "damaged"),
    ],
)
def test_check_finds_every_contradiction(path, encoder, damage, message):
    with Index.create(path, model=encoder, bits=64) as index:
        index.add([Document(f"d{i}", text, {"n": i}) for i, text in enumerate(texts(20))])
        index.check()
        index._store.connection.execute(damage)
        with pytest.raises(CorruptIndexError, match=message):
            index.check()


def test_no_socket_is_opened(path, encoder, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(texts(10))
        index.search("red", mode="hybrid")
        index.compact()


# -- any history ends in a sound index

operations = st.lists(
    st.tuples(st.sampled_from(["add", "replace", "delete", "erase", "compact", "reopen"]), st.integers(0, 7)),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(operations)
def test_any_history_of_changes_equals_a_dictionary(tmp_path_factory, history):
    path = tmp_path_factory.mktemp("history") / "h.edgeret"
    encoder = FakeEncoder()
    expected: dict[str, str] = {}
    index = Index.create(path, model=encoder, bits=64)
    for step, (operation, number) in enumerate(history):
        identity = f"d{number}"
        if operation in ("add", "replace"):
            expected[identity] = f"text of {identity}" + (f" at {step}" if operation == "replace" else "")
            index.add([Document(identity, expected[identity])])
        elif operation in ("delete", "erase"):
            assert index.delete([identity], erase=operation == "erase") == (
                expected.pop(identity, None) is not None
            )
        elif operation == "compact":
            index.compact()
        else:
            index.close()
            index = Index.open(path, model=encoder)
        assert sorted(ids(index.search("text", k=20))) == sorted(expected)
    index.check()
    assert {identity: index.get(identity).text for identity in expected} == expected
    index.close()
