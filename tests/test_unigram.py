"""The tables of Unigram give what the package `tokenizers` gives, in C and in Python; others are refused."""

import base64
import json
import os
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import hostile
import numpy as np
import pytest
from beside import Own, assert_equal
from conftest import FEW
from counts import CI, FULL, long, tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import foreign, tables, unigram
from edgeret.encode.bundle import Bundle
from edgeret.encode.foreign import Foreign
from edgeret.encode.tokenizer import load_tokenizer, planned_bytes
from edgeret.errors import BundleError, InvalidDocumentError

pytest.importorskip(
    "tokenizers", reason="export needs the packages of the extra 'export': tokenizers is missing"
)
pytestmark = pytest.mark.usefixtures("few_characters")

BUILDS = [
    pytest.param(unigram.native, marks=pytest.mark.skipif(not tables.runs_native(), reason="not built")),
    unigram.reference,
]
MARK = "\u2581"


# -- a tokenizer


def charsmap(strings: dict[str, str]) -> str:
    """A map as SentencePiece writes it: each node of its trie has 256 units for itself."""
    nodes = {b""} | {key.encode()[:size] for key in strings for size in range(len(key.encode()) + 1)}
    bases = {node: 256 * number for number, node in enumerate(sorted(nodes), start=1)}
    units, blob = [0] * (256 * (len(nodes) + 1)), b""
    places = {node: bases[node[:-1]] ^ node[-1] for node in nodes if node} | {b"": 0}
    for node, base in bases.items():
        units[places[node]] = (places[node] ^ base) << 10 | (node[-1] if node else 0)
    for key, made in strings.items():
        units[places[key.encode()]] |= 1 << 8
        units[bases[key.encode()]] = 1 << 31 | len(blob)
        blob += made.encode() + b"\0"
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + blob).decode()


def folded() -> dict[str, str]:
    """NFKC of some characters and pairs, blanks for blanks, nothing for controls, and one that shrinks."""
    codes = [
        *range(1, 0x300),
        0x2026,
        MARK,
        *range(0x2000, 0x2010),
        *range(0xFB00, 0xFB07),
        *range(0xFF21, 0xFF30),
    ]
    found = {}
    for character in (one if isinstance(one, str) else chr(one) for one in codes):
        made = unicodedata.normalize("NFKC", character)
        if character.isspace() or character in (MARK, "\u200b"):
            made = " "
        elif unicodedata.category(character) == "Cc":
            made = ""
        if made != character:
            found[character] = made
        parts = unicodedata.normalize("NFD", character)
        if len(parts) == 2 and len(parts.encode()) < 6:
            found[parts] = made
    return found | {"か\u3099": "が"}


WORDS = [
    "the",
    "best",
    "the best",
    "für",
    "élan",
    "が",
    "किताब",
    "한국",
    "fi",
    "e\u0301",
    "x\u2581y",
    "ab" * 9,
]


def vocabulary() -> list[list]:
    """Parts of words, with few scores, so that many paths have the same."""
    rng = np.random.default_rng(0)
    texts = [MARK + word.replace(" ", MARK) for word in WORDS]
    parts = {text[i:j] for text in texts for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    scores = [-2.5, -3.1000000000000001, -5.6000003814697266, -8.7, -11.25]
    listed = [[part, float(rng.choice(scores))] for part in sorted(parts)]
    return [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0], ["<mask>", 0.0], *listed]


def added(id: int, content: str, **options) -> dict:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, "special": True, **plain, **options}


def metaspace(**options) -> dict:
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "always", "split": True, **options}


def sequence(*steps) -> dict:
    return {"type": "Sequence", "normalizers": [*steps], "pretokenizers": [*steps]}


def blanks(content: str) -> dict:
    return {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content}


