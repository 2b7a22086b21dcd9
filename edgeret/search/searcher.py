"""Searcher: from queries to hits, on a read connection of its own for each call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar

import numpy as np

from edgeret import phrases, words
from edgeret.blocks import Mask, both, count, less
from edgeret.codec import Float32, Int64, UInt64, dequantize, normalize
from edgeret.documents import Highlights, Hit, Scores, Span, make_hit, searched
from edgeret.encode.encoder import Asked
from edgeret.encode.records import TextEncoder, encode_query, recorded_name, spread
from edgeret.encode.sentences import sentences
from edgeret.errors import InvalidQueryError, PartitionsError, SpaceMismatchError
from edgeret.plan import LEAST_OVERSAMPLING, Plan, oversampling
from edgeret.reports import Explanation
from edgeret.search import arrangement, fusion
from edgeret.search.candidates import ByPartitions, Finder, Request, by_all_codes
from edgeret.search.highlights import highlights
from edgeret.search.options import Feedback, Terms
from edgeret.search.partitions import Coverage, Partitions
from edgeret.search.snapshot import CodeSnapshot
from edgeret.search.stages import (
    LEAST_CANDIDATES,
    Answer,
    Clock,
    Condition,
    Query,
    Question,
    better,
    choose_mode,
    dense,
    fuse_lists,
    hybrid,
    lexical,
    scored,
)
from edgeret.storage import schema
from edgeret.storage.filters import compile_where
from edgeret.storage.readers import Connections
from edgeret.storage.store import Counters, Store
from edgeret.turns import Turn

Kept = TypeVar("Kept")

_LIKED: Final = 0.75
_DISLIKED: Final = 0.15
"""What the mean of each counts beside the query (Manning, Raghavan and Schütze, Introduction to IR, 2008, 9.1.1)."""

_ROUNDING: Final = 1e-6
"""A vector of unit length is no further from it."""

_QUERIES_AT_ONCE: Final = 32
"""The scan reads the codes once for so many queries; more would gain nothing and hold their candidates."""

_IN_FLOATS: Final = 8
"""Candidates whose vectors are compared with one another, in floating-point numbers, take as much as so many."""

_CONFIRMED: Final = 10
"""Hits of a query whose codes in the partitions are compared with those of their vectors."""


class _Shown(NamedTuple):
    """A passage that is shown, by its document's number."""

    doc: int
    span: tuple[int, int]
    scores: Scores

    @property
    def score(self) -> float:
        """By which it ranks."""
        return self.scores.score


class _Call(NamedTuple):
    """What holds for all queries of a call. pool: documents that each list gives before they are fused.

    at_once: how many queries, or parts of long ones, are answered together.
    """

    state: Counters
    mode: str
    k: int
    pool: int
    oversample: int
    condition: Condition
    mask: Mask | None
    encode_ms: float
    filter_ms: float
    at_once: int
    terms: Terms
    phrases_read: int = 0
    phrases_said: bool = True

    @property
    def eligible(self) -> int:
        """How many passages may be found."""
        return self.state.passages if self.mask is None else count(self.mask)


class _Part(NamedTuple):
    """Queries, encoded: a long one is several rows of `vectors` and `planes`. windows, known: as of `Explanation`."""

    queries: Sequence[Query | Asked]
    vectors: Float32
    planes: UInt64
    rows: list[slice]
    windows: list[int]
    known: list[bool]

    def only(self, number: int) -> _Part:
        """One of the queries."""
        if len(self.queries) == 1:
            return self
        one = slice(number, number + 1)
        # Where only words are asked there are no vectors.
        rows = self.rows[number] if self.rows else slice(0)
        return _Part(
            self.queries[one],
            self.vectors[rows],
            self.planes[rows],
            [slice(0, rows.stop - (rows.start or 0))] if self.rows else [],
            self.windows[one],
            self.known[one],
        )


class _Answered(NamedTuple):
    """A query's hits, and what there is to explain of them."""

    hits: list[Hit]
    answer: Answer
    coverage: Coverage | None
    call: _Call
    search_ms: float
    fetch_ms: float
    windows: int
    known: bool
    words: str


