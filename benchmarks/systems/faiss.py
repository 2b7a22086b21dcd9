"""FAISS: exact and compressed indexes, under ids of our own so that rows can be removed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from benchmarks.systems import Batch, Hit, K, Question, UnsupportedError, Vectors
from benchmarks.systems.texts import Texts

TRAINING_BATCHES = 4


def pq_fast_scan(dim: int, parts: int = 64) -> Any:
    """Subquantizers of 4 bits: half a byte for each part a row."""
    return faiss.IndexPQFastScan(dim, parts, 4, faiss.METRIC_INNER_PRODUCT)


class Flat:
    """Every vector in full, compared with every query."""

    read, write = staticmethod(faiss.read_index), staticmethod(faiss.write_index)

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path, self._texts, self._dim = folder / "index", Texts(folder), encoder.dim
        self._index = self.read(str(self._path)) if self._path.exists() else None

    def make(self) -> Any:
        return faiss.IndexIDMap(faiss.IndexFlatIP(self._dim))

    def rows(self, vectors: Vectors) -> Any:
        return vectors

    def build(self, batches: Iterator[Batch]) -> None:
        self._index, first = self.make(), list(islice(batches, TRAINING_BATCHES))
        self._index.train(self.rows(np.concatenate([batch.vectors for batch in first])))
        for batch in chain(first, batches):
            self._append(batch)
        self.write(self._index, str(self._path))

    def add(self, batch: Batch) -> None:
        self._append(batch)
        self.write(self._index, str(self._path))

    def delete(self, row: int) -> None:
        try:
            self._index.remove_ids(np.array([row], np.int64))
        except RuntimeError as error:
            raise UnsupportedError("build it anew") from error
        self._texts.delete(row)
        self.write(self._index, str(self._path))

    def search(self, question: Question) -> list[Hit]:
        return self._texts.of(self._index.search(self.rows(question.vector[None]), K)[1][0].tolist())

    def close(self) -> None:
        self._texts.close()

    def _append(self, batch: Batch) -> None:
        self._index.add_with_ids(self.rows(batch.vectors), np.asarray(batch.rows, np.int64))
        self._texts.add(batch)


class Binary(Flat):
    """The signs of the vectors, by Hamming distance."""

    read, write = staticmethod(faiss.read_index_binary), staticmethod(faiss.write_index_binary)

    def make(self) -> Any:
        return faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(self._dim))

    def rows(self, vectors: Vectors) -> Any:
        return np.packbits(vectors > 0, axis=1)


class FastScan(Flat):
    """Product quantization of 6 dimensions to 4 bits, with look-ups in registers."""

    def make(self) -> Any:
        return faiss.IndexIDMap(pq_fast_scan(self._dim, self._dim // 6))


class RaBitQ(Flat):
    """A bit a dimension and two numbers a vector (Gao and Long, 2024)."""

    def make(self) -> Any:
        return faiss.IndexIDMap(faiss.IndexRaBitQ(self._dim, faiss.METRIC_L2))
