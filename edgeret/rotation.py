"""Rotation: the directions along which a codec takes signs, learned from vectors or drawn without any.

`learned`: center, whiten by half, and rotate blocks of dims so that the vectors come close to the corners of the cube:
ITQ, Gong and Lazebnik, "Iterative quantization" (CVPR 2011). The first block is wider than the shortest code, so that
a short prefix sketches more dims than it has bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import InvalidVectorError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WIDTHS: Final = (64, 128, 256, 384, 512, 768)
_LEAST_DIM: Final = 32
_ROUNDS: Final = 60
_MIXED: Final = 192
"""Dims that share the first rotation. Each wider code gets the dims that it adds in a rotation of their own."""
_WHITENED: Final = 0.25
"""Each axis is divided by its variance to this power: 0 leaves the axes as they are, .5 makes them weigh the same."""
_LEAST_VARIANCE: Final = 1e-5
_SHUFFLES: Final = 3


def possible(widths: Sequence[int], dim: int) -> list[int]:
    """Those of `widths` that codes of such vectors may have: below the least of them, `dim` is the only one.

    Raises InvalidVectorError for vectors that are too short to be found by their signs.
    """
    if dim < _LEAST_DIM:
        raise InvalidVectorError(
            f"expected vectors of at least {_LEAST_DIM} dims, got {dim}: choose a wider model"
        )
    return [bits for bits in widths if bits <= dim] or [dim]


def learned(vectors: Float32, seed: int, widths: Sequence[int]) -> tuple[Float64, Float64]:
    """The center [dim] of unit vectors [n, dim], and a projection [dim, widths[-1]] learned from them."""
    center, centered, axes, variances = principal(vectors)
    # A direction in which nothing varies is not blown up.
    whitening = axes / np.maximum(variances, variances[0] * _LEAST_VARIANCE) ** _WHITENED
    return center, rotated(centered, whitening, stops(widths), seed)


def stops(widths: Sequence[int]) -> list[int]:
    """Where blocks of dims end that a rotation mixes: the first is wider than the shortest code."""
    first = min(_MIXED, widths[-1])
    return [first, *(bits for bits in widths if bits > first)]


def principal(vectors: Float32) -> tuple[Float64, Float64, Float64, Float64]:
    """The center [dim], the rows less it, their principal axes [dim, dim] and variances [dim], largest first.

    Raises InvalidVectorError for vectors that are all the same.
    """
    center = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - center
    variances, axes = np.linalg.eigh(centered.T @ centered / max(len(vectors), 1))
    if not variances[-1] > 0:
        raise InvalidVectorError(
            f"expected vectors that differ, got {len(vectors)} that do not: pass those of some thousand texts"
        )
    return center, centered, axes[:, ::-1], variances[::-1]


def rotated(centered: Float64, basis: Float64, ends: Sequence[int], seed: int) -> Float64:
    """The projection [dim, ends[-1]]: the columns of `basis`, those up to each of `ends` rotated together."""
    rng = np.random.default_rng(seed)
    blocks = []
    for start, stop in zip([0, *ends], ends, strict=False):
        columns = basis[:, start:stop]
        blocks.append(columns @ _itq(centered @ columns, rng))
    return np.concatenate(blocks, axis=1)


def shuffled(dim: int, seed: int) -> Float64:
    """A rotation [dim, dim] that needs no vectors: signs, sums and differences, shuffled, three times.

    The same on every machine, bit for bit: it adds and multiplies entry by entry, and the stream of PCG64 is fixed.
    """
    drawn = np.random.PCG64(seed)
    power: int = 1 << (dim.bit_length() - 1)
    rotation = np.eye(dim)
    for _ in range(_SHUFFLES):
        rotation *= np.where(drawn.random_raw(dim) >> np.uint64(63), 1.0, -1.0)[:, None]
        # Two transforms that overlap: together they reach all entries.
        for rows in (rotation[:power], rotation[dim - power :]):
            _transform(rows)
        rotation = rotation[np.argsort(drawn.random_raw(dim), kind="stable")]
    return rotation


def _transform(rows: Float64) -> None:
    """The Walsh-Hadamard transform of each column of `rows` [a power of two, n], in place, of unit scale."""
    count, width = rows.shape
    half = 1
    while half < count:
        pairs = rows.reshape(-1, 2, half, width)
        low, high = pairs[:, 0].copy(), pairs[:, 1].copy()
        pairs[:, 0], pairs[:, 1] = low + high, low - high
        half *= 2
    rows /= np.sqrt(count)


def _itq(points: Float64, rng: np.random.Generator) -> Float64:
    """The rotation [d, d] that brings the directions of points [n, d] closest to their own signs."""
    dim = points.shape[1]
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(float).tiny)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(points.T @ np.sign(points @ rotation))
        rotation = left @ right
    return rotation
