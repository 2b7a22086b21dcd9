"""usearch: a graph over int8 vectors or over their signs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index

from benchmarks.systems import Batch, Hit, K, Question, UnsupportedError, Vectors
from benchmarks.systems.texts import Texts


class I8:
    """Read into memory."""

    metric, dtype, view = "cos", "i8", False

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._texts = folder / "index", Texts(folder)
        if self._path.exists():
            self._index = Index.restore(str(self._path), view=self.view)
        else:
            self._index = Index(ndim=encoder.dim, metric=self.metric, dtype=self.dtype)

    def rows(self, vectors: Vectors) -> Any:
        return vectors

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._append(batch)
        self._index.save(str(self._path))

    def add(self, batch: Batch) -> None:
        self._append(batch)
        self._index.save(str(self._path))

    def delete(self, row: int) -> None:
        self._index.remove(row)
        self._texts.delete(row)
        self._index.save(str(self._path))

    def search(self, question: Question) -> list[Hit]:
        return self._texts.of(self._index.search(self.rows(question.vector[None])[0], K).keys.tolist())

    def close(self) -> None:
        self._texts.close()

    def _append(self, batch: Batch) -> None:
        self._index.add(np.asarray(batch.rows), self.rows(batch.vectors))
        self._texts.add(batch)


class I8View(I8):
    """Mapped, and so read-only."""

    view = True

    def add(self, batch: Batch) -> None:
        raise UnsupportedError("load it instead")

    def delete(self, row: int) -> None:
        raise UnsupportedError("load it instead")


class B1(I8):
    """The signs of the vectors, by Hamming distance."""

    metric, dtype = "hamming", "b1"

    def rows(self, vectors: Vectors) -> Any:
        return np.packbits(vectors > 0, axis=1)
