"""Documents in the order of their ids, counts and values: judged by what a dictionary says, beside any change."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from counts import tries
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_formats import INDEXES, unpack

from edgeret import Document, Index
from edgeret.errors import ClosedError, CorruptIndexError, FilterError, InvalidQueryError
from edgeret.storage import listing

SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.0**60, "", "1", "x", "é\n"])
)
VALUES = SCALARS | st.lists(SCALARS, max_size=3)
METADATA = st.dictionaries(
    st.sampled_from(["year", "lang", "a.b", 'q"', ""]),
    VALUES | st.dictionaries(st.just("b"), VALUES),
    max_size=3,
)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every listing takes several readings, and sorts no more than two documents."""
    monkeypatch.setattr(listing, "_IDS_AT_ONCE", 3)
    monkeypatch.setattr(listing, "_OCTETS_AT_ONCE", 60)
    monkeypatch.setattr(listing, "_FEW", 2)


@pytest.fixture
def filled(index, small_parts) -> Index:
    index.add(
        Document(f"d{n:02}", f"red cat {n}", {"year": n % 3, "tags": ["x", f"t{n}"], "in": {"ner": n > 5}})
        for n in range(20)
    )
    return index


# -- order


def test_documents_come_in_the_order_of_their_ids_whole(index, small_parts):
    ids = ["b", "a", "Z", "é", "aa", "0", "\U0001f98a", "\uffee", "a\nb", "中文"]
    vector = np.random.default_rng(0).normal(size=DIM)
    index.add(Document(id, f"text of {id}", {"n": n}, vector if n % 2 else None) for n, id in enumerate(ids))
    assert list(index.ids()) == sorted(ids)
    assert [index.get(id) for id in sorted(ids)] == list(index.documents())


@given(
    after=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    limit=st.none() | st.integers(0, 30),
)
@settings(max_examples=tries(60))
def test_after_and_limit_cut_the_same_list(tmp_path_factory, after, limit):
    with Index.create(tmp_path_factory.mktemp("x") / "x.edgeret", FakeEncoder(), bits=64) as index:
        index.add(Document(id, "text") for id in ["a", "ab", "b", "d", "é"])
        expected = [id for id in index.ids() if after is None or id > after][:limit]
        assert list(index.ids(after=after, limit=limit)) == expected
        assert [document.id for document in index.documents(after=after, limit=limit)] == expected


def test_page_after_page_gives_each_document_once(filled):
    found: list[str] = []
    while page := list(filled.ids(after=found[-1] if found else None, limit=7)):
        found += page
    assert found == list(filled.ids())
    assert len(found) == 20


def test_a_condition_lets_the_same_documents_pass_as_a_search(filled):
    for where in (
        {"year": 1}, {"year": {"$gt": 5}}, {"year": {"$ne": 1}, "in.ner": True}, {"tags": "t7"}, {},
        {"$or": [{"year": 0}, {"tags": {"$contains": "t1"}}]},
    ):  # fmt: skip
        expected = sorted(hit.id for hit in filled.search("cat", k=50, where=where))
        assert list(filled.ids(where)) == [document.id for document in filled.documents(where)] == expected
        assert filled.count(where) == len(expected)
        assert list(filled.ids(where, after="d09", limit=2)) == [id for id in expected if id > "d09"][:2]


def test_few_documents_are_sorted_and_many_are_passed_in_order(filled):
    plans = []
    filled._connections.read(lambda store, _: store.connection.set_trace_callback(plans.append))
    assert len(list(filled.ids({"year": 1}))) == 7
    assert any("json_each" in plan and "d.filter_0" not in plan and "ORDER BY d.id" in plan for plan in plans)
    plans.clear()
    assert list(filled.ids({"year": 1, "tags": "t7"})) == ["d07"]
    assert any("d.filter_0" in plan and "ORDER BY d.id" in plan for plan in plans)


