"""A collection of any size: real passages of shared/text, repeated; vectors of the repeats carry noise.

Good for memory and time, where only sizes and counts matter; never for quality.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scan import QUERIES, REAL_ROWS, ROOT, SEED, TEXTS, encoded, passages
from benchmarks.systems import Batch
from edgeret.encode.encoder import Encoder

CACHE = ROOT / ".cache" / "memory"
MODEL = "base"
NOISE = 0.02
CHUNK = 10_000
LONG_CHARACTERS = 1000


@dataclass(frozen=True)
class Collection:
    """`rows` passages with vectors, and queries that are other passages of the same text."""

    rows: int
    texts: list[str]
    vectors: NDArray[np.float32]
    queries: list[str]
    query_vectors: NDArray[np.float32]

    @classmethod
    def load(cls, rows: int, encoder: Any = None) -> Collection:
        """Encode what is repeated, or read it from .cache/. encoder: instead of `base`."""
        distinct = min(rows, REAL_ROWS)
        texts = passages(REAL_ROWS + QUERIES)[: distinct + QUERIES]
        # Whole chunks of the scan's cache.
        vectors = encoded(encoder or Encoder.load(MODEL), texts)
        return cls(rows, texts[QUERIES:], vectors[QUERIES:], texts[:QUERIES], vectors[:QUERIES])

    def text(self, row: int) -> str:
        """The passage of a row."""
        return self.texts[row % len(self.texts)]

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, unit vectors [n, dim]), CHUNK at a time."""
        for start in range(0, self.rows, CHUNK):
            rows = np.arange(start, min(start + CHUNK, self.rows))
            vectors = self.vectors[rows % len(self.texts)]
            if start >= len(self.texts):
                noise = np.random.default_rng([SEED, start]).standard_normal(vectors.shape, dtype=np.float32)
                vectors = vectors + NOISE * noise
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield start, vectors

    def batches(self) -> Iterator[Batch]:
        """All documents, CHUNK at a time."""
        for start, vectors in self.chunks():
            rows = range(start, start + len(vectors))
            yield Batch(rows, [self.text(row) for row in rows], vectors)


@cache
def queries(count: int) -> list[str]:
    """Passages that no row repeats."""
    return passages(REAL_ROWS + QUERIES)[:count]


@cache
def nearest(rows: int, count: int) -> list[list[int]]:
    """The ten rows nearest to each of so many queries by exact float search, kept in .cache/."""
    path = CACHE / f"{rows}-nearest-{count}.npy"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        collection = Collection.load(rows)
        queries = collection.query_vectors[:count]
        best = np.empty((count, 0), dtype=np.int64)
        scores = np.empty((count, 0), dtype=np.float32)
        for first, vectors in collection.chunks():
            # Only the best of what was read stay: a score of every row is gigabytes at twenty million.
            scores = np.concatenate([scores, queries @ vectors.T], axis=1)
            numbers = np.broadcast_to(np.arange(first, first + len(vectors)), (count, len(vectors)))
            best = np.concatenate([best, numbers], axis=1)
            kept = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            scores, best = np.take_along_axis(scores, kept, 1), np.take_along_axis(best, kept, 1)
        np.save(path, best)
    found: list[list[int]] = np.load(path).tolist()
    return found


def long_passages(count: int) -> Iterator[str]:
    """Texts of about 256 tokens: lines of shared/text, one after another, over and over."""
    made = 0
    while True:
        for file in sorted(TEXTS.glob("*.txt.gz")):
            with gzip.open(file, "rt", encoding="utf-8") as lines:
                packed = ""
                for line in lines:
                    packed += line.strip() + " "
                    if len(packed) > LONG_CHARACTERS:
                        yield f"{packed[:LONG_CHARACTERS]} {made}"
                        packed, made = "", made + 1
                        if made == count:
                            return
