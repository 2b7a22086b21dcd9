"""Byte pairs: byte-level BPE, the tokenizer of a bundle in tables of its own, as GPT-2 and RoBERTa have it.

Two builds of one function, as in `pieces`. The trie and the merges stay in the file, as in `unigram`. docs/format.md
says how the tables are laid out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from heapq import heappop, heappush
from itertools import groupby
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle, Source
from edgeret.encode.tables import (
    ADDED,
    BYTE_PAIRS,
    HEAD,
    MAGIC,
    MAPS,
    MOST_BYTES,
    MOST_SPECIAL,
    NOWHERE,
    PAGES,
    Layout,
    Span,
    Token,
    Tokens,
    Trie,
    arrays_of,
    character,
    check,
    opened,
    packed,
    runs_native,
    size_of,
    syllable,
)

try:
    from edgeret.encode import _tokenize
except ImportError:
    _tokenize = None  # type: ignore[assignment]

# What a code point is to a word's pattern; whether it is blank; which letter of ENDINGS it is, from 1; whether it
# becomes something else by itself, or may together with what stands before it; its rank among marks; where its parts
# are.
OTHER, LETTER, NUMBER, SPACE = range(4)
KIND, BLANK, ENDING, CHANGES, FOLLOWS, RANK, PARTS = 3, 4, 3, 1 << 7, 1 << 8, 9, 15

ENDINGS: Final = "stmdrevl"
"""Behind an apostrophe one of the first four is a word, and `re`, `ve` and `ll` are."""

_ENDINGS: Final = f"?{ENDINGS}".ljust(16, "?")

SYLLABLE: Final = (1 << 32 - PARTS) - 1
"""In place of parts: the letters of Hangul, by arithmetic."""

MOST_PARTS: Final = 64
RANKS: Final = 64

# Blanks before a text, blanks that a token's place leaves out, but for the one before a text; marks are joined; words
# are as in GPT-2, or as in later models. NUMBERS: how many digits a word has, 0 for any.
PREFIXES, TRIMS, SPARES, COMPOSES, SPLITS, SPLITS_MORE, NUMBERS = 1, 2, 4, 8, 16, 32, 8

# How a part of a text is asked for: it goes on from another part; spans have all blanks, and words that the text cannot
# be cut between have one number.
CONTINUES, CUTS = 1, 2

_KEPT: Final = 4096


class Head(NamedTuple):
    """Numbers of the file. unknown: NOWHERE if there is no such token. pairs: of characters that are joined."""

    kind: int
    unknown: int
    flags: int
    merges: int
    before: int
    behind: int
    blocks: int
    sequences: int
    pairs: int
    units: int
    vocabulary: int

    @property
    def offset(self) -> int:
        """Where the trie begins in the file, and the merges behind it."""
        return HEAD.size + size_of(_layout(self))

    @property
    def numbers(self) -> int:
        """Of the trie, of where each token's merges begin, and of these."""
        return self.units + self.vocabulary + 1 + 3 * self.merges


class Tables(NamedTuple):
    """The arrays in memory: uint32 [blocks, 256], [sequences], [before + behind], [256], [pairs, 3]; uint16 [PAGES]."""

    entries: NDArray[np.uint32]
    sequences: NDArray[np.uint32]
    special: NDArray[np.uint32]
    octets: NDArray[np.uint32]
    pairs: NDArray[np.uint32]
    pages: NDArray[np.uint16]


class Parts(Protocol):
    """A run that takes CONTINUES and CUTS too."""

    def __call__(
        self, text: str, special: bool, part: int, *, placed: bool = True
    ) -> tuple[list[int], list[Span], list[int]]:
        """Ids, spans, and the numbers of words."""


