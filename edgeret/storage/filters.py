"""`where` -> an SQL condition. Every key and value is a parameter; nothing of the caller's is interpolated.

The dialect: `{"year": {"$gte": 2020}, "lang": "en"}`. A bare value means `$eq`, keys side by side mean
and, `$and` and `$or` take lists of conditions, `$not` one. A missing key matches only `$exists: false`, `$ne`,
`$nin` and `$not`. Values of different kinds never match: `1` is neither `"1"` nor `true` (but it is `1.0`).
Integers are exact, and have 64 bits at most.

A list equals each of its elements, so that `{"tags": "x"}` and `{"tags": {"$in": ["x", "y"]}}` find a list with
"x". `$contains` asks what lies inside: an element of a list, or, letter by letter, a part of a string. A key with
dots, `"author.name"`, is that key or a path through objects; `"$id"` is the document's id. Two ISO dates are ordered
as dates, all other strings by code points. Numbers, booleans, strings and arrays of NumPy serve.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret.door import shown
from edgeret.errors import FilterError

MAX_CONDITIONS: Final = 500
"""Comparisons in one `where`: SQLite bounds the depth of an expression (1,000)."""

MAX_DEPTH: Final = 16
"""Levels of `$and`, `$or` and `$not` inside one another: the stack of SQLite's parser has 100 entries."""

MAX_STEPS: Final = 16
"""Keys in a path of objects: SQLite joins 64 tables at most."""

INTEGERS: Final = range(-(2**63), 2**63)
"""Those that SQLite holds exactly."""

_OPERATORS: Final = "$eq $ne $gt $gte $lt $lte $in $nin $contains $startswith $exists $not"
_ID_OPERATORS: Final = "$eq $ne $gt $gte $lt $lte $in $nin $startswith $not"
_COMPARISONS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_JOINTS: Final = {"$and": " AND ", "$or": " OR "}
_DATE: Final = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-](0\d|1[0-4]):\d\d)?)?", re.ASCII
)
"""What is a date to SQLite, and is compared as one: to the millisecond, without an offset in UTC."""

_LITERALS: Final = (("true", True), ("false", False), ("null", None))


class _Part(NamedTuple):
    sql: str
    parameters: tuple[Any, ...] = ()
    conditions: int = 0


_ALWAYS: Final = _Part("1")


def compile_where(where: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, list[Any]]:
    """`where` -> an SQL condition over `d` (a table with `metadata`, a JSON object) and its parameters.

    The condition is empty if it lets everything pass.
    `columns` maps a metadata key to a column of `d` that holds json_extract of that key, without a
    declared type: the condition then starts with a comparison that an index of the column answers.
    Raises FilterError for an unknown operator, an operand of the wrong kind, or a `where` too large.
    """
    part = _conjunction(where, columns, MAX_DEPTH)
    if part.conditions > MAX_CONDITIONS:
        raise FilterError(
            f"expected at most {MAX_CONDITIONS} conditions in a where, got {part.conditions}: "
            "join the values of one key by $in"
        )
    return ("", []) if part.sql == _ALWAYS.sql else (part.sql, list(part.parameters))


def keys_of(where: Mapping[str, Any]) -> Iterator[str]:
    """The metadata keys that a `where`, which was compiled, asks."""
    for key, operand in where.items():
        if key in _JOINTS:
            for inner in operand:
                yield from keys_of(inner)
        elif key == "$not":
            yield from keys_of(operand)
        elif key != "$id":
            yield key


def select_values(key: str, condition: str, parameters: Sequence[Any]) -> tuple[str, list[Any]]:
    """A statement for the values that `where` compares a key with, each once a document, and its parameters.

    Its columns are `doc`, `kind`, the JSON type, "number" for both of those, and `value`. A list gives its elements.
    condition: an SQL condition on `d`, with its parameters.
    """
    _check_steps(key)
    found = [_select_at(path, condition) for path in _paths(key)]
    return " UNION ".join(found), [value for path in _paths(key) for value in (*path, *parameters)]


def _select_at(path: list[str], condition: str) -> str:
    tables, keys = _tables(path)
    elements = "json_each(CASE m.type WHEN 'array' THEN m.value ELSE '[]' END)"
    typed = "CASE m.type WHEN 'array' THEN e.type ELSE m.type END"
    return (
        f"SELECT DISTINCT d.doc AS doc, CASE WHEN {typed} IN ('integer', 'real') THEN 'number' ELSE {typed} END"
        f" AS kind, CASE m.type WHEN 'array' THEN e.value ELSE m.value END AS value"
        f" FROM documents d, {tables} LEFT JOIN {elements} AS e"
        f" WHERE {keys} AND {condition} AND {typed} NOT IN ('array', 'object')"
    )


