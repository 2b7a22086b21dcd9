import math
import socket

import numpy as np
import pytest
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index
from edgeret.errors import (
    ClosedError,
    CorruptIndexError,
    FilterError,
    InvalidDocumentError,
    InvalidQueryError,
    InvalidVectorError,
    StorageError,
)

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
    assert hit.cosine == pytest.approx(1, abs=1e-3)


def test_results_are_those_of_exact_search_when_everything_is_rescored(index, encoder):
    corpus = texts(400)
    index.add([Document(f"{i:03}", text) for i, text in enumerate(corpus)])
    vectors = encoder.encode(corpus)
    for query in ("red cat sleeps", "blue bird eats slowly", "number7"):
        exact = vectors @ encoder.encode([query])[0]
        found = index.search(query, k=5, mode="dense", oversample=40)
        assert [hit.score for hit in found] == pytest.approx(np.sort(exact)[::-1][:5].tolist(), abs=2e-3)


def test_many_queries_answer_as_one_by_one(index):
    index.add(texts(500))
    queries = ["red cat", "dog runs fast", "bird today never"]
    assert index.search_many(queries, k=7) == [index.search(query, k=7) for query in queries]
    assert index.search_many([]) == []


def test_explain_returns_the_same_hits_and_counts(index):
    index.add([Document(f"d{i}", text, {"year": i % 2}) for i, text in enumerate(texts(100))])
    explained = index.explain("red cat", k=5, where={"year": 1}, mode="dense", oversample=4)
    assert explained.hits == index.search("red cat", k=5, where={"year": 1}, mode="dense")
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


def test_a_refused_call_says_how_many_are_committed(index, monkeypatch):
    publish, calls = index._staging.publish, []

    def full(*_):
        calls.append(1)
        if len(calls) == 3:
            raise StorageError("no space left")
        publish(*_)

    monkeypatch.setattr(index._staging, "publish", full)
    with pytest.raises(StorageError) as found:
        index.add((Document(f"d{i}", f"text {i}") for i in range(25)), commit_every=5)
    assert found.value.__notes__ == ["the first 10 documents of this call are committed"]
    assert len(index) == 10


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


def test_what_get_returns_can_be_added_again(index, encoder):
    vectors = np.random.default_rng(6).normal(size=(20, DIM)).astype(np.float32)
    index.add([Document(f"v{i}", "x" * (i % 3), {"n": i}, vector) for i, vector in enumerate(vectors)])
    index.add([Document("t", "red cat")])
    before = index.info()
    found = [index.get(f"v{i}") for i in range(20)]
    assert index.get("t").vector is None
    assert all(document.vector.dtype == np.float32 and document.vector.shape == (DIM,) for document in found)
    assert np.allclose([np.linalg.norm(document.vector) for document in found], 1)
    index.add([*found, index.get("t")])
    assert index.info() == before
    assert encoder.encoded == ["red cat"]
    index.delete(["v3"])
    index.add([found[3]])
    assert index.get("v3") == found[3]
    assert index.search(vectors[3], k=1)[0].id == "v3"


@pytest.mark.parametrize("bits", [64, 96])
def test_no_cosine_is_above_one(path, encoder, bits):
    vectors = np.random.default_rng(8).integers(-127, 128, size=(300, DIM)).astype(np.float32)
    vectors[:, 5] = 127
    with Index.create(path, model=encoder, bits=bits) as index:
        index.add(Document(f"v{i}", "", {}, vector) for i, vector in enumerate(vectors))
        index.add(f"red cat {i}" for i in range(100))
        for hits in index.search_many([*vectors, *-vectors], k=3):
            assert all(-1 <= hit.score <= 1 for hit in hits)
        for mode in ("dense", "hybrid"):
            for i in range(100):
                assert all(hit.cosine <= 1 for hit in index.search(f"red cat {i}", mode=mode))


def test_ids_that_differ_in_normalization_are_different(index):
    index.add([Document("caf\u00e9", "composed"), Document("cafe\u0301", "decomposed")])
    assert [index.get(identity).text for identity in ("caf\u00e9", "cafe\u0301")] == [
        "composed",
        "decomposed",
    ]
    assert index.delete(["cafe\u0301"]) == 1
    assert ids(index.search("composed")) == ["caf\u00e9"]


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
        ("DELETE FROM lexicon_tail WHERE entry = 3", "its tail has 19 entries of 20"),
        (
            "UPDATE lexicon_tail SET words = x'00000000' WHERE entry = 3",
            "an entry of its tail, 3, is not what",
        ),
        ("UPDATE lexicon_state SET rows = 19", "its counters are not what was written"),
        ("DELETE FROM lexicon_state", "its counters are missing"),
        ("INSERT INTO contexts VALUES (3, 0, 'x')", "the context of row 3 is not what was written"),
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


def test_a_warm_index_has_done_what_the_first_search_does(index, path, encoder):
    index.warm_up()
    index.add(["a red cat", "a blue dog"])
    with Index.open(path, model=encoder, readonly=True) as reader:
        reader.warm_up()
        assert reader.info().codes_resident
        encoder.encoded.clear()
        reader.search("a cat")
        assert encoder.encoded == ["a cat"]
    with pytest.raises(ClosedError):
        reader.warm_up()


def test_short_documents_are_encoded_together_and_long_ones_at_once(path):
    calls = []

    class Counting(FakeEncoder):
        def encode(self, texts):
            calls.append(len(texts))
            return super().encode(texts)

    words = "red cat " * 700
    with Index.create(path, model=Counting(passage_tokens=3000), bits=64) as index:
        calls.clear()
        given = [Document(str(number % 18), f"red cat number{number}") for number in range(20)]
        index.add([*given[:3], Document("long", words), *given[3:]])
        assert calls == [4, 8, 8, 1]
        assert len(index) == 19
        assert [index.get(str(number)).text for number in (0, 1, 2)] == [
            "red cat number18", "red cat number19", "red cat number2",
        ]  # fmt: skip
        calls.clear()
        assert index.add(given[:18], commit_every=3) == [str(number) for number in range(18)]
        assert calls == [2]
        calls.clear()
        index.add([Document("same", "a red cat"), Document("same", "a blue dog")])
        assert calls == [1, 1]
        assert index.get("same").text == "a blue dog"
