"""Search: from a query's vector or words to passages of distinct documents, in one read transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.blocks import Mask
from edgeret.codec import Float32, Float64, Int64
from edgeret.errors import InvalidQueryError
from edgeret.search.candidates import Candidates, Finder, Request
from edgeret.search.fusion import DEEPER, NEXT, POOL, depth, pool, words_weight
from edgeret.search.ranking import best_per_document, fuse
from edgeret.storage.store import Store
from edgeret.storage.vocabulary import Match

LEAST_CANDIDATES: Final = 10
"""Candidates are `oversample` times k, but never fewer than for this k: below it recall falls fast."""

_ROWS_AT_ONCE: Final = 1024
"""Candidates that are looked at together."""

_OCTETS_AT_ONCE: Final = 384 * _ROWS_AT_ONCE
"""Of candidates' vectors that are in memory together."""

MODES: Final = ("dense", "lexical", "hybrid")

Query = str | NDArray[np.floating[Any]]
"""A text, or a vector [dim] of the index's space."""


class Condition(NamedTuple):
    """A compiled `where`: SQL on the table alias `d`, its parameters; empty SQL lets everything pass."""

    sql: str = ""
    parameters: Sequence[object] = ()


@dataclass(slots=True)
class Answer:
    """Passages of distinct documents, best first, with what it took to find them: rows rescored, and codes scanned.

    heads: int64 [n, 4], as of `Lines`. scores: float64 [n]. cosines, shares: float64 [n], of a hybrid answer, what
    meaning and words say of each. octets, runs: read of the lexicon. weight: of words.
    """

    heads: Int64 = field(default_factory=lambda: np.empty((0, 4), np.int64))
    scores: Float64 = field(default_factory=lambda: np.empty(0))
    cosines: Float64 = field(default_factory=lambda: np.empty(0))
    shares: Float64 = field(default_factory=lambda: np.empty(0))
    candidates: int = 0
    scanned: int = 0
    octets: int = 0
    runs: int = 0
    weight: float = 0.0

    def __len__(self) -> int:
        return len(self.heads)

    def keep(self, chosen: Int64 | slice) -> None:
        """Only these passages, in this order."""
        self.heads, self.scores = self.heads[chosen], self.scores[chosen]
        if len(self.cosines):
            self.cosines, self.shares = self.cosines[chosen], self.shares[chosen]

    def extend(self, other: Answer) -> None:
        """Those of another one too, and what it took."""
        self.heads = np.concatenate([self.heads, other.heads])
        self.scores = np.concatenate([self.scores, other.scores])
        self.cosines = np.concatenate([self.cosines, other.cosines])
        self.shares = np.concatenate([self.shares, other.shares])
        self.candidates += other.candidates
        self.scanned += other.scanned
        self.octets += other.octets
        self.runs += other.runs
        self.weight = other.weight

    def collapse(self) -> None:
        """The best passage of each document, best first."""
        self.keep(best_per_document(self.heads[:, 0], self.heads[:, 1], self.scores))


