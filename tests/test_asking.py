"""Pages of one ranking, documents like one that is there, and several indexes at once."""

import dataclasses
import pickle
import random
from collections import Counter

import numpy as np
import pytest
from counts import CI
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document, Index, words
from edgeret.errors import ArgumentError, InvalidQueryError, SpaceMismatchError
from edgeret.storage.rows import context_checksum

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
                f"d{n}",
                " ".join(sentence(n - n % 3) for _ in range(1 + 7 * (n % 5 == 0))),
                {"shelf": n % 4},
            )
            for n in range(1300)
        )
        yield index


# -- pages


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("dense", {}),
        ("lexical", {"where": {"shelf": {"$lt": 3}}}),
        ("hybrid", {}),
        ("hybrid", {"where": {"shelf": {"$lt": 3}}, "per_document": None}),
    ],
)
def test_pages_of_ten_are_one_search_for_a_thousand(many, mode, options):
    whole = many.search("red cat never", 1000, mode=mode, **options)
    for offset in range(0, 1000, 10 if CI else 90):
        page = many.search("red cat never", 10, mode=mode, offset=offset, **options)
        assert page == whole[offset : offset + 10]
    assert len({(hit.id, hit.start) for hit in whole}) == len(whole) > 600


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


# -- passages, diversity, recency, groups


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Index:
    """60 documents, every third of them with eight passages."""
    path = tmp_path_factory.mktemp("long") / "x.edgeret"
    with Index.create(path, FakeEncoder(), bits=64) as index:
        texts = (" ".join(sentence(8 * n + m) for m in range(1 + 7 * (n % 3 == 0))) for n in range(60))
        index.add(Document(f"d{n}", text, {"shelf": n % 4, "size": n // 5}) for n, text in enumerate(texts))
        yield index


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_each_passage_that_is_good_enough_is_shown(long, mode):
    found = long.search("red cat never", 500, mode=mode, per_document=None)
    best = {}
    for hit in sorted(found, key=lambda hit: -hit.score):
        best.setdefault(hit.id, hit.score)
    assert best == {hit.id: hit.score for hit in long.search("red cat never", 500, mode=mode)}
    assert len(found) > len(best)
    if mode != "lexical":
        # There, only those with one of the words.
        assert len(found) == long.info().passages
    assert all(hit.relevance is None for hit in found)
    two = long.search("red cat never", 500, mode=mode, per_document=2)
    assert two == [hit for hit in found if hit in two]
    assert max(sum(hit.id == id for hit in two) for id in best) == 2
    assert long.search("red cat never", 10, mode=mode, per_document=None) == found[:10]
    if mode == "dense":
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("lexical", {"per_document": 2}),
        ("hybrid", {"per_document": None, "diversity": 0.3}),
        ("hybrid", {"boost": {"key": "shelf", "halflife": "1s", "now": 4}}),
        ("dense", {"group_by": "size", "per_group": 3}),
    ],
)
def test_pages_of_what_is_arranged_are_one_search_too(long, monkeypatch, mode, options):
    # So that there are several rounds of groups.
    monkeypatch.setattr(edgeret.search.options, "_RANKED", 10)
    monkeypatch.setattr(edgeret.search.options, "POOL", 10)
    whole = long.search("red cat never", 10, mode=mode, **options)
    assert whole == long.search("red cat never", 10, mode=mode, offset=0, **options)
    monkeypatch.setattr(edgeret.search.options, "_RANKED", 100)
    whole = long.search("red cat never", 50, mode=mode, offset=0, **options)
    paged = [
        hit
        for offset in range(0, 50, 10)
        for hit in long.search("red cat never", 10, mode=mode, offset=offset, **options)
    ]
    same = paged == whole
    assert same
    assert len({(hit.id, hit.start) for hit in whole}) == len(whole) > 30


def test_passages_of_one_document_and_of_a_vector(long):
    for query in ("red cat", long.vectors("d0")[0]):
        found = long.search(query, 50, {"$id": "d0"}, per_document=None)
        assert {hit.start for hit in found} == {hit.start for hit in found if hit.id == "d0"}
        assert len({hit.start for hit in found}) == len(long.vectors("d0")) > 1


def test_a_phrase_holds_for_each_passage(long):
    found = long.search('"red cat"', 100, per_document=None)
    assert found
    assert all("red cat" in hit.text for hit in found)


def test_diversity_is_maximal_marginal_relevance(long):
    plain = long.search("red cat", 60, mode="dense")
    query = long._encoder.encode(["red cat"])[0]
    vectors = {
        hit.id: next(one for one in long.vectors(hit.id) if abs(one @ query - hit.score) < 1e-5)
        for hit in plain
    }

    def marginal(hit) -> float:
        return 0.6 * hit.score - 0.4 * max(vectors[hit.id] @ vectors[one.id] for one in chosen)

    chosen = [plain[0]]
    while len(chosen) < 5:
        chosen.append(max((hit for hit in plain if hit not in chosen), key=marginal))
    assert long.search("red cat", 5, mode="dense", diversity=0.4) == chosen != plain[:5]
    assert long.search("red cat", 5, diversity=0) == long.search("red cat", 100)[:5]


def test_a_boost_halves_by_age(index):
    dates = {"new": "2024-05-31", "month": "2024-05-01T00:00Z", "never": None, "seconds": 1_714_521_600}
    index.add(Document(id, "a red cat", {"meta": {"seen": date}}) for id, date in dates.items())
    plain = index.search("red cat")[0].score
    boost = {"key": "meta.seen", "halflife": "30d", "now": "2024-05-31"}
    found = {hit.id: hit.score / plain for hit in index.search("red cat", boost=boost)}
    assert list(found) == ["new", "month", "seconds", "never"]
    assert found == pytest.approx({"new": 1, "month": 0.75, "seconds": 0.75, "never": 0.5})
    found = {hit.id: hit.score / plain for hit in index.search("red cat", boost={**boost, "weight": 1.0})}
    assert found == pytest.approx({"new": 1, "month": 0.5, "seconds": 0.5, "never": 0})
    assert index.search("red cat", 1, boost={"key": "meta.seen", "halflife": "1y"})[0].id == "new"


def test_groups_show_their_best(index):
    places = [
        ("a", 1),
        ("b", 1.0),
        ("c", True),
        ("d", "1"),
        ("e", [2, 1]),
        ("f", 2),
        ("g", {"x": 1}),
        ("h", 0),
    ]
    texts = {
        id: f"a red cat sleeps {'and then ' * number} in a house" for number, (id, _) in enumerate(places)
    }
    index.add(Document(id, texts[id], {"place": place}) for id, place in places)
    index.add([Document("none", "a red cat"), Document("nothing", "a red cat", {"place": None})])
    index.add([Document("also", "a red cat and a dog", {"place": None})])
    plain = [hit.id for hit in index.search("a red cat sleeps in a house", 20)]
    found = [hit.id for hit in index.search("a red cat sleeps in a house", 20, group_by="place")]
    assert found == [id for id in plain if id not in ("b", "e", "also")]
    two = [hit.id for hit in index.search("a red cat sleeps in a house", 20, group_by="place", per_group=2)]
    assert two == [id for id in plain if id != "e"]


@pytest.mark.parametrize("options", [{}, {"where": {"shelf": {"$gt": 0}}}, {"mode": "lexical"}])
def test_groups_are_looked_for_beyond_the_best(long, monkeypatch, options):
    monkeypatch.setattr(edgeret.search.options, "POOL", 10)
    found = long.search("red cat", 12, group_by="shelf", per_group=3, **options)
    shelves = [hit.metadata["shelf"] for hit in found]
    assert Counter(shelves).most_common() == [(shelf, 3) for shelf in dict.fromkeys(shelves)]
    plain = long.search("red cat", 60, **options)
    for shelf in set(shelves):
        own = [hit.id for hit in plain if hit.metadata["shelf"] == shelf]
        assert [hit.id for hit in found if hit.metadata["shelf"] == shelf] == own[:3]


def test_options_that_exclude_one_another_are_refused(long):
    with pytest.raises(InvalidQueryError, match="leave per_document and diversity out"):
        long.search("red", group_by="shelf", per_document=2)
    with pytest.raises(InvalidQueryError, match="expected group_by"):
        long.search("red", per_group=2)


# -- what a person looks at first


def test_highlights_are_the_words_and_the_nearest_sentence(index):
    text = "Zebras graze far away. A red-hot cat sleeps, and CATS purr! The end."
    index.add([Document("a", text)])
    for query, mode in (("red cats", None), ("red cats", "dense"), ("red cats", "lexical")):
        (hit,) = index.search(query, mode=mode)
        found = hit.highlights
        assert text[slice(*found.sentence)] == "A red-hot cat sleeps, and CATS purr!"
        assert [text[slice(*span)] for span in found.words] == ["red", "cat", "CATS"]
    assert index.search("slee", prefix=True)[0].highlights.words == [(text.index("sleeps"), text.index(","))]
    assert index.search(index.vectors("a")[0])[0].highlights.words == []
    assert index.search_many(["end", "zebras graze"])[1][0].highlights.sentence == (0, text.index(" A red"))
    for copy in (dataclasses.replace(hit), pickle.loads(pickle.dumps(hit))):
        assert copy == hit
        assert copy.highlights is None
        assert copy.passage == text


def test_of_a_book_in_one_passage_few_words_are_in_memory_together(index, encoder, monkeypatch):
    text = "".join(f"Line {number} 🦊 says e\u0301t\u0301e\u0301 and getFoo.\r\n" for number in range(2000))
    text += "A red cat."
    index.add([Document("book", text, vector=encoder.encode(["red"])[0])])
    split, sizes = words.split, []
    monkeypatch.setattr(words, "split", lambda part, *rest: sizes.append(len(part)) or split(part, *rest))
    for mode in ("hybrid", "lexical"):
        (hit,) = index.search("red cats 1999", mode=mode)
        assert [text[slice(*span)] for span in hit.highlights.words] == ["1999", "red", "cat"]
    assert max(sizes) < 5000


def test_a_passage_is_shown_with_what_was_encoded_before_it(index):
    index.add([Document("a", "A red cat sleeps.")])
    (hit,) = index.search("cat")
    assert hit.passage == hit.text
    with index._store.writing():
        index._store.connection.execute(
            "INSERT INTO contexts VALUES (0, ?, ?)", (context_checksum(0, "Pets > Cats"), "Pets > Cats")
        )
    assert hit.passage == "Pets > Cats\nA red cat sleeps."
    index.add([Document("a", "A blue cat sleeps here.")])
    assert hit.passage == hit.text == "A red cat sleeps."


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


@pytest.mark.parametrize(
    "options",
    [
        {"offset": 4, "where": {"shelf": {"$lt": 3}}},
        {"per_document": None},
        {"diversity": 0.4},
        {"boost": {"key": "shelf", "halflife": "1s", "now": 4}},
        {"group_by": "size", "per_group": 2},
        {"feedback": (["d2"], ["d4"]), "oversample": 50},
    ],
)
def test_similar_takes_the_options_of_a_search_without_itself(long, options):
    (vector,) = long.vectors("d1")
    where = {"$and": [{"$not": {"$id": "d1"}}, options.get("where", {})]}
    expected = long.search(vector, 12, **{**options, "where": where})
    assert long.similar("d1", 12, **options) == expected
    # One of several passages is nowhere in its own answer.
    assert all(hit.id != "d3" for hit in long.similar("d3", 12, **options))


def test_similar_has_no_words():
    with pytest.raises(TypeError, match="mode"):
        Index.similar(None, "d1", mode="lexical")
    with pytest.raises(TypeError, match="prefix"):
        Index.similar(None, "d1", prefix=True)


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


def test_several_indexes_take_the_options_of_one(two, path, encoder):
    with Index.create(path, encoder, bits=96) as whole:
        whole.add(document for index in two for document in index.documents())
        for options in (
            {"offset": 5},
            {"per_document": 2},
            {"boost": {"key": "n", "halflife": "5s", "now": 40}},
            {"group_by": "kind", "per_group": 3},
            {"rerank": lambda _, texts: [len(text) for text in texts], "rerank_k": 40, "offset": 2},
            {"min_score": 0.3, "oversample": 100},
        ):
            for index in (whole, *two):
                index.update_many((id, {"kind": int(id[1:]) % 5}) for id in index.ids())
            expected = whole.search("red cat", 8, mode="dense", **options)
            found = edgeret.search_indexes(two, "red cat", 8, mode="dense", **options)
            assert {(hit.id, hit.score) for _, hit in found} == {(hit.id, hit.score) for hit in expected}
            assert [hit.score for _, hit in found] == [hit.score for hit in expected]
    with pytest.raises(TypeError, match="diversity"):
        edgeret.search_indexes(two, "red", diversity=0.5)


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
