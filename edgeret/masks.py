"""Masks: chosen rows, a bit for each, as NumPy and as SQL read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

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


def count(mask: Mask) -> int:
    """How many rows a mask chooses."""
    return sum(int(np.unpackbits(bitmap).sum()) for bitmap in mask.values())


def less(mask: Mask, hidden: Mask) -> Mask:
    """The rows of a mask that another does not choose."""
    return {block: bits & ~hidden[block] if block in hidden else bits for block, bits in mask.items()}


def condition(mask: Mask | None, hidden: Mask) -> tuple[str, dict[str, object]]:
    """The SQL condition on `rowid` for the rows of a mask less those hidden, and its parameters.

    mask: None chooses all.
    """
    told = hidden if mask is None else less(mask, hidden)
    octets = max((len(bitmap) for bitmap in told.values()), default=0)
    blocks = max(told, default=-1) + 1
    if blocks * octets > max(_SPARSE_BYTES, _LISTED_BYTES * count(told)):
        # Few rows, the last of them far out: numbers are never used again.
        return _IS_LISTED, {"rows": json.dumps(_rows(told)), "listed": mask is not None}
    bits = np.full((blocks, octets), 0xFF if mask is None else 0, np.uint8)
    for block, bitmap in told.items():
        bits[block] = ~bitmap if mask is None else bitmap
    return _IS_SET, {"bits": bits.tobytes(), "beyond": mask is None, "octets": _OCTETS_WITH}


def _rows(mask: Mask) -> list[int]:
    return [
        block * 8 * len(bitmap) + int(offset)
        for block, bitmap in mask.items()
        for offset in np.flatnonzero(np.unpackbits(bitmap, bitorder="little"))
    ]
