"""Staging: documents that are encoded wait outside of the write lock, and go into the file in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from edgeret.codec import Int8
from edgeret.documents import Encoded, Record
from edgeret.errors import InvalidDocumentError, StorageError
from edgeret.storage import file
from edgeret.storage.change import Change
from edgeret.storage.store import Store

Chosen = Callable[[Change, Iterator[Encoded]], Iterator[Encoded]]
"""A change, and what is staged -> what goes into the index, each before the next is asked for."""

_STAGED: Final = (
    "SELECT number, id, text, metadata, own_vector, spans, vectors, codes, contexts FROM staged WHERE asked"
)


class Staging:
    """All that changes an index file. Not for two threads at once: Index sees to that.

    alive: raises where nothing may be committed any more.
    """

    def __init__(self, store: Store, alive: Callable[[], None] = lambda: None) -> None:
        self.store = store
        self.alive = alive
        self._staged: sqlite3.Connection | None = None

    @property
    def _staging(self) -> bool:
        """Whether there is a table of what is staged: it goes with its connection."""
        return self._staged is self.store.connection

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
        with file.translated(self.store.path):
            if not self._staging:
                self.store.connection.execute(
                    "CREATE TEMP TABLE IF NOT EXISTS staged (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE,"
                    " text TEXT, metadata TEXT, digest BLOB, own_vector INTEGER, spans BLOB, vectors BLOB, codes BLOB,"
                    " contexts TEXT, asked INTEGER)"
                )
                self._staged = self.store.connection
            row = (
                record.id,
                record.text,
                record.metadata,
                record.digest,
                record.vector is not None,
                np.array(encoded.spans, dtype="<i8").tobytes(),
                encoded.vectors.tobytes(),
                encoded.codes.astype("<u8").tobytes(),
                json.dumps(list(encoded.contexts)),
            )
            try:
                self.store.connection.execute(
                    "INSERT OR REPLACE INTO staged VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)", row
                )
            except (sqlite3.DataError, OverflowError):
                # Past SQLite's limit, or past that of C's integers.
                raise self._too_large(record) from None

    def unstage(self) -> None:
        """Forget what was staged."""
        if self._staging:
            self._forget("DELETE FROM staged")

    def _forget(self, statement: str) -> None:
        try:
            with file.translated(self.store.path):
                self.store.connection.execute(statement)
        except StorageError:
            # What is published is committed: that succeeded. The staged rows go with their connection.
            self.store.renew()

    def spare(self) -> int:
        """Keep what was staged aside, until it is asked for again; returns how many documents that are."""
        if not self._staging:
            return 0
        with file.translated(self.store.path):
            return self.store.connection.execute("UPDATE staged SET asked = 0").rowcount

    def await_lock(self) -> None:
        """Raise LockedError if, after the seconds of `wait`, another connection is writing."""
        with self.store.writing():
            pass

    def holds(self, record: Record, vector: Int8 | None) -> bool:
        """Whether the index, with what is staged, already has this very document.

        What was kept aside counts as staged from here on.

        vector: the document's own vector as it would be stored, int8 [dim], if it brings one.
        Raises InvalidDocumentError for an id that is larger than what SQLite stores.
        """
        connection = self.store.connection
        if len(record.id.encode()) > self._limit:
            raise self._too_large(record)
        digest, own = record.digest, None if vector is None else vector.tobytes()

        def same(row: tuple[bytes, int, bytes]) -> bool:
            return row[0] == digest and bool(row[1]) == (own is not None) and own in (None, row[2])

        with file.translated(self.store.path):
            if self._staging:
                row = connection.execute(
                    "SELECT digest, own_vector, vectors, asked FROM staged WHERE id = ?", (record.id,)
                ).fetchone()
                if row is not None and row[3]:
                    return same(row[:3])
                if row is not None and same(row[:3]):
                    connection.execute(
                        "UPDATE staged SET asked = 1, number = (SELECT max(number) + 1 FROM staged) WHERE id = ?",
                        (record.id,),
                    )
                    return True
            stored = self.store.rows.stored_as(record.id)
        return stored is not None and same(stored)

    # -- changes

    def publish(self, chosen: Chosen | None = None) -> None:
        """Move what is staged into the index. Raises LockedError, and then it stays staged.

        chosen: which of it, as it comes to the index: what replaces a document first. None: all, in order.
        """
        if self._count_staged() == 0:
            return
        with self.changing() as change:
            # The loop alone holds a statement: an open one would keep its read lock where a traceback keeps this frame.
            for encoded in (
                map(_encoded, change.connection.execute(f"{_STAGED} ORDER BY number"))
                if chosen is None
                else chosen(change, _each_staged(change))
            ):
                change.remove(encoded.record.id)
                change.insert(encoded)
        self._forget("DELETE FROM staged WHERE asked")

    def _count_staged(self) -> int:
        if not self._staging:
            return 0
        with file.translated(self.store.path):
            count: int = self.store.connection.execute("SELECT count(*) FROM staged WHERE asked").fetchone()[
                0
            ]
        return count

    def _too_large(self, record: Record) -> InvalidDocumentError:
        return InvalidDocumentError(
            f"expected a document of less than {self._limit:,} bytes with its vectors, {record.id[:40]!r} is larger: "
            "split it"
        )

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """One change of the file, committed at the end. Raises LockedError, StorageError, and what `alive` raises."""
        with self.store.writing() as state:
            change = Change(self.store, state)
            yield change
            change.finish()
            self.alive()


def _each_staged(change: Change) -> Iterator[Encoded]:
    """What is staged, one by one while it is put into the index: first that which replaces a document."""
    for replaces in (True, False):
        number = -1
        # A statement for each: one that is open would keep its read lock where a traceback keeps this frame.
        while read := change.connection.execute(
            f"{_STAGED} AND number > ? AND ? = EXISTS (SELECT 1 FROM documents d WHERE d.id = staged.id)"
            " ORDER BY number LIMIT 1",
            (number, replaces),
        ).fetchone():
            number = read[0]
            yield _encoded(read)


def _encoded(read: tuple[int, str, str, str, int, bytes, bytes, bytes, str]) -> Encoded:
    """A document as it was staged."""
    _, identity, text, metadata, own_vector, spans, vectors, codes, contexts = read
    located = np.frombuffer(spans, dtype="<i8").reshape(-1, 2).tolist()
    stored = np.frombuffer(vectors, dtype=np.int8).reshape(len(located), -1)
    record = Record(identity, text, metadata, stored[0].astype(np.float32) if own_vector else None)
    return Encoded(
        record,
        [(start, end) for start, end in located],
        stored,
        np.frombuffer(codes, dtype="<u8").reshape(len(located), -1),
        json.loads(contexts),
    )
