"""Diff and apply: what an update brings, when it is refused, and that nothing is half done."""

import hashlib
import io
import json
import os
import struct
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from counts import long
from crash import workload
from fake import DIM, FakeEncoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Encoder, Index
from edgeret.errors import (
    BundleError,
    CorruptIndexError,
    CorruptUpdateError,
    FormatVersionError,
    IndexMissingError,
    LockedError,
    SpaceMismatchError,
    StorageError,
    UpdateMismatchError,
)
from edgeret.fleet import shipping
from edgeret.fleet.contents import Contents
from edgeret.fleet.update import Addition, Header, Update, UpdateWriter
from edgeret.shell.cli import main
from edgeret.storage.store import Store

OTHER = FakeEncoder(codec=1)
QUERIES = [
    {"query": "red cat number7"},
    {"query": "second red cat", "mode": "lexical"},
    {"query": "red cat number30", "mode": "hybrid", "where": {"year": {"$gte": 2}}},
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)


def made(path: Path, documents: list[Document], bits: int = 96, encoder: FakeEncoder | None = None) -> Path:
    with Index.create(path, model=encoder or FakeEncoder(), bits=bits, filters=["year"]) as index:
        index.add(documents)
    return path


def copied(path: Path, target: Path) -> Path:
    with Index.open(path, model=FakeEncoder(), readonly=True) as index:
        index.backup(target)
    return target


def changed(path: Path) -> Path:
    """The index, after documents were replaced, deleted and added."""
    with Index.open(path, model=FakeEncoder()) as index:
        index.add([*workload.documents(4, 20, "second"), *workload.documents(100, 9)])
        index.delete([f"d{number}" for number in range(60, 70)])
    return path


def written(old: Path, new: Path, target: Path) -> Path:
    with target.open("wb") as file:
        edgeret.diff(old, new, file)
    return target


def described(path: Path) -> list[object]:
    """All that matters of an index, in any order of its rows: what is in it, its codes, its hits."""
    with Index.open(path, model=FakeEncoder()) as index:
        index.check()
        read = index._store.connection.execute
        rows = dict(read("SELECT row, id || start FROM passages JOIN documents USING (doc)").fetchall())
        codes = {}
        for block in index._store.codes.block_numbers():
            columns = index._store.codes.columns(block).T
            codes |= {
                rows[row]: columns[row % len(columns)].tobytes()
                for row in range(block * len(columns), (block + 1) * len(columns))
                if row in rows
            }
        tail, tail_codes = index._store.codes.tail()
        codes |= {rows[row]: code.tobytes() for row, code in zip(tail.tolist(), tail_codes, strict=True)}
        hits = [sorted(index.search(**query, k=200), key=repr) for query in QUERIES]
        return [workload.contents(index), codes, hits, index.info().documents, index.info().passages]


def contents(path: Path) -> str:
    with closing(Store(path, readonly=True)) as store, store.reading():
        return Contents.of(store).fingerprint


@pytest.fixture
def old(tmp_path) -> Path:
    return made(tmp_path / "old.edgeret", workload.documents(0, 90))


@pytest.fixture
def new(old, tmp_path) -> Path:
    return changed(copied(old, tmp_path / "new.edgeret"))


@pytest.fixture
def shipped(old, new, tmp_path) -> Path:
    return written(old, new, tmp_path / "update")


# -- what an update brings


def test_an_index_becomes_the_other_one_without_encoding_a_text(old, new, shipped):
    encoder = FakeEncoder()
    before, wanted = contents(old), described(new)
    with Index.open(old, model=encoder) as reader:
        generation = reader.info().generation
        summary = edgeret.apply(old, shipped, encoder)
        assert encoder.encoded == []
        # Whoever has it open sees it at the next search.
        assert reader.info().generation == generation + 1
        with Index.open(new, model=encoder) as other:
            for query in QUERIES:
                # Documents that stay keep their order, and so do equal scores.
                assert reader.search(**query, k=200) == other.search(**query, k=200)
    assert described(old) == wanted
    assert (summary.before, summary.after) == (before, contents(new))
    assert (summary.deleted, summary.added) == (10, 29)
    assert contents(old) == summary.after


