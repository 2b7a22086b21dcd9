"""Place: where a file lies, and which one that is: a file is its device and inode, not its path."""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgeret.errors import ReplacedError, StorageError

_OPEN: Final[set[weakref.ref[Place]]] = set()
"""What this process has open. No WeakSet: while one thread looked through that, no other could open a file."""

_REMEDY: Final = "take what lies there now with Index.reopen, or open it anew"


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path as it is from the folder of this moment, whatever folder the process goes to later.

    Raises StorageError if there is no such folder any more.
    """
    try:
        return Path(path).absolute()
    except OSError as error:
        raise StorageError(f"cannot tell where '{path}' lies: {error.strerror}") from None


def status(path: Path) -> os.stat_result | None:
    """What the file system says of the file at `path`, or None if it says nothing."""
    try:
        return path.stat()
    except OSError:
        return None


def is_held(path: str) -> bool:
    """Whether SQLite has this file open in this process: who opens and closes it too takes away all locks on it."""
    real = os.path.realpath(path)
    found = status(Path(real))
    return found is not None and any(
        os.path.samestat(found, place._file) or real in (f"{place._real}-wal", f"{place._real}-shm")
        for place in _opened()
    )


def beside(path: Path, suffix: str) -> Path:
    """Where SQLite keeps what belongs to the file at `path`: beside the file itself, not beside a link to it."""
    return Path(f"{os.path.realpath(path)}{suffix}")


class _Noted:
    """The log, as the connections of one index know it."""

    def __init__(self) -> None:
        self.log: os.stat_result | None = None
        self.open: weakref.WeakSet[Place] = weakref.WeakSet()


class Place:
    """A path, and the file that lay there when this was made.

    path: absolute; links in it are followed, and SQLite's log lies beside the file that they lead to.
    """

    def __init__(self, path: Path, known: Place | None = None) -> None:
        """known: where the same file was opened before; what is noted of the log is then common to both.

        Raises StorageError if no file can be found, or if this process has the file open under another name.
        """
        _close_inherited()
        self.path = path
        self._process = os.getpid()
        self._real = Path(os.path.realpath(path))
        self._log_path = beside(path, "-wal")
        self._noted: _Noted = _Noted() if known is None else known._noted
        self._watched: tuple[int, ...] | None = None
        self.connection: sqlite3.Connection | None = None
        """Who holds the file open; None until somebody does."""
        self.idle = False
        """Whether nobody uses the connection until it is asked for."""
        try:
            self._file = path.stat()
        except OSError as error:
            raise StorageError(f"cannot read '{path}': {error.strerror}") from None
        for other in _opened():
            if os.path.samestat(other._file, self._file) and other._real != self._real and other._open:
                # Two logs of one file, and each would be merged without the other.
                raise StorageError(
                    f"'{path}' is open in this process as '{other.path}': close that first, or use its name"
                )
        self.enter()

    def enter(self) -> None:
        """The file is open."""
        _OPEN.add(weakref.ref(self, _OPEN.discard))
        self._noted.open.add(self)

    def leave(self) -> None:
        """The file is not open any more."""
        _OPEN.discard(weakref.ref(self))
        self._noted.open.discard(self)
        if not self._noted.open:
            # It goes with the last connection, and the next one may find another.
            self._noted.log = None

    @property
    def _open(self) -> bool:
        """Whether the file is open still: an interrupt may have come before `leave`, and its number is used again."""
        if self.connection is None:
            found = status(self.path)
            return found is not None and os.path.samestat(found, self._file)
        try:
            return self.connection.total_changes >= 0
        except sqlite3.ProgrammingError:
            return False

    @property
    def log_bytes(self) -> int:
        """Bytes of SQLite's log."""
        log = status(self._log_path)
        return 0 if log is None else log.st_size

    @property
    def file_bytes(self) -> int:
        """Bytes of the file and SQLite's log."""
        file = status(self.path)
        return (0 if file is None else file.st_size) + self.log_bytes

    def check(self, known: Place | None = None) -> None:
        """Raise ReplacedError unless the file lies there still, and the log that it had.

        known: another place, of the same path: it must be the same file.
        """
        found = status(self.path)
        if found is None:
            raise ReplacedError(f"'{self.path}' was deleted or renamed since it was opened: {_REMEDY}")
        if not os.path.samestat(found, (known or self)._file):
            raise ReplacedError(
                f"another file was put in the place of '{self.path}' since it was opened: {_REMEDY}"
            )
        # Once: another thread that closes the last connection forgets it.
        noted = self._noted.log
        if noted is not None:
            log = status(self._log_path)
            if log is None or not os.path.samestat(log, noted):
                raise ReplacedError(
                    f"'{self._log_path}' was deleted or replaced while its index was open, and what was in it is lost: "
                    f"{_REMEDY}"
                )
            if _look(log) != _look(noted):
                self._note(log)

    def _note(self, log: os.stat_result) -> None:
        """Remember the log as it is now, `log` or what became of it: another thread may have noted a later one."""
        while True:
            self._noted.log = log
            found = status(self._log_path)
            if found is None or not os.path.samestat(found, log) or _look(found) == _look(log):
                return
            log = found

    def expect_log(self) -> None:
        """From now on `check` looks for the log too, if the transaction that has begun uses one."""
        if self._noted.log is None and self._watched is None:
            self.note_log()

    def note_log(self) -> None:
        """Remember the log as this connection has left it."""
        self._noted.log = status(self._log_path)

    def forget_log(self) -> None:
        """Expect no log: it was ended."""
        self._noted.log = None

    def left_log(self) -> bool:
        """Whether the file has gone from its place, and the log, as this connection knows it, has stayed behind."""
        file, log = status(self._real), status(self._log_path)
        if (
            self._noted.log is None
            or log is None
            or (file is not None and os.path.samestat(file, self._file))
        ):
            return False
        return log.st_size > 0 and _look(log) == _look(self._noted.log)

    # -- reading without locks

    def watch(self) -> None:
        """From now on `changed` says whether anybody has written to the file."""
        self._watched = self._now()

    def unwatch(self) -> None:
        """SQLite's locks keep writers away."""
        self._watched = None

    def changed(self) -> bool:
        """Whether the file, or a log beside it, is another than when `watch` was called."""
        return self._watched is not None and self._watched != self._now()

    def _now(self) -> tuple[int, ...]:
        file = status(self.path)
        return () if file is None else (*_look(file), file.st_ctime_ns, self.log_bytes)


def _opened() -> Iterator[Place]:
    """What this process has open, as of now: the copy is made in one step."""
    return filter(None, (reference() for reference in _OPEN.copy()))


def _look(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _close_inherited() -> None:
    """Close what a fork took along.

    SQLite believes the locks of those connections to be this process's, and takes none where a file is opened anew:
    whoever closed it elsewhere would take away its log. Not as soon as the process is forked: it may never need SQLite,
    and another thread may have held a mutex of it then.
    """
    for place in _opened():
        connection = place.connection
        # Of one that another thread was using, that thread has the mutex for ever.
        if (
            place._process != os.getpid()
            and place.idle
            and connection is not None
            and not connection.in_transaction
        ):
            connection.close()
            place.leave()
