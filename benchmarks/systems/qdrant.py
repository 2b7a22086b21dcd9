"""Qdrant's local mode: its client without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models

from benchmarks.systems import Batch, Hit, K, Question

NAME = "found"


class Local:
    """Exact search; it leaves indexes and quantization to the server."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._client = QdrantClient(path=str(folder))
        if not self._client.collection_exists(NAME):
            vectors = models.VectorParams(size=encoder.dim, distance=models.Distance.COSINE)
            self._client.create_collection(NAME, vectors_config=vectors)

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        payloads = [{"text": text} for text in batch.texts]
        points = models.Batch(ids=list(batch.rows), vectors=batch.vectors.tolist(), payloads=payloads)
        self._client.upsert(NAME, points=points)

    def delete(self, row: int) -> None:
        self._client.delete(NAME, points_selector=[row])

    def search(self, question: Question) -> list[Hit]:
        found = self._client.query_points(NAME, query=question.vector, limit=K).points
        return [Hit(point.id, point.payload["text"]) for point in found]

    def close(self) -> None:
        self._client.close()