def test_the_reverse_update_rolls_back(old, new, shipped, tmp_path):
    before = described(old)
    back = written(new, old, tmp_path / "back")
    edgeret.apply(old, shipped, FakeEncoder())
    summary = edgeret.apply(old, back, FakeEncoder())
    assert (summary.deleted, summary.added) == (9, 30)
    assert described(old) == before
    edgeret.apply(old, shipped, FakeEncoder())
    assert described(old) == described(new)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.sets(st.integers(0, 39)),
    replaced=st.sets(st.integers(0, 39), max_size=20),
    count=st.integers(0, 70),
    anew=st.booleans(),
)
def test_any_two_indexes_have_an_update(tmp_path_factory, kept, replaced, count, anew):
    """Grown out of the old one, or made anew with its rows in another order."""
    folder = tmp_path_factory.mktemp("way")
    documents = {document.id: document for document in workload.documents(0, 40)}
    old = made(folder / "old.edgeret", list(documents.values()))
    gone = documents.keys() - {f"d{number}" for number in kept | replaced}
    added = [
        *(document for number in sorted(replaced) for document in workload.documents(number, 1, "second")),
        *workload.documents(200, count),
    ]
    new = folder / "new.edgeret"
    if anew:
        wanted = {identity: document for identity, document in documents.items() if identity not in gone}
        wanted |= {document.id: document for document in added}
        made(new, list(wanted.values())[::-1])
    else:
        copied(old, new)
        with Index.open(new, model=FakeEncoder()) as index:
            index.delete(gone)
            index.add(added)
            index.compact()
    update = written(old, new, folder / "update")
    summary = edgeret.apply(old, update, FakeEncoder())
    assert (summary.deleted, summary.added) == (len(gone), len(replaced) + count)
    assert described(old) == described(new)


def test_vectors_count_too(tmp_path):
    """The same text with another vector is another document; the same documents in another order are not."""
    vectors = np.random.default_rng(0).normal(size=(3, DIM))
    one, other, turned = ([Document(str(row), "text", {}, vector) for row, vector in rows] for rows in (
        enumerate(vectors), enumerate(vectors[[0, 1, 0]]), reversed(list(enumerate(vectors))),
    ))  # fmt: skip
    paths = [
        made(tmp_path / name, documents) for name, documents in zip("abc", (one, other, turned), strict=True)
    ]
    assert contents(paths[0]) == contents(paths[2]) != contents(paths[1])
    into = io.BytesIO()
    assert edgeret.diff(paths[0], paths[1], into).added == 1
    assert edgeret.diff(paths[0], paths[2], into).added == 0


def test_contents_follow_each_change():
    passages = [(0, 5, bytes(range(96)), None), (5, 9, bytes(96), None)]
    whole = Contents("0" * 32, 64)
    empty = whole.fingerprint
    whole.add(b"a" * 16, False, passages)
    one = whole.fingerprint
    whole.add(b"b" * 16, True, passages[:1])
    assert (
        len(
            {
                empty,
                one,
                whole.fingerprint,
                Contents("0" * 32, 96).fingerprint,
                Contents("1" * 32, 64).fingerprint,
            }
        )
        == 5
    )
    whole.remove(b"b" * 16, True, passages[:1])
    assert whole.fingerprint == one
    whole.remove(b"a" * 16, False, passages[::-1])
    assert whole.fingerprint == empty
    whole.add(b"a" * 16, False, [(*passages[0][:3], "a heading"), passages[1]])
    assert whole.fingerprint not in (empty, one)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "times", [255, 256, pytest.param(65_535, marks=long), pytest.param(65_536, marks=long)]
)
def test_many_equal_passages_are_not_as_nothing(version, times):
    whole = Contents("0" * 32, 64, version)
    names = {whole.fingerprint}
    for _ in range(2):
        whole.add(b"a" * 16, False, [(0, 0, bytes(96), None)] * times)
        names.add(whole.fingerprint)
    # Of version 1 that is known, and `add` stores no passages that are equal.
    assert len(names) == (1 if (version, times) == (1, 65_536) else 3)
    whole.remove(b"a" * 16, False, [(0, 0, bytes(96), None)] * 2 * times)
    assert whole.fingerprint == Contents("0" * 32, 64, version).fingerprint


