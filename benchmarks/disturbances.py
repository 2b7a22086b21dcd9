"""Disturbances: what people do to the words of a query."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from typing import Final

Change = Callable[[str], str]

_WORD: Final = re.compile(r"[^\W\d_]{5,}")
_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBORS: Final = {
    key: row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    for row in (*_KEYS, *map(str.upper, _KEYS))
    for at, key in enumerate(row)
}


def changes(probability: float, seed: int) -> dict[str, Change]:
    """Each disturbance by its name; the first one leaves a text alone."""
    return {
        "clean": str,
        "typos": partial(typos, probability=probability, seed=seed),
        "upper": str.upper,
        "lower": str.lower,
        "title": str.title,
    }


def typos(text: str, probability: float, seed: int = 0) -> str:
    """Edit each word of five letters or more once, with this probability; the rest of the text stays.

    A word is a run of letters. Kind and place of an edit are drawn evenly; the draw depends on text and seed alone.
    """
    draw = random.Random(f"{seed} {text}")

    def edit(word: re.Match[str]) -> str:
        if draw.random() >= probability:
            return word[0]
        return draw.choice(draw.choice([made for made in edits(word[0]).values() if made]))

    return _WORD.sub(edit, text)


def edits(word: str) -> dict[str, list[str]]:
    """What one edit of each kind can make of a word, once for each place; never the word itself.

    swap: two letters change places. drop: one is missing. double: one comes twice. key: one is that beside it on an
    English keyboard, in the same row.
    """
    cuts = [(word[:at], word[at], word[at + 1 :]) for at in range(len(word))]
    return {
        "swap": [
            before + after[0] + letter + after[1:]
            for before, letter, after in cuts
            if after and after[0] != letter
        ],
        "drop": [before + after for before, _, after in cuts],
        "double": [before + 2 * letter + after for before, letter, after in cuts],
        "key": [
            before + near + after for before, letter, after in cuts for near in _NEIGHBORS.get(letter, "")
        ],
    }
