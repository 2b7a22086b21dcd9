"""BM25 in integers: marks tell counts and lengths, and what they count is BM25 in floats, rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import bm25

MARKS = [
    (1, 1, 31),
    (1, 8, 31 - 7),
    (2, 9, 32 + 31 - 8),
    (6, 30, 5 * 32 + 31 - 15),
    (16, 512, 7 * 32),
    (10**6, 10**6, 7 * 32),
    (0, 0, 31),
]


@pytest.mark.parametrize(("count", "length", "mark"), MARKS)
def test_marks_are_those_of_the_page(count, length, mark):
    assert bm25.mark(count, length) == mark
    assert bm25.marks([count], length) == bytes([mark])


@given(st.lists(st.integers(1, 600), max_size=20), st.integers(1, 3000))
def test_many_marks_are_those_of_each(counts, length):
    assert list(bm25.marks(counts, length)) == [bm25.mark(count, length) for count in counts]


@given(st.integers(1, 10**6), st.integers(1, 10**8))
def test_impacts_are_bm25_rounded(rows, length):
    found = bm25.impacts(rows, length).reshape(len(bm25.COUNTS), len(bm25.LENGTHS))
    counts, lengths = np.array(bm25.COUNTS)[:, None], np.array(bm25.LENGTHS[::-1])[None]
    exact = 255 * counts / (counts + 1.2 * (0.25 + 0.75 * lengths / (length / rows)))
    assert np.abs(found - np.maximum(exact, 1)).max() <= 0.5 + 1e-6


@given(st.integers(0, 10**6), st.integers(0, 10**8))
def test_a_mark_with_more_in_both_parts_counts_no_less(rows, length):
    """What the kernel's bounds rest on; also of an empty index."""
    found = bm25.impacts(rows, length).astype(int).reshape(8, 32)
    assert found.min() >= 1
    assert (np.diff(found, axis=0) >= 0).all()
    assert (np.diff(found, axis=1) >= 0).all()


def test_rare_words_weigh_more():
    weights = [bm25.weight(rows, 1000) for rows in range(1001)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == 1
    assert bm25.weight(0, 10**9) * 16 < 2**23
    assert bm25.least(0) == bm25.least(1) == 1
