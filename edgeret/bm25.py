"""BM25 in integers: what a passage says of a word in one octet, and what that counts. No I/O.

A score is the sum over a query's words of `weight` times what `impacts` says of the row's mark. Both follow from counts
of live rows alone, so that any history of an index ends in the scores of a fresh one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise
from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

WEIGHT: Final = 1024
"""The weight of a word per unit of its inverse document frequency."""

IMPACT: Final = 255
"""The impact that no mark reaches, of a word that stands without end."""

COUNTS: Final = (1, 2, 3, 4, 5, 7, 10, 16)
"""How often a word stands in a passage, as marks know it: the nearest of these by ratio."""

LENGTHS: Final[tuple[int, ...]] = (*range(1, 9), *(round(8 * 2.0 ** (step / 4)) for step in range(1, 25)))
"""How many words a passage has, as marks know it."""


def _edges(values: tuple[int, ...]) -> list[int]:
    """From where on the next value is the nearer one."""
    return [isqrt(low * high - 1) + 1 for low, high in pairwise(values)]


_COUNT_EDGES: Final = _edges(COUNTS)
_LENGTH_EDGES: Final = _edges(LENGTHS)


_COUNT_BITS: Final = [bisect_right(_COUNT_EDGES, count) << 5 for count in range(COUNTS[-1] + 1)]
_SHORT_BITS: Final = [
    len(LENGTHS) - 1 - bisect_right(_LENGTH_EDGES, words) for words in range(LENGTHS[-1] + 1)
]


def mark(count: int, length: int) -> int:
    """What a passage of `length` words says of a word that stands `count` times in it: an octet.

    The upper three bits tell the count, the others how short the passage is, so that more of either never counts less.
    """
    return _COUNT_BITS[min(count, COUNTS[-1])] | _SHORT_BITS[min(length, LENGTHS[-1])]


_MARKS: Final = [
    bytes(count | short for count in _COUNT_BITS).ljust(256, bytes([_COUNT_BITS[-1] | short]))
    for short in range(len(LENGTHS))
]
"""For each length the marks of counts."""


def marks(counts: Collection[int], length: int) -> bytes:
    """The marks of words that stand `counts` times in one passage of `length` words."""
    own = _MARKS[_SHORT_BITS[min(length, LENGTHS[-1])]]
    try:
        return bytes(counts).translate(own)
    except ValueError:
        return bytes(min(count, 255) for count in counts).translate(own)


@lru_cache(maxsize=4)
def impacts(rows: int, length: int) -> NDArray[np.uint8]:
    """What each mark counts in an index of `rows` passages with `length` words in all: uint8 [256], from 1 on.

    count / (count + k1 * (1 - b + b * passage / average)) of BM25 with k1 = 1.2 and b = .75, times IMPACT and rounded.
    """
    marks = np.arange(256)
    counts, passages = np.array(COUNTS)[marks >> 5], np.array(LENGTHS[::-1])[marks & 31]
    # Times ten times the length of all, so that it is a fraction of integers.
    part = 10 * counts * max(length, 1)
    whole = part + 3 * max(length, 1) + 9 * passages * rows
    found: NDArray[np.uint8] = np.maximum(1, (2 * IMPACT * part + whole) // (2 * whole)).astype(np.uint8)
    return found


def weight(rows: int, total: int) -> int:
    """The weight of a word that `rows` of `total` rows have: its inverse document frequency, rounded; from 1 on."""
    return max(1, round(WEIGHT * math.log(1 + (total - rows + 0.5) / (rows + 0.5))))


def least(total: int) -> int:
    """What the weights of a query count together at the least, so that function words alone do not make a match."""
    return max(1, round(WEIGHT * 0.5 * math.log(max(total, 1))))
