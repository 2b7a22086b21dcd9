"""Deleted means deleted, and what is there is its owner's alone."""

import logging
import os
import re
import stat
from collections.abc import Iterator

import pytest
import remains
from counts import CI, FULL, tries
from crash import workload
from fake import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret import Document, Encoder, Index, phrases
from edgeret.errors import FilterError, LockedError

KINDS = {"id", "metadata", "text", "vector", "code"}
ROUNDS = 10
WAYS = ["erase", "compact", "seal"]
LEAKING = [2, 21, 24]
"""Histories after which SQLite 3.40 leaves copies in its pages when it only overwrites what is deleted."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)


# -- who may read the files


@pytest.fixture
def permissive() -> Iterator[None]:
    """A umask that forbids nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_every_file_is_its_owners_alone(tmp_path, encoder, permissive):
    path = tmp_path / "x.edgeret"
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(["red cat"])
        index.backup(tmp_path / "backup.edgeret")
        index.seal(tmp_path / "sealed.edgeret")
        Index.repair(path, tmp_path / "repaired.edgeret", encoder)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes.keys() == {
        "x.edgeret",
        "x.edgeret-wal",
        "x.edgeret-shm",
        "backup.edgeret",
        "sealed.edgeret",
        "repaired.edgeret",
    }
    assert set(modes.values()) == {0o600}


# -- deleting


def test_delete_hides_at_once(index, path, encoder):
    index.add([Document("secret", "a xylophone at home", {"year": 1}), Document("other", "a red cat")])
    with Index.open(path, model=encoder, readonly=True) as reader:
        assert reader.search("xylophone")[0].id == "secret"
        index.delete(["secret"])
        for seen in (reader, index):
            assert seen.get("secret") is None
            assert [hit.id for hit in seen.search("xylophone at home")] == ["other"]
            assert seen.search("xylophone", mode="lexical") == []
            assert seen.search("xylophone", where={"year": 1}) == []


@pytest.mark.parametrize(
    ("seed", "how"),
    [
        (seed, how)
        for seed in LEAKING
        for how in WAYS
        if FULL or seed == LEAKING[0] or (CI and how == "erase")
    ],
)
def test_nothing_of_an_erased_document_remains(path, encoder, small_blocks, seed, how):
    """Histories of adding and deleting that balance SQLite's trees: what they move leaves copies behind."""
    secrets = remains.Secrets(seed)
    kept: list[str] = []
    gone: list[str] = []
    with Index.create(path, model=encoder, bits=64, filters=["tag"]) as index:
        for number in range(ROUNDS):
            added = index.add(secrets.documents(5 + 11 * (number * 7 % 6)))
            for identity in added:
                secrets.note_vectors(index, identity)
            # The last round is deleted below, after a look at what was there.
            leaving = secrets.choose(kept + added, len(kept + added) // 3)
            kept = [identity for identity in kept + added if identity not in leaving]
            if number < ROUNDS - 1:
                index.delete(leaving)
            gone += leaving
        assert index.check().blocks > 2
        # That the search below is able to find what it looks for.
        assert secrets.found(remains.content(path), leaving, kept) == dict.fromkeys(KINDS, len(leaving))
        stored = remains.terms(index)
        assert all(term in stored for identity in leaving + kept for term in secrets.terms[identity])

        if how == "erase":
            index.delete(leaving, erase=True)
        else:
            index.delete(leaving)
        if how == "compact":
            index.compact()
        if how == "seal":
            path = path.with_name("sealed.edgeret")
            index.seal(path)
        assert secrets.found(remains.content(path), gone, kept) == dict.fromkeys(KINDS, 0)
    with Index.open(path, model=encoder) as index:
        assert index.check().documents == len(kept)
        stored, separators = remains.terms(index), remains.separators(index)
    assert stored == {term for identity in kept for term in secrets.terms[identity]} | set(remains.COMMON)
    assert all(any(term.startswith(separator) for term in stored) for separator in separators)
    assert remains.free_pages(path) == 0


def test_a_reader_keeps_neither_erasing_nor_the_log_growing(index, path, encoder):
    """Whoever reads an old state needs its pages; trying again and again must not fill the disk meanwhile."""
    index.add([f"red cat number{i}" for i in range(200)])
    log = path.with_name(path.name + "-wal")
    with Index.open(path, model=encoder, readonly=True) as reader, reader._store.reading():
        sizes = []
        for _ in range(3):
            with pytest.raises(LockedError, match="reading"):
                index.compact()
            sizes.append(log.stat().st_size)
        assert sizes[-1] - sizes[0] < path.stat().st_size
    index.compact()
    assert log.stat().st_size == 0


# -- logs


def test_content_reaches_no_log(path, caplog, capfd, recwarn):
    encoder = Encoder.load("base")
    with caplog.at_level(logging.NOTSET), Index.create(path, model=encoder) as index:
        index.add([Document("secret", "a xylophone at home", {"name": "Ada"}), "a red cat"])
        for mode in ("dense", "lexical", "hybrid"):
            index.search("xylophone", mode=mode, where={"name": "Ada"})
        index.delete(["secret"], erase=True)
    captured = capfd.readouterr()
    assert (caplog.records, captured.out, captured.err, list(recwarn)) == ([], "", "", [])


# -- what is given is data, never SQL nor FTS5 syntax

FRAGMENTS = [
    *"'\"\\;()*^:+-%_?$[]{}01x \n\té",
    *(
        "''",
        "--",
        "/*",
        "?1",
        "$.",
        "1=1",
        "NEAR",
        "AND",
        "OR",
        "NOT",
        "UNION SELECT",
        "DROP TABLE documents",
    ),
    *("text", "rowid", "rank", "true", "null"),
]
nasty = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8).map("".join).filter(str.strip)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    path = tmp_path_factory.mktemp("injection") / "x.edgeret"
    with Index.create(path, model=FakeEncoder(), bits=64, filters=["year"]) as index:
        index.add([Document("bystander", "a red cat", {"year": 1})])
        yield index


def untouched(index: Index) -> None:
    found = index.search("red cat", where={"year": 1})[0]
    assert (found.id, found.text, found.metadata, len(index)) == ("bystander", "a red cat", {"year": 1}, 1)


@settings(max_examples=tries(60), deadline=None)
@given(identity=nasty, text=nasty, key=nasty, value=nasty, other=nasty)
def test_ids_texts_and_metadata_are_data(target, identity, text, key, value, other):
    document = Document(identity, text, {key: value, "year": value})
    assert target.add([document]) == [identity]
    assert target.get(identity) == document
    for where in ({key: value}, {"year": value}, {key: {"$in": [value]}}):
        try:
            found = [hit.id for hit in target.search("red cat", where=where)]
        except FilterError:
            assert key.startswith("$")  # An operator, to `where`.
        else:
            assert found == [identity]
    if other != value:
        assert identity not in [hit.id for hit in target.search("red cat", where={"year": other})]
    if other != identity:
        assert target.get(other) is None
        assert target.delete([other]) == 0
    assert target.delete([identity]) == 1
    untouched(target)


@settings(max_examples=tries(100), deadline=None)
@given(nasty)
def test_queries_are_words(target, query):
    words = {word.lower() for word in re.findall(r"\w+", query)}
    for mode in ("dense", "lexical", "hybrid"):
        hits = target.search(query, mode=mode)
        said = phrases.said(phrases.of(query), "a red cat")
        assert len(hits) == (mode != "lexical" or (said and bool(words & {"a", "red", "cat"})))
    untouched(target)
