"""One behavior in every way of searching, and what partitions promise beside it."""

import itertools
import json
import math
import os
import shutil
import tracemalloc
import zlib

import numpy as np
import pytest
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import blocks
from edgeret.search.partitions import _HEAD, _MAGIC, Partitions, Parts, share
from edgeret.shell import cli
from edgeret.storage.sides import partitions_of as path_of

ROWS = 18_000
SEALED = 16_384
TOPICS = 200


def vectors() -> np.ndarray:
    rng = np.random.default_rng(5)
    topics = rng.normal(size=(TOPICS, DIM))
    found = topics[rng.integers(TOPICS, size=ROWS)] + 0.6 * rng.normal(size=(ROWS, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(once):
    """A file of a full block and a tail, with partitions beside it; and its vectors."""
    return once("partitions", fill) / "whole.edgeret", vectors()


def fill(folder):
    path = folder / "whole.edgeret"
    with edgeret.Index.create(path, model=FakeEncoder(), bits=96, filters=["year"]) as index:
        index.add(
            edgeret.Document(f"d{n}", f"text {n}", {"year": n % 1000, "odd": n % 2}, vector=row)
            for n, row in enumerate(vectors())
        )
    summary = edgeret.optimize(path)
    assert (summary.rows, summary.partitions) == (SEALED, math.isqrt(SEALED))


@pytest.fixture(params=["exact", "partitions"])
def searched(request, whole, path):
    """A copy of it, searched in one way or the other; and its vectors."""
    shutil.copy(whole[0], path)
    if request.param == "partitions":
        shutil.copy(path_of(whole[0]), path_of(path))
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        assert index.explain(whole[1][0]).search == request.param
        yield index, whole[1]


def identities(hits) -> list[str]:
    return [hit.id for hit in hits]


def test_a_duplicate_is_always_found(searched):
    index, rows = searched
    for row in range(0, ROWS, 499):
        hit = index.search(rows[row], k=1)[0]
        assert hit.id == f"d{row}"
        assert hit.score > 0.999


def test_many_queries_get_what_each_gets(searched):
    index, rows = searched
    together = index.search_many(list(rows[:40]), k=5)
    assert together == [index.search(row, k=5) for row in rows[:40]]


def test_what_is_deleted_is_not_found_and_what_is_added_is(searched):
    index, rows = searched
    before = identities(index.search(rows[7], k=20))
    assert index.delete(before[:10]) == 10
    assert not set(before[:10]) & set(identities(index.search(rows[7], k=20)))
    index.add([edgeret.Document("new", "text", {"year": 1}, vector=rows[7])])
    assert index.search(rows[7], k=1)[0].id == "new"
    index.add([edgeret.Document(before[12], "text", {"year": 1}, vector=rows[9])])
    assert before[12] in identities(index.search(rows[9], k=2))
    assert before[12] not in identities(index.search(rows[7], k=20))


def test_a_filter_lets_its_documents_through_and_no_others(searched):
    index, rows = searched
    odd = index.search(rows[3], k=30, where={"odd": 1})
    assert len(odd) == 30
    assert all(hit.metadata["odd"] == 1 for hit in odd)
    year = index.search(rows[3], k=60, where={"year": 17})
    assert {hit.metadata["year"] for hit in year} == {17}
    assert len(year) == ROWS // 1000
    assert index.search(rows[3], where={"year": 5000}) == []


@pytest.mark.parametrize("k", [1, 10, 700])
def test_k_documents_are_found(searched, k):
    index, rows = searched
    hits = index.search(rows[11], k=k)
    assert len(set(identities(hits))) == k
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_words_are_found(searched):
    index, _ = searched
    assert identities(index.search("123", mode="lexical")) == ["d123"]
    assert len(index.search("123", mode="hybrid", k=40)) == 40


def test_nothing_of_what_is_erased_remains_beside_the_index(searched):
    index, rows = searched
    index.delete(["d5"], erase=True)
    assert not path_of(index._path).exists()
    assert "d5" not in identities(index.search(rows[5]))


def test_partitions_find_what_the_exact_scan_finds_in_a_part_of_the_rows(whole):
    path, rows = whole
    alone = path.with_name("alone.edgeret")
    shutil.copy(path, alone)
    with (
        edgeret.Index.open(path, model=FakeEncoder()) as near,
        edgeret.Index.open(alone, model=FakeEncoder()) as exact,
    ):
        rng = np.random.default_rng(1)
        queries = rows[rng.integers(ROWS, size=100)] + 0.05 * rng.normal(size=(100, DIM)).astype(np.float32)
        found = [near.explain(query, oversample=20) for query in queries]
        wanted = [exact.explain(query, oversample=20) for query in queries]
    shared = [
        len(set(identities(a.hits)) & set(identities(b.hits))) for a, b in zip(found, wanted, strict=True)
    ]
    assert np.mean(shared) / 10 >= 0.98
    assert {explained.covered for explained in found} == {SEALED}
    assert {explained.fallback for explained in found + wanted} == {""}
    assert {explained.scanned for explained in wanted} == {ROWS}
    most = ROWS - SEALED + (share(SEALED) + 0.05) * SEALED
    assert max(explained.scanned for explained in found) < most < ROWS


def test_the_share_that_is_read_falls_with_the_rows_and_grows_with_k():
    rows = [16_384 * 2**doubled for doubled in range(12)]
    shares = [share(number) for number in rows]
    assert shares == sorted(shares, reverse=True)
    assert 0.7 < shares[0] < 0.8
    assert 0.1 < shares[-1] < 0.16
    assert share(200_000, 100) > share(200_000, 10) == 0.44
    assert share(10, 10_000) == share(0) == 1


def test_optimize_says_whether_it_pays(whole, path):
    shutil.copy(whole[0], path)
    summary = edgeret.optimize(path)
    assert not summary.pays
    assert summary.share == round(share(SEALED), 3)


def small(path, rows):
    """An index of full blocks of 1,024 rows."""
    with edgeret.Index.create(path, model=FakeEncoder(), bits=96) as index:
        index.add(edgeret.Document(f"o{n}", "other", vector=row) for n, row in enumerate(rows))
    return path


def test_partitions_of_another_index_cover_nothing(whole, path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1024)
    _, rows = whole
    first, second = small(path.with_name("first"), rows[:1500]), small(path, rows[:-1501:-1])
    assert edgeret.optimize(first).rows == 1024
    shutil.copy(path_of(first), path_of(second))
    for index_path, covered, answer in ((first, 1024, "o4"), (second, 0, "o4")):
        with edgeret.Index.open(index_path, model=FakeEncoder()) as index:
            explained = index.explain(rows[4] if covered else rows[-5])
        assert explained.hits[0].id == answer
        assert explained.covered == covered
    assert explained.scanned == 1500


def test_partitions_of_a_recoded_index_are_told(whole, path):
    shutil.copy(whole[0], path)
    shutil.copy(path_of(whole[0]), path_of(path))
    edgeret.Index.recode(path, FakeEncoder(), bits=64)
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        explained = index.explain(whole[1][9])
    assert explained.hits[0].id == "d9"
    assert (explained.search, explained.covered) == ("exact", 0)
    assert "another head" in explained.fallback
    edgeret.optimize(path)
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        assert index.explain(whole[1][9]).covered == SEALED


def test_partitions_of_an_index_encoded_anew_cover_nothing(whole, path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1024)
    rows = whole[1][:1500]
    assert edgeret.optimize(small(path, rows)).rows == 1024
    edgeret.reencode(path, FakeEncoder())
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        explained = index.explain(rows[9])
    assert explained.hits[0].id == "o9"
    assert explained.covered == 0


def test_a_small_index_has_nothing_to_cover(sound):
    assert edgeret.optimize(sound).rows == 0
    assert not path_of(sound).exists()


@pytest.mark.parametrize("cut", [0, 10, 48, 500, -1])
def test_a_cut_file_is_not_used_and_that_is_told(whole, path, cut):
    shutil.copy(whole[0], path)
    path_of(path).write_bytes(path_of(whole[0]).read_bytes()[:cut])
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        explained = index.explain(whole[1][9])
    assert explained.hits[0].id == "d9"
    assert explained.search == "exact"
    assert "edgeret optimize" in explained.fallback


@settings(max_examples=20)
@given(places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3), value=st.integers(1, 255))
def test_a_damaged_file_changes_no_answer(whole, tmp_path_factory, places, value):
    source, rows = whole
    path = tmp_path_factory.mktemp("damaged") / "copy.edgeret"
    path.hardlink_to(source)
    damaged = bytearray(path_of(source).read_bytes())
    for place in places:
        damaged[int(place * len(damaged))] ^= value
    path_of(path).write_bytes(damaged)
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True) as index:
        found = [index.explain(row) for row in rows[:4]]
    with edgeret.Index.open(source, model=FakeEncoder(), readonly=True) as index:
        sound = [index.explain(row) for row in rows[:4]]
    for ours, theirs in zip(found, sound, strict=True):
        if ours.search == "partitions":
            assert ours.hits == theirs.hits
        else:
            assert ours.fallback
            assert ours.hits[0] == theirs.hits[0]


