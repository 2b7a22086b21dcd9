"""Space: whether an encoder and an index fit, and what an index says of its encoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from edgeret import stems
from edgeret.codec import Codec, Float32
from edgeret.documents import Span
from edgeret.encode.records import TextEncoder, recorded_name
from edgeret.errors import BackendError, SpaceMismatchError
from edgeret.storage.description import Description
from edgeret.storage.store import Store


def check_space(store: Store, encoder: TextEncoder) -> None:
    """Raise SpaceMismatchError unless index and encoder are of one space, CorruptIndexError for another dim."""
    if store.description.space != encoder.space or store.bits not in encoder.codec.widths:
        raise mismatch(store, encoder)
    if store.dim != encoder.dim:
        raise store.damaged(f"vectors of dim {store.dim} in a space of dim {encoder.dim}")


def mismatch(store: Store, encoder: TextEncoder) -> SpaceMismatchError:
    """The error for an encoder of another space, with what makes the two fit."""
    difference, remedy = "another geometry", "re-encode it with 'edgeret reencode'"
    if store.description.geometry == encoder.geometry:
        difference, remedy = "another codec", "give it the codes of this one with 'edgeret recode'"
    return SpaceMismatchError(
        f"index '{store.path}' is of space {store.description.space[:8]} with {store.bits} bits, model "
        f"'{encoder.name}' is of space {encoder.space[:8]}, {difference}: open it with a model of its own space, "
        f"or {remedy}"
    )


def describe(
    encoder: TextEncoder, bits: int, filters: Sequence[str], language: str | None = stems.ENGLISH
) -> Description:
    """What a new index file says of itself."""
    return Description(
        recorded_name(encoder),
        encoder.space,
        encoder.geometry,
        encoder.dim,
        bits,
        list(filters),
        language=language,
        stemmer=stems.version(language),
    )


class Unloaded:
    """In the place of an index's encoder where nothing is encoded: what the index says of it, and nothing loaded."""

    def __init__(self, store: Store) -> None:
        self.name, self.space, self.geometry = store.description[:3]
        self.dim, self.passage_tokens = store.dim, 0
        self.planned_bytes: Mapping[str, int] = {}
        empty = np.empty((store.dim, 0))
        self.codec = Codec(
            empty.astype(np.int16),
            np.empty(0),
            empty.astype(np.float32),
            np.empty(0, np.float32),
            (store.bits,),
        )

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Unloaded:
        """Of the index at `path`. Raises as `Index.open` does."""
        with closing(Store(Path(path), readonly=True)) as store:
            return cls(store)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Never called: an index that is open for changes could, so it is refused."""
        raise BackendError(
            f"expected to encode nothing, got {len(texts)} texts: open the index with its model"
        )

    def token_spans(self, text: str) -> list[Span]:
        """Never called either."""
        raise BackendError(
            f"expected no text, got one of {len(text)} characters: open the index with its model"
        )
