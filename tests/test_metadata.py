"""Metadata change and nothing is encoded: update, update_many, and what is deleted by a condition."""

import random
import time
from typing import Any

import numpy as np
import pytest
import remains
from counts import long, tries
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_listing import METADATA

import edgeret
from edgeret import Document, Index
from edgeret.errors import (
    BudgetError,
    FilterError,
    InvalidDocumentError,
    InvalidQueryError,
    LockedError,
    NeedsUpgradeError,
    ReadOnlyError,
    ReentrantError,
)


@pytest.fixture
def filled(index) -> Index:
    vector = np.random.default_rng(0).normal(size=DIM)
    index.add([Document("own", "red bird", {"year": 9}, vector)])
    index.add(Document(f"d{n}", f"red cat {n}", {"year": n, "lang": "en"}) for n in range(6))
    return index


def test_update_merges_or_replaces_and_encodes_nothing(filled, encoder):
    encoder.encoded.clear()
    before = filled.get("own"), filled.vectors("d1")
    assert filled.update("d1", {"year": 50, "tags": ["x"]})
    assert filled.get("d1").metadata == {"lang": "en", "tags": ["x"], "year": 50}
    assert filled.update("d2", {"tags": ["x"]}, merge=False)
    assert filled.get("d2").metadata == {"tags": ["x"]}
    assert filled.update("d3", {}, merge=False)
    assert filled.get("d3").metadata == {}
    assert not filled.update("none", {"year": 1})
    assert filled.get("own") == before[0]
    np.testing.assert_array_equal(filled.vectors("d1"), before[1])
    assert sorted(filled.ids({"tags": "x"})) == ["d1", "d2"]
    assert sorted(filled.ids({"year": {"$gte": 9}})) == ["d1", "own"]
    assert encoder.encoded == []
    filled.check()


def test_what_was_updated_is_the_document_that_would_have_been_added(filled, path, tmp_path, encoder):
    """So an update, and a content hash, cannot tell them apart; adding it again encodes nothing."""
    filled.update_many({"own": {"year": 1}, "d0": {"lang": "de"}})
    encoder.encoded.clear()
    generation = filled.info().generation
    filled.add(list(filled.documents()))
    assert (filled.info().generation, encoder.encoded) == (generation, [])
    filled.close()
    with (
        Index.create(tmp_path / "fresh.edgeret", encoder, bits=96, filters=["year"]) as fresh,
        Index.open(path, encoder) as index,
    ):
        fresh.add(index.documents())
    with (tmp_path / "diff").open("wb") as file:
        summary = edgeret.diff(path, tmp_path / "fresh.edgeret", file)
    assert summary.before == summary.after


@given(st.dictionaries(st.sampled_from("abc"), METADATA, min_size=1), st.data())
@settings(max_examples=tries(60))
def test_any_history_agrees_with_a_dictionary(tmp_path_factory, first, data):
    expected: dict[str, dict[str, Any]] = dict(first)
    path = tmp_path_factory.mktemp("history") / "x.edgeret"
    with Index.create(path, FakeEncoder(), bits=64, filters=["year"]) as index:
        index.add(Document(id, f"text {id}", metadata) for id, metadata in first.items())
        for _ in range(3):
            changes = data.draw(st.lists(st.tuples(st.sampled_from("abcd"), METADATA), max_size=3))
            merge = data.draw(st.booleans())
            for id, metadata in changes:
                if id in expected:
                    expected[id] = {**expected[id], **metadata} if merge else metadata
            assert index.update_many(changes, merge) == sum(id in expected for id, _ in changes)
        assert {document.id: document.metadata for document in index.documents()} == expected
        index.check()


