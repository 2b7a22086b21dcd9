"""One behavior in every way of searching, and what partitions promise beside it."""

import json
import math
import shutil

import numpy as np
import pytest
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import cli
from edgeret.partitions import path_of

ROWS = 18_000
SEALED = 16_384
TOPICS = 200


def vectors() -> np.ndarray:
    rng = np.random.default_rng(5)
    topics = rng.normal(size=(TOPICS, DIM))
    found = topics[rng.integers(TOPICS, size=ROWS)] + 0.6 * rng.normal(size=(ROWS, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of a full block and a tail, with partitions beside it; and its vectors."""
    path = tmp_path_factory.mktemp("partitions") / "whole.edgeret"
    rows = vectors()
    with edgeret.Index.create(path, model=FakeEncoder(), bits=96, filters=["year"]) as index:
        index.add(
            edgeret.Document(f"d{n}", f"text {n}", {"year": n % 1000, "odd": n % 2}, vector=row)
            for n, row in enumerate(rows)
        )
    summary = edgeret.optimize(path)
    assert (summary.rows, summary.partitions) == (SEALED, math.isqrt(SEALED))
    return path, rows


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
    for row in range(0, ROWS, 197):
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


def test_partitions_find_what_the_exact_scan_finds_in_a_small_part_of_the_rows(whole):
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
    assert np.mean(shared) / 10 >= 0.95
    assert {explained.covered for explained in found} == {SEALED}
    assert {explained.fallback for explained in found + wanted} == {""}
    assert {explained.scanned for explained in wanted} == {ROWS}
    assert max(explained.scanned for explained in found) < ROWS - SEALED + 0.4 * SEALED


def test_partitions_of_another_index_cover_nothing(whole, path):
    whole_path, rows = whole
    with edgeret.Index.create(path, model=FakeEncoder(), bits=96) as index:
        index.add(edgeret.Document(f"o{n}", "other", vector=row) for n, row in enumerate(rows[::-1][:17_000]))
    shutil.copy(path_of(whole_path), path_of(path))
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        explained = index.explain(rows[-5])
    assert explained.hits[0].id == "o4"
    assert (explained.covered, explained.scanned) == (0, 17_000)


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


def test_partitions_of_an_index_encoded_anew_cover_nothing(whole, path):
    shutil.copy(whole[0], path)
    shutil.copy(path_of(whole[0]), path_of(path))
    edgeret.Index.reencode(path, FakeEncoder())
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        explained = index.explain(whole[1][9])
    assert explained.hits[0].id == "d9"
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


def test_the_shell_writes_partitions_and_tells_what_they_cover(whole, path, capsys):
    shutil.copy(whole[0], path)
    assert cli.main(["optimize", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["file_bytes"]) == (SEALED, path_of(path).stat().st_size)
    assert cli.main(["optimize", str(path.with_name("none.edgeret"))]) == 1
    assert "none.edgeret" in capsys.readouterr().err
    with edgeret.Index.open(path, model=FakeEncoder()) as index:
        assert (index.info().covered, index.info().fallback) == (SEALED, "")
