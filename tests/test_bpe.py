"""The tables of byte-level BPE give what the package `tokenizers` gives, in C and in Python; others are refused."""

import gzip
import json
import os
import struct
from pathlib import Path

import hostile
import numpy as np
import pytest
from beside import Own, assert_equal
from conftest import FEW
from counts import CI, FULL, tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import bpe, tables, windows
from edgeret.encode.bundle import Bundle
from edgeret.encode.tokenizer import load_tokenizer
from edgeret.errors import BundleError, InvalidDocumentError

pytest.importorskip(
    "tokenizers", reason="export needs the packages of the extra 'export': tokenizers is missing"
)
pytestmark = pytest.mark.usefixtures("few_characters", "some_characters")

BUILDS = [
    pytest.param(bpe.native, marks=pytest.mark.skipif(not tables.runs_native(), reason="not built")),
    bpe.reference,
]
TEXTS = Path(__file__).parents[2] / "shared"


SOME = [*FEW, (0xB38, 0xB60), (0x1160, 0x1180), (0x11A8, 0x11C8), (0x1E00, 0x2000)]
"""Code points that export asks the package about: those that are joined to others among them."""


@pytest.fixture(scope="module")
def some_characters(few_characters):
    from export import characters

    with pytest.MonkeyPatch.context() as patch:
        codes = {code for first, stop in SOME for code in range(first, stop)}
        patch.setattr(characters, "CODE_POINTS", sorted(codes))
        yield


# -- a tokenizer