@pytest.mark.parametrize("version", [1, 2])
def test_updates_of_older_formats_are_applied(old, new, shipped, tmp_path, version):
    """The first version of the contents' names is in the first; both lack contexts and the rules of words."""
    with Update.open(shipped) as update:
        assert update.header.format == 3
        entries = list(update.entries(DIM))
    first = tmp_path / "first"
    names = []
    for path in (old, new):
        with closing(Store(path, readonly=True)) as store, store.reading():
            names.append(Contents.of(store, version).fingerprint)
    with first.open("wb") as file:
        writer = UpdateWriter(file, Header(FakeEncoder().space, update.header.bits, *names, version))
        for entry in entries:
            writer.delete(entry) if isinstance(entry, str) else writer.add(entry)
        writer.finish()
    assert first.read_bytes().startswith(f"edgeret update {version}\n".encode())
    summary = edgeret.apply(old, first, FakeEncoder())
    assert (summary.before, summary.after) == tuple(names)
    assert described(old) == described(new)
    assert edgeret.apply(old, shipped, FakeEncoder()).added == 0


def test_an_update_of_empty_passages_is_refused(old, shipped, tmp_path):
    with Update.open(shipped) as update:
        header = update.header
        addition = next(entry for entry in update.entries(DIM) if not isinstance(entry, str))
    crafted = tmp_path / "crafted"
    with crafted.open("wb") as file:
        writer = UpdateWriter(file, header)
        vectors = np.repeat(addition.vectors[:1], 65_536, axis=0)
        writer.add(Addition(replace(addition.record, vector=None), [(0, 0)] * 65_536, vectors))
        writer.finish()
    with pytest.raises(CorruptUpdateError, match="are not those of its text"):
        edgeret.apply(old, crafted, FakeEncoder())


@pytest.mark.parametrize(
    ("version", "name"),
    [
        (1, "f61f50adf0947b2a1218828c575bd5d110b80218cc6c5f29455019f259f0056b"),
        (2, "8a80fb425a393d4b2e00b12babf9eb3d153255fbacad3311b077a5906c2838a2"),
    ],
)
def test_contents_are_named_so_for_ever(tmp_path, version, name):
    """As docs/format.md says it."""
    path = made(tmp_path / "x.edgeret", [Document("a", "red cat", {"year": 1}, np.arange(1, DIM + 1.0))])
    digest = hashlib.blake2b(digest_size=16)
    for part in (b"a", b"red cat", b'{"year":1}'):
        digest.update(len(part).to_bytes(8, "little") + part)
    vector = np.rint(np.arange(1, DIM + 1) / DIM * 127).astype(np.int8)
    passage = digest.digest() + struct.pack("<3q", 1, 0, 7) + vector.tobytes()
    lanes = hashlib.shake_128(passage).digest(2048)
    coding = f"edgeret contents {version}\nspace {FakeEncoder().space}\nbits 96\n".encode()
    with closing(Store(path, readonly=True)) as store, store.reading():
        found = Contents.of(store, version).fingerprint
    assert found == hashlib.blake2b(coding + lanes, digest_size=32).hexdigest() == name


def test_applying_again_changes_nothing(old, shipped):
    edgeret.apply(old, shipped, FakeEncoder())
    with Index.open(old, model=FakeEncoder()) as index:
        before = index.info()
    summary = edgeret.apply(old, shipped, FakeEncoder())
    assert (summary.deleted, summary.added) == (0, 0)
    assert summary.before == summary.after == contents(old)
    with Index.open(old, model=FakeEncoder()) as index:
        assert index.info() == before


