"""Masks: chosen rows, a bit for each, as NumPy and as SQL read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.uint8]
"""One bit a row, the lowest bit first."""

Mask = Mapping[int, Bitmap]
"""Chosen rows: a bitmap of BLOCK_ROWS bits for each block, sealed or to be, that holds any."""

# By SQL alone: a function in Python would swallow what a signal handler raises.
IS_CHOSEN: Final = (
    "CASE WHEN rowid < 8 * length(?2)"
    " THEN instr(substr(?4, 128 * (rowid & 7) + 1, 128), substr(?2, (rowid >> 3) + 1, 1)) ELSE ?3 END"
)
"""Whether the bit of `rowid` is set in ?2; ?3 for rows past its end. ?4 is OCTETS_WITH."""

OCTETS_WITH: Final = b"".join(bytes(octet for octet in range(256) if octet >> bit & 1) for bit in range(8))
"""For each bit the 128 octets in which it is set."""


def count(mask: Mask) -> int:
    """How many rows a mask chooses."""
    return sum(int(np.unpackbits(bitmap).sum()) for bitmap in mask.values())


def less(mask: Mask, hidden: Mask) -> Mask:
    """The rows of a mask that another does not choose."""
    return {block: bits & ~hidden[block] if block in hidden else bits for block, bits in mask.items()}


def chosen(mask: Mask | None, hidden: Mask, octets: int) -> tuple[bytes, bool]:
    """The bits of all rows from the first one on, for `IS_CHOSEN`, and what holds past their end.

    mask: None chooses all. hidden: rows that are not chosen. octets: of a bitmap.
    """
    bits = np.full(
        (max(hidden if mask is None else mask, default=-1) + 1, octets), 0xFF if mask is None else 0, np.uint8
    )
    for block, bitmap in (mask or {}).items():
        bits[block] = bitmap
    for block, bitmap in hidden.items():
        if block < len(bits):
            bits[block] &= ~bitmap
    return bits.tobytes(), mask is None
