"""Repair: what a damaged index file still holds, written into a new one.

SQLite's trees are not needed: leaves are read page by page, and a document or a vector is kept if
its checksum says that it is what was written. Vectors that are lost are made anew from the texts.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret.documents import Record, parse
from edgeret.door import checked
from edgeret.encode.bundle import DEFAULT_MODEL
from edgeret.encode.passages import Span
from edgeret.encode.records import TextEncoder, encode, load_for
from edgeret.errors import (
    CorruptIndexError,
    EdgeretError,
    EngineError,
    NotAnIndexError,
    ReplacedError,
    SpaceMismatchError,
)
from edgeret.reports import RepairSummary
from edgeret.space import describe
from edgeret.storage.file import check_path, connect, copy_pages, create, meta_checksum, translated
from edgeret.storage.newfile import assembled
from edgeret.storage.pages import Cell, Pages, Value
from edgeret.storage.place import Place, absolute
from edgeret.storage.rows import Passage, is_sound, passage_checksum
from edgeret.storage.schema import checksum
from edgeret.storage.staging import Staging
from edgeret.storage.store import META, Store
from edgeret.upkeep.check import check

COMMIT_EVERY: Final = 1000

LISTED_IDS: Final = 1000
"""A summary lists so many ids at most."""

_DOCUMENT_COLUMNS: Final = 7
_PASSAGE_COLUMNS: Final = 6
_STATE_COLUMNS: Final = 7

_SCRATCH: Final = """
PRAGMA cache_size = -1024;
CREATE TABLE documents (id TEXT PRIMARY KEY, doc INTEGER, page INTEGER, offset INTEGER);
CREATE INDEX documents_by_doc ON documents (doc);
CREATE TABLE passages (doc INTEGER, start INTEGER, stop INTEGER, vector BLOB, PRIMARY KEY (doc, start, stop));
CREATE TABLE suspects (id TEXT PRIMARY KEY);
"""


@checked
def repair(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str] | TextEncoder | None = None,
) -> RepairSummary:
    """Write what a damaged index still holds to a new index, and check that.

    Documents and vectors are kept if their checksums hold. A text whose vectors are lost is encoded again.

    Args:
        path: The damaged index file. It is not changed.
        target: Where the new index goes.
        model: A bundle's name or folder, or an encoder, of the index's geometry. None takes the index's own.

    Returns:
        What was saved, and what was lost.

    Raises:
        NotAnIndexError: Nothing can be kept.
        IndexExistsError: There is a file at `target`.
        FormatVersionError: A newer edgeret wrote the file.
        SpaceMismatchError: The model belongs to another geometry.
        BundleError: The model is missing or damaged.
        StorageError: The medium refused.
    """
    damaged = absolute(path)
    return _repair(damaged, absolute(target), lambda name: load_for(model, damaged, name or DEFAULT_MODEL))


def _repair(path: Path, target: Path, load: Callable[[str | None], TextEncoder]) -> RepairSummary:
    """Write what `path` still holds to a new index at `target`, which is checked, and then whole or empty.

    load: gives an encoder for the name of the model that the file gives, None if that is lost.
    Raises NotAnIndexError if no document is found, IndexExistsError for a `target` that is there,
    FormatVersionError, SpaceMismatchError for an encoder of another geometry, StorageError, and what `load` raises.
    """
    check_path(path)
    # Without a name, SQLite's database is a temporary file: what is found may be larger than memory.
    with assembled(target) as new, closing(sqlite3.connect("", isolation_level=None)) as scratch:
        scratch.executescript(_SCRATCH)
        with _pages(path, new.with_name("pages")).open("rb") as file:
            salvage = _Salvage(path, Pages(file), scratch)
            encoder = load(salvage.meta.get("model"))
            summary = salvage.write(new, encoder)
        with closing(Store(new, readonly=False)) as store:
            check(store, encoder.codec, quick=False)
            store.end_log()
    return replace(summary, path=str(target))


def _pages(path: Path, copy: Path) -> Path:
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


class _Found(NamedTuple):
    """A document with what is left of its vectors."""

    record: Record
    known: Mapping[Span, bytes]
    had_own_vector: bool


class _Salvage:
    """What was found on the pages, kept aside until it is written."""

    def __init__(self, path: Path, pages: Pages, scratch: sqlite3.Connection) -> None:
        self.path = path
        self.meta: dict[str, str] = {}
        self._pages = pages
        self._scratch = scratch
        self._state: tuple[int, ...] | None = None
        scratch.execute("BEGIN")
        for cell, (row, values) in pages.records():
            self._keep(cell, row, values)
        scratch.execute("COMMIT")
        if not scratch.execute("SELECT count(*) FROM documents").fetchone()[0]:
            raise NotAnIndexError(f"'{path}' holds no document that can be read: restore a backup")

    def write(self, target: Path, encoder: TextEncoder) -> RepairSummary:
        """Write all of it to a new index."""
        described = self.meta.keys() == META and self.meta["crc"] == meta_checksum(self.meta)
        same_geometry = self._same_geometry(encoder, described)
        bits = _parsed(self.meta.get("bits"))
        if bits not in encoder.codec.widths:
            bits = max(encoder.codec.widths)
        filters = _parsed(self.meta.get("filters"))
        if not described and not (isinstance(filters, list) and all(isinstance(key, str) for key in filters)):
            filters = []
        create(target, describe(encoder, bits, filters), filters)
        kept, encoded, own_lost, lost = 0, 0, list[str](), list[str]()
        with closing(Store(target, readonly=False)) as store:
            staging = Staging(store)
            for number, found in enumerate(self._documents(encoder.dim if same_geometry else None), start=1):
                if found.had_own_vector and found.record.vector is None:
                    if not found.record.text.strip():
                        lost.append(found.record.id)
                        continue
                    own_lost.append(found.record.id)
                written = encode(found.record, encoder, bits, found.known)
                reused = sum(span in found.known for span in written.spans)
                kept, encoded = kept + reused, encoded + len(written.spans) - reused
                staging.stage(written)
                if number % COMMIT_EVERY == 0:
                    staging.publish()
            staging.publish()
            with store.reading() as state:
                saved = state.documents
        return RepairSummary(
            path=str(target),
            documents=saved,
            documents_expected=self._state[3] if self._state else None,
            vectors_kept=kept,
            vectors_encoded=encoded,
            lost_ids=[*lost, *self._lost_ids()][:LISTED_IDS],
            own_vectors_lost=own_lost[:LISTED_IDS],
            described=described,
        )

    def _keep(self, cell: Cell, row: int | None, values: tuple[Value, ...]) -> None:
        if row is None:
            # Entries of other indexes come here too; `write` believes none of them without a proof.
            if len(values) == 2 and values[0] in META and isinstance(values[1], str):
                self.meta[str(values[0])] = values[1]
        elif len(values) == _PASSAGE_COLUMNS and _is_passage(row, values):
            self._scratch.execute("INSERT OR REPLACE INTO passages VALUES (?, ?, ?, ?)", values[1:5])
        elif len(values) == _STATE_COLUMNS and _is_state(row, values):
            self._state = max(self._state or (), tuple(int(str(value)) for value in values[1:6]))
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

    def _documents(self, dim: int | None) -> Iterator[_Found]:
        """The documents in the order in which they came. dim: None if no vector may be kept."""
        for doc, page, offset in self._scratch.execute(
            "SELECT doc, page, offset FROM documents ORDER BY doc"
        ):
            _, identity, text, metadata, _, own, *_ = self._pages.record(Cell(page, offset)).values
            parts = self._scratch.execute(
                "SELECT start, stop, vector FROM passages WHERE doc = ? AND length(vector) = ?", (doc, dim)
            ).fetchall()
            known = {(start, stop): vector for start, stop, vector in parts}
            stored = known.get((0, len(str(text)))) if own else None
            vector = None if stored is None else np.frombuffer(stored, dtype=np.int8).astype(np.float32)
            yield _Found(Record(str(identity), str(text), str(metadata), vector), known, bool(own))

    def _same_geometry(self, encoder: TextEncoder, described: bool) -> bool:
        # 32 hexadecimal digits are not the same by chance: this entry needs no other proof.
        if self.meta.get("geometry") == encoder.geometry:
            return True
        if not described:
            return False
        raise SpaceMismatchError(
            f"index '{self.path}' is of geometry {self.meta['geometry'][:8]}, bundle '{encoder.name}' is of geometry "
            f"{encoder.geometry[:8]}: repair it with a bundle of its own geometry"
        )

    def _suspect(self, identity: Value) -> None:
        self._scratch.execute("INSERT OR IGNORE INTO suspects VALUES (?)", (identity,))

    def _lost_ids(self) -> list[str]:
        """Ids that the file names, as far as its index of them can be read, and that were not found."""
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
            (LISTED_IDS,),
        ).fetchall()
        return [identity for (identity,) in lost]


def _is_document(row: int, values: tuple[Value, ...]) -> bool:
    return is_sound(row, *values[1:_DOCUMENT_COLUMNS]) and parse(str(values[3])) is not None


def _is_passage(row: int, values: tuple[Value, ...]) -> bool:
    _, doc, start, stop, vector, crc = values
    if not (isinstance(doc, int) and isinstance(start, int) and isinstance(stop, int)):
        return False
    return isinstance(vector, bytes) and passage_checksum(Passage(row, doc, start, stop, vector)) == crc


def _is_state(row: int, values: tuple[Value, ...]) -> bool:
    counters = [value for value in values[1:6] if isinstance(value, int)]
    return row == 1 and len(counters) == len(values[1:6]) and checksum(*counters) == values[6]


def _parsed(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
