"""Clustering: partitions for an index, of neighboring passages, from its stored vectors."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import Float32, Int8, dequantize, words
from edgeret.door import checked
from edgeret.errors import LockedError, StorageError
from edgeret.reports import OptimizeSummary, Progress
from edgeret.search.partitions import PAY_FROM, Parts, optimal, share
from edgeret.storage.newfile import replaced
from edgeret.storage.place import absolute
from edgeret.storage.sides import partitions_of, remove
from edgeret.storage.store import Store

_ATTEMPTS: Final = 3
"""How often they are made when the index's blocks are written anew meanwhile."""

_ROUNDS: Final = 8
_SAMPLED: Final = 64
"""Vectors for each partition that its centroid is learned from."""

_ROWS_AT_ONCE: Final = 4096
"""Vectors compared with all centroids together."""


@checked
def optimize(index: str | os.PathLike[str], progress: Progress | None = None) -> OptimizeSummary:
    """Write the partitions file beside an index, replacing an older one. Searches then scan a few partitions only.

    An inverted file over coarse centroids (Sivic and Zisserman, ICCV 2003; Jégou et al., TPAMI 2011), learned by
    spherical k-means over a sample (Dhillon and Modha, Machine Learning 2001; seed 0). It covers full blocks of
    16,384 passages; without a full block there is no file. It pays where there are millions: of fewer a search must
    read a large share, or it would lose answers.

    The index may be searched and changed meanwhile; what changes is scanned exhaustively. An open index uses the file
    when it is opened again. Takes 80 bytes of memory for each row and 100 kB for each partition.

    Args:
        index: The index file.
        progress: Called now and then as `progress(done, total)`, in steps. None calls nothing.

    Returns:
        The file's path, and how many rows and partitions it has.

    Raises:
        IndexMissingError: There is no file.
        NotAnIndexError: The file is something else.
        CorruptIndexError: The index is damaged.
        FormatVersionError: A newer edgeret wrote the index.
        StorageError: The medium refused.
        LockedError: Codes were erased or changed again and again meanwhile.
    """
    path = partitions_of(absolute(index))
    with closing(Store(absolute(index), readonly=True)) as store:
        for _ in range(_ATTEMPTS):
            parts = _made(store, progress)
            if parts is None:
                remove(path)
                return OptimizeSummary(str(path), 0, 0, 0, 0.0, False)
            size = _kept(store, parts, path)
            if size is not None:
                rows = len(parts.places)
                pays = rows >= PAY_FROM
                return OptimizeSummary(
                    str(path), rows, len(parts.centroids), size, round(share(rows), 3), pays
                )
    raise LockedError(
        f"the codes of '{index}' were written anew while partitions were made of them: try again"
    )


def _made(store: Store, progress: Progress | None) -> Parts | None:
    """Partitions of one state of the index; None if no block is full."""
    with store.reading():
        full_blocks = [_LiveRows(block, sealed, _alive(live)) for block, sealed, live in store.codes.blocks()]
        rows = sum(len(block.alive) for block in full_blocks)
        if not rows:
            return None
        count = optimal(rows)
        steps = _Steps(progress, _ROUNDS + 2 * len(full_blocks))
        centroids = _centroids(_sample(store, full_blocks, min(1.0, _SAMPLED * count / rows)), count, steps)
        chosen = np.full(len(full_blocks) * blocks.BLOCK_ROWS, -1, dtype=np.int32)
        for number, block in enumerate(full_blocks):
            vectors = store.rows.vectors(block.number)
            if len(vectors) != len(block.alive):
                raise store.damaged(
                    f"block {block.number} has {len(block.alive)} codes and {len(vectors)} vectors"
                )
            chosen[number * blocks.BLOCK_ROWS + block.alive] = _nearest(vectors, centroids)
            steps.done()
        return _arranged(store, full_blocks, centroids, chosen, steps)


