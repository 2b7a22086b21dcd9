"""Merging and fusing ranked lists. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from edgeret.codec import Float64, Int64

LEXICAL_WEIGHT: Final = 0.3
"""What the words say against what the meaning says: the dense list is the stronger of the two."""

Scores = list[tuple[int, float]]
"""(id, score) pairs, best first; equal scores by id."""


def rank(scores: Iterable[tuple[int, float]], k: int | None = None) -> Scores:
    """Return the `k` highest scores (None: all), best first; ties by id, so that results repeat."""
    return sorted(scores, key=lambda pair: (-pair[1], pair[0]))[:k]


def best_per_document(rows: Int64, documents: Int64, scores: Float64) -> Int64:
    """The best passage of each document: their places, best first, equal scores by row; all arrays [n]."""
    order: Int64 = np.lexsort((rows, -scores))
    if len(set(documents.tolist())) == len(documents):
        return order
    best: dict[int, int] = {}
    for document, place in zip(documents[order].tolist(), order.tolist(), strict=True):
        best.setdefault(document, place)
    return np.fromiter(best.values(), np.int64, len(best))


def fuse(dense: Sequence[tuple[int, float]], lexical: Sequence[tuple[int, float]], k: int) -> Scores:
    """Fuse two lists of (id, score) into the `k` best: a convex combination of min-max scaled scores.

    Scores keep distances that ranks throw away, and one weight suffices (Bruch, Gai and Ingber, "An
    analysis of fusion functions for hybrid retrieval", TOIS 2023). An id absent from a list counts as
    that list's lowest score. Scores lie in 0..1 and compare within one result only; ties by id.
    """
    fused: dict[int, float] = {}
    for ranked, weight in ((dense, 1 - LEXICAL_WEIGHT), (lexical, LEXICAL_WEIGHT)):
        for id_, score in _scale(ranked):
            fused[id_] = fused.get(id_, 0.0) + weight * score
    return rank(fused.items(), k)


def _scale(ranked: Sequence[tuple[int, float]]) -> Iterable[tuple[int, float]]:
    low = min((score for _, score in ranked), default=0.0)
    high = max((score for _, score in ranked), default=0.0)
    return [(id_, (score - low) / (high - low) if high > low else 1.0) for id_, score in ranked]
