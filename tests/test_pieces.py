"""The tables of a tokenizer give what the package `tokenizers` gives, in C and in Python; others are refused."""

import json
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import hostile
import numpy as np
import pytest
from counts import FULL, tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import pieces, tables
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.foreign import Foreign
from edgeret.encode.pieces import Pieces
from edgeret.errors import BundleError, InvalidDocumentError

ROOT = Path(__file__).parent.parent
BUNDLES = ["nano", "small", "base"]
BUILDS = [
    pytest.param(pieces.native, marks=pytest.mark.skipif(not tables.runs_native(), reason="not built")),
    pieces.reference,
]
BLOB = Bundle.open("nano").read(tables.FILE)

# Marks of all orders among others that stay, accents, what is dropped, and what parts marks or words.
MARKS = "\u0300\u0323\u0345\u0334\u0344\u1b44\u302e\u302f\u08d4\u0f73\u0b3f\u034f\U0001d165\U0001d15e\ua953"
OTHERS = "aZé中豈각İẞﬁǆ\u200b\u200d\xad\0\ufffd\u3000\t\n .,;¡[]#'-١ႠΣς\u037e\u1fef\u2000\u2126"
TOKENS = [
    "[SEP]",
    "[UNK]",
    "[CLS]",
    "[PAD]",
    "[MASK]",
    "[sep]",
    "[SEP",
    "##",
    "##ing",
    "playing",
    "x" * 100,
    "x" * 101,
]
texts = st.lists(
    st.one_of(st.text(max_size=4), st.text(MARKS + OTHERS, max_size=6), st.sampled_from(TOKENS)), max_size=12
).map("".join)


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("tokenizers")
    return Foreign.load(Bundle.open("nano"))


def build(make):
    _, head, tables = pieces.read(BLOB)
    return make(head, tables)


def assert_equal(run, package, text: str) -> None:
    for special in (True, False):
        ids, spans, words = run(text, special)
        assert run(text, special, placed=False) == (ids, [], []), ascii(text)
        expected = package.tokenize(text, special=special)
        assert (ids, spans) == (expected.ids, expected.spans), ascii(text)
        assert [one == other for one, other in pairwise(words)] == [
            one == other for one, other in pairwise(expected.words)
        ], ascii(text)


@pytest.mark.parametrize("make", BUILDS)
def test_any_text_has_the_tokens_of_the_package(package, make):
    run = build(make)

    @settings(max_examples=tries(300, 20_000), deadline=None)
    @given(texts)
    def check(text):
        assert_equal(run, package, text)

    check()


@pytest.mark.parametrize("make", BUILDS)
def test_every_code_point_has_the_tokens_of_the_package(package, make, trust):
    """Alone, between letters, and twice."""
    run, step = build(make), 1 if FULL else 97
    codes = [*range(0x3100), *range(0x3100, 0x110000, step)]
    found = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    for character in found:
        for text in (character, f"a{character}b", character * 2):
            ids, spans, _ = run(text, False)
            expected = package._tokenizer.encode(text, add_special_tokens=False)
            assert (ids, spans) == (expected.ids, expected.offsets), ascii(text)
    trust(code_points=len(found))


@pytest.mark.parametrize("make", BUILDS)
def test_marks_are_ordered_as_the_package_orders_them(package, make):
    run = build(make)
    rng = np.random.default_rng(0)
    for _ in range(tries(1_000, 20_000)):
        assert_equal(run, package, "".join(rng.choice([*MARKS, "e", "\u200d", "é"], rng.integers(1, 9))))


@pytest.mark.parametrize("name", BUNDLES)
def test_the_bundles_have_the_tables_of_their_tokenizers(name):
    opened = Bundle.open(name)
    digest, _, _ = pieces.read(opened.read(tables.FILE))
    assert digest.hex() == opened.manifest.files[tables.SOURCE].sha256
    assert opened.read(tables.FILE) == BLOB


