from __future__ import annotations

import json
import operator
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from counts import tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.errors import FilterError
from edgeret.storage import filters
from edgeret.storage.filters import compile_where

COLUMNS = {"year": "filter_0", "lang": "filter_1"}


def database(metadata: list[dict[str, Any]]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE documents (id INTEGER PRIMARY KEY, metadata TEXT, "
        "filter_0 AS (json_extract(metadata, '$.\"year\"')), "
        "filter_1 AS (json_extract(metadata, '$.\"lang\"')))"
    )
    connection.execute("CREATE INDEX documents_0 ON documents (filter_0)")
    connection.execute("CREATE INDEX documents_1 ON documents (filter_1)")
    connection.executemany(
        "INSERT INTO documents VALUES (?, ?)",
        [(row, json.dumps(entry, ensure_ascii=False)) for row, entry in enumerate(metadata)],
    )
    return connection


def select(
    metadata: list[dict[str, Any]], where: dict[str, Any], columns: Mapping[str, str] = COLUMNS
) -> list[int]:
    condition, parameters = compile_where(where, columns)
    query = f"SELECT id FROM documents AS d WHERE {condition or 1} ORDER BY id"
    connection = database(metadata)
    try:
        return [row for (row,) in connection.execute(query, parameters)]
    finally:
        connection.close()


def plan(where: dict[str, Any]) -> str:
    condition, parameters = compile_where(where, COLUMNS)
    connection = database([{"year": year, "lang": "en"} for year in range(50)])
    query = f"EXPLAIN QUERY PLAN SELECT id FROM documents AS d WHERE {condition}"
    try:
        return "\n".join(row[3] for row in connection.execute(query, parameters))
    finally:
        connection.close()


# The oracle: what the dialect means, in Python.


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


def same(left: Any, right: Any) -> bool:
    return kind(left) == kind(right) and left == right


def equals(value: Any, operand: Any) -> bool:
    return any(same(one, operand) for one in (value if isinstance(value, list) else [value]))


def contains(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return equals(value, operand)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def found_at(entry: dict[str, Any], key: str) -> list[Any]:
    """What stands at a key, and at the path that its dots make of it."""
    found = [entry[key]] if key in entry else []
    inner: Any = entry
    for step in key.split("."):
        if not isinstance(inner, dict) or step not in inner:
            return found
        inner = inner[step]
    return [*found, inner] if "." in key else found


ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def holds(name: str, entry: dict[str, Any], key: str, operand: Any) -> bool:
    values = found_at(entry, key)
    match name:
        case "$eq":
            return any(equals(value, operand) for value in values)
        case "$in":
            return any(equals(value, one) for value in values for one in operand)
        case "$ne" | "$nin":
            return not holds({"$ne": "$eq", "$nin": "$in"}[name], entry, key, operand)
        case "$contains":
            return any(contains(value, operand) for value in values)
        case "$startswith":
            return any(isinstance(value, str) and value.startswith(operand) for value in values)
        case "$not":
            return not all(holds(inner, entry, key, value) for inner, value in operand.items())
        case "$exists":
            return bool(values) is operand
    compare = ORDER[name]
    return any(
        kind(value) == kind(operand) in ("number", "str") and compare(value, operand) for value in values
    )


def matches(entry: dict[str, Any], where: dict[str, Any]) -> bool:
    for key, operand in where.items():
        if key == "$and":
            found = all(matches(entry, part) for part in operand)
        elif key == "$or":
            found = any(matches(entry, part) for part in operand)
        elif key == "$not":
            found = not matches(entry, operand)
        elif isinstance(operand, dict):
            found = all(holds(name, entry, key, value) for name, value in operand.items())
        else:
            found = holds("$eq", entry, key, operand)
        if not found:
            return False
    return True


keys = st.sampled_from(
    ["year", "lang", 'a"b', "a", "b", "a.b", "a.b.a", "year.a", "a\\b", "ключ", "$.x", "[0]", "'", "", "\n"]
)
texts = st.sampled_from(["", "1", "1.0", "true", "null", "[1]", '["a"]', "a", "b", "é", "\U0001f600", 'q"'])
integers = st.integers(-3, 3) | st.integers(-(2**70), 2**70).map(lambda n: n if abs(n) < 2**63 else float(n))
floats = st.sampled_from([0.1, 0.30000000000000004, 1.0, -0.0, 1e300, 5e-324]) | st.floats(
    allow_nan=False, allow_infinity=False
)
numbers = integers | floats
scalars = st.none() | st.booleans() | texts | numbers
flat = scalars | st.lists(scalars, max_size=3)
values = flat | st.dictionaries(keys, flat | st.dictionaries(keys, flat, max_size=2), max_size=2)
entries = st.dictionaries(keys, values, max_size=5)
comparisons = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), scalars),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), texts | numbers),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=4)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$startswith"), texts),
)
operators = st.lists(comparisons, min_size=1, max_size=2).map(dict)
conditions = scalars | operators | operators.map(lambda inner: {"$not": inner})
leaves = st.dictionaries(keys.filter(lambda key: not key.startswith("$")), conditions, max_size=3)
wheres = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(
            st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1, max_size=2
        )
        | st.dictionaries(st.just("$not"), inner, min_size=1)
    ),
    max_leaves=6,
)