SPLIT = {"type": "WhitespaceSplit"}
STRIP = {"type": "Strip", "strip_left": False, "strip_right": True}
MAP = {"type": "Precompiled", "precompiled_charsmap": charsmap(folded())}
MODEL = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary(), "byte_fallback": False}
OCTETS = [[f"<0x{octet:02X}>", -12.0] for octet in range(256)]
SOURCE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(3, "<mask>", lstrip=True)],
    "normalizer": MAP,
    "pre_tokenizer": sequence(SPLIT, metaspace()),
    "post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]},
    "decoder": None,
    "model": MODEL,
}
VARIANTS = {
    "as of XLM-R": {},
    "as of XLM-R, newer": {"normalizer": sequence(MAP, STRIP, blanks(MARK)), "pre_tokenizer": metaspace()},
    "marks": {"pre_tokenizer": metaspace()},
    "no words": {"pre_tokenizer": metaspace(split=False)},
    "no mark": {"pre_tokenizer": metaspace(prepend_scheme="never")},
    "no mark between blanks": {"pre_tokenizer": sequence(SPLIT, metaspace(prepend_scheme="never"))},
    "marks that stay": {"pre_tokenizer": sequence(SPLIT, metaspace(split=False))},
    "older": {"pre_tokenizer": {"type": "Metaspace", "replacement": MARK, "add_prefix_space": True}},
    "blanks": {"normalizer": sequence(MAP, blanks(" "))},
    "blanks and marks": {"normalizer": sequence(blanks(" ")), "pre_tokenizer": metaspace()},
    "stripped": {"normalizer": sequence(MAP, STRIP), "pre_tokenizer": metaspace(split=False)},
    "no map": {"normalizer": None},
    "bytes": {"model": MODEL | {"vocab": vocabulary() + OCTETS, "byte_fallback": True}},
    "nothing around": {"post_processor": None, "added_tokens": []},
}


def source(**changes) -> bytes:
    return json.dumps(SOURCE | changes).encode()