class BytePairs:
    """A tokenizer. unknown: the id of what it has no token for. special: how many tokens it puts around a text."""

    def __init__(self, head: Head, tables: Tables, source: Source) -> None:
        self.unknown: int | None = None if head.unknown == NOWHERE else head.unknown
        self.special = head.before + head.behind
        self._source = source
        self._run = (native if runs_native() else reference)(head, tables, source)

    @classmethod
    def load(cls, bundle: Bundle) -> BytePairs:
        """Read those of a bundle. Raises BundleError for a file that export cannot have written."""
        return cls(*opened(bundle, read))

    def tokenize(self, text: str, *, special: bool = True) -> Tokens:
        """Text -> tokens, with the special ones or without.

        Raises InvalidDocumentError for what is not Unicode, BundleError for a file that was cut meanwhile.
        """
        check(text)
        return Tokens(*self._run(text, special, 0))

    def ids(self, text: str) -> list[int]:
        """As `Tokenizer.ids`."""
        check(text)
        return self._run(text, True, 0, placed=False)[0]

    def part(self, text: str, *, begins: bool) -> tuple[Tokens, Tokens]:
        """As `Tokenizer.part`."""
        check(text)
        flags = 0 if begins else CONTINUES
        return Tokens(*self._run(text, False, flags)), Tokens(*self._run(text, False, flags | CUTS))


def read(source: Source, nbytes: int) -> tuple[bytes, Head, Tables]:
    """The digest of the tokenizer.json that a file of `nbytes` was made of, its head, and what stands before the trie.

    Raises ValueError for what cannot be so, BundleError for a file that is shorter.
    """
    magic, digest, *numbers = HEAD.unpack(source.read(HEAD.size, 0))
    head = Head(*numbers)
    if magic != MAGIC or head.kind != BYTE_PAIRS:
        raise ValueError(f"{magic!r}, kind {head.kind}")
    if head.before + head.behind > MOST_SPECIAL:
        raise ValueError(f"{head.before + head.behind} special tokens")
    if not head.units or not head.blocks or head.vocabulary <= head.unknown != NOWHERE:
        raise ValueError("no trie, no characters, or no unknown token")
    if head.offset + 4 * head.numbers != nbytes or nbytes > MOST_BYTES:
        raise ValueError(
            f"{nbytes} bytes in place of {head.offset + 4 * head.numbers}, or more than {MOST_BYTES}"
        )
    tables = Tables(*arrays_of(source.read(head.offset - HEAD.size, HEAD.size), 0, _layout(head)))
    _check(head, tables)
    return (
        digest,
        head,
        tables._replace(entries=tables.entries.reshape(-1, 256), pairs=tables.pairs.reshape(-1, 3)),
    )


def _check(head: Head, tables: Tables) -> None:
    """Raise ValueError for tables that point past an end."""
    if tables.pages.max() >= head.blocks:
        raise ValueError("a page of characters that is not there")
    if any((ids >= head.vocabulary).any() for ids in (tables.special, tables.octets)):
        raise ValueError("a token beyond the vocabulary")
    places = tables.entries >> PARTS
    places = places[(places > 0) & (places != SYLLABLE)].astype(np.int64)
    sequences = tables.sequences.astype(np.int64)
    if (places >= head.sequences).any() or (places + sequences[places] >= head.sequences).any():
        raise ValueError("parts past the end")
    if (sequences[places] > MOST_PARTS).any():
        raise ValueError(f"a character that becomes more than {MOST_PARTS}")


def write(digest: bytes, head: Head, tables: Tables, numbers: NDArray[np.uint32]) -> bytes:
    """The bytes of a file. digest: SHA-256 of its tokenizer.json. numbers: as `Head.numbers` has them, in order."""
    return packed(digest, head, tables, _layout(head)) + numbers.astype("<u4").tobytes()


def _layout(head: Head) -> Layout:
    return [
        ("<u4", 256 * head.blocks), ("<u4", head.sequences), ("<u4", head.before + head.behind), ("<u4", 256),
        ("<u4", 3 * head.pairs), ("<u2", PAGES),
    ]  # fmt: skip


def native(head: Head, tables: Tables, source: Source) -> Parts:
    """C. The source must outlive it."""
    tokenizer = _tokenize.byte_pairs(
        tables.pages, tables.entries, tables.sequences, tables.special, tables.octets, tables.pairs, head.flags,
        head.before, source.descriptor, head.offset, head.units, head.vocabulary, head.merges,
    )  # fmt: skip

    def run(
        text: str, special: bool, part: int, *, placed: bool = True
    ) -> tuple[list[int], list[Span], list[int]]:
        return _tokenize.encode_byte_pairs(tokenizer, text, special, placed, part)

    return run


def reference(head: Head, tables: Tables, source: Source) -> Parts:
    """The same in Python."""
    return _Twin(head, tables, source).run


class _Mark(NamedTuple):
    """Of a decomposition: by how much what comes behind it moves, and its rank among marks."""

    code: int
    change: int
    rank: int


