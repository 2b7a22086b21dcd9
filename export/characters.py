"""What a tokenizer makes of each code point, asked of the tokenizer itself: no other table of Unicode decides.

docs/format.md says how it is laid out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cmp_to_key
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.pieces import (
    ALONE,
    DROPPED,
    JOINS,
    LETTER,
    MOVES,
    SEQUENCE,
    SPACE,
    SYLLABLE,
    VALUE_BITS,
)
from edgeret.encode.tables import syllable

if TYPE_CHECKING:
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

_PAGE: Final = 256
_SEPARATOR: Final = "\u2603"
"""Between code points that are normalized in one call: no code point becomes this one, or joins it."""

_AT_ONCE: Final = 1 << 14
_SURROGATES: Final = range(0xD800, 0xE000)
_SYLLABLES: Final = range(0xAC00, 0xD7A4)


def of_unicode() -> list[int]:
    """All code points that a text may have."""
    return [code for code in range(0x110000) if code not in _SURROGATES]


CODE_POINTS: Final = of_unicode()

Part = tuple[int, int]
"""A code point, and its class."""


class Element(NamedTuple):
    """A code point of a decomposition: where it goes among marks, 0 for one that stays; and what is left of it."""

    rank: int
    parts: tuple[Part, ...]


class Characters(NamedTuple):
    """The tables: uint16 [pages], uint32 [blocks, 256], uint32 [n], uint32 [n, 2]."""

    pages: NDArray[np.uint16]
    entries: NDArray[np.uint32]
    sequences: NDArray[np.uint32]
    marks: NDArray[np.uint32]


def tables(
    whole: Normalizer, rest: Normalizer | None, decomposed: Normalizer | None, cut: PreTokenizer
) -> Characters:
    """Ask these, and lay out what they say.

    whole: the normalizer. decomposed: what it does up to where marks are ordered, and rest: what it does afterwards;
    None where it orders none. cut: what makes words. Raises ValueError where a code point depends on others.
    """
    parts = _classified(mapped(whole.normalize_str, [*map(chr, CODE_POINTS)]), cut)
    elements: dict[int, tuple[Element, ...]] = {}
    if decomposed is not None and rest is not None:
        elements = _decompose(decomposed, rest, cut)
    sequences = _Sequences()
    entries = np.zeros(0x110000, np.uint32)
    for code, made in zip(CODE_POINTS, parts, strict=True):
        entries[code] = _entry(code, made, elements.get(code, ()), sequences)
    marks = [(code, sequences.add_elements(found)) for code, found in sorted(elements.items())]
    blocks, pages = np.unique(entries.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return Characters(
        pages.reshape(-1).astype(np.uint16),
        blocks,
        np.array(sequences.words, np.uint32),
        np.array(marks, np.uint32).reshape(-1, 2),
    )


def _entry(code: int, made: tuple[Part, ...], elements: tuple[Element, ...], sequences: _Sequences) -> int:
    flags = 0
    if elements:
        if made != tuple(part for element in elements for part in element.parts):
            raise ValueError(f"a normalizer whose decomposition of U+{code:04X} is another one")
        flags = JOINS | (MOVES if any(element.rank and element.parts for element in elements) else 0)
    if not made:
        return DROPPED | flags
    if len(made) == 1:
        (other, kind), = made  # fmt: skip
        return kind | flags | (other - code) % (1 << 21) << VALUE_BITS
    if code in _SYLLABLES and made == tuple((letter, LETTER) for letter in syllable(code)):
        return SEQUENCE | flags | SYLLABLE << VALUE_BITS
    return SEQUENCE | flags | sequences.add(made) << VALUE_BITS


class _Sequences:
    """Numbers of one array, each sequence behind its length, and once."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self._known: dict[tuple[int, ...], int] = {}

    def add(self, parts: tuple[Part, ...]) -> int:
        """Where these stand."""
        return self._place((len(parts), *map(_word, parts)))

    def add_elements(self, elements: tuple[Element, ...]) -> int:
        """Where these stand."""
        words = [len(elements)]
        for rank, parts in elements:
            words += [rank << 8 | len(parts), *map(_word, parts)]
        return self._place(tuple(words))

    def _place(self, words: tuple[int, ...]) -> int:
        if words not in self._known:
            self._known[words] = len(self.words)
            self.words += words
        return self._known[words]