@settings(max_examples=tries(400), deadline=None)
@given(st.lists(entries, max_size=8), wheres)
def test_agrees_with_the_oracle(metadata: list[dict[str, Any]], where: dict[str, Any]) -> None:
    expected = [row for row, entry in enumerate(metadata) if matches(entry, where)]
    assert select(metadata, where) == expected
    assert select(metadata, where, columns={}) == expected


@settings(max_examples=tries(300), deadline=None)
@given(st.lists(numbers, max_size=12), numbers)
def test_numbers_compare_as_in_python(stored: list[float], asked: float) -> None:
    metadata = [{"year": value} for value in [*stored, asked]]
    for name in ("$eq", *ORDER):
        expected = [row for row, entry in enumerate(metadata) if holds(name, entry, "year", asked)]
        assert select(metadata, {"year": {name: asked}}) == expected


KINDS = [
    {},
    *({"year": value} for value in (1, 1.0, "1", True, None, [1], ["1"], '["1"]', {"a": 1}, 0, False)),
]


@pytest.mark.parametrize("columns", [COLUMNS, {}])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (1, [1, 2, 6]),
        ("1", [3, 7]),
        (True, [4]),
        (False, [11]),
        (None, [5]),
        ('["1"]', [8]),
        ({"$ne": 1}, [0, 3, 4, 5, 7, 8, 9, 10, 11]),
        ({"$nin": [1, None, "1"]}, [0, 4, 8, 9, 10, 11]),
        ({"$in": []}, []),
        ({"$nin": []}, list(range(12))),
        ({"$in": [None, True]}, [4, 5]),
        ({"$gte": 0}, [1, 2, 10]),
        ({"$gt": ""}, [3, 8]),
        ({"$lt": "a"}, [3, 8]),
        ({"$exists": False}, [0]),
        ({"$exists": True}, list(range(1, 12))),
        ({"$contains": 1}, [6]),
        ({"$contains": "1"}, [3, 7, 8]),
        ({"$contains": ""}, [3, 8]),
        ({"$gte": 0, "$lt": 1}, [10]),
        ({"$not": {"$gte": 0, "$lt": 1}}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]),
        ({"$not": {"$not": {"$gte": 0}}}, [1, 2, 10]),
        ({"$startswith": "["}, [8]),
        ({"$startswith": ""}, [3, 8]),
    ],
)
def test_kinds_never_mix(condition: Any, expected: list[int], columns: dict[str, str]) -> None:
    assert select(KINDS, {"year": condition}, columns) == expected


def test_keys_side_by_side_mean_and() -> None:
    metadata = [{"lang": "en", "year": 2020}, {"lang": "de", "year": 2020}, {"lang": "en", "year": 2021}]
    assert select(metadata, {"lang": "en", "year": 2020}) == [0]
    assert select(metadata, {"$or": [{"lang": "de"}, {"year": 2021}]}) == [1, 2]
    assert select(metadata, {"$and": [{"lang": "en"}, {"year": {"$ne": 2020}}]}) == [2]


@pytest.mark.parametrize("columns", [COLUMNS, {}])
@pytest.mark.parametrize(
    "where",
    [{}, {"$and": [{}]}, {"$or": [{}]}, {"$or": [{"year": 1}, {}]}, {"$and": [{"$or": [{}, {}]}, {}]}],
)
def test_a_where_without_conditions_is_none(where: dict[str, Any], columns: dict[str, str]) -> None:
    assert compile_where(where, columns) == ("", [])
    assert select(KINDS, {"$and": [where, {"year": 0}]}, columns) == [10]


