"""The codec of a space, fitted to the teacher's vectors of plain text.

`fit`: center, whiten by half, and rotate blocks of dims so that the vectors come close to the corners of the cube: ITQ,
Gong and Lazebnik, "Iterative quantization" (CVPR 2011). The first block is wider than the shortest code, so that a
short prefix sketches more dims than it has bits. The queries' side is the documents', not rounded: the least-squares
map from codes back to vectors fits the text it was made from better, and ranks the collections worse
(docs/quality.md). `fit_nested` and `fit_decoded` are what it is compared with.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec
from edgeret.errors import BundleError
from export import text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

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
_CHUNK: Final = 2000


def sample(files: Sequence[Path], count: int, seed: int, exclude: Collection[str] = frozenset()) -> list[str]:
    """Draw `count` passages, as evenly from the files as their lengths allow; a passage a line.

    exclude: passages that must not be drawn. Raises BundleError if there are too few.
    """
    rng = np.random.default_rng(seed)
    pools = []
    for file in files:
        lines = [line for line in text.lines(file) if line.strip() and line not in exclude]
        rng.shuffle(lines)
        pools.append(lines)
    chosen: list[str] = []
    for left, pool in zip(range(len(pools), 0, -1), sorted(pools, key=len), strict=True):
        chosen += pool[: (count - len(chosen)) // left]
    if len(chosen) < count:
        raise BundleError(f"expected {count} passages of text, found {len(chosen)}: give more text files")
    return chosen


def encode(
    texts: Sequence[str],
    teacher: Callable[[Sequence[str]], Float32],
    key: str,
    cache: Path,
    dtype: type[np.floating] = np.float32,
) -> NDArray[Any]:
    """Texts -> the teacher's vectors [n, dim]; what was encoded before is read from `cache`.

    key: the teacher's fingerprint. dtype: in which they are kept and given back. An interrupted run goes on
    where it stopped.
    """
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        digest = hashlib.sha256("\0".join([key, *part]).encode()).hexdigest()[:32]
        path = cache / f"{digest}.npy"
        if not path.exists():
            fresh = path.with_suffix(".part.npy")
            np.save(fresh, teacher(part).astype(dtype))
            fresh.rename(path)
        parts.append(np.load(path))
    return np.concatenate(parts)


def fit(vectors: Float32, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit the codec to unit vectors [n, dim]. Widths above dim are left out; below the least, dim is the only one.

    Raises BundleError for vectors that are too short to be found by their signs.
    """
    widths = _possible(widths, vectors.shape[1])
    first = min(_MIXED, widths[-1])
    center, centered, axes, variances = _axes(vectors)
    # A direction in which nothing varies is not blown up.
    whitening = axes / np.maximum(variances, variances[0] * _LEAST_VARIANCE) ** _WHITENED
    stops = [first, *(bits for bits in widths if bits > first)]
    return _codec(center, _rotated(centered, whitening, stops, seed), widths)


def fit_nested(vectors: Float32, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit nested ITQ: no whitening, and a block for each width. Raises as `fit` does."""
    widths = _possible(widths, vectors.shape[1])
    center, centered, axes, _ = _axes(vectors)
    return _codec(center, _rotated(centered, axes, widths, seed), widths)


def fit_decoded(vectors: Float32, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit nested ITQ whose queries' side is the least-squares map from codes back to vectors. Raises as `fit` does."""
    nested = fit_nested(vectors, seed, widths)
    signs = np.where(vectors @ nested.projection.astype(np.float64) > nested.thresholds, 1.0, -1.0)
    decoder = np.linalg.solve(signs.T @ signs, signs.T @ (vectors - vectors.mean(axis=0, dtype=np.float64)))
    queries = (decoder.T / np.abs(decoder).max()).astype(np.float16).astype(np.float32)
    return replace(nested, query_projection=queries, query_thresholds=np.zeros(len(decoder), np.float32))


def _possible(widths: Sequence[int], dim: int) -> list[int]:
    if dim < _LEAST_DIM:
        raise BundleError(
            f"expected vectors of at least {_LEAST_DIM} dims, got {dim}: choose a wider teacher"
        )
    return [bits for bits in widths if bits <= dim] or [dim]


def _axes(vectors: Float32) -> tuple[Float64, Float64, Float64, Float64]:
    """The center [dim], the rows less it, their principal axes [dim, dim] and variances [dim], largest first."""
    center = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - center
    variances, axes = np.linalg.eigh(centered.T @ centered / len(vectors))
    return center, centered, axes[:, ::-1], variances[::-1]


def _rotated(centered: Float64, basis: Float64, stops: Sequence[int], seed: int) -> Float64:
    """The projection [dim, stops[-1]]: the columns of `basis`, those up to each of `stops` rotated together."""
    rng = np.random.default_rng(seed)
    blocks = []
    for start, stop in zip([0, *stops], stops, strict=False):
        columns = basis[:, start:stop]
        blocks.append(columns @ _itq(centered @ columns, rng))
    return np.concatenate(blocks, axis=1)


def _codec(center: Float64, projection: Float64, widths: Sequence[int]) -> Codec:
    # A bit does not change with its column's scale, and columns of one scale lose least by rounding.
    columns = projection * (np.iinfo(np.int16).max / np.abs(projection).max(axis=0))
    integers = np.rint(columns).astype(np.int16)
    # As bundles store it, so that a codec read back is this one.
    queries = (projection / np.abs(projection).max()).astype(np.float16).astype(np.float32)
    return Codec(
        projection=integers,
        thresholds=center @ integers.astype(np.float64),
        query_projection=queries,
        query_thresholds=(center @ queries.astype(np.float64)).astype(np.float32),
        widths=tuple(widths),
    )


def _itq(points: Float64, rng: np.random.Generator) -> Float64:
    """The rotation [d, d] that brings the directions of points [n, d] closest to their own signs."""
    dim = points.shape[1]
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(float).tiny)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(points.T @ np.sign(points @ rotation))
        rotation = left @ right
    return rotation
