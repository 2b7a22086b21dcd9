"""Description: what an index file says of itself, in the table `meta`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, NamedTuple

from edgeret import stems, words
from edgeret.storage.checksum import checksum

FORMAT: Final = 2
"""Of the file that is written."""

_MOST_LINES: Final = 64


class Description(NamedTuple):
    """The settings of an index.

    model: the recorded name of its bundle. space, geometry: 32 hex digits each. dim: entries of a vector. bits: of a
    code. filters: metadata keys that have a column. format: 1 has the words in FTS5, and none of what follows.
    language: of the texts, by which words are stemmed; None: they are not. tokenizer, stemmer: versions of the rules
    that made the words. others: lines that a later edgeret of the same format wrote; they stay.
    """

    model: str
    space: str
    geometry: str
    dim: int
    bits: int
    filters: list[str]
    format: int = FORMAT
    language: str | None = stems.ENGLISH
    tokenizer: int = words.VERSION
    stemmer: int = stems.ENGLISH_VERSION
    others: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Description:
        """What the lines of the table say. Raises ValueError unless they are what was written."""
        keys = entries.keys()
        is_old = keys == OLD_KEYS
        if not (is_old or keys >= KEYS) or entries["crc"] != meta_checksum(entries):
            raise ValueError("its description, the table meta, is not what was written")
        filters = _parsed(entries, "filters", list)
        if not all(isinstance(key, str) for key in filters):
            raise ValueError(f"its filters are {entries['filters']!r:.40}")
        found = cls(
            model=entries["model"],
            space=entries["space"],
            geometry=entries["geometry"],
            dim=_parsed(entries, "dim", int),
            bits=_parsed(entries, "bits", int),
            filters=filters,
            format=1,
        )
        if is_old:
            return found
        return found._replace(
            format=FORMAT,
            language=_parsed(entries, "language", str | None),
            tokenizer=_parsed(entries, "tokenizer", int),
            stemmer=_parsed(entries, "stemmer", int),
            others=tuple(sorted((key, entries[key]) for key in keys - KEYS)),
        )

    @classmethod
    def read(cls, connection: sqlite3.Connection) -> Description:
        """Read it from the table. Raises as `of` does."""
        found = connection.execute("SELECT key, value FROM meta LIMIT ?", (_MOST_LINES,)).fetchall()
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
        lines = {
            "model": self.model,
            "space": self.space,
            "geometry": self.geometry,
            "dim": str(self.dim),
            "bits": str(self.bits),
            "filters": json.dumps(self.filters),
        }
        if self.format == 1:
            return lines
        return {
            **lines,
            "language": json.dumps(self.language),
            "tokenizer": str(self.tokenizer),
            "stemmer": str(self.stemmer),
            **dict(self.others),
        }


OLD_KEYS: Final = {"model", "space", "geometry", "dim", "bits", "filters", "crc"}
"""The lines of the table in format 1."""

KEYS: Final = OLD_KEYS | {"language", "tokenizer", "stemmer"}
"""The lines that it has at least."""


def meta_checksum(entries: Mapping[str, str]) -> str:
    """CRC-32, in decimal, over all lines but its own."""
    covered = sorted((key, value) for key, value in entries.items() if key != "crc")
    return str(checksum(content=json.dumps(covered).encode()))


def _parsed(entries: Mapping[str, str], key: str, kind: type | UnionType) -> Any:
    try:
        value = json.loads(entries[key])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, kind):
        raise ValueError(f"its {key} are {entries[key]!r:.40}")
    return value
