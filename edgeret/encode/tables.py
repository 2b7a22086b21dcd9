"""Tables: what tokenizers of every kind share that export compiled of a tokenizer.json, and how their file is read.

docs/format.md says how the tables of each kind are laid out.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle, Source
from edgeret.encode.manifest import refuse
from edgeret.errors import InvalidDocumentError
from edgeret.native import is_allowed

try:
    from edgeret.encode import _tokenize
except ImportError:
    _tokenize = None  # type: ignore[assignment]

FILE: Final = "tokenizer.bin"
SOURCE: Final = "tokenizer.json"

PLANNED_BYTES: Final = 3_000_000
"""Growth of the peak RSS on x86-64 beyond the file, rounded up: what Python remembers, and a text's tokens."""

MAGIC: Final = b"edgeret words 1\n"
WORDPIECE, UNIGRAM, BYTE_PAIRS = 1, 2, 3
PAGES: Final = 0x1100
MOST_SPECIAL: Final = 64
NOWHERE: Final = 0xFFFFFFFF
MOST_BYTES: Final = 1 << 26

# The head: magic, SHA-256 of tokenizer.json, and the numbers of `Head`.
HEAD: Final = struct.Struct("<16s32s11I")

# Of the trie: labels that no UTF-8 has.
MAPS, ADDED, END = 0xFD, 0xFE, 0xFF
_HAS_END: Final = 1 << 8

_BLOCK: Final = 1024
_KEPT: Final = 256

CHARACTERS: Final = 4096
"""Of a text that are looked at together."""

Span = tuple[int, int]
Token = tuple[int, Span]


class Tokens(NamedTuple):
    """Ids, where they stand in characters, and the number of each one's word. Special ones stand at (0, 0)."""

    ids: list[int]
    spans: list[Span]
    words: Sequence[int | None]


class Run(Protocol):
    """What tokenizes a text, with special tokens or without."""

    def __call__(
        self, text: str, special: bool, *, placed: bool = True
    ) -> tuple[list[int], list[Span], list[int]]:
        """Ids, spans, and the numbers of words; the last two are empty unless `placed`."""


def kind_of(bundle: Bundle) -> int:
    """What model a bundle's tables are of: WORDPIECE, UNIGRAM, BYTE_PAIRS, or any number.

    Raises BundleError for a short file.
    """
    number: int = HEAD.unpack(bundle.read(FILE, 0, HEAD.size))[2]
    return number


def check_source(bundle: Bundle, digest: bytes) -> None:
    """Raise BundleError if a bundle has another tokenizer.json than its tables were made of."""
    source = bundle.manifest.files.get(SOURCE)
    if source is not None and source.sha256 != digest.hex():
        refuse(
            bundle.path,
            f"{FILE} made of {SOURCE} with SHA-256 {digest.hex()[:12]}…",
            f"{source.sha256[:12]}…",
        )


def check(text: str) -> None:
    """Raise InvalidDocumentError for a text with a lone surrogate."""
    if text.isascii():
        return
    for start in range(0, len(text), CHARACTERS):
        try:
            text[start : start + CHARACTERS].encode()
        except UnicodeEncodeError as error:
            raise InvalidDocumentError(
                f"expected Unicode text, found a lone surrogate at {start + error.start}: read the text as UTF-8"
            ) from error


def runs_native() -> bool:
    """Whether C runs it: it takes numbers as the file has them."""
    return _tokenize is not None and is_allowed() and sys.byteorder == "little"


def framed(words: Callable[[str], Iterator[list[Token]]], around: list[int], before: int) -> Run:
    """What makes words of a text, with ids around them, `before` of them before it."""

    def run(text: str, special: bool, *, placed: bool = True) -> tuple[list[int], list[Span], list[int]]:
        tokens = [(id, span, word) for word, found in enumerate(words(text)) for id, span in found]
        if special:
            frame = [(id, (0, 0), -1) for id in around]
            tokens = [*frame[:before], *tokens, *frame[before:]]
        ids, spans, numbers = ([*column] for column in zip(*tokens, strict=True)) if tokens else ([], [], [])
        return (ids, spans, numbers) if placed else (ids, [], [])

    return run


def syllable(code: int) -> list[int]:
    """The letters of a syllable of Hangul, code points all."""
    number, last = divmod(code - 0xAC00, 28)
    first, middle = divmod(number, 21)
    return [0x1100 + first, 0x1161 + middle, *([0x11A7 + last] if last else [])]


def character(code: int) -> str:
    """U+FFFD for what is no code point of a text, which only tables that somebody made have."""
    return chr(code) if code < 0xD800 or 0xE000 <= code <= sys.maxunicode else "\ufffd"


