"""Phrases: what a query has between double quotes, and whether a text says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from edgeret import words

MOST: Final = 8
"""Phrases of a query that count; what else is quoted is taken for words."""

_QUOTED: Final = re.compile(r'"([^"“”]+)"|“([^"“”]+)”')

Phrase = tuple[tuple[str, bool], ...]
"""Words that follow each other, as they are written, and whether each stands for all that begin with it."""


def of(query: str) -> list[Phrase]:
    """The phrases of a query. A quote that none closes is none, and so are quotes around what has no word."""
    quoted = (match[1] or match[2] for match in _QUOTED.finditer(query))
    return [phrase for phrase in map(_phrase, quoted) if phrase][:MOST]


def _phrase(text: str) -> Phrase:
    terms, asked = words.terms(text, None), words.asked(text, None)
    if asked and asked[-1][0] != terms[-1]:
        # The last character of a script without spaces, which the text may go on from.
        del terms[-1]
    return tuple((term, False) for term in terms[:-1]) + tuple(asked[-1:])


def said(phrases: Sequence[Phrase], text: str) -> bool:
    """Whether a text has all phrases, word by word, as they are written: not stemmed, but folded as all words are."""
    terms = words.terms(text, None)
    return all(_is_in(phrase, terms) for phrase in phrases)


def _is_in(phrase: Phrase, terms: list[str]) -> bool:
    (first, is_prefix), others = phrase[0], phrase[1:]
    for start in range(len(terms) - len(others)):
        if _fits(terms[start], first, is_prefix) and all(
            _fits(term, wanted, begins)
            for term, (wanted, begins) in zip(terms[start + 1 :], others, strict=False)
        ):
            return True
    return False


def _fits(term: str, wanted: str, begins: bool) -> bool:
    return term.startswith(wanted) if begins else term == wanted
