from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index, words
from edgeret.encode import manifest
from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import MANIFEST
from edgeret.errors import BundleError
from edgeret.search import fusion
from edgeret.search.fusion import Relevance
from tests.fake import DIM, FakeEncoder

WORLD = Path(__file__).parent.parent / "world" / "edgeret_world" / "world-nano"
VOCABULARY = [f"w{number}" for number in range(40)]


def texts(count: int, seed: int = 0, length: int = 6) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(VOCABULARY, length)) for _ in range(count)]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Documents of one passage and of several, more than a pool has."""
    encoder = FakeEncoder(passage_tokens=8)
    path = tmp_path_factory.mktemp("fusion") / "a.edgeret"
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(Document(f"s{n}", text, {"half": n % 2}) for n, text in enumerate(texts(700)))
        index.add(Document(f"m{n}", text, {"half": n % 2}) for n, text in enumerate(texts(60, 1, 60)))
        yield index


# -- the score


def test_a_score_is_the_cosine_and_the_weighted_words(large):
    explained = large.explain("w1 w2 w3", k=20)
    assert explained.mode == "hybrid"
    assert explained.words_weight > 0
    for hit in explained.hits:
        assert hit.score == pytest.approx(hit.cosine + explained.words_weight * hit.lexical)
        assert 0 <= hit.lexical <= 1
    assert explained.hits == large.search("w1 w2 w3", k=20) == large.search("w1 w2 w3", k=20, mode="hybrid")


def test_both_scores_are_those_of_either_side_alone(large):
    hits = large.search("w1 w2 w3", k=30)
    near = {(hit.id, hit.start): hit.cosine for hit in large.search("w1 w2 w3", k=760, mode="dense")}
    alike = {(hit.id, hit.start): hit.lexical for hit in large.search("w1 w2 w3", k=760, mode="lexical")}
    agreed = [hit for hit in hits if (hit.id, hit.start) in near]
    assert len(agreed) > 10
    for hit in agreed:
        assert hit.cosine == near[hit.id, hit.start]
        assert hit.lexical == pytest.approx(alike.get((hit.id, hit.start), hit.lexical))


def test_a_row_that_only_words_find_has_its_cosine(path):
    encoder = FakeEncoder()
    with Index.create(path, model=encoder, bits=64) as index:
        rng = np.random.default_rng(0)
        far = -encoder.encode(["red"])[0]
        index.add(Document(f"v{n}", "blue", {}, rng.normal(size=DIM)) for n in range(300))
        index.add([Document("named", "red", {}, far)])
        assert index.explain("red", k=100).candidates == fusion.POOL
        (hit,) = [hit for hit in index.search("red", k=301) if hit.id == "named"]
    assert hit.cosine == pytest.approx(-1, abs=0.01)
    assert hit.lexical > 0.4


@pytest.mark.parametrize("where", [None, {"half": 1}])
@pytest.mark.parametrize("query", ["w1 w2 w3", "w7", "w1 w1 w9 nothing", "nothing"])
def test_no_two_hits_change_places_as_more_are_asked_for(large, query, where):
    every = [hit.id for hit in large.search(query, k=800, where=where)]
    assert len(every) == len(set(every)) == (760 if where is None else 380)
    for k in (1, 5, 10, 50, 100, 101, 250, 800):
        found = large.search(query, k=k, where=where)
        assert len(found) == min(k, len(every))
        scores = [hit.score for hit in found]
        assert scores == sorted(scores, reverse=True)
        places = {identity: place for place, identity in enumerate(every)}
        order = [places[hit.id] for hit in found]
        assert order == sorted(order)


def test_the_pool_is_the_same_for_as_many_as_a_page_has(large):
    hundred = large.explain("w1 w2 w3", k=100)
    for k in (1, 10, 99):
        explained = large.explain("w1 w2 w3", k=k)
        assert explained.hits == hundred.hits[:k]
        assert explained.candidates == hundred.candidates <= 2 * fusion.POOL
    assert large.explain("w1 w2 w3", k=101).candidates > hundred.candidates


def test_scores_compare_across_queries(large):
    """No other document, and no other query, has a say in a score."""
    alone = {hit.id: hit.score for hit in large.search("w1 w2 w3", k=10)}
    filtered = {hit.id: hit.score for hit in large.search("w1 w2 w3", k=10, where={"half": 1})}
    shared = alone.keys() & filtered.keys()
    assert shared
    assert all(alone[identity] == filtered[identity] for identity in shared)


def test_many_queries_are_answered_as_one_by_one(large):
    queries = ["w1 w2", "w3", FakeEncoder().encode(["w5"])[0], "nothing", "w1 w2"]
    together = large.search_many(queries, k=7)
    assert together[:2] == [large.search(query, k=7) for query in queries[:2]]
    assert [hit.cosine for hit in together[2]] == [hit.score for hit in together[2]]
    assert all(hit.lexical is None and hit.relevance is None for hit in together[2])
    assert together[0] == together[4]


def test_a_vector_is_asked_by_meaning(large):
    explained = large.explain(FakeEncoder().encode(["w5"])[0])
    assert (explained.mode, explained.words, explained.words_weight) == ("dense", "", 0)
    assert all(hit.score == hit.cosine and hit.lexical is None for hit in explained.hits)


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_hits_below_a_score_are_left_out(large, mode):
    every = large.search("w1 w2", k=20, mode=mode)
    least = every[7].score
    kept = large.search("w1 w2", k=20, mode=mode, min_score=least)
    assert kept == [hit for hit in every if hit.score >= least]
    assert large.search("w1 w2", k=20, mode=mode, min_score=10) == []
    assert large.explain("w1 w2", k=20, mode=mode, min_score=least).hits == kept
    assert large.search_many(["w1 w2"], k=20, mode=mode, min_score=least) == [kept]


def test_an_encoder_without_a_spread_is_asked_once(path):
    encoder = FakeEncoder()
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(["red cat", "blue dog"])
        encoder.encoded.clear()
        index.search("red", mode="dense")
        assert encoder.encoded == ["red"]
        index.search("red")
        index.search("cat")
    assert len(encoder.encoded) == len(set(encoder.encoded)) + 1 > 10


@given(st.floats(0.001, 0.5), st.floats(0.5, 24))
def test_words_count_more_the_more_they_tell(spread, evidence):
    weight = fusion.words_weight(spread, evidence)
    assert weight == pytest.approx(fusion.SPREADS * spread * math.sqrt(evidence))
    assert fusion.words_weight(spread, 2 * evidence) > weight


@given(st.integers(0, 10**30))
def test_a_pool_is_as_deep_as_what_is_asked_for(documents):
    rows = fusion.depth(documents)
    assert rows >= max(documents, fusion.POOL)
    assert rows == fusion.POOL or rows < fusion.DEEPER * documents


@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=30), max_size=4), st.integers(0, 50))
def test_a_pool_takes_the_first_of_each_list_in_turn(lists, most):
    pool = fusion.pool(lists, most)
    assert len(pool) == len(set(pool)) == min(most, len(set().union(*lists)))
    first = {row: min(found.index(row) for found in lists if row in found) for row in set().union(*lists)}
    assert [first[row] for row in pool] == sorted(first.values())[: len(pool)]
    assert fusion.pool(lists, most + 1)[:most] == pool


# -- relevance


@given(st.lists(st.floats(-1, 3), min_size=1, max_size=40).map(sorted), st.floats(-1, 1), st.data())
def test_what_is_far_behind_has_no_say_in_relevance(scores, cosine, data):
    ranked = scores[::-1]
    number = data.draw(st.integers(0, len(ranked) - 1))
    told_cosine, by_words, margin = fusion.features(cosine, ranked, number)
    assert told_cosine == cosine
    assert cosine + by_words == pytest.approx(ranked[number])
    assert fusion.features(cosine, ranked[: number + 1 + fusion.NEXT], number) == (cosine, by_words, margin)
    told = Relevance(-5, 4, 3, 2).probability(cosine, by_words, margin)
    assert 0 < told < 1


def test_more_of_anything_is_more_relevant():
    for entry in entries():
        fitted = Relevance(*entry["logistic"], entry.get("unrelated", 0.0))
        least = fitted.probability(0.1, 0.1, 0.1)
        assert fitted.probability(0.2, 0.1, 0.1) > least
        assert fitted.probability(0.1, 0.2, 0.1) > least
        assert fitted.probability(0.1, 0.1, 0.2) > least


def entries() -> list[dict]:
    return json.loads(Path(fusion.__file__).with_name("relevance.json").read_bytes())


def test_relevance_is_known_for_bundles_that_were_measured():
    geometry = Bundle.open("small").geometry
    world = Bundle.open(WORLD).geometry
    assert {entry["geometry"] for entry in entries()} == {geometry, world}
    assert all(entry["words"] == words.VERSION for entry in entries())
    for name in ("world-base", "world-small", "world-nano"):
        assert fusion.relevance(world, name, name, words.VERSION) is not None
    for pair in (("small", "small"), ("nano", "nano"), ("nano", "small")):
        assert fusion.relevance(geometry, *pair, words.VERSION) is not None
        assert fusion.relevance(geometry, *pair, words.VERSION + 1) is None
        assert fusion.relevance("0" * 32, *pair, words.VERSION) is None
    assert fusion.relevance(geometry, "small", "another", words.VERSION) is None


def test_what_is_not_there_is_less_relevant(path):
    with Index.create(path) as index:
        index.add(
            [
                "Hold the button for five seconds to reset the Wi-Fi.",
                "Bleed the radiator when it stays cold at the top.",
                "The oven cleans itself at five hundred degrees.",
            ]
        )
        found = index.search("how do I reset the Wi-Fi?", k=1)[0].relevance
        missing = index.search("who painted the Mona Lisa", k=1)[0].relevance
        assert 0 <= missing < 0.1 < 0.5 < found <= 1
        assert index.search("reset", mode="dense")[0].relevance is None
        assert index.search("reset", mode="lexical")[0].relevance is None
    with Index.open(path, model="nano") as index:
        assert index.search("how do I reset the Wi-Fi?", k=1)[0].relevance is not None
    with Index.open(path, model="base") as index:
        assert index.search("how do I reset the Wi-Fi?", k=1)[0].relevance is None


def test_the_fake_has_no_relevance(large):
    assert all(hit.relevance is None for hit in large.search("w1"))


# -- the spread of a bundle


@pytest.mark.parametrize("name", edgeret.encode.bundle.available())
def test_bundles_know_their_spread(name):
    assert 0.01 < Bundle.open(name).manifest.spread < 0.2


@pytest.mark.parametrize("spread", [0, 0.0, 1.0, -0.1, "0.1", True, None, [0.1]])
def test_a_spread_that_is_none_is_refused(tmp_path, spread):
    table = json.loads((Bundle.open("nano").path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(table | {"spread": spread}))
    with pytest.raises(BundleError, match="spread"):
        manifest.read(tmp_path)


def test_a_changed_spread_is_told_by_the_checksum(tmp_path):
    table = json.loads((Bundle.open("nano").path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(table | {"spread": 0.5}))
    with pytest.raises(BundleError, match="checksum"):
        manifest.read(tmp_path)