class _Origin(NamedTuple):
    """The search that hits are of, as of `documents.Origin`. vectors: float32 [n, dim], of the query; none of words."""

    searcher: Searcher
    query: Query | Asked
    vectors: Float32
    mode: str
    prefix: bool

    def highlights(self, text: str) -> Highlights:
        """Those of a passage."""
        language = self.searcher.language
        asked = words.asked(self.query, language, self.prefix) if isinstance(self.query, str) else []
        similarity = None if self.mode == "lexical" else self._similarity
        return highlights(text, self.searcher.sentences(text), asked, language, similarity)

    def _similarity(self, texts: Sequence[str]) -> Float32:
        found: Float32 = (self.searcher.encoded(texts) @ self.vectors.T).max(axis=1)
        return found

    def context(self, identity: str, span: Span) -> str | None:
        """What was encoded before a passage."""
        return self.searcher.context(identity, span)


class Searcher:
    """Answers queries from any thread; keeps the newest picture of the codes for all of them.

    memory_lock: held while a call takes memory. partitions: those beside the index; fallback: why they are not used, if
    they are there.
    """

    def __init__(
        self,
        connections: Connections,
        encoder: TextEncoder,
        plan: Plan,
        memory_lock: Turn,
        partitions: Partitions | None,
        fallback: str,
    ) -> None:
        self._connections = connections
        self._encoder = encoder
        self._bits, self._filters = connections.first.bits, connections.first.filters
        self._plan = plan
        self._memory_lock = memory_lock
        self._codes = CodeSnapshot.none(plan.code_blocks)
        self._loading = Turn("the picture of the codes")
        self._partitions = partitions
        self._coverage: Coverage | None = None
        self._spread: float | None = None
        self._fuses = connections.first.description.format > 1
        self.fallback = fallback

    @property
    def space(self) -> str:
        """That of the encoder and the index."""
        return self._encoder.space

    @property
    def fuses(self) -> bool:
        """Whether meaning and words have one score: not in files of format 1."""
        return self._fuses

    @property
    def language(self) -> str | None:
        """By whose stems words are found."""
        return self._connections.first.description.language

    def encoded(self, texts: Sequence[str]) -> Float32:
        """The vectors of some sentences, float32 [n, dim], of unit length."""
        return self._memory_lock.hold(lambda: normalize(self._encoder.encode(texts), self._encoder.dim))

    def sentences(self, text: str) -> list[Span]:
        """Those of a passage; none of what its encoder never cuts: that may be the name of a picture."""
        return sentences(text) if self._encoder.token_spans(text) else []

    def context(self, identity: str, span: Span) -> str | None:
        """What was encoded before a passage of a document, if it is there still."""
        return self._connections.read(lambda store, _: store.rows.context_of(identity, span))

    def replan(self, plan: Plan) -> None:
        """Go on by another plan. Codes that have no room in it go with the next search."""
        self._plan = plan

    def covered(self, store: Store, state: Counters) -> int:
        """How many passages the partitions cover."""
        partitions = self._partitions
        try:
            return self._covered(partitions, store, state).rows if partitions else 0
        except PartitionsError as error:
            self._partitions, self.fallback = None, str(error)
            return 0

    def search(self, queries: Sequence[Query | Asked], terms: Terms) -> list[list[Hit]]:
        """The hits of each query."""
        return self._ask(queries, terms, attrgetter("hits"))

    def similar(self, id: str, terms: Terms) -> list[Hit]:
        """The documents nearest to any passage of a document, without itself."""
        asked = Asked(self._vectors(id), 0, known=True)
        (found,) = self._ask([asked], terms, lambda answered: answered.hits, hidden=id)
        return found

    def explain(self, queries: Sequence[Query], terms: Terms) -> list[Explanation]:
        """The hits of each query, with counts and the time of each stage."""
        return self._ask(queries, terms, self._explained)

    def _ask(
        self,
        queries: Sequence[Query | Asked],
        terms: Terms,
        keep: Callable[[_Answered], Kept],
        hidden: str | None = None,
    ) -> list[Kept]:
        """Answer some at a time, all on one state of the index; the codes are read once for each part.

        keep: what stays of each answer. hidden: the id of a document that is not found.
        """
        k, where, oversample = terms.ranked, terms.where, terms.oversample
        mode = choose_mode(queries, terms.mode, self._fuses)
        if mode == "lexical" and any(terms.feedback or ()):
            raise InvalidQueryError(
                "mode 'lexical' has no vector that feedback could move: use 'dense' or 'hybrid'"
            )
        if terms.is_arranged:
            terms.check()
            if terms.per_document != 1 and mode != "dense" and not self._fuses:
                raise InvalidQueryError(
                    f"mode {mode!r} does not score each passage in a file of format 1: run 'edgeret upgrade', or use "
                    "mode='dense'"
                )
        self._connections.alive()
        if not queries:
            return []

        def ask() -> list[Kept]:
            clock = Clock()
            # Where a budget bounds what many queries find together, fewer.
            each = min(self._pool(mode, k, oversample), sys.maxsize)
            at_once = min(_QUERIES_AT_ONCE, self._plan.answers(each))
            # Most calls have one part, which is encoded before the transaction begins.
            moved = self._moved(terms.feedback)
            first = self._encode(queries[:at_once], mode, moved)
            encode_ms = clock.lap()
            condition = Condition()
            if where is not None:
                condition = Condition(*compile_where(where, schema.filter_columns(self._filters)))

            def answer(store: Store, state: Counters) -> list[Kept]:
                # No more can be found than there is, and what is planned for more would not fit.
                found = min(k, max(state.documents, 1))
                asked = min(oversample, max(state.passages, 1)) if oversample else None
                mask = self._eligible(store, condition, hidden)
                pool = self._pool(mode, found, asked)
                wanted = asked or oversampling(state.passages, self._bits)
                call = _Call(
                    state,
                    mode,
                    found,
                    pool,
                    wanted,
                    condition,
                    mask,
                    encode_ms,
                    clock.lap(),
                    at_once,
                    terms,
                )
                kept = [keep(answered) for answered in self._answer(store, call, first)]
                for start in range(at_once, len(queries), at_once):
                    clock.lap()
                    part = self._encode(queries[start : start + at_once], mode, moved)
                    call = call._replace(encode_ms=clock.lap())
                    kept += [keep(answered) for answered in self._answer(store, call, part)]
                return kept

            return self._connections.read(answer)

        return self._memory_lock.hold(ask)

    def _explained(self, answered: _Answered) -> Explanation:
        call, answer, coverage = answered.call, answered.answer, answered.coverage
        return Explanation(
            hits=answered.hits,
            documents=call.state.documents,
            passages=call.state.passages,
            eligible=call.eligible,
            candidates=answer.candidates,
            scanned=answer.scanned,
            search="exact" if coverage is None else "partitions",
            covered=0 if coverage is None else coverage.rows,
            fallback=self.fallback,
            encode_ms=call.encode_ms,
            filter_ms=call.filter_ms,
            search_ms=answered.search_ms,
            fetch_ms=answered.fetch_ms,
            query_windows=answered.windows,
            query_known=answered.known,
            words=answered.words,
            words_bytes=answer.octets,
            words_runs=answer.runs,
            mode=call.mode,
            words_weight=answer.weight,
            phrases_read=call.phrases_read,
            phrases_said=call.phrases_said,
        )

    def _eligible(self, store: Store, condition: Condition, hidden: str | None) -> Mask | None:
        """The rows that may be found; None: all."""
        mask = None
        if condition.sql:
            mask = both(store.live(), store.rows.matching(condition.sql, condition.parameters))
        head = None if hidden is None else store.rows.head_of(hidden)
        if head is None:
            return mask
        return less(store.live() if mask is None else mask, store.rows.rows_of([head.doc]))

    def _answer(self, store: Store, call: _Call, asked: _Part) -> list[_Answered]:
        """The answers to queries; one with phrases is answered by itself, from the passages that say them.

        Where none does, a hybrid search has meaning to go by: it is asked as if nothing were quoted.
        """
        quoted = [
            phrases.of(query) if isinstance(query, str) and call.mode != "dense" else []
            for query in asked.queries
        ]
        if not any(quoted):
            return self._answer_all(store, call, asked)
        found = []
        for number, said in enumerate(quoted):
            own = call
            if said:
                clock = Clock()
                mask, read = store.lexicon.saying(said, call.mask)
                own = call._replace(
                    mask=mask if mask or call.mode == "lexical" else call.mask,
                    phrases_read=read,
                    phrases_said=mask is None or bool(mask),
                    filter_ms=call.filter_ms + clock.lap(),
                )
            found += self._answer_all(store, own, asked.only(number))
        return found

    def _answer_all(self, store: Store, call: _Call, asked: _Part) -> list[_Answered]:
        clock = Clock()
        answers, coverage = self._rank(store, call, asked)
        search_ms = clock.lap()
        if call.terms.is_arranged:
            shown = [
                self._arranged(store, call, asked.only(number), answer)
                for number, answer in enumerate(answers)
            ]
        else:
            shown = [
                self._shown(store, call, query, answer)
                for query, answer in zip(asked.queries, answers, strict=True)
            ]
        origins = [
            _Origin(self, query, asked.only(number).vectors, call.mode, call.terms.prefix)
            for number, query in enumerate(asked.queries)
        ]
        hits = _hits(store, [call.terms.page(found) for found in shown], origins, call.condition)
        if call.mode == "lexical":
            for query, found in zip(asked.queries, hits, strict=True):
                texts = [
                    searched(store.rows.context_of(hit.id, (hit.start, hit.end)), hit.text) for hit in found
                ]
                store.lexicon.check_words(str(query), texts, call.terms.prefix)
        fetch_ms = clock.lap()
        name = "" if call.mode == "dense" else store.lexicon.name
        return [
            _Answered(found, answer, coverage, call, search_ms, fetch_ms, windows, known, name)
            for found, answer, windows, known in zip(hits, answers, asked.windows, asked.known, strict=True)
        ]

    def _rank(self, store: Store, call: _Call, asked: _Part) -> tuple[list[Answer], Coverage | None]:
        """The answer to each query, as far as documents are ranked."""
        answers: list[Answer] = []
        coverage = None
        if call.mode == "hybrid" and self._fuses:
            answers, coverage = self._fused(store, call, asked)
        elif call.mode != "lexical":
            answers, coverage = self._nearest(store, call, asked)
        if call.mode == "lexical" or (call.mode == "hybrid" and not self._fuses):
            answers = self._by_words(store, call, asked, answers)
        return answers, coverage

    def _shown(self, store: Store, call: _Call, query: Query | Asked, answer: Answer) -> list[_Shown]:
        """What may be shown of an answer."""
        return [
            _Shown(doc, (start, end), scores)
            for (_, doc, start, end), scores in zip(
                answer.heads[: call.k].tolist(), self._scores(store, call, query, answer), strict=False
            )
        ]

    def _arranged(self, store: Store, call: _Call, asked: _Part, answer: Answer) -> list[_Shown]:
        """The same, at least to the end of the page, where the ranking is not shown as it is. asked: one query."""
        terms = call.terms
        (query,) = asked.queries
        if terms.per_document != 1:
            scored = partial(self._scored, store, call, asked)
            most = call.k if terms.reorders else terms.end
            answer = arrangement.passages(store, answer, call.mask, scored, terms.per_document, most)
            call = call._replace(k=len(answer))
        shown = self._reordered(store, call, answer, self._shown(store, call, query, answer))
        if terms.group_by is None:
            return shown
        groups = arrangement.Groups(terms.group_by, terms.per_group)
        kept: list[_Shown] = []
        while shown:
            values = arrangement.values(store, [one.doc for one in shown], terms.group_by)
            kept += [one for one, own in zip(shown, values, strict=True) if groups.admit(one.doc, own)]
            if len(kept) >= terms.end:
                break
            call = call._replace(mask=groups.others(store, call.mask))
            (answer,), _ = self._rank(store, call, asked)
            shown = self._reordered(store, call, answer, self._shown(store, call, query, answer))
        return kept

    def _reordered(self, store: Store, call: _Call, answer: Answer, shown: list[_Shown]) -> list[_Shown]:
        """What is shown of an answer, by recency and diversity."""
        terms = call.terms
        rows = answer.heads[: len(shown), 0]
        scores = np.array([one.score for one in shown])
        if terms.boost is not None and shown:
            dates = arrangement.values(store, [one.doc for one in shown], terms.boost["key"])
            scores = arrangement.recent(dates, scores, terms.boost)
            order = np.lexsort((rows, -scores))
            rows, scores = rows[order], scores[order]
            shown = [
                shown[place]._replace(scores=shown[place].scores._replace(score=score))
                for place, score in zip(order.tolist(), scores.tolist(), strict=True)
            ]
        if terms.diversity is not None and shown:
            self._plan.admit(_IN_FLOATS * len(rows))
            vectors = dequantize(store.rows.lines(rows).vectors)
            chosen = arrangement.diverse(vectors, scores, terms.diversity, terms.end)
            shown = [shown[place] for place in chosen]
        return shown

    def _scored(self, store: Store, call: _Call, asked: _Part, rows: Int64) -> Answer:
        """Passages as the answer to one query has them."""
        self._plan.admit(len(rows))
        (query,) = asked.queries
        text = query if isinstance(query, str) else None
        question = Question(text, slice(None), self._spread or 0.0, call.terms.prefix)
        return scored(store, rows, question, asked.vectors, call.mode)

    def _scores(self, store: Store, call: _Call, query: Query | Asked, answer: Answer) -> Iterable[Scores]:
        """Those of each hit, as far as they are known."""
        scores = answer.scores.tolist()
        if call.mode == "dense":
            return map(Scores, scores, scores)
        if not self._fuses:
            return map(Scores, scores)
        if call.mode == "lexical":
            return (Scores(score, lexical=score) for score in scores)
        cosines = answer.cosines[: call.k].tolist()
        if not isinstance(query, str):
            return map(Scores, scores, cosines)
        encoder, model = self._encoder, store.description.model
        fitted = None
        # It was measured where each document is shown once.
        if call.terms.per_document == 1:
            fitted = fusion.relevance(encoder.geometry, recorded_name(encoder), model, words.VERSION)
        shares = answer.shares.tolist()
        return (
            Scores(
                scores[number],
                cosine,
                shares[number],
                fitted and fitted.probability(*fusion.features(cosine, scores, number, fitted.unrelated)),
            )
            for number, cosine in enumerate(cosines)
        )

    def _by_words(self, store: Store, call: _Call, asked: _Part, near: list[Answer]) -> list[Answer]:
        """The answers by words alone, or fused with those by meaning as format 1 has them."""
        self._plan.admit(min(call.pool, call.state.documents))
        found = [
            lexical(store, query, min(call.pool, call.state.documents), call.mask, call.terms.prefix)
            for query in asked.queries
            if isinstance(query, str)
        ]
        if call.mode == "lexical":
            return found
        triples = zip((asked.vectors[rows] for rows in asked.rows), near, found, strict=True)
        return [fuse_lists(store, *triple, call.k) for triple in triples]

    def _fused(self, store: Store, call: _Call, asked: _Part) -> tuple[list[Answer], Coverage | None]:
        """By meaning and words, the answer to each query."""
        if self._spread is None:
            self._spread = spread(self._encoder)
        coverage = None
        answers: list[Answer] = []
        k = min(call.k, call.state.documents)
        first = 0
        while first < len(asked.queries):
            # So many whole queries as have few enough vectors, and one at the least.
            end = first + 1
            while end < len(asked.rows) and asked.rows[end].stop - asked.rows[first].start <= call.at_once:
                end += 1
            part = slice(asked.rows[first].start, asked.rows[end - 1].stop)
            questions = [
                Question(
                    query if isinstance(query, str) else None,
                    slice(rows.start - part.start, rows.stop - part.start),
                    self._spread,
                    call.terms.prefix,
                )
                for query, rows in zip(asked.queries[first:end], asked.rows[first:end], strict=True)
            ]
            request = Request(
                asked.vectors[part], asked.planes[part], call.mask, call.eligible, k, call.oversample
            )
            rank = partial(hybrid, store, questions=questions, admit=self._plan.admit)
            found, coverage = self._ranked(
                store, call, request, [question.rows for question in questions], rank
            )
            answers += found
            first = end
        return answers, coverage

    def _nearest(self, store: Store, call: _Call, asked: _Part) -> tuple[list[Answer], Coverage | None]:
        """By meaning, the answer to each query: of a long one, the best that its rows find."""
        coverage = None
        answers: list[Answer] = []
        k = min(call.pool, call.state.documents)
        owners = [number for number, rows in enumerate(asked.rows) for _ in range(rows.start, rows.stop)]
        for first in range(0, len(owners), call.at_once):
            part = slice(first, first + call.at_once)
            request = Request(
                asked.vectors[part], asked.planes[part], call.mask, call.eligible, k, call.oversample
            )
            each = [slice(number, number + 1) for number in range(len(request.vectors))]
            rank = partial(dense, store, admit=self._plan.admit)
            found, coverage = self._ranked(store, call, request, each, rank)
            for owner, answer in zip(owners[part], found, strict=True):
                if owner == len(answers):
                    answers.append(answer)
                else:
                    answers[owner] = better(answers[owner], answer, call.pool)
        return answers, coverage

    def _ranked(
        self,
        store: Store,
        call: _Call,
        request: Request,
        each: Sequence[slice],
        rank: Callable[[Finder, Request], list[Answer]],
    ) -> tuple[list[Answer], Coverage | None]:
        """What `rank` makes of the candidates by code: of the partitions, if there are any. each: rows of an answer."""
        codes, partitions = self._picture(store, call.state), self._partitions
        if partitions is not None:
            try:
                coverage = self._covered(partitions, store, call.state)
                wide = request._replace(k=max(call.pool, LEAST_CANDIDATES))
                near = ByPartitions(store, codes, partitions, coverage, wide)
                answers = rank(near, request)
                for rows, answer in zip(each, answers, strict=True):
                    shown = answer.heads[: min(call.k, _CONFIRMED), 0].tolist()
                    for row in range(rows.start, rows.stop):
                        near.confirm(row, shown, self._encoder.codec)
                return answers, coverage
            except PartitionsError as error:
                # They are derived: without them every answer is as good, only slower.
                self._partitions, self.fallback = None, str(error)
        return rank(by_all_codes(store, codes, request), request), None

    def _pool(self, mode: str, k: int, oversample: int | None) -> int:
        """How many documents, or rows, each list gives: fusing needs more of either than are shown."""
        if mode != "hybrid":
            return k
        if self._fuses:
            return fusion.depth(k)
        return (oversample or LEAST_OVERSAMPLING) * max(k, LEAST_CANDIDATES)

    def _covered(self, partitions: Partitions, store: Store, state: Counters) -> Coverage:
        if self._loading.mine:
            # A signal handler searches within the call that loads: what it sees is read for it alone.
            return partitions.coverage(store, state)

        def load() -> Coverage:
            if self._coverage is None or self._coverage.generation != state.generation:
                self._coverage = partitions.coverage(store, state)
            return self._coverage

        return self._loading.hold(load)

    def _moved(self, feedback: Feedback | None) -> Float32 | None:
        """What feedback adds to each query's vector, float32 [dim] (Rocchio, in The SMART Retrieval System, 1971)."""
        if not any(feedback or ()):
            return None
        moved: Float32 = np.zeros(self._encoder.dim, dtype=np.float32)
        for ids, weight in zip(feedback or ((), ()), (_LIKED, -_DISLIKED), strict=True):
            for id in ids:
                # A long document counts as much as a short one.
                moved += weight / len(ids) * normalize(self._vectors(id).mean(axis=0)[None], len(moved))[0]
        return moved

    def _vectors(self, id: str) -> Float32:
        vectors = self._connections.read(lambda store, _: store.rows.vectors_of(id))
        if vectors is None:
            raise InvalidQueryError(f"no document {id!r:.80} to compare others with: check the id")
        return vectors

    def _encode(self, queries: Sequence[Query | Asked], mode: str, moved: Float32 | None) -> _Part:
        count = len(queries)
        if mode == "lexical":
            none = np.empty((0, self._encoder.dim), dtype=np.float32)
            planes = np.empty((0, 0, 0), dtype=np.uint64)
            return _Part(queries, none, planes, [], [0] * count, [True] * count)
        asked = [self._encoded(query) for query in queries]
        each = [_unit(found.vectors, self._encoder.dim) for found in asked]
        vectors = each[0] if count == 1 else np.concatenate(each)
        if moved is not None:
            vectors = normalize(vectors + moved, self._encoder.dim)
        made = [self._encoder.codec.encode_query(vector, self._bits) for vector in vectors]
        # What puts arrays together takes as long for one as for some.
        planes = made[0][None] if len(made) == 1 else np.stack(made)
        stops = list(accumulate(len(found.vectors) for found in asked))
        rows = [slice(stop - len(found.vectors), stop) for stop, found in zip(stops, asked, strict=True)]
        return _Part(
            queries,
            vectors,
            planes,
            rows,
            [found.windows for found in asked],
            [found.known for found in asked],
        )

    def _encoded(self, query: Query | Asked) -> Asked:
        if isinstance(query, str):
            return encode_query(query, self._encoder)
        return query if isinstance(query, Asked) else Asked(np.asarray(query)[None], 0, known=True)

    def _picture(self, store: Store, state: Counters) -> CodeSnapshot:
        if self._loading.mine:
            return CodeSnapshot.none(resident_blocks=0).at(store, state)

        def load() -> CodeSnapshot:
            if state.generation < self._codes.generation:
                # Another thread is ahead: what this one sees is read for this search alone.
                return CodeSnapshot.none(resident_blocks=0).at(store, state)
            is_outdated = state.generation > self._codes.generation and self._codes.outdated(store)
            if is_outdated or self._codes.resident_blocks != self._plan.code_blocks:
                self._codes = CodeSnapshot.none(self._plan.code_blocks)
            self._codes = self._codes.at(store, state)
            return self._codes

        return self._loading.hold(load)