@pytest.fixture(scope="module")
def compiled(few_characters, tmp_path_factory):
    """The file of tables of a variant, made once."""
    from export.pieces import compiled

    made = {}

    def path(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("tables") / "tokenizer.bin"
            made[name].write_bytes(compiled(source(**VARIANTS[name])))
        return made[name]

    return path


def package(name: str):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(source(**VARIANTS[name]).decode())


CHARACTERS = [chr(code) for first, stop in FEW for code in range(first, stop)]
PIECES = [
    *WORDS,
    *folded(),
    "  ",
    " <mask>",
    "<s>",
    "<unk>",
    "<mask>",
    "\r\n",
    "\u0600e\u0301",
    "©\u200d®",
    "\u1100\uac00",
]
texts = st.lists(st.one_of(st.sampled_from(CHARACTERS), st.sampled_from(PIECES)), max_size=12).map("".join)


@pytest.mark.parametrize("make", BUILDS)
@pytest.mark.parametrize("name", list(VARIANTS)[:: 1 if CI else 3])
def test_any_text_has_the_tokens_of_the_package(compiled, name, make):
    own, known = Own(make, compiled(name), unigram.read), package(name)

    @settings(max_examples=tries(50, 5_000), deadline=None)
    @given(texts)
    def check(text):
        assert_equal(own.run, known, text)

    check()


def test_every_code_point_has_the_tokens_of_the_package(tmp_path, monkeypatch, trust):
    """Alone, between letters, twice, between blanks, behind a letter before a mark; all of Unicode in the long run."""
    from export import characters
    from export.pieces import compiled

    if FULL:
        monkeypatch.setattr(characters, "CODE_POINTS", characters.of_unicode())
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(compiled(source()))
    known = package("as of XLM-R")
    builds = [unigram.native, unigram.reference] if tables.runs_native() else [unigram.reference]
    runs = [Own(make, path, unigram.read) for make in builds]
    for code in characters.CODE_POINTS:
        if 0xD800 <= code < 0xE000:
            continue
        for form in ("{}", "a{}b", "{0}{0}", " {} ", "e{}\u0301"):
            text = form.format(chr(code))
            expected = known.encode(text)
            for own in runs:
                assert own.run(text, True)[:2] == (expected.ids, expected.offsets), ascii(text)
                assert own.run(text, True, placed=False) == (expected.ids, [], []), ascii(text)
    trust(code_points=len(characters.CODE_POINTS))


# -- in a bundle


def in_bundle(folder: Path, path: Path, **changes) -> Path:
    made = hostile.clone("nano", folder)
    (made / tables.SOURCE).write_bytes(source(**changes))
    (made / tables.FILE).write_bytes(path.read_bytes())
    return hostile.seal(made)


def test_a_bundle_has_the_tokens_of_the_package(compiled, tmp_path):
    bundle = Bundle.open(in_bundle(tmp_path / "mine", compiled("as of XLM-R")))
    own, known = load_tokenizer(bundle), Foreign.load(bundle)
    assert isinstance(own, unigram.Unigram)
    assert (own.unknown, own.special) == (0, known.special)
    assert own.tokenize("the  best für <mask>?")[:2] == known.tokenize("the  best für <mask>?")[:2]
    assert planned_bytes(bundle)["tokenizer"] == compiled("as of XLM-R").stat().st_size + tables.PLANNED_BYTES
    with pytest.raises(InvalidDocumentError, match="surrogate"):
        own.tokenize("\udfff")
    # Without the tables its size is that of the vocabulary: 250,000 pieces in 9 MB were seen to take 297 MB.
    (bundle.path / tables.FILE).unlink()
    bare = Bundle.open(hostile.seal(bundle.path))
    assert planned_bytes(bare)["tokenizer"] == foreign.planned_bytes(
        (bundle.path / tables.SOURCE).stat().st_size
    )
    assert 297e6 < foreign.planned_bytes(9_000_000) < 380e6


def test_tables_of_another_tokenizer_are_refused(compiled, tmp_path):
    bundle = Bundle.open(
        in_bundle(tmp_path / "mine", compiled("as of XLM-R"), truncation=None, padding=None, version="2")
    )
    with pytest.raises(BundleError, match="made of"):
        load_tokenizer(bundle)


@pytest.mark.parametrize("make", BUILDS)
def test_a_file_that_is_cut_meanwhile_is_an_error(compiled, tmp_path, make):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(compiled("as of XLM-R").read_bytes())
    own = Own(make, path, unigram.read)
    os.truncate(path, 1000)
    with pytest.raises(BundleError, match="as long as it was"):
        own.run("the best", True)


# -- tables that somebody made


def changed(blob: bytes, **numbers) -> bytes:
    head = unigram.Head(*struct.unpack_from("<11I", blob, 48))
    return blob[:48] + struct.pack("<11I", *head._replace(**numbers)) + blob[92:]


HOSTILE = {
    "cut": lambda blob: blob[:-4],
    "a byte more": lambda blob: blob + b"\0",
    "half a head": lambda blob: blob[:80],
    "another magic": lambda blob: b"x" + blob[1:],
    "another kind": lambda blob: changed(blob, kind=9),
    "thousands of special tokens": lambda blob: changed(blob, before=2**31),
    "some bytes": lambda blob: changed(blob, octets=255),
    "no units": lambda blob: changed(blob, units=0),
    "no characters": lambda blob: changed(blob, blocks=0),
    "4 billion units": lambda blob: changed(blob, units=2**32 - 1),
    "an unknown token past the end": lambda blob: changed(blob, unknown=2**31),
    "a lowest score past the end": lambda blob: changed(blob, lowest=2**31),
    "entries past the end": lambda blob: blob[:92] + b"\xff" * 1024 + blob[92 + 1024 :],
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_tables_are_refused_by_name(compiled, tmp_path, change):
    path = tmp_path / "tables"
    path.write_bytes(change(compiled("bytes").read_bytes()))
    bundle = Bundle.open(in_bundle(tmp_path / "mine", path, **VARIANTS["bytes"]))
    with pytest.raises(BundleError, match="expected"):
        load_tokenizer(bundle)


@pytest.mark.parametrize("make", BUILDS)
def test_any_tables_that_are_read_stay_within_themselves(compiled, tmp_path, make, trust):
    """Numbers changed by chance: refused, or tokens that stand in the text."""
    rng = np.random.default_rng(0)
    text = "The best für \u0600e\u0301 <mask>  किताब 한국\r\n\x01ﬁ が\u3099." * 2
    path, whole, read = tmp_path / "tables", compiled("bytes").read_bytes(), 0
    for _ in range(tries(200, 2_000)):
        blob = bytearray(whole)
        for place in rng.integers(92, len(blob), 2_000):
            blob[place] = rng.integers(256)
        # Those that are compared at the start are left, or none would be read.
        head = unigram.Head(*struct.unpack_from("<11I", blob, 48))
        stop = 92 + 4 * (256 * head.blocks + head.sequences)
        blob[stop : head.offset] = whole[stop : head.offset]
        for at in range(92, 92 + 1024 * head.blocks, 4):
            blob[at + 1 : at + 4] = whole[at + 1 : at + 4]
        path.write_bytes(blob)
        try:
            own = Own(make, path, unigram.read)
        except ValueError:
            continue
        read += 1
        ids, spans, words = own.run(text, False)
        assert len(ids) == len(spans) == len(words)
        assert all(0 <= start < stop <= len(text) for start, stop in spans)
    assert read
    trust(changed_unigrams=read)


# -- what export compiles


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"added_tokens": [added(1, "<s>", rstrip=True)]}, "'<s>' with rstrip"),
        ({"added_tokens": [added(1, "<s>", single_word=True)]}, "'<s>' with single_word"),
        ({"added_tokens": [added(1, "<s>", normalized=True)]}, "'<s>' with normalized"),
        ({"pre_tokenizer": metaspace(prepend_scheme="first")}, "'first'"),
        ({"pre_tokenizer": metaspace(replacement="_")}, "'_'"),
        ({"pre_tokenizer": SPLIT}, "WhitespaceSplit"),
        ({"normalizer": {"type": "NFC"}}, "'NFC'"),
        ({"normalizer": sequence(blanks(" "), MAP)}, "'Precompiled'"),
        ({"normalizer": blanks("_")}, "'Replace'"),
        ({"normalizer": blanks(MARK)}, "'Replace'"),
        ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap({"한": "x"})}}, "U\\+D55C"),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap({"\u0600": "x"})}},
            "U\\+0600",
        ),
        ({"model": MODEL | {"unk_id": None}}, "unknown"),
        ({"model": MODEL | {"vocab": [*vocabulary(), ["the", -1.0]]}}, "twice"),
        ({"model": MODEL | {"vocab": [*vocabulary(), ["zz", 1.0]]}}, "above 0"),
        ({"model": MODEL | {"vocab": vocabulary() + OCTETS[1:], "byte_fallback": True}}, "<0x00>"),
    ],
)
def test_what_tables_cannot_say_is_refused_by_name(changes, named):
    from export.pieces import compiled

    with pytest.raises(BundleError, match=named):
        compiled(source(**changes))


