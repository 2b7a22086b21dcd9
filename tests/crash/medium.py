"""A medium rebuilt from a log of changes: what may lie on it when the power fails after any of them."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
MARKS = "marks"
"""The file whose writes are no changes but marks of the workload in the log."""

_HEAD = struct.Struct("<4q")

Image = dict[str, bytes]


@dataclass(frozen=True)
class Change:
    """kind: create, write, truncate, sync, unlink or rename, by its first letter. data: of a write."""

    kind: str
    name: str
    offset: int
    data: bytes


def read_log(path: Path) -> Iterator[Change]:
    """The changes in the order in which they were made."""
    log = path.read_bytes()
    at = 0
    while at < len(log):
        kind, offset, name_size, size = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        name = log[at : at + name_size].decode()
        at += name_size
        yield Change(chr(kind), name, offset, log[at : at + size])
        at += size


@dataclass
class _File:
    """synced: what a sync has put on the medium. written: what the system shows. pending: the difference."""

    synced: bytes = b""
    written: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)


class Medium:
    """Files as a log has changed them so far."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._created: set[str] = set()
        self._removed: dict[str, _File] = {}
        self._renamed: list[tuple[str, str, _File | None]] = []

    def apply(self, change: Change) -> None:
        """Make the next change of the log."""
        if change.kind == "c":
            self._files[change.name] = _File()
            self._created.add(change.name)
            self._removed.pop(change.name, None)
        elif change.kind == "u":
            self._removed[change.name] = self._files.pop(change.name)
        elif change.kind == "r":
            target = change.data.decode()
            self._renamed.append((change.name, target, self._files.get(target)))
            self._files[target] = self._files.pop(change.name)
        elif change.name in self._files:
            file = self._files[change.name]
            if change.kind == "s":
                file.synced, file.pending = bytes(file.written), []
            else:
                _write(file.written, change)
                file.pending.append(change)
        elif change.kind == "s":
            self._created = {name for name in self._created if folder_of(name) != change.name}
            for name in [name for name in self._removed if folder_of(name) == change.name]:
                del self._removed[name]
            self._renamed = [names for names in self._renamed if folder_of(names[1]) != change.name]

    def kept(self) -> Image:
        """Every write has reached the medium: what a killed process leaves."""
        return {name: bytes(file.written) for name, file in self._files.items()}

    def lost(self) -> Image:
        """No write since the file's last sync has reached the medium."""
        return {name: file.synced for name, file in self._files.items()}

    def revived(self) -> Image:
        """As `lost`, and no removal or renaming of a file since its folder's last sync has reached the medium."""
        files = self._removed | self._files
        for name, target, replaced in reversed(self._renamed):
            files[name] = files.pop(target)
            if replaced is not None:
                files[target] = replaced
        return {name: file.synced for name, file in files.items()}

    def unborn(self) -> Image:
        """As `revived`, and no creation of a file since its folder's last sync has reached the medium."""
        return {name: content for name, content in self.revived().items() if name not in self._created}

    def torn(self, rng: random.Random) -> Image:
        """Any of the sectors written since the last sync have reached the medium, in any order."""
        image = {}
        for name, file in self._files.items():
            content = bytearray(file.synced)
            share = rng.choice((0.1, 0.5, 0.9, 0.99))
            for change in file.pending:
                for part in _sectors(change):
                    if rng.random() < share:
                        _write(content, part)
            image[name] = bytes(content)
        return image


def folder_of(name: str) -> str:
    """The folder of a file, "." for the one that is watched."""
    return str(Path(name).parent)


def _sectors(change: Change) -> Iterator[Change]:
    """A write in parts that reach the medium, each whole or not at all."""
    if change.kind == "t":
        yield change
        return
    at = 0
    while at < len(change.data):
        offset = change.offset + at
        size = SECTOR_BYTES - offset % SECTOR_BYTES
        yield Change("w", change.name, offset, change.data[at : at + size])
        at += size


def _write(content: bytearray, change: Change) -> None:
    end = change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if change.kind == "t":
        del content[change.offset :]
    else:
        content[change.offset : end] = change.data