def _conjunction(where: Any, columns: Mapping[str, str], depth: int) -> _Part:
    if not isinstance(where, Mapping):
        raise FilterError(
            f'expected a mapping of keys to conditions, got {_kind(where)}: write {{"key": value}}'
        )
    if depth < 0:
        raise FilterError(
            f"expected at most {MAX_DEPTH} levels of $and, $or and $not, got more: flatten them"
        )
    return _join(" AND ", [_entry(key, operand, columns, depth) for key, operand in where.items()])


def _entry(key: Any, operand: Any, columns: Mapping[str, str], depth: int) -> _Part:
    if not isinstance(key, str):
        raise FilterError(f"expected metadata keys to be strings, got {_kind(key)}: quote the key")
    if key in _JOINTS:
        if not _is_list(operand) or not len(operand):
            raise FilterError(
                f'expected a non-empty list after {key}, got {_kind(operand)}: write {{"{key}": [{{...}}]}}'
            )
        parts = [_conjunction(inner, columns, depth - 1) for inner in operand]
        return _ALWAYS if key == "$or" and _ALWAYS in parts else _join(_JOINTS[key], parts)
    if key == "$not":
        # Without columns: what is null there is neither true nor false.
        return _negate(_conjunction(operand, {}, depth - 1))
    if key == "$id":
        return _each_operator(key, operand, lambda operator, value: _identity(operator, value, depth))
    if key.startswith("$"):
        raise FilterError(
            f"unknown operator {shown(key)}: expected a metadata key, $id, $and, $or or $not here; "
            f"inside a key's condition use {_OPERATORS}"
        )
    _check_steps(key)
    # A column holds the key itself, and no path.
    column = None if "." in key else columns.get(key)
    key = _text(key)
    return _each_operator(
        key, operand, lambda operator, value: _condition(key, operator, value, column, depth)
    )


def _each_operator(key: str, operand: Any, condition: Callable[[Any, Any], _Part]) -> _Part:
    if not isinstance(operand, Mapping):
        return condition("$eq", operand)
    if not operand:
        raise FilterError(f"expected an operator for key {shown(key)}, got {{}}: use one of {_OPERATORS}")
    return _join(" AND ", [condition(operator, value) for operator, value in operand.items()])


def _identity(operator: Any, operand: Any, depth: int) -> _Part:
    """A condition on the document's id."""
    match operator:
        case "$eq" | "$in" | "$ne" | "$nin":
            found = _one_of("d.id", [_string("$id", value) for value in _values(operator, operand)])
            return (found if operator in ("$eq", "$in") else _negate(found))._replace(conditions=1)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _Part(f"d.id {_COMPARISONS[operator]} ?", (_string("$id", operand),), 1)
        case "$startswith":
            return _begins("d.id", _string(operator, operand))._replace(conditions=1)
        case "$not":
            return _negate_operators(
                "$id", operand, depth, lambda name, value: _identity(name, value, depth - 1)
            )
    raise FilterError(f"unknown operator {shown(operator)} for $id: use one of {_ID_OPERATORS}")


def _negate_operators(key: str, operand: Any, depth: int, condition: Callable[[Any, Any], _Part]) -> _Part:
    if not isinstance(operand, Mapping):
        raise FilterError(
            f'expected a condition after $not, got {_kind(operand)}: write {{"$not": {{"$gt": value}}}}, or $ne'
        )
    if depth <= 0:
        raise FilterError(
            f"expected at most {MAX_DEPTH} levels of $and, $or and $not, got more: flatten them"
        )
    return _negate(_each_operator(key, operand, condition))


def _string(operator: str, operand: Any) -> str:
    value = _plain(operand)
    if not isinstance(value, str):
        raise FilterError(
            f"expected a string after {operator}, got {_kind(value)}: ids and beginnings are strings"
        )
    return _text(value)


def _check_steps(key: str) -> None:
    if key.count(".") >= MAX_STEPS:
        raise FilterError(
            f"expected at most {MAX_STEPS} keys joined by dots, got {key!r:.60}: use a shorter path"
        )


