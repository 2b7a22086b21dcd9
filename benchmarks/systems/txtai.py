"""txtai: an embeddings database, given vectors that were made outside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from txtai import Embeddings

from benchmarks.systems import Batch, Hit, K, Question, Vectors


class Txtai:
    """With its default index (FAISS, inverted lists) and texts in SQLite."""

    hybrid = False

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._waiting = folder / "found", iter(())
        # A function it must be, not a method.
        vectors = {"method": "external", "transform": lambda texts: self._next(texts)}
        self._found = Embeddings(vectors, content=True, hybrid=self.hybrid)
        if self._path.exists():
            self._found.load(str(self._path), config=vectors)

    def build(self, batches: Iterator[Batch]) -> None:
        self._found.index(self._rows(batches))
        self._found.save(str(self._path))

    def add(self, batch: Batch) -> None:
        self._found.upsert(self._rows(iter([batch])))
        self._found.save(str(self._path))

    def delete(self, row: int) -> None:
        self._found.delete([str(row)])
        self._found.save(str(self._path))

    def search(self, question: Question) -> list[Hit]:
        self._waiting = iter([question.vector])
        return [Hit(int(hit["id"]), hit["text"]) for hit in self._found.search(question.text, K)]

    def close(self) -> None:
        self._found.close()

    def _rows(self, batches: Iterator[Batch]) -> Iterator[tuple[str, str, None]]:
        for batch in batches:
            self._waiting = chain(self._waiting, batch.vectors)
            for row, text in zip(batch.rows, batch.texts, strict=True):
                yield str(row), text, None

    def _next(self, texts: list[str]) -> Vectors:
        """Texts are asked for in the order in which they were given."""
        return np.stack([next(self._waiting) for _ in texts])


class Hybrid(Txtai):
    """With its index of words, whose scores and those of the vectors are averaged."""

    hybrid = True
