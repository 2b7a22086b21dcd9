"""zvec: a collection in a folder, a graph over float vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zvec

from benchmarks.systems import Batch, Hit, K, Question

LARGEST_BATCH = 1000


class Zvec:
    """With its default graph."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        zvec.init(log_level=zvec.LogLevel.ERROR)
        path = folder / "found"
        self._found = zvec.open(str(path)) if path.exists() else _create(path, encoder.dim)

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self.add(batch)
        self._found.optimize()
        self._found.flush()

    def add(self, batch: Batch) -> None:
        documents = [
            zvec.Doc(id=str(row), fields={"text": text}, vectors={"vector": vector.tolist()})
            for row, text, vector in zip(*batch, strict=True)
        ]
        for first in range(0, len(documents), LARGEST_BATCH):
            self._found.insert(documents[first : first + LARGEST_BATCH])
        self._found.flush()

    def delete(self, row: int) -> None:
        self._found.delete(str(row))
        self._found.flush()

    def search(self, question: Question) -> list[Hit]:
        found = self._found.query(zvec.Query("vector", vector=question.vector), topk=K)
        return [Hit(int(hit.id), hit.fields["text"]) for hit in found]

    def close(self) -> None:
        self._found.close()


def _create(path: Path, dim: int) -> Any:
    graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE)
    vector = zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, dimension=dim, index_param=graph)
    text = zvec.FieldSchema("text", zvec.DataType.STRING)
    return zvec.create_and_open(str(path), zvec.CollectionSchema(name="found", fields=[text], vectors=vector))
