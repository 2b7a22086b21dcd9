"""Axes that are taken off a student's queries, so that they find documents of its teacher.

The vectors of such a space lie around a center, and those of a language around one of its own. A small student tells
less of what a text means than its teacher, and as much of these centers: among documents of the teacher, which differ
in how near to a center they lie, that part of a query outweighs the rest, though it is the same for every query. So
queries lose the axes along which languages differ most, and most of their center. Documents stay as they are, for they
may stand beside others'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from edgeret.codec import normalize
from export import languages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.training import Kinds

_LANGUAGES: Final = 10
"""Axes along which languages differ most, at most."""

_KEPT: Final = 0.6
"""Share of the center that a query keeps."""


def fit(vectors: NDArray[np.floating], kinds: Kinds) -> NDArray[np.float32]:
    """Axes, float32 [n, dim], of the teacher's vectors [texts, dim]: of a query q is left q - (q A^T) A."""
    sides = [kinds.around == side for side in (0, 1)]
    means = [languages.means(vectors[rows], kinds.languages[rows])[0] for rows in sides]
    apart = np.concatenate([found - found.mean(0) for found in means])
    # So many means lie in a space of one dim less; both sides' differ alike.
    count = min(_LANGUAGES, len(means[0]) - 1)
    spoken = np.linalg.svd(apart, full_matrices=False)[2][:count]
    center = means[1].mean(0)
    center -= center @ spoken.T @ spoken
    center *= ((1 - _KEPT) ** 0.5) / np.linalg.norm(center)
    return np.concatenate([spoken, center[None]]).astype(np.float32)


def taken_off(vectors: NDArray[np.float32], axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Queries [n, dim] without their axes, of unit length: as an encoder has them."""
    return normalize(vectors - vectors @ axes.T @ axes, vectors.shape[1])
