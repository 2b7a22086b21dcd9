"""SQLite FTS5: BM25 over words, in the standard library."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.systems import Batch, Hit, K, Question

WORDS = re.compile(r"\w+")


class Words:
    """A query matches what has any of its words."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._file = sqlite3.connect(folder / "index")
        self._file.execute("CREATE VIRTUAL TABLE IF NOT EXISTS found USING fts5 (text)")

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        with self._file:
            self._file.executemany(
                "INSERT INTO found (rowid, text) VALUES (?, ?)", zip(batch.rows, batch.texts, strict=True)
            )

    def delete(self, row: int) -> None:
        with self._file:
            self._file.execute("DELETE FROM found WHERE rowid = ?", [row])

    def search(self, question: Question) -> list[Hit]:
        words = " OR ".join(f'"{word}"' for word in WORDS.findall(question.text))
        read = "SELECT rowid, text FROM found WHERE found MATCH ? ORDER BY rank LIMIT ?"
        return [Hit(*hit) for hit in self._file.execute(read, [words, K])] if words else []

    def close(self) -> None:
        self._file.close()
