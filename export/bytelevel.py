"""A byte-level BPE in a tokenizer.json to the tables that edgeret reads in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bpe import (
    BLANK,
    CHANGES,
    COMPOSES,
    ENDING,
    ENDINGS,
    FOLLOWS,
    LETTER,
    MOST_PARTS,
    NUMBER,
    NUMBERS,
    OTHER,
    PARTS,
    PREFIXES,
    RANK,
    RANKS,
    SPACE,
    SPARES,
    SPLITS,
    SPLITS_MORE,
    SYLLABLE,
    TRIMS,
    Head,
    Tables,
    write,
)
from edgeret.encode.tables import ADDED, BYTE_PAIRS, MAPS, NOWHERE, PAGES, syllable
from export import characters, trie

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Frame = tuple[list[int], list[int]]

_LATER: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS: Final = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": SPLITS,
    _LATER % "{1,3}": SPLITS_MORE | 3 << NUMBERS,
    _LATER % "": SPLITS_MORE | 1 << NUMBERS,
    _LATER % "+": SPLITS_MORE,
}
"""Of words: GPT-2's, and those of later models."""

_FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")
_JOINED: Final = ("NFC", "NFKC")
_SYLLABLES: Final = range(0xAC00, 0xD7A4)
_LETTERS: Final = (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))
"""Of Hangul, which join what stands before them."""


def compiled(table: Mapping[str, Any], frame: Frame, tokenizer: Tokenizer, source: bytes) -> bytes:
    """The tables of a tokenizer as the package writes it.

    frame: ids before a text and behind it. Raises ValueError for what they cannot say.
    """
    model = table["model"]
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model[option]:
            raise ValueError(f"a model with {option} {model[option]!r}")
    tokens = {bytes_of(token): id for token, id in model["vocab"].items()}
    octets = [tokens.get(bytes([octet])) for octet in range(256)]
    if None in octets:
        raise ValueError(f"a vocabulary without byte 0x{octets.index(None):02X}")
    flags = _pattern(table["pre_tokenizer"]) | _trims(table["post_processor"])
    flags |= COMPOSES if (table["normalizer"] or {}).get("type") in _JOINED else 0
    added = table["added_tokens"]
    units = trie.build(_words(model, tokenizer) | _added(added, tokenizer))
    entries, sequences, pairs = _characters(table["normalizer"], bool(flags & SPLITS_MORE))
    blocks, pages = np.unique(entries.reshape(-1, 256), axis=0, return_inverse=True)
    before, behind = frame
    special = np.array([*before, *behind], np.uint32)
    vocabulary = 1 + max([*model["vocab"].values(), *(token["id"] for token in added), *special.tolist()])
    starts, merges = _merges(model, vocabulary)
    unknown = model["vocab"].get(model["unk_token"])
    head = Head(
        kind=BYTE_PAIRS,
        unknown=NOWHERE if unknown is None else unknown,
        flags=flags,
        merges=len(merges),
        before=len(before),
        behind=len(behind),
        blocks=len(blocks),
        sequences=len(sequences),
        pairs=len(pairs),
        units=len(units),
        vocabulary=vocabulary,
    )
    tables = Tables(
        blocks,
        np.array(sequences, np.uint32),
        special,
        np.array(octets, np.uint32),
        np.array(pairs, np.uint32).reshape(-1, 3),
        pages.reshape(PAGES).astype(np.uint16),
    )
    numbers = np.concatenate([units, starts, merges.ravel()])
    return write(hashlib.sha256(source).digest(), head, tables, numbers)


# -- the vocabulary


