import os

import pytest
from oddities import alarm, laid

import edgeret
from edgeret import Index
from edgeret.errors import NotAnIndexError, StorageError
from edgeret.files import open_regular

KINDS = ["pipe", "device", "socket"]


def test_a_regular_file_is_opened_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as stream:
            assert stream.read() == b"content"
    with pytest.raises(StorageError, match=r"link' is a link"):
        open_regular(tmp_path / "link", follow=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_named_at_once(tmp_path, kind):
    with laid(tmp_path / "odd", kind), alarm(), pytest.raises(StorageError, match=f"odd' is a {kind}"):
        open_regular(tmp_path / "odd")


def test_what_took_the_place_of_a_file_meanwhile_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")
    asked = (tmp_path / "file").stat()
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    monkeypatch.setattr("edgeret.files.Path.stat", lambda *_: asked)
    with alarm(), pytest.raises(StorageError, match="file' is a pipe"):
        open_regular(tmp_path / "file")


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("missing", "No such file"),
        ("dangling", "No such file"),
        ("loop", "symbolic links"),
        (".", "is a folder"),
        ("x" * 300, "too long"),
        ("a\0b", "null (byte|character)"),
        ("\ud800", "surrogates"),
    ):
        with pytest.raises(StorageError, match=message):
            open_regular(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
def test_an_index_of_no_file_and_one_beside_it_are_named_at_once(sound, encoder, tmp_path, suffix, kind):
    """SQLite would open it and wait for ever."""
    linked = tmp_path / "linked.edgeret"
    linked.symlink_to(sound.name)
    odd = sound.with_name(sound.name + suffix)
    if not suffix:
        sound.unlink()
    with laid(odd, kind), alarm():
        for path in (sound, linked):
            for readonly in (True, False):
                with pytest.raises((StorageError, NotAnIndexError), match=f"is a {kind}"):
                    Index.open(path, model=encoder, readonly=readonly)
            with pytest.raises((StorageError, NotAnIndexError), match=f"is a {kind}"):
                Index.repair(path, tmp_path / "target", encoder)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_of_no_file_is_refused_at_once(sound, encoder, tmp_path, kind):
    with laid(tmp_path / "odd", kind), alarm(), pytest.raises(edgeret.EdgeretError, match="odd' is no file"):
        edgeret.apply(sound, tmp_path / "odd", model=encoder)
