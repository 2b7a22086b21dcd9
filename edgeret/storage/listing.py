"""Listing: documents in the order of their ids, as many at a time as little memory holds, each time in a new reading.

So whoever goes through them may change them meanwhile: a document that is there all the time comes once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from edgeret.documents import Document
from edgeret.storage.filters import compile_where, keys_of, select_values
from edgeret.storage.rows import Told
from edgeret.storage.schema import filter_columns
from edgeret.storage.store import Counters, Store

_IDS_AT_ONCE: Final = 1024
_DOCUMENTS_AT_ONCE: Final = 256
_OCTETS_AT_ONCE: Final = 1 << 18
"""Of their texts and metadata: so many, and one document, are in memory together."""

_FEW: Final = 1024
"""Documents that are sorted for each part of a listing; more are found in order, past those that do not meet."""

Answer = TypeVar("Answer")
Listed = TypeVar("Listed")


class Read(Protocol):
    """Does some work in a read transaction of its own."""

    def __call__(self, work: Callable[[Store, Counters], Answer], /) -> Answer:
        """What `work` returns."""


class Condition(NamedTuple):
    """A compiled `where`: SQL on the table alias `d` and its parameters, for those who look for all that meet it.

    in_order: the same without an SQL index, for those who go by ids.
    """

    sql: str
    parameters: list[Any]
    in_order: tuple[str, list[Any]]

    @classmethod
    def of(cls, where: Any, filters: list[str]) -> Self | None:
        """None if every document meets `where`. Raises FilterError. filters: keys that have an SQL index."""
        sql, parameters = ("", []) if where is None else compile_where(where, filter_columns(filters))
        return cls(sql, parameters, compile_where(where, {})) if sql else None


def ids(read: Read, condition: Condition | None, after: str | None, limit: int | None) -> Iterator[str]:
    """The ids of documents, greater than `after`, in ascending order."""

    def part(store: Store, last: str, asked: tuple[str, list[Any]]) -> list[tuple[str, str]]:
        return [(identity, identity) for identity in store.rows.ids_after(last, *asked, _IDS_AT_ONCE)]

    return islice(_all(read, condition, after, part), limit)


def documents(
    read: Read, condition: Condition | None, after: str | None, limit: int | None
) -> Iterator[Document]:
    """The documents whose ids are greater than `after`, in ascending order, verified."""

    def part(store: Store, last: str, asked: tuple[str, list[Any]]) -> list[tuple[str, Document]]:
        return [
            (stored.id, Document(stored.id, stored.text, stored.metadata, store.rows.own_vector(stored)))
            for stored in store.rows.documents_after(last, *asked, _DOCUMENTS_AT_ONCE, _OCTETS_AT_ONCE)
        ]

    return islice(_all(read, condition, after, part), limit)


def told(read: Read, first: str, stop: str) -> Iterator[Told]:
    """What documents with ids from `first` on and below `stop` say of their files, in the order of their ids."""

    def part(store: Store, _: Counters) -> list[Told]:
        return store.rows.told(first, stop, _IDS_AT_ONCE)

    while found := read(part):
        yield from found
        # The next id there can be: no id holds a NUL.
        first = found[-1].id + "\0"


def _all(
    read: Read,
    condition: Condition | None,
    after: str | None,
    part: Callable[[Store, str, tuple[str, list[Any]]], list[tuple[str, Listed]]],
) -> Iterator[Listed]:
    asked = read(lambda store, _: _in_order(store, condition))
    last = after or ""

    def next_part(store: Store, _: Counters) -> list[tuple[str, Listed]]:
        return part(store, last, asked)

    while found := read(next_part):
        yield from (listed for _, listed in found)
        last = found[-1][0]


def _in_order(store: Store, condition: Condition | None) -> tuple[str, list[Any]]:
    """The condition as it is asked part by part: few documents are sorted faster; many would be for each part."""
    if condition is None:
        return "1", []
    sql, parameters, in_order = condition
    if sql == in_order[0] or store.rows.count(sql, parameters, _FEW + 1) > _FEW:
        return in_order
    return sql, parameters


def count(store: Store, state: Counters, condition: Condition | None) -> int:
    """How many documents meet a condition."""
    return state.documents if condition is None else store.rows.count(condition.sql, condition.parameters)


def unknown_keys(store: Store, where: Mapping[str, Any]) -> list[str]:
    """The metadata keys of a `where` that no document has."""
    filters = filter_columns(store.filters)
    asked = {key: compile_where({key: {"$exists": True}}, filters) for key in dict.fromkeys(keys_of(where))}
    return [key for key, (sql, parameters) in asked.items() if not store.rows.count(sql, parameters, 1)]


def facets(store: Store, key: str, condition: Condition | None, limit: int | None) -> list[tuple[Any, int]]:
    """The values of a metadata key and how many documents have each, the most frequent first."""
    sql, parameters = ("1", []) if condition is None else condition[:2]
    return store.rows.facets(*select_values(key, sql, parameters), limit)