def _alphabet() -> dict[str, int]:
    """The letter that stands for each byte: itself where it can be seen, others from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [octet for octet in range(256) if octet not in seen]
    return {chr(octet): octet for octet in seen} | {
        chr(256 + place): octet for place, octet in enumerate(hidden)
    }


_OCTETS: Final = _alphabet()


def bytes_of(token: str) -> bytes | None:
    """The bytes that a token stands for; None for one that has other letters, such as an added one."""
    if not token or any(letter not in _OCTETS for letter in token):
        return None
    return bytes(_OCTETS[letter] for letter in token)


def _words(model: Mapping[str, Any], tokenizer: Tokenizer) -> dict[bytes, int]:
    """Words that are one token: all that merges make of their own bytes, or all there are."""
    found = {}
    for token, id in model["vocab"].items():
        octets = bytes_of(token)
        if octets is None or not _is_text(octets):
            continue
        if model["ignore_merges"] or [one.id for one in tokenizer.model.tokenize(token)] == [id]:
            found[octets] = id
    return found


def _is_text(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _added(tokens: Iterable[Mapping[str, Any]], tokenizer: Tokenizer) -> dict[bytes, int]:
    """Those that are found in a text as it is, and those in a normalized one."""
    found = {}
    for token in tokens:
        for option in ("single_word", "rstrip"):
            if token[option]:
                raise ValueError(f"the added token {token['content']!r} with {option}")
        content, label = token["content"], ADDED
        if content.strip() != content.strip("\u0120").strip():
            raise ValueError(f"the added token {content!r}, which begins or ends as a blank is written")
        if token["normalized"]:
            label = MAPS
            if tokenizer.normalizer is not None:
                content = tokenizer.normalizer.normalize_str(content)
        found[bytes([label]) + content.encode()] = token["id"] << 1 | token["lstrip"]
    return found


def _merges(model: Mapping[str, Any], vocabulary: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Where each token's merges begin, and behind all; and each with the other token, its rank, and what they make."""
    ids = model["vocab"]
    ranks = {}
    for rank, merge in enumerate(model["merges"]):
        one, other = merge.split(" ") if isinstance(merge, str) else merge
        ranks[ids[one], ids[other]] = rank, ids[one + other]
    listed = sorted((*pair, *found) for pair, found in ranks.items())
    merges = np.array(listed, np.uint32).reshape(-1, 4)
    return np.searchsorted(merges[:, 0], np.arange(vocabulary + 1)).astype(np.uint32), merges[:, 1:]


# -- what stands around it


def _pattern(cut: Mapping[str, Any] | None) -> int:
    steps = [] if cut is None else cut["pretokenizers"] if cut["type"] == "Sequence" else [cut]
    types = [step["type"] for step in steps]
    if types not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise ValueError(f"a pre_tokenizer of types {types}")
    level = steps[-1]
    if types == ["ByteLevel"]:
        return (PREFIXES if level["add_prefix_space"] else 0) | (SPLITS if level["use_regex"] else 0)
    split = steps[0]
    pattern = split["pattern"].get("Regex")
    if (split["behavior"], split["invert"]) != ("Isolated", False) or pattern not in _PATTERNS:
        raise ValueError(f"a Split {split['behavior']!r} with the pattern {pattern!r}")
    if level["add_prefix_space"] or level["use_regex"]:
        raise ValueError("a Split before a ByteLevel that splits, or puts a blank before, each part")
    return _PATTERNS[pattern]


