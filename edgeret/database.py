"""The SQLite file: how it is created, opened, configured and closed; SQLite's errors in our words."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from edgeret import files
from edgeret.errors import (
    ArgumentError,
    BudgetError,
    CorruptIndexError,
    EdgeretError,
    EngineError,
    FormatVersionError,
    IndexExistsError,
    IndexMissingError,
    LockedError,
    NeedsRecoveryError,
    NotAnIndexError,
    ReadOnlyError,
    StorageError,
)
from edgeret.target import claimed

APPLICATION_ID: Final = 0x45644765  # "EdGe"
FORMAT_VERSION: Final = 1
PAGE_BYTES: Final = 4096
CACHE_BYTES: Final = 2_000_000
_TEMPORARY_CACHE_BYTES: Final = 256_000

WAIT_S: Final = 5.0
"""How long a change waits for another writer, unless told otherwise."""

_OPENING_S: Final = 5.0
"""How long another process that opens or closes the file just now is waited for, at least."""

_TRY_S: Final = 0.1
"""How long one try waits within SQLite, where no signal ends it."""

_NAP_S: Final = 0.005

_TOKENIZER: Final = "porter unicode61 remove_diacritics 2"
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL,
  next_row INTEGER NOT NULL,
  tail_changed INTEGER NOT NULL,
  documents INTEGER NOT NULL,
  passages INTEGER NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE documents (
  doc INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL,
  metadata TEXT NOT NULL,
  digest BLOB NOT NULL,
  own_vector INTEGER NOT NULL,
  crc INTEGER NOT NULL{columns}
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
  text, content = 'passage_texts', content_rowid = 'row', tokenize = '{tokenizer}'
);
"""

Answer = TypeVar("Answer")

# FTS5 writes these, each release in its own words.
_SHADOW_TABLES: Final = ("lexicon_data", "lexicon_idx", "lexicon_docsize", "lexicon_config")


def filter_columns(filters: Sequence[str]) -> dict[str, str]:
    """Metadata keys -> names of the columns that repeat their values for an SQL index.

    Plain columns: with `trusted_schema = OFF` a generated one may not call json_extract.
    """
    return {key: f"filter_{number}" for number, key in enumerate(filters)}


def _statements(filters: int) -> list[str]:
    columns = filter_columns([str(number) for number in range(filters)]).values()
    declared = "".join(f",\n  {column}" for column in columns)
    indexes = [f"CREATE INDEX documents_by_{column} ON documents ({column})" for column in columns]
    return [
        *_SCHEMA.format(columns=declared, tokenizer=_TOKENIZER).strip().removesuffix(";").split(";\n"),
        *indexes,
    ]


def create(path: Path, meta: dict[str, str], filters: Sequence[str], wait: float = WAIT_S) -> None:
    """Write an empty index to `path`, readable by its owner only.

    An empty file, which an interrupted `create` leaves, is written over. wait: seconds for somebody else who has it
    locked. Raises IndexExistsError if the file has content, LockedError, StorageError if it cannot be written.
    """
    check_wait(wait)
    roll_back(path, wait)
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        size = path.stat().st_size
    except OSError as error:
        raise StorageError(f"cannot create an index at '{path}': {error.strerror}") from None
    if size:
        raise IndexExistsError(f"'{path}' exists: open it with Index.open, or pass exist_ok=True")
    with translated(path):
        connection = _connect(path, "rw")
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            _configure(connection)
            patiently(path, lambda: connection.execute("BEGIN IMMEDIATE"), wait)
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise IndexExistsError(f"'{path}' was created by somebody else just now: open it")
            for statement in _statements(len(filters)):
                connection.execute(statement)
            meta = {**meta, "crc": meta_checksum(meta)}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, ?)", (checksum(0, 0, 0, 0, 0),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            # Whoever looks whether somebody has made it reads for a moment.
            patiently(path, lambda: connection.execute("COMMIT"), max(wait, _OPENING_S))
        finally:
            connection.close()