class Crafted:
    """A file of partitions whose checksums are right whatever is in it."""

    def __init__(self, path):
        found = Partitions(path, 2, DIM, 1)
        starts = found._starts.copy()
        self.stamps, self.centroids, self.starts = found._stamps.copy(), found.centroids.copy(), starts
        counts = range(len(starts) - 1)
        self.places = np.concatenate([found._places_of(number) for number in counts])
        self.codes = np.concatenate([found._codes_of(number).reshape(-1) for number in counts])

    def write(self, path):
        path.unlink(missing_ok=True)
        Parts(2, self.stamps, self.centroids, self.starts, self.places, self.codes).write(path)


def one_row(crafted):
    crafted.places[:] = crafted.places[0]
    crafted.codes[:] = crafted.codes[0]


def a_row_in_two_partitions(crafted):
    crafted.places[crafted.starts[1]] = crafted.places[0]


def a_row_of_another_block(crafted):
    crafted.places[-1] = 2 * SEALED


def rows_that_are_missing(crafted):
    crafted.starts = crafted.starts - crafted.starts[1]
    crafted.starts[0] = 0
    crafted.places, crafted.codes = (
        crafted.places[-crafted.starts[-1] :],
        crafted.codes[-2 * crafted.starts[-1] :],
    )


def starts_that_wrap_around(crafted):
    crafted.starts[1:3] = 2**63 - 1, -2


