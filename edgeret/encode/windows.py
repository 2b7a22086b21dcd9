"""Windows: a text's tokens, a part of the text at a time, as if it had been tokenized whole.

A tokenizer takes hundreds of bytes for each byte of a text: windows bound what that comes to.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from edgeret.encode.tokenizer import Tokenizer

CHARACTERS: Final = 4096
"""Of a window."""

_OVERLAP: Final = 256
"""What a window sees again of the one before: more than any token that is matched as it stands, such as [SEP], and
more than a word may have that is not one unknown token."""


class Window(NamedTuple):
    """Some tokens of a text, in order: their ids, and where they stand, in characters of the whole text."""

    ids: list[int]
    spans: list[tuple[int, int]]


def windows(tokenizer: Tokenizer, text: str) -> Iterator[Window]:
    """The tokens of `text`, window by window, no special ones among them.

    A window ends where a word does, and the next one begins there. A word that is longer than a window and one token,
    an unknown one, is one token still; one of many tokens may have others where it is cut.
    """
    start = 0
    opened: tuple[int, int] | None = None
    while True:
        found, cuttable = tokenizer.part(text[start : start + CHARACTERS], begins=not start)
        ids, words = found.ids, cuttable.words
        spans = [(low + start, high + start) for low, high in found.spans]
        # Where they may be cut, which is where they stand for all but byte pairs.
        places = spans if cuttable is found else [(low + start, high + start) for low, high in cuttable.spans]
        firsts = [0] if ids else []
        firsts += [number for number, (one, next) in enumerate(pairwise(words), start=1) if one != next]
        if opened is not None:
            # The first word is the rest of the one that the window before could not hold.
            count = firsts[1] if len(firsts) > 1 else len(ids)
            ids[:count], spans[:count] = [opened[0]], [(opened[1], spans[count - 1][1])]
            places = spans
            firsts = [0, *(number - count + 1 for number in firsts[1:])]
            opened = None
        stop = start + CHARACTERS
        if stop >= len(text):
            yield Window(ids, spans)
            return
        # Where two words stand for parts of one character, the text cannot be cut between them.
        cuts = [number for number in firsts[1:] if places[number][0] >= places[number - 1][1]]
        if firsts and places[0][0] > start:
            cuts.insert(0, 0)
        late = [number for number in cuts if places[number][0] > stop - _OVERLAP]
        if late or cuts:
            # All words before it are whole, and any token that is matched as it stands is seen again.
            kept = late[0] if late else cuts[-1]
            following = places[kept][0]
        elif ids and places[-1][1] > stop - _OVERLAP:
            if len(ids) == 1:
                opened = (ids[0], places[0][0])
                kept, following = 0, places[0][1] - _OVERLAP
            else:
                kept = len(ids) - 1
                following = places[kept][0]
        else:
            kept, following = len(ids), stop
        if kept:
            yield Window(ids[:kept], spans[:kept])
        # A tokenizer that gives a window the span of one character would never end.
        start = following if following > start else stop