def test_its_size_is_that_of_what_changed(tmp_path):
    old = made(tmp_path / "old.edgeret", workload.documents(0, 800))
    sizes = []
    for count in (0, 8, 16, 32):
        new = copied(old, tmp_path / f"{count}.edgeret")
        with Index.open(new, model=FakeEncoder()) as index:
            index.add(workload.documents(300, count, "second"))
        sizes.append(written(old, new, tmp_path / f"update{count}").stat().st_size)
    assert sizes[0] < 256
    assert sizes[1] < 0.03 * old.stat().st_size
    assert sizes[3] - sizes[2] == pytest.approx(2 * (sizes[2] - sizes[1]), rel=0.2)


def test_sealed_indexes_are_compared_and_changed(old, new, tmp_path):
    sealed = []
    for path in (old, new):
        with Index.open(path, model=FakeEncoder()) as index:
            index.seal(tmp_path / f"sealed-{path.name}")
        sealed.append(tmp_path / f"sealed-{path.name}")
    images = [path.read_bytes() for path in sealed]
    shipped = written(*sealed, tmp_path / "update")
    assert [path.read_bytes() for path in sealed] == images
    edgeret.apply(sealed[0], shipped, FakeEncoder())
    assert described(sealed[0]) == described(new)


# -- when it is refused


def test_another_state_is_refused_and_stays(old, new, shipped, tmp_path):
    index = Index.open(old, model=FakeEncoder())
    index.add(["one more red cat"])
    index.close()
    image = described(old)
    with pytest.raises(UpdateMismatchError, match=r"is for contents \w{8}, index .* has \w{8}: make one"):
        edgeret.apply(old, shipped, FakeEncoder())
    assert described(old) == image
    with pytest.raises(UpdateMismatchError):
        edgeret.apply(made(tmp_path / "empty.edgeret", []), shipped, FakeEncoder())


def test_other_codes_are_refused_by_name(old, new, shipped, tmp_path):
    short = made(tmp_path / "short.edgeret", workload.documents(0, 90), bits=64)
    coded = made(tmp_path / "coded.edgeret", workload.documents(0, 90), encoder=OTHER)
    with pytest.raises(SpaceMismatchError, match=r"update .* with 96 bits, index .* with 64 bits: make one"):
        edgeret.apply(short, shipped, FakeEncoder())
    with pytest.raises(SpaceMismatchError, match="same codes"):
        edgeret.apply(coded, shipped, OTHER)
    with pytest.raises(SpaceMismatchError, match="another codec"):
        edgeret.apply(old, shipped, OTHER)
    for other in (short, coded):
        with pytest.raises(SpaceMismatchError, match="'edgeret recode', or ship the whole index"):
            edgeret.diff(old, other, io.BytesIO())


def test_other_filters_are_refused(old, tmp_path):
    Index.create(tmp_path / "plain.edgeret", model=FakeEncoder(), bits=96).close()
    with pytest.raises(UpdateMismatchError, match=r"the filters year, .* found \(none\)"):
        edgeret.diff(old, tmp_path / "plain.edgeret", io.BytesIO())


def test_a_newer_format_and_other_files_are_refused(old, shipped, tmp_path):
    later = tmp_path / "later"
    later.write_bytes(shipped.read_bytes().replace(b"update 3\n", b"update 4\n"))
    with pytest.raises(FormatVersionError, match="format 4: upgrade edgeret"):
        edgeret.apply(old, later, FakeEncoder())
    for wrong in (old, Path(__file__), tmp_path):
        with pytest.raises(CorruptUpdateError, match="expected an edgeret update"):
            edgeret.apply(old, wrong, FakeEncoder())
    with pytest.raises(StorageError, match="No such file"):
        edgeret.apply(old, tmp_path / "missing", FakeEncoder())
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CorruptUpdateError, match="is no file"):
            edgeret.apply(old, tmp_path / "pipe", FakeEncoder())


