"""Options: what a search may be told beside its query, each once, and the terms that all of a call make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypedDict, TypeVar

from edgeret.search.fusion import DEEPER

Where = Mapping[str, Any]
"""A condition on metadata, such as {"year": {"$gte": 2020}}."""

Feedback = tuple[Collection[str], Collection[str]]
"""Ids of documents that the answer should be like, and unlike."""

_RANKED: Final = 1000
"""Documents of the ranking that pages are cut of, and ten times as many where one reaches beyond them."""


class Options(TypedDict, total=False):
    """The keywords of `Index.search`, which documents them, and of the calls that ask as it does."""

    oversample: int | None
    min_score: float | None
    offset: int | None
    feedback: Feedback | None
    prefix: bool


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

    @property
    def ranked(self) -> int:
        """How many documents are ranked: pages are cut of one ranking, so that none has a hit of another."""
        ranked = self.k
        if self.offset is not None:
            ranked = _RANKED
            while ranked < self.offset + self.k:
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
