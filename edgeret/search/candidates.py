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
from edgeret.storage.store import Store

_CONFIRMED: Final = 4
"""Of the rows that partitions find for a query, how many are confirmed beside those that are shown."""


class Request(NamedTuple):
    """Queries, encoded, and what is asked for each.

    vectors: float32 [queries, dim], unit rows. planes: uint64 [queries, planes, words]. mask: rows outside of it are
    not found; None lets all be. rows: how many may be found. k: documents. oversample: candidates, as a multiple of k.
    """

    vectors: Float32
    planes: UInt64
    mask: Mask | None
    rows: int
    k: int
    oversample: int


class Candidates(NamedTuple):
    """Rows, int64 [n], nearest first, and how many rows were scanned for them."""

    rows: Int64
    scanned: int


Finder = Callable[[Sequence[int], int, Mask | None], list[Candidates]]
"""Numbers of queries, how many candidates are wanted, rows that are not -> those of each.

There are fewer only where there are no more.
"""


def by_all_codes(store: Store, codes: CodeSnapshot, request: Request) -> Finder:
    """Scan every code once for all queries."""

    def find(queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        left = request.mask if hidden is None else codes.left(request.mask, hidden)
        scanned = request.rows if hidden is None else count(left or {})
        planes = request.planes
        found, _ = top_k(
            codes.blocks(store, left), planes if len(queries) == len(planes) else planes[queries], wanted
        )
        return [Candidates(nearest, scanned) for nearest in found]

    return find


class ByPartitions:
    """A Finder that scans the nearest partitions for each query, and all codes that they do not cover.

    Raises PartitionsError for damage, as they are read.
    """

    def __init__(
        self,
        store: Store,
        codes: CodeSnapshot,
        partitions: Partitions,
        coverage: Coverage,
        request: Request,
    ) -> None:
        self._store, self._codes = store, codes
        self._partitions, self._coverage = partitions, coverage
        self._request = request
        self._others = codes.without(coverage.blocks)
        self._distances: dict[int, dict[int, int]] = {}

    def __call__(self, queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        """As a Finder."""
        vectors, planes, mask, _, k, _ = self._request
        left = mask if hidden is None else self._codes.left(mask, hidden)
        covered = self._coverage if left is None else self._partitions.masked(self._coverage, left)
        uncovered = self._others.rows(left)

        def find_one(query: int) -> Candidates:
            near = self._partitions.nearest(vectors[query], planes[query], wanted, k, covered)
            told = zip(near.rows.tolist(), near.distances.tolist(), strict=True)
            self._distances.setdefault(query, {}).update(told)
            rest, distances = top_k(self._others.blocks(self._store, left), planes[query][None], wanted)
            rows = np.concatenate([near.rows, rest[0]])
            order = np.lexsort((rows, np.concatenate([near.distances, distances[0]])))[:wanted]
            return Candidates(rows[order], near.scanned + uncovered)

        return [find_one(query) for query in queries]

    def confirm(self, query: int, shown: Sequence[int], codec: Codec) -> None:
        """Raise PartitionsError unless the codes by which these rows were found are those of their vectors."""
        distances = self._distances.get(query, {})
        # The nearest ones too: where none of them is shown, their codes may be why.
        rows = dict.fromkeys(row for row in shown if row in distances)
        rows.update(dict.fromkeys(list(distances)[:_CONFIRMED]))
        if rows:
            vectors = self._store.rows.lines(np.array(list(rows), np.int64)).vectors
            codes = np.ascontiguousarray(codec.encode(vectors, self._store.bits).T)
            order, right = top_k([Block(0, codes)], self._request.planes[query][None], len(rows))
            told = [distances[row] for row in rows]
            if [told[number] for number in order[0].tolist()] != right[0].tolist():
                raise self._partitions.damaged("codes that are not the index's")
