import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from counts import tries
from fake import DIM, WIDTHS, random_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode.bundle import Bundle, Content, available, fingerprint, space, write
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BundleError, FormatVersionError

DTYPES = ("int8", "uint8", "int16", "float16", "float32", "float64")


def make(path: Path, seed: int = 0, geometry: str = "ab" * 16, **tensors: np.ndarray) -> Bundle:
    rng = np.random.default_rng(seed)
    table = {"tokens": rng.integers(-127, 128, (5, DIM), np.int8), "token_scales": np.ones(5, np.float32)}
    return write(
        path,
        Content(
            name="tiny",
            max_tokens=16,
            geometry=geometry,
            codec=random_codec(),
            kind="static",
            graphs={},
            tensors={"tokens.bin": table | tensors},
            files={"card.md": "# tiny, très\n".encode()},
            about={"license": "Apache-2.0"},
        ),
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("bundle") / "tiny").path


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "tiny"))


def edit(folder: Path, change) -> None:
    """Change a manifest as if it had been written so: without its checksum, as the first bundles were."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["checksum"]
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def at(*keys):
    """A change that sets the last of `keys` to the given value."""

    def setter(value):
        def change(manifest):
            for key in keys[:-1]:
                manifest = manifest[key]
            manifest[keys[-1]] = value

        return change

    return setter


def rename(key, old, new):
    def change(manifest):
        manifest[key][new] = manifest[key].pop(old)

    return change


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(1, 4), min_size=1, max_size=4)), max_size=6
    ),
    st.integers(0, 2**32 - 1),
)
def test_tensors_return_as_they_were_written(tmp_path_factory, specs, seed):
    rng = np.random.default_rng(seed)
    arrays = {f"t{i}": rng.normal(size=shape).astype(dtype) for i, (dtype, shape) in enumerate(specs)}
    opened = make(tmp_path_factory.mktemp("round") / "tiny", **arrays)
    for name, array in arrays.items():
        found = opened.tensor(name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
        assert not found.flags.writeable


def test_codec_returns_as_it_was_written(sound):
    codec, original = Bundle.open(sound).codec(), random_codec()
    np.testing.assert_array_equal(codec.projection, original.projection)
    np.testing.assert_array_equal(codec.thresholds, original.thresholds)
    assert codec.widths == WIDTHS
    rounded = original.query_projection.astype(np.float16).astype(np.float32)
    assert codec.query_projection.dtype == np.float32
    np.testing.assert_array_equal(codec.query_projection, rounded)
    np.testing.assert_array_equal(codec.query_thresholds, original.query_thresholds)


def test_tensors_are_little_endian_and_lie_side_by_side(tmp_path):
    opened = make(tmp_path / "tiny", wide=np.array([1.0]), short=np.array([258], np.int16))
    blob = (opened.path / "tokens.bin").read_bytes()
    assert blob[:8] == bytes.fromhex("000000000000f03f")
    assert blob[8 + 5 * 4 :][:2] == b"\x02\x01"
    assert len(blob) == 8 + 5 * 4 + 2 + 5 * DIM


def test_big_endian_arrays_are_stored_little_endian(tmp_path):
    opened = make(tmp_path / "tiny", big=np.array([1, 258], ">i2"))
    assert opened.tensor("big").tolist() == [1, 258]


@settings(max_examples=tries(60), deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_found(sound, tmp_path_factory, data):
    folder = Path(shutil.copytree(sound, tmp_path_factory.mktemp("flip") / "tiny"))
    name = data.draw(st.sampled_from(sorted(p.name for p in sound.iterdir() if p.name != "manifest.json")))
    blob = bytearray((folder / name).read_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(blob)
    with pytest.raises(BundleError, match=name):
        Bundle.open(folder)


@settings(max_examples=tries(150), deadline=None)
@given(data=st.data())
def test_a_flipped_byte_of_the_manifest_changes_nothing_or_is_refused_by_name(sound, tmp_path_factory, data):
    folder = Path(shutil.copytree(sound, tmp_path_factory.mktemp("flip") / "tiny"))
    blob = bytearray((folder / "manifest.json").read_bytes())
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    (folder / "manifest.json").write_bytes(blob)
    with contextlib.suppress(BundleError, FormatVersionError):
        assert Bundle.open(folder).manifest.checksum == Bundle.open(sound).manifest.checksum


@pytest.mark.parametrize(
    "change", [at("max_tokens")(17), at("geometry")("ab" * 15 + "aa"), at("encoder", "kind")("transformer")]
)
def test_a_manifest_that_could_be_another_is_refused_by_its_checksum(folder, change):
    """A flipped bit in `max_tokens` once gave other vectors of long texts, and nobody knew."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="checksum"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["manifest.json", "tokens.bin", "codec.bin", "card.md"])
