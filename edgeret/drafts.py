"""Drafts: documents as the next encoder has them, in a file beside the index until `reencode` moves them into it.

Not in the index: its readers compare the schema word for word and would refuse a table more, and its log, which only a
commit of its own merges, stays free for other writers. What a draft says hangs on the document's text and the
encoder alone, so that this file may be lost, outdated, or of another index at any moment: only time is lost with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, Self

import numpy as np

from edgeret import database
from edgeret.codec import Int8, UInt64
from edgeret.errors import CorruptIndexError, EngineError, NotAnIndexError, StorageError
from edgeret.writer import Encoded

APPLICATION_ID: Final = 0x45644472  # "EdDr"

_COMMIT_S: Final = 1.0
"""Seconds of work that a kill may lose."""

_SCHEMA: Final = """
CREATE TABLE encoder (key BLOB NOT NULL);
CREATE TABLE drafts (
  doc INTEGER PRIMARY KEY,
  digest BLOB NOT NULL,
  spans BLOB NOT NULL,
  vectors BLOB NOT NULL,
  codes BLOB NOT NULL,
  crc INTEGER NOT NULL
);
"""


class Draft(NamedTuple):
    """A document's passages: spans (start, stop), vectors int8 [n, dim], codes uint64 [n, words]."""

    spans: list[tuple[int, int]]
    vectors: Int8
    codes: UInt64

    @classmethod
    def of(cls, encoded: Encoded) -> Draft:
        """The part of `encoded` that changes with the encoder."""
        return cls(encoded.spans, encoded.vectors, encoded.codes)


class Drafts:
    """The file, open for this process alone. A draft is known by its document's number and digest."""

    def __init__(self, index: Path, key: bytes, wait: float = 0.0) -> None:
        """Open the file that belongs to `index`, made if missing, emptied if its drafts are not those of `key`.

        wait: seconds for another process that has it, before LockedError is raised. Raises StorageError for a file
        that cannot be written, is damaged, or is somebody else's.
        """
        self.path = index.with_name(f"{index.name}-reencode")
        self._begun = 0.0
        with self._reading():
            self._connection = database.connect_alone(self.path)
            try:
                database.patiently(self.path, lambda: self._connection.execute("BEGIN EXCLUSIVE"), wait)
                self._prepare(key)
            except BaseException:
                self._connection.close()
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with database.translated(self.path):
                yield
        except (CorruptIndexError, EngineError, NotAnIndexError) as error:
            raise StorageError(
                f"'{self.path}' is not what an interrupted reencode leaves ({error.__cause__ or error}): move it away "
                "and try again"
            ) from error

    def _prepare(self, key: bytes) -> None:
        execute = self._connection.execute
        tables = [name for (name,) in execute("SELECT name FROM sqlite_schema ORDER BY name")]
        (application,) = execute("PRAGMA application_id").fetchone()
        if not tables and not application:
            for statement in _SCHEMA.split(";"):
                execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif application != APPLICATION_ID or tables != ["drafts", "encoder"]:
            raise NotAnIndexError("another program wrote it")
        if execute("SELECT key FROM encoder").fetchall() != [(key,)]:
            execute("DELETE FROM drafts")
            execute("DELETE FROM encoder")
            execute("INSERT INTO encoder VALUES (?)", (key,))
        execute("COMMIT")

    def holds(self, doc: int, digest: bytes) -> bool:
        """Whether there is a draft of this document."""
        with self._reading():
            found = self._connection.execute("SELECT digest FROM drafts WHERE doc = ?", (doc,)).fetchone()
        return found is not None and bool(found[0] == digest)

    def add(self, doc: int, digest: bytes, draft: Draft) -> None:
        """Keep a draft, in place of an older one of this number; at most a second later it is safe."""
        spans = np.array(draft.spans, dtype="<i8").tobytes()
        row = (digest, spans, draft.vectors.tobytes(), draft.codes.astype("<u8").tobytes())
        with self._reading():
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN")
                self._begun = monotonic()
            crc = database.checksum(doc, content=b"".join(row))
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

    def get(self, doc: int, digest: bytes) -> Draft | None:
        """The draft of a document; None if there is none, or it is not what was written."""
        with self._reading():
            found = self._connection.execute(
                "SELECT digest, spans, vectors, codes, crc FROM drafts WHERE doc = ?", (doc,)
            ).fetchone()
        if found is None or found[0] != digest or not all(isinstance(part, bytes) for part in found[:4]):
            return None
        if database.checksum(doc, content=b"".join(found[:4])) != found[4]:
            return None
        spans = np.frombuffer(found[1], dtype="<i8").reshape(-1, 2)
        return Draft(
            [(start, stop) for start, stop in spans.tolist()],
            np.frombuffer(found[2], dtype=np.int8).reshape(len(spans), -1),
            np.frombuffer(found[3], dtype="<u8").reshape(len(spans), -1),
        )

    def remove(self) -> None:
        """Close and remove the file, whose drafts are in the index now."""
        self._connection.close()
        # The index is changed already: a file that stays is no error of that.
        with suppress(OSError):
            self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
