"""LangChain: an index as its `VectorStore`. Needs the package langchain-core, the extra `langchain`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from edgeret.documents import Document, Hit
from edgeret.errors import ArgumentError, ExtraMissingError, InvalidDocumentError
from edgeret.index import Index
from edgeret.search.stages import Query

try:
    from langchain_core import documents, embeddings, vectorstores
except ImportError as error:
    raise ExtraMissingError(
        "expected the package langchain-core, it cannot be imported: pip install 'edgeret[langchain]'"
    ) from error


class EdgeretVectorStore(vectorstores.VectorStore):
    """An open index as a vector store. The index encodes with its own model, and embeddings of LangChain are not asked.

    What searches take beside LangChain's own words, such as `mode` and `min_score`, goes to `Index.search`. A `filter`
    is the `where` of docs/filters.md. A document without an id gets one made of its text and metadata, so that adding
    it again changes nothing. The asynchronous methods are LangChain's own, which call these in a thread.
    """

    def __init__(self, index: Index, passages: bool = False) -> None:
        """Wrap an index.

        Args:
            index: The index, which stays open until you close it.
            passages: Whether a search returns the best passage of each document. False returns the whole text.
        """
        self.index = index
        self._passages = passages

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: embeddings.Embeddings | None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Add texts to the index of a file, which is made if it is missing.

        Args:
            texts: The texts.
            embedding: None: the index encodes with its own model.
            metadatas: A mapping for each text. None: no text has any.
            ids: An id for each text, or None in its place. None makes all.
            kwargs: `path`, and what else `Index.create` takes.

        Returns:
            The store; `store.index.close()` closes its index.

        Raises:
            ArgumentError: There are embeddings, or no path.
            EdgeretError: What `Index.create` and `Index.add` raise.
        """
        if embedding is not None:
            raise ArgumentError(
                f"expected embedding to be None, got a {type(embedding).__name__}: an index encodes with its own "
                "model, pass model= to choose it"
            )
        path: str | os.PathLike[str] | None = kwargs.pop("path", None)
        if path is None:
            raise ArgumentError("expected path, the index file, got none: pass path='notes.edgeret'")
        store = cls(Index.create(path, **{"exist_ok": True, **kwargs}))
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.index.close()
            raise
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts, as `Index.add` does; `kwargs` are its own. Returns their ids."""
        several = list(texts)
        named = [None] * len(several) if ids is None else ids
        described = [{}] * len(several) if metadatas is None else metadatas
        if not len(several) == len(named) == len(described):
            raise InvalidDocumentError(
                f"expected an id and metadata for each of {len(several)} texts, got {len(named)} ids and "
                f"{len(described)} metadatas: give as many, or none"
            )
        rows = zip(several, described, named, strict=True)
        return self.index.add([_document(*row) for row in rows], **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[documents.Document]:
        """Return the documents of these ids, whole, in their order; unknown ids are left out."""
        found = map(self.index.get, ids)
        return [
            documents.Document(one.text, id=one.id, metadata=dict(one.metadata))
            for one in found
            if one is not None
        ]

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Remove documents, as `Index.delete` does; `kwargs` are its own. Without ids and a `where`: all."""
        if ids is None and not kwargs.get("where"):
            self.index.delete(self.index.ids(), **kwargs)
        else:
            self.index.delete(ids, **kwargs)
        return True

    def similarity_search(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[documents.Document]:
        """Return the `k` best documents for a query."""
        return self._shown(self.index.search(query, k, filter, **kwargs))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[documents.Document]:
        """Return the `k` best documents for a vector of the index's own space."""
        return self._shown(self.index.search(np.asarray(embedding), k, filter, **kwargs))

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[documents.Document, float]]:
        """Return the `k` best documents for a query, each with its score, of which higher is better."""
        hits = self.index.search(query, k, filter, **kwargs)
        return list(zip(self._shown(hits), (hit.score for hit in hits), strict=True))

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[documents.Document, float]]:
        hits = self.index.search(query, k, filter, **kwargs)
        return list(zip(self._shown(hits), map(_relevance, hits), strict=True))

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[documents.Document]:
        """Return `k` of the `fetch_k` best documents for a query, unlike each other; `lambda_mult` 1: the best."""
        return self._spread(query, k, fetch_k, lambda_mult, kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[documents.Document]:
        """As `max_marginal_relevance_search`, for a vector of the index's own space."""
        return self._spread(np.asarray(embedding), k, fetch_k, lambda_mult, kwargs)

    def _spread(
        self, query: Query, k: int, fetch_k: int, weight: float, options: dict[str, Any]
    ) -> list[documents.Document]:
        where = options.pop("filter", None)
        found = self.index.search(query, max(k, fetch_k), where, **options)
        stored = {hit.id: self.index.vectors(hit.id) for hit in found}
        # Maximal marginal relevance (Carbonell and Goldstein, 1998). What was deleted meanwhile has no vectors.
        vectors = {id: one for id, one in stored.items() if one is not None}
        left = [hit for hit in found if hit.id in vectors]
        chosen: list[Hit] = []

        def marginal(hit: Hit) -> float:
            near = [float((vectors[hit.id] @ vectors[other.id].T).max()) for other in chosen]
            # On one scale with what they have in common.
            asked = hit.score if hit.cosine is None else hit.cosine
            return weight * asked - (1 - weight) * max(near, default=0.0)

        while left and len(chosen) < k:
            best = max(left, key=marginal)
            left.remove(best)
            chosen.append(best)
        return self._shown(chosen)

    def _shown(self, hits: Sequence[Hit]) -> list[documents.Document]:
        return [documents.Document(self._text(hit), id=hit.id, metadata=hit.metadata) for hit in hits]

    def _text(self, hit: Hit) -> str:
        whole = None if self._passages else self.index.get(hit.id)
        # Of what was deleted meanwhile there is the passage.
        return hit.text if whole is None else whole.text


def _document(text: str, metadata: Mapping[str, Any], identity: str | None) -> Document:
    if identity is None:
        told = json.dumps([text, metadata], sort_keys=True, default=repr)
        identity = hashlib.blake2b(told.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return Document(identity, text, metadata)


def _relevance(hit: Hit) -> float:
    """From 0 to 1: the probability that a passage answers, where it was measured."""
    found = next(one for one in (hit.relevance, hit.cosine, hit.lexical) if one is not None)
    return min(max(found, 0.0), 1.0)
