"""Search: from a query's vector or words to passages of distinct documents, in one read transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.blocks import Mask
from edgeret.codec import Float32, cosines
from edgeret.errors import InvalidQueryError
from edgeret.search.candidates import Finder, Request
from edgeret.search.ranking import best_per_document, fuse
from edgeret.storage.rows import Passage
from edgeret.storage.store import Store

LEAST_CANDIDATES: Final = 10
"""Candidates are `oversample` times k, but never fewer than for this k: below it recall falls fast."""

_ROWS_AT_ONCE: Final = 1024
"""Candidates whose vectors are in memory together."""

MODES: Final = ("dense", "lexical", "hybrid")

Int64 = NDArray[np.int64]

NO_ROWS: Final[Int64] = np.empty(0, np.int64)

Query = str | NDArray[np.floating[Any]]
"""A text, or a vector [dim] of the index's space."""

Where = Mapping[str, Any]
"""A condition on metadata, such as {"year": {"$gte": 2020}}."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled `where`: SQL on the table alias `d`, its parameters; empty SQL lets everything pass."""

    sql: str = ""
    parameters: list[object] = field(default_factory=list)


@dataclass(slots=True)
class Answer:
    """Passages of distinct documents, best first, with what it took to find them: rows rescored, and codes scanned.

    must_scores: by words, of rows that had to be scored. octets, runs: read of the lexicon.
    """

    ranked: list[tuple[Passage, float]]
    candidates: int = 0
    scanned: int = 0
    must_scores: list[float] = field(default_factory=list)
    octets: int = 0
    runs: int = 0


