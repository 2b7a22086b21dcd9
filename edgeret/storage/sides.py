"""Sides: the files that edgeret lays beside an index, known by their names, so that erasing forgets none.

| name | holds | goes |
|---|---|---|
| PATH-wal, PATH-shm, PATH-journal | SQLite's own: commits on their way | with the last connection |
| PATH-partitions | codes once more | with `erase` |
| PATH-reencode | drafts | after `reencode`; `erase` empties it of what the index lacks |
| PATH.sig, PATH-partitions.sig | signatures | by hand |
| .TARGET-XXXXXXXX/ | a new file, until it has its name | with its call; if that is killed, with the next `erase` |

`erase` stands for `compact` too.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edgeret.errors import StorageError
from edgeret.storage.place import beside

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

COPY: Final = "copy"
"""The file that becomes the target."""

_SQLITE: Final = ("-wal", "-shm", "-journal")
_PARTITIONS: Final = "-partitions"
_DRAFTS: Final = "-reencode"
_SIGNATURE: Final = ".sig"
_SIDE: Final = re.compile(
    rf"({re.escape(_PARTITIONS)}|{re.escape(_DRAFTS)})?({'|'.join(map(re.escape, (*_SQLITE, _SIGNATURE)))})?"
)
_LOCK: Final = "lock"
_WORKSHOP: Final = re.compile(r"\..+-[a-z0-9_]{8}", re.DOTALL)
_CONTENT: Final = re.compile(rf"{_LOCK}|({COPY}|pages)({'|'.join(_SQLITE)})?")


def partitions_of(index: Path) -> Path:
    """Where the partitions of an index lie."""
    return beside(index, _PARTITIONS)


def drafts_of(index: Path) -> Path:
    """Where the drafts of an index lie."""
    return beside(index, _DRAFTS)


def signature_of(path: Path) -> Path:
    """Where the signature of a file lies."""
    return beside(path, _SIGNATURE)


def is_of(index: Path, path: str) -> bool:
    """Whether a path is that of an index, or of a file that edgeret lays beside it."""
    return any(
        path.startswith(name) and _SIDE.fullmatch(path, len(name))
        for name in (str(index), str(beside(index, "")))
    )


def unsigned(index: Path) -> list[Path]:
    """What lies beside an index that SQLite would add to it, or a later call believe."""
    return [side for suffix in (*_SQLITE, _DRAFTS) if os.path.lexists(side := beside(index, suffix))]


def remove(path: Path) -> None:
    """Delete a file, and what SQLite laid beside it, if they are there. Raises StorageError."""
    for side in (path, *(path.with_name(path.name + suffix) for suffix in _SQLITE)):
        try:
            side.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete '{side}': {error.strerror}") from error


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, gone at the end; if this process is killed, `sweep` knows it by its lock."""
    with suppress(StorageError):
        # What cannot go now is told by those who promise that it goes.
        sweep(target.parent)
    folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if fcntl is not None:
                with suppress(OSError):  # A file system without locks: whoever sweeps there is told.
                    fcntl.flock(lock, fcntl.LOCK_EX)
            # Only now: an empty lock is one that its maker has not taken yet.
            os.write(lock, b"1")
            yield folder
        finally:
            os.close(lock)
    finally:
        _remove_folder(folder)


def sweep(folder: Path, unfinished: Path | None = None) -> None:
    """Delete what killed calls left in `folder`. unfinished: a target whose folders go even while they are in use.

    Raises StorageError for one that cannot be deleted.
    """
    own = None if unfinished is None else re.compile(re.escape(f".{unfinished.name}-") + ".{8}")
    try:
        found = [path for path in folder.iterdir() if _WORKSHOP.fullmatch(path.name)]
    except OSError as error:
        raise StorageError(
            f"cannot look into '{folder}' for what killed calls left: {error.strerror}"
        ) from error
    for path in found:
        if _is_ours(path) and ((own and own.fullmatch(path.name)) or _abandoned(path)):
            _remove_folder(path)


def _is_ours(folder: Path) -> bool:
    try:
        names = {path.name for path in folder.iterdir()} if not folder.is_symlink() else set()
    except OSError:
        return False  # Another user's, no folder, or gone meanwhile.
    return _LOCK in names and all(_CONTENT.fullmatch(name) for name in names)


def _abandoned(folder: Path) -> bool:
    """Whether the call that made a folder has ended."""
    if fcntl is None:
        return False
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _stays(folder, error) from error
    try:
        if not os.fstat(lock).st_size:
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _stays(folder, error) from error
    finally:
        os.close(lock)
    return True


def _remove_folder(folder: Path) -> None:
    try:
        # The lock last: what is left by another kill is known by it too.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == _LOCK):
            path.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _stays(folder, error) from error


def _stays(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"a call that was interrupted left '{folder}', which cannot be deleted ({error.strerror}): delete it"
    )
