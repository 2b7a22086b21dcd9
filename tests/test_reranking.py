"""A reranker's order: the first hits of a search by scores of its own, and nothing else changes."""

import numpy as np
import pytest

from edgeret import BudgetError, Document, Index, InvalidQueryError, InvalidVectorError, Plan
from edgeret.blocks import BLOCK_ROWS


def shorter(query, texts):
    """A judge that likes short texts."""
    return [-len(text) for text in texts]


@pytest.fixture
def cats(index):
    index.add([Document(str(n), "cat " * (30 - n), {"n": n}) for n in range(30)])
    return index


def test_hits_come_by_the_rerankers_scores(cats):
    plain = cats.search("cat", k=20)
    hits = cats.search("cat", k=3, rerank=shorter)
    best = sorted(plain, key=lambda hit: len(hit.text))[:3]
    assert [hit.id for hit in hits] == [hit.id for hit in best]
    assert [hit.score for hit in hits] == [-len(hit.text) for hit in best]
    assert [(hit.cosine, hit.relevance, hit.metadata) for hit in hits] == [
        (hit.cosine, hit.relevance, hit.metadata) for hit in best
    ]
    assert [hit.highlights for hit in hits] == [hit.highlights for hit in best]
    assert cats.search_many(["cat", "cat"], k=3, rerank=shorter) == [hits, hits]
    told = cats.explain("cat", k=3, rerank=shorter)
    assert (told.hits, told.reranked) == (hits, 20)
    assert told.rerank_ms > 0
    assert cats.explain("cat", k=3).reranked == 0


def test_pages_and_bounds_are_of_the_reranked(cats):
    whole = cats.search("cat", k=12, rerank=shorter, rerank_k=12)
    assert cats.search("cat", k=4, offset=4, rerank=shorter, rerank_k=12) == whole[4:8]
    assert cats.search("cat", k=12, min_score=whole[5].score, rerank=shorter, rerank_k=12) == whole[:6]
    with pytest.raises(InvalidQueryError, match="within the 20 documents that are reranked, got 21"):
        cats.search("cat", k=1, offset=20, rerank=shorter)


def test_equal_scores_leave_the_order(cats):
    plain = cats.search("cat", k=20)
    assert [hit.id for hit in cats.search("cat", k=20, rerank=lambda _, texts: np.zeros(len(texts)))] == [
        hit.id for hit in plain
    ]
    assert cats.search("cat", where={"n": 99}, rerank=shorter) == []


@pytest.mark.parametrize(
    ("judge", "error"),
    [
        (lambda query, texts: [1.0], InvalidQueryError),
        (lambda query, texts: [float("nan")] * len(texts), InvalidQueryError),
        (lambda query, texts: None, InvalidVectorError),
        (lambda query, texts: ["good"] * len(texts), InvalidVectorError),
    ],
)
def test_what_are_no_scores_is_refused(cats, judge, error):
    with pytest.raises(error, match="expected"):
        cats.search("cat", rerank=judge)


def test_a_vector_has_no_words_to_read(cats, encoder):
    with pytest.raises(InvalidQueryError, match="leave rerank out"):
        cats.search(encoder.encode(["cat"])[0], rerank=shorter)


def test_a_reranker_must_fit_the_budget():
    plan = Plan.of(10, 64, {}, 40_000_000)
    assert plan.spare is not None
    assert plan.beside("reranker x", plan.spare).spare == 0
    with pytest.raises(BudgetError, match="at least 41MB for the reranker x, got 40MB"):
        plan.beside("reranker x", plan.spare + plan.parts["codes"] + 1)


def test_a_reranker_is_planned_again_where_the_index_is_reopened(path, encoder, monkeypatch):
    class Judge:
        name = "x"
        load = classmethod(lambda cls, name: cls())
        __call__ = staticmethod(shorter)

    monkeypatch.setattr("edgeret.index.Reranker", Judge)
    monkeypatch.setattr("edgeret.index.more_bytes", lambda *_: 1000)
    with Index.create(path, encoder, memory_budget="40MB") as index:
        index.add(["red cat", "cat"])
        for _ in range(2):
            plain = index.info().planned_bytes
            assert index.search("cat", rerank="x")[0].text == "cat"
            assert index.info().planned_bytes == plain + 1000
            index.reopen()


def test_codes_give_way_to_a_reranker_block_by_block(cats):
    block = 8 * BLOCK_ROWS
    plan = Plan.of(9 * BLOCK_ROWS, 64, {}, 40_000_000)
    assert plan.spare is not None
    beside = plan.beside("reranker x", plan.spare + 3 * block)
    assert (beside.code_blocks, beside.parts["codes"], beside.spare) == (6, 6 * block, 0)
    assert plan.holds_all_codes
    assert not beside.holds_all_codes
    # The index lets them go, and finds the same.
    hits = cats.search("cat", k=5)
    cats._searcher.replan(beside)
    assert cats.search("cat", k=5) == hits
    assert cats._searcher._codes.resident_blocks == beside.code_blocks
