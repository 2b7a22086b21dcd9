"""Candidates: the rows whose codes are nearest to queries, by all codes or by the partitions that are nearest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from edgeret.codec import Float32, UInt64
from edgeret.codes import Codes
from edgeret.masks import Mask, count
from edgeret.partitions import Coverage, Partitions
from edgeret.scan import Int64, top_k
from edgeret.store import Store


class Candidates(NamedTuple):
    """Rows, int64 [n], nearest first, and how many rows were scanned for them."""

    rows: Int64
    scanned: int


Finder = Callable[[Sequence[int], int, Mask | None], list[Candidates]]
"""Numbers of queries, how many candidates are wanted, rows that are not -> those of each.

There are fewer only where there are no more.
"""


def by_all_codes(store: Store, codes: Codes, planes: UInt64, mask: Mask | None, rows: int) -> Finder:
    """Scan every code once for all queries.

    planes: uint64 [queries, planes, words]. mask: rows outside of it are not found. rows: how many are left then.
    """

    def find(queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        left = mask if hidden is None else codes.left(mask, hidden)
        found, _ = top_k(codes.blocks(store, left), planes[queries], wanted)
        return [Candidates(nearest, rows if hidden is None else count(left or {})) for nearest in found]

    return find


def by_partitions(
    store: Store,
    codes: Codes,
    partitions: Partitions,
    coverage: Coverage,
    vectors: Float32,
    planes: UInt64,
    mask: Mask | None,
) -> Finder:
    """For each query scan the nearest partitions, and all codes that they do not cover.

    vectors: float32 [queries, dim]; the rest as in `by_all_codes`. Raises PartitionsError for damage, as they are read.
    """
    others = codes.without(coverage.blocks)

    def find(queries: Sequence[int], wanted: int, hidden: Mask | None) -> list[Candidates]:
        left = mask if hidden is None else codes.left(mask, hidden)
        covered = coverage if left is None else partitions.masked(coverage, left)
        uncovered = others.rows(left)

        def find_one(query: int) -> Candidates:
            near = partitions.nearest(vectors[query], planes[query], wanted, covered)
            rest, distances = top_k(others.blocks(store, left), planes[query][None], wanted)
            rows = np.concatenate([near.rows, rest[0]])
            order = np.lexsort((rows, np.concatenate([near.distances, distances[0]])))[:wanted]
            return Candidates(rows[order], near.scanned + uncovered)

        return [find_one(query) for query in queries]

    return find