def test_integers_are_exact_to_64_bits() -> None:
    stored = [2**53, 2**53 + 1, 2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, float(2**53), 2.0**63]
    metadata = [{"year": value} for value in stored]
    for asked in stored:
        for name in ("$eq", *ORDER):
            expected = [row for row, entry in enumerate(metadata) if holds(name, entry, "year", asked)]
            assert select(metadata, {"year": {name: asked}}) == expected
            assert select(metadata, {"year": {name: asked}}, columns={}) == expected


@pytest.mark.parametrize("columns", [COLUMNS, {}])
def test_values_of_numpy_are_what_they_hold(columns: dict[str, str]) -> None:
    metadata = [{"year": 1, "lang": "en"}, {"year": 2.5, "lang": "de"}, {"year": True}]
    for where, expected in (
        ({"year": np.int64(1)}, [0]),
        ({"year": np.uint8(1)}, [0]),
        ({"year": np.float32(2.5)}, [1]),
        ({"year": np.bool_(True)}, [2]),
        ({"lang": np.str_("de")}, [1]),
        ({"year": {"$gt": np.int16(1)}}, [1]),
        ({"year": {"$lte": np.array(1)}}, [0]),
        ({"lang": {"$exists": np.bool_(False)}}, [2]),
        ({"year": {"$in": np.array([1, 2])}}, [0]),
        ({"year": {"$in": {np.int64(1), np.float64(2.5)}}}, [0, 1]),
        ({"lang": {"$contains": np.str_("n")}}, [0]),
    ):
        assert select(metadata, where, columns) == expected


@pytest.mark.parametrize("columns", [COLUMNS, {}])
def test_a_list_equals_each_of_its_elements(columns: dict[str, str]) -> None:
    metadata: list[dict[str, Any]] = [
        {"lang": ["en", "de"]},
        {"lang": "en"},
        {"lang": '["en"]'},
        {"lang": []},
        {},
        {"lang": [None, 1]},
    ]
    for condition, expected in (
        ("en", [0, 1]),
        ({"$in": ["de", "fr"]}, [0]),
        ({"$in": [1]}, [5]),
        (None, [5]),
        ({"$ne": "en"}, [2, 3, 4, 5]),
        ({"$nin": ["en", None]}, [2, 3, 4]),
    ):
        assert select(metadata, {"lang": condition}, columns) == expected


@pytest.mark.parametrize("columns", [COLUMNS, {}, {"a.b": "filter_0"}])
def test_a_key_with_dots_is_that_key_or_a_path(columns: dict[str, str]) -> None:
    metadata: list[dict[str, Any]] = [
        {"a.b": 1},
        {"a": {"b": 1}},
        {"a": {"b": {"c": [1, 2]}}},
        {"a": '{"b": 1}'},
        {"a": [{"b": 1}]},
        {"a.b": 2, "a": {"b": 1}},
    ]
    assert select(metadata, {"a.b": 1}, columns) == [0, 1, 5]
    assert select(metadata, {"a.b": {"$ne": 1}}, columns) == [2, 3, 4]
    assert select(metadata, {"a.b": {"$gt": 1}}, columns) == [5]
    assert select(metadata, {"a.b.c": 2}, columns) == [2]
    assert select(metadata, {"a.b.c": {"$exists": True}}, columns) == [2]


@pytest.mark.parametrize(
    "where",
    [
        {"year": 7},
        {"year": True},
        {"year": None},
        {"year": {"$in": [1, 2, 3]}},
        {"year": {"$in": [1, None]}},
        {"year": {"$gt": 40}},
        {"year": {"$gte": 40, "$lt": 45}},
        {"lang": {"$lte": "e"}},
        {"$or": [{"year": 1}, {"lang": "de"}]},
        {"topic": "x", "year": 3},
    ],
)
def test_a_column_is_found_through_its_index(where: dict[str, Any]) -> None:
    lines = plan(where).splitlines()
    assert any("USING INDEX documents_" in line for line in lines)
    assert not any(line.startswith("SCAN d") for line in lines)


def test_a_key_without_a_column_scans() -> None:
    assert "SCAN d" in plan({"topic": "x"})


BEGINNINGS = [
    "",
    "a",
    "ab",
    "a\U0010ffff",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "\ud7ff",
    "\ue000",
    "é",
    "[",
    "1",
]


@pytest.mark.parametrize("columns", [COLUMNS, {}])
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_any_beginning_finds_what_begins_with_it(beginning: str, columns: dict[str, str]) -> None:
    metadata = [{"year": one + other} for one in BEGINNINGS for other in BEGINNINGS]
    expected = [row for row, entry in enumerate(metadata) if entry["year"].startswith(beginning)]
    assert select(metadata, {"year": {"$startswith": beginning}}, columns) == expected