@pytest.mark.parametrize("told", [("de", 1, 1), (None, 1, 1), ("en", 2, 1), ("en", 1, 2)])
def test_words_of_another_language_or_other_rules_are_refused(old, new, shipped, tmp_path, told, monkeypatch):
    with Update.open(shipped) as update:
        header, entries = update.header, list(update.entries(DIM))
    assert header[5:] == ("en", 1, 1)
    other = tmp_path / "other"
    with other.open("wb") as file:
        writer = UpdateWriter(file, Header(*header[:5], *told))
        for entry in entries:
            writer.delete(entry) if isinstance(entry, str) else writer.add(entry)
        writer.finish()
    with Update.open(other) as update:
        assert update.header[5:] == told
    with pytest.raises(UpdateMismatchError, match="is of the language and rules of words"):
        edgeret.apply(old, other, FakeEncoder())
    monkeypatch.setattr(shipping, "_language", lambda store: told if store.path == new else ("en", 1, 1))
    with pytest.raises(UpdateMismatchError, match="expected the language and rules of words"):
        edgeret.diff(old, new, io.BytesIO())


def test_an_index_that_cannot_be_changed_is_refused(old, shipped, tmp_path):
    with pytest.raises(IndexMissingError):
        edgeret.apply(tmp_path / "missing", shipped, FakeEncoder())
    with pytest.raises(BundleError):
        edgeret.apply(old, shipped)
    with closing(Store(old, readonly=False)) as writer, writer.writing(), pytest.raises(LockedError):
        edgeret.apply(old, shipped, FakeEncoder(), wait=0)
    edgeret.apply(old, shipped, FakeEncoder())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE passages SET vector = zeroblob(96) WHERE row = 5",
        "DELETE FROM passages WHERE row = 5",
        "UPDATE passages SET doc = 7 WHERE row = 5",
        "UPDATE documents SET digest = 'x' WHERE doc = 5",
        "UPDATE documents SET own_vector = 'x' WHERE doc = 5",
        "UPDATE documents SET own_vector = 1 - own_vector WHERE doc = 5",
        # Of one that goes, and of one that is replaced.
        "UPDATE documents SET id = 'other' WHERE id = 'd61'",
        "UPDATE documents SET id = x'00ff' WHERE id = 'd61'",
        "UPDATE documents SET text = 'other' WHERE id = 'd4'",
    ],
)
def test_a_damaged_index_is_named_not_the_update(old, new, shipped, damage):
    with closing(Store(old, readonly=False)) as store:
        assert store.connection.execute(damage).rowcount == 1
    with pytest.raises((CorruptIndexError, CorruptUpdateError)) as refused:
        edgeret.apply(old, shipped, FakeEncoder())
    # Only the check of everything knows that an id is another one.
    assert refused.type is CorruptIndexError or "SET id" in damage
    if "SET text" in damage:
        return
    for pair in ((old, new), (new, old)):
        with pytest.raises(CorruptIndexError, match=r"old\.edgeret.* is damaged"):
            edgeret.diff(*pair, io.BytesIO())


# -- the shell


def test_the_commands_write_apply_and_roll_back(old, new, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: FakeEncoder()))
    before = contents(old)
    assert main(["diff", str(old), str(new)]) == 0
    (tmp_path / "there").write_bytes(capsysbinary.readouterr().out)
    assert main(["diff", str(new), str(old)]) == 0
    (tmp_path / "back").write_bytes(capsysbinary.readouterr().out)
    assert main(["apply", str(old), str(tmp_path / "there"), "--json"]) == 0
    assert json.loads(capsysbinary.readouterr().out) == {
        "path": str(old), "before": before, "after": contents(new), "deleted": 10, "added": 29,
    }  # fmt: skip
    assert main(["apply", str(old), str(tmp_path / "back")]) == 0
    assert f"after: {before}".encode() in capsysbinary.readouterr().out
    assert main(["apply", str(new), str(new)]) == 1
    assert b"expected an edgeret update" in capsysbinary.readouterr().err


def test_an_update_is_not_written_to_a_terminal(old, new, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["diff", str(old), str(new)]) == 1
    assert "edgeret diff OLD NEW > UPDATE" in capsys.readouterr().err


def test_filters_in_another_order_are_the_same(tmp_path, encoder):
    for name, filters in (("a", ["y", "z"]), ("b", ["z", "y"])):
        Index.create(tmp_path / name, encoder, filters=filters).close()
    edgeret.diff(tmp_path / "a", tmp_path / "b", io.BytesIO())
