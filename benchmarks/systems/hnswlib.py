"""hnswlib: a graph over float vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np

from benchmarks.systems import OVERSAMPLE, Batch, Hit, K, Question
from benchmarks.systems.texts import Texts


class Hnsw:
    """With its default graph; a search looks at OVERSAMPLE * K candidates."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._texts = folder / "index", Texts(folder)
        self._index = hnswlib.Index("cosine", encoder.dim)
        if self._path.exists():
            self._index.load_index(str(self._path))
        else:
            self._index.init_index(0)
        self._index.set_ef(K * OVERSAMPLE)

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._append(batch)
        self._index.save_index(str(self._path))

    def add(self, batch: Batch) -> None:
        self._append(batch)
        self._index.save_index(str(self._path))

    def delete(self, row: int) -> None:
        self._index.mark_deleted(row)
        self._texts.delete(row)
        self._index.save_index(str(self._path))

    def search(self, question: Question) -> list[Hit]:
        return self._texts.of(self._index.knn_query(question.vector[None], K)[0][0].tolist())

    def close(self) -> None:
        self._texts.close()

    def _append(self, batch: Batch) -> None:
        self._index.resize_index(self._index.get_current_count() + len(batch.rows))
        self._index.add_items(batch.vectors, np.asarray(batch.rows))
        self._texts.add(batch)
