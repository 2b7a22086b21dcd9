"""Reranking: the first hits of a search in the order of another judge, who reads each with the query."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from edgeret.documents import Hit, rescore
from edgeret.door import numbers
from edgeret.errors import InvalidQueryError

Judge = Callable[[str, Sequence[str]], Any]
"""(query, texts) -> a score for each text, higher is better."""


def reranked(query: str, hits: Sequence[Hit], judge: Judge) -> list[Hit]:
    """The hits by the judge's scores, which they get; equal ones in their order.

    Raises InvalidQueryError for what are no scores.
    """
    if not hits:
        return []
    scores = numbers(judge(query, [hit.text for hit in hits]))
    if scores.shape != (len(hits),):
        raise InvalidQueryError(
            f"expected {len(hits)} scores of the reranker, got an array of shape {scores.shape}: return one for each"
        )
    found = [float(score) for score in scores]
    if not all(math.isfinite(score) for score in found):
        raise InvalidQueryError(
            "expected scores that are numbers, the reranker gave a NaN or an infinity: check it"
        )
    for hit, score in zip(hits, found, strict=True):
        rescore(hit, score)
    return sorted(hits, key=lambda hit: -hit.score)
