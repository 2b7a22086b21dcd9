"""`where` -> an SQL condition. Every key and value is a parameter; nothing of the caller's is interpolated.

The dialect: `{"year": {"$gte": 2020}, "lang": "en"}`. A bare value means `$eq`, keys side by side mean
and, `$and` and `$or` take lists of conditions. A missing key matches only `$exists: false`, `$ne` and
`$nin`. Values of different kinds never match: `1` is neither `"1"` nor `true` (but it is `1.0`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from edgeret.errors import FilterError

MAX_CONDITIONS: Final = 500
"""Comparisons in one `where`: SQLite bounds the depth of an expression (1,000)."""

MAX_DEPTH: Final = 16
"""Levels of `$and` and `$or` inside one another: the stack of SQLite's parser has 100 entries."""

_OPERATORS: Final = "$eq $ne $gt $gte $lt $lte $in $nin $contains $exists"
_COMPARISONS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_JOINTS: Final = {"$and": " AND ", "$or": " OR "}
_LITERALS: Final = (("true", True), ("false", False), ("null", None))


class _Part(NamedTuple):
    sql: str
    parameters: tuple[Any, ...] = ()
    conditions: int = 0


def compile_where(where: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, list[Any]]:
    """`where` -> an SQL condition over `d` (a table with `metadata`, a JSON object) and its parameters.

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
    return part.sql, list(part.parameters)


def _conjunction(where: Any, columns: Mapping[str, str], depth: int) -> _Part:
    if not isinstance(where, Mapping):
        raise FilterError(
            f'expected a mapping of keys to conditions, got {_kind(where)}: write {{"key": value}}'
        )
    if depth < 0:
        raise FilterError(f"expected at most {MAX_DEPTH} levels of $and and $or, got more: flatten them")
    return _join(" AND ", [_entry(key, operand, columns, depth) for key, operand in where.items()])


def _entry(key: Any, operand: Any, columns: Mapping[str, str], depth: int) -> _Part:
    if not isinstance(key, str):
        raise FilterError(f"expected metadata keys to be strings, got {_kind(key)}: quote the key")
    if key in _JOINTS:
        if not _is_list(operand) or not operand:
            raise FilterError(
                f'expected a non-empty list after {key}, got {_kind(operand)}: write {{"{key}": [{{...}}]}}'
            )
        return _join(_JOINTS[key], [_conjunction(inner, columns, depth - 1) for inner in operand])
    if key.startswith("$"):
        raise FilterError(
            f"unknown operator {key!r}: expected a metadata key, $and or $or here; "
            f"inside a key's condition use {_OPERATORS}"
        )
    if not isinstance(operand, Mapping):
        return _condition(_text(key), "$eq", operand, columns.get(key))
    if not operand:
        raise FilterError(f"expected an operator for key {key!r}, got {{}}: use one of {_OPERATORS}")
    parts = [_condition(_text(key), operator, value, columns.get(key)) for operator, value in operand.items()]
    return _join(" AND ", parts)


def _condition(key: str, operator: Any, operand: Any, column: str | None) -> _Part:
    match operator:
        case "$eq" | "$in":
            return _equals(key, _values(operator, operand), column)
        case "$ne" | "$nin":
            return _negate(_equals(key, _values(operator, operand), None))
        case "$gt" | "$gte" | "$lt" | "$lte":
            return _compares(key, operator, operand, column)
        case "$contains":
            return _contains(key, _scalar(operator, operand))
        case "$exists":
            if not isinstance(operand, bool):
                raise FilterError(
                    f"expected true or false after $exists, got {_kind(operand)}: use a boolean"
                )
            found = _exists(key, _Part("1"))
            return found if operand else _negate(found)
    raise FilterError(f"unknown operator {operator!r} for key {key!r}: use one of {_OPERATORS}")


def _equals(key: str, values: list[Any], column: str | None) -> _Part:
    found = _exists(key, _among("m", values))
    if column is None:
        return found
    # The column tells neither true from 1 nor a list from its JSON: it finds, `found` decides.
    indexed = _one_of(f"d.{column}", values)
    if None in values:
        indexed = _join(" OR ", [_Part(f"d.{column} IS NULL"), indexed])
    return _join(" AND ", [indexed, found])


def _compares(key: str, operator: str, operand: Any, column: str | None) -> _Part:
    if isinstance(operand, bool) or not isinstance(operand, int | float | str):
        raise FilterError(
            f"expected a number or a string after {operator}, got {_kind(operand)}: only these have an order"
        )
    bound = f"{_COMPARISONS[operator]} json_extract(?, '$[0]')"
    parameters = (json.dumps([_scalar(operator, operand)]),)
    kind = _is_text("m") if isinstance(operand, str) else _is_number("m")
    found = _exists(key, _join(" AND ", [_Part(f"m.value {bound}", parameters), kind]))
    return found if column is None else _join(" AND ", [_Part(f"d.{column} {bound}", parameters), found])


def _contains(key: str, value: Any) -> _Part:
    # Guarded by CASE: a string that looks like JSON must not be read as a list.
    elements = "json_each(CASE m.type WHEN 'array' THEN m.value ELSE '[]' END)"
    among = _among("e", [value])
    return _exists(key, _Part(f"EXISTS (SELECT 1 FROM {elements} AS e WHERE {among.sql})", among.parameters))


def _exists(key: str, condition: _Part) -> _Part:
    # json_each rather than a JSON path: in SQLite 3.40 no path can name a key that holds a quote.
    sql = f"EXISTS (SELECT 1 FROM json_each(d.metadata) AS m WHERE m.key = ? AND {condition.sql})"
    return _Part(sql, (key, *condition.parameters), conditions=1)


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
    return part._replace(sql=f"NOT {part.sql}")


def _join(joint: str, parts: list[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    sql = f"({joint.join(part.sql for part in parts)})" if parts else "1"
    parameters = tuple(value for part in parts for value in part.parameters)
    return _Part(sql, parameters, sum(part.conditions for part in parts))


def _values(operator: str, operand: Any) -> list[Any]:
    if operator in ("$eq", "$ne"):
        return [_scalar(operator, operand)]
    if not _is_list(operand):
        raise FilterError(f"expected a list after {operator}, got {_kind(operand)}: write [value, ...]")
    return [_scalar(operator, value) for value in operand]


def _scalar(operator: str, value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise FilterError(
            f"expected a string, number, boolean or null after {operator}, got {_kind(value)}: "
            "$in takes several values, $contains asks a list"
        )
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise FilterError(
            f"expected a finite number after {operator}, got NaN, infinity or past float64: replace it"
        )
    return value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"expected Unicode text, got a lone surrogate in {value!r}: remove it") from error
    if "\0" in value:
        raise FilterError(f"expected text without NUL, got {value!r}: no stored value holds one, remove it")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes)


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
            return "a list" if value else "an empty list"
    return f"a value of type {type(value).__name__}"
