"""nDCG@10 of exact float search, on a sample of a test collection: what a change of weights costs a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import datasets, metrics
from benchmarks.quality import rank_float

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.datasets import Collection


def draw(folder: Path, queries: int, documents: int, seed: int) -> Collection:
    """Draw at most so many queries, with the documents that are judged for them and random others up to `documents`."""
    return datasets.draw(datasets.read(folder), queries, documents, seed)


def ndcg10(collection: Collection, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """The mean over queries. documents, queries: float32 unit rows in the collection's order."""
    names = list(collection.documents)
    ranked = [[names[row] for row in rows[: metrics.DEPTH]] for rows in rank_float(documents, queries)]
    return float(metrics.ndcg10(collection.qrels, dict(zip(collection.queries, ranked, strict=True))).mean())
