"""Pieces: WordPiece, the tokenizer of a bundle in tables of its own, which export compiled of its tokenizer.json.

Two builds of one function: C where the package was built with it, and Python. Both give the same;
`EDGERET_NO_NATIVE=1` forces the latter. docs/format.md says how the tables are laid out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import refuse
from edgeret.encode.tables import (
    ADDED,
    FILE,
    HEAD,
    MAGIC,
    MOST_BYTES,
    MOST_SPECIAL,
    NOWHERE,
    PAGES,
    WORDPIECE,
    Layout,
    Run,
    Span,
    Token,
    Tokens,
    Trie,
    arrays_of,
    character,
    check,
    check_source,
    framed,
    packed,
    runs_native,
    size_of,
    syllable,
)

try:
    from edgeret.encode import _tokenize
except ImportError:
    _tokenize = None  # type: ignore[assignment]

LONGEST_WORD: Final = 1000
# What a code point becomes: nothing, part of a word, what is between words, a word by itself.
DROPPED, LETTER, SPACE, ALONE = range(4)
# And whether it becomes several, has marks in it or parts those of others, and has marks that stay.
SEQUENCE, JOINS, MOVES = 4, 8, 16
VALUE_BITS: Final = 5
SYLLABLE: Final = (1 << 32 - VALUE_BITS) - 1
"""In place of a sequence: the letters of Hangul, by arithmetic."""

_KIND: Final = 21
_CODE: Final = (1 << _KIND) - 1

_KEPT: Final = 4096
"""Words and characters of which the reference remembers what they become."""

_MOST_PARTS: Final = 32
_MOST_ELEMENTS: Final = 8
_RANKS: Final = 64


class Head(NamedTuple):
    """Numbers of the file. unknown: the id of what no token stands for. continuing: where words go on in the trie."""

    kind: int
    unknown: int
    longest: int
    continuing: int
    before: int
    behind: int
    blocks: int
    sequences: int
    marks: int
    units: int
    vocabulary: int


class Tables(NamedTuple):
    """The file's arrays: uint16 [PAGES]; uint32 [blocks, 256], [sequences], [marks, 2], [units], [before + behind]."""

    pages: NDArray[np.uint16]
    entries: NDArray[np.uint32]
    sequences: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    units: NDArray[np.uint32]
    special: NDArray[np.uint32]


class Pieces:
    """A tokenizer. unknown: the id of what it has no token for. special: how many tokens it puts around a text."""

    def __init__(self, head: Head, tables: Tables) -> None:
        self.unknown: int | None = head.unknown
        self.special = head.before + head.behind
        self._run = (native if runs_native() else reference)(head, tables)

    @classmethod
    def load(cls, bundle: Bundle) -> Pieces:
        """Read those of a bundle. Raises BundleError for a file that export cannot have written."""
        if bundle.manifest.files[FILE].nbytes > MOST_BYTES:
            refuse(bundle.path, f"{FILE} of at most {MOST_BYTES} bytes", "more")
        blob = bundle.read(FILE)
        try:
            digest, head, tables = read(blob)
        except ValueError as error:
            refuse(bundle.path, f"a tokenizer that edgeret knows in {FILE}", str(error))
        check_source(bundle, digest)
        return cls(head, tables)

    def tokenize(self, text: str, *, special: bool = True) -> Tokens:
        """Text -> tokens, with the special ones or without. Raises InvalidDocumentError for what is not Unicode."""
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


def read(blob: bytes) -> tuple[bytes, Head, Tables]:
    """The digest of the tokenizer.json that a file was made of, its head and its tables. Raises ValueError."""
    if len(blob) < HEAD.size or not blob.startswith(MAGIC):
        raise ValueError(f"{blob[:16]!r}")
    _, digest, *numbers = HEAD.unpack_from(blob)
    head = Head(*numbers)
    if head.kind != WORDPIECE:
        raise ValueError(f"one of kind {head.kind}")
    if head.longest > LONGEST_WORD or head.before + head.behind > MOST_SPECIAL:
        raise ValueError(f"words of {head.longest} characters, {head.before + head.behind} special tokens")
    layout = _layout(head)
    nbytes = HEAD.size + size_of(layout)
    if nbytes != len(blob):
        raise ValueError(f"{len(blob)} bytes in place of {nbytes}")
    entries, sequences, marks, units, special, pages = arrays_of(blob, HEAD.size, layout)
    tables = Tables(pages, entries.reshape(-1, 256), sequences, marks.reshape(-1, 2), units, special)
    _check(head, tables)
    return digest, head, tables