def without_level(processor: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A post-processor without what it does to the places of tokens: what it puts around a text, as others do."""
    steps = processors(processor)
    if steps and steps[0]["type"] == "ByteLevel":
        steps = steps[1:]
    elif steps and steps[0]["type"] == "RobertaProcessing":
        steps = [{**steps[0], "type": "BertProcessing"}, *steps[1:]]
    if len(steps) > 1:
        raise ValueError(f"a post_processor of types {[step['type'] for step in steps]}")
    return steps[0] if steps else None


def _trims(processor: Mapping[str, Any] | None) -> int:
    step = next(iter(processors(processor)), {})
    if not step.get("trim_offsets"):
        return 0
    return TRIMS | (SPARES if step["add_prefix_space"] else 0)


def processors(processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a post-processor."""
    if processor is None:
        return []
    return list(processor["processors"]) if processor["type"] == "Sequence" else [processor]


# -- characters


class _Forms(NamedTuple):
    """What code points become by themselves, what they are parted into, and the marks and pairs among all these."""

    alone: list[str]
    parts: list[str]
    ranks: dict[int, int]
    pairs: dict[tuple[int, int], int]


def _forms(form: str) -> _Forms:
    from tokenizers import normalizers

    whole = getattr(normalizers, form)()
    parted = getattr(normalizers, form.replace("C", "D"))() if form in _JOINED else whole
    letters = [*map(chr, characters.CODE_POINTS)]
    alone, parts = (characters.mapped(one.normalize_str, letters) for one in (whole, parted))
    made = {ord(letter) for text in [*alone, *parts] for letter in text}
    ranks = {} if form == "Lowercase" else characters.ranks(parted, made)
    if max(ranks.values(), default=0) >= RANKS:
        raise ValueError(f"marks of {max(ranks.values())} ranks")
    return _Forms(alone, parts, ranks, _pairs(alone, parts, whole) if form in _JOINED else {})


def _characters(
    normalizer: Mapping[str, Any] | None, folds: bool
) -> tuple[NDArray[np.uint32], list[int], list[list[int]]]:
    """What code points are and become, their parts, and pairs that are joined. folds: endings in any case."""
    codes = characters.CODE_POINTS
    if normalizer is None:
        return _kinds(codes, folds), [], []
    if normalizer["type"] not in _FORMS:
        raise ValueError(f"a normalizer of type {normalizer['type']!r}")
    forms = _forms(normalizer["type"])
    made = {ord(letter) for text in [*forms.alone, *forms.parts] for letter in text}
    entries = _kinds(sorted(made.union(codes)), folds)
    follows = {*forms.ranks, *(second for _, second in forms.pairs), *(_LETTERS if forms.pairs else ())}
    for code, one in zip(codes, forms.alone, strict=True):
        entries[code] |= CHANGES if one != chr(code) else 0
    for code, rank in forms.ranks.items():
        entries[code] |= rank << RANK
    for code, text in zip(codes, forms.parts, strict=True):
        entries[code] |= FOLLOWS if ord(text[0]) in follows else 0
    sequences = _add_parts(entries, forms.parts)
    return entries, sequences, [[*pair, made] for pair, made in sorted(forms.pairs.items())]


def _add_parts(entries: NDArray[np.uint32], parts: list[str]) -> list[int]:
    """Say in the entries where each code point's parts are, if it has others than itself."""
    sequences = [0]
    places: dict[str, int] = {}
    for code, text in zip(characters.CODE_POINTS, parts, strict=True):
        found = [*map(ord, text)]
        if len(found) > MOST_PARTS:
            raise ValueError(f"a normalizer that makes {len(found)} code points of U+{code:04X}")
        if code in _SYLLABLES and found == syllable(code):
            entries[code] |= SYLLABLE << PARTS
        elif found != [code]:
            if text not in places:
                places[text] = len(sequences)
                sequences += [len(found), *found]
            entries[code] |= places[text] << PARTS
    if len(sequences) >= SYLLABLE:
        raise ValueError(f"{len(sequences)} parts of characters")
    return sequences


def _kinds(codes: list[int], folds: bool) -> NDArray[np.uint32]:
    entries = np.full(0x110000, OTHER, np.uint32)
    for pattern, kind in ((r"\p{L}", LETTER), (r"\p{N}", NUMBER), (r"\s", SPACE)):
        entries[_matching(pattern, codes)] = kind
    for number, letter in enumerate(ENDINGS, start=1):
        entries[_matching(f"(?i:{letter})", codes) if folds else [ord(letter)]] |= number << ENDING
    entries[characters.blanks()] |= BLANK
    return entries


def _matching(pattern: str, codes: list[int]) -> list[int]:
    """Code points that a regular expression of the package matches."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    is_other = np.zeros(len(codes), bool)
    for _, (start, stop) in Split(Regex(pattern), "removed").pre_tokenize_str("".join(map(chr, codes))):
        is_other[start:stop] = True
    found: list[int] = np.array(codes)[~is_other].tolist()
    return found


def _pairs(alone: list[str], parts: list[str], whole: Any) -> dict[tuple[int, int], int]:
    """Two code points and the one that they become: its parts without the last, and that. None of Hangul."""
    found = {}
    stays = {one: text for one, text in zip(alone, parts, strict=True) if len(one) == 1 < len(text)}
    firsts = characters.mapped(whole.normalize_str, [text[:-1] for text in stays.values()])
    for (one, text), first in zip(stays.items(), firsts, strict=True):
        if ord(one) not in _SYLLABLES and len(first) == 1 and whole.normalize_str(first + text[-1]) == one:
            found[ord(first), ord(text[-1])] = ord(one)
    return found
