"""Search: from a query's vector or words to passages of distinct documents, in one read transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.blocks import Mask
from edgeret.codec import Float32, cosines
from edgeret.errors import InvalidQueryError
from edgeret.search.candidates import Candidates, Finder, Request
from edgeret.search.fusion import DEEPER, NEXT, POOL, Scores, depth, words_weight
from edgeret.search.ranking import best_per_document, fuse
from edgeret.storage.rows import Passage
from edgeret.storage.store import Store
from edgeret.storage.vocabulary import Match

LEAST_CANDIDATES: Final = 10
"""Candidates are `oversample` times k, but never fewer than for this k: below it recall falls fast."""

_ROWS_AT_ONCE: Final = 1024
"""Candidates whose vectors are in memory together."""

MODES: Final = ("dense", "lexical", "hybrid")

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

    scores: of a hybrid answer, for each that is ranked. octets, runs: read of the lexicon. weight: of words.
    """

    ranked: list[tuple[Passage, float]]
    candidates: int = 0
    scanned: int = 0
    scores: list[Scores] = field(default_factory=list)
    octets: int = 0
    runs: int = 0
    weight: float = 0.0


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


def lexical(store: Store, query: str, k: int, mask: Mask | None) -> Answer:
    """The passages whose words match best, one a document, by the share that they have of the highest possible score.

    k: not more than there are documents. mask: rows outside of it are not found. In files of format 1 scores are those
    of SQLite's BM25.
    """
    answer = Answer([])
    wanted = 4 * max(k, LEAST_CANDIDATES) if k else 0
    hidden = None
    while True:
        match = store.lexicon.search(query, wanted, mask, hidden)
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
        wanted = max(wanted, min(4 * wanted, _ROWS_AT_ONCE))


def _documents(answer: Answer) -> set[int]:
    return {passage.doc for passage, _ in answer.ranked}


def better(one: Answer, other: Answer, k: int) -> Answer:
    """The answer to a query of two parts: each document by the part that it is nearer to."""
    pairs = one.ranked + other.ranked
    found = _collapse([passage for passage, _ in pairs], [score for _, score in pairs])
    return Answer(found.ranked[:k], one.candidates + other.candidates, one.scanned + other.scanned)


class Question(NamedTuple):
    """A query of a hybrid search. text: None if it came as a vector. rows: of its vectors. spread: of its model."""

    text: str | None
    rows: slice
    spread: float


def hybrid(
    store: Store,
    find: Finder,
    request: Request,
    questions: Sequence[Question],
    admit: Callable[[int], object],
) -> list[Answer]:
    """For each question the passages with the highest fused scores, one a document, and more than its k where found.

    find, request, admit: as for `dense`.

    Either side gives the best rows of a pool, which both then score exactly. A document ranks by its best passage in
    the first pool that it is in: so no two change places where more are asked for, and deeper pools are searched.
    """
    if not request.rows:
        return [Answer([]) for _ in questions]
    admit(2 * depth(request.k))
    found = find(range(len(request.vectors)), _width(request, POOL), None)
    return [_fused(store, find, request, question, found[question.rows]) for question in questions]


def _width(request: Request, rows: int) -> int:
    """How many candidates by code a pool takes of each vector."""
    return min(max(rows, request.oversample * LEAST_CANDIDATES), request.rows)


def _fused(
    store: Store, find: Finder, request: Request, question: Question, near: list[Candidates]
) -> Answer:
    numbers = range(len(request.vectors))[question.rows]
    rows, hidden = POOL, None
    answer = Answer([])
    while True:
        pool = _pooled(store, request, question, near, rows, hidden)
        if _documents(answer) & _documents(pool):
            raise store.damaged("the index of passages by document lacks some")
        _extend(answer, pool)
        is_all = len(near[0].rows) < _width(request, rows) or answer.candidates >= request.rows
        if is_all or (len(answer.ranked) >= request.k and rows >= request.k):
            break
        rows *= DEEPER
        hidden = store.rows.rows_of(_documents(answer))
        near = find(numbers, _width(request, rows), hidden)
    order = sorted(range(len(answer.ranked)), key=lambda n: (-answer.ranked[n][1], answer.ranked[n][0].row))
    # The margin of the last that is shown is the distance to those behind it.
    del order[request.k + NEXT :]
    answer.ranked = [answer.ranked[number] for number in order]
    answer.scores = [answer.scores[number] for number in order]
    return answer


def _extend(answer: Answer, other: Answer) -> None:
    answer.ranked += other.ranked
    answer.scores += other.scores
    answer.candidates += other.candidates
    answer.scanned += other.scanned
    answer.octets += other.octets
    answer.runs += other.runs
    answer.weight = other.weight


def _pooled(
    store: Store, request: Request, question: Question, near: list[Candidates], rows: int, hidden: Mask | None
) -> Answer:
    """The documents of the rows that are near, and of so many that have the words, none of them hidden."""
    by_meaning = np.unique(np.concatenate([found.rows for found in near]))
    match = Match([], [], [0.0] * len(by_meaning))
    if question.text is not None:
        match = store.lexicon.search(question.text, rows, request.mask, hidden, by_meaning)
    weight = words_weight(question.spread, match.evidence)
    shares = dict(zip(match.rows, match.scores, strict=True))
    shares |= zip(by_meaning.tolist(), match.must_scores, strict=True)
    vectors = request.vectors[question.rows]
    pool = sorted(shares)
    known: dict[int, tuple[Passage, Scores]] = {}
    for first in range(0, len(pool), _ROWS_AT_ONCE):
        batch = store.rows.passages(pool[first : first + _ROWS_AT_ONCE])
        nearest = np.max([_cosines(batch, vector) for vector in vectors], axis=0).tolist()
        for passage, cosine in zip(batch, nearest, strict=True):
            share = shares[passage.row]
            # Their vectors have served, and there may be many.
            known[passage.row] = passage._replace(vector=b""), Scores(cosine, share, cosine + weight * share)
    best = best_per_document(
        ((row, scores.fused) for row, (_, scores) in known.items()),
        {row: passage.doc for row, (passage, _) in known.items()},
    )
    return Answer(
        [(known[row][0], score) for row, score in best],
        len(pool),
        sum(found.scanned for found in near),
        [known[row][1] for row, _ in best],
        match.octets,
        match.runs,
        weight,
    )


def fuse_lists(vectors: Float32, by_meaning: Answer, by_words: Answer, k: int) -> Answer:
    """Fuse two answers for one query, of vectors [n, dim], over documents: of files of format 1.

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
