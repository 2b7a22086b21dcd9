"""Fusion: one score of meaning and words that compares across queries, and the probability that a hit answers. Pure.

docs/scores.md says what both mean, `python -m benchmarks fusion` chooses their numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

POOL: Final = 100
"""Rows that both sides give together at the most; of as many documents, and no more, those among them are ranked."""

DEEPER: Final = 10
"""How many times deeper the next pool is, for documents beyond them."""

SPREADS: Final = 8.8
"""What a word counts in a query of one, in spreads: standard deviations of its cosines with unrelated texts."""

NEXT: Final = 10
"""A hit's margin is what its score has above the mean of so many behind it."""


class Relevance(NamedTuple):
    """The coefficients of a logistic: of a constant, the cosine, what words add to it, and the margin.

    unrelated: the cosine of a query with any text, far from 0 in some spaces.
    """

    constant: float
    cosine: float
    words: float
    margin: float
    unrelated: float = 0.0

    def probability(self, cosine: float, words: float, margin: float) -> float:
        """The probability that a hit with these `features` answers."""
        logit = self.constant + self.cosine * cosine + self.words * words + self.margin * margin
        return 1 / (1 + math.exp(-logit))


def features(
    cosine: float, ranked: Sequence[float], number: int, unrelated: float = 0.0
) -> tuple[float, float, float]:
    """What tells whether a hit answers: its cosine, what words add to it, and its margin.

    ranked: the scores of all hits, best first; number: which of them it is. Where fewer than NEXT follow, those that
    are missing count as `unrelated`.
    """
    behind = ranked[number + 1 : number + 1 + NEXT]
    total = sum(behind) + unrelated * (NEXT - len(behind))
    return cosine, ranked[number] - cosine, ranked[number] - total / NEXT


def words_weight(spread: float, evidence: float) -> float:
    """What the lexical score of a query counts beside the cosine.

    spread: of the model. evidence: what the query's words tell together, in words of which only one row has each: of
    more words the share that a passage has is smaller, and says more.
    """
    return SPREADS * spread * math.sqrt(evidence)


def pool(lists: Sequence[Sequence[int]], most: int) -> list[int]:
    """Of lists of rows, best first, the first rows of each, in turn, until so many are taken."""
    taken = dict.fromkeys(row for turn in zip_longest(*lists) for row in turn if row is not None)
    return list(taken)[:most]


def depth(documents: int) -> int:
    """How many rows are pooled for so many documents."""
    rows = POOL
    while rows < documents:
        rows *= DEEPER
    return rows


def relevance(geometry: str, query: str, documents: str, words: int) -> Relevance | None:
    """The coefficients for a query's bundle and that of the documents, by name, of one geometry; None if not known.

    words: the version of what a word is.
    """
    return _known().get((geometry, query, documents, words))


@cache
def _known() -> dict[tuple[str, str, str, int], Relevance]:
    content = json.loads(Path(__file__).with_name("relevance.json").read_bytes())
    return {
        (entry["geometry"], entry["query"], entry["documents"], entry["words"]): _read(entry)
        for entry in content
    }


def _read(entry: dict[str, Any]) -> Relevance:
    constant, cosine, words, margin = entry["logistic"]
    return Relevance(constant, cosine, words, margin, entry.get("unrelated", 0.0))
