"""Where sentences end, in every script."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from edgeret.documents import Span


def _characters(ranges: str) -> str:
    """The characters of hexadecimal code points and of ranges of them."""
    found = (entry.split("-") for entry in ranges.split())
    return "".join(chr(code) for entry in found for code in range(int(entry[0], 16), int(entry[-1], 16) + 1))


_ANYWHERE: Final = _characters("""
    589 61D-61F 700-702 7F9 837 839 83D-83E 964-965 104B 1362 1367-1368 166E 1735-1736 1803 1809 1944-1945 1AA8-1AAB
    1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
    AA5D-AA5F AAF0-AAF1 ABEB FE56-FE57 FF01 FF1F FF61
    F0D-F11 17D4-17D5 FE12 FE15-FE16
""")
"""They end a sentence whatever follows.

What has the property Sentence_Terminal in Unicode 14.0 (PropList.txt) below U+10000, but for Burmese's comma, U+104A,
and what is in the two below. The last line does not have it: strokes of Tibetan and Khmer, Chinese's upright forms.
"""
_BEFORE_BLANKS: Final = "!.?\u2024\u2026\u203c\u203d\u2047-\u2049\u2e2e\u2e3c\u2e53\u2e54\u06d4"
"""They stand within numbers and abbreviations too, Urdu's full stop (the last one) like the Latin one."""
_WIDE_POINTS: Final = "\uff0e\ufe52"
_GREEK: Final = "\u0370-\u03ff\u1f00-\u1fff"
"""Greek asks with a semicolon."""
_LOWER: Final = "".join(chr(code) for code in (*range(0x250), *range(0x370, 0x530)) if chr(code).islower())
_CLOSERS: Final = (
    "\"'\u2018\u2019\u201c\u201d\xab\xbb\u2039\u203a)\\]\u300d\u300f\u3009\u300b\u3011\uff09\uff63"
)

# Repeats are bounded or possessive: each pattern takes linear time on any text.
PARAGRAPH_END: Final = re.compile(r"\n(?=[^\S\n]*+\n)")
END: Final = re.compile(
    # What all have in common comes first: most characters are passed over quickly.
    rf"[{_BEFORE_BLANKS};{_ANYWHERE}{_WIDE_POINTS}](?:"
    rf"(?:(?<=[{_BEFORE_BLANKS}])|(?<=[{_GREEK}];))[{_CLOSERS}]{{0,3}}(?=\s++[^{_LOWER}])"
    rf"|(?:(?<=[{_ANYWHERE}])|(?<=[{_WIDE_POINTS}])(?!\d))[{_CLOSERS}]{{0,3}}+(?!\s?[{_ANYWHERE}]))"
)
PHRASE_END: Final = re.compile(
    r"[\u0e01-\u0e45\u0e47-\u0e4e\u0e81-\u0ec5\u0ec8-\u0ece\u0edc-\u0edf]"
    r"(?=\s++[\u0e01-\u0e2e\u0e40-\u0e44\u0e81-\u0eae\u0ec0-\u0ec4\u0edc-\u0edf])"
)
"""A blank between letters of Thai or Lao, which mark no sentences; beside a sign of repetition it ends nothing."""
LONGEST: Final = 8
"""Characters that a match may begin before its end: more than any has."""


def sentences(text: str) -> list[Span]:
    """The sentences of a text, and what stands between empty lines, without the whitespace around them.

    Where Thai or Lao is written these are what stands between blanks.
    """
    ends = sorted({match.end() for end in (END, PARAGRAPH_END, PHRASE_END) for match in end.finditer(text)})
    found = [strip(text, start, end) for start, end in pairwise([0, *ends, len(text)])]
    return [(start, end) for start, end in found if start < end]


def strip(text: str, start: int, end: int) -> Span:
    """Where a piece of a text starts and ends without the whitespace around it."""
    piece = text[start:end]
    return end - len(piece.lstrip()), start + len(piece.rstrip())