# -- arrays

Layout = list[tuple[str, int]]
"""The dtype of each array in the file, and how many numbers it has."""


def size_of(layout: Layout) -> int:
    """Bytes."""
    return sum(count * np.dtype(dtype).itemsize for dtype, count in layout)


def arrays_of(blob: bytes, offset: int, layout: Layout) -> list[NDArray[Any]]:
    """The arrays that a file has from `offset` on, one after the other, in this machine's order of bytes."""
    arrays = []
    for dtype, count in layout:
        array = np.frombuffer(blob, dtype, count, offset)
        arrays.append(array.astype(array.dtype.newbyteorder("="), copy=False))
        offset += array.nbytes
    return arrays


def packed(digest: bytes, head: tuple[int, ...], arrays: Sequence[NDArray[Any]], layout: Layout) -> bytes:
    """The bytes of a file's head and arrays. digest: SHA-256 of its tokenizer.json."""
    parts = [HEAD.pack(MAGIC, digest, *head)]
    for array, (dtype, _) in zip(arrays, layout, strict=True):
        parts.append(np.ascontiguousarray(array, dtype).tobytes())
    return b"".join(parts)


# -- a file that stays where it is

H = TypeVar("H")
T = TypeVar("T")


def opened(bundle: Bundle, read: Callable[[Source, int], tuple[bytes, H, T]]) -> tuple[H, T, Source]:
    """A bundle's file, read by what gives its digest, head and tables.

    Raises BundleError for a file that export cannot have written.
    """
    source = bundle.source(FILE)
    try:
        digest, head, tables = read(source, bundle.manifest.files[FILE].nbytes)
    except ValueError as error:
        refuse(bundle.path, f"a tokenizer that edgeret knows in {FILE}", str(error))
    check_source(bundle, digest)
    return head, tables, source


class Trie:
    """Byte strings, each with a number, as a double array.

    numbers: of the array's units and of what stands behind them, by place. units: how many are the array's.
    """

    def __init__(self, numbers: Callable[[int], int], units: int) -> None:
        self.number = numbers
        self._units = units
        self.root = numbers(0)

    @classmethod
    def kept(cls, source: Source, offset: int, count: int, units: int) -> Trie:
        """One of a file's numbers from `offset` on, `count` of them, which are read block by block. 0 behind them."""

        def read(number: int) -> memoryview:
            first = number * _BLOCK
            blob = source.read(4 * min(count - first, _BLOCK), offset + 4 * first)
            return np.frombuffer(blob, "<u4").data

        # Texts have few words, again and again.
        block = lru_cache(_KEPT)(read)
        return cls(lambda place: int(block(place // _BLOCK)[place % _BLOCK]) if place < count else 0, units)

    def child(self, unit: int, label: int) -> int:
        """The unit of a child, or 0: no unit has both base 0 and label 0."""
        place = unit >> 9 ^ label
        found = self.number(place) if place < self._units else 0
        return found if found & 0xFF == label else 0

    def longest(self, unit: int, text: str, start: int) -> tuple[int, int]:
        """Number and end of the longest string in `text` at `start`, from a unit on; it ends there if there is none."""
        number, stop = 0, start
        for at in range(start, len(text)):
            for octet in text[at].encode():
                unit = self.child(unit, octet)
                if not unit:
                    return number, stop
            if has_end(unit):
                number, stop = self.number_of(unit), at + 1
        return number, stop

    def parted(
        self, text: str, label: int, is_blank: Callable[[str], bool]
    ) -> Iterator[tuple[int | None, int, int]]:
        """A text's longest strings behind a label, and what is between them, in order: an id or None, start and stop.

        Their numbers are twice an id, and one more for a string that takes the blanks before it.
        """
        root = self.child(self.root, label)
        begin = at = 0
        while root and at < len(text):
            number, stop = self.longest(root, text, at)
            if stop == at:
                at += 1
                continue
            start = at
            while number & 1 and start > begin and is_blank(text[start - 1]):
                start -= 1
            if start > begin:
                yield None, begin, start
            yield number >> 1, start, stop
            begin = at = stop
        if begin < len(text):
            yield None, begin, len(text)

    def number_of(self, unit: int) -> int:
        """A base past the end has no children: it is the number, behind that of units."""
        base = unit >> 9
        return base - self._units if base >= self._units else self.child(unit, END) >> 8


def has_end(unit: int) -> bool:
    """Whether a string ends at a unit."""
    return unit & _HAS_END != 0
