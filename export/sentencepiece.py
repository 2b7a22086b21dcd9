"""A model of SentencePiece in a tokenizer.json to the tables that edgeret reads in its place."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.tables import ADDED, MAPS, PAGES, UNIGRAM
from edgeret.encode.unigram import (
    BLANK,
    COLLAPSES,
    CONTROL,
    FEED,
    JOINED,
    MAPPED,
    MAPPED_VALUE,
    MARK,
    MOST_MAPPED,
    PREPENDED,
    PREPENDS,
    RETURN,
    SHORT_GRAPHEME,
    SPLITS_BLANKS,
    SPLITS_MARKS,
    STRIPS,
    Head,
    Tables,
    write,
)
from export import characters, trie

_BLANKS: Final = [
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": content} for content in (" ", MARK)
]
_STRIP: Final = {"type": "Strip", "strip_left": False, "strip_right": True}
_SPLIT: Final = {"type": "WhitespaceSplit"}
_AT_ONCE: Final = 1 << 14
_OCTETS: Final = [f"<0x{octet:02X}>" for octet in range(256)]

# Code points of longer graphemes than the tables know: letters of Hangul, and two signs that emoji may follow.
_LONGER: Final = [
    (0xA9, 0xAA), (0xAE, 0xAF), (0x1100, 0x1200), (0xA960, 0xA980), (0xAC00, 0xD7A4), (0xD7B0, 0xD800)
]  # fmt: skip


class _Map(NamedTuple):
    """What becomes of code points and of short graphemes, and what code points are within them."""

    entries: NDArray[np.uint32]
    sequences: list[int]
    graphemes: dict[bytes, int]


def compiled(table: Mapping[str, Any], frame: tuple[list[int], list[int]], source: bytes) -> bytes:
    """The tables of a tokenizer as the package writes it.

    frame: ids before a text and behind it. Raises ValueError for what they cannot say.
    """
    model = table["model"]
    tokens = [token for token, _ in model["vocab"]]
    scores = np.array([score for _, score in model["vocab"]])
    if not (scores <= 0).all():
        raise ValueError("scores above 0")
    if len(set(tokens)) != len(tokens) or model["unk_id"] is None:
        raise ValueError("a token twice, or none for what is unknown")
    numbers = {token.encode(): id for id, token in enumerate(tokens)}
    octets = _octets(numbers) if model["byte_fallback"] else []
    flags = _flags(table["pre_tokenizer"])
    charsmap, more = _normalizer(table["normalizer"], bool(flags & SPLITS_BLANKS))
    mapped = _mapped(charsmap)
    added = {token["content"].encode(): _number(token) for token in table["added_tokens"]}
    units = trie.build(
        numbers
        | {bytes([ADDED]) + token: number for token, number in added.items()}
        | {bytes([MAPS]) + grapheme: place for grapheme, place in mapped.graphemes.items()}
    )
    blocks, pages = np.unique(mapped.entries.reshape(-1, 256), axis=0, return_inverse=True)
    before, behind = frame
    special = np.array([*before, *behind], np.uint32)
    vocabulary = 1 + max([len(tokens) - 1, *(number >> 1 for number in added.values()), *special.tolist()])
    head = Head(
        kind=UNIGRAM,
        unknown=model["unk_id"],
        flags=flags | more,
        lowest=int(scores.argmin()),
        before=len(before),
        behind=len(behind),
        blocks=len(blocks),
        sequences=len(mapped.sequences),
        octets=len(octets),
        units=len(units),
        vocabulary=vocabulary,
    )
    tables = Tables(
        blocks,
        np.array(mapped.sequences, np.uint32),
        special,
        np.array(octets, np.uint32),
        pages.reshape(PAGES).astype(np.uint16),
    )
    padded = np.concatenate([scores, np.zeros(vocabulary - len(scores))])
    return write(hashlib.sha256(source).digest(), head, tables, units, padded)


def _octets(numbers: Mapping[bytes, int]) -> list[int]:
    missing = [token for token in _OCTETS if token.encode() not in numbers]
    if missing:
        raise ValueError(f"byte_fallback without {missing[0]}")
    return [numbers[token.encode()] for token in _OCTETS]


def _number(token: Mapping[str, Any]) -> int:
    for option in ("single_word", "rstrip", "normalized"):
        if token[option]:
            raise ValueError(f"the added token {token['content']!r} with {option}")
    return token["id"] << 1 | token["lstrip"]


def _normalizer(normalizer: Mapping[str, Any] | None, splits: bool) -> tuple[bytes | None, int]:
    """A map of SentencePiece, and what becomes of blanks."""
    steps = _steps(normalizer, "normalizers")
    charsmap = None
    if steps and steps[0]["type"] == "Precompiled":
        charsmap = base64.b64decode(steps.pop(0)["precompiled_charsmap"] or b"")
    flags = 0
    if steps[:1] == [_STRIP]:
        flags |= STRIPS
        del steps[0]
    # A mark would be no blank to what splits at blanks.
    if steps and steps[0] in (_BLANKS[:1] if splits else _BLANKS):
        flags |= COLLAPSES
        del steps[0]
    if steps:
        raise ValueError(f"a normalizer of type {steps[0]['type']!r} in this place")
    return charsmap or None, flags


def _flags(cut: Mapping[str, Any] | None) -> int:
    steps = _steps(cut, "pretokenizers")
    flags = SPLITS_BLANKS if steps[:1] == [_SPLIT] else 0
    if [step["type"] for step in (steps[1:] if flags else steps)] != ["Metaspace"]:
        raise ValueError(f"a pre_tokenizer of types {[step['type'] for step in steps]}")
    metaspace = steps[-1]
    scheme = metaspace["prepend_scheme"]
    if metaspace["replacement"] != MARK or scheme not in ("always", "never"):
        raise ValueError(f"a Metaspace with {metaspace['replacement']!r}, prepended {scheme!r}")
    return (
        flags
        | (PREPENDS if scheme == "always" else 0)
        | (SPLITS_MARKS if metaspace.get("split", True) else 0)
    )


def _steps(part: Mapping[str, Any] | None, key: str) -> list[Any]:
    if part is None:
        return []
    return list(part[key]) if part["type"] == "Sequence" else [part]


# -- characters


def _mapped(charsmap: bytes | None) -> _Map:
    """What a map of SentencePiece says. Raises ValueError for one that asks for longer graphemes."""
    kinds = _graphemes()
    entries = np.array([kinds.get(code, 0) for code in range(0x110000)], np.uint32)
    for code in characters.blanks():
        entries[code] |= BLANK
    sequences: list[int] = []
    places: dict[str, int] = {}
    graphemes: dict[bytes, int] = {}
    strings = dict(_strings(charsmap)) if charsmap else {}
    for grapheme, made in sorted(strings.items()):
        if len(made) > MOST_MAPPED:
            raise ValueError(f"a map that makes {len(made)} code points of one")
        if len(grapheme) > 1 and (grapheme[0] in strings or len(grapheme.encode()) >= SHORT_GRAPHEME):
            continue
        first = ord(grapheme[0])
        if kinds.get(first) == PREPENDED or any(start <= first < stop for start, stop in _LONGER):
            raise ValueError(f"a map of U+{first:04X}")
        if made not in places:
            places[made] = len(sequences)
            sequences += [len(made), *map(ord, made)]
        if len(grapheme) == 1:
            entries[first] |= MAPPED | places[made] << MAPPED_VALUE
        else:
            graphemes[grapheme.encode()] = places[made]
    return _Map(entries, sequences, graphemes)


def _strings(charsmap: bytes) -> Iterator[tuple[str, str]]:
    """What a map has: a double array of bytes, and the strings that it points to, each with a NUL behind it."""
    (size,) = struct.unpack_from("<I", charsmap)
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).tolist()
    strings = charsmap[4 + size :]

    def children(unit: int, place: int) -> int:
        return place ^ unit >> 10 << (unit >> 6 & 8)

    waiting = [(b"", children(units[0], 0))]
    while waiting:
        key, base = waiting.pop()
        for label in range(1, 256):
            place = base ^ label
            if place >= len(units) or units[place] & 0x800000FF != label:
                continue
            below = children(units[place], place)
            longer = key + bytes([label])
            waiting.append((longer, below))
            if units[place] >> 8 & 1:
                start = units[below] & 0x7FFFFFFF
                yield longer.decode(), strings[start : strings.index(b"\0", start)].decode()


def _graphemes() -> dict[int, int]:
    """What code points are within graphemes, asked of the package: it maps all short ones to one letter."""
    from tokenizers.normalizers import Precompiled

    octets = [0 if octet == ord("\n") else octet | 1 << 8 | (768 + octet) << 10 for octet in range(256)]
    units = [256 << 10] + [0] * 255 + octets + [0] + [1 << 31] * 511
    image = struct.pack(f"<{len(units)}I", *units)
    mapped = Precompiled(struct.pack("<I", len(image)) + image + b"X\0").normalize_str
    codes = [code for code in characters.CODE_POINTS if chr(code) not in "\r\n"]

    def counted(form: str) -> Iterator[int]:
        """Graphemes of each code point in a context; one of six bytes or more counts as its code points."""
        for first in range(0, len(codes), _AT_ONCE):
            lines = "\n".join(form.format(chr(code)) for code in codes[first : first + _AT_ONCE])
            yield from map(len, mapped(lines).split("\n"))

    found = {ord("\r"): RETURN, ord("\n"): FEED}
    marked, twice = counted("{}\u0301"), counted("{}\u0301\u0301")
    for code, *counts in zip(codes, counted("a{}"), counted("{}a"), marked, twice, strict=True):
        match counts:
            case 1, _, _, _:
                found[code] = JOINED
            case _, 1, _, _:
                found[code] = PREPENDED
            case _, _, 2, 2:
                found[code] = CONTROL
    return found
