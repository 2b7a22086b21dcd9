"""The update file: damaged, hostile, cut short or too large, it is refused by name and changes nothing."""

import hashlib
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from counts import long, tries
from crash import workload
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shipping import copied, made, written

import edgeret
from benchmarks import fresh
from edgeret import Document, Index
from edgeret.errors import (
    CorruptUpdateError,
    FormatVersionError,
    InvalidDocumentError,
    SpaceMismatchError,
    UpdateMismatchError,
)
from edgeret.fleet import update
from edgeret.fleet.update import Header, Update, UpdateWriter


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("pair")
    old = made(folder / "old.edgeret", workload.documents(0, 12))
    new = copied(old, folder / "new.edgeret")
    with Index.open(new, model=FakeEncoder()) as index:
        index.add(workload.documents(3, 3, "second"))
        index.delete(["d7"])
    return old, written(old, new, folder / "update").read_bytes()


def refuses(pair, image: bytes) -> None:
    old, content = pair
    before = old.read_bytes()
    damaged = old.with_name("damaged")
    damaged.write_bytes(image)
    with pytest.raises((CorruptUpdateError, FormatVersionError, SpaceMismatchError, UpdateMismatchError)):
        edgeret.apply(old, damaged, FakeEncoder())
    assert old.read_bytes() == before
    assert content


@settings(max_examples=tries(80))
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused(pair, place, bit):
    image = bytearray(pair[1])
    image[int(place * len(image))] ^= 1 << bit
    refuses(pair, image)


@settings(max_examples=30)
@given(size=st.floats(0, 1, exclude_max=True), more=st.binary(min_size=1, max_size=40))
def test_one_cut_short_or_longer_is_refused(pair, size, more):
    refuses(pair, pair[1][: int(size * len(pair[1]))])
    refuses(pair, pair[1] + more)


@settings(max_examples=tries(150))
@given(data=st.data())
def test_one_of_somebody_who_makes_the_hash_fit_is_refused(pair, data):
    """Bytes changed, removed and put in anywhere, with a sound hash at the end."""
    image = bytearray(pair[1][:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(image)))
        cut = data.draw(st.integers(0, 9))
        image[place : place + cut] = data.draw(st.binary(min_size=cut == 0, max_size=9))
    if image != pair[1][:-32]:
        refuses(pair, image + hashlib.sha256(image).digest())


def handmade(
    pair: tuple[Path, bytes],
    identity="x",
    text="red cat",
    metadata="{}",
    spans=((0, 7),),
    vectors=None,
    own=0,
    contexts="",
) -> bytes:
    """An update with one document, which its writer would not write."""
    header = pair[1][: pair[1].index(b"\n\n") + 2]
    vectors = np.full((len(spans), DIM), 127, dtype=np.int8) if vectors is None else vectors
    strings = [
        part if isinstance(part, bytes) else part.encode() for part in (identity, text, metadata, contexts)
    ]
    sizes = [len(part) for part in strings]
    lengths = struct.pack("<6Q", *sizes[:3], len(spans), own, sizes[3])
    content = (
        header + b"+" + lengths + b"".join(strings) + np.array(spans, "<i8").tobytes() + vectors.tobytes()
    )
    return content + hashlib.sha256(content).digest()


