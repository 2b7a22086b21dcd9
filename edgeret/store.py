"""Store: what is in the SQLite file, read in transactions and verified on the way."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import database
from edgeret.codec import UInt64, words
from edgeret.documents import Record
from edgeret.errors import CorruptIndexError

BLOCK_ROWS: Final = 16_384
"""Rows of a sealed block. A multiple of 8, so that bitmaps of rows split at block edges."""

Bitmap = NDArray[np.uint8]
"""One bit a row, the lowest bit first."""


class State(NamedTuple):
    """The counters of an index. `generation` grows by one with every commit that changes it."""

    generation: int
    next_row: int
    tail_changed: int
    documents: int
    passages: int


class Passage(NamedTuple):
    """A row: the document's number, the span in its text, the vector as stored."""

    row: int
    doc: int
    start: int
    stop: int
    vector: bytes


class StoredDocument(NamedTuple):
    """A document as read back, its digest verified."""

    id: str
    text: str
    metadata: str


class Store:
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    def __init__(self, path: Path, readonly: bool, cache_bytes: int = database.CACHE_BYTES) -> None:
        self.path = path
        self.readonly = readonly
        self.connection = database.connect(path, readonly, cache_bytes)
        with database.translated(path):
            self.meta = dict(self.connection.execute("SELECT key, value FROM meta").fetchall())
        try:
            self.filters: list[str] = json.loads(self.meta["filters"])
            self.bits = int(self.meta["bits"])
            self.dim = int(self.meta["dim"])
        except (KeyError, ValueError) as error:
            self.connection.close()
            raise CorruptIndexError(
                f"'{path}' is damaged (meta: {error}): restore a backup, or build it again from its documents"
            ) from None

    def close(self) -> None:
        """Close the connection; the last one merges the write-ahead log into the file."""
        with database.translated(self.path):
            self.connection.close()

    # -- transactions

    @contextmanager
    def reading(self) -> Iterator[State]:
        """One consistent view of the file."""
        with database.translated(self.path):
            self.connection.execute("BEGIN")
            try:
                yield self.state()
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[State]:
        """All or nothing. Raises LockedError if another connection is writing."""
        with database.translated(self.path):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.state()
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def state(self) -> State:
        """The counters, as this transaction sees them."""
        row = self.connection.execute(
            "SELECT generation, next_row, tail_changed, documents, passages FROM state"
        ).fetchone()
        if row is None:
            raise self.damaged("the state is missing")
        return State(*row)

    # -- reading codes

    def blocks(self, since: int = -1) -> list[tuple[int, int, bytes]]:
        """(block, generation sealed, live bitmap) of the sealed blocks changed after generation `since`."""
        return self.connection.execute(
            "SELECT block, sealed, live FROM blocks WHERE changed > ? ORDER BY block", (since,)
        ).fetchall()

    def live(self, block: int) -> bytes:
        """The bitmap of a sealed block's live rows."""
        found = self.connection.execute("SELECT live FROM blocks WHERE block = ?", (block,)).fetchone()
        if found is None or len(found[0]) != BLOCK_ROWS // 8:
            raise self.damaged(f"block {block} has no bitmap of its rows")
        return bytes(found[0])

    def block_numbers(self) -> list[int]:
        """All sealed blocks, in row order."""
        return [row[0] for row in self.connection.execute("SELECT block FROM blocks ORDER BY block")]

    def read_columns(self, block: int) -> UInt64:
        """A sealed block's codes, uint64 [words, BLOCK_ROWS], verified."""
        width = words(self.bits)
        codes = np.empty((width, BLOCK_ROWS), dtype=np.uint64)
        found = 0
        for word, crc, column in self.connection.execute(
            "SELECT word, crc, codes FROM columns WHERE block = ? ORDER BY word", (block,)
        ):
            if word != found or word >= width or len(column) != BLOCK_ROWS * 8 or zlib.crc32(column) != crc:
                raise self.damaged(f"the codes of block {block} are not what was written")
            codes[word] = np.frombuffer(column, dtype="<u8")
            found += 1
        if found != width:
            raise self.damaged(f"block {block} has {found} of {width} columns")
        return codes

    def tail(self, after: int = -1) -> tuple[NDArray[np.int64], UInt64]:
        """Rows int64 [n] of the tail past row `after` and their codes, uint64 [n, words]."""
        rows, codes = [], bytearray()
        size = words(self.bits) * 8
        for row, crc, code in self.connection.execute(
            "SELECT row, crc, code FROM tail WHERE row > ? ORDER BY row", (after,)
        ):
            if len(code) != size or zlib.crc32(code) != crc:
                raise self.damaged(f"the code of row {row} is not what was written")
            rows.append(row)
            codes += code
        return np.array(rows, dtype=np.int64), np.frombuffer(codes, dtype="<u8").reshape(-1, size // 8)

    # -- reading rows and documents

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of `rows`, each verified, in the order asked."""
        found = {}
        # In row order: neighbors share pages, and a slow card is read forwards.
        for row in sorted(rows):
            found[row] = self.passage(row)
        return [found[row] for row in rows]

    def passage(self, row: int) -> Passage:
        """One passage, verified."""
        read = self.connection.execute(
            "SELECT row, doc, start, stop, vector, crc FROM passages WHERE row = ?", (row,)
        ).fetchone()
        if read is None:
            raise self.damaged(f"row {row} has a code and no passage")
        return self.verified(read)

    def verified(self, read: tuple[int, int, int, int, bytes, int]) -> Passage:
        """Check a row of the table `passages`."""
        passage = Passage(*read[:5])
        if not isinstance(passage.vector, bytes) or len(passage.vector) != self.dim:
            raise self.damaged(f"the vector of row {passage.row} does not have {self.dim} bytes")
        if checksum(passage) != read[5]:
            raise self.damaged(f"row {passage.row} is not what was written")
        return passage

    def document(self, doc: int) -> StoredDocument:
        """One document by its number, verified."""
        read = self.connection.execute(
            "SELECT id, text, metadata, digest FROM documents WHERE doc = ?", (doc,)
        ).fetchone()
        if read is None:
            raise self.damaged(f"document {doc} is missing")
        return self._verified_document(read)

    def document_of(self, identity: str) -> StoredDocument | None:
        """One document by its id, verified; None if there is none."""
        read = self.connection.execute(
            "SELECT id, text, metadata, digest FROM documents WHERE id = ?", (identity,)
        ).fetchone()
        return None if read is None else self._verified_document(read)

    def _verified_document(self, read: tuple[str, str, str, bytes]) -> StoredDocument:
        identity, text, metadata, digest = read
        strings = isinstance(identity, str) and isinstance(text, str) and isinstance(metadata, str)
        if not strings or Record(identity, text, metadata, None).digest != digest:
            raise self.damaged(f"document {identity!r} is not what was written")
        return StoredDocument(identity, text, metadata)

    def matching(self, condition: str, parameters: Sequence[object], rows: int) -> Bitmap:
        """The rows below `rows` whose document meets an SQL condition on `d`, as a bitmap."""
        bitmap = np.zeros(-(-rows // BLOCK_ROWS) * BLOCK_ROWS // 8, dtype=np.uint8)
        cursor = self.connection.execute(
            f"SELECT p.row FROM documents d JOIN passages p ON p.doc = d.doc WHERE {condition}", parameters
        )
        while batch := cursor.fetchmany(4096):
            found = np.array(batch, dtype=np.int64)[:, 0]
            if found.min() < 0 or found.max() >= rows:
                raise self.damaged("a row lies past the last one")
            np.bitwise_or.at(bitmap, found >> 3, np.left_shift(1, found & 7).astype(np.uint8))
        return bitmap

    def lexical(
        self, match: str, condition: str, parameters: Sequence[object], limit: int
    ) -> list[tuple[int, float]]:
        """(row, BM25 score, higher is better) of the best `limit` passages for an FTS5 query."""
        filtered = (
            " AND rowid IN (SELECT p.row FROM documents d JOIN passages p ON p.doc = d.doc"
            f" WHERE {condition})"
            if condition
            else ""
        )
        return [
            (row, -rank)
            for row, rank in self.connection.execute(
                f"SELECT rowid, rank FROM lexicon WHERE lexicon MATCH ?{filtered} ORDER BY rank, rowid LIMIT ?",
                (match, *parameters, limit),
            )
        ]

    def damaged(self, what: str) -> CorruptIndexError:
        """The error for a file that contradicts itself."""
        return CorruptIndexError(
            f"'{self.path}' is damaged ({what}): restore a backup, or build it again from its documents"
        )


def checksum(passage: Passage) -> int:
    """CRC-32 over row, document, span and vector."""
    located = np.array(passage[:4], dtype="<i8").tobytes()
    return zlib.crc32(passage.vector, zlib.crc32(located))
