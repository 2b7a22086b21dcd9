"""What a codec is fitted to, and the codecs that `Codec.fit` is compared with.

The queries' side of a codec is the documents', not rounded: the least-squares map from codes back to vectors fits the
text it was made from better, and ranks the collections worse (docs/quality.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edgeret.codec import Codec, along
from edgeret.errors import BundleError
from edgeret.rotation import WIDTHS, possible, principal, rotated
from export import text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from edgeret.encode.encoder import Encoder

Float32 = NDArray[np.float32]

_CHUNK: Final = 2000


def sample(files: Sequence[Path], count: int, seed: int, exclude: Collection[str] = frozenset()) -> list[str]:
    """Draw `count` passages, as evenly from the files as their lengths allow; a passage a line.

    exclude: passages that must not be drawn. Raises BundleError if there are too few.
    """
    return [passage for _, chosen in _drawn(files, count, seed, exclude) for passage in chosen]


def sample_languages(
    files: Sequence[Path], count: int, seed: int, exclude: Collection[str] = frozenset()
) -> dict[str, list[str]]:
    """The passages of `sample` by their languages, as the names of the files have them."""
    found: dict[str, list[str]] = {}
    for file, chosen in _drawn(files, count, seed, exclude):
        found.setdefault(text.language(file), []).extend(chosen)
    return found


def _drawn(
    files: Sequence[Path], count: int, seed: int, exclude: Collection[str]
) -> list[tuple[Path, list[str]]]:
    rng = np.random.default_rng(seed)
    pools = []
    for file in files:
        lines = [line for line in text.lines(file) if line.strip() and line not in exclude]
        rng.shuffle(lines)
        pools.append((file, lines))
    pools.sort(key=lambda pool: len(pool[1]))
    chosen, left = [], count
    for number, (file, lines) in enumerate(pools):
        taken = lines[: left // (len(pools) - number)]
        chosen.append((file, taken))
        left -= len(taken)
    if left:
        raise BundleError(f"expected {count} passages of text, found {count - left}: give more text files")
    return chosen


def count(files: Sequence[Path]) -> int:
    """How many different passages there are to draw from."""
    return len({line for file in files for line in text.lines(file) if line.strip()})


def key(encoder: Encoder) -> str:
    """The key of a bundle's vectors in a cache: what it makes of its golden texts tells it from others of its space."""
    own = encoder.bundle.golden().own
    return f"{hashlib.sha256(own.tobytes()).hexdigest()} {encoder.backend}"


def encode(
    texts: Sequence[str],
    teacher: Callable[[Sequence[str]], Float32],
    key: str,
    cache: Path,
    dtype: type[np.floating] = np.float32,
) -> NDArray[Any]:
    """Texts -> the teacher's vectors [n, dim]; what was encoded before is read from `cache`.

    key: the teacher's fingerprint, or `key` of a bundle. dtype: in which they are kept and given back. An interrupted
    run goes on where it stopped.
    """
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    # On a terminal a bar says how far it is, of texts.
    shown = tqdm(range(0, len(texts), _CHUNK), unit_scale=_CHUNK, unit="text", disable=None)
    for start in shown:
        part = texts[start : start + _CHUNK]
        digest = hashlib.sha256("\0".join([key, *part]).encode()).hexdigest()[:32]
        path = cache / f"{digest}.npy"
        if not path.exists():
            fresh = path.with_suffix(".part.npy")
            np.save(fresh, teacher(part).astype(dtype))
            fresh.rename(path)
        parts.append(np.load(path))
    return np.concatenate(parts)


def ask_around(codec: Codec, queries: Float32) -> Codec:
    """The codec with its queries' center at the mean of these vectors [n, dim] of queries.

    Where a model reads something else before a query than before a document, both lie around centers of their own.
    """
    center = queries.mean(axis=0, dtype=np.float64)
    # A sum of zeros may be -0, on some machines: then it is 0 too.
    return replace(codec, query_thresholds=(center @ codec.query_projection + 0.0).astype(np.float32))


def fit_nested(vectors: Float32, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit nested ITQ: no whitening, and a block for each width. Raises as `Codec.fit` does."""
    widths = possible(widths, vectors.shape[1])
    center, centered, axes, _ = principal(vectors)
    return along(center, rotated(centered, axes, widths, seed), widths)


def fit_decoded(vectors: Float32, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit nested ITQ whose queries' side is the least-squares map from codes back to vectors. Raises so too."""
    nested = fit_nested(vectors, seed, widths)
    signs = np.where(vectors @ nested.projection.astype(np.float64) > nested.thresholds, 1.0, -1.0)
    decoder = np.linalg.solve(signs.T @ signs, signs.T @ (vectors - vectors.mean(axis=0, dtype=np.float64)))
    queries = (decoder.T / np.abs(decoder).max()).astype(np.float16).astype(np.float32)
    return replace(nested, query_projection=queries, query_thresholds=np.zeros(len(decoder), np.float32))
