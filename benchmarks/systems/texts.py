"""Texts: a table of texts by row, for stores that keep vectors only."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.systems import Batch, Hit


class Texts:
    """A SQLite file in the store's folder."""

    def __init__(self, folder: Path) -> None:
        self._file = sqlite3.connect(folder / "texts.sqlite")
        self._file.execute("CREATE TABLE IF NOT EXISTS texts (row INTEGER PRIMARY KEY, text TEXT)")

    def add(self, batch: Batch) -> None:
        with self._file:
            self._file.executemany(
                "INSERT INTO texts VALUES (?, ?)", zip(batch.rows, batch.texts, strict=True)
            )

    def delete(self, row: int) -> None:
        with self._file:
            self._file.execute("DELETE FROM texts WHERE row = ?", [row])

    def of(self, rows: Sequence[int]) -> list[Hit]:
        """Hits for rows, best first; a row that is not there is left out."""
        read = "SELECT row, text FROM texts WHERE row = ?"
        found = [self._file.execute(read, [int(row)]).fetchone() for row in rows]
        return [Hit(*hit) for hit in found if hit]

    def close(self) -> None:
        self._file.close()
