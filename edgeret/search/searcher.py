"""Searcher: from queries to hits, on a read connection of its own for each call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

import numpy as np

from edgeret.blocks import Mask, count
from edgeret.codec import Float32, UInt64, normalize
from edgeret.documents import Hit, parse
from edgeret.encode.encoder import Asked
from edgeret.encode.records import TextEncoder, encode_query
from edgeret.errors import PartitionsError
from edgeret.plan import LEAST_OVERSAMPLING, Plan, oversampling
from edgeret.reports import Explanation
from edgeret.search.candidates import ByPartitions, Request, by_all_codes
from edgeret.search.partitions import Coverage, Partitions
from edgeret.search.snapshot import CodeSnapshot
from edgeret.search.stages import (
    LEAST_CANDIDATES,
    Answer,
    Clock,
    Condition,
    Query,
    Where,
    better,
    check_arguments,
    dense,
    hybrid,
    lexical,
)
from edgeret.storage import schema
from edgeret.storage.filters import compile_where
from edgeret.storage.readers import Connections
from edgeret.storage.rows import Passage
from edgeret.storage.store import Counters, Store
from edgeret.turns import Turn

Kept = TypeVar("Kept")

_QUERIES_AT_ONCE: Final = 32
"""The scan reads the codes once for so many queries; more would gain nothing and hold their candidates."""

_CONFIRMED: Final = 10
"""Hits of a query whose codes in the partitions are compared with those of their vectors."""


class _Terms(NamedTuple):
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

    @property
    def eligible(self) -> int:
        """How many passages may be found."""
        return self.state.passages if self.mask is None else count(self.mask)


class _Part(NamedTuple):
    """Queries, encoded: a long one is several rows of `vectors` and `planes`. windows, known: as of `Explanation`."""

    queries: Sequence[Query]
    vectors: Float32
    planes: UInt64
    rows: list[slice]
    windows: list[int]
    known: list[bool]


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
        self.fallback = fallback

    def covered(self, store: Store, state: Counters) -> int:
        """How many passages the partitions cover."""
        partitions = self._partitions
        try:
            return self._covered(partitions, store, state).rows if partitions else 0
        except PartitionsError as error:
            self._partitions, self.fallback = None, str(error)
            return 0

    def search(
        self, queries: Sequence[Query], k: int, where: Where | None, mode: str, oversample: int | None
    ) -> list[list[Hit]]:
        """The hits of each query."""
        return self._ask(queries, k, where, mode, oversample, lambda explained: explained.hits)

    def explain(
        self, queries: Sequence[Query], k: int, where: Where | None, mode: str, oversample: int | None
    ) -> list[Explanation]:
        """The hits of each query, with counts and the time of each stage."""
        return self._ask(queries, k, where, mode, oversample, lambda explained: explained)

    def _ask(
        self,
        queries: Sequence[Query],
        k: int,
        where: Where | None,
        mode: str,
        oversample: int | None,
        keep: Callable[[Explanation], Kept],
    ) -> list[Kept]:
        """Answer some at a time, all on one state of the index; the codes are read once for each part.

        keep: what stays of each answer.
        """
        check_arguments(queries, mode)
        self._connections.alive()
        if not queries:
            return []

        def ask() -> list[Kept]:
            clock = Clock()
            # Where a budget bounds what many queries find together, fewer.
            each = min(_pool(mode, k, oversample), sys.maxsize)
            at_once = min(_QUERIES_AT_ONCE, self._plan.answers(each))
            # Most calls have one part, which is encoded before the transaction begins.
            first = self._encode(queries[:at_once], mode)
            encode_ms = clock.lap()
            condition = Condition()
            if where is not None:
                condition = Condition(*compile_where(where, schema.filter_columns(self._filters)))

            def answer(store: Store, state: Counters) -> list[Kept]:
                # No more can be found than there is, and what is planned for more would not fit.
                found = min(k, max(state.documents, 1))
                asked = min(oversample, max(state.passages, 1)) if oversample else None
                mask = None
                if condition.sql:
                    mask = store.rows.matching(condition.sql, condition.parameters)
                pool = _pool(mode, found, asked)
                wanted = asked or oversampling(state.passages, self._bits)
                terms = _Terms(
                    state, mode, found, pool, wanted, condition, mask, encode_ms, clock.lap(), at_once
                )
                kept = [keep(explained) for explained in self._answer(store, terms, first)]
                for start in range(at_once, len(queries), at_once):
                    clock.lap()
                    part = self._encode(queries[start : start + at_once], mode)
                    terms = terms._replace(encode_ms=clock.lap())
                    kept += [keep(explained) for explained in self._answer(store, terms, part)]
                return kept

            return self._connections.read(answer)

        return self._memory_lock.hold(ask)

    def _answer(self, store: Store, terms: _Terms, asked: _Part) -> list[Explanation]:
        queries = asked.queries
        clock = Clock()
        answers: list[Answer] = []
        coverage = None
        if terms.mode != "lexical":
            answers, coverage = self._nearest(store, terms, asked)
        if terms.mode != "dense":
            self._plan.admit(min(terms.pool, terms.state.documents))
            by_words = [
                lexical(store, query, min(terms.pool, terms.state.documents), terms.mask)
                for query in queries
                if isinstance(query, str)
            ]
            triples = zip((asked.vectors[rows] for rows in asked.rows), answers, by_words, strict=True)
            answers = [hybrid(*triple, terms.k) for triple in triples] if terms.mode == "hybrid" else by_words
        search_ms = clock.lap()
        hits = _hits(store, [answer.ranked[: terms.k] for answer in answers], terms.condition)
        if terms.mode == "lexical":
            for query, found in zip(queries, hits, strict=True):
                store.lexicon.check_words(str(query), [hit.text for hit in found])
        fetch_ms = clock.lap()
        return [
            Explanation(
                hits=found,
                documents=terms.state.documents,
                passages=terms.state.passages,
                eligible=terms.eligible,
                candidates=answer.candidates,
                scanned=answer.scanned,
                search="exact" if coverage is None else "partitions",
                covered=0 if coverage is None else coverage.rows,
                fallback=self.fallback,
                encode_ms=terms.encode_ms,
                filter_ms=terms.filter_ms,
                search_ms=search_ms,
                fetch_ms=fetch_ms,
                query_windows=windows,
                query_known=known,
                words="" if terms.mode == "dense" else store.lexicon.name,
                words_bytes=answer.octets,
                words_runs=answer.runs,
            )
            for found, answer, windows, known in zip(hits, answers, asked.windows, asked.known, strict=True)
        ]

    def _nearest(self, store: Store, terms: _Terms, asked: _Part) -> tuple[list[Answer], Coverage | None]:
        """By meaning, the answer to each query: of a long one, the best that its rows find."""
        coverage = None
        answers: list[Answer] = []
        owners = [number for number, rows in enumerate(asked.rows) for _ in range(rows.start, rows.stop)]
        for first in range(0, len(owners), terms.at_once):
            part = slice(first, first + terms.at_once)
            found, coverage = self._dense(store, terms, asked.vectors[part], asked.planes[part])
            for owner, answer in zip(owners[part], found, strict=True):
                if owner == len(answers):
                    answers.append(answer)
                else:
                    answers[owner] = better(answers[owner], answer, terms.pool)
        return answers, coverage

    def _dense(
        self, store: Store, terms: _Terms, vectors: Float32, planes: UInt64
    ) -> tuple[list[Answer], Coverage | None]:
        codes, partitions = self._picture(store, terms.state), self._partitions
        k = min(terms.pool, terms.state.documents)
        request = Request(vectors, planes, terms.mask, terms.eligible, k, terms.oversample)
        if partitions is not None:
            try:
                coverage = self._covered(partitions, store, terms.state)
                wide = request._replace(k=max(terms.pool, LEAST_CANDIDATES))
                near = ByPartitions(store, codes, partitions, coverage, wide)
                answers = dense(store, near, request, self._plan.admit)
                for query, answer in enumerate(answers):
                    shown = [passage for passage, _ in answer.ranked[: terms.k][:_CONFIRMED]]
                    near.confirm(query, shown, self._encoder.codec)
                return answers, coverage
            except PartitionsError as error:
                # They are derived: without them every answer is as good, only slower.
                self._partitions, self.fallback = None, str(error)
        return dense(store, by_all_codes(store, codes, request), request, self._plan.admit), None

    def _covered(self, partitions: Partitions, store: Store, state: Counters) -> Coverage:
        if self._loading.mine:
            # A signal handler searches within the call that loads: what it sees is read for it alone.
            return partitions.coverage(store, state)

        def load() -> Coverage:
            if self._coverage is None or self._coverage.generation != state.generation:
                self._coverage = partitions.coverage(store, state)
            return self._coverage

        return self._loading.hold(load)

    def _encode(self, queries: Sequence[Query], mode: str) -> _Part:
        count = len(queries)
        if mode == "lexical":
            none = np.empty((0, self._encoder.dim), dtype=np.float32)
            planes = np.empty((0, 0, 0), dtype=np.uint64)
            return _Part(queries, none, planes, [], [0] * count, [True] * count)
        asked = [
            encode_query(query, self._encoder)
            if isinstance(query, str)
            else Asked(np.asarray(query)[None], 0, known=True)
            for query in queries
        ]
        vectors = np.concatenate([normalize(found.vectors, self._encoder.dim) for found in asked])
        planes = np.stack([self._encoder.codec.encode_query(vector, self._bits) for vector in vectors])
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

    def _picture(self, store: Store, state: Counters) -> CodeSnapshot:
        if self._loading.mine:
            return CodeSnapshot.none(resident_blocks=0).at(store, state)

        def load() -> CodeSnapshot:
            if state.generation < self._codes.generation:
                # Another thread is ahead: what this one sees is read for this search alone.
                return CodeSnapshot.none(resident_blocks=0).at(store, state)
            if state.generation > self._codes.generation and self._codes.outdated(store):
                self._codes = CodeSnapshot.none(self._plan.code_blocks)
            self._codes = self._codes.at(store, state)
            return self._codes

        return self._loading.hold(load)


def _pool(mode: str, k: int, oversample: int | None) -> int:
    """How many documents each list gives: fusing needs several times k of either."""
    return (oversample or LEAST_OVERSAMPLING) * max(k, LEAST_CANDIDATES) if mode == "hybrid" else k


def _hits(
    store: Store, answers: Sequence[Sequence[tuple[Passage, float]]], condition: Condition
) -> list[list[Hit]]:
    """What is shown of the passages of each answer: every document is read once, however many show it."""
    places = sorted(
        (passage.doc, number, rank)
        for number, answer in enumerate(answers)
        for rank, (passage, _) in enumerate(answer)
    )
    docs = {doc for doc, _, _ in places}
    meeting = store.rows.meeting(docs, condition.sql, condition.parameters) if condition.sql else docs
    made = {}
    for doc, shown in groupby(places, key=itemgetter(0)):
        stored = store.rows.document(doc)
        if doc not in meeting:
            raise store.damaged(f"an index finds document {stored.id!r} where it is not")
        for number, (_, *place) in enumerate(shown):
            passage, score = answers[place[0]][place[1]]
            text = stored.text[passage.start : passage.end]
            # Each hit has metadata of its own, which its owner may change.
            metadata = (parse(stored.json) or {}) if number else stored.metadata
            made[tuple(place)] = Hit(stored.id, float(score), text, passage.start, passage.end, metadata)
    return [[made[number, rank] for rank in range(len(answer))] for number, answer in enumerate(answers)]
