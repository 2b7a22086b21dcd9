"""Masks: what SQL sees of chosen rows, as bits and as a list."""

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
