"""The mix of texts that a student learns from: a third short, a third passages, a third windows.

The shares count tokens, estimated from words. Short texts are what queries look like: terms, questions,
sentences, spans of prose, and spans dressed as code, because plain text holds too little of that.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from export.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Passages = Mapping[str, Sequence[str]]

TOKENS_PER_WORD: Final = 1.3
# In tokens: a short text, a passage, a window.
_SHORT: Final = (4, 20)
_PASSAGE: Final = (32, 96)
_WINDOW: Final = (128, 254)
# Of the short texts' tokens: lines as they stand, spans of prose, spans as code.
_LINES, _SPANS = 0.6, 0.3
_HEADWORDS: Final = "open_english_wordnet_headwords"
_JOINTS: Final = ("_", ".", "(", "()", " = ", "-", "/", ", ", ": ", " ", "_", " | ", " --")


def texts(passages: Passages, tokens: int, seed: int) -> list[str]:
    """Draw texts of about `tokens` tokens in all; the same `seed` draws the same texts."""
    rng = np.random.default_rng(seed)
    third = tokens / 3
    prose = [list(lines) for name, lines in passages.items() if not _loose(name) and lines]
    short = _short_lines(passages)
    drawn = _until(third * _LINES if prose else third, (short[n] for n in _rows(rng, len(short))))
    if prose:
        drawn += _until(third * _SPANS, _spans(prose, rng, _SHORT))
        drawn += _until(third * (1 - _LINES - _SPANS), (_as_code(t, rng) for t in _spans(prose, rng, _SHORT)))
        drawn += _until(third, _spans(prose, rng, _PASSAGE))
        drawn += _until(third, _spans(prose, rng, _WINDOW))
    return [drawn[n] for n in rng.permutation(len(drawn))]


def _loose(name: str) -> bool:
    return name in SOURCES and SOURCES[name].loose


def _short_lines(passages: Passages) -> list[str]:
    """Lines that are short as they stand, and the terms of the dictionary without their definitions."""
    most = _SHORT[1] / TOKENS_PER_WORD
    found = [line for lines in passages.values() for line in lines if line.count(" ") < most]
    terms = [line.partition(":")[0] for line in passages.get(_HEADWORDS, ())]
    return found + [term for term in terms if term.count(" ") < most]


def _rows(rng: np.random.Generator, count: int) -> Iterator[int]:
    """Rows without an end, each once before any comes again."""
    while count:
        yield from rng.permutation(count).tolist()


def _until(tokens: float, drawn: Iterator[str]) -> list[str]:
    found = []
    while tokens > 0 and (text := next(drawn, None)) is not None:
        tokens -= (text.count(" ") + 1) * TOKENS_PER_WORD
        found.append(text)
    return found


def _spans(
    prose: Sequence[Sequence[str]], rng: np.random.Generator, tokens: tuple[int, int]
) -> Iterator[str]:
    """Spans of consecutive words, across lines; every other one begins where a line does."""
    sizes = np.array([sum(map(len, lines)) for lines in prose], dtype=float)
    while True:
        lines = prose[rng.choice(len(prose), p=sizes / sizes.sum())]
        count = round(rng.integers(tokens[0], tokens[1], endpoint=True) / TOKENS_PER_WORD)
        start = int(rng.integers(len(lines)))
        words = lines[start].split()
        if rng.random() < 0.5:
            words = words[int(rng.integers(len(words))) :]
        for line in islice(lines, start + 1, None):
            if len(words) >= count:
                break
            words += line.split()
        yield " ".join(words[: max(count, 1)])


def _as_code(span: str, rng: np.random.Generator) -> str:
    words = span.split()
    return "".join(word + _JOINTS[rng.integers(len(_JOINTS))] for word in words)
