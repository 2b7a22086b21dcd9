"""Pages of one ranking, documents like one that is there, and several indexes at once."""

import random

import numpy as np
import pytest
from counts import CI
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document, Index
from edgeret.errors import ArgumentError, InvalidQueryError, SpaceMismatchError

WORDS = ["red", "blue", "cat", "dog", "house", "bird", "fast", "never"]


def sentence(number: int) -> str:
    rng = random.Random(number)
    return " ".join([*rng.choices(WORDS, k=rng.randint(2, 9)), f"n{number}"])


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Index:
    """1,300 documents, some with several passages, some with the same text."""
    path = tmp_path_factory.mktemp("many") / "x.edgeret"
    with Index.create(path, FakeEncoder(), bits=64, filters=["shelf"]) as index:
        index.add(
            Document(
                f"d{n}", " ".join(sentence(n - n % 3) for _ in range(1 + 7 * (n % 5 == 0))), {"shelf": n % 4}
            )
            for n in range(1300)
        )
        yield index


# -- pages


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("where", [None, {"shelf": {"$lt": 3}}])
def test_pages_of_ten_are_one_search_for_a_thousand(many, mode, where):
    whole = many.search("red cat never", 1000, where, mode)
    for offset in range(0, 1000, 10 if CI else 90):
        page = many.search("red cat never", 10, where, mode, offset=offset)
        assert page == whole[offset : offset + 10]
    assert len({hit.id for hit in whole}) == len(whole) > 600


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_pages_end_where_documents_end(many, mode):
    found = [
        hit.id
        for offset in (1000, 1100, 1200, 1300)
        for hit in many.search("red", 100, mode=mode, offset=offset)
    ]
    whole = many.search("red", 10_000, mode=mode)
    assert found == [hit.id for hit in whole][1000:]
    assert many.search("red", mode=mode, offset=10**6) == []
    assert many.search("red", mode=mode, offset=2**63 - 1) == []


def test_pages_of_several_queries_and_of_explain(many):
    pages = many.search_many(["red cat", "blue dog"], k=3, offset=4)
    assert pages == [many.search(query, 3, offset=4) for query in ("red cat", "blue dog")]
    assert many.explain("red cat", 3, offset=4).hits == pages[0]
    least = pages[0][1].score
    assert many.search("red cat", 3, offset=4, min_score=least) == pages[0][:2]


# -- like one that is there


def test_similar_finds_what_is_near_any_passage_and_not_itself(index):
    long = " ".join(f"The harbor is closed on day {n}." for n in range(20)) + " A red cat sleeps in a house."
    index.add(
        [Document("long", long, {"year": 1}), Document("cat", "a red cat sleeps in a house", {"year": 2})]
    )
    index.add([Document("harbor", "the harbor is closed on day 3"), Document("far", "xylophones and zebras")])
    index._encoder.encoded.clear()
    hits = index.similar("long", k=3)
    assert [hit.id for hit in hits[:2]] in (["cat", "harbor"], ["harbor", "cat"])
    assert [hit.id for hit in hits[2:]] == ["far"]
    assert hits[0].score == hits[0].cosine > 0.8
    assert [hit.id for hit in index.similar("long", where={"year": 2})] == ["cat"]
    assert index.similar("long", k=3, min_score=0.99) == [hit for hit in hits if hit.score >= 0.99]
    assert [hit.id for hit in index.similar("cat", k=1)] == ["long"]
    assert index._encoder.encoded == []
    with pytest.raises(InvalidQueryError, match="no document 'none'"):
        index.similar("none")


def test_similar_agrees_with_a_search_for_its_vector(many):
    for id in ("d1", "d7", "d1298"):
        (vector,) = many.vectors(id)
        expected = [hit for hit in many.search(vector, 11) if hit.id != id][:10]
        assert many.similar(id) == expected


def test_a_document_with_its_own_vector_has_similar_ones(index):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, DIM))
    index.add(Document(str(n), "", vector=vector) for n, vector in enumerate([*vectors, vectors[0] * 3]))
    assert [hit.id for hit in index.similar("0", k=1)] == ["5"]


# -- feedback


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_feedback_moves_the_query(index, mode):
    index.add(
        [Document("cat", "a red cat"), Document("dog", "a red dog"), Document("barks", "a loud dog barks")]
    )
    index.add([Document("purrs", "a quiet cat purrs"), Document("far", "xylophones and zebras")])
    plain = {hit.id: hit.cosine for hit in index.search("red", mode=mode)}
    liked = {hit.id: hit.cosine for hit in index.search("red", mode=mode, feedback=(["purrs"], []))}
    both = {hit.id: hit.cosine for hit in index.search("red", mode=mode, feedback=(["purrs"], ["barks"]))}
    assert liked["cat"] - liked["dog"] > plain["cat"] - plain["dog"]
    assert liked["purrs"] > plain["purrs"]
    assert both["barks"] < liked["barks"]
    assert index.search("red", mode=mode, feedback=([], [])) == index.search("red", mode=mode)
    assert index.search_many(["red"], mode=mode, feedback=(["purrs"], []))[0] == index.search(
        "red", mode=mode, feedback=(["purrs"], [])
    )
    assert index.explain("red", mode=mode, feedback=(iter(["purrs"]), set())).hits == index.search(
        "red", mode=mode, feedback=(["purrs"], [])
    )


