"""A new model asks an old one's index through a map; a bundle with a map is one like any other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeret
from edgeret.encode import bundle
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.errors import BundleError, SpaceMismatchError

pytest.importorskip("torch", reason="needs torch, which `export` takes")

from export import upgrade
from export.__main__ import main

WORDS = ["red", "blue", "quiet", "stone", "river", "garden", "winter", "kettle", "signal", "train", "letter"]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 6)) + f" {n}" for n in range(count)]


@given(st.integers(0, 1000), st.integers(3, 12), st.integers(3, 12))
def test_a_map_is_orthonormal_and_undoes_a_rotation(seed, wide, narrow):
    rng = np.random.default_rng(seed)
    old = unit(rng.normal(size=(60, narrow)))
    rotation = np.linalg.qr(rng.normal(size=(max(wide, narrow), max(wide, narrow))))[0][:narrow, :wide]
    turn = upgrade.learn(unit(old @ rotation), old)
    shorter = turn if wide <= narrow else turn.T
    assert np.allclose(shorter @ shorter.T, np.eye(len(shorter)), atol=1e-5)
    if wide >= narrow:
        assert np.allclose(unit(old @ rotation) @ turn, old, atol=1e-5)


def with_map(turn: np.ndarray, folder) -> Bundle:
    """`nano` with a map, in a geometry of its own."""
    nano = Bundle.open("nano")
    tensors: dict[str, dict[str, np.ndarray]] = {"map.bin": {"map": turn}}
    for name, entry in nano.manifest.tensors.items():
        if entry.file != "codec.bin":
            tensors.setdefault(entry.file, {})[name] = np.array(nano.tensor(name))
    golden = tensors["golden.bin"]
    golden["golden.own"] = unit(golden["golden.own"] @ turn[:, : nano.dim])
    files = {n: nano.file(n).read_bytes() for n in nano.manifest.files if n not in {*tensors, "codec.bin"}}
    return bundle.write(
        folder,
        bundle.Content(
            name=folder.name, max_tokens=nano.max_tokens, geometry="0" * 32, codec=nano.codec(), kind="static",
            graphs={}, tensors=tensors, files=files, about={},
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """`nano` in a space of its own: every vector is turned by one rotation."""
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(384, 384)))[0].astype(np.float32)
    return with_map(rotation, tmp_path_factory.mktemp("models") / "turned")


def test_a_mapped_bundle_asks_an_index_of_the_old_model(turned, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(texts(5400)))
    path, out = tmp_path / "old.edgeret", tmp_path / "mapped"
    with edgeret.Index.create(path, model="nano") as index:
        index.add([edgeret.Document(str(n), found) for n, found in enumerate(texts(40))])
    with pytest.raises(SpaceMismatchError):
        edgeret.Index.open(path, model=turned.path)
    arguments = [
        "map",
        "nano",
        str(turned.path),
        "--text",
        str(text),
        "--out",
        str(out),
        "--passages",
        "1000",
    ]
    assert main(arguments) == 0
    assert "recall10" in capsys.readouterr().out
    with edgeret.Index.open(path, model=out) as index:
        for n, found in enumerate(texts(10)):
            assert index.search(found, k=1)[0].id == str(n)
    card = (out / "card.md").read_text()
    assert "not comparable" not in card
    assert "with the map" in card


def test_a_map_that_loses_too_much_is_not_offered(turned, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(texts(4405)))
    arguments = ["map", "nano", str(turned.path), "--text", str(text), "--out", str(tmp_path / "mapped")]
    assert main([*arguments, "--passages", "5", "--least", "0.9"]) == 1
    assert not (tmp_path / "mapped").exists()
    assert "edgeret reencode" in capsys.readouterr().err


def test_maps_of_maps_are_one(turned, tmp_path):
    nano = Bundle.open("nano")
    back = np.array(turned.tensor("map")).T
    again = upgrade.write(turned, nano, back, upgrade.Loss(None, 1.0, None, 1.0), tmp_path / "again")
    known = texts(5)
    assert np.allclose(Encoder.load(again.path).encode(known), Encoder.load("nano").encode(known), atol=1e-5)
    assert Encoder.load(again.path).planned_bytes["map"] == 4 * nano.dim**2


def test_a_map_of_another_shape_is_refused(tmp_path):
    with pytest.raises(BundleError, match="map as float32"):
        Encoder.load(with_map(np.eye(384, 390, dtype=np.float32), tmp_path / "wide").path).encode(["red"])