def test_ids_are_read_from_their_index_alone(filled):
    plan = filled._store.connection.execute(
        "EXPLAIN QUERY PLAN SELECT d.id FROM documents d WHERE d.id > ? AND 1 ORDER BY d.id LIMIT ?", ("", 5)
    ).fetchall()
    assert [step[3] for step in plan] == ["SEARCH d USING COVERING INDEX sqlite_autoindex_documents_1 (id>?)"]


def test_ids_are_asked_as_metadata_are(filled):
    ids = list(filled.ids())
    for condition, expected in (
        ("d07", ["d07"]), ({"$ne": "d07"}, [id for id in ids if id != "d07"]), ({"$in": ["d01", "x"]}, ["d01"]),
        ({"$nin": ids[2:]}, ids[:2]), ({"$gte": "d18"}, ["d18", "d19"]), ({"$startswith": "d0"}, ids[:10]),
        ({"$not": {"$startswith": "d0"}}, ids[10:]), ({"$gt": "d01", "$lte": "d03"}, ["d02", "d03"]),
    ):  # fmt: skip
        assert list(filled.ids({"$id": condition})) == expected
        assert sorted(hit.id for hit in filled.search("cat", k=30, where={"$id": condition})) == expected
    assert filled.count({"$or": [{"$id": "d01"}, {"tags": "t5"}], "year": 1}) == 1
    assert filled.delete(where={"$id": {"$startswith": "d1"}, "year": 0}) == 3


# -- beside changes


def test_whoever_goes_through_them_may_change_them(filled):
    seen = []
    for document in filled.documents():
        seen.append(document.id)
        filled.add([Document(document.id, f"{document.text} again", document.metadata)])
        filled.update(document.id, {"seen": True})
    assert seen == [f"d{n:02}" for n in range(20)]
    assert filled.count({"seen": True}) == 20
    for id in filled.ids({"year": 0}):
        filled.delete([id])
    assert filled.count() == len(filled) == 13
    assert filled.delete(filled.ids()) == 13
    assert list(filled.documents()) == []


def test_a_document_that_stays_comes_once_beside_a_writer(filled, path, encoder):
    stays = {f"d{n:02}" for n in range(0, 20, 2)}
    with Index.open(path, encoder) as writer:
        for mine in (filled.ids(), filled.documents(), filled.ids({"in.ner": {"$exists": True}})):
            seen: Counter[str] = Counter()
            for number, one in enumerate(mine):
                seen[one if isinstance(one, str) else one.id] += 1
                writer.delete(["d01", "d07", f"new{number - 1}"])
                writer.add(
                    [
                        Document(f"new{number}", "more"),
                        Document("d06", f"replaced {number}", {"in": {"ner": 1}}),
                    ]
                )
            assert {id for id in seen if id in stays} == stays
            assert max(seen.values()) == 1


def test_a_reading_of_a_reader_is_one_state(filled, path, encoder):
    with Index.open(path, encoder, readonly=True) as reader:
        assert reader.count({"year": 1}) == 7
        filled.delete(where={"year": 1})
        assert reader.count({"year": 1}) == filled.count({"year": 1}) == 0
        assert "d01" not in reader
        assert dict(reader.facets("year")) == {0: 7, 2: 6}


def test_a_closed_index_lists_nothing(filled):
    listed = filled.documents()
    next(listed)
    filled.close()
    with pytest.raises(ClosedError):
        list(listed)
    for call in (
        filled.ids,
        filled.documents,
        filled.count,
        lambda: filled.facets("year"),
        lambda: "a" in filled,
    ):
        with pytest.raises(ClosedError):
            call()


def test_a_sealed_file_is_listed_and_stays_as_it_is(filled, tmp_path, encoder):
    sealed = tmp_path / "sealed.edgeret"
    filled.seal(sealed)
    sealed.chmod(0o400)
    content = sealed.read_bytes()
    with Index.open(sealed, encoder, readonly=True) as index:
        assert list(index.documents()) == list(filled.documents())
        assert index.facets("tags") == filled.facets("tags")
        assert index.count({"year": 1}) == 7
        assert [hit.id for hit in index.similar("d03")] == [hit.id for hit in filled.similar("d03")]
    assert sealed.read_bytes() == content
    assert list(tmp_path.glob("sealed*")) == [sealed]


