"""The token table: the embedding of each token. It stays in its file, but for the rows that texts have."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import CENTROIDS, Bundle
from edgeret.encode.manifest import Tensor, refuse
from edgeret.errors import BundleError

Float32 = NDArray[np.float32]

# The two entries, -8 to 7, that a byte of a table of 4 bits holds, low nibble first; 8 bytes an entry, so that
# one lookup gives both.
_NIBBLES: Final = np.stack(np.divmod(np.arange(256), 16)[::-1], axis=1).astype(np.float32) - 8
_PAIRS: Final = _NIBBLES.view(np.float64)[:, 0]

# What a byte may choose of, where the table has codes.
_CENTROIDS: Final = 256

# Texts have few tokens, again and again: so many rows are kept, with what Python keeps of each.
_KEPT: Final = 4096
_KEPT_BYTES: Final = 250


class TokenTable:
    """The token embeddings: int8 rows [vocabulary, dim], or uint8 [vocabulary, dim / 2], two entries in a byte.

    Or product codes (Jégou et al., 2011), uint8 [vocabulary, parts]: for each part of an embedding a byte chooses one
    of 256 centroids. scales: float32 [vocabulary], None beside codes. read: the bytes of a row, by its id; raises
    BundleError for an id that has none, or a cut file. Raises BundleError if they do not fit together.
    """

    def __init__(self, bundle: Bundle) -> None:
        found, self._width = bundle.placed("tokens"), bundle.token_width
        self._count = found.shape[0]
        self._is_packed = is_packed(bundle)
        self.scales: Any = None
        if is_coded(bundle):
            dtype, width = "uint8", found.shape[-1]
            if len(found.shape) != 2 or self._width % width:
                expected = f"'tokens' of codes, as many in a row as divide {self._width}"
                refuse(bundle.path, expected, f"{found.shape}")
            shape = (width, _CENTROIDS, self._width // width)
            # All below each other, so that one look-up finds those of all parts.
            halves = bundle.shaped(CENTROIDS, "float16", shape)
            self._centroids = halves.astype(np.float32).reshape(-1, shape[2])
            self._firsts = _CENTROIDS * np.arange(width)
        else:
            dtype, width = ("uint8", self._width // 2) if self._is_packed else ("int8", self._width)
            self.scales = bundle.shaped("token_scales", "float32", (self._count,))
        self._placed = bundle.fitting("tokens", dtype, (self._count, width))
        self.read = _reader(bundle, self._placed)
        self._row = lru_cache(_KEPT)(self.read)

    def take(self, ids: list[int]) -> Float32:
        """Token ids -> their embeddings, float32 [n, dim]. Raises BundleError for an id that has none."""
        width = self._placed.shape[1]
        rows = np.frombuffer(b"".join(map(self._row, ids)), self._placed.dtype).reshape(len(ids), width)
        if self.scales is None:
            return self._centroids.take(rows + self._firsts, axis=0).reshape(len(ids), self._width)
        values = _PAIRS.take(rows).view(np.float32) if self._is_packed else rows
        tokens: Float32 = values * self.scales.take(ids)[:, None]
        return tokens


def is_coded(bundle: Bundle) -> bool:
    """Whether the bundle's table has product codes. Raises BundleError for one that has scales too, or neither."""
    found = [name for name in ("token_scales", CENTROIDS) if name in bundle.manifest.tensors]
    if len(found) != 1:
        refuse(
            bundle.path, f"one of the tensors 'token_scales' and {CENTROIDS!r}", "both" if found else "none"
        )
    return found == [CENTROIDS]


def is_packed(bundle: Bundle) -> bool:
    """Whether the bundle's table has 4 bits an entry."""
    return bundle.placed("tokens").dtype == "uint8" and not is_coded(bundle)


def planned_bytes(bundle: Bundle) -> int:
    """What it adds to the process at most."""
    table, is_of_codes = bundle.placed("tokens"), is_coded(bundle)
    # Centroids have half the bytes in the file.
    beside = 2 * bundle.placed(CENTROIDS).nbytes if is_of_codes else bundle.placed("token_scales").nbytes
    if len(table.shape) != 2:
        refuse(bundle.path, "'tokens' as rows of one length", f"{table.shape}")
    count, width = table.shape
    return beside + min(count, _KEPT) * (width + _KEPT_BYTES)


def _reader(bundle: Bundle, placed: Tensor) -> Callable[[int], bytes]:
    """What reads the row of a token. It does not know its table, which ends with the last that has it, at once."""
    source, (count, width) = bundle.source(placed.file), placed.shape

    def read(id: int) -> bytes:
        if not 0 <= id < count:
            raise BundleError(
                f"expected token ids below {count}, got {id}: install or export the bundle again"
            )
        return source.read(width, placed.offset + width * id)

    return read
