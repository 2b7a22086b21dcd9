# ruff: noqa: RUF001 - the letters are meant
"""The table of edgeret.words: what each code point of one Unicode version folds to, and what it is to a word.

`python -m export.unicode edgeret/words.bin`, with a Python that has UNICODE_VERSION, writes the same bytes everywhere.
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Final

import numpy as np

from edgeret.words import BLOCK, MAGIC, RECORD, Kind

UNICODE_VERSION: Final = "15.1.0"
CODE_POINTS: Final = 0x110000

_STROKES: Final = {"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe"}
"""Letters whose diacritic is a stroke or a join, which Unicode does not decompose."""

_HYPHENS: Final = {"\u2010": "-", "\u2212": "-"}

_DIACRITICS: Final = ("COMBINING", "ARABIC", "HEBREW", "SYRIAC")
"""Marks whose names begin so are dropped, but for the voicing of kana; marks of other scripts stay."""

_IGNORED: Final = {
    0x0640,
    *range(0x1F3FB, 0x1F400),
    *range(0xFE00, 0xFE10),
    0x034F,
    0x115F,
    0x1160,
    0x3164,
    0xFFA0,
}
"""Dropped beside what is of category Cf: tatweel, skin tones, variation selectors, fillers."""

_GROUPS: Final = (
    (Kind.HAN_KANA, (0x3005, 0x3008), (0x3041, 0x3097), (0x309D, 0x30A0), (0x30A1, 0x30FB), (0x30FC, 0x3100)),
    (
        Kind.HAN_KANA,
        (0x31F0, 0x3200),
        (0x3400, 0x4DC0),
        (0x4E00, 0xA000),
        (0xF900, 0xFB00),
        (0x20000, 0x323B0),
    ),
    (Kind.HANGUL, (0x1100, 0x1200), (0xA960, 0xA980), (0xAC00, 0xD7A4), (0xD7B0, 0xD800)),
    (Kind.THAI, (0x0E01, 0x0E31), (0x0E32, 0x0E34), (0x0E40, 0x0E47)),
    (Kind.LAO, (0x0E81, 0x0EB1), (0x0EB2, 0x0EB4), (0x0EBD, 0x0EC7), (0x0EDC, 0x0EE0)),
    (
        Kind.KHMER,
        (0x1780, 0x17B4),
    ),
)
"""Scripts that put no spaces between words: first and last + 1 of their letters."""

_EMOJI: Final = ((0x231A, 0x231C), (0x23E9, 0x23FB), (0x2600, 0x27C0), (0x2B05, 0x2B08), (0x2B1B, 0x2B1D),
                 (0x2B50, 0x2B51), (0x2B55, 0x2B56), (0x1F000, 0x1FB00))  # fmt: skip
"""Symbols that are words, where they are of category So."""

_JOINERS: Final = {".", "-", "_", "@", "/", "\\", ":", "&"}


def kind(code: int) -> Kind:
    """What a folded code point is to a word."""
    character = chr(code)
    category = unicodedata.category(character)
    for group, *spans in _GROUPS:
        if any(first <= code < end for first, end in spans) and category[0] in "LN":
            return group
    if code in _IGNORED or category == "Cf":
        return Kind.IGNORED
    if category[0] == "M":
        name = unicodedata.name(character)
        drops = name.startswith(_DIACRITICS) and "KATAKANA-HIRAGANA" not in name
        return Kind.IGNORED if drops else Kind.MARK
    if category[0] in "LN":
        return Kind.LETTER
    if 0x1F1E6 <= code <= 0x1F1FF:
        return Kind.REGION
    if category == "So" and any(first <= code < end for first, end in _EMOJI):
        return Kind.EMOJI
    special = {",": Kind.COMMA, "+": Kind.PLUS, "#": Kind.HASH}
    return Kind.JOINER if character in _JOINERS else special.get(character, Kind.SEPARATOR)


def folded(code: int) -> str:
    """What takes a code point's place: compatibility forms, case, diacritics and digits of other scripts are gone."""
    character = chr(code)
    if 0xAC00 <= code < 0xD7A4 or 0xD800 <= code < 0xE000:
        return character
    if unicodedata.category(character) == "Nd":
        return str(unicodedata.decimal(character))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    text = "".join((_STROKES | _HYPHENS).get(part, part) for part in text)
    return "".join(part for part in text if kind(ord(part)) is not Kind.IGNORED)


def table() -> bytes:
    """The table as bytes; docs/words.md has its layout."""
    pool: dict[str, int] = {}
    texts = [""]
    records: dict[tuple[int, int, int, int, int], int] = {}
    numbers = np.empty(CODE_POINTS, dtype="<u2")
    size = 0
    for code in range(CODE_POINTS):
        character, text = chr(code), folded(code)
        if text == character:
            offset, length = 0, 0
        else:
            if text not in pool:
                pool[text], size = size, size + len(text)
                texts.append(text)
            offset, length = pool[text], len(text)
        is_upper = unicodedata.category(character) in ("Lu", "Lt")
        dropped = not text
        found = (
            offset if length else 0,
            length,
            Kind.IGNORED if dropped else kind(code),
            unicodedata.combining(character),
            int(is_upper),
        )
        numbers[code] = records.setdefault(found, len(records))
    blocks, places = np.unique(numbers.reshape(-1, BLOCK), axis=0, return_inverse=True)
    body = np.array([(*record, 0, 0) for record in records], dtype=RECORD)
    head = np.array([len(blocks), len(records), size, 0], dtype="<u4")
    parts = (places.astype("<u2").reshape(-1), blocks.astype("<u2"), body)
    octets = b"".join(part.tobytes() for part in parts)
    return MAGIC + head.tobytes() + octets + "".join(texts).encode("utf-32-le")


if __name__ == "__main__":
    if unicodedata.unidata_version != UNICODE_VERSION:
        raise SystemExit(
            f"expected a Python with Unicode {UNICODE_VERSION}, found {unicodedata.unidata_version}"
        )
    Path(sys.argv[1]).write_bytes(table())
