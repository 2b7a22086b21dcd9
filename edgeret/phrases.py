"""Phrases: what a query has between double quotes, and whether a text says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from edgeret import words
from edgeret.words import Wanted, Word

MOST: Final = 8
"""Phrases of a query that count; what else is quoted is taken for words."""

_QUOTED: Final = re.compile(r'"([^"“”]+)"|“([^"“”]+)”')

READ: Final = 1000
"""Passages that are read for the phrases of a query at most: those whose words match best."""


class Phrase(NamedTuple):
    """Words that follow each other, and the text that they are of.

    words: each as it is written, and whether it stands for all that begin with it.
    """

    text: str
    words: tuple[Wanted, ...]


def of(query: str) -> list[Phrase]:
    """The phrases of a query. A quote that none closes is none, and so are quotes around what has no word."""
    quoted = (match[1] or match[2] for match in _QUOTED.finditer(query))
    return list(islice((phrase for phrase in map(_phrase, quoted) if phrase.words), MOST))


def _phrase(text: str) -> Phrase:
    terms, asked = words.terms(text, None), words.asked(text, None, most=len(text))
    if asked and asked[-1][0] != terms[-1]:
        # The last character of a script without spaces, which the text may go on from.
        del terms[-1]
    return Phrase(text, (*map(Wanted, terms[:-1]), *asked[-1:]))


def said(phrases: Sequence[Phrase], text: str) -> bool:
    """Whether a text has all phrases, word by word, as they are written: not stemmed, but folded as all words are."""
    found = words.split(text, None)
    return all(_is_in(phrase.words, found) for phrase in phrases)


def _is_in(phrase: tuple[Wanted, ...], found: Sequence[Word]) -> bool:
    ends = {number for number, word in enumerate(found) if _fits(word.term, phrase[0])}
    for wanted in phrase[1:]:
        behind = {number for end in ends for number in _behind(found, end) if number < len(found)}
        ends = {number for number in behind if _fits(found[number].term, wanted)}
    return bool(ends)


def _behind(found: Sequence[Word], number: int) -> set[int]:
    """Which words come next: the one after it, or, behind a compound, the first that begins at its end.

    The parts of a compound stand between: `iPhone case` has the words iphone, i, phone and case.
    """
    after = number + 1
    while after < len(found) and found[after].start < found[number].stop:
        after += 1
    return {number + 1, after}


def _fits(term: str, wanted: Wanted) -> bool:
    return term.startswith(wanted.term) if wanted.is_prefix else term == wanted.term