def _kept(store: Store, parts: Parts, path: Path) -> int | None:
    """Put the file in its place, unless a block is not as it was by now: it may have been erased from. Its bytes."""
    try:
        with ExitStack() as until_it_is_there, replaced(path) as copy:
            parts.write(copy)
            # Who erases deletes partitions last, and not before this transaction has ended: whatever was erased
            # is seen here, or deleted after this.
            until_it_is_there.enter_context(store.reading())
            if not parts.hold(store):
                raise _OutdatedError
            return copy.stat().st_size
    except _OutdatedError:
        return None
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None  # Who erases deletes unfinished ones too.
        raise


class _OutdatedError(Exception):
    """What was made is not of the index as it is."""


class _LiveRows(NamedTuple):
    """A full block: when it was written, and the offsets of its live rows."""

    number: int
    sealed: int
    alive: NDArray[np.intp]


class _Steps:
    def __init__(self, progress: Progress | None, every: int) -> None:
        self._progress, self._every, self._count = progress, every, 0

    def done(self) -> None:
        self._count += 1
        if self._progress is not None:
            self._progress(self._count, self._every)


def _alive(live: bytes) -> NDArray[np.intp]:
    return blocks.offsets(live)


def _sample(store: Store, full_blocks: list[_LiveRows], share: float) -> Int8:
    """A share of each block's vectors, int8 [n, dim]."""
    rng = np.random.default_rng(0)
    drawn = [
        block.number * blocks.BLOCK_ROWS + offset
        for block in full_blocks
        for offset in np.sort(rng.permutation(block.alive)[: math.ceil(share * len(block.alive))]).tolist()
    ]
    octets = b"".join(store.rows.passage(row).vector for row in drawn)
    return np.frombuffer(octets, dtype=np.int8).reshape(-1, store.dim)


def _centroids(sample: Int8, count: int, steps: _Steps) -> Float32:
    """Unit vectors [count, dim]."""
    drawn = np.random.default_rng(0).choice(len(sample), count, replace=False)
    centroids = dequantize(sample[np.sort(drawn)])
    for _ in range(_ROUNDS):
        sums = np.zeros(centroids.shape)
        nearest = _nearest(sample, centroids)
        order = np.argsort(nearest, kind="stable")
        for start in range(0, len(order), _ROWS_AT_ONCE):
            rows = order[start : start + _ROWS_AT_ONCE]
            own, first = np.unique(nearest[rows], return_index=True)
            sums[own] += np.add.reduceat(dequantize(sample[rows]), first)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A centroid that no vector is near to stays where it is.
        means = sums / np.where(lengths > 0, lengths, 1)
        centroids = np.where(lengths > 0, means, centroids).astype(np.float32)
        steps.done()
    return centroids


def _nearest(vectors: Int8, centroids: Float32) -> NDArray[np.int32]:
    """The centroid of each vector: int32 [n]."""
    nearest = np.empty(len(vectors), dtype=np.int32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        nearest[part] = (dequantize(vectors[part]) @ centroids.T).argmax(axis=1)
    return nearest


def _arranged(
    store: Store, full_blocks: list[_LiveRows], centroids: Float32, chosen: NDArray[np.int32], steps: _Steps
) -> Parts:
    """The codes by partition. chosen: int32 [blocks * BLOCK_ROWS], the partition of each place, -1 for none."""
    width = words(store.bits)
    order = np.argsort(chosen, kind="stable")
    places = order[len(order) - sum(len(block.alive) for block in full_blocks) :]
    counts = np.bincount(chosen[places], minlength=len(centroids))
    starts = np.concatenate([[0], np.cumsum(counts)])
    position = np.empty(len(chosen), dtype=np.int64)
    position[places] = np.arange(len(places))
    codes = np.empty(width * len(places), dtype=np.uint64)
    stamps = []
    for number, block in enumerate(full_blocks):
        columns = store.codes.columns(block.number)
        taken = number * blocks.BLOCK_ROWS + block.alive
        own = chosen[taken]
        # Word by word within a partition: each word's codes stand side by side there.
        first = starts[own] * (width - 1) + position[taken]
        for word, column in enumerate(columns):
            codes[first + word * counts[own]] = column[block.alive]
        stamps.append((block.number, block.sealed, store.codes.stamp(block.number)))
        steps.done()
    return Parts(width, np.array(stamps, dtype=np.int64), centroids, starts, places.astype(np.uint32), codes)