def _word(part: Part) -> int:
    code, kind = part
    return code | kind << 21


def _decompose(decomposed: Normalizer, rest: Normalizer, cut: PreTokenizer) -> dict[int, tuple[Element, ...]]:
    """The elements of code points that have a mark among them, or of which nothing is left though they part marks."""
    split = mapped(decomposed.normalize_str, [*map(chr, CODE_POINTS)])
    order = ranks(decomposed, {code for text in split for code in map(ord, text)})
    single = sorted({character for text in split for character in text})
    left = dict(zip(single, _classified(mapped(rest.normalize_str, single), cut), strict=True))
    marked = {
        code: text
        for code, text in zip(CODE_POINTS, split, strict=True)
        if text and (any(ord(one) in order for one in text) or not any(left[one] for one in text))
    }
    found = {}
    for code, text in marked.items():
        elements = tuple(Element(order.get(ord(character), 0), left[character]) for character in text)
        if any(one.rank and not other.rank for one, other in pairwise(elements)):
            raise ValueError(f"a mark before another character in U+{code:04X}")
        found[code] = elements
    return found


def ranks(decomposed: Normalizer, codes: set[int]) -> dict[int, int]:
    """The order of marks that `decomposed` brings them into: a rank from 1 for each that moves."""
    ordered = decomposed.normalize_str

    def compare(one: str, other: str) -> int:
        return (ordered(one + other) == other + one) - (ordered(other + one) == one + other)

    # U+0334 comes before all other marks, U+0345 behind them.
    first, last = "\u0334", "\u0345"
    texts = [chr(code) for code in sorted(codes) if chr(code) not in (first, last)]
    behind = mapped(ordered, [text + first for text in texts])
    before = mapped(ordered, [last + text for text in texts])
    marks = [
        text
        for text, low, high in zip(texts, behind, before, strict=True)
        if low == first + text or high == text + last
    ]
    key = cmp_to_key(compare)
    groups = groupby(sorted([first, last, *marks], key=key), key=key)
    return {ord(mark): rank for rank, (_, group) in enumerate(groups, start=1) for mark in group}


def mapped(normalize: Callable[[str], str], texts: list[str]) -> list[str]:
    """What each text becomes alone."""
    made: list[str] = []
    for first in range(0, len(texts), _AT_ONCE):
        part = texts[first : first + _AT_ONCE]
        found = normalize(_SEPARATOR.join(part)).split(_SEPARATOR)
        # One of them is the separator.
        made += found if len(found) == len(part) else map(normalize, part)
    return made


def _classified(texts: list[str], cut: PreTokenizer) -> list[tuple[Part, ...]]:
    """The code points of what each character became, and whether each is in a word, between words, or one alone."""
    found = classes(sorted({character for text in texts for character in text}), cut)
    return [_joined(tuple((ord(character), found[character]) for character in text)) for text in texts]


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """A character with a space on both sides of it is one alone."""
    if len(parts) == 3 and (parts[0][1], parts[2][1]) == (SPACE, SPACE) and parts[1][1] != SPACE:
        return ((parts[1][0], ALONE),)
    return parts


def blanks() -> list[int]:
    """Code points that are blank to what splits, or strips, at them."""
    from tokenizers.pre_tokenizers import WhitespaceSplit

    kinds = classes([*map(chr, CODE_POINTS)], WhitespaceSplit())
    return [ord(character) for character, kind in kinds.items() if kind == SPACE]


def classes(characters: list[str], cut: PreTokenizer) -> dict[str, int]:
    """Whether each is in a word, between words, or one alone."""
    kinds = {}
    for first in range(0, len(characters), _AT_ONCE):
        part = characters[first : first + _AT_ONCE]
        # Character i stands at 2 * i + 1.
        starts = {
            start: stop - start for _, (start, stop) in cut.pre_tokenize_str("a" + "a".join(part) + "a")
        }
        covered = np.zeros(2 * len(part) + 1, bool)
        for start, size in starts.items():
            covered[start : start + size] = True
        for number, character in enumerate(part):
            place = 2 * number + 1
            if not covered[place]:
                kinds[character] = SPACE
            else:
                kinds[character] = ALONE if starts.get(place) == 1 and place + 1 in starts else LETTER
    return kinds
