"""The token table: the embedding of each token."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle
from edgeret.errors import BundleError

Float32 = NDArray[np.float32]

# The two entries, -8 to 7, that a byte of a table of 4 bits holds, low nibble first; 8 bytes an entry, so that
# one lookup gives both.
_NIBBLES: Final = np.stack(np.divmod(np.arange(256), 16)[::-1], axis=1).astype(np.float32) - 8
_PAIRS: Final = _NIBBLES.view(np.float64)[:, 0]

_LARGE: Final = 1 << 24
# Texts have few tokens, again and again: so many rows are kept, with what Python keeps of each.
_KEPT: Final = 4096
_KEPT_BYTES: Final = 250


class TokenTable:
    """The token embeddings: int8 rows [vocabulary, dim], or uint8 [vocabulary, dim / 2], two entries in a byte.

    rows: None if they stay in the file. scales: float32 [vocabulary]. Raises BundleError if they do not fit together.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.is_packed = is_packed(bundle)
        dtype, width = ("uint8", bundle.token_width // 2) if self.is_packed else ("int8", bundle.token_width)
        count = bundle.placed("tokens").shape[0]
        bundle.fitting("tokens", dtype, (count, width))
        self.scales = bundle.shaped("token_scales", "float32", (count,))
        self.rows: Any = None
        if stays(bundle):
            self._read = _in_file(bundle, width, dtype)
        else:
            self.rows = bundle.tensor("tokens")
            self._read = partial(self.rows.take, axis=0)

    def take(self, ids: list[int]) -> Float32:
        """Token ids -> their embeddings, float32 [n, dim]. Raises BundleError for an id that has none."""
        try:
            scales = self.scales.take(ids)
        except IndexError as error:
            raise BundleError(
                f"expected token ids below {len(self.scales)}, got {max(ids)}: install or export the bundle again"
            ) from error
        rows = self._read(ids)
        values = _PAIRS.take(rows).view(np.float32) if self.is_packed else rows
        tokens: Float32 = values * scales[:, None]
        return tokens


def is_packed(bundle: Bundle) -> bool:
    """Whether the bundle's table has 4 bits an entry."""
    return bundle.placed("tokens").dtype == "uint8"


def stays(bundle: Bundle) -> bool:
    """Whether the table stays in its file, but for the rows that texts have: one of many languages, or of a graph.

    A graph takes so long for a text that to read its rows one by one costs nothing that could be measured.
    """
    return bundle.manifest.kind != "static" or bundle.placed("tokens").nbytes >= _LARGE


def planned_bytes(bundle: Bundle) -> int:
    """What it adds to the process at most."""
    if not stays(bundle):
        return bundle.manifest.files[bundle.placed("tokens").file].nbytes
    count, width = bundle.placed("tokens").shape
    return bundle.placed("token_scales").nbytes + min(count, _KEPT) * (width + _KEPT_BYTES)


def _in_file(bundle: Bundle, width: int, dtype: str) -> Callable[[list[int]], NDArray[Any]]:
    placed = bundle.placed("tokens")
    source = bundle.source(placed.file)
    row = lru_cache(_KEPT)(lambda id: source.read(width, placed.offset + width * id))
    return lambda ids: np.frombuffer(b"".join(map(row, ids)), dtype).reshape(len(ids), width)
