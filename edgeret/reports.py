"""Reports: result types of the verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgeret.documents import Hit

MOST_COPIES: Final = 1000
"""That a report names."""

Progress = Callable[[int, int], object]
"""A callback: `progress(done, total)`, in passages, documents, bytes or steps."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A document whose text is nearly that of another one.

    Attributes:
        id: Its id.
        of: The id of the one that the index had first.
        alike: The share of their sequences of three words that both have, as searches know words, 0.7 to 1.
        is_exact: Whether their texts are the same, character by character.
    """

    id: str
    of: str
    alike: float
    is_exact: bool


class Added(list[str]):
    """What `Index.add` returns: the documents' ids, in order, and which are copies of others.

    Attributes:
        copies: The first 1,000 copies. With `duplicates="skip"` they were left out, and their ids are not in the list.
        copies_found: How many there are. 0 with `duplicates="keep"`, which does not look for any.
    """

    def __init__(self, ids: Iterable[str] = (), copies: Sequence[Copy] = (), copies_found: int = 0) -> None:
        super().__init__(ids)
        self.copies = list(copies)
        self.copies_found = copies_found


@dataclass(frozen=True, slots=True)
class Info:
    """What `Index.info` returns.

    Attributes:
        path: The index file.
        model: The encoder's name.
        space: Fingerprint of geometry and codec.
        geometry: Fingerprint of the teacher's map from text to vector.
        dim: Entries of a vector.
        bits: Length of a code in bits.
        filters: Metadata keys with an SQL index.
        language: By whose stems words are found; None: as they are.
        documents: Number of documents.
        passages: Number of passages.
        generation: Number of commits that have changed the index.
        format: Version of the file format.
        file_bytes: The file's size, its write-ahead log included.
        bytes_per_doc: `file_bytes` divided by the number of documents.
        planned_bytes: Memory planned for the open index beyond `import edgeret`.
        codes_resident: Whether all codes stay in memory.
        covered: Passages that partitions cover; 0 without partitions.
        fallback: Why the partitions that are there are not used; empty if they are, or if there are none.
        scan: The kernel that scans codes.
    """

    path: str
    model: str
    space: str
    geometry: str
    dim: int
    bits: int
    filters: list[str]
    language: str | None
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
    """What `Index.explain` returns: a search and what it took.

    Attributes:
        hits: What `search` returns.
        documents: Documents in the index.
        passages: Passages in the index.
        eligible: Passages of documents that meet `where`.
        candidates: Passages that were read to be ranked: by words as far as documents were wanted, by meaning all that
            are rescored. In "hybrid" mode that is the pool, each of which is scored by both sides.
        scanned: Codes that were compared.
        search: "exact" for an exhaustive scan, "partitions" if those that `optimize` wrote were used.
        covered: Passages that partitions cover; all others are scanned exhaustively.
        fallback: Why the partitions that are there were not used; empty if they were, or if there are none.
        encode_ms: Milliseconds to encode the query.
        filter_ms: Milliseconds to evaluate `where`.
        search_ms: Milliseconds to find and rank passages.
        fetch_ms: Milliseconds to read the documents.
        query_windows: Passages that the query was encoded as. More than 1 if it is longer than the model reads: a
            document is as near as to the nearest of them. 0 if no text was encoded.
        query_known: Whether the model knows a word of the query. If not, as for an emoji, only documents with the
            same unknown symbols are near it by meaning.
        words: What answered by words: "lexicon", or "fts5" for a file of format 1; empty where only meaning was asked.
        words_bytes: Bytes that were read of the lexicon, whether SQLite had them in memory or not; 0 of FTS5, which
            does not tell.
        words_runs: Places in the file where they lie, one or more pages one behind the other.
        mode: "dense", "lexical" or "hybrid".
        phrases_read: Passages that were read for the phrases of the query, 1,000 at most: those whose words match
            best.
        phrases_said: False if none of these says the phrases: a "lexical" search finds nothing then, and a "hybrid" one
            is asked as if nothing were quoted.
        words_weight: What `Hit.lexical` counts beside `Hit.cosine` in a "hybrid" score; 0 in other modes.
        unknown_keys: Metadata keys of `where` that no document has.
        reranked: Documents that the reranker has read; 0 without one.
        rerank_ms: Milliseconds that it took.
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
    words: str
    words_bytes: int
    words_runs: int
    mode: str
    phrases_read: int
    phrases_said: bool
    words_weight: float
    unknown_keys: list[str] = field(default_factory=list)
    reranked: int = 0
    rerank_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """What `Index.check` returns.

    Attributes:
        documents: Number of documents.
        passages: Number of passages.
        blocks: Number of full blocks of codes, of 16,384 passages each.
        quick: Whether only SQLite's own structures and the counters were checked.
        lexicon: "verified" against the texts; "skipped" if `quick`.
    """

    documents: int
    passages: int
    blocks: int
    quick: bool
    lexicon: str


