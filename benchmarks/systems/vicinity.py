"""vicinity: vectors and items in memory, as model2vec's users have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from vicinity import Vicinity

from benchmarks.systems import Batch, Hit, K, Question


class Basic:
    """Exact search; an item is the row's number and its text."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path = folder / "found"
        self._found = Vicinity.load(self._path) if self._path.exists() else None

    def build(self, batches: Iterator[Batch]) -> None:
        every = list(batches)
        items = [item for batch in every for item in _items(batch)]
        self._found = Vicinity.from_vectors_and_items(np.concatenate([b.vectors for b in every]), items)
        self._found.save(self._path)

    def add(self, batch: Batch) -> None:
        self._found.insert(_items(batch), batch.vectors)
        self._found.save(self._path, overwrite=True)

    def delete(self, row: int) -> None:
        self._found.delete([item for item in self._found.items if item.startswith(f"{row}\t")])
        self._found.save(self._path, overwrite=True)

    def search(self, question: Question) -> list[Hit]:
        found = [item.split("\t", 1) for item, _ in self._found.query(question.vector, K)[0]]
        return [Hit(int(row), text) for row, text in found]

    def close(self) -> None:
        self._found = None


def _items(batch: Batch) -> list[str]:
    return [f"{row}\t{text}" for row, text in zip(batch.rows, batch.texts, strict=True)]
