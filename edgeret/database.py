"""The SQLite file: how it is created, opened, configured and closed; SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edgeret.errors import (
    CorruptIndexError,
    EdgeretError,
    FormatVersionError,
    IndexExistsError,
    IndexMissingError,
    LockedError,
    NeedsRecoveryError,
    NotAnIndexError,
    ReadOnlyError,
    StorageError,
)

APPLICATION_ID: Final = 0x45644765  # "EdGe"
FORMAT_VERSION: Final = 1
PAGE_BYTES: Final = 4096
CACHE_BYTES: Final = 2_000_000

_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL,
  next_row INTEGER NOT NULL,
  tail_changed INTEGER NOT NULL,
  documents INTEGER NOT NULL,
  passages INTEGER NOT NULL
);
INSERT INTO state VALUES (1, 0, 0, 0, 0, 0);
CREATE TABLE documents (
  doc INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL,
  metadata TEXT NOT NULL,
  digest BLOB NOT NULL,
  own_vector INTEGER NOT NULL{columns}
);
CREATE TABLE passages (
  row INTEGER PRIMARY KEY,
  doc INTEGER NOT NULL,
  start INTEGER NOT NULL,
  stop INTEGER NOT NULL,
  vector BLOB NOT NULL,
  crc INTEGER NOT NULL
);
CREATE INDEX passages_by_doc ON passages (doc);
CREATE TABLE blocks (
  block INTEGER PRIMARY KEY,
  sealed INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  live BLOB NOT NULL
);
CREATE TABLE columns (
  block INTEGER NOT NULL,
  word INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  codes BLOB NOT NULL,
  PRIMARY KEY (block, word)
);
CREATE TABLE tail (row INTEGER PRIMARY KEY, crc INTEGER NOT NULL, code BLOB NOT NULL);
CREATE VIEW passage_texts AS
  SELECT row, substr(text, start + 1, stop - start) AS text FROM passages JOIN documents USING (doc);
CREATE VIRTUAL TABLE lexicon USING fts5 (
  text, content = 'passage_texts', content_rowid = 'row', tokenize = 'porter unicode61 remove_diacritics 2'
);
"""


def filter_columns(filters: Sequence[str]) -> dict[str, str]:
    """Metadata keys -> names of the columns that repeat their values for an SQL index.

    Plain columns: with `trusted_schema = OFF` a generated one may not call json_extract.
    """
    return {key: f"filter_{number}" for number, key in enumerate(filters)}


def create(path: Path, meta: dict[str, str], filters: Sequence[str]) -> None:
    """Write an empty index to `path`, readable by its owner only.

    An empty file, which an interrupted `create` leaves, is written over. Raises IndexExistsError
    if the file has content, StorageError if it cannot be written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        size = path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot create an index at '{path}': {error.strerror}") from None
    if size:
        raise IndexExistsError(f"'{path}' exists: open it with Index.open, or pass exist_ok=True")
    columns = filter_columns(filters)
    declared = "".join(f",\n  {column}" for column in columns.values())
    with translated(path):
        connection = _connect(path, "rw")
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _configure(connection)
            connection.execute("BEGIN EXCLUSIVE")
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise IndexExistsError(f"'{path}' was created by somebody else just now: open it")
            for statement in _SCHEMA.format(columns=declared).split(";\n"):
                connection.execute(statement)
            for column in columns.values():
                connection.execute(f"CREATE INDEX documents_by_{column} ON documents ({column})")
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()


def connect(path: Path, readonly: bool, cache_bytes: int = CACHE_BYTES) -> sqlite3.Connection:
    """Open the index at `path`; transactions are begun and ended explicitly.

    A reader on a writable medium opens read-write and forbids itself to write: the last connection
    that closes merges the write-ahead log and removes it, which a `mode=ro` connection cannot do.

    Raises IndexMissingError, NotAnIndexError, FormatVersionError, NeedsRecoveryError, StorageError.
    """
    check_header(path)
    with translated(path):
        connection = _connect(path, _read_mode(path) if readonly else "rw")
        try:
            _configure(connection, cache_bytes)
            connection.execute("PRAGMA query_only = ON" if readonly else "PRAGMA journal_mode = WAL")
            connection.execute("SELECT generation FROM state").fetchone()
        except BaseException:
            connection.close()
            raise
    return connection


def backup(source: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy a file that may be in use to a new one, by SQLite's online backup, a few pages at a time.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise IndexExistsError(f"'{target}' exists: choose another name for the backup") from None
    except OSError as error:
        raise StorageError(f"cannot write a backup to '{target}': {error.strerror}") from None
    with translated(path):
        copy = _connect(target, "rw")
        try:
            source.backup(copy, pages=256)
            copy.execute("PRAGMA synchronous = FULL")
        except BaseException:
            target.unlink()
            raise
        finally:
            copy.close()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into edgeret's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: sqlite3.Error) -> EdgeretError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    match code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LockedError(
                f"'{path}' is being written by another connection: try again when it has ended"
            )
        case sqlite3.SQLITE_READONLY:
            return ReadOnlyError(f"'{path}' cannot be written ({error}): open it with readonly=True")
        case sqlite3.SQLITE_FULL:
            return StorageError(
                f"no space left for '{path}': the index is as it was; free some and run it again"
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StorageError(
                f"the medium of '{path}' refused ({error}): check the disk and the permissions"
            )
        case sqlite3.SQLITE_NOTADB:
            return NotAnIndexError(
                f"'{path}' is not an edgeret index ({error}): create one with Index.create"
            )
        case _:
            return CorruptIndexError(
                f"'{path}' is damaged ({error}): restore a backup, or build it again from its documents"
            )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?{'mode=ro&immutable=1' if mode == 'immutable' else f'mode={mode}'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=0)


def _configure(connection: sqlite3.Connection, cache_bytes: int = CACHE_BYTES) -> None:
    for pragma in (
        "synchronous = FULL",
        "secure_delete = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "temp_store = FILE",
        "mmap_size = 0",
        f"cache_size = -{max(cache_bytes // 1024, 64)}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _read_mode(path: Path) -> str:
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return "rw"
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        if path.with_name(path.name + "-shm").exists():
            return "ro"
        raise NeedsRecoveryError(
            f"'{path}' has changes in '{log.name}' that were not merged and lies on a read-only medium: "
            "open it once where it can be written, or ship a copy made by 'edgeret backup'"
        )
    return "immutable"


def check_header(path: Path) -> None:
    """Look at the first bytes before SQLite does; raises as `connect` does."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise IndexMissingError(f"no index at '{path}': create it with Index.create") from None
    except IsADirectoryError:
        raise NotAnIndexError(f"'{path}' is a folder: an index is one file") from None
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror}") from None
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise NotAnIndexError(
            f"expected an edgeret index, '{path}' is another kind of file: create one with Index.create"
        )
    version = int.from_bytes(header[60:64], "big")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise NotAnIndexError(
            f"'{path}' is an SQLite file of another program: choose another path for the index"
        )
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"expected format {FORMAT_VERSION} or older, '{path}' has format {version}: upgrade edgeret"
        )
