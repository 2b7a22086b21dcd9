"""Chroma: a collection in a folder, a graph over float vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb

from benchmarks.systems import Batch, Hit, K, Question

LARGEST_BATCH = 5000


class Chroma:
    """With its default graph."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
        self._found = self._client.get_or_create_collection(
            "found", metadata={"hnsw:space": "cosine"}, embedding_function=None
        )

    def build(self, batches: Iterator[Batch]) -> None:
        for batch in batches:
            self.add(batch)

    def add(self, batch: Batch) -> None:
        for first in range(0, len(batch.rows), LARGEST_BATCH):
            part = slice(first, first + LARGEST_BATCH)
            self._found.add(
                ids=[str(row) for row in batch.rows[part]],
                embeddings=batch.vectors[part],
                documents=list(batch.texts[part]),
            )

    def delete(self, row: int) -> None:
        self._found.delete(ids=[str(row)])

    def search(self, question: Question) -> list[Hit]:
        found = self._found.query(query_embeddings=[question.vector], n_results=K, include=["documents"])
        return [Hit(int(row), text) for row, text in zip(found["ids"][0], found["documents"][0], strict=True)]

    def close(self) -> None:
        self._client.close()
