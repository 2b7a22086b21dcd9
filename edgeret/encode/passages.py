"""A long text -> passages that an encoder can take whole, with their offsets."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret.blocks import distinct
from edgeret.documents import Span
from edgeret.encode.sentences import END, LONGEST, PARAGRAPH_END, PHRASE_END, strip

_LINE_END: Final = re.compile(r"\n")
_AFTER: Final = 256
"""Characters that are looked at after a token, for the whitespace that follows a sentence."""

_LAST: Final = 0x3001
"""From here on no character is a blank."""
_ARE_BLANK: Final = np.array([*map(str.isspace, map(chr, range(_LAST))), False])

Int64 = NDArray[np.int64]


def split(text: str, token_spans: Sequence[Span], limit: int) -> list[Span]:
    """Cut `text` into passages of at most `limit` tokens; return their (start, end) as string indices.

    `token_spans` are the (start, end) of the text's tokens, in order. Sentences are packed whole; a
    paragraph's end is preferred once a passage is half full. Thai and Lao mark no sentences: there a
    blank, which ends a phrase, is preferred to an end that leaves a passage less than half full. A
    sentence longer than `limit` is cut at its last word that fits, a longer word between tokens; only
    tokens of one same character stay together whatever the limit. Passages keep the order of the text
    and leave out nothing but whitespace around them; a text of whitespace has none. Takes linear time.
    """
    return split_windows(text, [token_spans], limit)


def split_windows(
    text: str, windows: Iterable[Sequence[Span]], limit: int, blocks: Sequence[Span] = ()
) -> list[Span]:
    """`split`, where the spans of the text's tokens come some at a time. Keeps those of a passage and a window.

    blocks: what is one piece, in order: cut only where one is longer than `limit`, and then between lines if possible.
    """
    windows, held = iter(windows), list[Sequence[Span]]()
    while sum(map(len, held)) <= limit:
        if (window := next(windows, None)) is None:
            # All of it fits: most short documents end here, which need no cuts.
            start, end = strip(text, 0, len(text))
            return [(start, end)] if start < end else []
        held.append(window)
    tokens = _Tokens(text, chain(held, windows), blocks)
    passages = []
    first, begin = 0, 0
    while begin < len(text):
        following = tokens.cut(first, limit)
        while following is None and tokens.read(first):
            following = tokens.cut(first, limit)
        end = len(text) if following is None else tokens.start(following)
        passages.append(strip(text, begin, end))
        first, begin = following or 0, end
    return [(start, end) for start, end in passages if start < end]


class _Tokens:
    """A text's tokens, by number, and before which of them it may be cut."""

    def __init__(self, text: str, windows: Iterable[Sequence[Span]], blocks: Sequence[Span]) -> None:
        self._text = text
        self._blocks = np.array(blocks, dtype=np.int64).reshape(-1, 2)
        self._windows = iter(windows)
        self._starts: list[int] = []
        self._forgotten = 0
        self._end = 0
        self._paragraphs: list[int] = []
        # Ends of sentences and paragraphs, of phrases, of lines in blocks, of words, of tokens.
        self._levels: list[list[int]] = [[], [], [], [], []]

    def start(self, token: int) -> int:
        """Where a token starts."""
        return self._starts[token - self._forgotten]

    def read(self, first: int) -> bool:
        """Read more tokens and forget those before number `first`; False if there are no more."""
        spans = next((np.asarray(found, dtype=np.int64) for found in self._windows if len(found)), None)
        if spans is None:
            return False
        self._forget(first)
        base = self._forgotten + len(self._starts)
        starts = _behind_blanks(self._text, spans)
        ends = np.maximum(np.maximum.accumulate(spans[:, 1]), self._end)
        before = np.concatenate([[self._end], ends[:-1]])
        tokens = np.flatnonzero(starts >= before)
        words = np.flatnonzero(starts > before)
        last = self._starts[-1] if self._starts else -1
        sentences = self._first_tokens(END, last, starts, tokens)
        paragraphs = self._first_tokens(PARAGRAPH_END, last, starts, tokens)
        phrases = self._first_tokens(PHRASE_END, last, starts, tokens)
        lines = np.empty(0, np.int64)
        if len(self._blocks):
            lines = self._first_tokens(_LINE_END, last, starts, tokens)
            edges = self._blocks[(self._blocks > last) & (self._blocks <= starts[-1])]
            edges = _of_both(np.searchsorted(starts, edges), tokens)
            sentences = _of_either(self._outside(sentences, starts), edges)
            paragraphs = _of_either(self._outside(paragraphs, starts), edges)
            phrases = self._outside(phrases, starts)
        self._paragraphs += (paragraphs + base).tolist()
        sentences = _of_either(sentences, paragraphs)
        for level, cuts in zip(self._levels, (sentences, phrases, lines, words, tokens), strict=True):
            level += (cuts + base).tolist()
        self._starts += starts.tolist()
        self._end = int(ends[-1])
        return True

    def cut(self, first: int, limit: int) -> int | None:
        """The token that the passage after the one from `first` begins with; None if no token read so far does."""
        high = first + limit
        if high >= self._forgotten + len(self._starts):
            return None
        # Paragraphs, sentences and phrases that leave it half full or more; then any.
        for cuts in (self._paragraphs, *self._levels[:2]):
            if found := _last(cuts, first + limit // 2, high):
                return found
        for cuts in self._levels:
            if found := _last(cuts, first, high):
                return found
        # More tokens than fit stand for parts of one character.
        position = bisect_right(self._levels[-1], high)
        return self._levels[-1][position] if position < len(self._levels[-1]) else None

    def _first_tokens(self, pattern: re.Pattern[str], last: int, starts: Int64, tokens: Int64) -> Int64:
        """The tokens, of those that start at `starts`, before which a match ends, as far as a cut may fall there.

        last: where the token before them starts.
        """
        matches = pattern.finditer(self._text, max(0, last - LONGEST), int(starts[-1]) + _AFTER)
        ends = np.fromiter((match.end() for match in matches), dtype=np.int64)
        return _of_both(np.searchsorted(starts, ends[ends > last]), tokens)

    def _outside(self, cuts: Int64, starts: Int64) -> Int64:
        """Those cuts that are not within a block."""
        block = np.searchsorted(self._blocks[:, 0], starts[cuts]) - 1
        kept: Int64 = cuts[(block < 0) | (starts[cuts] >= self._blocks[block, 1])]
        return kept

    def _forget(self, first: int) -> None:
        del self._starts[: first - self._forgotten]
        self._forgotten = first
        for cuts in (self._paragraphs, *self._levels):
            del cuts[: bisect_left(cuts, first)]


def _of_both(numbers: Int64, others: Int64) -> Int64:
    """Those that are among others too, which are distinct: ascending, each once."""
    found: Int64 = np.intersect1d(distinct(numbers), others, assume_unique=True)
    return found


def _of_either(one: Int64, other: Int64) -> Int64:
    """The numbers of both, ascending, each once."""
    return distinct(np.concatenate([one, other]))


def _behind_blanks(text: str, spans: Int64) -> Int64:
    """Where tokens start, int64 [n], the blanks that they begin with left out, as those of Unigram and BPE do."""
    first, last = int(spans[:, 0].min()), int(spans[:, 1].max())
    points = np.frombuffer(text[first:last].encode("utf-32-le", "surrogatepass"), dtype="<u4")
    blank = _ARE_BLANK[np.minimum(points, _LAST)]
    inked = np.append(np.where(blank, len(points), np.arange(len(points))), len(points))
    following = np.minimum.accumulate(inked[::-1])[::-1]
    starts: Int64 = np.minimum(following[spans[:, 0] - first] + first, spans[:, 1])
    return starts


def _last(cuts: list[int], low: int, high: int) -> int | None:
    """Return the largest of the sorted `cuts` in (low, high]."""
    position = bisect_right(cuts, high)
    return cuts[position - 1] if position and cuts[position - 1] > low else None
