"""A collection of any size: real passages of shared/text, repeated; vectors of the repeats carry noise.

Good for memory and time, where only sizes and counts matter; never for quality.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.scan import QUERIES, REAL_ROWS, ROOT, SEED, TEXTS, encoded, passages
from edgeret.documents import Document
from edgeret.encoder import Encoder
from edgeret.index import Index

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
    def load(cls, rows: int) -> Collection:
        """Encode what is repeated, or read it from .cache/."""
        distinct = min(rows, REAL_ROWS)
        texts = passages(REAL_ROWS + QUERIES)[: distinct + QUERIES]
        # Whole chunks of the scan's cache.
        vectors = encoded(Encoder.load(MODEL), texts)
        return cls(rows, texts[QUERIES:], vectors[QUERIES:], texts[:QUERIES], vectors[:QUERIES])

    def text(self, row: int) -> str:
        """The passage of a row."""
        return self.texts[row % len(self.texts)]

    def chunks(self, first: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """(first row, unit vectors [n, dim]) from a row on that CHUNK divides."""
        for start in range(first, self.rows, CHUNK):
            rows = np.arange(start, min(start + CHUNK, self.rows))
            vectors = self.vectors[rows % len(self.texts)]
            if start >= len(self.texts):
                noise = np.random.default_rng([SEED, start]).standard_normal(vectors.shape, dtype=np.float32)
                vectors = vectors + NOISE * noise
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            yield start, vectors

    def documents(self, first: int = 0) -> Iterator[Document]:
        """Documents that bring their vectors."""
        for start, vectors in self.chunks(first):
            for row, vector in enumerate(vectors, start):
                yield Document(str(row), self.text(row), {"shelf": row % 100}, vector)


def queries(count: int) -> list[str]:
    """Passages that no row repeats."""
    return passages(REAL_ROWS + QUERIES)[:count]


def nearest(rows: int, count: int) -> list[list[int]]:
    """The ten rows nearest to each of so many queries by exact float search, kept in .cache/."""
    path = CACHE / f"{rows}-nearest-{count}.npy"
    if not path.exists():
        collection = Collection.load(rows)
        scores = np.empty((count, rows), dtype=np.float32)
        for first, vectors in collection.chunks():
            scores[:, first : first + len(vectors)] = collection.query_vectors[:count] @ vectors.T
        np.save(path, np.stack([np.argsort(-each, kind="stable")[:10] for each in scores]))
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


def index(rows: int, bits: int) -> Path:
    """The path of an index of so many rows, made if it is not there; an interrupted run goes on."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{rows}-{bits}.edgeret"
    if path.exists():
        with Index.open(path, readonly=True) as opened:
            if len(opened) == rows:
                return path
    collection = Collection.load(rows)
    with Index.create(path, model=MODEL, bits=bits, exist_ok=True) as opened:
        first = len(opened)
        for added, document in enumerate(collection.documents(first)):
            if added % CHUNK == 0:
                print(f"\rindexing {first + added} of {rows}", end="", file=sys.stderr, flush=True)
                batch: list[Document] = []
            batch.append(document)
            if len(batch) == CHUNK or first + added + 1 == rows:
                opened.add(batch)
    return path