HOSTILE = {
    "a context too many": {"contexts": '["a", "b"]'},
    "no context": {"contexts": "[null]"},
    "an empty context": {"contexts": '[""]'},
    "a context that is a number": {"contexts": "[1]"},
    "contexts with spaces": {"contexts": '[ "a"]'},
    "contexts that are no JSON": {"contexts": "["},
    "a context with half a character": {"contexts": '["\\ud800"]'},
    "no passage": {"spans": ()},
    "no text": {"text": " "},
    "no id": {"identity": ""},
    "a NUL": {"text": "red\0cat"},
    "no UTF-8": {"text": b"red\xff cat"},
    "a surrogate": {"identity": b"\xed\xa0\x80"},
    "past the text": {"spans": [(0, 8)]},
    "before the text": {"spans": [(-1, 7)]},
    "backwards": {"spans": [(5, 3)]},
    "overlapping": {"spans": [(0, 7)] * 2},
    "wrapping": {"spans": [(0, 2**63 - 1), (-(2**63), 7)]},
    "own, in part": {"spans": [(0, 3)], "own": 1},
    "own, but two": {"spans": [(0, 3), (3, 7)], "own": 1},
    "own, twice": {"own": 2},
    "zeros": {"vectors": np.zeros((1, DIM), np.int8)},
    "short": {"vectors": np.full((1, DIM), 126, np.int8)},
    "-128": {"vectors": np.full((1, DIM), -128, np.int8)},
    "no JSON": {"metadata": "{"},
    "no object": {"metadata": "[1]"},
    "NaN": {"metadata": '{"a":NaN}'},
    "infinity": {"metadata": '{"a":1e999}'},
    "spaces": {"metadata": '{"a": 1}'},
    "a key twice": {"metadata": '{"a":1,"a":1}'},
    "unsorted": {"metadata": '{"b":1,"a":1}'},
    "a NUL in it": {"metadata": '{"a":"\\u0000"}'},
    "a surrogate in it": {"metadata": '{"a":"\\ud800"}'},
    "a long number": {"metadata": f'{{"a":{"1" * 5000}}}'},
    "a deep one": {"metadata": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}"},
    "a large one": {"metadata": '{"a":"' + "x" * (1 << 20) + '"}'},
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_add_would_not_store_is_refused(pair, document, tmp_path):
    path = tmp_path / "update"
    path.write_bytes(handmade(pair, **document))
    with Update.open(path) as opened, pytest.raises(CorruptUpdateError, match="nothing was changed"):
        list(opened.entries(DIM))
    refuses(pair, path.read_bytes())


def test_a_sound_one_by_hand_is_read(pair, tmp_path):
    """Else the test above would prove nothing."""
    path = tmp_path / "update"
    path.write_bytes(handmade(pair, spans=[(0, 3), (4, 7)]))
    with Update.open(path) as opened:
        (addition,) = opened.entries(DIM)
    assert (addition.record.id, addition.record.text, addition.spans) == ("x", "red cat", [(0, 3), (4, 7)])
    refuses(pair, path.read_bytes())


@pytest.mark.parametrize("place", range(6))
def test_a_length_that_says_anything_takes_no_memory(pair, tmp_path, place):
    image = bytearray(handmade(pair)[:-32])
    lengths = image.index(b"\n\n") + 3
    for size in (1 << 25, 1 << 40, (1 << 64) - 1):
        struct.pack_into("<Q", image, lengths + 8 * place, size)
        refuses(pair, image + hashlib.sha256(image).digest())


def test_a_document_too_large_for_an_update_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(update, "MOST_BYTES", 10_000)
    old = made(tmp_path / "old.edgeret", [])
    new = made(tmp_path / "new.edgeret", [Document("long", "x" * 10_000, {}, np.ones(DIM))])
    with pytest.raises(
        InvalidDocumentError, match=r"at most 10,000 bytes .*'long' has .*ship the whole index"
    ):
        edgeret.diff(old, new, io.BytesIO())
    writer = UpdateWriter(io.BytesIO(), Header("0" * 32, 96, "0" * 64, "0" * 64))
    with pytest.raises(InvalidDocumentError, match=r"'longlong.*12,000"):
        writer.delete("long" * 3000)


# -- memory


linux = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs VmHWM in /proc, which Linux has"
)


def peak(call: str, *paths: Path) -> int:
    """Bytes that `diff` or `apply` adds to a process of its own."""
    environment = {"PYTHONPATH": f"{fresh.ROOT}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
    found: int = fresh.run("chores", call, *map(str, paths), environment=environment)["rss_over_import_bytes"]
    return found


@linux
@long
def test_an_update_is_never_whole_in_memory(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(260, DIM))
    text = "red cat " + "x" * 65_000
    documents = [Document(str(row), f"{row} {text}", {}, vector) for row, vector in enumerate(vectors)]
    old, new = made(tmp_path / "old.edgeret", []), made(tmp_path / "new.edgeret", documents)
    update = written(old, new, tmp_path / "update")
    assert update.stat().st_size > 16_000_000
    assert peak("diff", old, new, update) <= 11_000_000
    assert peak("apply", old, new, update) <= 11_000_000


@linux
def test_one_document_takes_memory_six_times_its_size(tmp_path):
    document = Document("x", ("x" * 99 + " ") * 40_000, {}, np.ones(DIM))
    old, new = made(tmp_path / "old.edgeret", []), made(tmp_path / "new.edgeret", [document])
    update = written(old, new, tmp_path / "update")
    assert peak("apply", old, new, update) <= 6 * update.stat().st_size + 5_000_000


def test_metadata_deeper_than_is_written_are_refused_by_name_and_are_no_damage(pair, encoder, monkeypatch):
    deep = '{"a":' + "[" * 500 + "]" * 500 + "}"
    shipped = pair[0].with_name("deep")
    shipped.write_bytes(handmade(pair, metadata=deep))
    before = pair[0].read_bytes()
    with pytest.raises(
        InvalidDocumentError, match=r"at most 32 levels.*nothing was changed: ship the whole index"
    ):
        edgeret.apply(pair[0], shipped, encoder)
    assert pair[0].read_bytes() == before
    early = copied(pair[0], pair[0].with_name("early.edgeret"))
    with monkeypatch.context() as patch, Index.open(early, model=encoder) as index:
        patch.setattr("edgeret.documents.is_deep", lambda _: False)
        index.add([Document("deep", "red cat", {"a": json.loads("[" * 100 + "]" * 100)})])
    with pytest.raises(InvalidDocumentError, match=r"at most 32 levels.*'deep'.*ship the whole index"):
        edgeret.diff(pair[0], early, io.BytesIO())
