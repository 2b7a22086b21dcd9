"""Qdrant's local mode: its client without a server."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from qdrant_client import QdrantClient, models

from benchmarks.systems import OVERSAMPLE, Batch, Hit, K, Question

NAME = "found"
WORDS = re.compile(r"\w+")
# Of BM25, as Qdrant's own model of words has them; that one is downloaded.
K1, B, MEAN_WORDS = 1.2, 0.75, 256


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


class Hybrid(Local):
    """With sparse vectors of words, weighed by how rare they are; both lists are fused by reciprocal ranks."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._client = QdrantClient(path=str(folder))
        if not self._client.collection_exists(NAME):
            self._client.create_collection(
                NAME,
                vectors_config={
                    "dense": models.VectorParams(size=encoder.dim, distance=models.Distance.COSINE)
                },
                sparse_vectors_config={"words": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            )

    def add(self, batch: Batch) -> None:
        points = [
            models.PointStruct(
                id=row, vector={"dense": vector.tolist(), "words": _counted(text)}, payload={"text": text}
            )
            for row, text, vector in zip(*batch, strict=True)
        ]
        self._client.upsert(NAME, points=points)

    def search(self, question: Question) -> list[Hit]:
        words = dict.fromkeys(_words(question.text))
        sparse = models.SparseVector(indices=list(words), values=[1.0] * len(words))
        prefetch = [
            models.Prefetch(query=question.vector.tolist(), using="dense", limit=K * OVERSAMPLE),
            models.Prefetch(query=sparse, using="words", limit=K * OVERSAMPLE),
        ]
        fusion = models.FusionQuery(fusion=models.Fusion.RRF)
        found = self._client.query_points(NAME, prefetch=prefetch, query=fusion, limit=K).points
        return [Hit(point.id, point.payload["text"]) for point in found]


def _words(text: str) -> Sequence[int]:
    """A number for each word."""
    return [crc32(word.encode()) for word in WORDS.findall(text.lower())]


def _counted(text: str) -> models.SparseVector:
    words = _words(text)
    found, lengthening = Counter(words), K1 * (1 - B + B * len(words) / MEAN_WORDS)
    weights = [count * (K1 + 1) / (count + lengthening) for count in found.values()]
    return models.SparseVector(indices=list(found), values=weights)
