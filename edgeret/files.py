"""Files: what a path holds, and opening it only if it is a regular file: a pipe waits for ever, a device never ends."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from edgeret.errors import StorageError


def kind(mode: int) -> str:
    """What a file of this `st_mode` is, in words."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a folder",
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def open_regular(path: Path, follow: bool = True) -> BufferedReader:
    """Open a file for reading, without a wait whatever lies there.

    follow: False refuses a link in the place of the file. Raises StorageError, which names the path, for anything that
    is no regular file and for one that cannot be read.
    """
    try:
        # Opening a device may already do something, so it is asked first, and again what was opened.
        check_regular(path, (path.stat() if follow else path.lstat()).st_mode)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
        stream = os.fdopen(os.open(path, flags), "rb")
        try:
            check_regular(path, os.fstat(stream.fileno()).st_mode)
        except BaseException:
            stream.close()
            raise
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    return stream


def check_regular(path: str | Path, mode: int) -> None:
    """Raise StorageError unless `mode`, of what lies at `path`, is that of a regular file."""
    if not stat.S_ISREG(mode):
        raise StorageError(
            f"expected a regular file, '{path}' is {kind(mode)}: name another one, or remove it"
        )


def unreadable(path: Path, error: OSError | ValueError) -> StorageError:
    """The error for a file that cannot be read; a ValueError comes from a path that no file can have."""
    reason = error.strerror if isinstance(error, OSError) else error
    return StorageError(f"cannot read '{path}' ({reason}): check that it is there and permitted")


def exhausted() -> bool:
    """Whether this process can open no more files: SQLite does not say why it could open none."""
    taken: list[int] = []
    try:
        # An index, its log and the shared memory, and one to spare.
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(4))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    finally:
        for handle in taken:
            os.close(handle)
    return False


def free_bytes(folder: Path) -> int | None:
    """How much more may be written to the medium of a folder; None where the system does not say."""
    if not hasattr(os, "statvfs"):
        return None
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