@pytest.mark.parametrize("folder", INDEXES, ids=lambda folder: folder.name)
def test_files_of_every_format_are_listed(folder, tmp_path):
    path, expected, encoder = unpack(folder, tmp_path)
    with Index.open(path, encoder, readonly=True) as index:
        assert list(index.ids()) == sorted(expected["documents"])
        assert [[document.text, document.metadata] for document in index.documents()] == [
            expected["documents"][id] for id in index.ids()
        ]
        assert index.count() == len(expected["documents"])
        assert ("d3" in index, "none" in index) == (True, False)
        assert sum(count for _, count in index.facets("year", {"year": {"$exists": True}})) > 0
        assert index.vectors("d3").shape == (1, encoder.dim)


# -- one document


def test_membership_and_vectors(index):
    text = " ".join(f"Sentence {n} of a long text is here." for n in range(40))
    vector = np.random.default_rng(0).normal(size=DIM)
    index.add([Document("long", text), Document("own", "x", vector=vector)])
    assert "long" in index
    assert "lon" not in index
    assert "\udce9" not in index
    with pytest.raises(InvalidQueryError, match="ids are strings"):
        5 in index  # noqa: B015
    vectors = index.vectors("long")
    assert vectors.shape == (index.info().passages - 1, DIM)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    hits = [index.search(row, k=1, min_score=0.9)[0] for row in vectors]
    assert [hit.start for hit in hits] == sorted(hit.start for hit in hits)
    np.testing.assert_array_equal(index.vectors("own")[0], index.get("own").vector)
    assert index.vectors("none") is None


# -- values


def kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "number" if isinstance(value, int | float) else "text"


def values(metadata: dict[str, Any], key: str) -> set[tuple[str, Any]]:
    """What `where` compares: each element of a list."""
    outer, _, inner = key.partition(".")
    held = [metadata[key]] if key in metadata else []
    if inner and isinstance(metadata.get(outer), dict) and inner in metadata[outer]:
        held.append(metadata[outer][inner])
    flat = [entry for value in held for entry in (value if isinstance(value, list) else [value])]
    return {(kind(entry), entry) for entry in flat if not isinstance(entry, dict)}


@given(st.lists(METADATA, max_size=6), st.sampled_from(["year", "lang", "a.b", "lang.b", 'q"', "", "none"]))
@settings(max_examples=tries(150))
def test_facets_agree_with_the_oracle_and_with_where(tmp_path_factory, several, key):
    path = tmp_path_factory.mktemp("facets") / "x.edgeret"
    with Index.create(path, FakeEncoder(), bits=64, filters=["year"]) as index:
        index.add(Document(str(n), f"text {n}", metadata) for n, metadata in enumerate(several))
        expected = Counter(found for metadata in several for found in values(metadata, key))
        found = index.facets(key)
        assert Counter({(kind(value), value): count for value, count in found}) == expected
        assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)
        for value, count in found:
            assert index.count({key: value}) == count
        assert index.facets(key, limit=1) == found[:1]


def test_facets_of_those_that_meet_a_condition(filled):
    assert filled.facets("tags", {"year": 1}, limit=2) == [("x", 7), ("t1", 1)]
    assert filled.facets("in.ner") == [(True, 14), (False, 6)]
    assert filled.facets("in") == []
    with pytest.raises(FilterError, match="at most 16 keys"):
        filled.facets("a" + ".a" * 16)


# -- damage


def test_a_damaged_document_is_named_and_those_before_it_are_not_lost(filled):
    filled._store.connection.execute("UPDATE documents SET text = 'other' WHERE id = 'd11'")
    with pytest.raises(CorruptIndexError, match="'d11' is not what was written"):
        list(filled.documents())
    assert len(list(filled.documents(limit=11))) == 11
