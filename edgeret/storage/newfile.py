"""Target: a new file beside others, which overwrites nothing and is not left half written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeret.errors import EdgeretError, IndexExistsError, StorageError
from edgeret.storage.place import beside, status
from edgeret.storage.sides import COPY, workshop


def owned(path: Path) -> bool:
    """Make an empty file, readable by its owner only, or give the one that lies there to its owner alone.

    Returns whether it was made. Raises StorageError for a symbolic link, for what is no file, for the file of another
    user, and if it cannot be written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        return True
    except FileExistsError:
        pass
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror}") from None
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "something else"
            raise StorageError(f"expected a file at '{path}', found {kind}: choose another path")
        _check_owner(path, found)
        if os.name == "posix" and found.st_mode & 0o077:
            _hide(path, found)
    except OSError as error:
        if isinstance(error, EdgeretError):
            raise
        raise StorageError(f"cannot write '{path}': {error.strerror}") from None
    return False


def _check_owner(path: Path, found: os.stat_result) -> None:
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise StorageError(f"'{path}' belongs to another user, {found.st_uid}: choose another path")


def _hide(path: Path, found: os.stat_result) -> None:
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if not os.path.samestat(os.fstat(handle), found):
            raise StorageError(f"'{path}' was replaced just now: try again")
        os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Make an empty file, readable by its owner only, to be filled meanwhile; it goes if that fails.

    Raises IndexExistsError if `target` exists, or beside it a log that SQLite would take for its own, StorageError if
    it cannot be written.
    """
    for suffix in ("-journal", "-wal"):
        left = beside(target, suffix)
        if (found := status(left)) is not None and found.st_size:
            raise IndexExistsError(
                f"'{left}' is the log of another file that lay there before: remove it, or choose another name"
            )
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise IndexExistsError(f"'{target}' exists: choose another name") from None
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror}") from None
    try:
        yield
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise


@contextmanager
def assembled(target: Path) -> Iterator[Path]:
    """A path in a temporary folder; the file that lies there, synced, at the end becomes `target`, whole.

    Until then `target` is empty, and so it stays if the power fails. Raises as `claimed` does.
    """
    with claimed(target), replaced(target) as copy:
        yield copy


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A path in a temporary folder; the file that lies there, synced, at the end takes the place of `target`.

    Raises StorageError if it cannot be written.
    """
    try:
        with workshop(target) as folder:
            copy = folder / COPY
            yield copy
            copy.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, EdgeretError):
            raise
        raise StorageError(f"cannot write '{target}': {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