def test_a_missing_or_cut_file_is_named(folder, name):
    blob = (folder / name).read_bytes()
    (folder / name).write_bytes(blob[:-1] if name != "manifest.json" else blob[:-9])
    with pytest.raises(BundleError, match=name):
        Bundle.open(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}.*again"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        at("dim")(-1),
        at("dim")(True),
        at("dim")(DIM + 1),
        at("dim")(1.5),
        at("dim")(2**60),
        at("max_tokens")(0),
        at("max_tokens")(True),
        at("name")("../tiny"),
        at("name")(""),
        at("geometry")("AB" * 16),
        at("codec")("0" * 32),
        at("encoder")([]),
        at("encoder", "kind")("pickle"),
        at("encoder", "graphs")({"onnx": {"file": "missing.onnx", "input": "a", "output": "b"}}),
        at("tensors", "tokens", "dtype")("object"),
        at("tensors", "tokens", "dtype")(">f4"),
        at("tensors", "tokens", "shape")([]),
        at("tensors", "tokens", "shape")([0, DIM]),
        at("tensors", "tokens", "shape")([-5, -DIM]),
        at("tensors", "tokens", "shape")([5, DIM + 1]),
        at("tensors", "tokens", "shape")([2**39, 2**39]),
        at("tensors", "tokens", "shape")([5, DIM, True]),
        at("tensors", "tokens", "offset")(0),
        at("tensors", "tokens", "offset")(-1),
        at("tensors", "tokens", "offset")(2**40),
        at("tensors", "tokens", "file")("../tokens.bin"),
        at("tensors", "tokens", "file")("manifest.json"),
        at("tensors", "projection", "dtype")("float16"),
        at("files", "tokens.bin", "bytes")(1),
        at("files", "tokens.bin", "sha256")("0" * 64),
        at("files", "tokens.bin", "sha256")("x"),
        at("files", "tokens.bin", "optional")(1),
        at("files", "..")({"bytes": 1, "sha256": "0" * 64}),
        rename("files", "card.md", "/etc/hostname"),
        rename("files", "card.md", "a/b"),
        rename("files", "card.md", "a\\b"),
        rename("files", "card.md", "card.md\n"),
        rename("tensors", "projection", "projections"),
        rename("tensors", "thresholds", "threshold"),
        rename("tensors", "widths", "width"),
        at("prompts")({"query": "query: "}),
        at("prompts")({"query": "query: ", "document": None}),
        at("prompts")({"query": "", "document": ""}),
        at("prompts")({"query": "q" * 1025, "document": ""}),
        at("prompts")({"query": "\ud800", "document": ""}),
        at("roles")({"query": 1}),
        at("roles")({"query": 1, "document": None}),
        at("roles")({"query": 1, "document": True}),
        at("roles")({"query": 1, "document": "0"}),
        at("roles")({"query": 1, "document": 0.5}),
        at("roles")({"query": 1, "document": -1}),
        at("roles")({"query": 1, "document": 5}),
        at("roles")({"query": 2**40, "document": 0}),
        at("roles")([0, 1]),
        at("roles")(None),
    ],
)
def test_an_unsound_manifest_is_refused(folder, change):
    edit(folder, change)
    with pytest.raises(BundleError, match=r"expected .* found .*: install or export"):
        Bundle.open(folder).codec()


@pytest.mark.parametrize(
    "change",
    [
        at("prompts")({"query": "query: ", "document": "", "title": "title: "}),
        at("roles")({"query": 1, "document": 0, "title": 2}),
        at("instruction")("query: "),
        at("encoder", "pooling")("mean"),
        at("tensors", "tokens", "transposed")(True),
        at("files", "card.md", "compressed")("zstd"),
        at("encoder", "graphs")({"onnx": {"file": "card.md", "input": "a", "output": "b", "mask": "c"}}),
    ],
)
def test_a_key_that_this_version_does_not_know_is_refused(folder, change):
    edit(folder, change)
    with pytest.raises(BundleError, match=r"expected no keys but .*upgrade edgeret"):
        Bundle.open(folder)


def test_about_decides_nothing_and_may_hold_any_key(folder):
    edit(folder, at("about", "prompts")({"query": "query: "}))
    assert Bundle.open(folder).name == "tiny"


@pytest.mark.parametrize("name", ["../card.md", "sub/card.md", "card\n.md", ".card.md", ""])
def test_a_sound_file_under_a_name_that_is_not_plain_is_refused(folder, name):
    target = folder / name
    if name:
        target.parent.mkdir(exist_ok=True)
        (folder / "card.md").rename(target)
    edit(folder, rename("files", "card.md", name))
    with pytest.raises(BundleError, match="plain file name"):
        Bundle.open(folder)


