"""Searcher: from queries to hits, on a read connection of its own for each call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeret import database
from edgeret.codec import Float32, UInt64, normalize
from edgeret.codes import Codes
from edgeret.connections import Connections
from edgeret.documents import Hit
from edgeret.encoding import TextEncoder
from edgeret.filters import compile_where
from edgeret.reports import Explanation
from edgeret.search import (
    LEAST_CANDIDATES,
    Answer,
    Clock,
    Condition,
    Query,
    Where,
    check_arguments,
    check_words,
    dense,
    hybrid,
    lexical,
)
from edgeret.store import State, Store, count


class Searcher:
    """Answers queries from any thread; keeps the newest picture of the codes for all of them."""

    def __init__(
        self,
        connections: Connections,
        encoder: TextEncoder,
        bits: int,
        filters: Sequence[str],
        resident: bool,
    ) -> None:
        self._connections = connections
        self._encoder = encoder
        self._bits = bits
        self._filters = filters
        self._codes = Codes.none(resident)

    def explain(
        self, queries: Sequence[Query], k: int, where: Where | None, mode: str, oversample: int
    ) -> list[Explanation]:
        """Answer each query, with counts and the time of each stage; the codes are read once for all."""
        check_arguments(queries, k, mode, oversample)
        self._connections.alive()
        if not queries:
            return []
        clock = Clock()
        vectors, planes = self._encode(queries, mode)
        encode_ms = clock.lap()
        condition = Condition()
        if where is not None:
            condition = Condition(*compile_where(where, database.filter_columns(self._filters)))
        with self._connections.reading() as (store, state):
            mask = None
            if condition.sql and mode != "lexical":
                mask = store.matching(condition.sql, condition.parameters)
            filter_ms = clock.lap()
            # Fusing needs more of either list than it gives.
            pool = oversample * max(k, LEAST_CANDIDATES) if mode == "hybrid" else k
            answers = []
            if mode != "lexical":
                codes = self._picture(store, state)
                answers = dense(store, codes, vectors, planes, pool, oversample, mask, threads=1)
            if mode != "dense":
                by_words = [
                    lexical(store, query, pool, condition) for query in queries if isinstance(query, str)
                ]
                pairs = zip(vectors, answers, by_words, strict=True)
                answers = [hybrid(*pair, k) for pair in pairs] if mode == "hybrid" else by_words
            search_ms = clock.lap()
            hits = [self._hits(store, answer, k, condition) for answer in answers]
            if mode == "lexical":
                for query, found in zip(queries, hits, strict=True):
                    check_words(store, str(query), [hit.text for hit in found])
            fetch_ms = clock.lap()
        return [
            Explanation(
                hits=found,
                documents=state.documents,
                passages=state.passages,
                eligible=state.passages if mask is None else count(mask),
                candidates=answer.candidates,
                encode_ms=encode_ms,
                filter_ms=filter_ms,
                search_ms=search_ms,
                fetch_ms=fetch_ms,
            )
            for found, answer in zip(hits, answers, strict=True)
        ]

    def _encode(self, queries: Sequence[Query], mode: str) -> tuple[Float32, UInt64]:
        if mode == "lexical":
            return np.empty((0, self._encoder.dim), dtype=np.float32), np.empty((0, 0, 0), dtype=np.uint64)
        rows = [
            self._encoder.encode([query]) if isinstance(query, str) else np.asarray(query)[None]
            for query in queries
        ]
        vectors = np.concatenate([normalize(row, self._encoder.dim) for row in rows])
        codec = self._encoder.codec
        return vectors, np.stack([codec.encode_query(vector, self._bits) for vector in vectors])

    def _hits(self, store: Store, answer: Answer, k: int, condition: Condition) -> list[Hit]:
        hits = []
        for passage, score in answer.ranked[:k]:
            stored = store.document(passage.doc)
            if condition.sql and not store.meets(passage.doc, condition.sql, condition.parameters):
                raise store.damaged(f"an index finds document {stored.id!r} where it is not")
            text = stored.text[passage.start : passage.stop]
            hits.append(Hit(stored.id, float(score), text, passage.start, passage.stop, stored.metadata))
        return hits

    def _picture(self, store: Store, state: State) -> Codes:
        codes = self._codes.at(store, state)
        # Another thread may have been here with a newer generation: keep the newest.
        if codes.generation > self._codes.generation:
            self._codes = codes
        return codes
