"""Pages: records read without SQLite's trees are those that SQLite wrote; other bytes are passed over."""

import io
import sqlite3

import pytest
from counts import tries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeret.storage.pages import PAGE_BYTES, Pages, varint

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1]),
    st.floats(allow_nan=False).map(lambda value: value or 0.5).filter(lambda value: value != int_like(value)),
    st.text(max_size=30).filter(lambda text: "\0" not in text),
    st.binary(max_size=30),
    st.integers(0, 20_000).map(lambda size: bytes(size % 7 for _ in range(size))),
)
ROWS = st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.tuples(VALUES, VALUES), max_size=12)


def int_like(value: float) -> float | None:
    """The same number if SQLite would store it as an integer."""
    return float(int(value)) if abs(value) < 2**53 else None


def written(path, rows) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("CREATE TABLE t (row INTEGER PRIMARY KEY, a, b)")
    connection.execute("CREATE INDEX i ON t (a, b)")
    with connection:
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", [(row, *pair) for row, pair in rows.items()])
    connection.close()
    return path.read_bytes()


@settings(
    max_examples=tries(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=ROWS)
def test_records_are_those_that_sqlite_wrote(tmp_path_factory, rows):
    image = written(tmp_path_factory.mktemp("pages") / "x.db", rows)
    pages = Pages(io.BytesIO(image))
    found = {
        record.row: record.values[1:]
        for cell, record in pages.records()
        if record.row is not None and len(record.values) == 3 and pages.record(cell) == record
    }
    assert found == rows


@settings(max_examples=tries(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 12 * PAGE_BYTES), st.integers(0, 255)), min_size=1, max_size=40)
)
def test_other_bytes_are_passed_over(tmp_path_factory, places):
    rows = {number: (number, bytes([number] * number * 300)) for number in range(20)}
    image = bytearray(written(tmp_path_factory.mktemp("pages") / "x.db", rows))
    for at, value in places:
        image[at % len(image)] = value
    for _, record in Pages(io.BytesIO(bytes(image))).records():
        assert isinstance(record.values, tuple)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        # The record's length, its row, the header's length, a type.
        (b"\x03\x01\x02\x0a", "a type that SQLite keeps for itself"),
        (b"\x03\x01\x02\x30", "a value past the end of its record"),
        (b"\xff\xff\xff\x7f\x01", "a length past the end of the file"),
    ],
)
def test_what_is_no_record_is_named_and_passed_over(header, complaint):
    page = bytearray(PAGE_BYTES)
    page[100] = 13
    page[103:105] = (1).to_bytes(2, "big")
    page[108:110] = (200).to_bytes(2, "big")
    page[200 : 200 + len(header)] = header
    pages = Pages(io.BytesIO(bytes(page)))
    assert list(pages.records()) == []
    with pytest.raises(ValueError, match=complaint):
        pages._parse(bytes(page), 13, 200)


def test_a_record_whose_overflow_pages_are_lost_is_passed_over(tmp_path):
    large = bytes(range(1, 256)) * 80
    image = written(tmp_path / "x.db", {1: (None, large)})

    def found(content: bytes) -> list[object]:
        return [
            record.values[2] for _, record in Pages(io.BytesIO(content)).records() if len(record.values) == 3
        ]

    assert found(image).count(large) == 1
    assert large not in found(image[: -2 * PAGE_BYTES])


def test_the_ninth_byte_of_an_integer_is_whole():
    assert varint(b"\xff" * 9, 0) == (2**64 - 1, 9)
    assert varint(b"\x81\x00", 0) == (128, 2)
