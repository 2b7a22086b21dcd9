"""nDCG@10 by ir-measures, and shares of a reference with bootstrap intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

DEPTH = 10
"""Documents that are judged."""


def ndcg10(qrels: Mapping[str, Mapping[str, int]], ranking: Mapping[str, Sequence[str]]) -> Scores:
    """nDCG@10 of each query, float64 [queries], in the order of `qrels`.

    ranking: query id -> document ids, best first. A query that is missing scores 0.
    """
    import ir_measures

    # Scores made of ranks: a tie of the true scores would be broken by id, not by our order.
    run = {
        query: {document: float(-rank) for rank, document in enumerate(documents[:DEPTH])}
        for query, documents in ranking.items()
    }
    grades = {query: dict(judged) for query, judged in qrels.items()}
    values = {
        metric.query_id: metric.value
        for metric in ir_measures.iter_calc([ir_measures.nDCG @ DEPTH], grades, run)
    }
    return np.array([values.get(query, 0.0) for query in qrels])


def share(column: Sequence[Scores], reference: Sequence[Scores]) -> float:
    """Mean over collections of mean(column) / mean(reference); one array [queries] a collection."""
    return float(
        np.mean([values.mean() / base.mean() for values, base in zip(column, reference, strict=True)])
    )


def share_interval(
    column: Sequence[Scores], reference: Sequence[Scores], rounds: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of `share` by a paired percentile bootstrap (Efron and Tibshirani, 1993).

    Queries are drawn with replacement within each collection; a query brings both its scores along.
    """
    random = np.random.default_rng(seed)
    shares = np.zeros(rounds)
    for values, base in zip(column, reference, strict=True):
        for number in range(rounds):
            drawn = random.integers(len(values), size=len(values))
            shares[number] += values[drawn].mean() / base[drawn].mean()
    low, high = np.nanpercentile(shares / len(column), [2.5, 97.5])
    return float(low), float(high)
