"""Recode: new codes from the stored vectors, for another codec of the same geometry or another length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import UInt64
from edgeret.door import checked
from edgeret.encode.records import TextEncoder, load_for, recorded_name
from edgeret.plan import Plan, parse_bytes
from edgeret.reports import Progress, RecodeSummary
from edgeret.space import mismatch
from edgeret.storage.change import Change
from edgeret.storage.migration import open_to_write
from edgeret.storage.place import absolute
from edgeret.storage.store import Store

_BATCH_ROWS: Final = 256
"""Passages in memory together."""


@checked
def recode(
    path: str | os.PathLike[str],
    model: str | os.PathLike[str] | TextEncoder | None = None,
    bits: int | None = None,
    memory_budget: str | int | None = None,
    wait: float = 0.0,
    progress: Progress | None = None,
) -> RecodeSummary:
    """Replace all codes of an index by those of another codec of the same geometry, or of another length.

    They are made from the stored vectors: no text is encoded; ids, texts, vectors and words stay. It is one
    transaction: searches go on with the old codes until it commits. An index that is open elsewhere then raises
    SpaceMismatchError on its next call, until it is opened again.

    Args:
        path: The index file.
        model: A bundle's name or folder, or an encoder, whose codec is used; the index's model from then on. None
            keeps its own.
        bits: Length of the new codes in bits. None keeps it.
        memory_budget: As in `Index.create`. None sets no bound.
        wait: Seconds to wait for another writer. 0 waits for none.
        progress: Called now and then as `progress(done, total)`, in passages. None calls nothing.

    Returns:
        The index's model, space and bits now, and how many passages have a new code.

    Raises:
        SpaceMismatchError: The model belongs to another geometry.
        InvalidQueryError: The codec lacks these bits.
        LockedError: Another writer is at work.
        EdgeretError: What `Index.open` raises.
    """
    return open_to_write(absolute(path), wait).use_once(
        lambda store: _recode(
            store, load_for(model, store.path, store.description.model), bits, memory_budget, progress
        )
    )


def _recode(
    store: Store,
    encoder: TextEncoder,
    bits: int | None,
    memory_budget: str | int | None,
    progress: Progress | None,
) -> RecodeSummary:
    """Change all codes in one transaction, which `store`, described as it was, does not survive.

    bits: None keeps the length. Raises SpaceMismatchError for an encoder of another geometry, InvalidQueryError
    for bits that its codec lacks, BudgetError, CorruptIndexError if vectors and codes are not of the same rows,
    LockedError, StorageError.
    """
    if store.description.geometry != encoder.geometry:
        raise mismatch(store, encoder)
    if store.dim != encoder.dim:
        raise store.damaged(f"vectors of dim {store.dim} in a geometry of dim {encoder.dim}")
    bits = store.bits if bits is None else bits
    encoder.codec.check_bits(bits)
    budget = None if memory_budget is None else parse_bytes(memory_budget)
    codec_bytes = encoder.codec.planned_bytes(bits, _BATCH_ROWS)
    store.resize_cache(Plan.of_recode(bits, codec_bytes, budget).writing_cache_bytes)
    done = 0
    if (store.description.space, store.bits) != (encoder.space, bits):
        with store.writing() as state:
            change = Change(store, state)
            for count in change.recode(bits, partial(_encoded, store, encoder, bits)):
                done += count
                if progress is not None:
                    progress(done, state.passages)
            if done != state.passages:
                raise store.damaged(f"expected {state.passages} passages with a code, found {done}")
            change.describe(
                store.description._replace(model=recorded_name(encoder), space=encoder.space, bits=bits)
            )
            change.finish()
    return RecodeSummary(str(store.path), encoder.name, encoder.space, bits, done)


def _encoded(
    store: Store, encoder: TextEncoder, bits: int, first: int, stop: int
) -> Iterator[tuple[NDArray[np.int64], UInt64]]:
    """Rows int64 [n] from `first` on to before `stop`, some at a time, and their codes, uint64 [n, words]."""
    for passages in store.rows.batches(first, stop, _BATCH_ROWS):
        vectors = np.frombuffer(b"".join(passage.vector for passage in passages), dtype=np.int8)
        codes = encoder.codec.encode(vectors.reshape(len(passages), -1), bits)
        yield np.array([passage.row for passage in passages], dtype=np.int64), codes
