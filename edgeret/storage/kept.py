"""Kept: passages of a small index that stay in memory once they were read and verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edgeret.codec import Int8, Int64
from edgeret.plan import KEPT_BYTES, KEPT_HEAD_BYTES


class Lines(NamedTuple):
    """Passages as arrays.

    heads: int64 [n, 4], of each its row, the document's number, and the span in its text. vectors: int8 [n, dim].
    """

    heads: Int64
    vectors: Int8


class Kept:
    """Passages by their rows: a row is never another passage's, so what was read of it stays true.

    dim: of a vector.

    Attributes:
        rows: There is room for rows below this.
    """

    def __init__(self, dim: int) -> None:
        self.rows = KEPT_BYTES // (dim + KEPT_HEAD_BYTES)
        # Zeros that nobody has touched take no memory.
        self._lines = Lines(np.zeros((self.rows, 4), np.int64), np.zeros((self.rows, dim), np.int8))
        self._are_here = np.zeros(self.rows, np.bool_)

    def lines(self, rows: Int64, read: Callable[[Int64], Lines]) -> Lines:
        """The passages of `rows`, int64 [n], all below `rows`; `read` gives those that are not here yet."""
        heads, vectors = self._lines
        missing = rows[~self._are_here[rows]]
        if len(missing):
            heads[missing], vectors[missing] = read(missing)
            # Last: another thread may look.
            self._are_here[missing] = True
        return Lines(heads[rows], vectors[rows])
