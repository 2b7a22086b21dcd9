"""turbovec: codes of 4 bits a dimension, scanned whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from turbovec import IdMapIndex

from benchmarks.systems import Batch, Hit, K, Question
from benchmarks.systems.texts import Texts

BITS = 4


class Turbo:
    """In memory; a change is written to its file."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._texts = str(folder / "index"), Texts(folder)
        there = (folder / "index").exists()
        self._index = IdMapIndex.load(self._path) if there else IdMapIndex(dim=encoder.dim, bit_width=BITS)

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self._append(batch)
        self._index.sync(self._path)

    def add(self, batch: Batch) -> None:
        self._append(batch)
        self._index.sync(self._path)

    def delete(self, row: int) -> None:
        self._index.remove(row)
        self._texts.delete(row)
        self._index.sync(self._path)

    def search(self, question: Question) -> list[Hit]:
        _, rows = self._index.search(question.vector[None], k=K)
        return self._texts.of(rows[0].tolist())

    def close(self) -> None:
        self._texts.close()

    def _append(self, batch: Batch) -> None:
        self._index.add_with_ids(batch.vectors, np.asarray(batch.rows, dtype=np.uint64))
        self._texts.add(batch)
