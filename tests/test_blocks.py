"""Rows as bits: packed and unpacked, chosen and dropped; what SQL sees of them, as bits and as a list."""

import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import blocks

ROWS = 200
bitmaps = st.dictionaries(
    st.integers(0, 3),
    st.lists(st.integers(0, 255), min_size=8, max_size=8).map(lambda x: np.array(x, np.uint8)),
)


def bits(mask, row):
    block, offset = divmod(row, 64)
    return bool(block in mask and mask[block][offset // 8] >> offset % 8 & 1)


@given(mask=st.none() | bitmaps, hidden=bitmaps, listed=st.booleans())
def test_sql_chooses_the_rows_of_a_mask_that_are_not_hidden(mask, hidden, listed):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE lexicon (text)")
    connection.executemany("INSERT INTO lexicon (rowid) VALUES (?)", ((row,) for row in range(ROWS)))
    with pytest.MonkeyPatch.context() as patch:
        if listed:
            patch.setattr(blocks, "_SPARSE_BYTES", -1)
            patch.setattr(blocks, "_LISTED_BYTES", -1)
        condition, parameters = blocks.condition(mask, hidden)
    told = hidden if mask is None else blocks.less(mask, hidden)
    assert ("json_each" in condition) == (listed and bool(told))
    found = {row for (row,) in connection.execute(f"SELECT rowid FROM lexicon WHERE {condition}", parameters)}
    connection.close()
    assert found == {
        row for row in range(ROWS) if (mask is None or bits(mask, row)) and not bits(hidden, row)
    }


def test_a_row_far_out_takes_no_memory():
    far = {2**40: np.ones(8, np.uint8)}
    for condition, parameters in (blocks.condition(far, {}), blocks.condition(None, far)):
        assert "json_each" in condition
        assert len(str(parameters["rows"])) < 200


flags = st.lists(st.booleans(), min_size=1, max_size=100).map(np.array)
chosen = st.sets(st.integers(0, 99), min_size=1).map(lambda rows: np.array(sorted(rows)))


@given(flags)
def test_what_is_packed_is_unpacked(flags):
    octets = blocks.pack(flags)
    assert len(octets) == -(-len(flags) // 8)
    assert blocks.unpack(octets, len(flags)).tolist() == flags.tolist()
    assert blocks.unpack(octets.tobytes(), len(flags)).tolist() == flags.tolist()
    assert not blocks.unpack(octets)[len(flags) :].any()
    assert blocks.offsets(octets).tolist() == np.flatnonzero(flags).tolist()


@given(chosen, chosen)
def test_rows_are_chosen_asked_and_dropped(first, second):
    octets = np.zeros(13, np.uint8)
    blocks.choose(octets, np.concatenate([first, first[::-1]]))
    assert blocks.offsets(octets).tolist() == first.tolist()
    assert blocks.are_set(octets, np.arange(104)).tolist() == np.isin(np.arange(104), first).tolist()
    assert blocks.choose_new(octets, second) == (not np.isin(second, first).any())
    blocks.choose(octets, second)
    blocks.drop(octets, first)
    assert blocks.offsets(octets).tolist() == np.setdiff1d(second, first).tolist()


@given(chosen, chosen)
def test_new_rows_are_all_chosen_or_none(first, second):
    octets = np.zeros(13, np.uint8)
    assert blocks.choose_new(octets, first)
    blocks.choose_new(octets, second)
    apart = not np.isin(second, first).any()
    assert set(blocks.offsets(octets).tolist()) == set(first.tolist()) | (
        set(second.tolist()) if apart else set()
    )


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(-2, 2)), st.sampled_from([np.int64, np.float64]))
def test_distinct_numbers_are_those_of_numpy(numbers, dtype):
    array = np.array(numbers, dtype)
    found = blocks.distinct(array)
    assert (found.dtype, found.tolist()) == (array.dtype, np.unique(array).tolist())