class Clock:
    """Milliseconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """The time since the last lap or the beginning."""
        now = time.perf_counter()
        elapsed, self._last = (now - self._last) * 1000, now
        return elapsed


def check_arguments(queries: Sequence[Query], mode: str) -> None:
    """Raise InvalidQueryError for a mode that there is not, or that such queries cannot have."""
    if mode not in MODES:
        raise InvalidQueryError(f"expected mode to be one of {', '.join(MODES)}, got {mode!r:.80}")
    if mode != "dense" and not all(isinstance(query, str) for query in queries):
        raise InvalidQueryError(f"mode {mode!r} needs the words of the query, got a vector: use mode='dense'")


def dense(store: Store, find: Finder, request: Request, admit: Callable[[int], object]) -> list[Answer]:
    """For each query the passages nearest to it, one a document, scored by cosine.

    find: gives candidates by code, which are rescored with the stored int8 vectors. request: its k is not more than
    there are documents. admit: is called with the number of candidates, and raises BudgetError for too many.

    Where several passages of one document take the places of others, as many candidates are asked for again
    among the documents that were not found, until k are or no row is left.
    """
    vectors, rows, k = request.vectors, request.rows, request.k
    if not rows:
        return [Answer([]) for _ in vectors]
    wanted = min(request.oversample * max(k, LEAST_CANDIDATES), rows)
    admit(wanted)
    answers = []
    for query, found in enumerate(find(range(len(vectors)), wanted, None)):
        answer = rescore(store, vectors[query], found.rows.tolist())
        answer.scanned = found.scanned
        while len(answer.ranked) < k and len(found.rows) == wanted and answer.candidates < rows:
            (found,) = find([query], wanted, store.rows.rows_of(_documents(answer)))
            more = rescore(store, vectors[query], found.rows.tolist())
            if _documents(answer) & _documents(more):
                raise store.damaged("the index of passages by document lacks some")
            answer.scanned += found.scanned
            answer.candidates += more.candidates
            answer.ranked += more.ranked
        answer.ranked = sorted(answer.ranked, key=lambda pair: (-pair[1], pair[0].row))[:k]
        answers.append(answer)
    return answers


def lexical(store: Store, query: str, k: int, mask: Mask | None, must_rows: Int64 = NO_ROWS) -> Answer:
    """The passages whose words match best, one a document, by the share that they have of the highest possible score.

    k: not more than there are documents. mask: rows outside of it are not found. must_rows: int64 [n], rows that are
    scored in any case, except in files of format 1, whose scores are those of SQLite's BM25.
    """
    answer = Answer([])
    wanted = 4 * max(k, LEAST_CANDIDATES) if k else 0
    hidden = None
    while True:
        match = store.lexicon.search(query, wanted, mask, hidden, must_rows)
        if hidden is None:
            answer.must_scores = match.must_scores
        answer.octets += match.octets
        answer.runs += match.runs
        for first in range(0, len(match.rows), _ROWS_AT_ONCE):
            batch = slice(first, first + _ROWS_AT_ONCE)
            known = _documents(answer)
            more = _collapse(store.rows.passages(match.rows[batch]), match.scores[batch])
            # They come in order: what is known of a document is the best.
            answer.ranked += [pair for pair in more.ranked if pair[0].doc not in known]
            answer.candidates += more.candidates
            if len(answer.ranked) >= k:
                break
        if len(answer.ranked) >= k or len(match.rows) < wanted:
            answer.ranked = answer.ranked[:k]
            return answer
        hidden = store.rows.rows_of(_documents(answer))
        must_rows = NO_ROWS
        wanted = max(wanted, min(4 * wanted, _ROWS_AT_ONCE))


def _documents(answer: Answer) -> set[int]:
    return {passage.doc for passage, _ in answer.ranked}


def better(one: Answer, other: Answer, k: int) -> Answer:
    """The answer to a query of two parts: each document by the part that it is nearer to."""
    pairs = one.ranked + other.ranked
    found = _collapse([passage for passage, _ in pairs], [score for _, score in pairs])
    return Answer(found.ranked[:k], one.candidates + other.candidates, one.scanned + other.scanned)


def hybrid(vectors: Float32, by_meaning: Answer, by_words: Answer, k: int) -> Answer:
    """Fuse two answers for one query, of vectors [n, dim], over documents.

    What only the words found is scored by meaning too: its vector has been read already.
    The passage shown is the dense one where there is one.
    """
    passages = {passage.doc: passage for passage, _ in by_meaning.ranked}
    scores = [(passage.doc, score) for passage, score in by_meaning.ranked]
    others = [passage for passage, _ in by_words.ranked if passage.doc not in passages]
    passages |= {passage.doc: passage for passage in others}
    nearest = np.max([_cosines(others, vector) for vector in vectors], axis=0).tolist()
    scores += zip([passage.doc for passage in others], nearest, strict=True)
    fused = fuse(scores, [(passage.doc, score) for passage, score in by_words.ranked], k)
    return Answer(
        [(passages[doc], score) for doc, score in fused],
        by_meaning.candidates + by_words.candidates,
        by_meaning.scanned,
        octets=by_words.octets,
        runs=by_words.runs,
    )


def rescore(store: Store, vector: Float32, rows: list[int]) -> Answer:
    """The passages of `rows` by cosine to a unit vector [dim], the best of each document."""
    passages, scores = [], list[float]()
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        batch = store.rows.passages(rows[first : first + _ROWS_AT_ONCE])
        scores += _cosines(batch, vector)
        if len(rows) > _ROWS_AT_ONCE:
            # Their vectors have served, and there may be many.
            batch = [passage._replace(vector=b"") for passage in batch]
        passages += batch
    return _collapse(passages, scores)


def _cosines(passages: list[Passage], vector: Float32) -> list[float]:
    stored = np.frombuffer(b"".join(passage.vector for passage in passages), dtype=np.int8)
    scores: list[float] = cosines(stored.reshape(-1, len(vector)), vector).tolist()
    return scores


def _collapse(passages: list[Passage], scores: list[float]) -> Answer:
    by_row = {passage.row: passage for passage in passages}
    best = best_per_document(
        [(passage.row, score) for passage, score in zip(passages, scores, strict=True)],
        {passage.row: passage.doc for passage in passages},
    )
    return Answer([(by_row[row], score) for row, score in best], len(passages))
