"""A tokenizer.json to the tables that edgeret reads in its place; what these cannot say is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgeret.encode import bpe, unigram
from edgeret.encode.bundle import Bundle, Source
from edgeret.encode.pieces import LONGEST_WORD, Head, Tables, read, reference, write
from edgeret.encode.tables import (
    ADDED,
    BYTE_PAIRS,
    FILE,
    HEAD,
    NOWHERE,
    SOURCE,
    WORDPIECE,
    Run,
)
from edgeret.errors import BundleError
from export import bytelevel, characters, sentencepiece, trie
from export.rewrite import rewrite

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

_PLAIN: Final = ("single_word", "lstrip", "rstrip", "normalized")
_TRIED: Final = 20_000
"""Texts that are compared with the tokenizer itself before anything is written."""


def add(bundle: Bundle, out: Path) -> Bundle:
    """Write `bundle` to `out`, which may be its own folder, with the tables of its tokenizer.

    An installation may leave out tokenizer.json then. Raises BundleError for a tokenizer that they cannot say.
    """
    return rewrite(bundle, out, files={FILE: compiled(bundle.read(SOURCE))}, optional={SOURCE})


@cache
def files(source: bytes) -> dict[str, bytes]:
    """What a new bundle has of a tokenizer.json: the file, and its tables where they can say it."""
    try:
        return {SOURCE: source, FILE: compiled(source)}
    except BundleError as error:
        print(f"export: {error}", file=sys.stderr)
        return {SOURCE: source}


def compiled(source: bytes) -> bytes:
    """The tables of a tokenizer.json. Raises BundleError for one that they cannot say."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(source.decode())
    # As the package writes it: with all that older files leave to be guessed.
    table = json.loads(tokenizer.to_str())
    try:
        blob = _compile(table, tokenizer, source)
        _compare(blob, tokenizer, table)
    except ValueError as error:
        raise BundleError(
            f"expected a tokenizer that edgeret has tables for in {SOURCE}, found {error}: a bundle without {FILE} "
            "needs the package tokenizers"
        ) from error
    return blob


def _compile(table: Mapping[str, Any], tokenizer: Tokenizer, source: bytes) -> bytes:
    model = table["model"]
    if model["type"] == "Unigram":
        return sentencepiece.compiled(table, _frame(table["post_processor"]), source)
    if model["type"] == "BPE":
        frame = _frame(bytelevel.without_level(table["post_processor"]))
        return bytelevel.compiled(table, frame, tokenizer, source)
    if model["type"] != "WordPiece":
        raise ValueError(f"a model of type {model['type']!r}")
    vocabulary: dict[str, int] = model["vocab"]
    longest = model["max_input_chars_per_word"]
    if not 0 < longest <= LONGEST_WORD:
        raise ValueError(f"words of {longest} characters")
    added = _added(table.get("added_tokens") or [])
    before, behind = _frame(table.get("post_processor"))
    numbers = {token.encode(): id for token, id in vocabulary.items() if token}
    if model["unk_token"] not in vocabulary:
        raise ValueError(f"the unknown token {model['unk_token']!r}, which it does not have")
    units = trie.build(numbers | {bytes([ADDED]) + token.encode(): id for token, id in added.items()})
    continuing = trie.place(units, model["continuing_subword_prefix"].encode())
    found = _characters(table)
    head = Head(
        kind=WORDPIECE,
        unknown=vocabulary[model["unk_token"]],
        longest=longest,
        continuing=NOWHERE if continuing is None else continuing,
        before=len(before),
        behind=len(behind),
        blocks=len(found.entries),
        sequences=len(found.sequences),
        marks=len(found.marks),
        units=len(units),
        vocabulary=1 + max(*vocabulary.values(), *added.values()),
    )
    special = np.array([*before, *behind], np.uint32)
    return write(hashlib.sha256(source).digest(), head, Tables(*found, units, special))


