"""nDCG@10 of exact float search, on a sample of a test collection: what a change of weights costs a user."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import datasets, metrics
from benchmarks.quality import rank_float

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.datasets import Collection


def draw(folder: Path, queries: int, documents: int, seed: int) -> Collection:
    """Draw at most so many queries, with the documents that are judged for them and random others up to `documents`."""
    drawn = datasets.sample(datasets.read(folder), queries, seed)
    judged = {document for grades in drawn.qrels.values() for document in grades}
    others = [document for document in drawn.documents if document not in judged]
    count = min(len(others), max(0, documents - len(judged)))
    kept = judged | {
        others[row] for row in np.random.default_rng(seed).choice(len(others), count, replace=False)
    }
    return replace(drawn, documents={name: text for name, text in drawn.documents.items() if name in kept})


def ndcg10(collection: Collection, documents: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    """The mean over queries. documents, queries: float32 unit rows in the collection's order."""
    names = list(collection.documents)
    ranked = [[names[row] for row in rows[: metrics.DEPTH]] for rows in rank_float(documents, queries)]
    return float(metrics.ndcg10(collection.qrels, dict(zip(collection.queries, ranked, strict=True))).mean())
