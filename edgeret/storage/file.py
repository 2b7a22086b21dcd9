"""The SQLite file: how it is created, opened, configured and closed; SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, TypeVar

from edgeret import files
from edgeret.errors import (
    ArgumentError,
    BudgetError,
    CorruptIndexError,
    EdgeretError,
    EngineError,
    IndexExistsError,
    IndexMissingError,
    LockedError,
    NeedsRecoveryError,
    NotAnIndexError,
    ReadOnlyError,
    ReplacedError,
    StorageError,
)
from edgeret.storage import log, schema
from edgeret.storage.description import Description
from edgeret.storage.newfile import assembled, owned
from edgeret.storage.pages import PAGE_BYTES
from edgeret.storage.place import Place, beside, status

CACHE_BYTES: Final = 2_000_000
_TEMPORARY_CACHE_BYTES: Final = 256_000

WAIT_S: Final = 5.0
"""How long a change waits for another writer, unless told otherwise."""

_OPENING_S: Final = 5.0
"""How long another process that opens or closes the file just now is waited for, at least."""

_NAP_S: Final = 0.005

Answer = TypeVar("Answer")


def create(path: Path, description: Description, wait: float = WAIT_S) -> None:
    """Write an empty index to `path`, readable by its owner only; a file that was made goes if that fails.

    An empty file, which an interrupted `create` leaves, is written over. wait: seconds for somebody else who has it
    locked. Raises IndexExistsError if the file has content, LockedError, StorageError if it cannot be written.
    """
    check_wait(wait)
    roll_back(path, wait)
    there = status(path)
    if there is not None and there.st_size:
        raise IndexExistsError(f"'{path}' exists: open it with Index.open, or pass exist_ok=True")
    made = owned(path)
    place = Place(path)
    try:
        with translated(path):
            connection = log.connection(path, "rw")
            try:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                _configure(connection)
                patiently(path, lambda: connection.execute("BEGIN IMMEDIATE"), wait)
                if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    raise IndexExistsError(f"'{path}' was created by somebody else just now: open it")
                schema.fill(connection, description)
                # Whoever looks whether somebody has made it reads for a moment.
                patiently(path, lambda: connection.execute("COMMIT"), max(wait, _OPENING_S))
            finally:
                connection.close()
        # Another that failed to create there may have removed the file in between.
        place.check()
    except BaseException:
        if made:
            _remove_empty(place)
        raise
    finally:
        place.leave()


def _remove_empty(place: Place) -> None:
    with suppress(OSError, ReplacedError):
        place.check()
        if not place.path.stat().st_size:
            place.path.unlink()


def discard(path: Path) -> None:
    """Remove the index that was created a moment ago, unless anybody has it open or has changed it."""
    with suppress(sqlite3.Error, EdgeretError, OSError), closing(log.connection(path, "rw")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT generation FROM state").fetchone() == (0,):
            path.unlink()


def connect(
    place: Place,
    readonly: bool,
    cache_bytes: int = CACHE_BYTES,
    wait: float = WAIT_S,
    merge: bool = True,
    known: Place | None = None,
) -> sqlite3.Connection:
    """Open the index at `place`; transactions are begun and ended explicitly.

    wait: seconds for another process that keeps this one from opening it, 5 at least. merge: False for a reader that
    leaves file and log as they are. known: where the same file was opened before.

    A reader on a writable medium opens read-write and forbids itself to write: the last connection
    that closes merges the write-ahead log and removes it, which a `mode=ro` connection cannot do. A reader that
    may not write, where no log lies, reads without locks: then the place is watched.

    Raises IndexMissingError, NotAnIndexError, FormatVersionError, NeedsRecoveryError, ReadOnlyError, ReplacedError,
    StorageError.
    """
    path = place.path
    check_wait(wait)
    roll_back(path, max(wait, _OPENING_S))
    check_path(path)
    if not readonly and not _writable(path):
        # SQLite would open it all the same, and the first write would fail.
        raise ReadOnlyError(
            f"'{path}' cannot be written: open it with readonly=True, or check the permissions"
        )

    def attempt() -> sqlite3.Connection:
        # Looked at before the mode is chosen: what comes in between is a change.
        place.watch()
        mode = _read_mode(place, merge) if readonly else "rw"
        if mode != "immutable":
            place.unwatch()
            if known is None:
                log.check(place)
        connection = log.connection(path, mode)
        try:
            # Before anything is read: who has read another file merges the log beside it when it is closed.
            place.check(known)
            _configure(connection, cache_bytes)
            schema.check_identity(connection, path)
            connection.execute("PRAGMA query_only = ON" if readonly else "PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        place.connection = connection
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
    owned(path)
    with translated(path):
        connection = log.connection(path, "rw")
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
    if status(beside(path, "-journal")) is None or status(path) is None or not _writable(path):
        return
    with translated(path):
        connection = log.connection(path, "rw")
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
    if found.st_size == 1:  # SQLite takes it for empty.
        raise NotAnIndexError(
            f"expected an edgeret index, '{path}' is another kind of file: choose another path"
        )


def backup(source: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy a file that may be in use to a new one, by SQLite's online backup, a few pages at a time.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    with assembled(target) as copy:
        copy_pages(source, path, copy)


def copy_pages(source: sqlite3.Connection, path: Path, target: Path) -> None:
    """Copy a file as `backup` does, to a file that nobody takes for a whole one yet."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with translated(path), closing(log.connection(target, "rw")) as copy:
        _configure(copy)
        try:
            # Between two parts, a signal ends it.
            source.backup(copy, pages=256, progress=lambda *_: None)
            log.name(copy)
            # Here, since what fails while it is closed, SQLite does not tell.
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            raise StorageError(
                f"no space left for a copy of '{path}', which is as it was: free some, or choose another place"
            ) from error


