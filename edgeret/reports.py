"""What an index tells of itself, and calls of what they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeret.documents import Hit

Progress = Callable[[int, int], object]
"""Is told how many passages, documents or steps are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Info:
    """What an index is.

    Sizes in bytes, the write-ahead log included. space, geometry: fingerprints. covered: passages that partitions
    cover; fallback: why those that are there are not used. scan: the kernel.
    """

    path: str
    model: str
    space: str
    geometry: str
    dim: int
    bits: int
    filters: list[str]
    documents: int
    passages: int
    generation: int
    format: int
    file_bytes: int
    bytes_per_doc: float
    planned_bytes: int
    codes_resident: bool
    covered: int
    fallback: str
    scan: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A search and what it took: counts, and milliseconds of each stage.

    scanned: codes that were compared. search: "exact", or "partitions" where those of `optimize` were used. covered:
    passages that they cover; all others are compared. fallback: why partitions that are there were not used.
    query_windows: passages that the query was encoded as, their mean being its vector: more than 1 where it is longer
    than the model reads, 0 where no text was encoded. query_known: whether the model knows a word of it; where it does
    not, such as for an emoji, only documents with the same unknown symbols are near it by meaning.
    """

    hits: list[Hit]
    documents: int
    passages: int
    eligible: int
    candidates: int
    scanned: int
    search: str
    covered: int
    fallback: str
    encode_ms: float
    filter_ms: float
    search_ms: float
    fetch_ms: float
    query_windows: int
    query_known: bool


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """What `check` looked at.

    quick: only SQLite's own structures and the counters. lexicon: "verified" against the texts, "counted"
    (the file is read-only, and FTS5 verifies only where it may write), or "skipped" (quick).
    """

    documents: int
    passages: int
    blocks: int
    quick: bool
    lexicon: str


@dataclass(frozen=True, slots=True)
class RecodeSummary:
    """What `recode` made of the index at `path`: its model, space and bits now.

    passages: how many have a new code; 0 if all were of this space and length before.
    """

    path: str
    model: str
    space: str
    bits: int
    passages: int


@dataclass(frozen=True, slots=True)
class ReencodeSummary:
    """What `reencode` made of the index at `path`: its model, space and bits now.

    encoded: documents that this run has encoded; those of an interrupted one before were kept. own_vectors_lost: ids
    of documents that came with a vector of another geometry, 1,000 at most, encoded from their text now.
    """

    path: str
    model: str
    space: str
    bits: int
    documents: int
    passages: int
    encoded: int
    own_vectors_lost: list[str]


@dataclass(frozen=True, slots=True)
class OptimizeSummary:
    """What `optimize` wrote to `path`: partitions, the rows that they cover, and bytes. All 0: nothing to cover."""

    path: str
    rows: int
    partitions: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class UpdateSummary:
    """What an update does, or has done to the index at `path`.

    before, after: names of the contents, 64 hex digits each. deleted: documents that go. added: documents that
    come, new or in the place of others. Both are 0 where the update had been applied before.
    """

    path: str
    before: str
    after: str
    deleted: int
    added: int


@dataclass(frozen=True, slots=True)
class RepairSummary:
    """What `repair` saved from a damaged file into the index at `path`.

    documents_expected: how many there were; None if that is lost too. vectors_kept, vectors_encoded: passages
    whose vector was sound, and those encoded again. lost_ids: ids of documents that are named and cannot be
    read, 1,000 at most; there may be others. own_vectors_lost: documents that came with a vector, encoded from
    their text now. described: whether the file's description was sound; if not, what is missing was chosen anew.
    """

    path: str
    documents: int
    documents_expected: int | None
    vectors_kept: int
    vectors_encoded: int
    lost_ids: list[str]
    own_vectors_lost: list[str]
    described: bool