@dataclass(frozen=True, slots=True)
class RecodeSummary:
    """What `recode` returns.

    Attributes:
        path: The index file.
        model: Its model now.
        space: Its space now.
        bits: Length of its codes now.
        passages: Passages with a new code; 0 if all were of this space and length before.
    """

    path: str
    model: str
    space: str
    bits: int
    passages: int


@dataclass(frozen=True, slots=True)
class ReencodeSummary:
    """What `reencode` returns.

    Attributes:
        path: The index file.
        model: Its model now.
        space: Its space now.
        bits: Length of its codes now.
        documents: Number of documents.
        passages: Number of passages now.
        encoded: Documents that this call has encoded; those of an interrupted call before it were kept.
        own_vectors_lost: Ids, 1,000 at most, of documents that came with a vector of another geometry; they were
            encoded from their text.
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
class SyncSummary:
    """What `Index.sync` returns: of files, how many there were of each kind.

    Attributes:
        added: Files that the index did not have.
        changed: Files whose text or metadata are others now.
        unchanged: Files that it had as they are; those of another time alone are read, and not encoded.
        removed: Files that are gone, or have no text any more.
        documents: Number of documents in the index now.
        skipped: What is no file to read, by its path, and why: pipes, devices, sockets, links out of the folder, kinds
            of files without a reader, files without text.
        refused: What should be read and cannot be, by its path, and why. What the index has of it stays.
        copies: The first 1,000 copies that were added, with `duplicates="report"`. Those that "skip" leaves out are
            among `skipped`.
    """

    added: int
    changed: int
    unchanged: int
    removed: int
    documents: int
    skipped: dict[str, str]
    refused: dict[str, str]
    copies: list[Copy] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class UpgradeSummary:
    """What `upgrade` returns.

    Attributes:
        path: The index file.
        format_before: Its format before; that of today if there was nothing to do.
        format: Its format now.
        passages: Passages whose words were made anew; 0 if there was nothing to do.
        file_bytes_before: The file's size before, its write-ahead log included.
        file_bytes: Its size now.
    """

    path: str
    format_before: int
    format: int
    passages: int
    file_bytes_before: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class OptimizeSummary:
    """What `optimize` returns. All numbers are 0 if there is no full block to cover; then there is no file.

    Attributes:
        path: The partitions file.
        rows: Passages that it covers.
        partitions: Number of partitions.
        file_bytes: Its size.
        share: Of these passages, the share that a search for ten documents reads.
        pays: Whether that takes less time than to read all of them.
    """

    path: str
    rows: int
    partitions: int
    file_bytes: int
    share: float
    pays: bool


@dataclass(frozen=True, slots=True)
class UpdateSummary:
    """What `diff` and `apply` return.

    Attributes:
        path: The index file: the new one of `diff`, the changed one of `apply`.
        before: Content hash of the index before the update, 64 hex digits. It does not depend on the order of changes.
        after: Content hash after it.
        deleted: Documents that the update deletes.
        added: Documents that it adds or replaces. Both are 0 if the update had been applied before.
    """

    path: str
    before: str
    after: str
    deleted: int
    added: int


@dataclass(frozen=True, slots=True)
class RepairSummary:
    """What `repair` returns.

    Attributes:
        path: The new index file.
        documents: Documents that were saved.
        documents_expected: How many there were. None if that is lost too.
        vectors_kept: Passages whose vector was sound.
        vectors_encoded: Passages that were encoded again.
        lost_ids: Ids, 1,000 at most, of documents that are named and cannot be read; there may be others.
        own_vectors_lost: Ids of documents that came with a vector, which is lost; they were encoded from their text.
        described: Whether the file's settings were sound. If not, what was missing was chosen anew.
    """

    path: str
    documents: int
    documents_expected: int | None
    vectors_kept: int
    vectors_encoded: int
    lost_ids: list[str]
    own_vectors_lost: list[str]
    described: bool
