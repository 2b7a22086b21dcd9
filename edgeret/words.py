"""Words: what a text is made of for the lexicon. docs/words.md has the rules, one by one.

Two builds of one function, as for the scan: C where the package was built with it, and a Python twin that
gives the same words. The Unicode table is ours, of one version, so that a text has the same words on every machine.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import cache
from itertools import chain, pairwise, takewhile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import stems
from edgeret.native import is_allowed

try:
    from edgeret import _words
except ImportError:
    _words = None  # type: ignore[assignment]

VERSION: Final = 1
"""Of the rules and the table together: a text may have other words under another version."""

LONGEST: Final = 64
"""Code points of a word; what is longer is cut, and a longer compound is known by its parts alone."""

MOST_ASKED: Final = 1024
"""Of a query's words, the first so many different ones are looked up."""

MAGIC: Final = b"edgeret words 1\n"
BLOCK: Final = 128
"""Code points of a block of the table."""

RECORD: Final = np.dtype(
    [
        ("offset", "<u2"),
        ("length", "u1"),
        ("kind", "u1"),
        ("order", "u1"),
        ("upper", "u1"),
        ("a", "u1"),
        ("b", "u1"),
    ]
)
"""Where in the pool a code point's folded form is (length 0: itself), its kind, canonical order, and case."""

_PART: Final = 1 << 15
_SMALL_PART: Final = 1 << 12
_EDGE: Final = re.compile("[ \n\r\t\u3001\u3002]|(?=[\U0001f300-\U0001f3fa\U0001f400-\U0001f64f])")
"""Characters of a text that are split at once, up to the next of these: no word goes on beyond white space, a Chinese
comma or full stop, nor into an emoji.
"""

_HEAD_BYTES: Final = len(MAGIC) + 16
_FIRST_WITHOUT_SPACES: Final = 0x0E00
"""Thai; before it all scripts have spaces."""
_BLOCKS: Final = 0x110000 // BLOCK

Language = str | None
"""ISO 639-1; None: words are not stemmed."""


class Kind(IntEnum):
    """What a code point is to a word."""

    SEPARATOR = 0
    IGNORED = 1
    LETTER = 2
    MARK = 3
    JOINER = 4
    COMMA = 5
    PLUS = 6
    HASH = 7
    EMOJI = 8
    REGION = 9
    HAN_KANA = 10
    HANGUL = 11
    THAI = 12
    LAO = 13
    KHMER = 14


class Wanted(NamedTuple):
    """A word of a query: a term, or all terms that begin with it."""

    term: str
    is_prefix: bool = False


class Word(NamedTuple):
    """A word as the lexicon knows it, and where it stands: text[start:stop]."""

    term: str
    start: int
    stop: int


def split(text: str, language: Language = "en") -> list[Word]:
    """The words of a text, in order; a compound is followed by its parts.

    language: whose stemmer is applied, None for none. Raises StemmerError if its package is missing.
    """
    is_english = language == stems.ENGLISH
    if _words is not None and is_allowed():
        terms, spans = _words.split(text, _table_bytes(), is_english)
        places = np.frombuffer(spans, dtype=np.int64).reshape(-1, 2).tolist()
        found = [Word(term, start, stop) for term, (start, stop) in zip(terms, places, strict=True)]
    else:
        found = list(_split(text, stem if is_english else _as_it_is))
    return found if language is None or is_english else _stemmed(found, text, language)


def _stemmed(found: list[Word], text: str, language: str) -> list[Word]:
    """Words of letters by their stems, which follow from what was written, accents included, and are folded then."""
    places = [
        place for place, word in enumerate(found) if len(word.term) < LONGEST and _is_spelled(word.term)
    ]
    written = [_letters(text[found[place].start : found[place].stop]) for place in places]
    for place, stemmed in zip(places, stems.stems(written, language), strict=True):
        term = "".join(chr(unit.code) for unit in _units(stemmed))
        found[place] = found[place]._replace(term=term or found[place].term)
    return found


def _letters(written: str) -> str:
    """The letters of a word, in lower case, each composed with its marks."""
    return "".join(filter(_is_letter, unicodedata.normalize("NFC", written).lower()))


def _is_spelled(term: str) -> bool:
    """Whether a word is one of letters, of a script with spaces."""
    return all(map(_is_letter, term)) and not any(
        _table().record(ord(character))[2] >= Kind.HAN_KANA for character in term
    )


@cache
def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def terms(text: str, language: Language = "en") -> list[str]:
    """The words of a text without their places."""
    return list(stream(text, language))


