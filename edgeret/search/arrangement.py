"""Arrangement: what becomes of a ranking that is not shown as it is: passages, recency, diversity, groups.

Each step depends on the ranking alone, and not on how much of it is asked for: so pages fit together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from edgeret.blocks import BLOCK_ROWS, Mask, both, less, offsets
from edgeret.codec import Float32, Float64, Int64
from edgeret.documents import parse, values_of
from edgeret.search.stages import Answer
from edgeret.storage.filters import compile_where, is_date
from edgeret.storage.schema import filter_columns
from edgeret.storage.store import Store

_DOCUMENTS_AT_ONCE: Final = 10
"""Documents whose passages are scored together."""


def passages(
    store: Store,
    answer: Answer,
    mask: Mask | None,
    scored: Callable[[Int64], Answer],
    per_document: int | None,
    most: int,
) -> Answer:
    """The passages of the documents of an answer, best first, `per_document` of each at the most; None: all.

    mask: rows outside of it are not shown. scored: gives the rows that answer at all, with their scores.

    No passage is better than its document, which ranks by its best one: so documents are opened in their order, some
    at a time, and a passage comes out as soon as no document behind them is better.
    """
    shown, waiting = Answer(candidates=answer.candidates, scanned=answer.scanned), Answer()
    for first in range(0, len(answer), _DOCUMENTS_AT_ONCE):
        part = slice(first, first + _DOCUMENTS_AT_ONCE)
        rows = _rows(store.rows.rows_of(answer.heads[part, 1].tolist()), mask)
        found = scored(rows)
        found.keep(_first_of_each(found, per_document))
        waiting.extend(found)
        waiting.keep(np.lexsort((waiting.heads[:, 0], -waiting.scores)))
        following = answer.scores[part.stop : part.stop + 1]
        ready = len(waiting) if not len(following) else int((waiting.scores >= following[0]).sum())
        ahead = Answer(
            waiting.heads[:ready], waiting.scores[:ready], waiting.cosines[:ready], waiting.shares[:ready]
        )
        ahead.octets, ahead.runs, ahead.weight = waiting.octets, waiting.runs, waiting.weight
        ahead.candidates, waiting.candidates = waiting.candidates, 0
        waiting.octets = waiting.runs = 0
        shown.extend(ahead)
        waiting.keep(slice(ready, None))
        if len(shown) >= most:
            break
    shown.keep(slice(most))
    return shown


def _rows(chosen: Mask, mask: Mask | None) -> Int64:
    """The rows of a mask that are in another one too, ascending."""
    if mask is not None:
        chosen = both(chosen, mask)
    found = [offsets(bits) + block * BLOCK_ROWS for block, bits in sorted(chosen.items())]
    return np.concatenate([np.empty(0, np.int64), *found])


def _first_of_each(found: Answer, most: int | None) -> Int64:
    """Of each document the places of its best passages."""
    order = np.lexsort((found.heads[:, 0], -found.scores))
    if most is None:
        return order
    seen: Counter[int] = Counter()
    kept = []
    for place, doc in zip(order.tolist(), found.heads[order, 1].tolist(), strict=True):
        seen[doc] += 1
        if seen[doc] <= most:
            kept.append(place)
    return np.array(kept, np.int64)


def recent(dates: Sequence[Sequence[Any]], scores: Float64, boost: Mapping[str, Any]) -> Float64:
    """Scores [n], less where documents are older: by half the weight after a half-life.

    dates: of each document, the last one counts; one without a date is as old as can be. boost: `halflife` in seconds,
    `weight`, and `now` in seconds since 1970.
    """
    ages = np.array([boost["now"] - _seconds(values) for values in dates])
    fresh = np.exp2(-np.maximum(ages, 0) / boost["halflife"])
    less_old = scores * (1 - boost["weight"] * (1 - fresh))
    # What is below zero would gain by becoming less.
    return np.where(scores > 0, less_old, scores)


def _seconds(values: Sequence[Any]) -> float:
    """The latest of the dates among values, in seconds since 1970."""
    return max(map(_date, values), default=-np.inf)


def _date(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and is_date(value):
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return -np.inf


def diverse(vectors: Float32, scores: Float64, diversity: float, most: int) -> list[int]:
    """The places of the first `most`, in the order of maximal marginal relevance.

    Each is the one with the highest score, less its cosine to the nearest that is there already; `diversity` says what
    the second counts, 0 to 1. (Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering
    documents and producing summaries", SIGIR 1998.) vectors: float32 [n, dim], unit rows. scores: float64 [n].
    """
    chosen: list[int] = []
    nearest = np.full(len(scores), -1.0)
    marginal = scores.copy()
    while len(chosen) < min(most, len(scores)):
        place = int(marginal.argmax())
        chosen.append(place)
        nearest = np.maximum(nearest, vectors @ vectors[place])
        marginal = (1 - diversity) * scores - diversity * nearest
        marginal[chosen] = -np.inf
    return chosen


def values(store: Store, docs: Sequence[int], key: str) -> list[list[Any]]:
    """Of each document its values of a metadata key, as `where` compares them."""
    known = {}
    for source in store.rows.sources(list(dict.fromkeys(docs))):
        metadata = parse(source.json)
        if metadata is None:
            raise store.damaged(f"the metadata of document {source.id!r} are no JSON object")
        known[source.doc] = values_of(metadata, key)
    return [known[doc] for doc in docs]


class Groups:
    """Documents by the values of a metadata key, some of each at the most. One without the key is a group by itself.

    One with a list belongs to the groups of all its elements.
    """

    def __init__(self, key: str, most: int) -> None:
        self._key, self._most = key, most
        self._members: Counter[tuple[bool, Any]] = Counter()
        self._docs: list[int] = []

    def admit(self, doc: int, values: Sequence[Any]) -> bool:
        """Whether there is room for a document with these values, which has its place then."""
        self._docs.append(doc)
        # True is 1 to Python.
        owners = {(isinstance(value, bool), value) for value in values}
        if any(self._members[owner] >= self._most for owner in owners):
            return False
        self._members.update(owners)
        return True

    def others(self, store: Store, mask: Mask | None) -> Mask:
        """The rows that may be found still: of no document that came, and of no group that is full.

        mask: rows outside of it may not; None: all live ones may.
        """
        full = [value for (_, value), members in self._members.items() if members >= self._most]
        sql, parameters = compile_where({self._key: {"$in": full}}, filter_columns(store.filters))
        left = less(store.live() if mask is None else mask, store.rows.matching(sql, parameters))
        return less(left, store.rows.rows_of(self._docs))
