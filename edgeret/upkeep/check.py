"""Check: whether every part of an index file agrees with every other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import Codec
from edgeret.errors import EngineError
from edgeret.reports import CheckSummary
from edgeret.search.snapshot import CodeSnapshot
from edgeret.storage import file
from edgeret.storage.rows import Passage
from edgeret.storage.store import Counters, Store

_BATCH_ROWS: Final = 1024
"""Passages in memory together; divides the rows of a block."""


def check(store: Store, codec: Codec, quick: bool) -> CheckSummary:
    """Read the whole file in one transaction, beside any writer; raises CorruptIndexError at the first contradiction.

    Every document's digest, every passage's checksum and span, every code against its vector, every
    live bit against its row, the lexicon against the texts, the counters against the tables.
    Raises SpaceMismatchError if the index has other codes by now, LockedError, StorageError.
    """
    try:
        return _check(store, codec, quick)
    except EngineError as error:
        if not file.contradicts(error):
            raise
        raise store.damaged(str(error.__cause__)) from error


def _check(store: Store, codec: Codec, quick: bool) -> CheckSummary:
    with store.reading() as state:
        store.check_pages(quick)
        _check_counters(store, state)
        full = len(store.codes.block_numbers())
        if not quick:
            store.rows.verify()
            _check_codes(store, state, codec)
            store.lexicon.verify()
    return CheckSummary(state.documents, state.passages, full, quick, "skipped" if quick else "verified")


def _check_counters(store: Store, state: Counters) -> None:
    documents, passages, last = store.rows.counts()
    if (documents, passages) != (state.documents, state.passages):
        raise store.damaged(
            f"expected {state.documents} documents and {state.passages} passages, found {documents} and {passages}"
        )
    if last >= state.next_row:
        raise store.damaged(f"row {last} lies past the last one, {state.next_row - 1}")


def _check_codes(store: Store, state: Counters, codec: Codec) -> None:
    picture = CodeSnapshot.none(resident_blocks=0).at(store, state)
    passages = _batches(store)
    for first_row, codes, live in picture.blocks(store):
        offsets = np.arange(codes.shape[1])
        if live is not None:
            offsets = blocks.offsets(live, codes.shape[1])
        for part in _parts(offsets):
            batch = next(passages, [])
            if [passage.row for passage in batch] != (first_row + part).tolist():
                raise store.damaged(f"the rows from {first_row} on and their codes are not the same")
            stored = np.frombuffer(b"".join(passage.vector for passage in batch), dtype=np.int8)
            expected = codec.encode(stored.reshape(len(batch), -1), store.bits)
            wrong = np.flatnonzero((expected != codes[:, part].T).any(axis=1))
            if len(wrong):
                row = first_row + part[wrong[0]]
                raise store.damaged(f"the code of row {row} is not that of its vector")
    if next(passages, None):
        raise store.damaged("there are passages without codes")


def _parts(offsets: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Offsets within a block, those of one batch at a time."""
    edges = np.flatnonzero(np.diff(offsets // _BATCH_ROWS)) + 1
    return (part for part in np.split(offsets, edges) if len(part))


def _batches(store: Store) -> Iterator[list[Passage]]:
    """All passages, verified, those of one batch of row numbers at a time."""
    batch: list[Passage] = []
    for passage in store.rows.each():
        if batch and passage.row // _BATCH_ROWS != batch[0].row // _BATCH_ROWS:
            yield batch
            batch = []
        batch.append(passage)
    if batch:
        yield batch
