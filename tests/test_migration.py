"""Files of format 1: read as they are, migrated when they are opened to write, upgraded when that is asked."""

import errno
import shutil
import sqlite3
from contextlib import closing

import pytest
from crash import workload
from damage import alter, describe
from fake import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index, Section
from edgeret.errors import (
    BudgetError,
    CorruptIndexError,
    FormatVersionError,
    LockedError,
    NeedsUpgradeError,
    ReadOnlyError,
    StorageError,
)
from edgeret.shell.cli import main
from edgeret.storage import migration
from edgeret.storage.store import Store
from edgeret.storage.vocabulary import Vocabulary


def format_of(path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def objects(path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


def test_readers_leave_the_first_format_and_are_answered_by_fts5(first_format):
    path, encoder = first_format
    before = path.read_bytes()
    with Index.open(path, encoder, readonly=True) as index:
        explained = index.explain("lamp battery", mode="lexical")
        assert (explained.words, explained.words_bytes, explained.words_runs) == ("fts5", 0, 0)
        assert explained.hits[0].score > 1
        assert index.explain([1.0] * 16).words == ""
        assert index.info().format == 1
        assert index.check().lexicon == "verified"
        with pytest.raises(ReadOnlyError):
            index.add(["x"])
    assert path.read_bytes() == before


def test_who_opens_a_small_file_to_write_migrates_it(first_format):
    path, encoder = first_format
    with Index.open(path, encoder) as index:
        assert index.info().format == 2
        explained = index.explain("lamp battery", mode="lexical")
        assert explained.words == "lexicon"
        assert explained.words_bytes > 0 < explained.words_runs
        assert 0 < explained.hits[-1].score <= explained.hits[0].score <= 1
        assert index.check().lexicon == "verified"
        index.add([Document("new", "a lighthouse")])
        assert [hit.id for hit in index.search("lighthouses", mode="lexical")] == ["new"]
    assert format_of(path) == 2
    assert not {name for name in objects(path) if name.startswith("lexicon_data") or name == "passage_texts"}


@pytest.mark.parametrize("verb", ["recode", "apply", "delete", "seal"])
def test_every_change_migrates_first(first_format, tmp_path, verb):
    path, encoder = first_format
    if verb == "recode":
        edgeret.recode(path, encoder, bits=32)
    elif verb == "apply":
        other, update = tmp_path / "other", tmp_path / "update"
        shutil.copy(path, other)
        with Index.open(other, encoder) as index:
            index.delete(["d3"])
        # The documents of both formats have one name.
        with update.open("wb") as file:
            assert edgeret.diff(path, other, file).deleted == 1
        assert edgeret.apply(path, update, encoder).deleted == 1
    elif verb == "delete":
        assert main(["delete", str(path), "d3"]) == 0
    else:
        with Index.open(path, encoder, readonly=True) as index:
            index.seal(tmp_path / "sealed")
        assert format_of(path) == 1
        path = tmp_path / "sealed"
    assert format_of(path) == 2
    with Index.open(path, encoder, readonly=True) as index:
        assert index.check().lexicon == "verified"


def test_a_large_file_is_migrated_by_upgrade_alone(first_format, monkeypatch):
    path, encoder = first_format
    monkeypatch.setattr(migration, "MOST_PASSAGES", 10)
    before = path.read_bytes()
    for change in (lambda: Index.open(path, encoder), lambda: edgeret.recode(path, encoder, bits=32)):
        with pytest.raises(NeedsUpgradeError, match=r"format 1 with 77 passages: run 'edgeret upgrade"):
            change()
    assert format_of(path) == 1
    with Index.open(path, encoder, readonly=True) as index:
        assert index.search("lamp", mode="lexical")
    assert len(before) == path.stat().st_size
    seen = []
    summary = edgeret.upgrade(path, progress=lambda done, total: seen.append((done, total)))
    assert (summary.format_before, summary.format, summary.passages) == (1, 2, 77)
    assert summary.file_bytes == path.stat().st_size
    assert seen[-1] == (77, 77)
    with Index.open(path, encoder) as index:
        assert index.info().format == 2
        assert index.check().lexicon == "verified"
    again = edgeret.upgrade(path)
    assert (again.format_before, again.passages) == (2, 0)


def test_a_signed_file_stays_as_it_is(first_format, tmp_path):
    path, encoder = first_format
    path.with_name(path.name + ".sig").write_bytes(bytes(64))
    before = path.read_bytes()
    with Index.open(path, encoder) as index:
        assert index.explain("lamp", mode="lexical").words == "fts5"
        with pytest.raises(NeedsUpgradeError, match="is signed"):
            index.add(["x"])
    assert path.read_bytes() == before


@given(st.integers(0, 10**6))
@settings(max_examples=8)
def test_any_file_of_format_1_gets_the_words_of_a_fresh_index(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("old") / "index"
    encoder = FakeEncoder()
    with Index.create(path, encoder, bits=64, filters=["year"]) as index:
        index.add(workload.documents(seed % 50, 40))
        index.delete([f"d{number}" for number in range(seed % 50, seed % 50 + 40, 3)])
        expected = [index.search(query, k=50, mode="lexical") for query in ("cat", "number7 first", "long")]
    workload.downgrade(path)
    with Index.open(path, encoder, readonly=True) as index:
        assert index.check().lexicon == "verified"
        found = {hit.id for hit in index.search("cat", k=50, mode="lexical")}
        assert found == {hit.id for hit in expected[0]}
    if seed % 2:
        edgeret.upgrade(path)
    with Index.open(path, encoder) as index:
        assert index.check().lexicon == "verified"
        assert [
            index.search(query, k=50, mode="lexical") for query in ("cat", "number7 first", "long")
        ] == expected


def test_upgrade_in_the_shell(first_format, capsys):
    path, _ = first_format
    assert main(["upgrade", str(path), "--json"]) == 0
    assert '"format_before": 1' in capsys.readouterr().out
    assert format_of(path) == 2


def test_upgrade_leaves_an_open_index_to_be_opened_again(first_format):
    path, encoder = first_format
    with Index.open(path, encoder, readonly=True) as reader:
        edgeret.upgrade(path)
        with pytest.raises(FormatVersionError, match="close it and open it again"):
            reader.search("lamp", mode="lexical")
    with Index.open(path, encoder, readonly=True) as reader:
        assert reader.explain("lamp", mode="lexical").words == "lexicon"


def test_a_search_goes_on_with_the_state_that_it_began_with(first_format):
    path, _ = first_format
    with closing(Store(path, readonly=True)) as store, store.reading():
        with pytest.raises(LockedError, match="run 'edgeret compact'"):
            edgeret.upgrade(path)
        assert len(store.lexicon.search("lamp", 3).rows)
    assert format_of(path) == 2


def test_upgrade_waits_for_no_writer(first_format):
    path, _ = first_format
    with closing(Store(path, readonly=False)) as store, store.writing(), pytest.raises(LockedError):
        edgeret.upgrade(path)


def test_upgrade_is_refused_before_it_begins_where_there_is_no_room(first_format, monkeypatch):
    path, _ = first_format
    monkeypatch.setattr("edgeret.files.free_bytes", lambda _: 1)
    with pytest.raises(StorageError, match="bytes free beside"):
        edgeret.upgrade(path)
    with pytest.raises(BudgetError):
        edgeret.upgrade(path, memory_budget="1MB")
    assert format_of(path) == 1


def test_an_interrupted_upgrade_has_done_nothing(first_format, monkeypatch):
    path, encoder = first_format

    def fail(vocabulary):
        yield 3
        raise OSError(errno.EIO, "no more")

    with monkeypatch.context() as patch:
        patch.setattr(Vocabulary, "build", fail)
        with pytest.raises(OSError, match="no more"):
            edgeret.upgrade(path)
    assert format_of(path) == 1
    with Index.open(path, encoder, readonly=True) as index:
        assert index.check().lexicon == "verified"


def test_a_damaged_text_is_named_by_upgrade_and_stays_as_it_was(first_format):
    path, _ = first_format
    alter(path, "UPDATE documents SET text = 'other' WHERE id = 'd3'")
    with pytest.raises(CorruptIndexError, match="'d3' is not what was written"):
        edgeret.upgrade(path)
    assert format_of(path) == 1


# -- what the description says of the words


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        (
            {"language": '"xx"'},
            FormatVersionError,
            "got 'xx': upgrade edgeret",
        ),
        ({"tokenizer": "2"}, FormatVersionError, "has 2 and 1: upgrade edgeret"),
        ({"stemmer": "2"}, FormatVersionError, "has 1 and 2: upgrade edgeret"),
        ({"tokenizer": "0"}, NeedsUpgradeError, "has 0 and 1: run 'edgeret upgrade"),
        ({"tokenizer": '"x"'}, CorruptIndexError, "its tokenizer are"),
        ({"language": "3"}, CorruptIndexError, "its language are"),
    ],
    ids=str,
)
@pytest.mark.parametrize("readonly", [False, True])
def test_words_of_other_rules_are_refused_by_name(sound, encoder, entries, error, message, readonly):
    describe(sound, **entries)
    with pytest.raises(error, match=message):
        Index.open(sound, encoder, readonly=readonly)


def test_upgrade_makes_words_of_older_rules_anew(sound, encoder):
    describe(sound, tokenizer="0")
    alter(sound, "UPDATE lexicon_tail SET words = x''")
    assert edgeret.upgrade(sound).passages == 20
    with Index.open(sound, encoder) as index:
        assert index.check().lexicon == "verified"
        assert index.search("number7", mode="lexical")[0].id == "d7"


def test_upgrade_refuses_words_of_newer_rules(sound):
    describe(sound, tokenizer="9")
    with pytest.raises(FormatVersionError, match="upgrade edgeret"):
        edgeret.upgrade(sound)


def test_lines_of_a_later_edgeret_stay(sound, encoder, tmp_path):
    describe(sound, surplus="x")
    edgeret.recode(sound, encoder, bits=64)
    edgeret.reencode(sound, FakeEncoder(seed=1))
    with Index.open(sound, FakeEncoder(seed=1)) as index:
        index.compact()
        assert ("surplus", "x") in index._store.description.others
        assert index.check().documents == 20


# -- contexts


def with_contexts(path, encoder) -> dict[str, str]:
    """Give three documents contexts; id -> context."""
    told = {f"d{number}": f"a heading {number}" for number in (1, 5, 9)}
    with Index.open(path, encoder) as index:
        found = [index.get(identity) for identity in told]
        index.delete(list(told))
        index.add(found, chunk=lambda document: [Section(0, len(document.text), told[document.id])])
        index.check()
    return told


def contexts(path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(
            connection.execute(
                "SELECT id, context FROM contexts JOIN passages USING (row) JOIN documents USING (doc)"
            )
        )


def test_contexts_survive_everything_that_keeps_passages(sound, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeret.blocks.BLOCK_ROWS", 8)
    monkeypatch.setattr("edgeret.upkeep.recode._BATCH_ROWS", 4)
    monkeypatch.setattr("edgeret.upkeep.check._BATCH_ROWS", 4)
    sound.unlink()
    with Index.create(sound, encoder, bits=96) as index:
        index.add([Document(f"d{i}", f"red cat number{i}") for i in range(20)])
    before = tmp_path / "before"
    shutil.copy(sound, before)
    told = with_contexts(sound, encoder)
    assert contexts(sound) == told
    with (tmp_path / "update").open("wb") as file:
        assert edgeret.diff(before, sound, file).added == 3
    edgeret.apply(before, tmp_path / "update", encoder)
    assert contexts(before) == told
    assert edgeret.apply(before, tmp_path / "update", encoder).added == 0
    edgeret.recode(sound, encoder, bits=64)
    assert contexts(sound) == told
    with Index.open(sound, encoder) as index:
        index.backup(tmp_path / "copy")
        # Their block is emptied, and they get new rows.
        index.delete([f"d{number}" for number in range(20) if f"d{number}" not in told])
        index.compact()
        index.check()
        index.seal(tmp_path / "sealed")
    for path in (sound, tmp_path / "copy", tmp_path / "sealed"):
        assert contexts(path) == told
    edgeret.repair(sound, tmp_path / "repaired", encoder)
    assert contexts(tmp_path / "repaired") == told
    with Index.open(sound, encoder) as index:
        index.delete(["d5"], erase=True)
        index.add([Document("d9", "another text")])
        index.check()
    assert contexts(sound) == {"d1": told["d1"]}
    assert b"a heading 5" not in sound.read_bytes()
