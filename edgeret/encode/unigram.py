"""Unigram: the tokenizer of a bundle in tables of its own, where export compiled them of SentencePiece's model.

Two builds of one function, as in `pieces`. The trie and the scores stay in the file: of a vocabulary in a hundred
languages a text touches little. docs/format.md says how the tables are laid out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle, Source
from edgeret.encode.tables import (
    ADDED,
    HEAD,
    MAGIC,
    MAPS,
    MOST_BYTES,
    MOST_SPECIAL,
    PAGES,
    UNIGRAM,
    Layout,
    Run,
    Span,
    Token,
    Tokens,
    Trie,
    arrays_of,
    character,
    check,
    framed,
    has_end,
    opened,
    packed,
    runs_native,
    size_of,
)

try:
    from edgeret.encode import _tokenize
except ImportError:
    _tokenize = None  # type: ignore[assignment]

# What a code point is within a grapheme.
OTHER, JOINED, CONTROL, PREPENDED, RETURN, FEED = range(6)
GRAPHEME: Final = 7
# Whether it is blank, and whether it becomes another sequence, whose place is above.
BLANK, MAPPED, MAPPED_VALUE = 8, 16, 8

# Words are what stands between blanks; one begins with a mark; each mark begins one; blanks in a row become one; those
# at the end are left out.
SPLITS_BLANKS, PREPENDS, SPLITS_MARKS, COLLAPSES, STRIPS = 1, 2, 4, 8, 16

MARK: Final = "\u2581"
SHORT_GRAPHEME: Final = 6
MOST_MAPPED: Final = 64
UNKNOWN_PENALTY: Final = 10.0

_NO_PIECE: Final = -1
_KEPT: Final = 256


class Head(NamedTuple):
    """Numbers of the file. lowest: the id of the lowest score. octets: 256 where bytes have tokens, or 0."""

    kind: int
    unknown: int
    flags: int
    lowest: int
    before: int
    behind: int
    blocks: int
    sequences: int
    octets: int
    units: int
    vocabulary: int

    @property
    def offset(self) -> int:
        """Where the trie begins in the file, and the scores behind it."""
        return HEAD.size + size_of(_layout(self))

    @property
    def nbytes(self) -> int:
        """Of the whole file."""
        return self.offset + 4 * self.units + 8 * self.vocabulary

    def score(self, id: int, source: Source) -> float:
        """Of a token."""
        (score,) = struct.unpack("<d", source.read(8, self.offset + 4 * self.units + 8 * id))
        return float(score)


class Tables(NamedTuple):
    """The arrays in memory: uint32 [blocks, 256], [sequences], [before + behind], [octets]; uint16 [PAGES]."""

    entries: NDArray[np.uint32]
    sequences: NDArray[np.uint32]
    special: NDArray[np.uint32]
    octets: NDArray[np.uint32]
    pages: NDArray[np.uint16]


class Unigram:
    """A tokenizer. unknown: the id of what it has no token for. special: how many tokens it puts around a text."""

    def __init__(self, head: Head, tables: Tables, source: Source) -> None:
        self.unknown: int | None = head.unknown
        self.special = head.before + head.behind
        self._source = source
        self._run = (native if runs_native() else reference)(head, tables, source)

    @classmethod
    def load(cls, bundle: Bundle) -> Unigram:
        """Read those of a bundle. Raises BundleError for a file that export cannot have written."""
        return cls(*opened(bundle, read))

    def tokenize(self, text: str, *, special: bool = True) -> Tokens:
        """Text -> tokens, with the special ones or without.

        Raises InvalidDocumentError for what is not Unicode, BundleError for a file that was cut meanwhile.
        """
        check(text)
        return Tokens(*self._run(text, special))

    def ids(self, text: str) -> list[int]:
        """As `Tokenizer.ids`."""
        check(text)
        return self._run(text, True, placed=False)[0]

    def part(self, text: str, *, begins: bool) -> tuple[Tokens, Tokens]:
        """As `Tokenizer.part`."""
        found = self.tokenize(text, special=False)
        return found, found


def read(source: Source, nbytes: int) -> tuple[bytes, Head, Tables]:
    """The digest of the tokenizer.json that a file of `nbytes` was made of, its head, and what stands before the trie.

    Raises ValueError for what cannot be so, BundleError for a file that is shorter.
    """
    magic, digest, *numbers = HEAD.unpack(source.read(HEAD.size, 0))
    head = Head(*numbers)
    if magic != MAGIC or head.kind != UNIGRAM:
        raise ValueError(f"{magic!r}, kind {head.kind}")
    if head.before + head.behind > MOST_SPECIAL or head.octets not in (0, 256):
        raise ValueError(f"{head.before + head.behind} special tokens, {head.octets} bytes with tokens")
    if not head.units or not head.blocks or max(head.unknown, head.lowest) >= head.vocabulary:
        raise ValueError("no trie, no characters, or no unknown token")
    if head.nbytes != nbytes or nbytes > MOST_BYTES:
        raise ValueError(f"{nbytes} bytes in place of {head.nbytes}, or more than {MOST_BYTES}")
    return digest, head, _read_tables(head, source.read(head.offset - HEAD.size, HEAD.size))


def _read_tables(head: Head, blob: bytes) -> Tables:
    entries, sequences, special, octets, pages = arrays_of(blob, 0, _layout(head))
    if pages.max() >= head.blocks:
        raise ValueError("a page of characters that is not there")
    if (special >= head.vocabulary).any() or (octets >= head.vocabulary).any():
        raise ValueError("a token beyond the vocabulary")
    places = entries[entries & MAPPED != 0] >> MAPPED_VALUE
    if len(places) and places.max() >= head.sequences:
        raise ValueError("a sequence past the end")
    return Tables(entries.reshape(-1, 256), sequences, special, octets, pages)


def write(
    digest: bytes, head: Head, tables: Tables, units: NDArray[np.uint32], scores: NDArray[np.float64]
) -> bytes:
    """The bytes of a file. digest: SHA-256 of its tokenizer.json. scores: of each id."""
    image = packed(digest, head, tables, _layout(head))
    return b"".join([image, units.astype("<u4").tobytes(), scores.astype("<f8").tobytes()])


def _layout(head: Head) -> Layout:
    return [
        ("<u4", 256 * head.blocks), ("<u4", head.sequences), ("<u4", head.before + head.behind), ("<u4", head.octets),
        ("<u2", PAGES),
    ]  # fmt: skip


def native(head: Head, tables: Tables, source: Source) -> Run:
    """C. The source must outlive it."""
    tokenizer = _tokenize.unigram(
        tables.pages, tables.entries, tables.sequences, tables.special, tables.octets, head.unknown,
        head.score(head.lowest, source) - UNKNOWN_PENALTY, head.flags, head.before, source.descriptor, head.offset,
        head.units, head.vocabulary,
    )  # fmt: skip

    def run(text: str, special: bool, *, placed: bool = True) -> tuple[list[int], list[Span], list[int]]:
        return _tokenize.encode_unigram(tokenizer, text, special, placed)

    return run


def reference(head: Head, tables: Tables, source: Source) -> Run:
    """The same in Python."""
    return framed(_Twin(head, tables, source).words, tables.special.tolist(), head.before)


class _Twin:
    """The tables, read number by number."""

    def __init__(self, head: Head, tables: Tables, source: Source) -> None:
        self._head = head
        self._entries = tables.entries.ravel().data
        self._pages = tables.pages.data
        self._sequences = tables.sequences.tolist()
        self._octets = tables.octets.tolist()
        self._trie = Trie.kept(source, head.offset, head.units, head.units)
        self._unknown_score = head.score(head.lowest, source) - UNKNOWN_PENALTY
        # Texts have few words and characters, again and again.
        self._split = lru_cache(_KEPT)(self._split_word)
        self._score = lru_cache(_KEPT)(lambda id: head.score(id, source) if id < head.vocabulary else 0.0)

    def words(self, text: str) -> Iterator[list[Token]]:
        """The tokens of each word; a token that is found before the others is a word."""
        for id, start, stop in self._trie.parted(
            text, ADDED, lambda letter: self._entry(ord(letter)) & BLANK != 0
        ):
            if id is None:
                yield from self._plain_words(text[start:stop], start)
            else:
                yield [(id, (start, stop))]

    def _plain_words(self, text: str, begin: int) -> Iterator[list[Token]]:
        letters: list[str] = []
        places: list[int] = []
        for letter, place in self._marked(text):
            if letters and not letter:
                yield self._placed(letters, places)
                letters, places = [], []
            if letter:
                letters.append(letter)
                places.append(begin + place)
        if letters:
            yield self._placed(letters, places)

    def _placed(self, letters: list[str], places: list[int]) -> list[Token]:
        return [
            (id, (places[start], places[stop - 1] + 1)) for id, start, stop in self._split("".join(letters))
        ]

    def _marked(self, text: str) -> Iterator[tuple[str, int]]:
        """The characters of words, with marks for blanks, and an empty one wherever a word ends."""
        flags = self._head.flags
        is_first = True
        for letter, place in self._collapsed(text):
            if flags & SPLITS_BLANKS and self._entry(ord(letter)) & BLANK:
                yield "", place
                is_first = True
                continue
            found = MARK if letter == " " else letter
            if is_first and flags & PREPENDS and found != MARK:
                yield MARK, place
            elif found == MARK and flags & SPLITS_MARKS:
                yield "", place
            is_first = False
            yield found, place

    def _collapsed(self, text: str) -> Iterator[tuple[str, int]]:
        """With blanks in a row as one, if it is so: the last."""
        waiting: int | None = None
        for letter, place in self._stripped(text):
            if self._head.flags & COLLAPSES and letter == " ":
                waiting = place
                continue
            if waiting is not None:
                yield " ", waiting
                waiting = None
            yield letter, place
        if waiting is not None:
            yield " ", waiting

    def _stripped(self, text: str) -> list[tuple[str, int]]:
        found = list(self._normalized(text))
        while self._head.flags & STRIPS and found and self._entry(ord(found[-1][0])) & BLANK:
            found.pop()
        return found

    def _normalized(self, text: str) -> Iterator[tuple[str, int]]:
        """The characters that a text becomes, each with the place it stands for.

        One that the mapping adds stands where the one before it does; one that it drops has the one before it take two.
        """
        parts: list[list[int]] = []
        for start, stop in self._graphemes(text):
            mapped = self._mapping(text[start:stop])
            pieces = [mapped] if mapped is not None else map(self._mapping, text[start:stop])
            size = stop - start if mapped is not None else 1
            for place, sequence in enumerate(pieces, start):
                codes = [ord(text[place])] if sequence is None else sequence
                parts += [[code, int(number >= size)] for number, code in enumerate(codes)]
                if len(codes) < size and parts:
                    parts[-1][1] -= size - len(codes)
        passed = 0
        for code, change in parts:
            place = max(passed - 1, 0) if change > 0 else passed
            if change <= 0:
                passed += 1 - change
            yield character(code), min(place, len(text) - 1)

    def _graphemes(self, text: str) -> Iterator[tuple[int, int]]:
        kinds = [self._entry(ord(letter)) & GRAPHEME for letter in text]
        start = 0
        for stop in range(1, len(text) + 1):
            if stop == len(text) or is_boundary(kinds[stop - 1], kinds[stop]):
                yield start, stop
                start = stop

    def _mapping(self, grapheme: str) -> list[int] | None:
        """What becomes of it: of its shortest beginning that the map has."""
        entry = self._entry(ord(grapheme[0]))
        if len(grapheme) > 1 and len(grapheme.encode()) >= SHORT_GRAPHEME:
            return None
        if entry & MAPPED:
            return self._sequence(entry >> MAPPED_VALUE)
        unit = self._trie.child(self._trie.root, MAPS) if len(grapheme) > 1 else 0
        for octet in grapheme.encode():
            unit = self._trie.child(unit, octet) if unit else 0
            if has_end(unit):
                return self._sequence(self._trie.number_of(unit))
        return None

    def _sequence(self, place: int) -> list[int]:
        size = min(self._sequences[place], MOST_MAPPED) if place < len(self._sequences) else 0
        return [code & 0x1FFFFF for code in self._sequences[place + 1 : place + 1 + size]]

    def _split_word(self, word: str) -> list[tuple[int, int, int]]:
        """The pieces of the best path, each with its part of the word."""
        pieces: list[tuple[int, int, int]] = []
        for id, start, stop in self._best(word):
            is_unknown = id in (_NO_PIECE, self._head.unknown)
            if is_unknown and pieces and pieces[-1][0] in (_NO_PIECE, self._head.unknown):
                pieces[-1] = (_NO_PIECE, pieces[-1][1], stop)
            else:
                pieces.append((id, start, stop))
        found = []
        for id, start, stop in pieces:
            if id != _NO_PIECE:
                found.append((id, start, stop))
            elif self._octets:
                found += [(self._octets[octet], start, stop) for octet in word[start:stop].encode()]
            else:
                found.append((self._head.unknown, start, stop))
        return found

    def _best(self, word: str) -> list[tuple[int, int, int]]:
        paths: list[tuple[float, int, int] | None] = [(0.0, 0, _NO_PIECE), *[None] * len(word)]

        def reach(stop: int, score: float, start: int, id: int) -> None:
            known = paths[stop]
            if known is None or score > known[0]:
                paths[stop] = score, start, id

        for start in range(len(word)):
            score = (paths[start] or (0.0,))[0]
            unit, is_known = self._trie.root, False
            for at in range(start, len(word)):
                for octet in word[at].encode():
                    unit = self._trie.child(unit, octet) if unit else 0
                if not unit:
                    break
                if has_end(unit):
                    id = self._trie.number_of(unit)
                    reach(at + 1, score + self._score(id), start, id)
                    is_known |= at == start
            if not is_known:
                reach(start + 1, score + self._unknown_score, start, _NO_PIECE)
        found, stop = [], len(word)
        while stop:
            _, start, id = paths[stop] or (0.0, 0, _NO_PIECE)
            found.append((id, start, stop))
            stop = start
        return found[::-1]

    def _entry(self, code: int) -> int:
        return self._entries[self._pages[code >> 8] << 8 | code & 0xFF]


_CONTROLS: Final = (CONTROL, RETURN, FEED)


def is_boundary(before: int, behind: int) -> bool:
    """Whether a grapheme ends between two code points. Of longer ones, such as those of Hangul, the map has none."""
    if before in _CONTROLS or behind in _CONTROLS:
        return (before, behind) != (RETURN, FEED)
    return behind != JOINED and before != PREPENDED