def stream(text: str, language: Language = "en") -> Iterator[str]:
    """The same, one after the other: a long text is split a part at a time."""
    if len(text) <= _PART:
        return iter(_terms(text, language))
    return chain.from_iterable(_terms(part, language) for part in _parts(text))


def _parts(text: str, size: int = _PART) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        edge = _EDGE.search(text, start + size)
        end = len(text) if edge is None else edge.end()
        yield text[start:end]
        start = end
    yield text[start:]


def _terms(text: str, language: Language) -> list[str]:
    if language == "en" and _words is not None and is_allowed():
        found: list[str] = _words.split(text, _table_bytes(), True)[0]
        return found
    return [word.term for word in split(text, language)]


def asked(
    query: str, language: Language = "en", prefix: bool = False, most: int = MOST_ASKED
) -> list[Wanted]:
    """The words of a query, the first `most` different ones of them.

    A single character of a script without spaces stands for all words that begin with it. The last of several does not
    count.

    prefix: whether the query is still being typed: the word that it ends with stands for all that begin with it.
    """
    found: list[Wanted] = []
    # Of a long query there are few different ones: each is in memory once.
    known: dict[Wanted, Wanted] = {}
    left = len(query)
    for part in _parts(query, _SMALL_PART):
        before = Word("", 0, 0)
        for word in split(part, language):
            wanted = Wanted(word.term, _is_single(word.term))
            if prefix and word.stop == left:
                wanted = _begun(word, part)
            is_end = wanted.is_prefix and _ends(before, word)
            if not is_end and (len(known) < most or wanted in known):
                found.append(known.setdefault(wanted, wanted))
            before = word
        left -= len(part)
    return found


def among(text: str, wanted: Sequence[Wanted], language: Language = "en") -> Iterator[Word]:
    """The words of a text that a query asks for, in order: a long text is split a part at a time."""
    whole = {term for term, is_prefix in wanted if not is_prefix}
    beginnings = tuple(term for term, is_prefix in wanted if is_prefix)
    start = 0
    for part in _parts(text, _SMALL_PART):
        for word in split(part, language):
            if word.term in whole or word.term.startswith(beginnings):
                yield Word(word.term, start + word.start, start + word.stop)
        start += len(part)


def _begun(word: Word, text: str) -> Wanted:
    """All words that a word may become: what it has in common with its stem stands in them too."""
    written = split(text[word.start : word.stop], None)[0].term
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(word.term, written, strict=False))
    return Wanted("".join(letter for letter, _ in alike) or word.term, is_prefix=True)


def _ends(before: Word, last: Word) -> bool:
    """Whether a word is the end of the one before it."""
    return before.term.endswith(last.term) and before.start < last.start and before.stop == last.stop


def _is_single(term: str) -> bool:
    """Whether a word is one character, with its marks, of a script that has pairs."""
    if ord(term[0]) < _FIRST_WITHOUT_SPACES:
        return False
    kinds = [_table().record(ord(character))[2] for character in term]
    return kinds[0] >= Kind.HAN_KANA and all(kind == Kind.MARK for kind in kinds[1:])


class _Unit(NamedTuple):
    """A folded code point: what it is, whether it was a capital, and which character of the text it comes from."""

    code: int
    kind: int
    order: int
    is_upper: bool
    place: int


