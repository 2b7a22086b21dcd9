"""Markup: HTML -> text with the signs of Markdown, and the front matter of Markdown -> metadata."""

from __future__ import annotations

import codecs
import re
import tomllib
from datetime import date, time
from html.parser import HTMLParser
from typing import Any, Final

from edgeret.sources import encodings

_CHARSET: Final = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE
)
_DECLARED: Final = 1024
"""Octets that may say in which encoding a page is, as HTML has it."""
_READ_AS: Final = {
    **dict.fromkeys(("ascii", "iso8859-1"), "cp1252"),
    "iso8859-9": "cp1254",
    **dict.fromkeys(("iso8859-11", "tis-620"), "cp874"),
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "big5": "big5hkscs",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    # What says so in letters of one octet is in neither.
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"), "utf-8"),
}
"""What browsers take an encoding for that a page names, by Python's names (encoding.spec.whatwg.org)."""

_SILENT: Final = frozenset(("script", "style", "template", "svg", "head"))
_OF_HEAD: Final = frozenset(("title", "meta", "link", "base", "style", "script", "template", "noscript"))
"""What a head may have: anything else is of the body, whether or not it was said that the head ends."""
_BLOCKS: Final = """
address article aside blockquote body caption dd details div dl dt fieldset figcaption figure footer form header hr main
nav ol option p section summary table tbody tfoot thead ul
"""
_APART: Final = frozenset(_BLOCKS.split())
"""What stands in lines of its own."""
_BEGINS: Final = {
    **dict.fromkeys(_APART, "\n\n"),
    **{f"h{level}": f"\n\n{'#' * level} " for level in range(1, 7)},
    "pre": "\n\n```\n",
    "li": "\n- ",
    "tr": "\n| ",
    "br": "\n",
}
_CELLS: Final = frozenset(("td", "th"))

_YAML: Final = re.compile(r"---[ \t]*\r?\n((?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_TOML: Final = re.compile(r"\+\+\+[ \t]*\r?\n((?:.*\n)*?)\+\+\+[ \t]*(?:\r?\n|\Z)")
_PAIR: Final = re.compile(r"([A-Za-z_][\w .-]*?)[ \t]*:(?:[ \t]+(.*))?$")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d{0,14})(\.\d{1,15})?")
_LONGEST: Final = 1 << 16
"""Of front matter, in characters."""


def of_html(place: str, octets: bytes) -> tuple[str, dict[str, Any]]:
    """The text of a page, its title as metadata. place: what an error would name."""
    text, metadata = _decoded(place, octets)
    return plain(text, metadata)


def plain(page: str, metadata: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The same, of a page that is decoded."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    title = " ".join("".join(reader.title).split())
    return reader.text(), metadata | ({"title": title} if title else {})


def _decoded(place: str, octets: bytes) -> tuple[str, dict[str, Any]]:
    declared = _CHARSET.search(octets[:_DECLARED])
    if declared and not octets.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = declared[1].decode().lower()
        try:
            known = codecs.lookup(encoding).name
            used = _READ_AS.get(known, known)
            text = octets.decode(used)
        except (LookupError, UnicodeError):
            # It says what it is not.
            pass
        else:
            return text, {} if used == "utf-8" else {"encoding": encoding}
    text, encoding = encodings.decode(place, octets)
    return text, {} if encoding == "utf-8" else {"encoding": encoding}


class _Reader(HTMLParser):
    """Collects what a page shows."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self._parts: list[str] = []
        self._silent: list[str] = []
        self._in_title = self._in_pre = self._in_cell = False

    def text(self) -> str:
        """All of it: blanks between words are one, between paragraphs there is a line."""
        joined = "".join(self._parts)
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", joined)).strip() + "\n"

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Pass over what stands between `<![` and `>`, where older releases of Python know no such thing."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent == ["head"] and tag not in _OF_HEAD:
            self._silent.clear()
        if self._in_cell and (tag in _CELLS or tag == "tr"):
            self._end_cell()
        if tag == "title" and not self.title:
            self._in_title = True
        elif tag == "body":
            # Whatever was not closed before it.
            self._silent.clear()
        elif tag in _SILENT:
            self._silent.append(tag)
        else:
            self._in_pre |= tag == "pre"
            self._in_cell |= tag in _CELLS
            self._put(_BEGINS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if self._in_cell and tag in ("tr", "table"):
            self._end_cell()
        if tag == "title":
            self._in_title = False
        elif tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif tag == "pre":
            self._in_pre = False
            self._put("\n```\n\n")
        elif tag in _CELLS:
            self._end_cell()
        elif tag in _APART or re.fullmatch("h[1-6]", tag):
            self._put("\n\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif self._in_pre:
            self._put(data)
        else:
            words = " ".join(data.split())
            before, after = data[:1].isspace(), data[-1:].isspace()
            if not words:
                self._blank()
                return
            if before:
                self._blank()
            self._put(words + (" " if after else ""))

    def _end_cell(self) -> None:
        self._in_cell = False
        self._put(" | ")

    def _blank(self) -> None:
        if self._parts and not self._parts[-1].endswith((" ", "\n")):
            self._put(" ")

    def _put(self, text: str) -> None:
        if text and not self._silent:
            self._parts.append(text)


# -- front matter


def front(text: str) -> tuple[str, dict[str, Any]]:
    """The text without its front matter, and that as metadata; what cannot be read of it stays in the text.

    Of YAML keys with scalars, texts of several lines and lists are read; what is nested deeper stays text.
    """
    found = _YAML.match(text[:_LONGEST])
    told = _yaml(found[1]) if found else None
    if found is None and (found := _TOML.match(text[:_LONGEST])):
        told = _toml(found[1])
    if found is None or told is None:
        return text, {}
    return text[found.end() :], told


def _toml(text: str) -> dict[str, Any] | None:
    try:
        return {key: _kept(value) for key, value in tomllib.loads(text).items()}
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _kept(value: Any) -> Any:
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _kept(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner) for inner in value]
    return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)


def _yaml(text: str) -> dict[str, Any] | None:
    """Keys and values; None if this is something else."""
    found: dict[str, list[str]] = {}
    inner: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pair = _PAIR.match(line)
        if pair:
            inner = found[pair[1]] = [(pair[2] or "").strip()]
        elif found and line[:1] in " \t-":
            inner.append(line.strip())
        else:
            return None
    return {key: _value(first, rest) for key, (first, *rest) in found.items()}


def _value(first: str, rest: list[str]) -> Any:
    if rest and not first and all(line.startswith("-") for line in rest):
        return [scalar(line[1:]) for line in rest]
    if rest:
        return "\n".join(rest if first in ("", "|", ">", "|-", ">-") else [first, *rest])
    if first.startswith("[") and first.endswith("]"):
        return [scalar(part) for part in first[1:-1].split(",") if part.strip()]
    return scalar(first)


def scalar(written: str) -> Any:
    """A number, a truth value, None or a text, as it is written."""
    text = written.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if found := _NUMBER.fullmatch(text):
        return float(text) if found[1] else int(text)
    return {"true": True, "false": False, "null": None, "~": None, "": None}.get(text.lower(), text)
