"""Description: what an index file says of itself, in the table `meta`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edgeret.storage.checksum import checksum


class Description(NamedTuple):
    """The settings of an index.

    model: the recorded name of its bundle. space, geometry: 32 hex digits each. dim: entries of a vector. bits: of a
    code. filters: metadata keys that have a column.
    """

    model: str
    space: str
    geometry: str
    dim: int
    bits: int
    filters: list[str]

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Description:
        """What the lines of the table say. Raises ValueError unless they are what was written."""
        if entries.keys() != KEYS or entries["crc"] != meta_checksum(entries):
            raise ValueError("its description, the table meta, is not what was written")
        filters = _parsed(entries, "filters", list)
        if not all(isinstance(key, str) for key in filters):
            raise ValueError(f"its filters are {entries['filters']!r:.40}")
        return cls(
            model=entries["model"],
            space=entries["space"],
            geometry=entries["geometry"],
            dim=_parsed(entries, "dim", int),
            bits=_parsed(entries, "bits", int),
            filters=filters,
        )

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Description:
        """Read it from the table. Raises as `of` does."""
        found = connection.execute("SELECT key, value FROM meta LIMIT ?", (2 * len(KEYS),)).fetchall()
        return cls.of({key: value for key, value in found if isinstance(key, str) and isinstance(value, str)})

    def write(self, connection: sqlite3.Connection) -> None:
        """Write it into the table, in place of another one."""
        entries = {**self._entries(), "crc": self.checksum}
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", entries.items())

    @property
    def checksum(self) -> str:
        """The line `crc`."""
        return meta_checksum(self._entries())

    def _entries(self) -> dict[str, str]:
        return {
            "model": self.model,
            "space": self.space,
            "geometry": self.geometry,
            "dim": str(self.dim),
            "bits": str(self.bits),
            "filters": json.dumps(self.filters),
        }


KEYS: Final = {*Description._fields, "crc"}
"""The lines of the table."""


def meta_checksum(entries: Mapping[str, str]) -> str:
    """CRC-32, in decimal, over all lines but its own."""
    covered = sorted((key, value) for key, value in entries.items() if key != "crc")
    return str(checksum(content=json.dumps(covered).encode()))


def _parsed(entries: Mapping[str, str], key: str, kind: type) -> Any:
    try:
        value = json.loads(entries[key])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"its {key} are {entries[key]!r:.40}")
    return value
