"""Options: what a search may be told beside its query, each once, and the terms that all of a call make."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypedDict, TypeVar

from edgeret.errors import InvalidQueryError
from edgeret.search.fusion import DEEPER, POOL
from edgeret.search.reranking import Judge
from edgeret.storage.filters import compile_where

Where = Mapping[str, Any]
"""A condition on metadata, such as {"year": {"$gte": 2020}}."""

Feedback = tuple[Collection[str], Collection[str]]
"""Ids of documents that the answer should be like, and unlike."""

_RANKED: Final = 1000
"""Documents of the ranking that pages are cut of, and ten times as many where one reaches beyond them."""


class _Shared(TypedDict, total=False):
    """Of all calls that ask."""

    oversample: int | None
    min_score: float | None
    offset: int | None
    per_document: int | None
    boost: Mapping[str, Any] | None
    group_by: str | None
    per_group: int


class Nearness(_Shared, total=False):
    """The keywords of `Index.similar`: no words are asked."""

    feedback: Feedback | None
    diversity: float | None


class Joint(_Shared, total=False):
    """The keywords of `search_indexes`: nothing that is of one index alone, as ids and distances are."""

    prefix: bool
    rerank: str | os.PathLike[str] | Judge | None
    rerank_k: int


class Options(Nearness, Joint, total=False):
    """The keywords of `Index.search`, which documents them, and of the calls that ask as it does."""


class Terms(NamedTuple):
    """What is asked of all queries of a call, and the defaults of what may be left out."""

    k: int
    where: Where | None = None
    mode: str | None = None
    oversample: int | None = None
    min_score: float | None = None
    offset: int | None = None
    feedback: Feedback | None = None
    prefix: bool = False
    per_document: int | None = 1
    diversity: float | None = None
    boost: Mapping[str, Any] | None = None
    group_by: str | None = None
    per_group: int = 1
    rerank: str | os.PathLike[str] | Judge | None = None
    rerank_k: int = 20

    @property
    def judged(self) -> Terms:
        """What is asked of the search whose hits are reranked. Raises InvalidQueryError for more than are."""
        if self.end > self.rerank_k:
            raise InvalidQueryError(
                f"expected k and offset within the {self.rerank_k} documents that are reranked, got {self.end}: raise "
                "rerank_k, or ask for fewer"
            )
        return self._replace(k=self.rerank_k, offset=None, min_score=None, rerank=None)

    def check(self) -> None:
        """Raise InvalidQueryError for options that cannot stand beside one another, FilterError for a wrong key."""
        if self.group_by is None and self.per_group != 1:
            raise InvalidQueryError("expected group_by beside per_group, got none: name a metadata key")
        if self.group_by is not None and (self.per_document != 1 or self.diversity is not None):
            raise InvalidQueryError(
                "group_by shows a document once, and in its order: leave per_document and diversity out"
            )
        if self.group_by is not None:
            compile_where({self.group_by: {"$exists": True}}, {})

    @property
    def is_arranged(self) -> bool:
        """Whether the ranking is not shown as it is."""
        return self.reorders or self.per_document != 1 or self.per_group != 1

    @property
    def reorders(self) -> bool:
        """Whether what is shown is chosen of more than are asked for."""
        return self.diversity is not None or self.boost is not None or self.group_by is not None

    @property
    def end(self) -> int:
        """Where the page ends."""
        return (self.offset or 0) + self.k

    @property
    def ranked(self) -> int:
        """How many documents are ranked: pages are cut of one ranking, so that none has a hit of another."""
        if self.offset is None and not self.reorders:
            return self.k
        ranked = POOL if self.offset is None else _RANKED
        while ranked < self.end:
            ranked *= DEEPER
        return ranked

    def page(self, ranked: Sequence[Scored]) -> Sequence[Scored]:
        """Those that are asked for."""
        first = self.offset or 0
        least = self.min_score
        return [one for one in ranked[first : first + self.k] if least is None or one.score >= least]


class _Scored(Protocol):
    @property
    def score(self) -> float: ...


Scored = TypeVar("Scored", bound=_Scored)
