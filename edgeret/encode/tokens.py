"""The token table: the embedding of each token."""

from __future__ import annotations

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


class TokenTable:
    """The token embeddings: int8 rows [vocabulary, dim], or uint8 [vocabulary, dim / 2], two entries in a byte.

    scales: float32 [vocabulary]. Raises BundleError if they do not fit together.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.is_packed = is_packed(bundle)
        self.rows: NDArray[Any]
        if self.is_packed:
            count = bundle.placed("tokens").shape[0]
            self.rows = bundle.shaped("tokens", "uint8", (count, bundle.token_width // 2))
            self.scales = bundle.shaped("token_scales", "float32", (count,))
        else:
            self.rows, self.scales = bundle.token_table()

    def take(self, ids: list[int]) -> Float32:
        """Token ids -> their embeddings, float32 [n, dim]. Raises BundleError for an id that has none."""
        try:
            rows = self.rows.take(ids, axis=0)
        except IndexError as error:
            raise BundleError(
                f"expected token ids below {len(self.rows)}, got {max(ids)}: install or export the bundle again"
            ) from error
        values = _PAIRS.take(rows).view(np.float32) if self.is_packed else rows
        tokens: Float32 = values * self.scales.take(ids)[:, None]
        return tokens


def is_packed(bundle: Bundle) -> bool:
    """Whether the bundle's table has 4 bits an entry."""
    return bundle.placed("tokens").dtype == "uint8"
