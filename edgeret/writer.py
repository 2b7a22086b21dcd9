"""Writer: stages documents outside the write lock, and changes the file in one transaction each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeret import database
from edgeret.change import Change
from edgeret.codec import Int8, UInt64
from edgeret.documents import Record
from edgeret.errors import InvalidDocumentError, LockedError, StorageError
from edgeret.partitions import path_of
from edgeret.store import Store

_READERS_MS: Final = 1000
"""How long emptying the log waits for searches to end."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record with its passages.

    spans: (start, stop) of each passage in the text's characters. vectors: int8 [n, dim].
    codes: uint64 [n, words].
    """

    record: Record
    spans: list[tuple[int, int]]
    vectors: Int8
    codes: UInt64


class Writer:
    """All that changes an index file. Not for two threads at once: Index sees to that."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._staging = False

    @property
    def _limit(self) -> int:
        """Bytes of the largest row that SQLite stores."""
        return self.store.connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)

    # -- staging

    def stage(self, encoded: Encoded) -> None:
        """Keep an encoded document aside, in SQLite's temporary file, until `publish`.

        Raises InvalidDocumentError for one that is larger than what SQLite stores in a row.
        """
        record = encoded.record
        with database.translated(self.store.path):
            if not self._staging:
                self.store.connection.execute(
                    "CREATE TEMP TABLE staged (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, text TEXT,"
                    " metadata TEXT, digest BLOB, own_vector INTEGER, spans BLOB, vectors BLOB, codes BLOB)"
                )
                self._staging = True
            row = (
                record.id,
                record.text,
                record.metadata,
                record.digest,
                record.vector is not None,
                np.array(encoded.spans, dtype="<i8").tobytes(),
                encoded.vectors.tobytes(),
                encoded.codes.astype("<u8").tobytes(),
            )
            try:
                self.store.connection.execute(
                    "INSERT OR REPLACE INTO staged VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", row
                )
            except (sqlite3.DataError, OverflowError):
                # Past SQLite's limit, or past that of C's integers.
                raise self._too_large(record) from None

    def unstage(self) -> None:
        """Forget what was staged."""
        if not self._staging:
            return
        try:
            with database.translated(self.store.path):
                self.store.connection.execute("DELETE FROM staged")
        except StorageError:
            # What is published is committed: that succeeded. The staged rows go with their connection.
            self.renew()

    def holds(self, record: Record, vector: Int8 | None) -> bool:
        """Whether the index, with what is staged, already has this very document.

        vector: the document's own vector as it would be stored, int8 [dim], if it brings one.
        Raises InvalidDocumentError for an id that is larger than what SQLite stores.
        """
        connection = self.store.connection
        if len(record.id.encode()) > self._limit:
            raise self._too_large(record)
        with database.translated(self.store.path):
            row = None
            if self._staging:
                row = connection.execute(
                    "SELECT digest, own_vector, vectors FROM staged WHERE id = ?", (record.id,)
                ).fetchone()
            if row is None:
                row = connection.execute(
                    "SELECT digest, own_vector, (SELECT vector FROM passages p WHERE p.doc = d.doc)"
                    " FROM documents d WHERE id = ?",
                    (record.id,),
                ).fetchone()
        if row is None or row[0] != record.digest or bool(row[1]) != (vector is not None):
            return False
        return vector is None or bool(row[2] == vector.tobytes())

    def renew(self) -> None:
        """Go on with a new connection, to which nothing is staged."""
        self.store.renew()
        self._staging = False

    # -- changes

    def publish(self) -> None:
        """Move what is staged into the index."""
        if self._count_staged() == 0:
            return
        with self._changing() as change:
            for (
                identity,
                text,
                metadata,
                digest,
                own_vector,
                spans,
                vectors,
                codes,
            ) in change.connection.execute(
                "SELECT id, text, metadata, digest, own_vector, spans, vectors, codes FROM staged ORDER BY number"
            ):
                change.remove(identity)
                located = np.frombuffer(spans, dtype="<i8").reshape(-1, 2).tolist()
                change.insert(
                    (identity, text, metadata, digest, own_vector),
                    [(start, stop, text[start:stop]) for start, stop in located],
                    np.frombuffer(vectors, dtype=np.int8).reshape(len(located), -1),
                    np.frombuffer(codes, dtype="<u8").reshape(len(located), -1),
                )
        self.unstage()

    def delete(self, ids: Iterable[str], erase: bool) -> int:
        """Remove documents; returns how many there were. Unknown ids are no error.

        erase: also drop their codes and terms, and write the file anew without them.
        """
        if erase:
            self._drop_partitions()
        with self._changing() as change:
            removed = sum([change.remove(identity) for identity in ids])
            if erase:
                change.zero_dead_codes()
                change.optimize_lexicon()
        if erase:
            self._rewrite()
        return removed

    def compact(self) -> None:
        """Empty sparse blocks, drop deleted codes and terms, write the file anew without free pages."""
        self._drop_partitions()
        with self._changing() as change:
            change.empty_sparse_blocks()
            change.zero_dead_codes()
            change.optimize_lexicon()
        self._rewrite()

    def _drop_partitions(self) -> None:
        """They hold codes of deleted documents, and cover no block that is written anew."""
        path = path_of(self.store.path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete '{path}': {error.strerror}") from error

    def truncate_log(self) -> None:
        """Merge the write-ahead log and cut it to nothing; raises LockedError if a reader prevents it."""
        connection = self.store.connection
        with database.translated(self.store.path):
            (wait_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
            # Searches end soon, and there may always be one: without a wait the log would never be cut.
            connection.execute(f"PRAGMA busy_timeout = {max(_READERS_MS, wait_ms)}")
            try:
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.execute(f"PRAGMA busy_timeout = {wait_ms}")
        if busy:
            raise LockedError(
                f"'{self.store.path}': deleted content is still in the file or its log because another connection "
                "is reading: run it again when that has ended"
            )

    def _rewrite(self) -> None:
        """Write the file anew from what is live, and cut the log to nothing."""
        # First, since a reader who prevents it would let the log grow by the file's size at every attempt.
        self.truncate_log()
        with database.translated(self.store.path):
            # Not zeros in place: where SQLite balances a tree, `secure_delete` leaves copies of the cells
            # that it moves in the free space of their old pages.
            self.store.connection.execute("VACUUM")
        self.truncate_log()

    def _count_staged(self) -> int:
        if not self._staging:
            return 0
        with database.translated(self.store.path):
            count: int = self.store.connection.execute("SELECT count(*) FROM staged").fetchone()[0]
        return count

    def _too_large(self, record: Record) -> InvalidDocumentError:
        return InvalidDocumentError(
            f"expected a document of less than {self._limit:,} bytes with its vectors, {record.id[:40]!r} is larger: "
            "split it"
        )

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        with self.store.writing() as state:
            change = Change(self.store, state)
            yield change
            change.finish()