def _unit(vectors: Float32, dim: int) -> Float32:
    """The vectors, of unit length: most of our own are, and to make them so again takes longer than to see that."""
    if vectors.shape == (1, dim) and vectors.dtype == np.float32:
        (vector,) = vectors
        if abs(float(vector @ vector) - 1) < _ROUNDING:
            return vectors
    return normalize(vectors, dim)


def common_mode(searchers: Sequence[Searcher], query: Query, mode: str | None) -> str:
    """The mode in which the scores of all compare. Raises SpaceMismatchError, InvalidQueryError."""
    spaces = {searcher.space for searcher in searchers}
    if len(spaces) > 1:
        raise SpaceMismatchError(
            f"expected indexes of one space, got {', '.join(sorted(space[:8] for space in spaces))}: give them one "
            "with 'edgeret reencode' or 'edgeret recode'"
        )
    fuses = all(searcher.fuses for searcher in searchers)
    chosen = choose_mode([query], mode, fuses)
    if chosen != "dense" and not fuses and len(searchers) > 1:
        raise InvalidQueryError(
            f"mode {chosen!r} needs words that are scored alike, one of the files is of format 1: run "
            "'edgeret upgrade', or use mode='dense'"
        )
    return chosen


def _hits(
    store: Store, answers: Sequence[Sequence[_Shown]], origins: Sequence[_Origin], condition: Condition
) -> list[list[Hit]]:
    """What is shown of the passages of each answer: every document is read once, however many show it."""
    places: dict[int, list[tuple[int, int]]] = {}
    for number, answer in enumerate(answers):
        for rank, one in enumerate(answer):
            places.setdefault(one.doc, []).append((number, rank))
    docs = sorted(places)
    meeting = store.rows.meeting(docs, condition.sql, condition.parameters) if condition.sql else places
    made = {}
    for source in store.rows.sources(docs):
        if source.doc not in meeting:
            raise store.damaged(f"an index finds document {source.id!r} where it is not")
        for number, rank in places[source.doc]:
            _, span, scores = answers[number][rank]
            made[number, rank] = make_hit(source, span, scores, origins[number])
    return [[made[number, rank] for rank in range(len(answer))] for number, answer in enumerate(answers)]