class _Table:
    def __init__(self, octets: bytes) -> None:
        blocks, records, size, _ = np.frombuffer(octets, "<u4", 4, len(MAGIC)).tolist()
        at = _HEAD_BYTES
        self.places: NDArray[np.uint16] = np.frombuffer(octets, "<u2", _BLOCKS, at)
        at += 2 * _BLOCKS
        self.blocks: NDArray[np.uint16] = np.frombuffer(octets, "<u2", blocks * BLOCK, at).reshape(-1, BLOCK)
        at += 2 * blocks * BLOCK
        self.records = np.frombuffer(octets, RECORD, records, at).tolist()
        at += RECORD.itemsize * records
        self.pool = np.frombuffer(octets, "<u4", size, at).tolist()

    @cache  # noqa: B019 - one table, and few characters
    def record(self, code: int) -> tuple[int, int, int, int, int, int, int]:
        found: tuple[int, int, int, int, int, int, int] = self.records[
            self.blocks[self.places[code // BLOCK], code % BLOCK]
        ]
        return found


@cache
def _table_bytes() -> bytes:
    return Path(__file__).with_name("words.bin").read_bytes()


@cache
def _table() -> _Table:
    return _Table(_table_bytes())


_HANGUL_L, _HANGUL_V, _HANGUL_T, _HANGUL = 0x1100, 0x1161, 0x11A7, 0xAC00


def _units(text: str) -> list[_Unit]:
    """Fold a text, put marks in canonical order, and join the parts of Hangul syllables."""
    table = _table()
    units: list[_Unit] = []
    for place, character in enumerate(text):
        offset, length, kind, order, upper, *_ = table.record(ord(character))
        if kind == Kind.IGNORED:
            continue
        if not length:
            _append(units, _Unit(ord(character), kind, order, bool(upper), place))
            continue
        for code in table.pool[offset : offset + length]:
            _, _, kind, order, *_ = table.record(code)
            _append(units, _Unit(code, kind, order, bool(upper), place))
    return units


def _append(units: list[_Unit], unit: _Unit) -> None:
    if unit.kind == Kind.MARK and unit.order:
        at = len(units)
        while at and units[at - 1].kind == Kind.MARK and units[at - 1].order > unit.order:
            at -= 1
        units.insert(at, unit)
        return
    if unit.kind == Kind.HANGUL and units:
        joined = _joined(units[-1].code, unit.code)
        if joined:
            units[-1] = units[-1]._replace(code=joined)
            return
    units.append(unit)


def _joined(first: int, second: int) -> int:
    """The Hangul syllable of two parts, 0 if they make none."""
    if 0 <= first - _HANGUL_L < 19 and 0 <= second - _HANGUL_V < 21:
        return _HANGUL + ((first - _HANGUL_L) * 21 + second - _HANGUL_V) * 28
    if 0 <= first - _HANGUL < 11172 and (first - _HANGUL) % 28 == 0 and 0 < second - _HANGUL_T < 28:
        return first + second - _HANGUL_T
    return 0


class _Splitter:
    def __init__(self, text: str, stemmed: Callable[[str], str]) -> None:
        self.units = _units(text)
        self.length = len(text)
        self.stemmed = stemmed

    def kind(self, at: int) -> int:
        return self.units[at].kind if 0 <= at < len(self.units) else Kind.SEPARATOR

    def letters(self, first: int, end: int) -> str:
        return "".join(chr(unit.code) for unit in self.units[first:end])

    def word(self, term: str, first: int, end: int) -> Word:
        start, last = self.units[first].place, self.units[end - 1].place
        following = self.units[end].place if end < len(self.units) else self.length
        return Word(self.stemmed(term[:LONGEST]), start, max(following, last + 1))

    def words(self) -> Iterator[Word]:
        at = 0
        while at < len(self.units):
            kind = self.kind(at)
            if kind == Kind.LETTER:
                parts = self.parts(at)
                yield from self.compound(parts)
                at = parts[-1][1]
            elif kind >= Kind.HAN_KANA:
                end = self.run(at, kind)
                yield from self.pairs(at, end)
                at = end
            elif kind == Kind.REGION and self.kind(at + 1) == Kind.REGION:
                yield self.word(self.letters(at, at + 2), at, at + 2)
                at += 2
            else:
                if kind in (Kind.EMOJI, Kind.REGION):
                    yield self.word(self.letters(at, at + 1), at, at + 1)
                at += 1

    def run(self, at: int, kind: int) -> int:
        """The end of a run of one kind with its marks."""
        while self.kind(at) == kind or (self.kind(at) == Kind.MARK and at < len(self.units)):
            at += 1
        return at

    def parts(self, at: int) -> list[tuple[int, int]]:
        """Runs of letters that joiners hold together."""
        found = []
        while True:
            end = self.run(at, Kind.LETTER)
            found.append((at, end))
            if self.kind(end + 1) != Kind.LETTER or not self.joins(end):
                return found
            at = end + 1

    def joins(self, at: int) -> bool:
        kind = self.kind(at)
        if kind == Kind.COMMA:
            return _is_digit(self.units[at - 1].code) and _is_digit(self.units[at + 1].code)
        return kind in (Kind.JOINER, Kind.PLUS, Kind.HASH)

    def compound(self, parts: list[tuple[int, int]]) -> Iterator[Word]:
        first, end = parts[0][0], parts[-1][1]
        if len(parts) > 1:
            term = self.letters(first, end)
            if not any(_is_digit(ord(letter)) for letter in term) and all(
                self.units[stop].code == ord("-") for _, stop in parts[:-1]
            ):
                term = term.replace("-", "")
            if len(term) <= LONGEST:
                yield self.word(term, first, end)
        elif mark := self.marked(first, end):
            low, high = mark
            if high - low <= LONGEST:
                yield self.word(self.letters(low, high), low, high)
        for start, stop in parts:
            yield self.word(self.letters(start, stop), start, stop)
            humps = self.humps(start, stop)
            if len(humps) > 1:
                yield from (self.word(self.letters(a, b), a, b) for a, b in humps if b - a > 1)

    def marked(self, first: int, end: int) -> tuple[int, int] | None:
        """The span of a name such as C++, C# or .NET; None if it is none."""
        if any(_is_digit(unit.code) for unit in self.units[first:end]):
            return None
        if self.kind(end) == Kind.PLUS and self.kind(end + 1) == Kind.PLUS:
            if self.kind(end + 2) not in (Kind.LETTER, Kind.PLUS):
                return first, end + 2
        elif self.kind(end) == Kind.HASH and self.kind(end + 1) not in (Kind.LETTER, Kind.HASH):
            return first, end + 1
        dotted = first > 0 and self.units[first - 1].code == ord(".")
        return (first - 1, end) if dotted and self.kind(first - 2) == Kind.SEPARATOR else None

    def humps(self, first: int, end: int) -> list[tuple[int, int]]:
        """The parts of camelCase."""
        units = self.units
        edges = [
            at
            for at in range(first + 1, end)
            if units[at].is_upper
            and units[at].place != units[at - 1].place
            and (
                not units[at - 1].is_upper
                or (
                    at + 1 < end
                    and not units[at + 1].is_upper
                    and units[at + 1].kind == Kind.LETTER
                    and not _is_digit(units[at + 1].code)
                )
            )
        ]
        return list(zip([first, *edges], [*edges, end], strict=True))

    def pairs(self, first: int, end: int) -> Iterator[Word]:
        """Overlapping pairs of characters, marks with their letter; the last one alone too."""
        starts = [at for at in range(first, end) if at == first or self.kind(at) != Kind.MARK]
        ends = [*starts[1:], end]
        for number, start in enumerate(starts):
            stop = ends[min(number + 1, len(ends) - 1)]
            yield self.word(self.letters(start, stop), start, stop)


def _is_digit(code: int) -> bool:
    return 48 <= code <= 57


def _split(text: str, stemmed: Callable[[str], str]) -> Iterator[Word]:
    return _Splitter(text, stemmed).words()


def _as_it_is(term: str) -> str:
    return term


# -- English: M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980), with its author's later changes.

_STEP_2: Final = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("logi", "log"),
)  # fmt: skip
_STEP_3: Final = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4: Final = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """An English word's stem; a word of other letters than a to z, or of fewer than three, stays as it is."""
    if len(word) < 3 or not word.isascii() or not word.isalpha():
        return word
    word = _step_1(word)
    for endings in (_STEP_2, _STEP_3):
        word = _replaced(word, endings)
    return _step_5(_step_4(word))


def _consonant(word: str, at: int) -> bool:
    if word[at] in "aeiou":
        return False
    return word[at] != "y" or at == 0 or not _consonant(word, at - 1)


def _measure(word: str, end: int) -> int:
    """How often a vowel is followed by a consonant in word[:end]."""
    kinds = [_consonant(word, at) for at in range(end)]
    return sum(not before and after for before, after in pairwise(kinds))


def _has_vowel(word: str, end: int) -> bool:
    return any(not _consonant(word, at) for at in range(end))


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _consonant(word, len(word) - 1)


def _ends_cvc(word: str) -> bool:
    end = len(word)
    if end < 3 or word[-1] in "wxy":
        return False
    return _consonant(word, end - 1) and not _consonant(word, end - 2) and _consonant(word, end - 3)


def _step_1(word: str) -> str:
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        if _measure(word, len(word) - 3):
            word = word[:-1]
    else:
        for ending in ("ed", "ing"):
            end = len(word) - len(ending)
            if word.endswith(ending) and _has_vowel(word, end):
                word = _mended(word[:end])
                break
    if word.endswith("y") and _has_vowel(word, len(word) - 1):
        word = word[:-1] + "i"
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _ends_double(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word, len(word)) == 1 and _ends_cvc(word) else word


def _replaced(word: str, endings: tuple[tuple[str, str], ...]) -> str:
    for ending, other in endings:
        if word.endswith(ending):
            end = len(word) - len(ending)
            return word[:end] + other if _measure(word, end) else word
    return word


def _step_4(word: str) -> str:
    for ending in _STEP_4:
        end = len(word) - len(ending)
        if word.endswith(ending):
            fits = ending != "ion" or (end > 0 and word[end - 1] in "st")
            return word[:end] if fits and _measure(word, end) > 1 else word
    return word


def _step_5(word: str) -> str:
    if word.endswith("e"):
        measure = _measure(word, len(word) - 1)
        if measure > 1 or (measure == 1 and not _ends_cvc(word[:-1])):
            word = word[:-1]
    if word.endswith("ll") and _measure(word, len(word)) > 1:
        word = word[:-1]
    return word
