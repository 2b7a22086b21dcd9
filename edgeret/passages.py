"""A long text -> passages that an encoder can take whole, with their offsets."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Repeats are bounded or possessive: each pattern takes linear time on any text.
_PARAGRAPH_END: Final = re.compile(r"\n[^\S\n]*+\n")
_SENTENCE_END: Final = re.compile(
    r"""[.!?\u2026]["'\u2019\u201d\xbb)\]]{0,3}(?=\s++[^a-z])"""
    r"""|[\u3002\uff01\uff1f]["'\u2019\u201d\u300d\u300f\uff09]{0,3}"""
)


def split(text: str, token_spans: Sequence[tuple[int, int]], limit: int) -> list[tuple[int, int]]:
    """Cut `text` into passages of at most `limit` tokens; return their (start, end) as string indices.

    `token_spans` are the (start, end) of the text's tokens, in order. Sentences are packed whole; a
    paragraph's end is preferred once a passage is half full. A sentence longer than `limit` is cut at
    its last word that fits, a longer word between tokens; only tokens of one same character stay
    together whatever the limit. Passages keep the order of the text and leave out nothing but
    whitespace around them; a text of whitespace has none. Takes linear time.
    """
    spans = np.asarray(token_spans, dtype=np.int64).reshape(-1, 2)
    starts, ends = spans[:, 0], np.maximum.accumulate(spans[:, 1])
    tokens = np.flatnonzero(starts[1:] >= ends[:-1]) + 1
    words = np.flatnonzero(starts[1:] > ends[:-1]) + 1
    sentences = _first_tokens(_SENTENCE_END, text, starts, tokens)
    paragraphs = _first_tokens(_PARAGRAPH_END, text, starts, tokens)
    levels = [sorted({*sentences, *paragraphs}), words.tolist(), tokens.tolist()]

    passages = []
    first, begin = 0, 0
    while begin < len(text):
        following = len(starts)
        if first + limit < following:
            half_full = _last(paragraphs, first + limit // 2, first + limit)
            following = half_full or _cut(levels, first, first + limit) or following
        end = int(starts[following]) if following < len(starts) else len(text)
        passages.append(_strip(text, begin, end))
        first, begin = following, end
    return [(start, end) for start, end in passages if start < end]


def _cut(levels: list[list[int]], low: int, high: int) -> int | None:
    """Return the last cut in (low, high] of the best level that has one, else the first cut past it."""
    for cuts in levels:
        if cut := _last(cuts, low, high):
            return cut
    position = bisect_right(levels[-1], high)
    return levels[-1][position] if position < len(levels[-1]) else None


def _first_tokens(
    pattern: re.Pattern[str], text: str, starts: NDArray[np.int64], tokens: NDArray[np.int64]
) -> list[int]:
    """Return the tokens before which a match of `pattern` ends, as far as a cut may fall there."""
    positions = np.fromiter((match.end() for match in pattern.finditer(text)), dtype=np.int64)
    cuts: list[int] = np.intersect1d(np.searchsorted(starts, positions), tokens).tolist()
    return cuts


def _last(cuts: list[int], low: int, high: int) -> int | None:
    """Return the largest of the sorted `cuts` in (low, high]."""
    position = bisect_right(cuts, high)
    return cuts[position - 1] if position and cuts[position - 1] > low else None


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return end - len(piece.lstrip()), start + len(piece.rstrip())
