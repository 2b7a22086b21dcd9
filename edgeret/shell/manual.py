"""Manual: the manual pages of this machine in a language, as texts that a person reads."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgeret.documents import Document

FOLDER: Final = Path("/usr/share/man")

_LARGEST: Final = 1_000_000
"""Bytes of a page that are read."""
_MAX_CHARACTERS: Final = 800
_SHORTEST: Final = 40
"""Characters of a paragraph that says something."""
_FONTS: Final = (
    "B",
    "I",
    "SM",
    "SB",
    "BR",
    "RB",
    "BI",
    "IB",
    "IR",
    "RI",
    "Nm",
    "Nd",
    "Xr",
    "Ar",
    "Pa",
    "Em",
    "Sy",
)
_SIGNS: Final = {
    "Aq": "'", "aq": "'", "dq": '"', "oq": "\u2018", "cq": "\u2019", "lq": "\u201c", "rq": "\u201d", "Bq": "\u201e",
    "Fo": "\xab", "Fc": "\xbb", "em": "\u2014", "en": "\u2013", "hy": "-", "bu": "•", "ti": "~", "rs": "\\", "ss": "ß",
    "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "/o": "ø", "/O": "Ø",
}  # fmt: skip
_ACCENTS: Final = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303", ":": "\u0308", ",": "\u0327", "o": "\u030a",
    "v": "\u030c",
}  # fmt: skip
_ESCAPE: Final = re.compile(
    r"""\\(?:["#].*|[fFmM](?:\[[^]]*\]|\(..|.)|s[-+]?\d\d?|[hvwlLZ]'[^']*'"""
    r"|\*?\[(?P<long>[^]]*)\]|\*?\((?P<short>..)|\*.|(?P<one>.))"
)


def pages(language: str, folder: Path = FOLDER) -> list[Document]:
    """The translated pages of a language, one document each: its name and what it says first, sorted by name.

    The id is that of the page, as "passwd(1)". What cannot be read, is not UTF-8 or says nothing is left out.
    """
    found: dict[str, Document] = {}
    said = set()
    folders = [folder / language, *sorted(folder.glob(f"{language}[_.@]*"))]
    for path in (path for one in folders for path in sorted(one.glob("man*/*.gz"))):
        name, _, section = path.name.removesuffix(".gz").rpartition(".")
        text = _text(path)
        if name.isprintable() and text and text not in said:
            said.add(text)
            found.setdefault(f"{name}({section})", Document(id=f"{name}({section})", text=text))
    return [found[id] for id in sorted(found)]


def _text(path: Path) -> str:
    try:
        with gzip.open(path) as stream:
            source = stream.read(_LARGEST).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        return ""
    text, *paragraphs = [*_paragraphs(source), ""]
    named = len(text)
    for paragraph in paragraphs:
        # A synopsis is no sentence.
        if len(paragraph) < _SHORTEST or not paragraph.endswith((".", "\u3002")) or paragraph.endswith("..."):
            continue
        if len(text) + len(paragraph) > _MAX_CHARACTERS and len(text) > named:
            break
        text += f"\n\n{paragraph[:_MAX_CHARACTERS]}"
    return "" if len(text) == named else text.replace("\0", "")


def _paragraphs(source: str) -> Iterator[str]:
    """What stands between requests that end a paragraph, behind the first heading."""
    words: list[str] = []
    begun, left_out = False, ""
    for line in source.splitlines():
        request, _, rest = line[1:].strip().partition(" ") if line[:1] in (".", "'") else ("", "", line)
        if left_out:
            left_out = "" if request in left_out.split(",") else left_out
        elif request in ("de", "ig", "nf", "EX", "TS"):
            left_out = {"nf": "fi", "EX": "EE", "TS": "TE"}.get(request, ".")
        elif (
            request in ("SH", "Sh", "SS", "Ss", "PP", "P", "LP", "Pp", "TP", "IP", "HP", "sp")
            or not line.strip()
        ):
            if begun and words:
                yield " ".join(" ".join(words).split())
            words = []
            begun = begun or request in ("SH", "Sh")
        elif request in _FONTS:
            parts = re.findall(r'"[^"]*"|\S+', rest)
            blank = "" if len(request) == 2 and request.isupper() and request not in ("SM", "SB") else " "
            words.append(
                _plain(("- " if request == "Nd" else "") + blank.join(part.strip('"') for part in parts))
            )
        elif not request and not line.startswith((".", "'")):
            words.append(_plain(line))
    if begun and words:
        yield " ".join(" ".join(words).split())


def _plain(line: str) -> str:
    """A line without escapes of roff."""
    return _ESCAPE.sub(_sign, line)


def _sign(escape: re.Match[str]) -> str:
    if one := escape["one"]:
        return {"-": "-", "e": "\\", " ": " ", "~": " ", "0": " ", "'": "'", "`": "`"}.get(one, "")
    name = escape["short"] or escape["long"] or ""
    if name in _SIGNS:
        return _SIGNS[name]
    if code := re.fullmatch(r"u([0-9A-F]{4,5})", name):
        return chr(int(code[1], 16))
    if len(name) == 2 and name[0] in _ACCENTS:
        return unicodedata.normalize("NFC", name[1] + _ACCENTS[name[0]])
    return ""
