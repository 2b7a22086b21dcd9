"""The token table as a bundle holds it: integers, and a scale for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from export import convert
from export.table import KIND

if TYPE_CHECKING:
    from export.reranker import CrossEncoder
    from export.table import Table
    from export.teacher import Teacher

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]

# In 8 bits, a table of so many tokens would be larger than all layers of a small encoder: it gets 4.
MANY: Final = 1 << 16
_TOP: Final = 7
# The farthest entries of a row are cut off where that changes it less: shares of the largest.
_CUTS: Final = (0.9, 0.8, 0.7, 0.6)


class Rows(NamedTuple):
    """A table's rows, int8 [vocabulary, width], the scale of each, and whether they are kept in 4 bits an entry."""

    rows: Int8
    scales: Float32
    is_packed: bool

    @classmethod
    def of(cls, teacher: Teacher | Table | CrossEncoder) -> Rows:
        """The rows of a teacher: 4 bits an entry if a transformer has 65,536 tokens or more, else 8."""
        table = teacher.table
        if teacher.kind == KIND or len(table) < MANY:
            return cls(*convert.quantize_rows(table), False)
        rows, scales = convert.quantize_rows(table, _TOP)
        widest, least = scales.copy(), _lost(table, rows, scales)
        for share in _CUTS:
            narrow = widest * np.float32(share)
            tried = np.rint(table / narrow[:, None]).clip(-_TOP, _TOP).astype(np.int8)
            lost = _lost(table, tried, narrow)
            better = lost < least
            rows[better], scales[better], least[better] = tried[better], narrow[better], lost[better]
        return cls(rows, scales, True)

    def floats(self) -> Float32:
        """What an encoder reads, float32 [vocabulary, width]."""
        return self.rows * self.scales[:, None]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of a bundle's tokens.bin."""
        return {"tokens": packed(self.rows) if self.is_packed else self.rows, "token_scales": self.scales}


def packed(rows: Int8) -> NDArray[np.uint8]:
    """Entries from -7 to 7, int8 [n, dim] -> uint8 [n, dim / 2]: plus 8, two in a byte, the low nibble first."""
    nibbles = (rows + 8).astype(np.uint8)
    found: NDArray[np.uint8] = nibbles[:, ::2] | nibbles[:, 1::2] << 4
    return found


def _lost(table: Float32, rows: Int8, scales: Float32) -> Float32:
    lost: Float32 = np.square(rows * scales[:, None] - table).sum(axis=1)
    return lost