CORPUS = [
    "The quick brown fox jumps over the lazy dog, and it's the best that we've seen; they'll say I'd know.",
    "Straße, élan, naïve café; für die Größe 1234567 und 3.14.  Zwei  Leerzeichen\n\n\tund Zeilen\r\n\r\n",
    "किताब 한국어 한국 が ガ 中文很多。 emoji 🍕🍔 and \u200bothers… DON'T SHOUT, I'LL SEE",
    "for i in range(10):\n        print('x' * i)  # the loop\n" * 2,
] * 3  # fmt: skip
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def trained() -> dict:
    """A vocabulary and merges of these texts, as the package writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return json.loads(made.to_str())["model"]


def added(id: int, content: str, **options) -> dict:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": content, "special": True, **plain, **options}


def level(**options) -> dict:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
        **options,
    }


def later(numbers: str, **options) -> dict:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ).replace("%s", numbers)
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
        **options,
    }
    return {"type": "Sequence", "pretokenizers": [split, level(use_regex=False)]}


def roberta(**options) -> dict:
    around = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    return {**around, "trim_offsets": True, "add_prefix_space": False, **options}


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
}
MODEL = trained()
MASK = added(700, "<mask>", lstrip=True)
SOURCE = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [*(added(id, token) for id, token in enumerate(SPECIAL)), MASK],
    "normalizer": None,
    "pre_tokenizer": level(),
    "post_processor": roberta(),
    "decoder": None,
    "model": MODEL,
}
BLANKS = [added(701 + size, " " * size, normalized=True, special=False) for size in range(2, 6)]
ACCENT = added(710, "é|", normalized=True, lstrip=True)
VARIANTS = {
    "as of RoBERTa": {},
    "as of RoBERTa, blanks before": {
        "pre_tokenizer": level(add_prefix_space=True),
        "post_processor": roberta(add_prefix_space=True),
    },
    "as of GPT-2": {"post_processor": level(trim_offsets=False), "added_tokens": []},
    "as of ModernBERT": {
        "normalizer": {"type": "NFC"},
        "post_processor": TEMPLATE,
        "added_tokens": [*SOURCE["added_tokens"], *BLANKS, ACCENT],
    },
    "as of Qwen": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": later(""),
        "post_processor": {"type": "Sequence", "processors": [level(trim_offsets=False), TEMPLATE]},
    },
    "as of Llama": {"pre_tokenizer": later("{1,3}"), "model": MODEL | {"ignore_merges": True}},
    "any digits": {"pre_tokenizer": later("+")},
    "no words": {"pre_tokenizer": level(use_regex=False), "post_processor": level()},
    "blanks before, all trimmed": {
        "pre_tokenizer": level(add_prefix_space=True),
        "added_tokens": [MASK, *BLANKS, ACCENT],
    },
    "blanks before, none trimmed": {
        "pre_tokenizer": level(add_prefix_space=True),
        "post_processor": roberta(trim_offsets=False),
    },
    "decomposed": {"normalizer": {"type": "NFD"}, "added_tokens": [ACCENT]},
    "compatible": {"normalizer": {"type": "NFKC"}, "post_processor": level(add_prefix_space=True)},
    "compatible, decomposed": {"normalizer": {"type": "NFKD"}},
    "lower case": {"normalizer": {"type": "Lowercase"}},
    "as of BERT around": {
        "post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]},
        "model": MODEL | {"unk_token": "<unk>"},
    },
}


def source(**changes) -> bytes:
    return json.dumps(SOURCE | changes).encode()


@pytest.fixture(scope="module")
def compiled(some_characters, tmp_path_factory):
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


CHARACTERS = [chr(code) for first, stop in SOME for code in range(first, stop)]
PIECES = [
    *CORPUS[:2], CORPUS[3], "किताब 가각", "it's", "'LL", "'\u017f", "'re", "'v", "  ", "   ", "\r\n", "\n\n", " \n",
    "\t", " ", "12345", "\u00bd", "\u00a0", "<mask>", " <mask>", "  <mask>", "<s>", "</s", "e\u0301", "q\u0323\u0301",
    "\u0344\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8", "é|", "e\u0301|", " é|", "\u0958", "\u0b47\u0b3e",
    "aaaaaaaaaaaaaaaaaaaaaaa", "the the the", "\u0301", "fox",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(CHARACTERS), st.sampled_from(PIECES)), max_size=12).map("".join)


@pytest.mark.parametrize("make", BUILDS)
@pytest.mark.parametrize("name", list(VARIANTS)[:: 1 if CI else 3])
def test_any_text_has_the_tokens_of_the_package(compiled, name, make):
    own, known = Own(make, compiled(name), bpe.read), package(name)

    @settings(max_examples=tries(150, 5_000), deadline=None)
    @given(texts)
    def check(text):
        assert_equal(lambda *asked: own.run(*asked, 0), known, text)

    check()


def test_every_code_point_has_the_tokens_of_the_package(tmp_path, monkeypatch, trust):
    """Alone, between letters, twice, between blanks, before a mark; all of Unicode in the long run."""
    from export import characters
    from export.pieces import compiled

    if FULL:
        monkeypatch.setattr(characters, "CODE_POINTS", characters.of_unicode())
    codes = characters.CODE_POINTS if FULL else characters.CODE_POINTS[::5]
    for name in ("as of RoBERTa", "as of Qwen", "compatible"):
        path = tmp_path / "tokenizer.bin"
        path.write_bytes(compiled(source(**VARIANTS[name])))
        known = package(name)
        runs = [Own(make, path, bpe.read) for make in builds()]
        for code in codes:
            for form in ("{}", "a{}b", "{0}{0}", " {} ", "e{}\u0301", "'{}1"):
                text = form.format(chr(code))
                expected = known.encode(text)
                for own in runs:
                    assert own.run(text, True, 0)[:2] == (expected.ids, expected.offsets), ascii(text)
                    assert own.run(text, True, 0, placed=False) == (expected.ids, [], []), ascii(text)
    trust(code_points=len(codes))


def builds() -> list:
    return [bpe.native, bpe.reference] if tables.runs_native() else [bpe.reference]


@pytest.mark.skipif(not TEXTS.is_dir(), reason="no texts beside the repository")
def test_lines_of_many_languages_have_the_tokens_of_the_package(tmp_path, monkeypatch, trust):
    """A vocabulary of these texts over all of Unicode: 100,000 lines of each tokenizer in the long run."""
    from tokenizers import Tokenizer, trainers

    from export import characters
    from export.pieces import compiled

    lines = some_lines(100_000 if FULL else 400)
    codes = sorted({ord(letter) for line in lines for letter in line} | set(characters.CODE_POINTS))
    monkeypatch.setattr(characters, "CODE_POINTS", characters.of_unicode() if FULL else codes)
    for name in ("as of RoBERTa, blanks before", "as of ModernBERT", "as of Qwen"):
        known = package(name)
        trainer = trainers.BpeTrainer(
            vocab_size=30_000 if FULL else 2_000,
            special_tokens=[*SPECIAL, "<mask>"],
            initial_alphabet=sorted(LETTERS),
            show_progress=False,
        )
        known.train_from_iterator(lines[:20_000], trainer)
        image = known.to_str().encode()
        path = tmp_path / "tokenizer.bin"
        path.write_bytes(compiled(image))
        known = Tokenizer.from_str(image.decode())
        for make in builds()[: 1 if FULL else 2]:
            own = Own(make, path, bpe.read)
            for line in lines:
                expected = known.encode(line)
                assert own.run(line, True, 0)[:2] == (expected.ids, expected.offsets), ascii(line)
    trust(lines=len(lines))


LETTERS = {letter for letter in MODEL["vocab"] if len(letter) == 1}


def some_lines(count: int) -> list[str]:
    paths = sorted(path for folder in ("text", "text_multi") for path in (TEXTS / folder).glob("*.gz"))
    found = []
    for path in paths if FULL else paths[:: len(paths) // 20]:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as stream:
            found += [line for line, _ in zip(stream, range(tries(20, 5_000)), strict=False)]
    rows = np.random.default_rng(0).permutation(len(found))[:count]
    return [found[row] for row in rows]


# -- in a bundle


def in_bundle(folder: Path, path: Path, **changes) -> Path:
    made = hostile.clone("nano", folder)
    (made / tables.SOURCE).write_bytes(source(**changes))
    (made / tables.FILE).write_bytes(path.read_bytes())
    return hostile.seal(made)


def test_a_bundle_has_the_tokens_of_the_package(compiled, tmp_path):
    name = "as of BERT around"
    own = load_tokenizer(Bundle.open(in_bundle(tmp_path / "mine", compiled(name), **VARIANTS[name])))
    expected = package(name).encode("the  quick <mask>?")
    assert isinstance(own, bpe.BytePairs)
    assert (own.unknown, own.special) == (3, 2)
    assert own.tokenize("the  quick <mask>?")[:2] == (expected.ids, expected.offsets)
    with pytest.raises(InvalidDocumentError, match="surrogate"):
        own.tokenize("\udfff")


@pytest.mark.parametrize(
    "name", ["as of RoBERTa, blanks before", "as of RoBERTa", "as of ModernBERT", "as of Qwen"]
)
def test_windows_are_the_whole(compiled, tmp_path, monkeypatch, name):
    """But where a word is longer than one."""
    tokenizer = load_tokenizer(Bundle.open(in_bundle(tmp_path / "mine", compiled(name), **VARIANTS[name])))
    monkeypatch.setattr(windows, "CHARACTERS", 150)
    monkeypatch.setattr(windows, "_OVERLAP", 60)
    pool = st.lists(st.sampled_from([*CORPUS[0].split(), *PIECES[4:]]), min_size=1, max_size=8)

    @settings(max_examples=tries(80, 2_000), deadline=None)
    @given(pool.flatmap(lambda found: st.lists(st.sampled_from(found), max_size=200).map(" ".join)))
    def check(text):
        whole = tokenizer.tokenize(text, special=False)
        parts = [*windows.windows(tokenizer, text)]
        assert [id for part in parts for id in part.ids] == whole.ids
        assert [span for part in parts for span in part.spans] == whole.spans

    check()


@pytest.mark.parametrize("make", BUILDS)
def test_a_file_that_is_cut_meanwhile_is_an_error(compiled, tmp_path, make):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(compiled("as of RoBERTa").read_bytes())
    own = Own(make, path, bpe.read)
    os.truncate(path, 1000)
    with pytest.raises(BundleError, match="as long as it was"):
        own.run("Zwei Hunde", True, 0)


# -- tables that somebody made


def changed(blob: bytes, **numbers) -> bytes:
    head = bpe.Head(*struct.unpack_from("<11I", blob, 48))
    return blob[:48] + struct.pack("<11I", *head._replace(**numbers)) + blob[92:]


HOSTILE = {
    "cut": lambda blob: blob[:-4],
    "a byte more": lambda blob: blob + b"\0",
    "half a head": lambda blob: blob[:80],
    "another magic": lambda blob: b"x" + blob[1:],
    "another kind": lambda blob: changed(blob, kind=9),
    "thousands of special tokens": lambda blob: changed(blob, before=2**31),
    "no units": lambda blob: changed(blob, units=0),
    "no characters": lambda blob: changed(blob, blocks=0),
    "4 billion units": lambda blob: changed(blob, units=2**32 - 1),
    "4 billion merges": lambda blob: changed(blob, merges=2**32 - 1),
    "an unknown token past the end": lambda blob: changed(blob, unknown=2**31),
    "parts past the end": lambda blob: blob[:92] + b"\xff\xff\xff\x7f" * 256 + blob[92 + 1024 :],
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_tables_are_refused_by_name(compiled, tmp_path, change):
    path = tmp_path / "tables"
    path.write_bytes(change(compiled("as of Qwen").read_bytes()))
    bundle = Bundle.open(in_bundle(tmp_path / "mine", path, **VARIANTS["as of Qwen"]))
    with pytest.raises(BundleError, match="expected"):
        load_tokenizer(bundle)


@pytest.mark.parametrize("make", BUILDS)
def test_any_tables_that_are_read_stay_within_themselves(compiled, tmp_path, make, trust):
    """Numbers changed by chance: refused, or tokens that stand in the text."""
    rng = np.random.default_rng(0)
    text = "It's  the best für \u0600e\u0301 <mask>  किताब 각\u11a8\r\n\x01ﬁ q\u0323\u0301 1234." * 2
    path, whole, read = tmp_path / "tables", compiled("as of Qwen").read_bytes(), 0
    head = bpe.Head(*struct.unpack_from("<11I", whole, 48))
    for _ in range(tries(200, 2_000)):
        blob = bytearray(whole)
        first = 92 if rng.integers(2) else head.offset
        for place in rng.integers(first, len(blob), 2_000):
            blob[place] = rng.integers(256)
        # Those that are compared at the start are left, or none would be read.
        stop = 92 + 4 * (256 * head.blocks + head.sequences)
        blob[stop : head.offset] = whole[stop : head.offset]
        for at in range(92, 92 + 1024 * head.blocks, 4):
            blob[at + 1 : at + 4] = whole[at + 1 : at + 4]
        path.write_bytes(blob)
        try:
            own = Own(make, path, bpe.read)
        except ValueError:
            continue
        read += 1
        ids, spans, words = own.run(text, False, int(rng.integers(4)))
        assert len(ids) == len(spans) == len(words)
        assert all(0 <= start <= stop <= len(text) for start, stop in spans)
    assert read
    trust(changed_byte_pairs=read)


# -- what export compiles


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"added_tokens": [added(0, "<s>", rstrip=True)]}, "'<s>' with rstrip"),
        ({"added_tokens": [added(0, "<s>", single_word=True)]}, "'<s>' with single_word"),
        ({"added_tokens": [added(700, "\u0120x")]}, "a blank is written"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "'Whitespace'"),
        ({"pre_tokenizer": None}, "types \\[\\]"),
        ({"pre_tokenizer": later("{2}")}, "pattern"),
        ({"pre_tokenizer": later("", behavior="Removed")}, "'Removed'"),
        ({"normalizer": {"type": "StripAccents"}}, "'StripAccents'"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}}, "'Sequence'"),
        ({"post_processor": {"type": "Sequence", "processors": [TEMPLATE, level()]}}, "'ByteLevel'"),
        ({"model": MODEL | {"dropout": 0.1}}, "dropout"),
        ({"model": MODEL | {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix"),
        ({"model": MODEL | {"vocab": {"a": 0}, "merges": []}, "added_tokens": []}, "byte 0x00"),
    ],
)
def test_what_tables_cannot_say_is_refused_by_name(changes, named):
    from export.pieces import compiled

    with pytest.raises(BundleError, match=named):
        compiled(source(**changes))