def connect(
    path: Path, readonly: bool, cache_bytes: int = CACHE_BYTES, wait: float = WAIT_S, merge: bool = True
) -> sqlite3.Connection:
    """Open the index at `path`; transactions are begun and ended explicitly.

    wait: seconds for another process that keeps this one from opening it, 5 at least. merge: False for a reader that
    leaves file and log as they are.

    A reader on a writable medium opens read-write and forbids itself to write: the last connection
    that closes merges the write-ahead log and removes it, which a `mode=ro` connection cannot do.

    Raises IndexMissingError, NotAnIndexError, FormatVersionError, NeedsRecoveryError, ReadOnlyError,
    StorageError.
    """
    check_wait(wait)
    roll_back(path, max(wait, _OPENING_S))
    check_path(path)
    if not readonly and not _writable(path):
        # SQLite would open it all the same, and the first write would fail.
        raise ReadOnlyError(
            f"'{path}' cannot be written: open it with readonly=True, or check the permissions"
        )

    def attempt() -> sqlite3.Connection:
        connection = _connect(path, _read_mode(path, merge) if readonly else "rw")
        try:
            _configure(connection, cache_bytes)
            _check_identity(connection, path)
            connection.execute("PRAGMA query_only = ON" if readonly else "PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    return patiently(path, attempt, max(wait, _OPENING_S))


def check_wait(wait: float) -> None:
    """Raise ArgumentError for a negative `wait`."""
    if not wait >= 0:
        raise ArgumentError(f"expected to wait for 0 seconds or more, got {wait}")


def patiently(path: Path, attempt: Callable[[], Answer], wait: float = _OPENING_S) -> Answer:
    """What `attempt` returns; tried again for `wait` seconds where it raises LockedError, or SQLite says so.

    In short tries, between which a signal ends it.
    """
    until = time.monotonic() + wait
    while True:
        try:
            with translated(path):
                return attempt()
        except LockedError:
            if time.monotonic() >= until:
                raise
        time.sleep(_NAP_S)


def connect_alone(path: Path) -> sqlite3.Connection:
    """Open a file of work in progress, made if missing, readable by its owner only; no other connection gets in.

    Raises LockedError if another one has it, StorageError, NotAnIndexError for a file that is not SQLite's.
    """
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror}") from None
    with translated(path):
        connection = _connect(path, "rw")
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _configure(connection, _TEMPORARY_CACHE_BYTES)
        except BaseException:
            connection.close()
            raise
    return connection


def roll_back(path: Path, wait: float) -> None:
    """Let SQLite undo what an interrupted `create` has half written: the file may be empty then.

    wait: seconds for one that is not interrupted. Raises LockedError, StorageError.
    """
    if not path.with_name(path.name + "-journal").exists() or not _writable(path):
        return
    with translated(path):
        connection = _connect(path, "rw")
        try:
            patiently(path, lambda: connection.execute("SELECT count(*) FROM sqlite_schema").fetchone(), wait)
        finally:
            connection.close()


def check_path(path: Path) -> None:
    """Raise IndexMissingError, NotAnIndexError or StorageError unless `path` is a file with content.

    Never by opening it: closing any descriptor of a file drops all POSIX locks that this process holds on
    it, and SQLite's connections live by those (fcntl(2)).
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise IndexMissingError(f"no index at '{path}': create it first") from None
    except OSError as error:
        raise StorageError(f"cannot read '{path}': {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise NotAnIndexError(f"'{path}' is {files.kind(found.st_mode)}: an index is one file")
    if not found.st_size:
        raise NotAnIndexError(f"expected an edgeret index, '{path}' is empty: create one there")


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise NotAnIndexError(
            f"'{path}' is an SQLite file of another program: choose another path for the index"
        )
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"expected format {FORMAT_VERSION} or older, '{path}' has format {version}: upgrade edgeret"
        )


def check_schema(connection: sqlite3.Connection, path: Path, filters: int) -> None:
    """Raise CorruptIndexError unless the schema is, word for word, what `create` writes.

    A stranger's file must not bring triggers, nor views in place of tables.
    """
    found = [
        sql
        for kind, name, sql in connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql NOT NULL"
        )
        if kind != "table" or name not in _SHADOW_TABLES
    ]
    if sorted(map(str, found)) != sorted(_statements(filters)):
        raise CorruptIndexError(
            f"'{path}' is damaged (its schema is not an index's): restore a backup, or run 'edgeret check --repair'"
        )


def checksum(*numbers: int, content: bytes = b"") -> int:
    """CRC-32 over `numbers`, 8 bytes each, little-endian, then `content`."""
    return zlib.crc32(content, zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers)))


def meta_checksum(meta: Mapping[str, str]) -> str:
    """CRC-32, in decimal, over all of `meta` but its own entry."""
    entries = sorted((key, value) for key, value in meta.items() if key != "crc")
    return str(checksum(content=json.dumps(entries).encode()))


def backup(source: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy a file that may be in use to a new one, by SQLite's online backup, a few pages at a time.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    with claimed(target), translated(path), closing(_connect(target, "rw")) as copy:
        _configure(copy)
        # Between two parts, a signal ends it.
        source.backup(copy, pages=256, progress=lambda *_: None)


def count_matching(match: str, texts: Sequence[str]) -> int:
    """How many of `texts` an FTS5 query finds when a lexicon of them alone is made."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        scratch.execute(
            f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = '{_TOKENIZER}')"
        )
        scratch.executemany("INSERT INTO words (text) VALUES (?)", [(text,) for text in texts])
        count: int = scratch.execute("SELECT count(*) FROM words WHERE words MATCH ?", (match,)).fetchone()[0]
        return count