def starts_before_the_file(crafted):
    crafted.starts[1] = -8


def a_block_twice(crafted):
    crafted.stamps = np.concatenate([crafted.stamps, crafted.stamps])


def a_block_to_come(crafted):
    crafted.stamps[:, 0] += 1


def no_block(crafted):
    crafted.stamps = crafted.stamps[:0]


def a_centroid_that_is_no_number(crafted):
    crafted.centroids[3] = np.nan


def a_centroid_near_everything(crafted):
    crafted.centroids[3] *= 1000


def codes_of_others(crafted):
    crafted.codes[:] = ~crafted.codes


CRAFTS = [
    one_row,
    a_row_in_two_partitions,
    a_row_of_another_block,
    rows_that_are_missing,
    starts_that_wrap_around,
    starts_before_the_file,
    a_block_twice,
    a_block_to_come,
    no_block,
    a_centroid_that_is_no_number,
    a_centroid_near_everything,
    codes_of_others,
]


@pytest.mark.parametrize("craft", CRAFTS, ids=lambda craft: craft.__name__)
def test_a_crafted_file_changes_no_answer_and_that_is_told(whole, path, craft):
    path.hardlink_to(whole[0])
    crafted = Crafted(path_of(whole[0]))
    craft(crafted)
    if craft in (starts_that_wrap_around, starts_before_the_file):
        crafted.write = lambda target: target.write_bytes(with_starts(path_of(whole[0]), crafted.starts))
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True) as exact:
        expected = [exact.search(row, k=20) for row in whole[1][:3]]
    crafted.write(path_of(path))
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True, memory_budget="30MB") as index:
        for row, hits in zip(whole[1], expected, strict=False):
            explained = index.explain(row, k=20)
            assert explained.hits == hits
            assert explained.search == "exact"
            assert "edgeret optimize" in explained.fallback
        assert index.info().covered == 0