class Clock:
    """Milliseconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """The time since the last lap or the beginning."""
        now = time.perf_counter()
        elapsed, self._last = (now - self._last) * 1000, now
        return elapsed


def choose_mode(queries: Sequence[object], mode: str | None, can_fuse: bool) -> str:
    """The mode that is asked for, or by default the best one that there is for such queries.

    can_fuse: whether words are in our lexicon. Raises InvalidQueryError for a mode that there is not, or that such
    queries cannot have.
    """
    if mode is None:
        return "hybrid" if can_fuse and any(isinstance(query, str) for query in queries) else "dense"
    if mode not in MODES:
        raise InvalidQueryError(f"expected mode to be one of {', '.join(MODES)}, got {mode!r:.80}")
    if mode != "dense" and not all(isinstance(query, str) for query in queries):
        raise InvalidQueryError(f"mode {mode!r} needs the words of the query, got a vector: use mode='dense'")
    return mode


def dense(store: Store, find: Finder, request: Request, admit: Callable[[int], object]) -> list[Answer]:
    """For each query the passages nearest to it, one a document, scored by cosine.

    find: gives candidates by code, which are rescored with the stored int8 vectors. request: its k is not more than
    there are documents. admit: is called with the number of candidates, and raises BudgetError for too many.

    Where several passages of one document take the places of others, as many candidates are asked for again
    among the documents that were not found, until k are or no row is left.
    """
    vectors, rows, k = request.vectors, request.rows, request.k
    if not rows:
        return [Answer() for _ in vectors]
    wanted = min(request.oversample * max(k, LEAST_CANDIDATES), rows)
    admit(wanted)
    answers = []
    for query, found in enumerate(find(range(len(vectors)), wanted, None)):
        answer = rescore(store, vectors[query], found.rows)
        answer.scanned = found.scanned
        while len(answer) < k and len(found.rows) == wanted and answer.candidates < rows:
            (found,) = find([query], wanted, store.rows.rows_of(answer.heads[:, 1].tolist()))
            more = rescore(store, vectors[query], found.rows)
            more.scanned = found.scanned
            _add_others(store, answer, more)
        answer.keep(slice(k))
        answers.append(answer)
    return answers


def _add_others(store: Store, answer: Answer, more: Answer) -> None:
    """Add passages of documents that were not to be found again."""
    found = len(answer) + len(more)
    answer.extend(more)
    answer.collapse()
    if len(answer) < found:
        raise store.damaged("the index of passages by document lacks some")


def lexical(store: Store, query: str, k: int, mask: Mask | None, prefix: bool = False) -> Answer:
    """The passages whose words match best, one a document, by the share that they have of the highest possible score.

    k: not more than there are documents. mask: rows outside of it are not found. prefix: as of `words.asked`. In files
    of format 1 scores are those of SQLite's BM25.
    """
    answer = Answer()
    wanted = 4 * max(k, LEAST_CANDIDATES) if k else 0
    hidden = None
    while True:
        match = store.lexicon.search(query, wanted, mask, hidden, prefix=prefix)
        answer.octets += match.octets
        answer.runs += match.runs
        # Mostly the first k are of as many documents.
        first, stop = 0, k
        while first < len(match.rows) and len(answer) < k:
            heads = store.rows.places(match.rows[first:stop])
            # They come in order: what is known of a document is the best.
            answer.extend(Answer(heads, match.scores[first:stop], candidates=len(heads)))
            answer.collapse()
            first, stop = stop, stop + _ROWS_AT_ONCE
        if len(answer) >= k or len(match.rows) < wanted:
            answer.keep(slice(k))
            return answer
        hidden = store.rows.rows_of(answer.heads[:, 1].tolist())
        wanted = max(wanted, min(4 * wanted, _ROWS_AT_ONCE))


def better(one: Answer, other: Answer, k: int) -> Answer:
    """The answer to a query of two parts: each document by the part that it is nearer to."""
    one.extend(other)
    one.collapse()
    one.keep(slice(k))
    return one


class Question(NamedTuple):
    """A query of a hybrid search.

    text: None if it came as a vector. rows: of its vectors. spread: of its model. prefix: as of `words.asked`.
    """

    text: str | None
    rows: slice
    spread: float
    prefix: bool = False


def hybrid(
    store: Store,
    find: Finder,
    request: Request,
    questions: Sequence[Question],
    admit: Callable[[int], object],
) -> list[Answer]:
    """For each question the passages with the highest fused scores, one a document, and more than its k where found.

    find, request, admit: as for `dense`.

    Both sides give a pool its rows in turn, and then score them exactly. A document ranks by its best passage in the
    first pool that it is in: so no two change places where more are asked for, and deeper pools are searched.
    """
    if not request.rows:
        return [Answer() for _ in questions]
    admit(depth(request.k))
    found = find(range(len(request.vectors)), min(_width(request, POOL), request.rows), None)
    return [_fused(store, find, request, question, found[question.rows]) for question in questions]


def _width(request: Request, rows: int) -> int:
    """How many rows a pool has for each vector, and candidates by code are asked for."""
    return max(rows, request.oversample * LEAST_CANDIDATES)


def _fused(
    store: Store, find: Finder, request: Request, question: Question, near: list[Candidates]
) -> Answer:
    numbers = range(len(request.vectors))[question.rows]
    rows, hidden = POOL, None
    answer = Answer()
    while True:
        width = _width(request, rows)
        _add_others(store, answer, _pooled(store, request, question, near, width, hidden))
        is_all = len(near[0].rows) < min(width, request.rows) or answer.candidates >= request.rows
        if is_all or (len(answer) >= request.k and rows >= request.k):
            break
        rows *= DEEPER
        hidden = store.rows.rows_of(answer.heads[:, 1].tolist())
        near = find(numbers, min(_width(request, rows), request.rows), hidden)
    # The margin of the last that is shown is the distance to those behind it.
    answer.keep(slice(request.k + NEXT))
    return answer


def _pooled(
    store: Store,
    request: Request,
    question: Question,
    near: list[Candidates],
    width: int,
    hidden: Mask | None,
) -> Answer:
    """The documents of the rows that are near, and of those that have the words, none of them hidden."""
    by_meaning = blocks.distinct(np.concatenate([found.rows for found in near]))
    match = Match(by_meaning[:0], np.empty(0), np.zeros(len(by_meaning)))
    if question.text is not None:
        match = store.lexicon.search(question.text, width, request.mask, hidden, by_meaning, question.prefix)
    weight = words_weight(question.spread, match.evidence)
    shares = dict(zip(match.rows.tolist(), match.scores.tolist(), strict=True))
    shares |= zip(by_meaning.tolist(), match.must_scores.tolist(), strict=True)
    rows = pool([*(found.rows.tolist() for found in near), match.rows.tolist()], width * len(near))
    known = np.array([shares[row] for row in sorted(rows)])
    answer = _rescored(store, request.vectors[question.rows], np.array(rows, np.int64))
    answer.cosines, answer.shares = answer.scores, known
    answer.scores = answer.cosines + weight * known
    answer.scanned = sum(found.scanned for found in near)
    answer.octets, answer.runs, answer.weight = match.octets, match.runs, weight
    answer.collapse()
    return answer


def scored(store: Store, rows: Int64, question: Question, vectors: Float32, mode: str) -> Answer:
    """Passages with the scores that a search gives them; where only words are asked, those that have one.

    vectors: float32 [n, dim], of the question. question: without a text only meaning is asked.
    """
    match = Match(rows[:0], np.empty(0), np.zeros(len(rows)))
    if question.text is not None and mode != "dense":
        match = store.lexicon.search(question.text, 1, blocks.mask(rows), None, rows, question.prefix)
    if mode == "lexical":
        said = match.must_scores > 0
        heads = store.rows.places(rows[said])
        answer = Answer(heads, match.must_scores[said], candidates=len(heads))
    else:
        answer = _rescored(store, vectors, rows)
    if mode == "hybrid":
        answer.weight = words_weight(question.spread, match.evidence)
        answer.cosines, answer.shares = answer.scores, match.must_scores
        answer.scores = answer.cosines + answer.weight * answer.shares
    answer.octets, answer.runs = match.octets, match.runs
    return answer


def fuse_lists(store: Store, vectors: Float32, by_meaning: Answer, by_words: Answer, k: int) -> Answer:
    """Fuse two answers for one query, of vectors [n, dim], over documents: of files of format 1.

    What only the words found is scored by meaning too.
    The passage shown is the dense one where there is one.
    """
    heads = {head[1]: head for head in by_meaning.heads.tolist()}
    scores = list(zip(heads, by_meaning.scores.tolist(), strict=True))
    others = by_words.heads[[doc not in heads for doc in by_words.heads[:, 1].tolist()]]
    heads |= {head[1]: head for head in others.tolist()}
    rescored = _rescored(store, vectors, others[:, 0])
    scores += zip(rescored.heads[:, 1].tolist(), rescored.scores.tolist(), strict=True)
    found = zip(by_words.heads[:, 1].tolist(), by_words.scores.tolist(), strict=True)
    fused = fuse(scores, list(found), k)
    return Answer(
        np.array([heads[doc] for doc, _ in fused], np.int64).reshape(-1, 4),
        np.array([score for _, score in fused]),
        candidates=by_meaning.candidates + by_words.candidates,
        scanned=by_meaning.scanned,
        octets=by_words.octets,
        runs=by_words.runs,
    )


def rescore(store: Store, vector: Float32, rows: Int64) -> Answer:
    """The passages of `rows` by cosine to a unit vector [dim], the best of each document."""
    answer = _rescored(store, vector[None], rows)
    answer.collapse()
    return answer


def _rescored(store: Store, vectors: Float32, rows: Int64) -> Answer:
    """The passages of `rows`, in ascending order, by cosine to the nearest of unit vectors [n, dim]."""
    rows = np.sort(rows)
    # Some at a time: they bring their vectors.
    together = min(_ROWS_AT_ONCE, max(_OCTETS_AT_ONCE // store.dim, 1))
    parts = [
        store.rows.scored(rows[first : first + together], vectors)
        for first in range(0, max(len(rows), 1), together)
    ]
    heads, scores = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return Answer(heads, scores.astype(np.float64), candidates=len(rows))
