"""LanceDB: a table of vectors and texts, with the index that it makes by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb

from benchmarks.systems import OVERSAMPLE, Batch, Hit, K, Question

NAME = "found"
LEAST_ROWS = 5000


class Lance:
    """IVF-PQ, whose candidates are refined; a small table is searched whole."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._database = lancedb.connect(str(folder))
        self._table = self._database.open_table(NAME) if any(folder.iterdir()) else None

    def build(self, batches: Iterator[Batch]) -> None:
        self._table = self._database.create_table(NAME, _records(next(batches)))
        for batch in batches:
            self.add(batch)
        if self._table.count_rows() >= LEAST_ROWS:
            self._table.create_index(metric="cosine")

    def add(self, batch: Batch) -> None:
        self._table.add(_records(batch))

    def delete(self, row: int) -> None:
        self._table.delete(f"row = {row}")

    def search(self, question: Question) -> list[Hit]:
        found = self._table.search(question.vector).distance_type("cosine")
        return [Hit(hit["row"], hit["text"]) for hit in found.refine_factor(OVERSAMPLE).limit(K).to_list()]

    def close(self) -> None:
        self._table = None


class Hybrid(Lance):
    """With its index of words; both lists are fused by its default, reciprocal ranks."""

    def build(self, batches: Iterator[Batch]) -> None:
        super().build(batches)
        self._table.create_fts_index("text")

    def add(self, batch: Batch) -> None:
        super().add(batch)
        if self._table.list_indices():
            self._table.optimize()

    def search(self, question: Question) -> list[Hit]:
        found = self._table.search(query_type="hybrid").vector(question.vector).text(question.text)
        return [Hit(hit["row"], hit["text"]) for hit in found.limit(K).to_list()]


def _records(batch: Batch) -> list[dict[str, Any]]:
    return [{"row": row, "vector": vector, "text": text} for row, text, vector in zip(*batch, strict=True)]