class _Found:
    """Tokens of a text, as they are found."""

    def __init__(self, flags: int, part: int) -> None:
        self.ids: list[int] = []
        self.spans: list[Span] = []
        self.words: list[int] = []
        self.is_begun = False
        self.is_continued = part & CONTINUES != 0
        self._flags = flags
        self._part = part
        self._word = -1

    def begin_word(self, is_apart: bool) -> None:
        """The tokens to come are another word's; is_apart: the text can be cut before it."""
        if is_apart or not self._part & CUTS or self._word < 0:
            self._word += 1

    def add(self, token: Token, letters: str) -> None:
        """Add one, which is these letters of a normalized text, or has these among them at its ends."""
        id, (start, stop) = token
        if self._flags & TRIMS and not self._part & CUTS:
            start, stop = self._trimmed(start, stop, letters)
        self.ids.append(id)
        self.spans.append((start, stop))
        self.words.append(self._word)

    def _trimmed(self, start: int, stop: int, letters: str) -> Span:
        lead, tail = (len(letters) - len(rest) for rest in (letters.lstrip(" "), letters.rstrip(" ")))
        is_first = not self.is_continued and (not self.ids or start == 0)
        if lead == 1 and is_first and self._flags & SPARES:
            lead = 0
        start = min(start + lead, stop)
        return start, max(stop - tail, start) if stop >= tail else stop