def write(digest: bytes, head: Head, tables: Tables) -> bytes:
    """The bytes of a file. digest: SHA-256 of its tokenizer.json."""
    arrays = (tables.entries, tables.sequences, tables.marks, tables.units, tables.special, tables.pages)
    return packed(digest, head, arrays, _layout(head))


def _layout(head: Head) -> Layout:
    return [
        ("<u4", 256 * head.blocks), ("<u4", head.sequences), ("<u4", 2 * head.marks), ("<u4", head.units),
        ("<u4", head.before + head.behind), ("<u2", PAGES),
    ]  # fmt: skip


def _check(head: Head, tables: Tables) -> None:
    """Raise ValueError for tables that point past an end. Of the trie, what a step finds is compared at each step."""
    if not head.units or not head.blocks or tables.pages.max() >= head.blocks:
        raise ValueError("a page of characters that is not there")
    if head.unknown >= head.vocabulary or (tables.special >= head.vocabulary).any():
        raise ValueError("a token beyond the vocabulary")
    if head.continuing != NOWHERE and head.continuing >= head.units:
        raise ValueError("words that go on past the end")
    sequences = tables.sequences.astype(np.int64)
    entries = tables.entries.ravel()
    starts = (entries[entries & SEQUENCE != 0] >> VALUE_BITS).astype(np.int64)
    starts = starts[starts != SYLLABLE]
    if (starts >= head.sequences).any() or (starts + sequences[starts] >= head.sequences).any():
        raise ValueError("a sequence past the end")
    if (sequences[starts] > _MOST_PARTS).any():
        raise ValueError(f"a character that becomes more than {_MOST_PARTS}")
    codes, places = tables.marks.astype(np.int64).T
    if (np.diff(codes) <= 0).any() or (places >= head.sequences).any():
        raise ValueError("marks out of order")
    numbers = tables.sequences.tolist()
    for place in set(places.tolist()):
        _check_elements(numbers, place)


def _check_elements(sequences: list[int], place: int) -> None:
    count, at = sequences[place], place + 1
    if count > _MOST_ELEMENTS:
        raise ValueError(f"a character of more than {_MOST_ELEMENTS} marks")
    for _ in range(count):
        head = sequences[at] if at < len(sequences) else 0
        at += 1 + (head & 0xFF)
        if at > len(sequences) or head & 0xFF > _MOST_PARTS or head >> 8 >= _RANKS:
            raise ValueError("a mark past the end")


def native(head: Head, tables: Tables) -> Run:
    """C."""
    tokenizer = _tokenize.tokenizer(
        tables.pages, tables.entries, tables.sequences, tables.marks, tables.units, tables.special, head.unknown,
        head.longest, head.continuing, head.before,
    )  # fmt: skip

    def run(text: str, special: bool, *, placed: bool = True) -> tuple[list[int], list[Span], list[int]]:
        return _tokenize.encode(tokenizer, text, special, placed)

    return run


def reference(head: Head, tables: Tables) -> Run:
    """The same in Python."""
    return framed(_Twin(head, tables).words, tables.special.tolist(), head.before)


Made = tuple[int, list[int]]
"""An entry, and the code points that it becomes, each with its class in the bits above."""


class _Element(NamedTuple):
    """Of a decomposition: its rank among marks, 0 for none, what is left of it, and whether others come before it."""

    rank: int
    parts: list[int]
    is_more: bool
    place: int


