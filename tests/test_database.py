"""The SQLite file: what opening it meets, and SQLite's errors in our words."""

import os
import shutil
import sqlite3

import pytest

from edgeret import Index
from edgeret.errors import (
    CorruptIndexError,
    IndexExistsError,
    LockedError,
    NeedsRecoveryError,
    NotAnIndexError,
    ReadOnlyError,
    StorageError,
)
from edgeret.storage import log
from edgeret.storage.file import translated


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (sqlite3.SQLITE_BUSY, LockedError, "try again when it has ended"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, LockedError, "try again when it has ended"),
        (sqlite3.SQLITE_READONLY, ReadOnlyError, "readonly=True"),
        (sqlite3.SQLITE_FULL, StorageError, "free some"),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageError, "check the disk"),
        (sqlite3.SQLITE_CANTOPEN, StorageError, "check the disk"),
        (sqlite3.SQLITE_NOTADB, NotAnIndexError, "choose another path"),
        (sqlite3.SQLITE_CORRUPT, CorruptIndexError, "restore a backup"),
    ],
)
def test_errors_of_sqlite_have_names_and_remedies(path, code, kind, remedy):
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    with pytest.raises(kind, match=remedy) as found, translated(path):
        raise error
    assert str(path) in str(found.value)


def test_a_full_disk_is_named_and_the_index_goes_on_when_there_is_space(index):
    index.add(["red cat"])
    (pages,) = index._store.connection.execute("PRAGMA page_count").fetchone()
    index._store.connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="no space left"):
        index.add(["blue dog " * 2000])
    assert [hit.text for hit in index.search("cat", k=5)] == ["red cat"]
    # The limit went with the connection that had failed.
    index.add(["blue dog " * 2000])
    assert index.check().documents == 2


def test_what_an_interrupted_create_has_half_written_is_undone(tmp_path, encoder):
    writing = sqlite3.connect(tmp_path / "writing", isolation_level=None)
    for statement in ("PRAGMA cache_size = 1", "BEGIN", "CREATE TABLE t (x)"):
        writing.execute(statement)
    writing.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
    path = tmp_path / "left"
    for suffix in ("", "-journal"):
        shutil.copy(f"{tmp_path / 'writing'}{suffix}", f"{path}{suffix}")
    writing.close()
    assert path.stat().st_size
    with pytest.raises(NotAnIndexError, match="empty"):
        Index.open(path, encoder)
    with Index.create(path, encoder, 64) as index:
        index.add(["red cat"])
        assert index.check().documents == 1


def test_two_that_create_at_once_do_not_both(path, encoder, monkeypatch):
    connect = log.connection

    def late(target, mode):
        monkeypatch.undo()
        Index.create(path, encoder, 64).close()
        return connect(target, mode)

    monkeypatch.setattr(log, "connection", late)
    with pytest.raises(IndexExistsError, match="just now"):
        Index.create(path, encoder, 96)
    with Index.open(path, encoder) as index:
        assert index.info().bits == 64


def test_a_path_that_cannot_be_looked_at_is_named(sound, encoder):
    with pytest.raises(StorageError, match="cannot read"):
        Index.open(sound / "inside", encoder)
    with pytest.raises(StorageError, match="cannot write"):
        Index.create(sound / "inside", encoder, 64)


def test_an_unmerged_log_where_nothing_can_be_written(sound, encoder, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    copy.mkdir()
    with Index.open(sound, encoder) as index:
        index.add(["blue dog"])
        for suffix in ("", "-wal", "-shm"):
            shutil.copy(f"{sound}{suffix}", copy)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Index.open(copy / sound.name, encoder, readonly=True) as index:
        assert len(index) == 21
    (copy / f"{sound.name}-shm").unlink(missing_ok=True)
    with pytest.raises(NeedsRecoveryError, match="edgeret backup"):
        Index.open(copy / sound.name, encoder, readonly=True)


def test_a_target_that_cannot_be_written_is_named(sound, encoder, tmp_path):
    with Index.open(sound, encoder) as index:
        for write in (index.backup, index.seal):
            with pytest.raises(StorageError, match="cannot write"):
                write(tmp_path / "missing" / "copy")
    assert [file.name for file in tmp_path.iterdir()] == [sound.name]