class _Twin:
    """The tables, read number by number."""

    def __init__(self, head: Head, tables: Tables, source: Source) -> None:
        self._head = head
        self._entries = tables.entries.ravel().data
        self._pages = tables.pages.data
        self._sequences = tables.sequences.data
        self._octets = tables.octets.tolist()
        self._special = tables.special.tolist()
        self._pairs = {(one, other): made for one, other, made in tables.pairs.tolist()}
        self._trie = Trie.kept(source, head.offset, head.numbers, head.units)
        # Texts have few words, again and again.
        self._split = lru_cache(_KEPT)(self._split_word)
        self._merge = lru_cache(_KEPT)(self._find_merge)

    def run(
        self, text: str, special: bool, part: int, *, placed: bool = True
    ) -> tuple[list[int], list[Span], list[int]]:
        """As `Parts`."""
        ids, spans, words = self._tokens(text, special, part)
        return (ids, spans, words) if placed else (ids, [], [])

    def _tokens(self, text: str, special: bool, part: int) -> tuple[list[int], list[Span], list[int]]:
        found = _Found(self._head.flags, part)
        for id, start, stop in self._parted(text, ADDED):
            if id is None:
                self._add_segment(found, text[start:stop], start)
            else:
                self._add_added(found, (id, (start, stop)), text[start:stop])
        if not special:
            return found.ids, found.spans, found.words
        before = self._head.before
        around = [[(0, 0)] * before, [(0, 0)] * (len(self._special) - before)]
        ids = [*self._special[:before], *found.ids, *self._special[before:]]
        words = [*[-1] * before, *found.words, *[-1] * len(around[1])]
        return ids, [*around[0], *found.spans, *around[1]], words

    def _parted(self, text: str, label: int) -> Iterator[tuple[int | None, int, int]]:
        return self._trie.parted(text, label, lambda letter: self._entry(ord(letter)) & BLANK != 0)

    def _add_added(self, found: _Found, token: Token, letters: str) -> None:
        """One that is found before the others. Only blanks count of its letters."""
        found.begin_word(is_apart=True)
        found.add(token, "".join(" " if self._entry(ord(letter)) & BLANK else "x" for letter in letters))
        found.is_begun = True

    def _add_segment(self, found: _Found, text: str, begin: int) -> None:
        parts = [*self._normalized(text)]
        letters = "".join(character(code) for code, _ in parts)
        places = [begin + place for _, place in parts]
        for id, start, stop in self._parted(letters, MAPS):
            if id is None:
                self._add_words(found, letters[start:stop], places[start:stop])
            else:
                span = places[start], places[stop - 1] + 1
                self._add_added(found, (id, span), letters[start:stop])

    # -- words

    def _add_words(self, found: _Found, letters: str, places: list[int]) -> None:
        flags = self._head.flags
        is_apart = True
        if flags & PREFIXES and (found.is_begun or not found.is_continued):
            is_apart = not found.is_begun
            if letters[0] != " ":
                letters, places = " " + letters, [places[0], *places]
        found.is_begun = True
        entries = [self._entry(ord(letter)) for letter in letters]
        start = 0
        while start < len(letters):
            stop = self._word_end(letters, entries, start)
            is_rest = stop == len(letters) and flags & SPLITS_MORE and entries[start] & KIND == SPACE
            found.begin_word(is_apart and not entries[start] & FOLLOWS and not is_rest)
            self._add_word(found, letters[start:stop], places[start:stop])
            start, is_apart = stop, True

    def _add_word(self, found: _Found, word: str, places: list[int]) -> None:
        octets = word.encode()
        at = [place for letter, place in zip(word, places, strict=True) for _ in letter.encode()]
        for id, start, stop in self._split(word):
            # Blanks are bytes of their own, whatever the others are.
            found.add((id, (at[start], at[stop - 1] + 1)), octets[start:stop].decode("latin-1"))

    def _word_end(self, letters: str, entries: list[int], start: int) -> int:
        """Where the word ends that begins at `start`."""
        flags, size = self._head.flags, len(letters)
        if not flags & (SPLITS | SPLITS_MORE):
            return size
        kinds = [*(entry & KIND for entry in entries[start : start + 2]), None]
        if letters[start] == "'" and (length := _ending(entries, start + 1)):
            return start + 1 + length
        if flags & SPLITS_MORE:
            return self._later_end(letters, entries, start)
        first = start + (letters[start] == " " and kinds[1] not in (SPACE, None))
        kind = entries[first] & KIND
        return _run(entries, first, kind) if kind != SPACE else _blank_end(entries, start)

    def _later_end(self, letters: str, entries: list[int], start: int) -> int:
        kinds = [*(entry & KIND for entry in entries[start : start + 2]), None]
        if kinds[0] == LETTER or (kinds[1] == LETTER and kinds[0] != NUMBER and letters[start] not in "\r\n"):
            return _run(entries, start + (kinds[0] != LETTER), LETTER)
        if kinds[0] == NUMBER:
            most = self._head.flags >> NUMBERS
            stop = _run(entries, start, NUMBER)
            return min(stop, start + most) if most else stop
        first = start + (letters[start] == " " and kinds[1] == OTHER)
        if entries[first] & KIND == OTHER:
            stop = _run(entries, first, OTHER)
            while stop < len(letters) and letters[stop] in "\r\n":
                stop += 1
            return stop
        stop = _run(entries, start, SPACE)
        last = max(letters.rfind("\r", start, stop), letters.rfind("\n", start, stop))
        return last + 1 if last >= 0 else _blank_end(entries, start)

    def _split_word(self, word: str) -> list[tuple[int, int, int]]:
        """The tokens of a word, each with its bytes: one, or what merges make of the bytes' tokens."""
        octets = word.encode()
        number, stop = self._trie.longest(self._trie.root, word, 0)
        if stop == len(word):
            return [(number, 0, len(octets))]
        # By where they begin; 0 bytes are one that went into another.
        ids, sizes = [self._octets[octet] for octet in octets], [1] * len(octets)
        before, behind = [*range(-1, len(ids) - 1)], [*range(1, len(ids) + 1)]
        heap: list[tuple[int, int, int]] = []

        def offer(place: int) -> None:
            if place >= 0 and behind[place] < len(ids):
                merge = self._merge(ids[place], ids[behind[place]])
                if merge is not None:
                    heappush(heap, (merge[0], place, merge[1]))

        for place in range(len(ids)):
            offer(place)
        while heap:
            _, place, made = heappop(heap)
            other = behind[place]
            if not sizes[place] or other >= len(ids):
                continue
            merge = self._merge(ids[place], ids[other])
            if merge is None or merge[1] != made:
                continue
            ids[place] = made
            sizes[place] += sizes[other]
            sizes[other] = 0
            behind[place] = behind[other]
            if behind[place] < len(ids):
                before[behind[place]] = place
            offer(before[place])
            offer(place)
        return [
            (id, place, place + size) for place, (id, size) in enumerate(zip(ids, sizes, strict=True)) if size
        ]

    def _find_merge(self, one: int, other: int) -> tuple[int, int] | None:
        """The rank of a merge, and what it makes."""
        starts = self._head.units + one
        low, high = (min(self._trie.number(starts + step), self._head.merges) for step in (0, 1))
        first = self._head.units + self._head.vocabulary + 1
        while low < high:
            middle = (low + high) // 2
            found = self._trie.number(first + 3 * middle)
            if found == other:
                return self._trie.number(first + 3 * middle + 1), self._trie.number(first + 3 * middle + 2)
            low, high = (middle + 1, high) if found < other else (low, middle)
        return None

    # -- characters

    def _normalized(self, text: str) -> Iterator[tuple[int, int]]:
        """The code points that a text becomes, each with the place it stands for.

        One that is more than the text had stands where the one before it does; one less has the one before it take two.
        """
        passed = 0
        for code, change, _ in self._changed(text):
            place = max(passed - 1, 0) if change > 0 else passed
            if change <= 0:
                passed += 1 - change
            yield code, min(place, len(text) - 1)

    def _changed(self, text: str) -> Iterator[_Mark]:
        entries = [self._entry(ord(letter)) for letter in text]
        start = 0
        while start < len(text):
            stop = start + 1
            while stop < len(text) and entries[stop] & FOLLOWS:
                stop += 1
            if stop == start + 1 and not entries[start] & CHANGES:
                yield _Mark(ord(text[start]), 0, 0)
            else:
                marks = _ordered(
                    [mark for letter in text[start:stop] for mark in self._decomposed(ord(letter))]
                )
                yield from self._joined(marks) if self._head.flags & COMPOSES else marks
            start = stop

    def _decomposed(self, code: int) -> list[_Mark]:
        place = self._entry(code) >> PARTS
        if not place:
            codes = [code]
        elif place == SYLLABLE:
            codes = syllable(code)
        else:
            count = min(self._sequences[place], MOST_PARTS)
            codes = [found & 0x1FFFFF for found in self._sequences[place + 1 : place + 1 + count]]
        return [_Mark(one, int(number > 0), self._rank(one)) for number, one in enumerate(codes)]

    def _joined(self, marks: list[_Mark]) -> list[_Mark]:
        """Marks joined with what they stand behind, where no other mark of their rank is between."""
        found: list[_Mark] = []
        base, last = -1, 0
        for mark in marks:
            made = None
            if base >= 0 and (not last or last < mark.rank):
                made = self._pair(found[base].code, mark.code)
            if made is not None:
                found[base] = _Mark(made, found[base].change + mark.change - 1, 0)
                continue
            if not mark.rank:
                base, last = len(found), 0
            elif base >= 0:
                last = mark.rank
            found.append(mark)
        return found

    def _pair(self, one: int, other: int) -> int | None:
        if 0x1100 <= one < 0x1113 and 0x1161 <= other < 0x1176:
            return 0xAC00 + ((one - 0x1100) * 21 + other - 0x1161) * 28
        if 0xAC00 <= one < 0xD7A4 and (one - 0xAC00) % 28 == 0 and 0x11A8 <= other < 0x11C3:
            return one + other - 0x11A7
        return self._pairs.get((one, other))

    def _rank(self, code: int) -> int:
        return self._entry(code) >> RANK & (RANKS - 1)

    def _entry(self, code: int) -> int:
        page = code >> 8
        return self._entries[self._pages[page] << 8 | code & 0xFF] if page < PAGES else 0


def _ordered(marks: list[_Mark]) -> list[_Mark]:
    """Marks in a row in the order of their ranks."""
    found: list[_Mark] = []
    for _, group in groupby(marks, key=lambda mark: mark.rank > 0):
        found += sorted(group, key=lambda mark: mark.rank)
    return found


def _ending(entries: list[int], start: int) -> int:
    """How many letters are an ending of a word behind an apostrophe; 0 for none."""
    found = "".join(_ENDINGS[entry >> ENDING & 15] for entry in entries[start : start + 2])
    if found[:1] and found[0] in ENDINGS[:4]:
        return 1
    return 2 if found in ("re", "ve", "ll") else 0


def _run(entries: list[int], start: int, kind: int) -> int:
    stop = start
    while stop < len(entries) and entries[stop] & KIND == kind:
        stop += 1
    return stop


def _blank_end(entries: list[int], start: int) -> int:
    """All blanks, but for the last one before something else, if there are more."""
    stop = _run(entries, start, SPACE)
    return stop - (stop < len(entries) and stop - start > 1)
