"""sqlite-vec: exact search of a virtual table, texts beside the vectors; with FTS5, by words too."""

from __future__ import annotations

import ctypes
import ctypes.util
import heapq
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sqlite_vec

from benchmarks.systems import OVERSAMPLE, Batch, Hit, K, Question, Vectors
from edgeret.codec import quantize


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection that has the extension."""
    # Many Pythons are built without enable_load_extension; SQLite's own registration is always there.
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_auto_extension(ctypes.CDLL(f"{sqlite_vec.loadable_path()}.so").sqlite3_vec_init)
    connection = sqlite3.connect(path)
    library.sqlite3_reset_auto_extension()
    return connection


class Float:
    """Vectors in full."""

    columns, value = "vector float[{dim}] distance_metric=cosine", "?"

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._file = connect(folder / "index")
        columns = self.columns.format(dim=encoder.dim)
        self._file.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS found USING vec0 ({columns}, +text TEXT)")

    def rows(self, vectors: Vectors) -> Any:
        return vectors

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        rows = (row.tobytes() for row in self.rows(batch.vectors))
        with self._file:
            self._file.executemany(
                f"INSERT INTO found (rowid, vector, text) VALUES (?, {self.value}, ?)",
                zip(batch.rows, rows, batch.texts, strict=True),
            )

    def delete(self, row: int) -> None:
        with self._file:
            self._file.execute("DELETE FROM found WHERE rowid = ?", [row])

    def search(self, question: Question) -> list[Hit]:
        read = f"SELECT rowid, text FROM found WHERE vector MATCH {self.value} AND k = ? ORDER BY distance"
        return [Hit(*hit) for hit in self._file.execute(read, [self.rows(question.vector).tobytes(), K])]

    def close(self) -> None:
        self._file.close()


class Hybrid(Float):
    """Beside FTS5: both lists are fused by reciprocal ranks (Cormack, Clarke and Buettcher, SIGIR 2009)."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        super().__init__(folder, encoder)
        self._file.execute("CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (text)")

    def add(self, batch: Batch) -> None:
        super().add(batch)
        with self._file:
            self._file.executemany(
                "INSERT INTO words (rowid, text) VALUES (?, ?)", zip(batch.rows, batch.texts, strict=True)
            )

    def delete(self, row: int) -> None:
        super().delete(row)
        with self._file:
            self._file.execute("DELETE FROM words WHERE rowid = ?", [row])

    def search(self, question: Question) -> list[Hit]:
        near = self._file.execute(
            "SELECT rowid FROM found WHERE vector MATCH ? AND k = ? ORDER BY distance",
            [question.vector.tobytes(), K * OVERSAMPLE],
        )
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question.text))
        named = self._file.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",
            [words or '""', K * OVERSAMPLE],
        )
        scores: dict[int, float] = defaultdict(float)
        for found in (near, named):
            for rank, (row,) in enumerate(found, 1):
                scores[row] += 1 / (60 + rank)
        best = heapq.nlargest(K, scores, key=scores.__getitem__)
        read = "SELECT rowid, text FROM words WHERE rowid = ?"
        return [Hit(*self._file.execute(read, [row]).fetchone()) for row in best]


class Int8(Float):
    """A byte a dimension."""

    columns, value = "vector int8[{dim}] distance_metric=cosine", "vec_int8(?)"

    def rows(self, vectors: Vectors) -> Any:
        return quantize(np.atleast_2d(vectors))


class Bit(Float):
    """Signs for candidates, which int8 vectors rescore."""

    columns = "code bit[{dim}], vector int8[{dim}]"

    def add(self, batch: Batch) -> None:
        codes, stored = np.packbits(batch.vectors > 0, axis=1), quantize(batch.vectors)
        found = zip(batch.rows, codes, stored, batch.texts, strict=True)
        with self._file:
            self._file.executemany(
                "INSERT INTO found (rowid, code, vector, text) VALUES (?, vec_bit(?), vec_int8(?), ?)",
                ((row, code.tobytes(), vector.tobytes(), text) for row, code, vector, text in found),
            )

    def search(self, question: Question) -> list[Hit]:
        code = np.packbits(question.vector > 0).tobytes()
        near = self._file.execute(
            "SELECT rowid, text, vector FROM found WHERE code MATCH vec_bit(?) AND k = ?",
            [code, K * OVERSAMPLE],
        ).fetchall()
        stored = np.frombuffer(b"".join(hit[2] for hit in near), np.int8).reshape(len(near), -1)
        scores = stored @ question.vector / np.linalg.norm(stored, axis=1)
        return [Hit(*near[i][:2]) for i in np.argsort(-scores)[:K]]
