"""Folder: the files of a folder and of its subfolders, and what lies there that is no file to read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from edgeret import files
from edgeret.errors import EdgeretError, InvalidDocumentError, StorageError

LARGEST_BYTES: Final = 1 << 28
"""Of a file and of a line: what is larger is no document, and would take all memory."""


class File(NamedTuple):
    """A regular file.

    name: its path inside the folder, with slashes, behind what all names begin with. path: where it lies. root: the
    folder, its links resolved, that must hold the file; None: it may lie anywhere. octets: its size. mtime: when it was
    changed, an ISO date in UTC.
    """

    name: str
    path: str
    root: Path | None = None
    octets: int = 0
    mtime: str = ""


class Fault(NamedTuple):
    """What cannot be read, by its path inside the folder.

    is_special: it is a pipe, a device, a socket, or a link out of the folder, which is never read.
    """

    name: str
    error: EdgeretError
    is_special: bool = False


class Contents(NamedTuple):
    """What lies in a folder, each sorted by name. others: names of files that are not wanted."""

    files: list[File]
    faults: list[Fault]
    others: list[str]


def walk(
    folder: Path, wanted: Callable[[str], bool], follow_links: bool = False, before: str = ""
) -> Contents:
    """Look for all files below a folder; names that begin with a dot are left out, and a folder is read once.

    wanted: whether a file of this name is to be read. follow_links: also go where links lead out of the folder. before:
    what all names begin with. Raises StorageError if the folder itself cannot be read.
    """
    walk = _Walk(folder, wanted, follow_links, before)
    walk.go()
    for names in walk.found:
        names.sort()
    return walk.found


class _Walk:
    """One look at a folder."""

    def __init__(self, folder: Path, wanted: Callable[[str], bool], follow_links: bool, before: str) -> None:
        self.found = Contents([], [], [])
        self._folder, self._wanted, self._before = folder, wanted, before
        self._root = None if follow_links else Path(os.path.realpath(folder))
        self._walked: set[tuple[int, int]] = set()

    def go(self) -> None:
        """Look at all that lies below."""
        # Links wait until the folders themselves are read, so that a file has the name of its own place.
        waiting, links = [""], list[str]()
        while waiting or links:
            parent = waiting.pop() if waiting else links.pop(0)
            for entry in self._visible(parent):
                name = f"{parent}/{entry.name}" if parent else entry.name
                if _is_folder(entry):
                    (links if entry.is_symlink() else waiting).append(name)
                else:
                    self._sort_in(entry, self._before + name)

    def _visible(self, name: str) -> list[os.DirEntry[str]]:
        path = self._folder / name
        try:
            status = _resolved(path, self._root).stat()
            if (status.st_dev, status.st_ino) in self._walked:
                return []
            self._walked.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return sorted((one for one in entries if not one.name.startswith(".")), key=_name)
        except OSError as error:
            if not name:
                raise files.unreadable(path, error) from None
            self.found.faults.append(Fault(self._before + name, files.unreadable(path, error)))
        except InvalidDocumentError as error:
            self.found.faults.append(Fault(self._before + name, error, is_special=True))
        return []

    def _sort_in(self, entry: os.DirEntry[str], name: str) -> None:
        """Note a file, or what lies in the place of one."""
        if not self._wanted(name):
            self.found.others.append(name)
            return
        is_special = True
        try:
            name.encode()
            is_link = entry.is_symlink()
            status = _resolved(Path(entry.path), self._root).stat() if is_link else entry.stat()
            files.check_regular(entry.path, status.st_mode)
            self.found.files.append(File(name, entry.path, self._root, status.st_size, _when(status)))
            return
        except UnicodeEncodeError:
            is_special = False
            error: EdgeretError = InvalidDocumentError(
                f"{entry.path}: expected a name in UTF-8, as it is the document's id, got another encoding: rename it"
            )
        except (InvalidDocumentError, StorageError) as refused:
            error = refused
        except OSError as refused:
            error = files.unreadable(Path(entry.path), refused)
            # A link that leads nowhere, or in a circle.
            is_special = refused.errno in (errno.ENOENT, errno.ELOOP)
        self.found.faults.append(Fault(name, error, is_special))


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads in a circle.
        return False


def _when(status: os.stat_result) -> str:
    """When a file was changed: an ISO date in UTC, to the microsecond."""
    try:
        changed = datetime.fromtimestamp(status.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):
        # Years that no calendar has, as broken media give them.
        return str(status.st_mtime_ns)
    return changed.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _resolved(path: Path, root: Path | None) -> Path:
    """The path without links if it must not leave the folder `root`; refuses one that does."""
    if root is None:
        return path
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise InvalidDocumentError(
            f"'{path}' is a link out of the folder: pass --follow-links to read it too"
        )
    return real


def content(file: File) -> bytes:
    """All of a file. Raises StorageError if it cannot be read, InvalidDocumentError if it is too large."""
    # Looked at once, so that it is what was looked at that is opened.
    path = _resolved(Path(file.path), file.root)
    try:
        with files.open_regular(path, follow=file.root is None) as stream:
            octets = stream.read(LARGEST_BYTES + 1)
    except StorageError as error:
        raise StorageError(f"{file.path}: {error}") from None
    except OSError as error:
        raise files.unreadable(Path(file.path), error) from None
    if len(octets) > LARGEST_BYTES:
        raise too_large(file.path)
    return octets


def lines(file: File) -> Iterator[bytes | InvalidDocumentError]:
    """The lines of a file one by one; of one that is too large, why. Raises as `content` does."""
    path = _resolved(Path(file.path), file.root)
    try:
        with files.open_regular(path, follow=file.root is None) as stream:
            yield from cut(stream.readline, file.path)
    except StorageError as error:
        raise StorageError(f"{file.path}: {error}") from None
    except OSError as error:
        raise files.unreadable(Path(file.path), error) from None


def cut(readline: Callable[[int], bytes], place: str) -> Iterator[bytes | InvalidDocumentError]:
    """The lines that a stream gives; of one that is too large, why. place: what an error would name."""
    number = 0
    while line := readline(LARGEST_BYTES + 1):
        number += 1
        if len(line) <= LARGEST_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = readline(1 << 16)
        yield too_large(f"{place}, line {number}")


def too_large(place: str) -> InvalidDocumentError:
    """The error for what takes too much memory."""
    return InvalidDocumentError(f"{place}: expected at most {LARGEST_BYTES:,} bytes, got more: split it")