def translated(path: Path, most_bytes: int | None = None) -> _Translation:
    """Turn SQLite's errors into edgeret's. most_bytes: of a value, where a memory budget bounds them."""
    return _Translation(path, most_bytes)


class _Translation:
    # No generator: each search is within some of these.
    def __init__(self, path: Path, most_bytes: int | None = None) -> None:
        self._path, self._most_bytes = path, most_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        path, most_bytes = self._path, self._most_bytes
        if isinstance(error, sqlite3.Error):
            if most_bytes is not None and _code(error) == sqlite3.SQLITE_TOOBIG:
                raise BudgetError(
                    f"expected documents of at most {most_bytes:,} bytes in '{path}', or as many to find them by: more "
                    "is larger than the memory budget allows: raise the budget"
                ) from error
            raise _translate(path, error) from error
        if isinstance(error, UnicodeDecodeError):
            # SQLite quotes a damaged schema in its message, and sqlite3 fails to decode that.
            raise CorruptIndexError(
                f"'{path}' is damaged ({error}): restore a backup, or build it again from its documents"
            ) from error
        if isinstance(error, OverflowError | UnicodeEncodeError):
            # What sqlite3 cannot hand over: an integer past 64 bits, a text past 2**31 bytes or with a lone surrogate.
            raise ArgumentError(
                f"expected what SQLite can store, got another value ({error}): shorten it"
            ) from error


_NOT_YET: Final = (
    sqlite3.SQLITE_READONLY_CANTINIT,
    sqlite3.SQLITE_READONLY_CANTLOCK,
    sqlite3.SQLITE_READONLY_DBMOVED,
    sqlite3.SQLITE_READONLY_RECOVERY,
)
"""What a reader who may not write meets while a log begins or ends, and whoever opens a file that is just removed."""


def _code(error: BaseException | None) -> int:
    """SQLite's primary code, and that of a lock for what another connection does just now."""
    code = int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR))
    return sqlite3.SQLITE_BUSY if code in _NOT_YET else code & 0xFF


def _translate(path: Path, error: sqlite3.Error) -> EdgeretError:
    """The error of ours for one of SQLite's: only what says that the file is damaged is damage."""
    match _code(error):
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
                f"no space left for '{path}', or where SQLite keeps temporary files: free some and run the call again"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_IOERR if files.exhausted():
            return StorageError(
                f"no more files can be opened, '{path}' cannot either: close some, or raise the limit (ulimit -n)"
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


def contradicts(error: EngineError) -> bool:
    """Whether a statement that holds none of a caller's values failed for what it found in the file."""
    code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)


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


def _read_mode(place: Place, merge: bool) -> str:
    path, has_log = place.path, place.log_bytes > 0
    if _writable(path):
        # A `mode=ro` connection would leave an empty log behind where there was none.
        return "ro" if has_log and not merge else "rw"
    if has_log:
        if status(beside(path, "-shm")) is not None:
            return "ro"
        raise NeedsRecoveryError(
            f"'{path}' has changes in '{path.name}-wal' that were not merged and cannot be written here: open it once "
            "where it can be, or ship a copy made by 'edgeret backup'"
        )
    return "immutable"
