"""The codec of a space, fitted to the teacher's vectors of plain text.

Center, PCA and, in blocks of dims, a rotation that brings the vectors close to the corners of the
cube: ITQ, Gong and Lazebnik, "Iterative quantization" (CVPR 2011). Blocks keep prefixes nested. The
queries' side is the same rotation, not rounded: the least-squares map from codes back to vectors, which
fits the text it was made from better, ranks the collections worse (docs/quality.md).
"""

from __future__ import annotations

import hashlib
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

WIDTHS: Final = (64, 128, 256, 384)
_ROUNDS: Final = 60
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
    """Fit the codec to unit vectors [n, dim]. Widths above dim are left out.

    Raises BundleError if none remains.
    """
    dim = vectors.shape[1]
    widths = [bits for bits in widths if bits <= dim]
    if not widths:
        raise BundleError(
            f"expected vectors of at least {min(WIDTHS)} dims, got {dim}: choose a wider teacher"
        )
    center = vectors.mean(axis=0, dtype=np.float64)
    centered = vectors - center
    axes = np.linalg.eigh(centered.T @ centered)[1][:, ::-1]
    rng = np.random.default_rng(seed)
    rotated = [
        axes[:, start:stop] @ _itq(centered @ axes[:, start:stop], rng)
        for start, stop in zip([0, *widths], widths, strict=False)
    ]
    projection = np.concatenate(rotated, axis=1)
    scale = np.iinfo(np.int16).max / np.abs(projection).max()
    integers = np.rint(projection * scale).astype(np.int16)
    # As bundles store it, so that a codec read back is this one.
    queries = projection.astype(np.float16).astype(np.float32)
    return Codec(
        projection=integers,
        thresholds=center @ integers.astype(np.float64),
        query_projection=queries,
        query_thresholds=(center @ projection).astype(np.float32),
        widths=tuple(widths),
    )


def _itq(points: Float64, rng: np.random.Generator) -> Float64:
    """The rotation [d, d] that brings points [n, d] closest to their own signs."""
    dim = points.shape[1]
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    for _ in range(_ROUNDS):
        left, _, right = np.linalg.svd(points.T @ np.sign(points @ rotation))
        rotation = left @ right
    return rotation
