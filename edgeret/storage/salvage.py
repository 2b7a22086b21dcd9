"""Salvage: what a damaged index file still holds, kept aside in a database of its own.

SQLite's trees are not needed: leaves are read page by page, and what has a sound checksum is what was written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret.documents import Record, parse
from edgeret.errors import CorruptIndexError, EdgeretError, EngineError, NotAnIndexError, ReplacedError
from edgeret.storage.checksum import checksum, document_check
from edgeret.storage.description import KEYS, Description
from edgeret.storage.file import connect, copy_pages, translated
from edgeret.storage.pages import Cell, Pages, Value
from edgeret.storage.place import Place
from edgeret.storage.rows import Passage, context_checksum, passage_checksum

_DOCUMENT_COLUMNS: Final = 7
_PASSAGE_COLUMNS: Final = 6
_STATE_COLUMNS: Final = 7
_CONTEXT_COLUMNS: Final = 3

_SCRATCH: Final = """
PRAGMA cache_size = -1024;
CREATE TABLE documents (id TEXT PRIMARY KEY, doc INTEGER, page INTEGER, offset INTEGER);
CREATE INDEX documents_by_doc ON documents (doc);
CREATE TABLE passages (
  doc INTEGER, start INTEGER, stop INTEGER, vector BLOB, row INTEGER, PRIMARY KEY (doc, start, stop)
);
CREATE TABLE contexts (row INTEGER PRIMARY KEY, context TEXT);
CREATE TABLE suspects (id TEXT PRIMARY KEY);
"""


class Found(NamedTuple):
    """A document with what is left of its vectors and contexts, by (start, end) in its text."""

    record: Record
    known: Mapping[tuple[int, int], bytes]
    contexts: Mapping[tuple[int, int], str]
    had_own_vector: bool


@contextmanager
def salvaged(path: Path, copy: Path) -> Iterator[Salvage]:
    """What is found in the file at `path`. copy: where its last commit goes meanwhile.

    Raises NotAnIndexError if no document is found, FormatVersionError, StorageError.
    """
    # Without a name, SQLite's database is a temporary file: what is found may be larger than memory.
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.executescript(_SCRATCH)
        with _last_commit(path, copy).open("rb") as file:
            yield Salvage(path, Pages(file), scratch)


def _last_commit(path: Path, copy: Path) -> Path:
    """A copy of the last commit, if SQLite can still merge the log; else the file as it lies there."""
    try:
        with (
            translated(path),
            closing(connect(Place(path), readonly=True, merge=False)) as connection,
        ):
            copy_pages(connection, path, copy)
    except (CorruptIndexError, EngineError, NotAnIndexError, ReplacedError):
        return path
    return copy


class Salvage:
    """What was found on the pages.

    meta: lines of the description, by their keys; only together they have a proof, `description`.
    """

    def __init__(self, path: Path, pages: Pages, scratch: sqlite3.Connection) -> None:
        self.path = path
        self.meta: dict[str, str] = {}
        self._pages = pages
        self._scratch = scratch
        self._counters: tuple[int, ...] | None = None
        scratch.execute("BEGIN")
        for cell, (row, values) in pages.records():
            self._keep(cell, row, values)
        scratch.execute("COMMIT")
        if not scratch.execute("SELECT count(*) FROM documents").fetchone()[0]:
            raise NotAnIndexError(f"'{path}' holds no document that can be read: restore a backup")

    @property
    def description(self) -> Description | None:
        """What the file says of itself, if that is what was written."""
        try:
            return Description.of(self.meta)
        except ValueError:
            return None

    def setting(self, key: str) -> Any:
        """What one line of the description says, without a proof; None if it is lost or says nothing."""
        try:
            return json.loads(self.meta.get(key, "null"))
        except (ValueError, RecursionError):
            return None

    @property
    def documents_expected(self) -> int | None:
        """How many documents there were, if that is known."""
        return self._counters[3] if self._counters else None

    def documents(self, dim: int | None) -> Iterator[Found]:
        """The documents in the order in which they came. dim: of vectors that may be kept; None if none may."""
        for doc, page, offset in self._scratch.execute(
            "SELECT doc, page, offset FROM documents ORDER BY doc"
        ):
            _, identity, text, metadata, _, own, *_ = self._pages.record(Cell(page, offset)).values
            parts = self._scratch.execute(
                "SELECT start, stop, vector, context FROM passages LEFT JOIN contexts USING (row)"
                " WHERE doc = ? AND length(vector) = ?",
                (doc, dim),
            ).fetchall()
            known = {(start, end): vector for start, end, vector, _ in parts}
            contexts = {(start, end): context for start, end, _, context in parts if context is not None}
            stored = known.get((0, len(str(text)))) if own else None
            vector = None if stored is None else np.frombuffer(stored, dtype=np.int8).astype(np.float32)
            yield Found(Record(str(identity), str(text), str(metadata), vector), known, contexts, bool(own))

    def lost_ids(self, count: int) -> list[str]:
        """`count` ids at most that the file names, as far as its index of them can be read, and that were not found."""
        with (
            suppress(EdgeretError),
            translated(self.path),
            closing(connect(Place(self.path), readonly=True, merge=False)) as connection,
        ):
            for (identity,) in connection.execute(
                "SELECT id FROM documents INDEXED BY sqlite_autoindex_documents_1"
            ):
                self._suspect(identity)
        lost = self._scratch.execute(
            "SELECT id FROM suspects WHERE typeof(id) = 'text' AND id NOT IN (SELECT id FROM documents)"
            " ORDER BY id LIMIT ?",
            (count,),
        ).fetchall()
        return [identity for (identity,) in lost]

    def _keep(self, cell: Cell, row: int | None, values: tuple[Value, ...]) -> None:
        if row is None:
            # Entries of other indexes come here too; none is believed without a proof.
            if len(values) == 2 and values[0] in KEYS and isinstance(values[1], str):
                self.meta[str(values[0])] = values[1]
        elif len(values) == _PASSAGE_COLUMNS and _is_passage(row, values):
            self._scratch.execute(
                "INSERT OR REPLACE INTO passages VALUES (?, ?, ?, ?, ?)", (*values[1:5], row)
            )
        elif len(values) == _CONTEXT_COLUMNS and _is_context(row, values):
            self._scratch.execute("INSERT OR REPLACE INTO contexts VALUES (?, ?)", (row, values[2]))
        elif len(values) == _STATE_COLUMNS and _is_state(row, values):
            self._counters = max(self._counters or (), tuple(int(str(value)) for value in values[1:6]))
        elif len(values) >= _DOCUMENT_COLUMNS and all(isinstance(value, str) for value in values[1:4]):
            if _is_document(row, values):
                # Numbers of documents only grow: of two that claim an id, the older one is a stale page's.
                self._scratch.execute(
                    "INSERT INTO documents VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                    " doc = excluded.doc, page = excluded.page, offset = excluded.offset WHERE excluded.doc > doc",
                    (values[1], row, *cell),
                )
            else:
                self._suspect(values[1])

    def _suspect(self, identity: Value) -> None:
        self._scratch.execute("INSERT OR IGNORE INTO suspects VALUES (?)", (identity,))


def _is_document(row: int, values: tuple[Value, ...]) -> bool:
    return document_check()((row, *values[1:_DOCUMENT_COLUMNS])) and parse(str(values[3])) is not None


def _is_passage(row: int, values: tuple[Value, ...]) -> bool:
    _, doc, start, end, vector, crc = values
    if not (isinstance(doc, int) and isinstance(start, int) and isinstance(end, int)):
        return False
    return isinstance(vector, bytes) and passage_checksum(Passage(row, doc, start, end, vector)) == crc


def _is_context(row: int, values: tuple[Value, ...]) -> bool:
    _, crc, context = values
    return isinstance(context, str) and context_checksum(row, context) == crc


def _is_state(row: int, values: tuple[Value, ...]) -> bool:
    counters = [value for value in values[1:6] if isinstance(value, int)]
    return row == 1 and len(counters) == len(values[1:6]) and checksum(*counters) == values[6]