# -- dates

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.none() | st.just(UTC) | offsets
)
written = st.one_of(
    moments.map(lambda moment: moment.isoformat(timespec="milliseconds")),
    moments.map(lambda moment: moment.isoformat(" ", timespec="seconds")),
    moments.map(lambda moment: moment.isoformat(timespec="minutes").replace("+00:00", "Z")),
    moments.map(lambda moment: moment.date().isoformat()),
)


def instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@settings(max_examples=tries(300), deadline=None)
@given(st.lists(written, max_size=8), written)
def test_iso_dates_are_ordered_as_dates(stored: list[str], asked: str) -> None:
    metadata = [{"year": text} for text in [*stored, asked]]
    for name, compare in ORDER.items():
        expected = [
            row for row, entry in enumerate(metadata) if compare(instant(entry["year"]), instant(asked))
        ]
        assert select(metadata, {"year": {name: asked}}) == expected
        assert select(metadata, {"year": {name: asked}}, columns={}) == expected


@pytest.mark.parametrize("columns", [COLUMNS, {}])
def test_what_is_no_date_is_ordered_as_text(columns: dict[str, str]) -> None:
    texts = [
        "2024-05-01T00:30+01:00",
        "2024-05",
        "2024-04-30",
        "now",
        "12345",
        "2024-13-01",
        "2024-05-01x",
        "z",
    ]
    metadata: list[dict[str, Any]] = [{"year": text} for text in texts] + [{"year": 2024}, {"year": None}, {}]
    assert select(metadata, {"year": {"$lt": "2024-05-01"}}, columns) == [0, 1, 2, 4]
    assert select(metadata, {"year": {"$gte": "2024-05-01"}}, columns) == [3, 5, 6, 7]
    for asked in (
        "2024-05-01x",
        "now",
        "2024-02-31",
        "2024-05-01T25:00",
        "2024-05-01T00:00+15:00",
        "٢٠٢٤-05-01",
    ):
        expected = [row for row, text in enumerate(texts) if text < asked]
        assert select(metadata, {"year": {"$lt": asked}}, columns) == expected
    assert select(metadata, {"year": {"$not": {"$gte": "2024-05-01"}}}, columns) == [0, 1, 2, 4, 8, 9, 10]


def test_dates_are_found_through_an_index() -> None:
    for condition in ({"$gt": "2024-05-01"}, {"$lte": "2024-05-01"}, {"$startswith": "2024-"}):
        assert "USING INDEX documents_" in plan({"lang": condition})


def test_nothing_of_the_caller_is_in_the_sql() -> None:
    condition, parameters = compile_where({"ke'y\"": "va'lue", "n": {"$in": ["qqq", 31337]}}, {})
    assert not any(word in condition for word in ("ke'y", "va'lue", "qqq", "31337"))
    assert condition.count("?") == len(parameters)


def test_in_takes_many_values_as_one_parameter() -> None:
    many = list(range(0, 200_000, 2))
    _, parameters = compile_where({"year": {"$in": many}}, {})
    assert len([value for value in parameters if value != "year"]) == 2
    assert select([{"year": 4}, {"year": 5}], {"year": {"$in": many}}) == [0]


