"""Capitals: a text that is written in them is read in small letters, which models know far better."""

from __future__ import annotations

from typing import Final

_LEAST: Final = 8
"""Letters: fewer may be abbreviations, such as IBM or UNESCO."""


def lowered(text: str) -> str:
    """The text, in small letters if half of its letters are capitals or more, eight at least, and none is small.

    Its characters stay where they are: one that would become two stays as it is. The same object if nothing changes.
    """
    # False as soon as there is a small letter: in the first word of most texts.
    if not (text.isupper() or (_has_ordinals(text) and text.replace("º", "").replace("ª", "").isupper())):
        return text
    letters = sum(map(str.isalpha, text))
    capitals = sum(map(str.isupper, text))
    if capitals < max(_LEAST, letters / 2):
        return text
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _has_ordinals(text: str) -> bool:
    """Whether it has the signs behind numbers of some languages, which Unicode counts among small letters."""
    return "º" in text or "ª" in text
