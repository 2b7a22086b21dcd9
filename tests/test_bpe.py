"""The tables of byte-level BPE give what the package `tokenizers` gives, in C and in Python; others are refused."""

import gzip
import json
import os
import struct
from itertools import pairwise
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import FEW
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import bpe, tables
from edgeret.encode.bundle import Bundle
from edgeret.encode.tables import Source
from edgeret.encode.tokenizer import load_tokenizer
from edgeret.errors import BundleError, InvalidDocumentError

pytest.importorskip(
    "tokenizers", reason="export needs the packages of the extra 'export': tokenizers is missing"
)
pytestmark = pytest.mark.usefixtures("few_characters", "some_characters")

FULL = os.environ.get("EDGERET_TEST_FULL") == "1"
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
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **options}


def later(numbers: str, **options) -> dict:
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+" % numbers
    )
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False, **options}
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


class Own:
    """A build over a file, which stays open."""

    def __init__(self, make, path: Path) -> None:
        self.source = Source(os.open(path, os.O_RDONLY))
        _, head, arrays = bpe.read(self.source, path.stat().st_size)
        self.run = make(head, arrays, self.source)


def package(name: str):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(source(**VARIANTS[name]).decode())


def assert_equal(own: Own, known, text: str) -> None:
    for special in (True, False):
        ids, spans, words = own.run(text, special, 0)
        expected = known.encode(text, add_special_tokens=special)
        assert (ids, spans) == (expected.ids, expected.offsets), ascii(text)
        assert [one == other for one, other in pairwise(words)] == [
            one == other for one, other in pairwise(expected.word_ids)
        ], ascii(text)


CHARACTERS = [chr(code) for first, stop in SOME for code in range(first, stop)]
PIECES = [
    *CORPUS[:2], CORPUS[3], "किताब 가각", "it's", "'LL", "'\u017f", "'re", "'v", "  ", "   ", "\r\n", "\n\n", " \n", "\t", " ", "12345", "\u00bd", "\u00a0",
    "<mask>", " <mask>", "  <mask>", "<s>", "</s", "e\u0301", "q\u0323\u0301", "\u0344\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8",
    "é|", "e\u0301|", " é|", "\u0958", "\u0b47\u0b3e", "aaaaaaaaaaaaaaaaaaaaaaa", "the the the", "\u0301", "fox",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(CHARACTERS), st.sampled_from(PIECES)), max_size=12).map("".join)


@pytest.mark.parametrize("make", BUILDS)
@pytest.mark.parametrize("name", VARIANTS)
def test_any_text_has_the_tokens_of_the_package(compiled, name, make):
    own, known = Own(make, compiled(name)), package(name)

    @settings(max_examples=5_000 if FULL else 150, deadline=None)
    @given(texts)
    def check(text):
        assert_equal(own, known, text)

    check()