def test_a_bad_change_changes_nothing(filled):
    before = filled.info(), list(filled.documents())
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"x": deep}
    for bad in ({"x": object()}, {"x": float("nan")}, {"x": 2**70}, {1: 2}, {"x": "\0"}, deep):
        with pytest.raises(InvalidDocumentError):
            filled.update_many([("d0", {"year": 77}), ("d1", bad)])
        with pytest.raises(InvalidDocumentError):
            filled.update("d1", bad, merge=False)
    for pairs in (
        [("d0", {"year": 77}), ("d1",)],
        [("d0", {"year": 77}), "d1"],
        [("d0", {"year": 77}), (5, {})],
    ):
        with pytest.raises(InvalidQueryError):
            filled.update_many(pairs)
    with pytest.raises(ZeroDivisionError):
        filled.update_many((f"d{n}", {"year": 1 // n}) for n in (1, 0))
    assert (filled.info(), list(filled.documents())) == before


def test_nested_keys_are_given_whole(filled):
    filled.update("d0", {"author": {"name": "Ada", "born": 1815}})
    filled.update("d0", {"author": {"name": "Byron"}})
    assert filled.get("d0").metadata["author"] == {"name": "Byron"}


def test_who_may_not_write_is_told(filled, path, encoder, first_format):
    with Index.open(path, encoder, readonly=True) as reader:
        with pytest.raises(ReadOnlyError):
            reader.update("d0", {"x": 1})
        with pytest.raises(ReadOnlyError):
            reader.delete(where={"year": 1})
    with Index.open(path, encoder, wait=0) as other, filled._store.writing(), pytest.raises(LockedError):
        other.update("d0", {"x": 1})
    with pytest.raises(ReentrantError):
        filled.update_many((id, {"x": filled.update("d0", {})}) for id in ["d1"])
    signed, reader = first_format
    signed.with_name(signed.name + ".sig").write_bytes(b"x" * 64)
    with Index.open(signed, reader) as index, pytest.raises(NeedsUpgradeError):
        index.update("d3", {"x": 1})


def test_metadata_beyond_the_budget_are_refused(path, encoder):
    with Index.create(path, encoder, bits=64, memory_budget="16MB") as index:
        index.add([Document("a", "text")])
        with pytest.raises(BudgetError, match="'a' takes"):
            index.update("a", {"x": "y" * 3_000_000})
        assert index.update("a", {"x": "y" * 1000})
        assert list(index.ids({"x": {"$exists": True}})) == ["a"]


@long
def test_ten_thousand_changes_take_little_time(path, encoder):
    """2 seconds on a machine with nothing else to do: of this process alone, as others may be at work."""
    vector = np.random.default_rng(0).normal(size=DIM)
    with Index.create(path, encoder, bits=64, filters=["year"]) as index:
        index.add(Document(f"d{n}", f"red cat {n} " * 30, {"year": n % 50}, vector) for n in range(10_000))
        encoder.encoded.clear()
        begun = time.process_time()
        assert index.update_many((f"d{n}", {"year": n % 7, "seen": True}) for n in range(10_000)) == 10_000
        seconds = time.process_time() - begun
        assert index.count({"seen": True}) == 10_000
    assert encoder.encoded == []
    assert seconds < 4


# -- by a condition


def test_delete_where_removes_what_meets_it_and_no_other(filled):
    assert filled.delete(where={"year": {"$gte": 4}, "lang": "en"}) == 2
    assert sorted(filled.ids()) == ["d0", "d1", "d2", "d3", "own"]
    assert filled.delete(where={"lang": "none"}) == 0
    assert filled.delete(where={"lang": {"$exists": False}}, erase=True) == 1
    assert filled.search("bird", mode="lexical") == []
    filled.check()
    for arguments in ({}, {"where": {}}, {"ids": ["d0"], "where": {"year": 0}}):
        with pytest.raises(InvalidQueryError, match=r"pass index\.ids\(\)"):
            filled.delete(**arguments)
    with pytest.raises(FilterError):
        filled.delete(where={"year": {"$near": 1}})
    assert len(filled) == 4


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_delete_where_agrees_with_search(tmp_path_factory, seed):
    rng = random.Random(seed)
    with Index.create(
        tmp_path_factory.mktemp("x") / "x.edgeret", FakeEncoder(), bits=64, filters=["a"]
    ) as index:
        index.add(
            Document(str(n), f"cat {n}", {"a": rng.randrange(3), "b": rng.randrange(3)}) for n in range(12)
        )
        where = rng.choice([{"a": 1}, {"b": 1}, {"$or": [{"a": 0}, {"b": 2}]}, {"a": {"$ne": 1}}])
        found = {hit.id for hit in index.search("cat", k=20, where=where)}
        left = set(index.ids()) - found
        assert index.delete(where=where) == len(found)
        assert set(index.ids()) == left
        index.check()


# -- nothing of it remains


@pytest.mark.parametrize("how", ["erase", "compact", "seal"])
def test_nothing_of_replaced_metadata_remains(path, encoder, how):
    secrets = remains.Secrets(7)
    with Index.create(path, encoder, bits=64, filters=["tag"]) as index:
        ids = index.add(secrets.documents(60))
        index.add([Document("other", "a red cat")])
        tags = [index.get(id).metadata["tag"].encode() for id in ids]
        assert all(tag in remains.content(path) for tag in tags)
        index.update_many(((id, {"note": "gone"}) for id in ids), merge=False)
        assert index.count({"tag": {"$exists": True}}) == 0
        if how == "erase":
            index.delete(["other"], erase=True)
        elif how == "compact":
            index.compact()
        else:
            index.seal(path := path.with_name("sealed.edgeret"))
        left = remains.content(path)
        assert not any(tag in left for tag in tags)
        index.check()
    with Index.open(path, encoder) as index:
        assert index.count({"note": "gone"}) == 60


# -- mappings as documents


def test_mappings_are_documents(index):
    vector = np.random.default_rng(0).normal(size=DIM)
    index.add([
        {"id": "a", "text": "red cat", "metadata": {"year": 1}},
        {"text": "blue dog", "id": None, "metadata": None},
        {"id": "own", "text": "", "vector": vector.tolist()},
    ])  # fmt: skip
    assert index.get("a") == Document("a", "red cat", {"year": 1})
    assert [hit.text for hit in index.search("blue dog", k=1, mode="lexical")] == ["blue dog"]
    assert index.get("own").vector is not None
    assert Document(text="red cat") == Document(None, "red cat", {}, None)
    for bad, said in (
        ({"id": "b"}, "no 'text'"), ({"text": "a", "lang": "en"}, "'lang': put it into 'metadata'"), ({}, "no 'text'"),
        ({"text": "a", "metadata": 5}, "to be a mapping"), ({"text": 5}, "text to be a string"), (5, "got int"),
        (["a"], "got list"), (None, "got NoneType"), (b"a", "got bytes"), ({"text": "a", 1: 2}, "got 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidDocumentError, match=said):
            index.add([bad])
    assert len(index) == 3
