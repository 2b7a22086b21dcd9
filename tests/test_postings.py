"""Postings against a dictionary that adds up; both builds give the same octets, rows and scores."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from counts import tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret import blocks, postings
from edgeret.blocks import BLOCK_ROWS
from edgeret.errors import InvalidQueryError
from edgeret.postings import Word, top_k

IMPACTS = np.array([1 + 32 * (mark >> 5) + (mark & 31) for mark in range(255)] + [255], np.uint8)
"""More for a mark that has more in both of its parts, as it must be."""

needs_native = pytest.mark.skipif(
    postings._postings is None, reason="this edgeret is built without its native postings"
)


@pytest.fixture(params=["native", "numpy"])
def build(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
    elif postings._postings is None:
        pytest.skip("this edgeret is built without its native postings")


def with_numpy(call, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGERET_NO_NATIVE", "1")
        return call(*arguments)


def packed(lists: list[dict[int, int]]) -> tuple[bytes, np.ndarray]:
    """Lists of row -> mark."""
    rows = [row for found in lists for row in sorted(found)]
    marks = [found[row] for found in lists for row in sorted(found)]
    starts = np.cumsum([0, *map(len, lists)])
    return postings.encode(starts.astype(np.int64), np.array(rows, np.int64), np.array(marks, np.uint8))


def one(found: dict[int, int]) -> bytes:
    return packed([found])[0]


def expect(words: list[tuple[int, list[dict[int, int]], bool]], k, mask, must):
    """Scores by a dictionary."""
    sums: dict[int, int] = {}
    for weight, lists, _ in words:
        best: dict[int, int] = {}
        for found in lists:
            for row, mark in found.items():
                best[row] = max(best.get(row, 0), int(IMPACTS[mark]))
        for row, impact in best.items():
            sums[row] = sums.get(row, 0) + weight * impact
    found = [
        (-score, row)
        for row, score in sums.items()
        if score
        and (
            mask is None
            or (row // BLOCK_ROWS in mask and blocks.unpack(mask[row // BLOCK_ROWS])[row % BLOCK_ROWS])
        )
    ]
    ranked = sorted(found)[:k]
    return (
        [row for _, row in ranked],
        [-score for score, _ in ranked],
        [sums.get(row, 0) for row in must],
    )


def assert_found(words, k, mask=None, must=()):
    asked = [Word(weight, tuple(map(one, lists)), overlaps) for weight, lists, overlaps in words]
    best = top_k(asked, k, IMPACTS, mask, np.array(must, np.int64))
    rows, scores, must_scores = expect(words, k, mask, must)
    assert best.rows.tolist() == rows
    assert best.scores.tolist() == scores
    assert best.must_scores.tolist() == must_scores
    assert (best.rows.dtype, best.scores.dtype, best.must_scores.dtype) == (np.int64, np.uint32, np.uint32)
    return best


def drawn(rng, count, first=0, end=BLOCK_ROWS, high=256) -> dict[int, int]:
    rows = rng.choice(end - first, count, replace=False) + first
    return dict(zip(rows.tolist(), rng.integers(1, high, count).tolist(), strict=True))


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 63, 64, 65, 127, 1000, 8191, 8192, 8193, 16383, 16384])
@pytest.mark.parametrize("block", [0, 63, 64, 8191, 2**31 - 1])
def test_a_list_is_unpacked_as_it_was_packed(build, count, block):
    found = drawn(np.random.default_rng(count), count)
    octets, edges = packed([{}, {row + block * BLOCK_ROWS: found[row] for row in found}, {}])
    starts, rows, marks = postings.decode(octets, edges[:-1].copy(), edges[1:].copy())
    assert starts.tolist() == [0, 0, count, count]
    assert rows.tolist() == [row + block * BLOCK_ROWS for row in sorted(found)]
    assert marks.tolist() == [found[row] for row in sorted(found)]
    assert postings.count(octets) == count


def test_the_octets_are_those_of_the_page(build):
    """docs/lexicon.md, byte by byte."""
    assert one({5: 200}).hex() == "000580c8"
    assert one({5: 200, 300: 7}).hex() == "0005002c81c807"
    assert one({5: 200, 64 * BLOCK_ROWS: 7}).hex() == "000580c88001008007"
    # Eight rows: eleven low bits each, and 16 bits in which one row's high part is the zeros before its one.
    rows = {row: 10 + row // 2048 for row in range(3, BLOCK_ROWS, 2048)}
    assert one(rows).hex() == "0108001155550318c000063080010c6000" + bytes(range(10, 18)).hex()


@needs_native
@given(
    st.lists(st.dictionaries(st.integers(0, 40_000), st.integers(0, 255), max_size=40), max_size=5),
    st.integers(0, 3),
)
def test_both_builds_pack_alike(lists, dense):
    lists = [*lists, *(dict.fromkeys(range(0, 20_000, step + 1), 9) for step in range(dense))]
    octets, edges = packed(lists)
    other, places = with_numpy(packed, lists)
    assert octets == other
    assert edges.tolist() == places.tolist()
    for mine, its in zip(
        postings.decode(octets, edges[:-1].copy(), edges[1:].copy()),
        with_numpy(postings.decode, octets, edges[:-1].copy(), edges[1:].copy()),
        strict=True,
    ):
        assert mine.tolist() == its.tolist()
        assert mine.dtype == its.dtype


ROWS = st.integers(0, 60) | st.integers(BLOCK_ROWS - 5, BLOCK_ROWS + 60) | st.integers(0, 4 * BLOCK_ROWS)
LISTS = st.dictionaries(ROWS, st.integers(1, 4) | st.integers(1, 255), max_size=30)


@settings(max_examples=tries(60))
@given(
    st.lists(
        st.tuples(st.integers(1, 3) | st.integers(1, 9000), LISTS, st.lists(LISTS, max_size=3)), max_size=6
    ),
    st.integers(1, 12),
    st.none() | st.lists(ROWS, max_size=40),
    st.lists(ROWS, max_size=8, unique=True).map(sorted),
)
@pytest.mark.parametrize("numpy", [False, True])
def test_the_best_rows_are_those_of_a_dictionary(numpy, words, k, allowed, must):
    asked = [(weight, [first, *others], bool(others)) for weight, first, others in words]
    mask = None
    if allowed is not None:
        mask = {}
        for row in allowed:
            bits = mask.setdefault(row // BLOCK_ROWS, blocks.empty())
            blocks.choose(bits, np.array([row % BLOCK_ROWS]))
    if numpy:
        with_numpy(assert_found, asked, k, mask, must)
    else:
        assert_found(asked, k, mask, must)


def large(seed: int) -> list[tuple[int, list[dict[int, int]], bool]]:
    """Rare words that weigh much and common ones that weigh little, over three blocks and two segments."""
    rng = np.random.default_rng(seed)
    end = 3 * BLOCK_ROWS
    words = [(9000, [drawn(rng, 30, 0, end)], False), (6000, [drawn(rng, 200, 0, end)], False)]
    for weight, count in ((1500, 2000), (700, 9000), (300, 20_000)):
        words.append(
            (weight, [drawn(rng, count // 2, 0, 20_000), drawn(rng, count // 2, 20_000, end)], False)
        )
    words.append((2000, [drawn(rng, 700, 0, end), drawn(rng, 900, 0, end)], True))
    return words


@pytest.mark.parametrize("k", [1, 10, 100, 5000])
@pytest.mark.parametrize("with_mask", [False, True])
def test_what_cannot_reach_the_best_is_left_out_and_changes_nothing(build, k, with_mask):
    rng = np.random.default_rng(k)
    mask = None
    if with_mask:
        mask = {block: rng.integers(0, 256, BLOCK_ROWS // 8, dtype=np.uint8) for block in (0, 2, 5)}
    must = sorted(rng.choice(4 * BLOCK_ROWS, 100, replace=False).tolist())
    best = assert_found(large(k), k, mask, must)
    if postings.is_native():
        assert (best.skipped > best.added) == (k < 100)


def test_ties_are_ordered_by_row(build):
    words = [(5, [dict.fromkeys(range(40_000, 10, -3), 7)], False), (1, [{20_002: 1, 20_003: 1}], False)]
    best = assert_found(words, 4)
    assert best.rows.tolist()[1:] == [13, 16, 19]


def test_nothing_is_found_where_there_is_nothing(build):
    assert_found([], 3, None, [1, 5])
    assert_found([(3, [{}], False)], 3, {}, [])
    assert_found([(3, [{2: 9}], False)], 3, {}, [2, 3])
    assert_found([(3, [{2: 9}], False)], 3, {0: blocks.empty(), 1: ~blocks.empty()}, [])


def test_arguments_out_of_range_are_refused(build):
    none = np.empty(0, np.int64)
    for words, k, must in (
        ([], 0, none),
        ([Word(postings.MAX_WEIGHTS + 1, ())], 1, none),
        ([], 1, np.array([5, 5])),
        ([], 1, np.array([-1])),
    ):
        with pytest.raises(InvalidQueryError):
            top_k(words, k, IMPACTS, None, must)
    for rows in ([3, 3], [4, 3], [-1], [BLOCK_ROWS + 1, 5], [2**31 * BLOCK_ROWS]):
        with pytest.raises(InvalidQueryError, match="ascending"):
            postings.encode(np.array([0, len(rows)]), np.array(rows, np.int64), np.ones(len(rows), np.uint8))


FORGED = ["80", "ffffffffff01", "00", "0005", "000580", "01", "010800", "01070011" + "00" * 40, "01ffff11" + "00" * 90,
          "00058001" + "00058001", "02058001" + "00058001", "0105001100" + "00" * 30, "01080011" + "00" * 25,
          "01080011" + "ff" * 25, "00" + "0500" * 8 + "0580" + "01" * 9]  # fmt: skip


@pytest.mark.parametrize("octets", FORGED)
def test_octets_that_are_no_list_are_refused(build, octets):
    forged = bytes.fromhex(octets)
    with pytest.raises(InvalidQueryError, match="damaged"):
        postings.decode(forged, np.array([0]), np.array([len(forged)]))
    if octets != "01080011" + "00" * 25:
        with pytest.raises(InvalidQueryError, match="damaged"):
            top_k([Word(1, (forged,))], 1, IMPACTS, None, np.empty(0, np.int64))


NAMES = st.text(st.sampled_from("abcé漢🍕"), min_size=1, max_size=10)


@given(st.lists(st.lists(NAMES, max_size=20), max_size=5))
@pytest.mark.parametrize("numpy", [False, True])
def test_names_are_sorted_and_counted_once(numpy, groups):
    blobs = ["\n".join(names).encode() for names in groups]
    names, owners = with_numpy(postings.group, blobs) if numpy else postings.group(blobs)
    given = [name for names in groups for name in names]
    different = names.decode().split("\n") if names else []
    assert different == sorted(set(given))
    assert [different[owner] for owner in owners.tolist()] == given


def test_an_upper_mark_that_is_not_the_marks_is_refused(build):
    octets = bytearray(one(dict.fromkeys(range(9), 70)))
    octets[3] = 69
    with pytest.raises(InvalidQueryError, match="damaged"):
        postings.decode(bytes(octets), np.array([0]), np.array([len(octets)]))


@needs_native
@given(st.binary(max_size=80), st.integers(0, 1))
def test_no_octets_do_harm(octets, many):
    octets = (b"\x01\x09\x00" if many else b"") + octets
    with contextlib.suppress(InvalidQueryError):
        postings.decode(octets, np.array([0]), np.array([len(octets)]))
    with contextlib.suppress(InvalidQueryError):
        top_k([Word(3, (octets,)), Word(2, (octets,), True)], 3, IMPACTS, None, np.array([1, 70]))


@pytest.mark.parametrize(("starts", "ends"), [([0], [99]), ([-1], [1]), ([4], [0]), ([0, 0], [4])])
def test_places_outside_of_the_octets_are_refused(build, starts, ends):
    if not postings.is_native():
        pytest.skip("the twin slices, as Python does; this edgeret is built without its native postings")
    with pytest.raises(InvalidQueryError):
        postings.decode(one({5: 9}), np.array(starts), np.array(ends))
