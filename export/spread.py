"""Spread: how far the cosines of a query with unrelated texts lie apart. What words count follows from it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import MANIFEST
from edgeret.encode.records import deviation
from edgeret.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeret.encode.encoder import Encoder

TEXTS: Final = 500
_LEAST: Final = 3


def measure(encoder: Encoder, languages: Iterable[Sequence[str]]) -> float:
    """`deviation` in each language, in the mean: a search is mostly among texts of one.

    languages: of each some texts, drawn so that hardly any two have a topic in common. One with fewer than three is
    left out; if all are such, they count as one. Raises BundleError for fewer than three texts in all.
    """
    groups = list(languages)
    every = [text for texts in groups for text in texts]
    if len(every) < _LEAST:
        raise BundleError(f"expected {_LEAST} texts or more to measure the spread, found {len(every)}")
    known = [texts for texts in groups if len(texts) >= _LEAST] or [every]
    return round(float(np.mean([_within(encoder, texts) for texts in known])), 4)


def write(bundle: Bundle, spread: float) -> Bundle:
    """Put it into the manifest of a bundle; no other file is touched. Returns the bundle as it is now."""
    content = replace(bundle.manifest, spread=spread).as_json()
    with tempfile.TemporaryDirectory(dir=bundle.path.parent, prefix=f".{bundle.path.name}-") as scratch:
        fresh = Path(scratch, MANIFEST)
        fresh.write_text(content + "\n", encoding="utf-8")
        fresh.replace(bundle.path / MANIFEST)
    return Bundle.open(bundle.path)


def _within(encoder: Encoder, texts: Sequence[str]) -> float:
    documents = encoder.encode(texts)
    return deviation(encoder.encode_queries(texts) if encoder.sided else documents, documents)