SEARCH = """
import sys
sys.modules["tokenizers"] = None
import edgeret
encoder = edgeret.Encoder.load(sys.argv[1])
with edgeret.Index.create(sys.argv[2], model=encoder) as index:
    index.add([edgeret.Document("fox", "The quick brown fox."), edgeret.Document("dog", "The lazy dog.")])
    print(index.search("a fast fox")[0].id, encoder.encode(["the quick brown fox"]).tobytes().hex())
"""


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_with_tables_needs_no_package(name, tmp_path):
    command = [sys.executable, "-c", SEARCH, name, tmp_path / "test.edgeret"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.split() == ["fox", Encoder.load(name).encode(["the quick brown fox"]).tobytes().hex()]


def test_vectors_are_those_without_tables(tmp_path):
    folder = hostile.clone("nano", tmp_path / "mine")
    (folder / tables.FILE).unlink()
    without = Encoder.load(hostile.seal(folder))
    texts = Bundle.open("nano").golden().texts
    assert without.encode(texts).tobytes() == Encoder.load("nano").encode(texts).tobytes()
    assert without.passage_tokens == Encoder.load("nano").passage_tokens


@pytest.mark.parametrize("make", BUILDS)
def test_a_text_that_is_not_unicode_is_refused(make, monkeypatch):
    loaded = Pieces.load(Bundle.open("nano"))
    loaded._run = build(make)
    with pytest.raises(InvalidDocumentError, match="surrogate at 5000: read"):
        loaded.tokenize("a" * 5000 + "\udfff")


# -- tables that somebody made


def with_blob(folder: Path, blob: bytes) -> Path:
    made = hostile.clone("nano", folder)
    (made / tables.FILE).write_bytes(blob)
    return hostile.seal(made)


def changed(**numbers) -> bytes:
    """The file with other numbers in its head."""
    _, head, _ = pieces.read(BLOB)
    return BLOB[:48] + struct.pack("<11I", *head._replace(**numbers)) + BLOB[92:]


def with_tables(**arrays) -> bytes:
    digest, head, tables = pieces.read(BLOB)
    return pieces.write(digest, head, tables._replace(**arrays))


def poked(name: str, place: int, value: int) -> bytes:
    _, _, tables = pieces.read(BLOB)
    array = np.array(getattr(tables, name))
    array.reshape(-1)[place] = value
    return with_tables(**{name: array})


HOSTILE = {
    "nothing": b"",
    "another magic": b"edgeret words 2\n" + BLOB[16:],
    "the head alone": BLOB[:92],
    "a byte less": BLOB[:-1],
    "a byte more": BLOB + b"\0",
    "tables of another tokenizer": BLOB[:16] + bytes(32) + BLOB[48:],
    "another kind": changed(kind=7),
    "words of any length": changed(longest=2**31),
    "thousands of special tokens": changed(before=2**31),
    "no units": changed(units=0),
    "4 billion units": changed(units=2**32 - 1),
    "an unknown token past the end": changed(unknown=2**31),
    "words that go on past the end": changed(continuing=2**31),
    "a special token past the end": poked("special", 0, 2**31),
    "a page past the end": poked("pages", 0, 60_000),
    "a sequence past the end": poked("entries", 65, 2**32 - 36),
    "a long sequence": poked("sequences", 0, 40),
    "marks out of order": poked("marks", 0, 2**31),
    "marks past the end": poked("marks", 1, 2**31),
}


@pytest.mark.parametrize("blob", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_tables_are_refused_by_name(tmp_path, blob):
    folder = with_blob(tmp_path / "mine", blob)
    with pytest.raises(BundleError, match="expected"):
        Encoder.load(folder).encode(["x"])


@pytest.mark.parametrize("make", BUILDS)
def test_any_tables_that_are_read_stay_within_themselves(make, trust):
    """Numbers changed by chance: refused, or tokens that stand in the text."""
    rng = np.random.default_rng(0)
    text = "Ünïcode: the quick brown fox [SEP] 中文\u0301\u1b44\u302e é\u0323." * 3
    read = 0
    for _ in range(tries(300, 3_000)):
        blob = bytearray(BLOB)
        for place in (
            rng.integers(48, len(blob) // 4, 200) if rng.integers(2) else rng.integers(48, len(blob), 2_000)
        ):
            blob[place] = rng.integers(256)
        # Numbers that the layout hangs on stay, or none would be read.
        blob[:92] = BLOB[:92]
        try:
            _, head, tables = pieces.read(bytes(blob))
        except ValueError:
            continue
        read += 1
        ids, spans, words = make(head, tables)(text, False)
        assert len(ids) == len(spans) == len(words)
        assert all(0 <= start < stop <= len(text) for start, stop in spans)
    trust(changed_tables=read)


# -- what export compiles


SOURCE = json.loads(Bundle.open("nano").read(tables.SOURCE))
SOURCE["model"]["vocab"] = {
    word: number for word, number in SOURCE["model"]["vocab"].items() if number < 106 or len(word) < 4
}


def source(**changes) -> bytes:
    return json.dumps(SOURCE | changes).encode()


def of_normalizer(**changes) -> dict:
    return {"normalizer": SOURCE["normalizer"] | changes}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        of_normalizer(lowercase=False),
        of_normalizer(strip_accents=False),
        of_normalizer(clean_text=False, handle_chinese_chars=False),
        {"post_processor": None},
        {"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 102], "cls": ["[CLS]", 101]}},
        {"added_tokens": []},
        {"model": SOURCE["model"] | {"max_input_chars_per_word": 3, "continuing_subword_prefix": "@@"}},
    ],
)  # fmt: skip
def test_a_tokenizer_becomes_tables(few_characters, changes):
    from tokenizers import Tokenizer

    from export.pieces import compiled

    image = source(**changes)
    package = Tokenizer.from_str(image.decode())
    _, head, arrays = pieces.read(compiled(image))
    rng = np.random.default_rng(0)
    for make in (pieces.native, pieces.reference) if tables.runs_native() else (pieces.reference,):
        run = make(head, arrays)
        for _ in range(tries(500)):
            text = "".join(map(chr, rng.integers(1, 0x400, 5))) + " the [SEP] éte\u0323\u0301 aBc@@ "
            found = package.encode(text)
            assert run(text, True)[:2] == (found.ids, found.offsets), ascii(text)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}}}, "'WordLevel'"),
        ({"normalizer": {"type": "NFC"}}, "'NFC'"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "'Whitespace'"),
        ({"added_tokens": [SOURCE["added_tokens"][0] | {"lstrip": True}]}, "'\\[PAD\\]' with lstrip"),
        ({"model": SOURCE["model"] | {"max_input_chars_per_word": 5000}}, "5000 characters"),
    ],
)
def test_what_tables_cannot_say_is_refused_by_name(few_characters, changes, named):
    from export.pieces import compiled

    with pytest.raises(BundleError, match=named):
        compiled(source(**changes))


def test_the_tables_are_made_again_byte_by_byte(few_characters, monkeypatch):
    """All of them only in the long run: code points take a minute."""
    from export import characters
    from export.pieces import compiled

    if FULL:
        monkeypatch.setattr(characters, "CODE_POINTS", characters.of_unicode())
    made = compiled(Bundle.open("nano").read(tables.SOURCE))
    known, found = (pieces.read(blob)[2] for blob in (BLOB, made))
    assert found.units.tobytes() == known.units.tobytes()
    assert not FULL or made == BLOB


def test_a_bundle_gets_tables(few_characters, tmp_path):
    from export.pieces import add

    folder = hostile.clone("nano", tmp_path / "mine")
    (folder / tables.FILE).unlink()
    written = add(Bundle.open(hostile.seal(folder)), tmp_path / "made")
    assert written.manifest.files[tables.SOURCE].optional
    (written.path / tables.SOURCE).unlink()
    encoder, known = Encoder.load(written.path), Encoder.load("nano")
    assert encoder.encode(["the fox"]).tobytes() == known.encode(["the fox"]).tobytes()
