"""Writer: stages documents outside the write lock, and changes the file in one transaction each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from edgeret import database
from edgeret.change import Change
from edgeret.codec import Int8, UInt64
from edgeret.documents import Record
from edgeret.errors import LockedError
from edgeret.store import Store


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

    # -- staging

    def stage(self, encoded: Encoded) -> None:
        """Keep an encoded document aside, in SQLite's temporary file, until `publish`."""
        record = encoded.record
        with database.translated(self.store.path):
            if not self._staging:
                self.store.connection.execute(
                    "CREATE TEMP TABLE staged (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, text TEXT,"
                    " metadata TEXT, digest BLOB, own_vector INTEGER, spans BLOB, vectors BLOB, codes BLOB)"
                )
                self._staging = True
            self.store.connection.execute(
                "INSERT OR REPLACE INTO staged VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.id,
                    record.text,
                    record.metadata,
                    record.digest,
                    record.vector is not None,
                    np.array(encoded.spans, dtype="<i8").tobytes(),
                    encoded.vectors.tobytes(),
                    encoded.codes.astype("<u8").tobytes(),
                ),
            )

    def unstage(self) -> None:
        """Forget what was staged."""
        if self._staging:
            with database.translated(self.store.path):
                self.store.connection.execute("DELETE FROM staged")

    def holds(self, record: Record, vector: Int8 | None) -> bool:
        """Whether the index, with what is staged, already has this very document.

        vector: the document's own vector as it would be stored, int8 [dim], if it brings one.
        """
        connection = self.store.connection
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

        erase: also overwrite what is left of them in sealed blocks, the lexicon and the log.
        """
        with self._changing() as change:
            removed = sum([change.remove(identity) for identity in ids])
            if erase:
                change.zero_dead_codes()
                change.optimize_lexicon()
        if erase:
            self.truncate_log()
        return removed

    def compact(self) -> None:
        """Empty sparse blocks, overwrite deleted codes and terms, give free pages back."""
        with self._changing() as change:
            change.empty_sparse_blocks()
            change.zero_dead_codes()
            change.optimize_lexicon()
        with database.translated(self.store.path):
            # Each step of this pragma frees one page and `execute` takes a single step: run it as a script.
            self.store.connection.executescript("PRAGMA incremental_vacuum;")
        self.truncate_log()

    def truncate_log(self) -> None:
        """Merge the write-ahead log and cut it to nothing; raises LockedError if a reader prevents it."""
        with database.translated(self.store.path):
            busy = self.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise LockedError(
                f"'{self.store.path}': deleted content is still in the write-ahead log because another connection "
                "is reading: run it again when that has ended"
            )

    def _count_staged(self) -> int:
        if not self._staging:
            return 0
        with database.translated(self.store.path):
            count: int = self.store.connection.execute("SELECT count(*) FROM staged").fetchone()[0]
        return count

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        with self.store.writing() as state:
            change = Change(self.store, state)
            yield change
            change.finish()