LOADING = """
import os, sys, time
from edgeret.encode import unigram
from edgeret.encode.bundle import Source

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) << 10

def load(path):
    source = Source(os.open(path, os.O_RDONLY), "tokenizer.bin")
    _, head, tables = unigram.read(source, os.path.getsize(path))
    return source, unigram.native(head, tables, source)

load(sys.argv[1])
before = resident()
kept = load(sys.argv[2])
kept[1]("some text", True)
print(resident() - before)
"""


@pytest.mark.skipif(not tables.runs_native() or sys.platform != "linux", reason="not built")
@long
def test_a_large_vocabulary_stays_in_the_file(compiled, tmp_path, trust):
    from export.pieces import compiled as compile_tables

    rng = np.random.default_rng(0)
    letters = np.array([*"abcdefghijklmnopqrstuvwxyzäöüéñçжзилмнøåčšž"])
    found = {"".join(rng.choice(letters, size)) for size in rng.integers(2, 8, 250_000 if FULL else 40_000)}
    words = [
        [word, -float(rng.integers(3, 20))] for word in sorted(found - {part for part, _ in vocabulary()})
    ]
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(compile_tables(source(model=MODEL | {"vocab": vocabulary() + words})))
    command = [sys.executable, "-c", LOADING, compiled("as of XLM-R"), path]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    )
    assert path.stat().st_size > 20 * len(words)
    assert int(ran.stdout) <= 600_000
    trust(resident_bytes=int(ran.stdout))