def test_the_largest_where_runs() -> None:
    metadata = [{"year": 1}, {"year": 2}]
    deep: dict[str, Any] = {"$or": [{"year": 1, "lang": {"$exists": False}}] * 100}
    for level in range(filters.MAX_DEPTH - 1):
        joint = "$and" if level % 2 else "$or"
        deep = {joint: [deep, {"year": {"$in": [1, None]}}]}
    assert select(metadata, deep) == [0]
    assert select(metadata, {"year": nested(filters.MAX_DEPTH, "$not")}) == [0]
    inverted: dict[str, Any] = {"year": 2}
    for _ in range(filters.MAX_DEPTH // 2):
        inverted = {"$not": {"$or": [inverted, {"year": {"$gt": "2024-05-01"}}]}}
    assert select(metadata, inverted) == [1]
    wide: dict[str, Any] = {"$or": [{"year": value} for value in range(1, filters.MAX_CONDITIONS + 1)]}
    assert select(metadata, wide) == [0, 1]
    long = {f"key {number}": {"$exists": False} for number in range(filters.MAX_CONDITIONS)}
    assert select(metadata, long) == [0, 1]


def nested(levels: int, joint: str = "$and") -> dict[str, Any]:
    where: dict[str, Any] = {"$eq": 1} if joint == "$not" else {"a": 1}
    for _ in range(levels):
        where = {joint: where if joint == "$not" else [where]}
    return where


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"year": {"$regex": "x"}}, r"unknown operator '\$regex' for key 'year': use one of \$eq"),
        ({"year": {"nested": 1}}, "unknown operator 'nested'"),
        ({"year": {3: 1}}, "unknown operator 3"),
        ({"$not": 5}, "expected a mapping of keys to conditions, got a number"),
        ({"year": {"$not": 5}}, r"expected a condition after \$not, got a number: write"),
        ({"year": {"$not": {}}}, "expected an operator for key 'year'"),
        ({"year": {"$startswith": 5}}, r"expected a string after \$startswith, got a number"),
        ({"$id": 5}, r"expected a string after \$id, got a number"),
        ({"$id": {"$contains": "a"}}, r"unknown operator '\$contains' for \$id: use one of \$eq .* \$not$"),
        ({"$id": {"$in": ["a", 5]}}, r"expected a string after \$id, got a number"),
        ({"$id": {"$in": "a"}}, r"expected a list after \$in"),
        ({"$id": {"$not": "a"}}, r"expected a condition after \$not, got the string 'a'"),
        ({"$eq": 1}, r"unknown operator '\$eq'"),
        ({"year": {}}, "expected an operator for key 'year'"),
        ({"year": {"$in": "abc"}}, r"expected a list after \$in, got the string 'abc'"),
        ({"year": {"$in": {"a": 1}}}, r"expected a list after \$in, got a mapping"),
        ({"year": {"$nin": 3}}, r"expected a list after \$nin, got a number"),
        ({"year": {"$in": [[1]]}}, r"after \$in, got a list"),
        ({"year": [1]}, r"after \$eq, got a list: ask for one element of a list, or for several by \$in"),
        ({"year": {"$eq": {"a": 1}}}, r"after \$eq, got a mapping"),
        ({"year": {"$contains": [1]}}, r"after \$contains, got a list"),
        ({"year": {"$gt": None}}, r"expected a number or a string after \$gt, got null"),
        ({"year": {"$lte": True}}, r"after \$lte, got a boolean"),
        ({"year": {"$lt": [1]}}, r"after \$lt, got a list"),
        ({"year": {"$exists": 1}}, r"expected true or false after \$exists, got a number"),
        ({"year": float("nan")}, r"expected a finite number after \$eq"),
        ({"year": {"$gt": float("inf")}}, r"expected a finite number after \$gt"),
        ({"year": 10**5000}, r"expected an integer of 64 bits after \$eq, got one beyond"),
        ({"year": {"$lt": 2**63}}, r"expected an integer of 64 bits after \$lt, got one beyond"),
        ({"year": {"$nin": [1, -(2**63) - 1]}}, r"expected an integer of 64 bits after \$nin"),
        ({"year": np.uint64(2**63)}, r"expected an integer of 64 bits after \$eq"),
        ({"year": np.float32("nan")}, r"expected a finite number after \$eq"),
        ({"year": np.array([1])}, r"after \$eq, got a list"),
        ({"year": np.datetime64("2024-01-01")}, "a value of type date"),
        ({"$and": np.array([])}, r"expected a non-empty list after \$and, got an empty list"),
        ({".".join("abcdefghijklmnopq"): 1}, "expected at most 16 keys joined by dots"),
        ({"year": object()}, "a value of type object"),
        ({"year": b"x"}, "a value of type bytes"),
        ({"year": "\ud800"}, "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ({"year": "a\0"}, "without NUL"),
        ({1: 1}, "expected metadata keys to be strings, got a number"),
        ({"$and": []}, r"expected a non-empty list after \$and, got an empty list"),
        ({"$or": {"a": 1}}, r"expected a non-empty list after \$or, got a mapping"),
        ({"$or": [1]}, "expected a mapping of keys to conditions, got a number"),
        ([], "expected a mapping of keys to conditions, got an empty list"),
        (nested(filters.MAX_DEPTH + 1), "expected at most 16 levels"),
        (nested(900), "expected at most 16 levels"),
        (nested(17, "$not"), "expected at most 16 levels"),
        ({"year": nested(17, "$not")}, "expected at most 16 levels"),
        ({"$or": [{"a": 1}] * 501}, "expected at most 500 conditions in a where, got 501"),
    ],
)
def test_a_bad_where_is_refused_by_name(where: Any, message: str) -> None:
    with pytest.raises(FilterError, match=message) as error:
        compile_where(where, COLUMNS)
    assert str(error.value)[0].islower()