def with_starts(path, starts):
    """The file with other starts and the checksum that they need."""
    content = bytearray(path.read_bytes())
    *head, crc = _HEAD.unpack(content[: _HEAD.size])
    _, _, dim, count, blocks, _ = head
    at = _HEAD.size + 24 * blocks + 2 * dim * count
    content[at : at + 8 * len(starts)] = starts.astype("<i8").tobytes()
    crc = zlib.crc32(content[_HEAD.size : at + 8 * len(starts) + 8 * count])
    content[: _HEAD.size] = _HEAD.pack(*head, crc)
    return bytes(content)


@pytest.mark.parametrize("count", [0, 1000, 50_000_000])
def test_what_a_head_announces_takes_no_memory(whole, path, count):
    shutil.copy(whole[0], path)
    with path_of(path).open("wb") as file:
        file.write(_HEAD.pack(_MAGIC, 2, DIM, count, 1, 0, 0))
        file.truncate(_HEAD.size + 24 + 2 * count * DIM + 8 * (count + 1) + 8 * count)
    tracemalloc.start()
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        assert index.info().fallback
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "device"])
def test_what_is_no_file_is_not_used_and_that_is_told(whole, path, kind):
    path.hardlink_to(whole[0])
    side = path_of(path)
    if kind == "pipe":
        os.mkfifo(side)
    elif kind == "folder":
        side.mkdir()
    else:
        side.symlink_to("nowhere" if kind == "link to nothing" else "/dev/zero")
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True) as index:
        explained = index.explain(whole[1][9])
    assert explained.hits[0].id == "d9"
    assert explained.fallback


@pytest.mark.parametrize("reads", [0, 1, 2, 100, 200])
def test_a_medium_that_fails_at_any_read_changes_no_answer(whole, path, monkeypatch, reads):
    path.hardlink_to(whole[0])
    shutil.copy(path_of(whole[0]), path_of(path))
    real, left = os.pread, [reads]

    def pread(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, "pread", pread)
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True) as index:
        for row in (9, 10, 11):
            assert index.search(whole[1][row])[0].id == f"d{row}"
        assert "Input/output error" in index.info().fallback


def test_a_budget_without_room_for_them_opens_without_them(whole, path):
    """What lies beside an index does not keep it from being opened."""
    path.hardlink_to(whole[0])
    crafted = Crafted(path_of(whole[0]))
    crafted.places, order = np.arange(SEALED, dtype=np.uint32), np.argsort(crafted.places)
    by_partition = [
        crafted.codes[2 * start : 2 * stop].reshape(2, -1).T
        for start, stop in itertools.pairwise(crafted.starts.tolist())
    ]
    crafted.codes = np.ascontiguousarray(np.concatenate(by_partition)[order].T).reshape(-1)
    crafted.centroids, crafted.starts = crafted.centroids[:1], np.array([0, SEALED])
    crafted.write(path_of(path))
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True) as index:
        assert index.info().fallback == ""
        needed = index.info().planned_bytes
        least = next(size for size in range(needed // 2, needed, 20_000) if opens(path, size))
    with edgeret.Index.open(path, model=FakeEncoder(), readonly=True, memory_budget=least) as index:
        assert "memory budget" in index.info().fallback
        assert index.search(whole[1][9])[0].id == "d9"


def opens(path, budget):
    try:
        edgeret.Index.open(path, model=FakeEncoder(), readonly=True, memory_budget=budget).close()
    except edgeret.errors.BudgetError:
        return False
    return True


def test_the_shell_writes_partitions_and_tells_what_they_cover(whole, path, capsys):
    shutil.copy(whole[0], path)
    assert cli.main(["optimize", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["file_bytes"]) == (SEALED, path_of(path).stat().st_size)
    assert cli.main(["optimize", str(path.with_name("none.edgeret"))]) == 1
    assert "none.edgeret" in capsys.readouterr().err
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        assert (index.info().covered, index.info().fallback) == (SEALED, "")