def file_bytes(path: Path) -> int:
    """Bytes of an index file and its write-ahead log."""
    log = path.with_name(path.name + "-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into edgeret's."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error
    except UnicodeDecodeError as error:
        # SQLite quotes a damaged schema in its message, and sqlite3 fails to decode that.
        raise CorruptIndexError(
            f"'{path}' is damaged ({error}): restore a backup, or build it again from its documents"
        ) from error
    except (OverflowError, UnicodeEncodeError) as error:
        # What sqlite3 cannot hand over: an integer past 64 bits, a text past 2**31 bytes or with a lone surrogate.
        raise ArgumentError(
            f"expected what SQLite can store, got another value ({error}): shorten it"
        ) from error


def _translate(path: Path, error: sqlite3.Error) -> EdgeretError:
    """The error of ours for one of SQLite's: only what says that the file is damaged is damage."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    match code & 0xFF:
        case sqlite3.SQLITE_CORRUPT:
            return CorruptIndexError(
                f"'{path}' is damaged ({error}): restore a backup, or build it again from its documents"
            )
        case sqlite3.SQLITE_TOOBIG:
            return ArgumentError(
                f"expected a value that SQLite can store, got a larger one ({error}): shorten it"
            )
        case sqlite3.SQLITE_NOMEM:
            return BudgetError(f"no memory left for '{path}' ({error}): free some and run the call again")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return LockedError(
                f"'{path}' is being written by another connection: try again when it has ended"
            )
        case sqlite3.SQLITE_READONLY:
            return ReadOnlyError(f"'{path}' cannot be written ({error}): open it with readonly=True")
        case sqlite3.SQLITE_FULL:
            return StorageError(
                f"no space left for '{path}': free some and run the call again, nothing is half done"
            )
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StorageError(
                f"the medium of '{path}' refused ({error}): check the disk and the permissions"
            )
        case sqlite3.SQLITE_NOTADB:
            return NotAnIndexError(
                f"expected an edgeret index, '{path}' is another kind of file: choose another path"
            )
        case _:
            return EngineError(
                f"SQLite refused a statement on '{path}' ({error}): run the call again, and 'edgeret check' if it "
                "fails again"
            )


def _check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a folder in the place of a file that SQLite would open: it would wait for ever."""
    # SQLite looks for logs beside the file that a link leads to.
    real = Path(os.path.realpath(path))
    for beside in (real, *(real.with_name(real.name + suffix) for suffix in ("-journal", "-wal", "-shm"))):
        if beside.exists():
            files.check_regular(beside, beside.stat().st_mode)


def contradicts(error: EngineError) -> bool:
    """Whether a statement that holds none of a caller's values failed for what it found in the file."""
    code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    _check_regular(path)
    uri = f"file:{quote(str(path.absolute()))}?{'mode=ro&immutable=1' if mode == 'immutable' else f'mode={mode}'}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_TRY_S)


def _configure(connection: sqlite3.Connection, cache_bytes: int = CACHE_BYTES) -> None:
    for pragma in (
        # FULL, and a journal that was removed, which is a commit, does not come back after a power failure.
        "synchronous = EXTRA",
        "secure_delete = ON",
        "trusted_schema = OFF",
        "cell_size_check = ON",
        "temp_store = FILE",
        "mmap_size = 0",
        # What is staged is written once and read once.
        f"temp.cache_size = -{_TEMPORARY_CACHE_BYTES // 1024}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    resize_cache(connection, cache_bytes)


def resize_cache(connection: sqlite3.Connection, cache_bytes: int) -> None:
    """Keep so many bytes of the file's pages."""
    connection.execute(f"PRAGMA cache_size = -{max(cache_bytes // 1024, 64)}")


def _writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and os.access(path, os.W_OK)


def _read_mode(path: Path, merge: bool) -> str:
    log = path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if _writable(path):
        # A `mode=ro` connection would leave an empty log behind where there was none.
        return "ro" if has_log and not merge else "rw"
    if has_log:
        if path.with_name(path.name + "-shm").exists():
            return "ro"
        raise NeedsRecoveryError(
            f"'{path}' has changes in '{log.name}' that were not merged and lies on a read-only medium: "
            "open it once where it can be written, or ship a copy made by 'edgeret backup'"
        )
    return "immutable"
