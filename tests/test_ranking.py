from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret.search.ranking import LEXICAL_WEIGHT, best_per_document, fuse, rank

ranked = st.dictionaries(st.integers(0, 30), st.integers(-20, 20).map(float), max_size=20).map(
    lambda scores: list(scores.items())
)


def test_rank_breaks_ties_by_id() -> None:
    assert rank([(7, 1.0), (3, 1.0), (5, 2.0)]) == [(5, 2.0), (3, 1.0), (7, 1.0)]
    assert rank([(7, 1.0), (3, 1.0), (5, 2.0)], 2) == [(5, 2.0), (3, 1.0)]
    assert rank([], 3) == []


def test_best_per_document_keeps_one_passage_each() -> None:
    rows, documents = np.array([4, 5, 7, 6, 9]), np.array([10, 10, 11, 11, 12])
    assert best_per_document(rows, documents, np.array([0.1, 0.9, 0.5, 0.5, -1.0])).tolist() == [1, 3, 4]


@given(ranked, st.integers(1, 5))
def test_best_per_document_agrees_with_the_maximum(passages: list[tuple[int, float]], count: int) -> None:
    rows = np.array([row for row, _ in passages], np.int64)
    places = best_per_document(rows, rows % count, np.array([score for _, score in passages]))
    found = [passages[place] for place in places.tolist()]
    assert found == rank(found)
    best = {
        document: max(s for r, s in passages if r % count == document)
        for document in range(count)
        if any(r % count == document for r, _ in passages)
    }
    assert {row % count: score for row, score in found} == best
    assert all(
        row == min(r for r, s in passages if (r % count, s) == (row % count, score)) for row, score in found
    )


def test_fuse_by_hand() -> None:
    fused = fuse([(1, 0.9), (2, 0.5), (3, 0.1)], [(3, 12.0), (4, 2.0)], k=10)
    dense = 1 - LEXICAL_WEIGHT
    assert [id_ for id_, _ in fused] == [1, 2, 3, 4]
    assert [score for _, score in fused] == pytest.approx([dense, dense / 2, LEXICAL_WEIGHT, 0.0])


def test_fuse_takes_equal_scores_as_full_marks() -> None:
    assert fuse([(2, 0.4), (1, 0.4)], [], k=5) == [(1, 1 - LEXICAL_WEIGHT), (2, 1 - LEXICAL_WEIGHT)]
    assert fuse([], [(9, 3.0)], k=5) == [(9, LEXICAL_WEIGHT)]
    assert fuse([], [], k=5) == []


@given(ranked, ranked, st.integers(1, 40))
def test_fuse_is_a_ranked_list_of_the_union(
    dense: list[tuple[int, float]], lexical: list[tuple[int, float]], k: int
) -> None:
    fused = fuse(dense, lexical, k)
    union = {id_ for id_, _ in [*dense, *lexical]}
    assert {id_ for id_, _ in fused} <= union
    assert len(fused) == min(k, len(union))
    assert fused == rank(fused)
    assert all(-1e-9 <= score <= 1 + 1e-9 for _, score in fused)
    assert fused == fuse(dense, lexical, 100)[:k]


@given(ranked, ranked, st.randoms(use_true_random=False))
def test_fuse_knows_scores_not_positions(
    dense: list[tuple[int, float]], lexical: list[tuple[int, float]], source: random.Random
) -> None:
    shuffled = source.sample(dense, len(dense))
    assert fuse(dense, lexical, 50) == fuse(shuffled, lexical, 50)
    doubled = [(id_, 2 * score) for id_, score in lexical]
    assert fuse(dense, doubled, 50) == fuse(dense, lexical, 50)
