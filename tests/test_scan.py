"""The scan against sorting every distance; each build and instruction set gives the same bits."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from counts import tries
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeret import scan
from edgeret.errors import InvalidQueryError
from edgeret.scan import Block, top_k

NATIVE = scan._scan.isas() if scan._scan is not None else ()
BUILDS = ("numpy", "numpy-1", *NATIVE)


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, monkeypatch)
    return request.param


def use(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.startswith("numpy"):
        monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
        if build == "numpy-1":
            monkeypatch.setattr(scan, "_popcount", scan._popcount_by_table)
    else:
        monkeypatch.setenv("EDGERET_SCAN_ISA", build)


def popcount(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unpackbits(np.ascontiguousarray(numbers)[..., None].view(np.uint8), axis=-1).sum(
        -1, dtype=np.int64
    )


def expect(codes: NDArray[np.uint64], planes: NDArray[np.uint64], k: int, live: NDArray[np.bool_]):
    """Row-major codes [n, words]: every distance, sorted."""
    rows = np.flatnonzero(live)
    found_rows, found = [], []
    for query in planes:
        distances = sum(popcount(codes[rows] ^ plane).sum(1) << j for j, plane in enumerate(query))
        order = np.lexsort((rows, distances))[:k]
        found_rows.append(rows[order])
        found.append(distances[order])
    return np.array(found_rows, np.int64), np.array(found, np.int32)


def blocked(codes: NDArray[np.uint64], live: NDArray[np.bool_] | None, edges: list[int]) -> list[Block]:
    bounds = sorted({0, len(codes), *(edge for edge in edges if edge < len(codes))})
    return [
        Block(
            first,
            np.ascontiguousarray(codes[first:end].T),
            None if live is None else np.packbits(live[first:end], bitorder="little"),
        )
        for first, end in pairwise(bounds)
    ]


def assert_same(found, expected) -> None:
    rows, distances = found
    assert rows.dtype == np.int64
    assert distances.dtype == np.int32
    np.testing.assert_array_equal(rows, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


def random_words(rng: np.random.Generator, *shape: int) -> NDArray[np.uint64]:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


@pytest.mark.parametrize("words", [1, 2, 3, 4, 6, 7, 16])
@pytest.mark.parametrize("planes", [1, 2, 4])
def test_every_width(build: str, words: int, planes: int) -> None:
    rng = np.random.default_rng([words, planes])
    codes, queries = random_words(rng, 700, words), random_words(rng, 3, planes, words)
    live = rng.random(700) < 0.6
    for k in (1, 10, 699, 1000):
        assert_same(top_k(blocked(codes, live, [64, 300]), queries, k), expect(codes, queries, k, live))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 63, 64, 65, 128, 1023, 1024, 1025, 16383, 16384, 16385, 33000])
def test_every_edge(build: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    codes, queries = random_words(rng, rows, 4), random_words(rng, 2, 4, 4)
    everything = np.ones(rows, np.bool_)
    for k in (1, 100, rows):
        assert_same(
            top_k(blocked(codes, None, [16384, 32768]), queries, k), expect(codes, queries, k, everything)
        )


@pytest.mark.parametrize("bits", [64, 65, 100, 127, 200, 256, 300, 1000])
def test_bits_that_do_not_fill_words(build: str, bits: int) -> None:
    rng = np.random.default_rng(bits)
    pad = np.zeros(-bits % 64, np.bool_)
    signs = rng.random((500, bits)) < 0.5
    words = np.packbits(np.hstack([signs, np.broadcast_to(pad, (500, len(pad)))]), axis=1, bitorder="little")
    codes = words.view(np.uint64)
    rows, distances = top_k(blocked(codes, None, []), codes[3][None, None], 500)
    assert rows[0, 0] == 3
    np.testing.assert_array_equal(distances[0], np.sort((signs != signs[3]).sum(1)))


@pytest.mark.parametrize("planes", [1, 3, 4])
@pytest.mark.parametrize("words", [4, 6])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 0.9, 1.0])
def test_masks(build: str, share: float, words: int, planes: int) -> None:
    rng = np.random.default_rng(7)
    codes, queries = random_words(rng, 5000, words), random_words(rng, 2, planes, words)
    live = rng.random(5000) < share
    found = top_k(blocked(codes, live, [2048]), queries, 20)
    assert found[0].shape == (2, min(20, live.sum()))
    assert_same(found, expect(codes, queries, 20, live))


def test_masks_of_few_rows_close_together(build: str) -> None:
    rng = np.random.default_rng(8)
    codes, live = random_words(rng, 5000, 4), np.zeros(5000, np.bool_)
    for first in rng.integers(0, 4900, 12):
        live[first : first + rng.integers(1, 70)] = True
    for planes in (1, 4):
        queries = random_words(rng, 2, planes, 4)
        assert_same(top_k(blocked(codes, live, [2048]), queries, 20), expect(codes, queries, 20, live))


def test_ties_go_by_row(build: str) -> None:
    codes = np.zeros((3000, 2), np.uint64)
    rows, distances = top_k(blocked(codes, None, [100, 1000]), np.ones((1, 1, 2), np.uint64), 150)
    np.testing.assert_array_equal(rows[0], np.arange(150))
    assert (distances == 2).all()


@pytest.mark.parametrize("is_falling", [True, False])
def test_rows_in_order_of_distance(build: str, is_falling: bool) -> None:
    """The worst order: every row is nearer than all before it."""
    steps = np.arange(4096) * 256 // 4096
    signs = np.arange(256) < (steps[::-1] if is_falling else steps)[:, None]
    codes = np.packbits(signs, axis=1, bitorder="little").view(np.uint64)
    query = np.zeros((1, 1, 4), np.uint64)
    for k in (1, 3, 200):
        assert_same(
            top_k(blocked(codes, None, [1000]), query, k), expect(codes, query, k, np.ones(4096, np.bool_))
        )


@given(data=st.data())
@settings(max_examples=tries(60), deadline=None)
def test_all_builds_agree(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows, words = data.draw(st.integers(0, 400)), data.draw(st.integers(1, scan.MAX_WORDS))
    # Few distinct words make many ties.
    codes = random_words(rng, rows, words) & np.uint64(data.draw(st.sampled_from([0, 1, 2**63, 2**64 - 1])))
    queries = random_words(rng, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4)), words)
    live = rng.random(rows) < data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    k = data.draw(st.integers(1, 450))
    blocks = blocked(codes, live, data.draw(st.lists(st.integers(0, 400), max_size=5)))
    expected = expect(codes, queries, k, live)
    for build in BUILDS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            use(build, monkeypatch)
            assert_same(top_k(blocks, queries, k), expected)
            assert_same(top_k(iter(blocks), queries, k), expected)


def test_lists_and_streams_give_the_same(build: str) -> None:
    rng = np.random.default_rng(3)
    codes, queries = random_words(rng, 9000, 4) & np.uint64(0xFFF), random_words(rng, 3, 4, 4)
    blocks = blocked(codes, None, list(range(0, 9000, 500)))
    expected = expect(codes, queries, 50, np.ones(9000, np.bool_))
    for source in (blocks, tuple(blocks), iter(blocks)):
        assert_same(top_k(source, queries, 50), expected)


def test_a_stream_holds_one_block(build: str) -> None:
    alive: list[weakref.ref[NDArray[np.uint64]]] = []

    def blocks() -> Iterator[Block]:
        for i in range(5):
            assert not any(ref() is not None for ref in alive)
            codes = np.zeros((1, 10), np.uint64)
            alive.append(weakref.ref(codes))
            yield Block(10 * i, codes)
            del codes

    assert top_k(blocks(), np.zeros((1, 1, 1), np.uint64), 50)[0].shape == (1, 50)


def test_a_failing_stream_raises_its_own_error(build: str) -> None:
    def blocks() -> Iterator[Block]:
        yield Block(0, np.zeros((1, 10), np.uint64))
        raise KeyError("medium gone")

    with pytest.raises(KeyError, match="medium gone"):
        top_k(blocks(), np.zeros((1, 1, 1), np.uint64), 5)


def test_nothing_to_find(build: str) -> None:
    none = np.zeros((4, 0), np.uint64)
    for blocks in ([], [Block(0, none)], [Block(0, none, np.zeros(0, np.uint8))]):
        rows, distances = top_k(blocks, np.zeros((2, 1, 4), np.uint64), 3)
        assert rows.shape == distances.shape == (2, 0)
    blocks = [Block(0, np.zeros((4, 10), np.uint64))]
    assert top_k(blocks, np.zeros((0, 1, 4), np.uint64), 3)[0].shape[0] == 0


def test_large_rows_and_k(build: str) -> None:
    first = 2**63 - 1 - 70
    blocks = [Block(5, np.zeros((1, 3), np.uint64)), Block(first, np.zeros((1, 70), np.uint64))]
    rows, _ = top_k(blocks, np.zeros((1, 1, 1), np.uint64), 2**70)
    np.testing.assert_array_equal(rows[0], [5, 6, 7, *range(first, first + 70)])


def misaligned(rows: int) -> NDArray[np.uint64]:
    return np.frombuffer(bytes(8 * rows + 4), np.uint64, count=rows, offset=4).reshape(1, rows)


CODES = np.zeros((1, 10), np.uint64)


@pytest.mark.parametrize(
    "blocks",
    [
        [5],
        [()],
        [(0, CODES)],
        [("0", CODES, None)],
        [Block(0, CODES.astype(np.int64))],
        [Block(0, CODES.astype(np.float64))],
        [Block(0, CODES.astype(">u8"))],
        [Block(0, CODES[0])],
        [Block(0, np.zeros((2, 10), np.uint64))],
        [Block(0, np.zeros((0, 10), np.uint64))],
        [Block(0, np.zeros((1, 20), np.uint64)[:, ::2])],
        [Block(0, misaligned(10))],
        [Block(0, None)],
        [Block(0, b"12345678")],
        [Block(0, CODES, np.zeros(1, np.uint8))],
        [Block(0, CODES, np.zeros(3, np.uint8))],
        [Block(0, CODES, np.zeros(2, np.bool_))],
        [Block(0, CODES, np.zeros((1, 2), np.uint8))],
        [Block(0, CODES, np.zeros(4, np.uint8)[::2])],
        [Block(0, CODES, 3)],
        [Block(-1, CODES)],
        [Block(2**63 - 5, CODES)],
        [Block(2**64, CODES)],
        [Block(0, CODES), Block(9, CODES)],
        [Block(0, CODES), Block(0, CODES)],
    ],
)
def test_hostile_blocks(build: str, blocks: list[Block]) -> None:
    for source in (blocks, iter(blocks)):
        with pytest.raises(InvalidQueryError, match=r"expected .*: "):
            top_k(source, np.zeros((1, 1, 1), np.uint64), 5)


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((1, 1), np.uint64),
        np.zeros((1, 0, 1), np.uint64),
        np.zeros((1, 5, 1), np.uint64),
        np.zeros((1, 1, 0), np.uint64),
        np.zeros((1, 1, 17), np.uint64),
        np.zeros((1, 1, 1), np.int64),
        np.zeros((2, 1, 2), np.uint64)[:, :, ::2],
        None,
    ],
)
def test_hostile_planes(build: str, planes: NDArray[np.uint64]) -> None:
    with pytest.raises(InvalidQueryError, match=r"expected .*: "):
        top_k([Block(0, CODES)], planes, 5)


def test_hostile_numbers(build: str) -> None:
    planes = np.zeros((1, 1, 1), np.uint64)
    for k in (0, -1):
        with pytest.raises(InvalidQueryError, match=r"expected .*: "):
            top_k([Block(0, CODES)], planes, k)


def test_backend_names_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
    assert scan.backend() == "numpy"
    monkeypatch.setenv("EDGERET_NO_NATIVE", "0")
    assert scan.backend() == (f"native-{NATIVE[0]}" if NATIVE else "numpy")


native_only = pytest.mark.skipif(not NATIVE, reason="this edgeret is built without its native scan")


@native_only
def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGERET_NO_NATIVE", raising=False)
    monkeypatch.setenv("EDGERET_SCAN_ISA", "mmx")
    with pytest.raises(InvalidQueryError, match="'mmx'"):
        top_k([Block(0, CODES)], np.zeros((1, 1, 1), np.uint64), 5)


ANYTHING = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
    st.binary(max_size=40),
    st.builds(
        lambda shape, dtype: np.zeros(shape, dtype),
        st.lists(st.integers(0, 3), max_size=4),
        st.sampled_from(["u8", ">u8", "i8", "u1", "f4", "?", "S3", "u8,u1"]),
    ),
    st.builds(lambda shape: memoryview(np.zeros(shape, np.uint64)), st.lists(st.integers(0, 3), max_size=4)),
)


@native_only
@given(
    blocks=st.one_of(
        ANYTHING, st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING), max_size=3), st.lists(ANYTHING)
    ),
    planes=ANYTHING,
    k=ANYTHING,
    isa=st.one_of(st.sampled_from(["", *NATIVE]), ANYTHING),
)
@settings(max_examples=tries(300), deadline=None)
def test_the_kernel_refuses_or_answers_anything(
    blocks: object, planes: object, k: object, isa: object
) -> None:
    with contextlib.suppress(TypeError, ValueError, OverflowError, NotImplementedError):
        scan._scan.top_k(blocks, planes, k, isa)