def _added(tokens: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    for token in tokens:
        if any(token[option] for option in _PLAIN):
            raise ValueError(
                f"the added token {token['content']!r} with {', '.join(filter(token.get, _PLAIN))}"
            )
    return {token["content"]: token["id"] for token in tokens}


def _frame(processor: Mapping[str, Any] | None) -> tuple[list[int], list[int]]:
    """Ids before a text and behind it."""
    if processor is None:
        return [], []
    if processor["type"] == "BertProcessing":
        return [processor["cls"][1]], [processor["sep"][1]]
    if processor["type"] != "TemplateProcessing":
        raise ValueError(f"a post_processor of type {processor['type']!r}")
    frame: tuple[list[int], list[int]] = ([], [])
    seen = False
    for piece in processor["single"]:
        if "Sequence" in piece:
            seen = True
        else:
            frame[seen].extend(processor["special_tokens"][piece["SpecialToken"]["id"]]["ids"])
    return frame


def _characters(table: Mapping[str, Any]) -> characters.Characters:
    from tokenizers import normalizers, pre_tokenizers

    normalizer, cut = table.get("normalizer") or {}, table.get("pre_tokenizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        raise ValueError(f"a normalizer of type {normalizer.get('type')!r}")
    if cut.get("type") != "BertPreTokenizer":
        raise ValueError(f"a pre_tokenizer of type {cut.get('type')!r}")
    cleans, parts, lowers = (normalizer[key] for key in ("clean_text", "handle_chinese_chars", "lowercase"))
    strips = normalizer["strip_accents"]
    strips = lowers if strips is None else strips
    decomposed = normalizers.Sequence(
        [normalizers.BertNormalizer(cleans, parts, False, False), normalizers.NFD()]
    )
    return characters.tables(
        normalizers.BertNormalizer(cleans, parts, strips, lowers),
        normalizers.BertNormalizer(False, False, strips, lowers) if strips else None,
        decomposed if strips else None,
        pre_tokenizers.BertPreTokenizer(),
    )


def _compare(blob: bytes, tokenizer: Tokenizer, table: Mapping[str, Any]) -> None:
    """Raise ValueError where the tables say something else than the tokenizer."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    run = _reference(blob)
    for text in _texts(table):
        found = tokenizer.encode(text)
        ids, spans, _ = run(text, True)
        if (ids, spans) != (found.ids, found.offsets):
            raise ValueError(f"other tokens of {text!r:.80} than its own")


def _reference(blob: bytes) -> Run:
    kind = HEAD.unpack_from(blob)[2]
    if kind == WORDPIECE:
        return reference(*read(blob)[1:])
    with TemporaryFile() as file:
        file.write(blob)
        file.flush()
        source = Source(os.dup(file.fileno()), FILE)
    if kind == BYTE_PAIRS:
        run = bpe.reference(*bpe.read(source, len(blob))[1:], source)
        return lambda text, special, *, placed=True: run(text, special, 0, placed=placed)
    return unigram.reference(*unigram.read(source, len(blob))[1:], source)


def _texts(table: Mapping[str, Any]) -> Iterable[str]:
    """Texts of its own tokens, and of characters of all kinds."""
    rng = np.random.default_rng(0)
    vocabulary = table["model"]["vocab"]
    tokens = [*(vocabulary if isinstance(vocabulary, dict) else (token for token, _ in vocabulary))]
    tokens = [
        *map(_text_of if table["model"]["type"] == "BPE" else _with_blanks, tokens),
        *(token["content"] for token in table.get("added_tokens") or []),
    ]
    codes = np.array(characters.CODE_POINTS)
    marks = np.intersect1d(codes, [*range(0x300, 0x370), 0xE9, 0x8D4, 0x1B44, 0x302E, 0x1D165])
    letters = codes[codes < 0x3000]
    for _ in range(_TRIED):
        several = [tokens[number] for number in rng.integers(len(tokens), size=3)]
        drawn = [
            chr(code)
            for pool, size in ((codes, 2), (marks, 3), (letters, 3))
            for code in rng.choice(pool, size)
        ]
        rng.shuffle(drawn)
        yield rng.choice(["", " "]).join([*several, *drawn])


def _with_blanks(token: str) -> str:
    return token.replace("\u2581", " ")


def _text_of(token: str) -> str:
    return (bytelevel.bytes_of(token) or token.encode()).decode(errors="ignore")
