"""Spread: how far the cosines of unrelated texts lie apart. What words count beside them follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeret.encode.encoder import Encoder

TEXTS: Final = 500


def measure(encoder: Encoder, texts: Sequence[str]) -> float:
    """The standard deviation of the cosines between texts, drawn so that hardly any two have a topic in common."""
    vectors = encoder.encode(texts)
    pairs = np.triu_indices(len(vectors), 1)
    return round(float((vectors @ vectors.T)[pairs].std(dtype=np.float64)), 4)