def test_feedback_is_rocchios_sum(many):
    query = many._encoder.encode(["red cat"])[0]
    means = [many.vectors(id).mean(axis=0) for id in ("d5", "d7", "d9")]
    five, seven, nine = (mean / np.linalg.norm(mean) for mean in means)
    assert len(many.vectors("d5")) > 1
    expected = many.search(query + 0.75 * (five + seven) / 2 - 0.15 * nine)
    found = many.search("red cat", mode="dense", feedback=(["d5", "d7"], ["d9"]))
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit.cosine for hit in found], [hit.cosine for hit in expected], atol=1e-6)
    assert many.search(query, feedback=(["d5", "d7"], ["d9"])) == found


def test_feedback_that_cannot_be_is_refused(many):
    for feedback in ((["none"], []), ([], ["none"])):
        with pytest.raises(InvalidQueryError, match="no document 'none'"):
            many.search("red", feedback=feedback)
    with pytest.raises(InvalidQueryError, match="no vector that feedback could move"):
        many.search("red", mode="lexical", feedback=(["d1"], []))


# -- several indexes


@pytest.fixture
def two(tmp_path, encoder) -> tuple[Index, Index]:
    with (
        Index.create(tmp_path / "a.edgeret", encoder, bits=64) as one,
        Index.create(tmp_path / "b.edgeret", encoder, bits=96) as other,
    ):
        one.add(Document(f"d{n}", sentence(n), {"n": n}) for n in range(0, 40, 2))
        other.add(Document(f"d{n}", sentence(n), {"n": n}) for n in range(1, 40, 2))
        yield one, other


@pytest.mark.parametrize("mode", [None, "dense", "lexical", "hybrid"])
def test_hits_of_several_indexes_are_one_ranking(two, mode):
    found = edgeret.search_indexes(two, "red cat", k=12, mode=mode)
    scores = [hit.score for _, hit in found]
    assert scores == sorted(scores, reverse=True)
    assert {index for index, _ in found} == set(two)
    for index in two:
        mine = [hit for owner, hit in found if owner is index]
        assert mine == index.search("red cat", 12, mode=mode)[: len(mine)]
    assert len(found) == 12 or mode == "lexical"
    assert edgeret.search_indexes(two[:1], "red cat", 5, {"n": {"$gt": 9}}, mode) == [
        (two[0], hit) for hit in two[0].search("red cat", 5, {"n": {"$gt": 9}}, mode)
    ]


def test_dense_hits_of_several_indexes_are_those_of_one(two, path, encoder):
    with Index.create(path, encoder, bits=96) as whole:
        whole.add(document for index in two for document in index.documents())
        expected = whole.search("red cat", 10, mode="dense", oversample=100)
    found = edgeret.search_indexes(two, "red cat", 10, mode="dense", oversample=100)
    assert [(hit.id, hit.cosine) for _, hit in found] == [(hit.id, hit.cosine) for hit in expected]


def test_indexes_that_do_not_compare_are_refused(two, tmp_path, first_format):
    with (
        Index.create(tmp_path / "c.edgeret", FakeEncoder(seed=3), bits=64) as stranger,
        pytest.raises(SpaceMismatchError, match="expected indexes of one space"),
    ):
        edgeret.search_indexes([two[0], stranger], "red")
    for bad in ([], [two[0], 5], ["a"]):
        with pytest.raises(ArgumentError, match="expected open indexes"):
            edgeret.search_indexes(bad, "red")
    old, reader = first_format
    with Index.open(old, reader, readonly=True) as one, Index.open(old, reader, readonly=True) as other:
        assert [hit for _, hit in edgeret.search_indexes([one, other], "number", 2)] == [
            hit for hit in one.search("number", 1, mode="dense") for _ in "ab"
        ]
        with pytest.raises(InvalidQueryError, match="of format 1"):
            edgeret.search_indexes([one, other], "number", mode="lexical")


# -- as you type


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_the_word_that_is_being_typed_finds_those_that_begin_with_it(index, mode):
    index.add([Document("a", "Replace both batteries now"), Document("b", "The lamp is red")])
    for query in ("b", "batt", "batte", "batteri", "batteries", "now the batt"):
        assert index.search(query, k=1, mode=mode, prefix=True)[0].id == "a"
        assert index.search_many([query], k=1, mode=mode, prefix=True)[0][0].id == "a"
    for query in ("batt ", "batt", "atteries"):
        assert index.search(query, mode="lexical", prefix=query != "batt") == []


def test_a_file_of_the_first_format_knows_beginnings(first_format):
    path, encoder = first_format
    with Index.open(path, model=encoder, readonly=True) as index:
        assert index.search("somethi", mode="lexical") == []
        index.search("numb", mode="lexical", prefix=True)
        found = {hit.id for hit in index.search("number16385", mode="lexical")}
        assert found
        assert found <= {hit.id for hit in index.search("number1638", k=50, mode="lexical", prefix=True)}
        assert index.search("number1638 ", mode="lexical", prefix=True) == []
