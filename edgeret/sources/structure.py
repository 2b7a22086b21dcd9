"""Structure: where a document's text is cut: at headings, definitions and pages, and never within what is one piece."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from edgeret.documents import MOST_CONTEXT, Document, Section, Span
from edgeret.sources import formats
from edgeret.sources.encodings import PAGE

_BETWEEN: Final = " > "
_HEADING: Final = 120
"""Characters of a heading that stand before its passages."""

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_TABLE: Final = re.compile(r"[ \t]*\|.*\|[ \t]*$")
_ADORNED: Final = re.compile(r"([=\-`:.'\"~^_*+#<>])\1{2,}[ \t]*$")
_RST_TABLE: Final = re.compile(r"[ \t]*(?:\+[-=+]{3,}\+|\|.*\||={2,}[ \t]+={2,}[= \t]*)[ \t]*$")
_DEFINITION: Final = re.compile(
    r"([ \t]{0,8})(?:export |default |pub(?:\([a-z]+\))? |public |private |protected |internal |static |abstract |"
    r"final |async |unsafe |virtual |override |inline |extern |const )*"
    r"(?:def|class|func|function|fn|struct|enum|trait|impl|interface|type|module|namespace|sub|"
    r"(?i:create (?:or replace )?(?:table|view|function|procedure|trigger|index)))[ \t]+(?:\([^)]*\)[ \t]*)?"
    # In a sentence words would follow.
    r"([\w$\"`\[][\w.$\"`\]]*(?:::\w+)*)(?=[ \t]*(?:$|[(:{<\[=;,]|(?:extends|implements|for|where|is|as|AS|ON|on)\b))"
)
_C_FUNCTION: Final = re.compile(
    r"()(?!(?:if|for|while|switch|return|else|elif|with|assert|raise|from|import|case|do|not|new|delete|throw|await)\b)"
    r"[A-Za-z_][\w \t*&:<>,]*?[ \t*&]([A-Za-z_~][\w:]*)[ \t]*\([^;]*$"
)
_BEFORE_DEFINITION: Final = re.compile(r"[ \t]*(?:@|#|//|/\*|\*|--|;;|\"\"\"|\[)")


class _Line(NamedTuple):
    start: int
    end: int
    text: str


class _Cut(NamedTuple):
    """A section begins here, `level` deep, with this heading."""

    start: int
    level: int
    heading: str


def sections(document: Document) -> list[Section]:
    """The parts of a document that no passage crosses, each with its file's name and the headings above it.

    A document that is a record of a file, or none of a file, is one part.
    """
    text, name = document.text, document.id or ""
    if not isinstance(document, formats.Whole):
        return [Section(0, len(text))]
    cuts, blocks = _FINDERS.get(formats.kind(name), _none)(text)
    return list(_named(document, name, cuts, blocks))


def _named(document: Document, name: str, cuts: list[_Cut], blocks: list[Span]) -> Iterator[Section]:
    above: list[_Cut] = []
    first = [re.sub(r"[_\W]+", " ", PurePosixPath(name).stem).strip()]
    title = document.metadata.get("title")
    if isinstance(title, str) and title.strip():
        first.append(title)
    remaining = iter(blocks)
    block = next(remaining, None)
    starts = [*cuts, _Cut(len(document.text), 0, "")]
    for cut, following in zip([_Cut(0, 0, ""), *cuts], starts, strict=True):
        if cut.heading:
            above = [one for one in above if one.level < cut.level] + [cut]
        inside = []
        while block is not None and block[0] < following.start:
            inside.append((max(block[0], cut.start), min(block[1], following.start)))
            if block[1] > following.start:
                break
            block = next(remaining, None)
        if document.text[cut.start : following.start].strip():
            yield Section(
                cut.start, following.start, _context([*first, *(one.heading for one in above)]), tuple(inside)
            )


def _context(headings: list[str]) -> str:
    """Headings from the outside in, each once; of too many the outer ones but the first are left out."""
    shown: list[str] = []
    for heading in (" ".join(one.split())[:_HEADING] for one in headings):
        if heading and heading.casefold() not in (one.casefold() for one in shown):
            shown.append(heading)
    while len(shown) > 2 and len(_BETWEEN.join(shown)) > MOST_CONTEXT:
        del shown[1]
    return _BETWEEN.join(shown)[:MOST_CONTEXT]


# -- what a text of a kind has


Found = tuple[list[_Cut], list[Span]]
"""Where sections begin, and what is one piece; both in order."""


def _lines(text: str) -> Iterator[_Line]:
    start = 0
    for line in text.splitlines(keepends=True):
        yield _Line(start, start + len(line), line.rstrip("\r\n"))
        start += len(line)


def _none(text: str) -> Found:
    return [], []


def _log(text: str) -> Found:
    return [], [(0, len(text))]


def _pages(text: str) -> Found:
    starts = [0, *(match.end() for match in re.finditer(PAGE, text))]
    return [_Cut(start, 1, f"page {number}") for number, start in enumerate(starts, start=1)], []


def _markdown(text: str) -> Found:
    cuts: list[_Cut] = []
    blocks: list[Span] = []
    fence, opened = "", 0
    table: Span | None = None
    before: _Line | None = None
    for line in _lines(text):
        mark = _FENCE.match(line.text)
        if fence:
            if mark and mark[1].startswith(fence) and not line.text.strip(" `~"):
                blocks.append((opened, line.end))
                fence = ""
            continue
        if _TABLE.match(line.text):
            table = (table[0] if table else line.start, line.end)
        elif table:
            blocks.append(table)
            table = None
        heading = None
        if mark:
            fence, opened = mark[1], line.start
        elif heading := _heading(line, before):
            cuts.append(heading)
        is_text = not (mark or heading or table) and line.text[:4].strip()
        before = line if is_text else None
    if fence:
        blocks.append((opened, len(text)))
    elif table:
        blocks.append(table)
    return cuts, blocks


def _heading(line: _Line, before: _Line | None) -> _Cut | None:
    """A heading in this line, or in the one before it that this one underlines."""
    if found := _ATX.match(line.text):
        return _Cut(line.start, len(found[1]), found[2] or "")
    under = _SETEXT.match(line.text)
    if under and before:
        return _Cut(before.start, 1 if under[1][0] == "=" else 2, before.text.strip())
    return None


def _rst(text: str) -> Found:
    lines = list(_lines(text))
    blocks = _rst_blocks(lines)
    cuts: list[_Cut] = []
    levels: list[str] = []
    inside = iter([*blocks, (len(text), len(text))])
    block = next(inside)
    for number, line in enumerate(lines):
        while line.start >= block[1] and block[0] < len(text):
            block = next(inside)
        title = lines[number - 1].text.strip() if number else ""
        written = line.text.strip()
        is_under = _ADORNED.match(line.text) and line.start < block[0]
        if not is_under or not title or len(written) < len(title) or _ADORNED.match(title):
            continue
        has_over = number > 1 and lines[number - 2].text.strip() == written
        sign = written[0] + ("o" if has_over else "")
        if sign not in levels:
            levels.append(sign)
        cuts.append(_Cut(lines[number - 1 - has_over].start, levels.index(sign) + 1, title))
    return cuts, blocks


def _rst_blocks(lines: list[_Line]) -> list[Span]:
    """Literal blocks and tables."""
    blocks: list[Span] = []
    literal: Span | None = None
    table: Span | None = None
    announced = False
    for line in lines:
        written = line.text.strip()
        if (announced or literal) and written and line.text[:1] in " \t":
            literal = (literal[0] if literal else line.start, line.end)
            continue
        if literal and written:
            blocks.append(literal)
            literal = None
        if written:
            announced = written.endswith("::") and not (written.startswith("..") and "code" not in written)
        if _RST_TABLE.match(line.text):
            table = (table[0] if table else line.start, line.end)
        elif table and not written:
            blocks.append(table)
            table = None
        elif table:
            table = (table[0], line.end)
    return sorted([*blocks, *(one for one in (literal, table) if one)])


def _code(text: str) -> Found:
    """Sections are definitions, those inside of classes too, with comments and decorators that stand before them."""
    cuts: list[_Cut] = []
    begin: int | None = None
    for line in _lines(text):
        found = _DEFINITION.match(line.text) or _C_FUNCTION.match(line.text)
        if found:
            level = 1 + len(found[1].expandtabs(4)) // 2
            cuts.append(_Cut(line.start if begin is None else begin, level, found[2].strip()))
            begin = None
        elif not _BEFORE_DEFINITION.match(line.text):
            begin = None
        elif begin is None:
            begin = line.start
    return cuts, [(0, len(text))]


_FINDERS: Final[dict[str, Callable[[str], Found]]] = {
    **dict.fromkeys(("markdown", "html", "docx", "epub"), _markdown),
    "rst": _rst,
    "code": _code,
    "log": _log,
    "pdf": _pages,
}