class _Twin:
    """The tables, read number by number."""

    def __init__(self, head: Head, tables: Tables) -> None:
        self._head = head
        self._pages = tables.pages.data
        self._entries = tables.entries.ravel().data
        self._sequences = tables.sequences.data
        self._elements = dict(tables.marks.tolist())
        units = tables.units.data
        self._trie = Trie(units.__getitem__, len(units))
        self._inside = 0 if head.continuing == NOWHERE else units[head.continuing]
        self._added = self._trie.child(self._trie.root, ADDED)
        self._leads = {octet for octet in range(256) if self._trie.child(self._added, octet)}
        # Texts have few words and characters, again and again.
        self._split = lru_cache(_KEPT)(self._split_word)
        self._made = lru_cache(_KEPT)(self._parts)

    def words(self, text: str) -> Iterator[list[Token]]:
        """The tokens of each word; a token that is found before the others is a word."""
        begin = at = 0
        while at < len(text):
            id, stop = 0, at
            if text[at].encode()[0] in self._leads:
                id, stop = self._trie.longest(self._added, text, at)
            if stop == at:
                at += 1
                continue
            yield from self._plain_words(text, begin, at)
            yield [(id, (at, stop))]
            begin = at = stop
        yield from self._plain_words(text, begin, at)

    def _plain_words(self, text: str, begin: int, stop: int) -> Iterator[list[Token]]:
        letters: list[str] = []
        places: list[int] = []
        for part, place in self._normalized(text[begin:stop]):
            kind = part >> _KIND
            if kind != LETTER and letters:
                yield self._placed("".join(letters), places)
                letters, places = [], []
            if kind != SPACE:
                letters.append(character(part & _CODE))
                places.append(begin + place)
            if kind == ALONE:
                yield self._placed(letters[0], places)
                letters, places = [], []
        if letters:
            yield self._placed("".join(letters), places)

    def _placed(self, word: str, places: list[int]) -> list[Token]:
        return [(id, (places[start], places[stop - 1] + 1)) for id, start, stop in self._split(word)]

    def _split_word(self, word: str) -> list[tuple[int, int, int]]:
        """The longest token at each place, and its part of the word; where there is none, all of it is unknown."""
        unknown = [(self._head.unknown, 0, len(word))]
        if len(word) > self._head.longest:
            return unknown
        pieces = []
        start = 0
        while start < len(word):
            id, stop = self._trie.longest(self._inside if start else self._trie.root, word, start)
            if stop == start:
                return unknown
            pieces.append((id, start, stop))
            start = stop
        return pieces

    def _normalized(self, text: str) -> Iterator[tuple[int, int]]:
        """The characters that a text becomes, each with its class in the bits above, and the place it stands for."""
        made = [self._made(ord(character)) for character in text]
        if any(entry & MOVES for entry, _ in made):
            yield from self._ordered(text, made)
            return
        for place, (_, parts) in enumerate(made):
            for part in parts:
                yield part, place

    def _ordered(self, text: str, made: list[Made]) -> Iterator[tuple[int, int]]:
        """The same with marks in the order of their ranks.

        A mark stands where the text has the one in whose place it goes; the second of a character and those behind
        it, where the one before them does.
        """
        last = 0
        for is_mark, group in groupby(self._decomposed(text, made), key=lambda element: element.rank > 0):
            run = list(group)
            places = iter([element.place for element in run if not element.is_more])
            for element in sorted(run, key=lambda element: element.rank) if is_mark else run:
                last = last if element.is_more else next(places)
                for part in element.parts:
                    yield part, last

    def _decomposed(self, text: str, made: list[Made]) -> Iterator[_Element]:
        for place, (letter, (entry, parts)) in enumerate(zip(text, made, strict=True)):
            if not entry & JOINS:
                if parts:
                    yield _Element(0, parts, False, place)
                continue
            start = self._elements.get(ord(letter))
            first = 0 if start is None else start + 1
            for number in range(0 if start is None else self._sequences[start]):
                head = self._sequences[first]
                stop = first + 1 + (head & 0xFF)
                yield _Element(
                    head >> 8 & 0xFF, self._sequences[first + 1 : stop].tolist(), number > 0, place
                )
                first = stop

    def _parts(self, code: int) -> Made:
        """The entry of a code point, and what becomes of it."""
        entry = self._entries[self._pages[code >> 8] << 8 | code & 0xFF]
        value, kind = entry >> VALUE_BITS, entry & 3
        if entry & SEQUENCE and value == SYLLABLE:
            return entry, [letter | LETTER << _KIND for letter in syllable(code)]
        if entry & SEQUENCE:
            return entry, self._sequences[value + 1 : value + 1 + self._sequences[value]].tolist()
        return entry, [] if kind == DROPPED else [(code + value) & _CODE | kind << _KIND]