def _condition(key: str, operator: Any, operand: Any, column: str | None, depth: int) -> _Part:
    match operator:
        case "$eq" | "$in":
            return _equals(key, _values(operator, operand), column)
        case "$ne" | "$nin":
            return _negate(_equals(key, _values(operator, operand), None))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _compares(key, operator, operand, column)
        case "$startswith":
            return _starts(key, _string(operator, operand), column)
        case "$not":
            return _negate_operators(
                key, operand, depth, lambda name, value: _condition(key, name, value, None, depth - 1)
            )
        case "$contains":
            return _contains(key, _scalar(operator, operand))
        case "$exists":
            operand = _plain(operand)
            if not isinstance(operand, bool):
                raise FilterError(
                    f"expected true or false after $exists, got {_kind(operand)}: use a boolean"
                )
            found = _exists(key, _Part("1"))
            return found if operand else _negate(found)
    raise FilterError(f"unknown operator {shown(operator)} for key {shown(key)}: use one of {_OPERATORS}")


def _equals(key: str, values: list[Any], column: str | None) -> _Part:
    if column is None:
        return _exists(key, _join(" OR ", [_among("m", values), _holds(values)]))
    # The column tells neither true from 1 nor a list from its JSON: it finds, what stands beside it decides.
    # Ways to find stand side by side: SQLite uses indexes for each then, also inside of $or.
    known = [value for value in values if value is not None]
    ways = [(_one_of(f"d.{column}", known), _among("m", known))]
    if len(known) < len(values):
        ways.append((_Part(f"d.{column} IS NULL"), _among("m", [None])))
    ways.append((_Part(f"d.{column} >= '[' AND d.{column} < '\\'"), _holds(values)))
    found = [_join(" AND ", [indexed, _exists(key, decides)]) for indexed, decides in ways]
    return _join(" OR ", found)._replace(conditions=1)


def _compares(key: str, operator: str, operand: Any, column: str | None) -> _Part:
    operand = _plain(operand)
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise FilterError(
            f"expected a number or a string after {operator}, got {_kind(operand)}: only these have an order"
        )
    if isinstance(operand, str) and is_date(operand):
        return _orders_dates(key, operator, operand, column)
    bound = f"{_COMPARISONS[operator]} json_extract(?, '$[0]')"
    parameters = (json.dumps([_scalar(operator, operand)]),)
    kind = _is_text("m") if isinstance(operand, str) else _is_number("m")
    found = _exists(key, _join(" AND ", [_Part(f"m.value {bound}", parameters), kind]))
    return found if column is None else _join(" AND ", [_Part(f"d.{column} {bound}", parameters), found])


def is_date(text: str) -> bool:
    """Whether a string is an ISO date, as `where` orders them."""
    if not _DATE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _orders_dates(key: str, operator: str, date: str, column: str | None) -> _Part:
    """Values that are dates are ordered as such; other strings as strings."""
    sign = _COMPARISONS[operator]
    dated = "m.value GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND julianday(m.value) IS NOT NULL"
    ordered = _Part(
        f"CASE WHEN {dated} THEN julianday(m.value) {sign} julianday(?) ELSE m.value {sign} ? END",
        (date, date),
    )
    found = _exists(key, _join(" AND ", [_is_text("m"), ordered]))
    if column is None:
        return found
    # No offset from UTC is more than 14 hours. Past the last day there is none: a colon is greater than all digits.
    near = {">": ">= date(?, '-1 day')", "<": "< ifnull(date(?, '+2 days'), ':')"}[sign[0]]
    return _join(" AND ", [_Part(f"d.{column} {near}", (date,)), found])


def _starts(key: str, beginning: str, column: str | None) -> _Part:
    found = _exists(key, _join(" AND ", [_is_text("m"), _begins("m.value", beginning)]))
    if column is None:
        return found
    return _join(" AND ", [_Part(f"d.{column} >= ?", (beginning,)), found])


def _begins(expression: str, beginning: str) -> _Part:
    """By a range, which an index finds; its end is the next string of that length, if there is one."""
    head = beginning.rstrip("\U0010ffff")
    if not head:
        return _Part(f"{expression} >= ?", (beginning,))
    following = ord(head[-1]) + 1
    end = head[:-1] + chr(0xE000 if following == 0xD800 else following)
    return _Part(f"({expression} >= ? AND {expression} < ?)", (beginning, end))


def _contains(key: str, value: Any) -> _Part:
    inside = _holds([value])
    if isinstance(value, str):
        within = _join(" AND ", [_is_text("m"), _Part("instr(m.value, ?)", (value,))])
        inside = _join(" OR ", [inside, within])
    return _exists(key, inside)


def _holds(values: list[Any]) -> _Part:
    """Whether `m` is a list with one of `values`."""
    # Guarded by CASE: a string that looks like JSON must not be read as a list.
    elements = "json_each(CASE m.type WHEN 'array' THEN m.value ELSE '[]' END)"
    among = _among("e", values)
    return _Part(
        f"(m.type = 'array' AND EXISTS (SELECT 1 FROM {elements} AS e WHERE {among.sql}))", among.parameters
    )


