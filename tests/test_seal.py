import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
import remains
from crash import workload
from fake import DIM

from edgeret import Document, Encoder, Index
from edgeret.errors import IndexExistsError, StorageError
from edgeret.shell.cli import main
from edgeret.upkeep import compact


@pytest.fixture
def sealed(sound, tmp_path, encoder) -> Path:
    with Index.open(sound, model=encoder) as index:
        index.delete(["d3"])
        index.seal(tmp_path / "sealed.edgeret")
    return tmp_path / "sealed.edgeret"


def test_a_sealed_index_is_one_file_with_all_documents(sound, sealed, encoder):
    assert sorted(file.name for file in sealed.parent.iterdir()) == ["sealed.edgeret", "test.edgeret"]
    with Index.open(sound, model=encoder) as index, Index.open(sealed, model=encoder) as copy:
        assert copy.check().lexicon == "verified"
        assert len(copy) == 19
        for mode in ("dense", "lexical", "hybrid"):
            query = {"query": "red cat number7", "where": {"year": {"$gte": 5}}, "mode": mode}
            assert copy.search(**query) == index.search(**query)


def test_reading_a_sealed_index_changes_no_byte_and_makes_no_file(sealed, encoder):
    before = sealed.read_bytes()
    # A rollback journal, not a log: nothing beside the file is needed.
    assert before[18:20] == b"\1\1"
    with Index.open(sealed, model=encoder, readonly=True) as index:
        assert index.search("red cat")
        index.check()
        assert not [file for file in sealed.parent.iterdir() if file.name.startswith("sealed.edgeret-")]
    assert sealed.read_bytes() == before


def test_a_sealed_index_opens_on_a_readonly_medium(sealed, encoder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Index.open(sealed, model=encoder, readonly=True) as index:
        assert index.search("red cat number7", k=1)[0].id == "d7"


def test_a_sealed_index_can_be_changed_again(sealed, encoder):
    with Index.open(sealed, model=encoder) as index:
        index.add([Document("new", "blue bird")])
        index.delete(["d7"], erase=True)
        index.check()
    with Index.open(sealed, model=encoder, readonly=True) as index:
        assert (len(index), index.get("new").text) == (19, "blue bird")


def test_what_is_sealed_has_no_free_page_and_no_dead_row(path, encoder, monkeypatch):
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    vectors = np.random.default_rng(0).normal(size=(400, DIM))
    target = path.with_name("sealed.edgeret")
    with Index.create(path, model=encoder, bits=64) as index:
        index.add(Document(str(number), "", {}, vector) for number, vector in enumerate(vectors))
        index.delete(map(str, range(0, 400, 2)))
        index.seal(target)
        with Index.open(target, model=encoder) as copy:
            assert copy.check().blocks < index.check().blocks
            for vector in vectors[:20]:
                assert copy.search(vector, oversample=40) == index.search(vector, oversample=40)
        assert target.stat().st_size < index.info().file_bytes
    assert remains.free_pages(target) == 0


def test_an_index_is_sealed_while_it_is_written_and_stays_as_it_is(index, path, encoder, tmp_path):
    index.add(["red cat"])
    before = index.info()
    with index._store.writing():
        index.seal(tmp_path / "sealed.edgeret")
    assert index.info() == before
    with Index.open(tmp_path / "sealed.edgeret", model=encoder) as copy:
        assert len(copy) == 1


def test_sealing_overwrites_nothing_and_leaves_nothing_when_it_fails(sound, encoder, tmp_path, monkeypatch):
    target = tmp_path / "sealed.edgeret"
    with Index.open(sound, model=encoder) as index:
        target.write_text("mine")
        with pytest.raises(IndexExistsError, match="choose another name"):
            index.seal(target)
        assert target.read_text() == "mine"
        target.unlink()
        with pytest.raises(StorageError, match="No such file"):
            index.seal(tmp_path / "missing" / "sealed.edgeret")

        def full(*_: object) -> None:
            raise StorageError("no space left")

        monkeypatch.setattr(compact, "compact", full)
        with pytest.raises(StorageError, match="no space"):
            index.seal(target)
        monkeypatch.undo()
        monkeypatch.setattr(
            Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error"))
        )
        with pytest.raises(StorageError, match="Input/output"):
            index.seal(target)
    assert [file.name for file in tmp_path.iterdir()] == [sound.name]


def test_the_command_seals(sound, tmp_path, encoder, monkeypatch, capsys):
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: encoder))
    target = tmp_path / "sealed.edgeret"
    assert main(["seal", str(sound), str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(target), "file_bytes": target.stat().st_size}
    assert main(["seal", str(sound), str(target)]) == 1
    assert "exists: choose another name" in capsys.readouterr().err


def test_a_sealed_copy_is_its_owners_alone_and_may_be_moved(sealed, encoder, tmp_path):
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    moved = Path(shutil.copy(sealed, tmp_path / "moved.edgeret"))
    with Index.open(moved, model=encoder, readonly=True) as index:
        assert len(index) == 19
