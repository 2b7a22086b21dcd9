"""Blocks: rows have numbers, 16,384 of them make a block, and chosen rows are bits, as NumPy and as SQL read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)

BLOCK_ROWS: Final = 16_384

Bitmap = NDArray[np.uint8]
"""One bit a row, the lowest bit first."""

Mask = Mapping[int, Bitmap]
"""Chosen rows: a bitmap of BLOCK_ROWS bits for each block, sealed or to be, that holds any."""

# By SQL alone: a function in Python would swallow what a signal handler raises.
_IS_SET: Final = (
    "CASE WHEN rowid < 8 * length(:bits) THEN"
    " instr(substr(:octets, 128 * (rowid & 7) + 1, 128), substr(:bits, (rowid >> 3) + 1, 1)) ELSE :beyond END"
)
"""Whether the bit of `rowid` is set in the blob `bits`; `beyond` for rows past its end."""

_IS_LISTED: Final = "+rowid IN (SELECT value FROM json_each(:rows)) = :listed"

_OCTETS_WITH: Final = b"".join(bytes(octet for octet in range(256) if octet >> bit & 1) for bit in range(8))
"""For each bit the 128 octets in which it is set."""

_SPARSE_BYTES: Final = 1 << 20
"""Bits of all rows may always take so much; more only where a list of the chosen ones would take as much."""

_LISTED_BYTES: Final = 16
"""Of a row in a list, about."""


def pack(flags: NDArray[np.bool_]) -> Bitmap:
    """Flags [..., n] as bits, uint8 [..., n / 8], rounded up; the last bits are zero."""
    return np.packbits(flags, axis=-1, bitorder="little")


def unpack(bits: Bitmap | bytes, count: int | None = None) -> NDArray[np.bool_]:
    """Bits [..., n / 8] as flags [..., n].

    count: only the first so many; None: all.
    """
    octets = np.frombuffer(bits, np.uint8) if isinstance(bits, bytes) else bits
    return np.unpackbits(octets, axis=-1, count=count, bitorder="little").astype(np.bool_, copy=False)


def offsets(bits: Bitmap | bytes, count: int | None = None) -> NDArray[np.intp]:
    """Where the bits are set, int64 [n]; arguments as of `unpack`."""
    return np.flatnonzero(unpack(bits, count))


def empty() -> Bitmap:
    """A bitmap of a block that chooses no row."""
    return np.zeros(BLOCK_ROWS // 8, dtype=np.uint8)


def are_set(bits: Bitmap, rows: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether the bits of rows [n] are set."""
    flags: NDArray[np.bool_] = (bits[rows >> 3] & _bit(rows)) != 0
    return flags


def choose(bits: Bitmap, rows: NDArray[np.integer]) -> None:
    """Set the bits of rows [n], which may be any."""
    np.bitwise_or.at(bits, rows >> 3, _bit(rows))


def choose_new(bits: Bitmap, rows: NDArray[np.integer]) -> bool:
    """Set the bits of rows [n], one or more, in ascending order; False, and none is set, if one of them was already."""
    octets, own = rows >> 3, _bit(rows)
    if (bits[octets] & own).any():
        return False
    first = np.flatnonzero(np.concatenate([[True], octets[1:] > octets[:-1]]))
    bits[octets[first]] |= np.bitwise_or.reduceat(own, first)
    return True


def distinct(numbers: NDArray[Number]) -> NDArray[Number]:
    """Numbers [n] in ascending order, each once. `np.unique` would import `numpy.ma`: 2 MB and some milliseconds."""
    ordered = np.sort(numbers)
    firsts = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=firsts[1:])
    return ordered[firsts]


def mask(rows: NDArray[np.integer]) -> Mask:
    """The mask of rows [n], which may be any."""
    found = {}
    for block in distinct(rows // BLOCK_ROWS).tolist():
        found[block] = empty()
        choose(found[block], rows[rows // BLOCK_ROWS == block] % BLOCK_ROWS)
    return found


def drop(bits: Bitmap, rows: NDArray[np.integer]) -> None:
    """Clear the bits of rows [n]."""
    np.bitwise_and.at(bits, rows >> 3, ~_bit(rows))


def _bit(rows: NDArray[np.integer]) -> Bitmap:
    bits: Bitmap = np.left_shift(1, rows & 7).astype(np.uint8)
    return bits


def count(mask: Mask) -> int:
    """How many rows a mask chooses."""
    return sum(int(unpack(bitmap).sum()) for bitmap in mask.values())


def both(one: Mask, other: Mask) -> Mask:
    """The rows that two masks choose."""
    return {block: bits & other[block] for block, bits in one.items() if block in other}


def less(mask: Mask, hidden: Mask) -> Mask:
    """The rows of a mask that another does not choose."""
    return {block: bits & ~hidden[block] if block in hidden else bits for block, bits in mask.items()}


def grouped(mask: Mask, rows: int) -> Mask:
    """The same rows, as bitmaps of `rows` bits: a multiple of those of a block here."""
    if rows == BLOCK_ROWS:
        return mask
    found: dict[int, Bitmap] = {}
    for block, bits in mask.items():
        whole = found.setdefault(block * BLOCK_ROWS // rows, np.zeros(rows // 8, np.uint8))
        first = block * BLOCK_ROWS % rows // 8
        whole[first : first + len(bits)] = bits
    return found


def condition(mask: Mask | None, hidden: Mask) -> tuple[str, dict[str, object]]:
    """The SQL condition on `rowid` for the rows of a mask less those hidden, and its parameters.

    mask: None chooses all.
    """
    told = hidden if mask is None else less(mask, hidden)
    octets = max((len(bitmap) for bitmap in told.values()), default=0)
    numbers = max(told, default=-1) + 1
    if numbers * octets > max(_SPARSE_BYTES, _LISTED_BYTES * count(told)):
        # Few rows, the last of them far out: numbers are never used again.
        return _IS_LISTED, {"rows": json.dumps(_rows(told)), "listed": mask is not None}
    bits = np.full((numbers, octets), 0xFF if mask is None else 0, np.uint8)
    for block, bitmap in told.items():
        bits[block] = ~bitmap if mask is None else bitmap
    return _IS_SET, {"bits": bits.tobytes(), "beyond": mask is None, "octets": _OCTETS_WITH}


def _rows(mask: Mask) -> list[int]:
    return [
        block * 8 * len(bitmap) + offset
        for block, bitmap in mask.items()
        for offset in offsets(bitmap).tolist()
    ]
