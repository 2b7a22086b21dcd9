"""Show: what the shell prints, harmless to a terminal for people, exact as JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from time import monotonic
from typing import Any, Final, TextIO

from edgeret.documents import Document, Hit
from edgeret.door import is_printable
from edgeret.reports import Copy, Progress
from edgeret.sources.formats import NO_READER

_SNIPPET: Final = 100
_BESIDE: Final = 120
"""Characters of a passage that are shown on either side of its best sentence."""
_LONGEST_SENTENCE: Final = 400
_BOLD, _UNDERLINE, _PLAIN_LINE, _PLAIN = "\033[1m", "\033[4m", "\033[24m", "\033[0m"
_LONGEST: Final = 1000
_NAMED: Final = 10
"""Copies that are named, the others are counted."""
_KEPT: Final = "\n\t"
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They show text in another order than it has."""
_ISOLATE, _POP = "\u2068", "\u2069"
_FORMAT: Final = "Cf"
"""What shows nothing, and may stand within words: soft hyphens, marks of direction, and where words of Khmer part."""


def harmless(text: str) -> str:
    """A text whose lines stay lines, without what could steer a terminal: each such character becomes U+FFFD."""
    return "".join(map(_shown, text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """All whitespace as one space, without what could steer a terminal; and bytes that are not UTF-8 in digits."""
    return " ".join(_printable(text).split())


def message(text: str) -> str:
    """One line of bearable length: of what quotes very much the middle is left out."""
    line = one_line(text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} … {line[-_LONGEST // 2 :]}"


def as_json(value: Any) -> str:
    """One line of JSON."""
    return json.dumps(value)


def document_as_json(document: Document) -> str:
    """A document as `edgeret index` reads it back, whole."""
    fields: dict[str, Any] = {"id": document.id, "text": document.text, "metadata": document.metadata}
    if document.vector is not None:
        fields["vector"] = [float(number) for number in document.vector]
    return json.dumps(fields)


def listed(ids: Iterable[str], whole: bool) -> Iterator[str]:
    """Ids, a line each, or, piece by piece, as one line of JSON."""
    if not whole:
        yield from (f"{one_line(identity)}\n" for identity in ids)
        return
    separator = "["
    for identity in ids:
        yield separator + json.dumps(identity)
        separator = ", "
    yield "]\n" if separator == ", " else "[]\n"


def counted(values: Sequence[tuple[Any, int]], isolated: bool = False) -> str:
    """Values and how many documents have each, a line each: strings have quotes, as in JSON.

    isolated: as of `ranked`.
    """
    shown = ((one_line(json.dumps(value, ensure_ascii=False)), count) for value, count in values)
    return "\n".join(f"{count:>9,}  {_isolated(value) if isolated else value}" for value, count in shown)


def lines(summary: Mapping[str, Any]) -> str:
    """A summary, a line each: floats short, lists with commas."""
    return "\n".join(f"{key}: {_value(value)}" for key, value in summary.items())


def told(hits: Sequence[Hit], styled: bool) -> str:
    """Hits for a person: rank, score, title and headings; below it the passage, about its best sentence.

    styled: whether the sentence is bold, and the query's words in it underlined.
    """
    return "\n".join(_told(rank, hit, styled) for rank, hit in enumerate(hits, start=1))


def _told(rank: int, hit: Hit, styled: bool) -> str:
    title = hit.metadata.get("title")
    headings = hit.passage.removesuffix(hit.text)
    named = [
        _isolated(_snippet(part)) for part in (title if isinstance(title, str) else hit.id, headings) if part
    ]
    marks = hit.highlights
    start, stop = (0, 0) if marks is None else marks.sentence
    stop = min(stop, start + _LONGEST_SENTENCE)
    words = [] if marks is None else [span for span in marks.words if start <= span[0] and span[1] <= stop]
    before = one_line(hit.text[:start])[-_BESIDE:]
    after = one_line(hit.text[stop:])
    sentence = _styled(hit.text, start, stop, words) if styled else one_line(hit.text[start:stop])
    beside = after if len(after) <= _BESIDE else after[: _BESIDE - 1] + "…"
    shown = _isolated(" ".join(part for part in (before, sentence, beside) if part))
    return f"{rank:>3}  {hit.score:6.3f}  {' > '.join(named)}\n     {shown}"


def _styled(text: str, start: int, stop: int, words: Sequence[tuple[int, int]]) -> str:
    """A sentence in bold, its words underlined, each part of it harmless."""
    parts, end = [], start
    for first, last in words:
        parts += [_harmless_part(text[end:first]), f"{_UNDERLINE}{one_line(text[first:last])}{_PLAIN_LINE}"]
        end = last
    parts.append(_harmless_part(text[end:stop]))
    return f"{_BOLD}{''.join(parts).strip()}{_PLAIN}"


def _harmless_part(text: str) -> str:
    """One line, the blanks at its ends kept."""
    shown = _printable(text)
    line = " ".join(shown.split())
    if not line:
        return shown[:1]
    before, after = (" " if end == " " else "" for end in (shown[0], shown[-1]))
    return f"{before}{line}{after}"


def is_styled(stream: TextIO) -> bool:
    """Whether a person reads a stream, on a terminal that has bold letters, and does not forbid them (no-color.org)."""
    return (
        stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")
    )


def ranked(hits: Sequence[Hit], isolated: bool = False) -> str:
    """Hits, a line each: rank, score, id and the beginning of the passage.

    isolated: whether what is written from right to left is set apart, for a terminal: it moves nothing beside it then.
    """
    shown = []
    for rank, hit in enumerate(hits, start=1):
        identity, text = (
            _isolated(part) if isolated else part for part in (_snippet(hit.id), _snippet(hit.text))
        )
        shown.append(f"{rank:>3}  {hit.score:6.3f}  {identity}  {text}")
    return "\n".join(shown)


def copies(found: Sequence[Copy], count: int) -> Iterator[str]:
    """The first of those that are copies, a line each, and how many others there are."""
    for copy in found[:_NAMED]:
        alike = "the same text" if copy.is_exact else f"{copy.alike:.0%} alike"
        yield f"{copy.id} is a copy of {copy.of} ({alike})"
    if count > _NAMED:
        yield f"{count - _NAMED:,} other documents are copies too"


def skipped(reasons: Mapping[str, str]) -> Iterator[str]:
    """Reasons why files were left out, a line each; those without a reader by their kind, each kind once."""
    kinds = Counter(PurePosixPath(name).suffix for name, reason in reasons.items() if reason == NO_READER)
    yield from (reason for name, reason in reasons.items() if reason != NO_READER)
    for ending, count in sorted(kinds.items()):
        files = "file" if count == 1 else "files"
        yield f"left out: {count:,} {files} with {ending or 'no ending'}, which there is no reader for"


@contextmanager
def bar(unit: str, every: float | None = None) -> Iterator[Progress]:
    """A progress callback that draws a bar; unless stderr is a terminal it is silent, or says a line now and then.

    every: seconds from one such line to the next; None: no line is said.
    """
    from tqdm import tqdm

    with tqdm(unit=unit, unit_scale=unit == "B", disable=None) as drawn:
        said = monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal said
            drawn.total = total
            drawn.update(done - drawn.n)
            if drawn.disable and every is not None and monotonic() - said >= every:
                said = monotonic()
                sys.stderr.write(f"edgeret: {done:,} of {total:,} bytes are safe\n")

        yield progress


def _snippet(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _SNIPPET else line[: _SNIPPET - 1] + "…"


def _isolated(line: str) -> str:
    """A harmless line, within an isolate of Unicode if it has letters that are written from right to left."""
    turned = any(unicodedata.bidirectional(character) in ("R", "AL") for character in line)
    return f"{_ISOLATE}{line}{_POP}" if turned else line


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    spelled = _spelled(", ".join(value) if isinstance(value, list) else str(value))
    return harmless(spelled).translate(dict.fromkeys(map(ord, _KEPT), "\N{REPLACEMENT CHARACTER}"))


def _printable(text: str) -> str:
    """A text with a blank for each character that cannot be printed, and nothing for those that show nothing."""
    return "".join(
        character if is_printable(character) else "" if unicodedata.category(character) == _FORMAT else " "
        for character in _spelled(text)
    )


def _spelled(text: str) -> str:
    """Bytes of file names that are not UTF-8, which Python has as surrogates, in digits."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def _shown(character: str) -> str:
    control = character < " " or "\x7f" <= character <= "\x9f"
    return (
        "\N{REPLACEMENT CHARACTER}"
        if (control and character not in _KEPT) or character in _BIDI
        else character
    )
