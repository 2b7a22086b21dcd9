"""Candidates: the rows whose codes are nearest to queries, by all codes or by the partitions that are nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from edgeret.blocks import Mask, count
from edgeret.codec import Codec, Float32, UInt64
from edgeret.scan import Block, Int64, top_k
from edgeret.search.partitions import Coverage, Partitions
from edgeret.search.snapshot import CodeSnapshot
from edgeret.storage.store import Passage, Store

_CONFIRMED: Final = 4
"""Of the rows that partitions find for a query, how many are confirmed beside those that are shown."""


class Candidates(NamedTuple):
    """Rows, int64 [n], nearest first, and how many rows were scanned for them."""

    rows: Int64
    scanned: int


Finder = Callable[[Sequence[int], int, Mask | None], list[Candidates]]
"""Numbers of queries, how many candidates are wanted, rows that are not -> those of each.

There are fewer only where there are no more.
"""


def by_all_codes(store: Store, codes: CodeSnapshot, planes: UInt64, mask: Mask | None, rows: int) -> Finder:
    """Scan every code once for all queries.

    planes: uint64 [queries, planes, words]. mask: rows outside of it are not found. rows: how many are left then.
    """

    def find(queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        left = mask if hidden is None else codes.left(mask, hidden)
        found, _ = top_k(codes.blocks(store, left), planes[queries], wanted)
        return [Candidates(nearest, rows if hidden is None else count(left or {})) for nearest in found]

    return find


class ByPartitions:
    """A Finder that scans the nearest partitions for each query, and all codes that they do not cover.

    vectors: float32 [queries, dim]. k: documents wanted. The rest as in `by_all_codes`. Raises PartitionsError for
    damage, as they are read.
    """

    def __init__(
        self,
        store: Store,
        codes: CodeSnapshot,
        partitions: Partitions,
        coverage: Coverage,
        vectors: Float32,
        planes: UInt64,
        mask: Mask | None,
        k: int,
    ) -> None:
        self._store, self._codes, self._mask = store, codes, mask
        self._partitions, self._coverage = partitions, coverage
        self._vectors, self._planes, self._k = vectors, planes, k
        self._others = codes.without(coverage.blocks)
        self._distances: dict[int, dict[int, int]] = {}

    def __call__(self, queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        """As a Finder."""
        left = self._mask if hidden is None else self._codes.left(self._mask, hidden)
        covered = self._coverage if left is None else self._partitions.masked(self._coverage, left)
        uncovered = self._others.rows(left)

        def find_one(query: int) -> Candidates:
            near = self._partitions.nearest(
                self._vectors[query], self._planes[query], wanted, self._k, covered
            )
            told = zip(near.rows.tolist(), near.distances.tolist(), strict=True)
            self._distances.setdefault(query, {}).update(told)
            rest, distances = top_k(self._others.blocks(self._store, left), self._planes[query][None], wanted)
            rows = np.concatenate([near.rows, rest[0]])
            order = np.lexsort((rows, np.concatenate([near.distances, distances[0]])))[:wanted]
            return Candidates(rows[order], near.scanned + uncovered)

        return [find_one(query) for query in queries]

    def confirm(self, query: int, passages: Sequence[Passage], codec: Codec) -> None:
        """Raise PartitionsError unless the codes by which these were found are those of their vectors."""
        distances = self._distances.get(query, {})
        # The nearest ones too: where none of them is shown, their codes may be why.
        rows = dict.fromkeys(passage.row for passage in passages if passage.row in distances)
        rows.update(dict.fromkeys(list(distances)[:_CONFIRMED]))
        if rows:
            stored = b"".join(passage.vector for passage in self._store.passages(list(rows)))
            vectors = np.frombuffer(stored, dtype=np.int8).reshape(len(rows), -1)
            codes = np.ascontiguousarray(codec.encode(vectors, self._store.bits).T)
            order, right = top_k([Block(0, codes)], self._planes[query][None], len(rows))
            told = [distances[row] for row in rows]
            if [told[number] for number in order[0].tolist()] != right[0].tolist():
                raise self._partitions.damaged("codes that are not the index's")
