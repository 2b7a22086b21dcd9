"""What codes find: the share of the nearest by float vectors that is among the first by code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import quantize, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeret.codec import Codec


def recalls(
    codec: Codec, queries: NDArray[np.float32], documents: NDArray[np.float32], candidates: Sequence[int]
) -> dict[str, float]:
    """The mean of `shares` for each width and each of `candidates`. Keys are BITS@CANDIDATES."""
    return {
        f"{bits}@{count}": float(shares(codec, queries, documents, bits, count).mean())
        for bits in codec.widths
        for count in candidates
    }


def shares(
    codec: Codec, queries: NDArray[np.float32], documents: NDArray[np.float32], bits: int, candidates: int
) -> NDArray[np.float64]:
    """Of the ten documents nearest to each query by float, the share among the first `candidates` by code: [queries].

    queries, documents: unit vectors [n, dim].
    """
    exact = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    ranked = np.argsort(-scores(codec, queries, documents, bits), axis=1, kind="stable")[:, :candidates]
    return np.array([np.isin(best, row).mean() for best, row in zip(exact, ranked, strict=True)])


def scores(
    codec: Codec, queries: NDArray[np.float32], documents: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The scan's scores of unit vectors, float32 [queries, documents]: the higher, the nearer."""
    signs = unpack(codec.encode(quantize(documents), bits), bits).astype(np.float32) * 2 - 1
    found: NDArray[np.float32] = np.stack([_levels(codec, query, bits) for query in queries]) @ signs.T
    return found


def _levels(codec: Codec, query: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """The query as the scan weighs it: odd integers [bits]."""
    planes = unpack(codec.encode_query(query, bits), bits).astype(np.float32) * 2 - 1
    return 2.0 ** np.arange(len(planes), dtype=np.float32) @ planes
