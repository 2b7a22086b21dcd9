"""Drafts: documents as the next encoder has them, in a file beside the index until `reencode` moves them into it.

Not in the index: its readers compare the schema word for word and would refuse a table more, and its log, which only a
commit of its own merges, stays free for other writers. A draft depends only on the document's text
and the encoder, so this file may be lost, outdated, or of another index at any moment: only time is lost with it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final, Self

import numpy as np

from edgeret.codec import words
from edgeret.documents import Passages
from edgeret.errors import CorruptIndexError, EngineError, LockedError, NotAnIndexError, StorageError
from edgeret.storage import file, sides
from edgeret.storage.checksum import checksum
from edgeret.storage.store import Store

APPLICATION_ID: Final = 0x45644472  # "EdDr"

_COMMIT_S: Final = 1.0
"""Seconds of work that a kill may lose."""

_TABLES: Final = (
    """CREATE TABLE drafts (
  doc INTEGER PRIMARY KEY,
  digest BLOB NOT NULL,
  spans BLOB NOT NULL,
  vectors BLOB NOT NULL,
  codes BLOB NOT NULL,
  crc INTEGER NOT NULL
)""",
    "CREATE TABLE encoder (key BLOB NOT NULL)",
)


def check_idle(store: Store) -> None:
    """Raise LockedError while drafts of an index are being made: they hold vectors of what is deleted meanwhile."""
    path = sides.drafts_of(store.path)
    if os.path.lexists(path):
        with _reading(path):
            _connected(path, store.wait).close()


def forget(store: Store) -> None:
    """Leave nothing of documents that the index no longer has in the drafts beside it.

    Raises LockedError while drafts are being made, StorageError for a file that is no drafts'.
    """
    path = sides.drafts_of(store.path)
    if not os.path.lexists(path):
        sides.remove(path)  # A journal may have stayed.
        return
    with _reading(path), closing(_connected(path, store.wait)) as connection, store.reading():
        gone = [
            doc
            for doc, digest in connection.execute("SELECT doc, digest FROM drafts").fetchall()
            if (head := store.rows.head(doc)) is None or head.digest != digest
        ]
        connection.execute("BEGIN EXCLUSIVE")
        connection.executemany("DELETE FROM drafts WHERE doc = ?", ((doc,) for doc in gone))
        connection.execute("COMMIT")
        connection.execute("VACUUM")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with file.translated(path):
            yield
    except (CorruptIndexError, EngineError, NotAnIndexError) as error:
        raise StorageError(
            f"'{path}' is not what an interrupted reencode leaves ({error.__cause__ or error}): move it away "
            "and try again"
        ) from error
    except LockedError as error:
        raise LockedError(f"'{path}' is being written by a reencode: try again when it has ended") from error


def _connected(path: Path, wait: float) -> sqlite3.Connection:
    """Open the file for this process alone; tables are made if it is new. To be used within `_reading`."""
    connection = file.connect_alone(path)
    try:
        file.patiently(path, lambda: connection.execute("BEGIN EXCLUSIVE"), wait)
        found = connection.execute("SELECT sql FROM sqlite_schema ORDER BY name LIMIT 3").fetchall()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if not found and not application:
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif application != APPLICATION_ID or found != [(sql,) for sql in _TABLES]:
            raise NotAnIndexError("another program wrote it")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


class Drafts:
    """The file, open for this process alone. A draft is known by its document's number and digest."""

    def __init__(self, index: Path, key: bytes, wait: float = 0.0) -> None:
        """Open the file that belongs to `index`, made if missing, emptied if its drafts are not those of `key`.

        wait: seconds for another process that has it, before LockedError is raised. Raises StorageError for a file
        that cannot be written, is damaged, or is somebody else's.
        """
        self.path = sides.drafts_of(index)
        self._begun = 0.0
        with self._reading():
            self._connection = _connected(self.path, wait)
            try:
                if self._connection.execute("SELECT key FROM encoder LIMIT 2").fetchall() != [(key,)]:
                    self._begin(key)
            except BaseException:
                self._connection.close()
                raise

    def _reading(self) -> AbstractContextManager[None]:
        return _reading(self.path)

    def _begin(self, key: bytes) -> None:
        self._connection.execute("BEGIN EXCLUSIVE")
        self._connection.execute("DELETE FROM drafts")
        self._connection.execute("DELETE FROM encoder")
        self._connection.execute("INSERT INTO encoder VALUES (?)", (key,))
        self._connection.execute("COMMIT")

    def sample(self, count: int) -> list[tuple[int, bytes]]:
        """The numbers and digests of some documents that there are drafts of, drawn at random."""
        with self._reading():
            return self._connection.execute(
                "SELECT doc, digest FROM drafts ORDER BY random() LIMIT ?", (count,)
            ).fetchall()

    def clear(self) -> None:
        """Forget all drafts."""
        with self._reading():
            self._connection.execute("DELETE FROM drafts")

    def holds(self, doc: int, digest: bytes) -> bool:
        """Whether there is a draft of this document."""
        with self._reading():
            found = self._connection.execute("SELECT digest FROM drafts WHERE doc = ?", (doc,)).fetchone()
        return found is not None and bool(found[0] == digest)

    def add(self, doc: int, digest: bytes, draft: Passages) -> None:
        """Keep a draft, in place of an older one of this number; at most a second later it is safe."""
        spans = np.array(draft.spans, dtype="<i8").tobytes()
        row = (digest, spans, draft.vectors.tobytes(), draft.codes.astype("<u8").tobytes())
        with self._reading():
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
                self._begun = monotonic()
            crc = checksum(doc, content=b"".join(row))
            self._connection.execute(
                "INSERT OR REPLACE INTO drafts VALUES (?, ?, ?, ?, ?, ?)", (doc, *row, crc)
            )
        if monotonic() - self._begun >= _COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Make all drafts safe."""
        with self._reading():
            if self._connection.in_transaction:
                self._connection.execute("COMMIT")

    def get(self, doc: int, digest: bytes, length: int, dim: int, bits: int) -> Passages | None:
        """The draft of a document; None if there is none, or none that an encoder can have made.

        length: of its text. dim, bits: of a vector and of a code.
        """
        size = 8 * words(bits)
        with self._reading():
            # The lengths first: they may say anything, and memory is taken for them at once.
            found = self._connection.execute(
                "SELECT digest, spans, vectors, codes, crc FROM drafts WHERE doc = ?1 AND digest = ?2"
                " AND length(spans) BETWEEN 16 AND 16 * max(?3, 1) AND length(spans) % 16 = 0"
                " AND length(vectors) = length(spans) / 16 * ?4 AND length(codes) = length(spans) / 16 * ?5",
                (doc, digest, length, dim, size),
            ).fetchone()
        if found is None or not all(isinstance(part, bytes) for part in found[:4]):
            return None
        if checksum(doc, content=b"".join(found[:4])) != found[4]:
            return None
        spans = np.frombuffer(found[1], dtype="<i8").reshape(-1, 2)
        vectors = np.frombuffer(found[2], dtype=np.int8).reshape(len(spans), dim)
        # Passages are in order, overlap in nothing and lie in the text; a vector's largest entry is 127 or -127.
        edges = np.concatenate([[0], spans.ravel(), [length]])
        if (
            (edges[1:] < edges[:-1]).any()
            or vectors.min() < -127
            or (np.abs(vectors).max(axis=1) != 127).any()
        ):
            return None
        codes = np.frombuffer(found[3], dtype="<u8").reshape(len(spans), -1)
        return Passages([(start, stop) for start, stop in spans.tolist()], vectors, codes)

    def remove(self) -> None:
        """Close and remove the file, whose drafts are in the index now."""
        self._connection.close()
        # The index is changed already: a file that stays is no error of that.
        with suppress(StorageError):
            sides.remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
