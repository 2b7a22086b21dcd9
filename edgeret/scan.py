"""Exact top-k over packed codes: weighted Hamming distances, ties by row. No I/O.

Two builds of one function: a C kernel where the package was built with one, and a NumPy reference
that gives the same rows and distances bit for bit. `EDGERET_NO_NATIVE=1` forces the reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.errors import InvalidQueryError
from edgeret.native import is_allowed

try:
    from edgeret import _scan
except ImportError:
    _scan = None  # type: ignore[assignment]

UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]
UInt64 = NDArray[np.uint64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Nearest = tuple[Int64, Int32]

MAX_WORDS: Final = 16
MAX_PLANES: Final = 4
MAX_K: Final = 2**31 - 1

# Above every distance: (2**4 - 1) * 64 * 16 = 15,360.
_UNBOUNDED: Final = 0xFFFF


class Block(NamedTuple):
    """Codes of consecutive rows, word-major so that one vector register holds the same word of many rows.

    first_row: row number of the first code. codes: uint64 [words, rows], C-contiguous.
    live: uint8 [ceil(rows / 8)], bit i % 8 of byte i // 8 tells whether row i takes part; None: all do.
    """

    first_row: int
    codes: UInt64
    live: UInt8 | None = None


def backend() -> str:
    """Tell what runs the scan: "numpy", or "native-" and the instruction set, such as "native-avx512"."""
    isa = _native_isa()
    return "numpy" if isa is None else f"native-{isa}"


def instruction_sets() -> tuple[str, ...]:
    """Instruction sets that the native scan has code for and this machine runs, best first; none without it."""
    return () if _scan is None else _scan.isas()


def top_k(blocks: Iterable[Block], planes: UInt64, k: int) -> Nearest:
    """Return the k rows nearest to each query: int64 [queries, k'] rows, int32 [queries, k'] distances.

    blocks: in ascending order of rows; read once, whatever the number of queries, and each let go
    before the next is asked for, so a generator may stream them from a file. planes: uint64
    [queries, planes, words], C-contiguous, 1 to 4 planes of 1 to 16 words. The distance of a code is
    sum_j 2**j * popcount(planes[q, j] ^ code): one plane is the plain Hamming distance. Smallest
    first, ties by row ascending; k' = min(k, live rows, MAX_K).

    Raises InvalidQueryError for planes, blocks or numbers of another shape, dtype or range.
    """
    _check_planes(planes)
    if k < 1:
        raise InvalidQueryError(f"expected k of at least 1, got {k}: ask for one row or more")
    isa = _native_isa()
    return _scan_numpy(blocks, planes, k) if isa is None else _scan_native(blocks, planes, k, isa)


def _native_isa() -> str | None:
    if _scan is None or not is_allowed():
        return None
    return os.environ.get("EDGERET_SCAN_ISA") or _scan.isas()[0]


def _check_planes(planes: UInt64) -> None:
    _check_array(planes, np.uint64, (None, None, None), "planes as uint64 [queries, planes, words]")
    if not (1 <= planes.shape[1] <= MAX_PLANES and 1 <= planes.shape[2] <= MAX_WORDS):
        raise InvalidQueryError(
            f"expected 1 to {MAX_PLANES} planes of 1 to {MAX_WORDS} words, got {planes.shape[1]} of "
            f"{planes.shape[2]}: pass what the codec makes"
        )


def _scan_native(blocks: Iterable[Block], planes: UInt64, k: int, isa: str) -> Nearest:
    rows, distances = _scan.top_k(blocks, planes, min(k, MAX_K), isa)
    shape = (len(planes), -1 if len(planes) else 0)
    return np.frombuffer(rows, np.int64).reshape(shape), np.frombuffer(distances, np.int32).reshape(shape)


def _scan_numpy(blocks: Iterable[Block], planes: UInt64, k: int) -> Nearest:
    best = [_Best(k) for _ in planes]
    next_row = 0
    for block in blocks:
        next_row = _check_block(block, planes.shape[2], next_row)
        _scan_block(block, planes, best)
        del block  # a stream must not hold two at once
    nearest = [found.nearest() for found in best]
    if not nearest:
        return np.empty((0, 0), np.int64), np.empty((0, 0), np.int32)
    return np.stack([rows for rows, _ in nearest]), np.stack([distances for _, distances in nearest])


def _check_block(block: Block, words: int, next_row: int) -> int:
    """Return the first row that the following block may have."""
    if not isinstance(block, tuple) or len(block) != 3 or not isinstance(block[0], int | np.integer):
        raise InvalidQueryError("expected blocks as (first_row, codes, live): pass scan.Block")
    first_row, codes, live = block
    _check_array(codes, np.uint64, (words, None), "codes as uint64 [words, rows]")
    rows: int = codes.shape[1]
    if live is not None:
        _check_array(live, np.uint8, (-(-rows // 8),), "live as uint8 [ceil(rows / 8)]")
    end = int(first_row) + rows
    if not next_row <= first_row <= end < 2**63:
        raise InvalidQueryError(
            f"expected a block that starts at row {next_row} or later, got {first_row}: "
            "pass blocks in ascending order of rows"
        )
    return end


def _check_array(array: object, dtype: type, shape: tuple[int | None, ...], expected: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InvalidQueryError(f"expected {expected}, got {type(array).__name__}: pass a NumPy array")
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits or not array.flags.c_contiguous or not array.flags.aligned:
        raise InvalidQueryError(
            f"expected {expected}, here {list(shape)}, got {array.dtype} {list(array.shape)}: "
            "pass an aligned C-contiguous array of that dtype and shape"
        )


def _scan_block(block: Block, planes: UInt64, best: list[_Best]) -> None:
    first_row, codes, live = block
    rows = np.arange(codes.shape[1])
    is_live = np.ones(len(rows), np.bool_)
    if live is not None:
        is_live = blocks.unpack(live, len(rows))
        if 4 * np.count_nonzero(is_live) < len(rows):  # gathering a row costs as much as scanning a few
            rows = np.flatnonzero(is_live)
            codes, is_live = codes[:, rows], np.ones(len(rows), np.bool_)
    for query, found in zip(planes, best, strict=True):
        distances = _distances(codes, query)
        hits = np.flatnonzero((distances < found.bound) & is_live)
        if len(hits):
            found.add(first_row + rows[hits], distances[hits])


def _distances(codes: UInt64, query: UInt64) -> UInt16:
    """uint64 [words, rows], uint64 [planes, words] -> uint16 [rows]."""
    total = np.zeros(codes.shape[1], np.uint16)
    different = np.empty(codes.shape[1], np.uint64)
    for plane in query[::-1]:
        np.left_shift(total, 1, out=total)
        for column, word in zip(codes, plane, strict=True):
            np.bitwise_xor(column, word, out=different)
            np.add(total, _popcount(different), out=total)
    return total


if hasattr(np, "bitwise_count"):

    def _popcount(numbers: UInt64) -> UInt8:
        counts: UInt8 = np.bitwise_count(numbers)
        return counts

else:  # NumPy 1.26

    def _popcount(numbers: UInt64) -> UInt8:
        return _popcount_by_table(numbers)


def _popcount_by_table(numbers: UInt64) -> UInt8:
    quarters = _bits_of_16()[numbers.view(np.uint16)].view(np.uint32)
    # The product's top octet is the sum of its four octets.
    counts: UInt8 = (quarters * np.uint32(0x01010101) >> np.uint32(24)).astype(np.uint8)
    return counts


@cache
def _bits_of_16() -> UInt8:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    counts: UInt8 = blocks.unpack(numbers).sum(axis=1, dtype=np.uint8)
    return counts


class _Best:
    """The k smallest (distance, row) so far. Rows come in ascending order: only less than bound gets in."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.bound = _UNBOUNDED
        self._held = 0
        self._rows: list[Int64] = []
        self._distances: list[UInt16] = []

    def add(self, rows: Int64, distances: UInt16) -> None:
        self._rows.append(rows)
        self._distances.append(distances)
        self._held += len(rows)
        if self._held > 2 * self.k:
            self._shrink()

    def nearest(self) -> Nearest:
        if not self._held:
            return np.empty(0, np.int64), np.empty(0, np.int32)
        self._shrink()
        return self._rows[0].astype(np.int64), self._distances[0].astype(np.int32)

    def _shrink(self) -> None:
        rows, distances = np.concatenate(self._rows), np.concatenate(self._distances)
        # Equal distances stay in the order in which they came: kept ones first, and by row.
        order = np.argsort(distances, kind="stable")[: self.k]
        self._rows, self._distances, self._held = [rows[order]], [distances[order]], len(order)
        if len(order) == self.k:
            self.bound = int(distances[order[-1]])