@pytest.mark.parametrize("version", [0, 2, 999])
def test_another_format_asks_for_an_upgrade(folder, version):
    edit(folder, at("format")(version))
    with pytest.raises(FormatVersionError, match="upgrade edgeret"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff\xfe{}",
        b'{"format": NaN}',
        b'{"format": 1, "format": 1}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b'{"format": 1}' + b" " * (1 << 20),
    ],
)
def test_unsound_json_is_refused(folder, text):
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BundleError):
        Bundle.open(folder)


def test_duplicate_keys_are_refused_at_any_depth(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(
        text.replace('"kind": "static"', '"kind": "static", "kind": "static"')
    )
    with pytest.raises(BundleError, match="twice"):
        Bundle.open(folder)


def test_an_optional_file_may_be_absent_but_not_damaged(folder):
    edit(folder, at("files", "card.md", "optional")(True))
    (folder / "card.md").write_text("damaged")
    with pytest.raises(BundleError, match=r"card\.md"):
        Bundle.open(folder)
    (folder / "card.md").unlink()
    with pytest.raises(BundleError, match=r"card\.md"):
        Bundle.open(folder).file("card.md")


def test_what_an_installation_leaves_out_is_not_counted(folder):
    edit(folder, at("files", "card.md", "optional")(True))
    whole, card = Bundle.open(folder).file_bytes, (folder / "card.md").stat().st_size
    (folder / "card.md").unlink()
    left = Bundle.open(folder).file_bytes
    assert (whole - left, left) == (
        card,
        sum(path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json"),
    )


def test_requantizing_keeps_the_space_and_a_new_codec_or_geometry_changes_it(tmp_path, folder):
    one, other = make(tmp_path / "one", seed=1), make(tmp_path / "two", seed=2)
    assert one.tensor("tokens").tolist() != other.tensor("tokens").tolist()
    assert (one.geometry, one.codec_id, one.space) == (other.geometry, other.codec_id, other.space)
    moved = make(tmp_path / "three", geometry="cd" * 16)
    assert moved.codec_id == one.codec_id
    assert moved.space != one.space
    assert space("a", "b") != space("b", "a")
    assert {len(one.codec_id), len(one.space)} == {32}


def test_fingerprints_are_for_ever():
    assert fingerprint({"b": [1, "é"], "a": None}) == "bccb46da7f8860c9492baa4b6352ae16"


def test_writing_again_replaces_the_folder_and_spares_what_was_read(tmp_path):
    old = make(tmp_path / "tiny", seed=1)
    read, before = old.tensor("tokens"), old.tensor("tokens").tolist()
    fresh = make(tmp_path / "tiny", seed=2)
    assert read.tolist() == before != fresh.tensor("tokens").tolist()
    assert [p.name for p in tmp_path.iterdir()] == ["tiny"]


def test_an_unknown_name_lists_the_installed_bundles():
    assert "base" in available()
    with pytest.raises(BundleError, match=r"'bass'.*base"):
        Bundle.open("bass")


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="folder"):
        Bundle.open(tmp_path / "file")


@pytest.mark.parametrize("widths", [(96, 64), (64, 64), (0, 64), (-64, 64)])
def test_widths_that_do_not_ascend_are_refused(tmp_path, widths):
    made = write(
        tmp_path / "tiny",
        Content(
            name="tiny",
            max_tokens=16,
            geometry="ab" * 16,
            codec=replace(random_codec(), widths=widths),
            kind="static",
            graphs={},
            tensors={},
            files={},
            about={},
        ),
    )
    with pytest.raises(BundleError, match="ascending widths"):
        made.codec()


@pytest.mark.parametrize("texts", [[], "hello", [1], None, {}])
def test_golden_texts_that_are_none_are_refused(tmp_path, texts):
    made = write(
        tmp_path / "tiny",
        Content(
            name="tiny",
            max_tokens=16,
            geometry="ab" * 16,
            codec=random_codec(),
            kind="static",
            graphs={},
            tensors={},
            files={"golden.json": json.dumps({"texts": texts}).encode()},
            about={},
        ),
    )
    with pytest.raises(BundleError, match=r"a list of texts in golden\.json"):
        made.golden()


def test_unknown_tensors_and_files_are_refused_by_name(sound):
    opened = Bundle.open(sound)
    with pytest.raises(BundleError, match="'table'"):
        opened.tensor("table")
    with pytest.raises(BundleError, match=r"'manifest\.json'"):
        opened.file("manifest.json")


def test_the_installed_bundle_is_sound():
    base = Bundle.open("base")
    assert (base.name, base.dim, base.max_tokens) == ("base", 384, 256)
    assert base.codec().widths == (64, 128, 256, 384)
    table = TokenTable(base)
    assert base.tensor("tokens").shape == (len(table.scales), base.dim)
    tokenizer = json.loads(base.file("tokenizer.json").read_text())
    assert tokenizer["padding"] is tokenizer["truncation"] is None
    assert base.manifest.about["license"] == "apache-2.0"
