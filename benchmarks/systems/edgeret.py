"""edgeret itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edgeret
from benchmarks.systems import Batch, Hit, Question

BITS = 256


class Edgeret:
    """Opened read-only; a change opens it again."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._encoder, self._readonly = folder / "index.edgeret", encoder, True
        if self._path.exists():
            self._index = edgeret.Index.open(self._path, encoder, readonly=True)

    def build(self, batches: Iterator[Batch]) -> None:
        bits = max(width for width in self._encoder.codec.widths if width <= BITS)
        self._index, self._readonly = edgeret.Index.create(self._path, self._encoder, bits), False
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        vectors = [None] * len(batch.texts) if batch.vectors is None else batch.vectors
        self._writable().add(
            edgeret.Document(str(row), text, vector=vector)
            for row, text, vector in zip(batch.rows, batch.texts, vectors, strict=True)
        )

    def delete(self, row: int) -> None:
        self._writable().delete([str(row)])

    def search(self, question: Question) -> list[Hit]:
        query = question.text if question.vector is None else question.vector
        return [Hit(int(hit.id), hit.text) for hit in self._index.search(query, mode="dense")]

    def close(self) -> None:
        self._index.close()

    def _writable(self) -> edgeret.Index:
        if self._readonly:
            self._index.close()
            self._index, self._readonly = edgeret.Index.open(self._path, self._encoder), False
        return self._index


class Hybrid(Edgeret):
    """By meaning and words, as it answers where nothing else is said."""

    def search(self, question: Question) -> list[Hit]:
        return [Hit(int(hit.id), hit.text) for hit in self._index.search(question.text)]


class Partitioned(Edgeret):
    """With partitions, which a reopened index has."""

    def build(self, batches: Iterator[Batch]) -> None:
        super().build(batches)
        edgeret.optimize(self._path)
        self.close()
        self._index, self._readonly = edgeret.Index.open(self._path, self._encoder), False