def _exists(key: str, condition: _Part) -> _Part:
    # json_each rather than a JSON path: in SQLite 3.40 no path can name a key that holds a quote.
    return _join(" OR ", [_at(path, condition) for path in _paths(key)])._replace(conditions=1)


def _paths(key: str) -> list[list[str]]:
    """A key as it is, and as a path through objects."""
    return [[key], key.split(".")] if "." in key else [[key]]


def _at(path: list[str], condition: _Part) -> _Part:
    """Whether the value `m` behind these keys, each inside the one before, meets a condition."""
    tables, keys = _tables(path)
    return _Part(
        f"EXISTS (SELECT 1 FROM {tables} WHERE {keys} AND {condition.sql})", (*path, *condition.parameters)
    )


def _tables(path: list[str]) -> tuple[str, str]:
    """What to select the value `m` behind these keys from, and the condition on the keys, a parameter each."""
    *outer, _ = names = [*(f"m{depth}" for depth in range(1, len(path))), "m"]
    insides = [f"CASE {name}.type WHEN 'object' THEN {name}.value ELSE '{{}}' END" for name in outer]
    tables = ", ".join(
        f"json_each({inside}) AS {name}" for name, inside in zip(names, ["d.metadata", *insides], strict=True)
    )
    return tables, " AND ".join(f"{name}.key = ?" for name in names)


def _among(alias: str, values: list[Any]) -> _Part:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    texts = [value for value in values if isinstance(value, str)]
    parts = [
        _Part(f"{alias}.type = '{name}'") for name, literal in _LITERALS if any(v is literal for v in values)
    ]
    for group, kind in ((numbers, _is_number(alias)), (texts, _is_text(alias))):
        if group:
            parts.append(_join(" AND ", [_one_of(f"{alias}.value", group), kind]))
    return _join(" OR ", parts) if parts else _Part("0")


def _one_of(expression: str, values: list[Any]) -> _Part:
    # As JSON, so that SQLite reads a number as it read the stored one: its parser may round the
    # last digit in another way than Python's. One parameter, however many values.
    return _Part(f"{expression} IN (SELECT value FROM json_each(?))", (json.dumps(values),))


def _is_number(alias: str) -> _Part:
    return _Part(f"{alias}.type IN ('integer', 'real')")


def _is_text(alias: str) -> _Part:
    return _Part(f"{alias}.type = 'text'")


def _negate(part: _Part) -> _Part:
    return part._replace(sql=f"NOT ({part.sql})")


def _join(joint: str, parts: list[_Part]) -> _Part:
    parts = [part for part in parts if part != _ALWAYS]
    if len(parts) < 2:
        return parts[0] if parts else _ALWAYS
    sql = f"({joint.join(part.sql for part in parts)})"
    parameters = tuple(value for part in parts for value in part.parameters)
    return _Part(sql, parameters, sum(part.conditions for part in parts))


def _values(operator: str, operand: Any) -> list[Any]:
    operand = _plain(operand)
    if operator in ("$eq", "$ne"):
        return [_scalar(operator, operand)]
    if not _is_list(operand):
        raise FilterError(f"expected a list after {operator}, got {_kind(operand)}: write [value, ...]")
    return [_scalar(operator, value) for value in operand]


def _scalar(operator: str, value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise FilterError(
            f"expected a string, number, boolean or null after {operator}, got {_kind(value)}: "
            "ask for one element of a list, or for several by $in"
        )
    if isinstance(value, int) and value not in INTEGERS:
        raise FilterError(
            f"expected an integer of 64 bits after {operator}, got one beyond: "
            "no stored integer is larger; keep such numbers as strings"
        )
    if not math.isfinite(value):
        raise FilterError(f"expected a finite number after {operator}, got NaN or infinity: replace it")
    return value


def _plain(value: Any) -> Any:
    """What NumPy wraps."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            f"expected Unicode text, got a lone surrogate in {shown(value)}: remove it"
        ) from error
    if "\0" in value:
        raise FilterError(
            f"expected text without NUL, got {shown(value)}: no stored value holds one, remove it"
        )
    return value


def _is_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence | Set) and not isinstance(value, str | bytes | bytearray | memoryview)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return f"the string {value[:40]!r}"
        case int() | float():
            return "a number"
        case Mapping():
            return "a mapping"
        case _ if _is_list(value):
            return "a list" if len(value) else "an empty list"
    return f"a value of type {type(value).__name__}"
