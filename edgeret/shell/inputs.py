"""Inputs: folders, files and standard input -> documents, one after the other, never all in memory."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from edgeret import files
from edgeret.documents import Document
from edgeret.errors import EdgeretError, InvalidDocumentError, StorageError
from edgeret.sources import folder, formats
from edgeret.sources.folder import File
from edgeret.sources.formats import NO_KEYS, NO_READER, Entry, Keys, open_here, without_records
from edgeret.storage.place import is_held

STDIN: Final = "-"

Refuse = Callable[[EdgeretError], None]
"""Called with the error of what cannot be indexed; if it returns, the other inputs are read."""

Skip = Callable[[str, str], None]
"""Called with the name of a file that is no document, and why."""


class _Input(NamedTuple):
    file: File
    in_folder: bool = False
    fault: EdgeretError | None = None
    """Why nothing can be read here."""


def _raise(error: EdgeretError) -> None:
    raise error


def _pass(name: str, reason: str) -> None:
    pass


def read(
    inputs: Sequence[str],
    refuse: Refuse = _raise,
    follow_links: bool = False,
    keys: Keys = NO_KEYS,
    skip: Skip = _pass,
) -> Iterator[Document]:
    """Return the documents of `inputs`, in order.

    A folder gives the files that there are readers for, of its subfolders too (hidden ones left out), sorted, with the
    path inside the folder as id. A file has its name as id. One that holds many documents, and `-` (JSON Lines on
    standard input), bring their own ids; in a folder the file's path stands before them.

    refuse: called with an error for each file and each line that cannot be indexed; it may raise. follow_links: also
    read what links in a folder lead to outside of it; a folder is read once, whatever leads to it. keys: of records.
    skip: called for each file of a folder that there is no reader for, and for each without a record.

    Raises InvalidDocumentError, or StorageError for what cannot be read, at once for an input that is none of these.
    """
    found = [one for name in inputs for one in _found(name, follow_links, skip)]
    names: dict[str, str] = {}
    for one in found:
        name, path = one.file.name, one.file.path
        has_ids = formats.is_records(name) and not one.in_folder
        if path != STDIN and not has_ids and names.setdefault(name, path) != path:
            raise InvalidDocumentError(
                f"expected one file for the id {name!r}, got '{names[name]}' and '{path}': "
                "index the folder that holds both"
            )
    return _documents(found, refuse, keys, skip)


def count(inputs: Sequence[str], follow_links: bool = False) -> int | None:
    """Return how many files and lines `read` reads or refuses; None for standard input, which is read only once."""
    if STDIN in inputs:
        return None
    found = [one for name in inputs for one in _found(name, follow_links)]
    return sum(
        1
        if one.fault or not formats.is_records(one.file.name)
        else sum(1 for _ in _entries(one.file, NO_KEYS))
        for one in found
    )


# -- files


def _found(name: str, follow_links: bool, skip: Skip = _pass) -> list[_Input]:
    if name == STDIN:
        return [_Input(File(name, name))]
    if not name:
        raise InvalidDocumentError("expected a file or folder, got an empty name: use . for this folder")
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidDocumentError(f"no file or folder at '{name}': check the path") from None
    except (OSError, ValueError) as error:
        raise files.unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        return _in_folder(path, follow_links, skip)
    if not stat.S_ISREG(mode):
        raise InvalidDocumentError(
            f"expected a file or folder, '{name}' is {files.kind(mode)}: give its lines on standard input, {STDIN}"
        )
    if not formats.is_known(path.name):
        raise InvalidDocumentError(
            f"expected a folder, {STDIN} or one of {formats.endings()}, got '{name}': rename it, or turn it into JSON "
            "Lines"
        )
    return [_Input(File(path.name, name))]


def _in_folder(path: Path, follow_links: bool, skip: Skip) -> list[_Input]:
    found = folder.walk(path, formats.is_known, follow_links)
    for name in found.others:
        skip(name, NO_READER)
    if not found.files and not found.faults:
        raise InvalidDocumentError(
            f"expected files of one of {formats.endings()} in '{path}', found none: choose another folder"
        )
    inputs = [_Input(file, in_folder=True) for file in found.files]
    inputs += [
        _Input(File(fault.name, fault.name), in_folder=True, fault=fault.error) for fault in found.faults
    ]
    return sorted(inputs, key=lambda one: one.file.name)


# -- documents


def _documents(inputs: Iterable[_Input], refuse: Refuse, keys: Keys, skip: Skip) -> Iterator[Document]:
    for one in inputs:
        if one.fault is not None:
            refuse(one.fault)
            continue
        if is_held(one.file.path):
            skip(one.file.name, str(open_here(one.file)))
            continue
        try:
            # By its path: a file may have that name.
            if one.file.path != STDIN and not formats.is_records(one.file.name):
                yield formats.document(one.file)
                continue
            yield from _records(one, refuse, keys, skip)
        except (InvalidDocumentError, StorageError) as error:
            refuse(error)


def _records(one: _Input, refuse: Refuse, keys: Keys, skip: Skip) -> Iterator[Document]:
    """Those of a file that has many."""
    is_empty = True
    # Of each id, whether it is the number of a record that brought none.
    numbered: dict[str, bool] = {}
    for entry in _entries(one.file, keys):
        is_empty = False
        found = entry.found
        if isinstance(found, EdgeretError):
            refuse(found)
        elif not one.in_folder:
            yield found
        else:
            identity = formats.identity(one.file.name, entry, found)
            if numbered.setdefault(identity, found.id is None) == (found.id is None):
                yield Document(identity, found.text, found.metadata, found.vector)
            else:
                refuse(formats.standing_twice(one.file.path, entry, found))
    if is_empty:
        skip(one.file.name, str(without_records(one.file)))


def _entries(file: File, keys: Keys) -> Iterator[Entry]:
    if file.path != STDIN:
        return formats.entries(file, keys)
    if sys.stdin is None:
        raise StorageError("cannot read standard input (it is closed): give a file instead")
    shown = "standard input"
    return formats.lines(folder.cut(sys.stdin.buffer.readline, shown), shown, keys)
