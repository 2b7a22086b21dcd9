"""The model that an index names: a bundle that is installed, never a folder that somebody else chose."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import hostile
import pytest

import edgeret
from edgeret import Index
from edgeret.encode import bundle
from edgeret.errors import BundleError
from edgeret.storage.description import meta_checksum


def bundle_at(folder: Path) -> Path:
    """A bundle that is not installed, of the space of `nano`."""
    return hostile.seal(hostile.clone("nano", folder), name=folder.name)


def rename_model(path: Path, model: str) -> None:
    """What somebody writes who makes a file by hand, or what an older edgeret wrote."""
    with closing(sqlite3.connect(path)) as connection:
        meta = dict(connection.execute("SELECT key, value FROM meta")) | {"model": model}
        meta["crc"] = meta_checksum(meta)
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        connection.commit()


def test_an_index_remembers_the_name_of_its_bundle_and_no_path(tmp_path, monkeypatch):
    path, folder = tmp_path / "a.edgeret", bundle_at(tmp_path / "models" / "mine")
    with Index.create(path, folder) as index:
        index.add(["the boiler shows an error"])
    assert str(tmp_path).encode() not in path.read_bytes()
    with pytest.raises(BundleError, match=r"'mine': pass model=.*--model.*EDGERET_MODELS"):
        Index.open(path)
    for model in (folder, str(folder), "nano", edgeret.Encoder.load("small")):
        Index.open(path, model).close()
    monkeypatch.setenv("EDGERET_MODELS", f"{tmp_path}/nowhere{os.pathsep}{tmp_path / 'models'}")
    with Index.open(path) as index:
        assert index.info().model == "mine"
        assert [hit.text for hit in index.search("boiler")] == ["the boiler shows an error"]


def test_the_bundles_of_another_package_are_found_or_it_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.edgeret"
    bundle_at(tmp_path / "packages" / "edgeret_world" / "world-base")
    (tmp_path / "packages" / "edgeret_world" / "__init__.py").touch()
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path / "packages")
        with Index.create(path, model="world-base") as index:
            index.add(["the boiler shows an error"])
        with Index.open(path) as index:
            assert index.info().model == "world-base"
    monkeypatch.setattr(bundle, "_world", lambda: None)
    with pytest.raises(BundleError, match=r"found 'world-base': pip install 'edgeret\[world\]'"):
        Index.create(tmp_path / "b.edgeret", model="world-base")
    with pytest.raises(BundleError, match=r"made with 'world-base': pip install 'edgeret\[world\]'"):
        Index.open(path)


def test_no_folder_takes_the_place_of_a_bundle_of_the_package(tmp_path, monkeypatch):
    bundle_at(tmp_path / "models" / "small")
    monkeypatch.setenv("EDGERET_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path / "models")
    assert edgeret.Encoder.load("small").bundle.manifest.kind == "transformer"


@pytest.mark.parametrize(
    "model", ["mine", "./mine", "/{}/mine", "../{}/mine", "file:mine", "..", "a\0b", "mine\n"]
)
@pytest.mark.parametrize("verb", ["open", "recode", "repair", "apply"])
def test_a_file_leads_to_no_folder(tmp_path, monkeypatch, model, verb):
    """Neither does a name that is a folder's where the process stands."""
    path = tmp_path / "a.edgeret"
    with Index.create(path, "nano") as index:
        index.add(["text"])
    shutil.copy(path, tmp_path / "b.edgeret")
    bundle_at(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    rename_model(path, model.format(str(tmp_path).strip("/")))
    started = []
    monkeypatch.setattr(edgeret.Encoder, "_start", lambda encoder: started.append(encoder))
    with Path("update").open("wb") as update:
        edgeret.diff(path, Path("b.edgeret"), update)
    calls = {
        "open": lambda: Index.open(path),
        "recode": lambda: Index.recode(path, bits=64),
        "repair": lambda: Index.repair(path, "repaired.edgeret"),
        "apply": lambda: edgeret.apply(path, "update"),
    }
    with pytest.raises(BundleError, match="pass model="):
        calls[verb]()
    assert not started


def test_new_codes_and_vectors_store_no_path_either(tmp_path):
    path, folder = tmp_path / "a.edgeret", bundle_at(tmp_path / "mine")
    with Index.create(path, "nano") as index:
        index.add(["text"])
    Index.recode(path, folder, bits=64)
    Index.reencode(path, folder)
    assert str(tmp_path).encode() not in path.read_bytes()
    with pytest.raises(BundleError, match="'mine'"):
        Index.open(path)
