"""Formats: a file -> its documents, by the ending of its name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret.codec import Float32, normalize
from edgeret.documents import Document, Record
from edgeret.errors import EdgeretError, InvalidDocumentError, InvalidVectorError
from edgeret.sources import encodings, folder
from edgeret.sources.folder import File

_BOM: Final = b"\xef\xbb\xbf"
_HEADER: Final = 1 << 16
"""Characters of a table that its first line is looked for in."""

_WHOLE: Final = frozenset(("id", "text", "metadata", "vector"))


class Whole(Document):
    """The document of a whole file, whose name is its id."""


class LeftOutError(InvalidDocumentError):
    """A file that is no text, or has none: nobody can want it in an index."""


NO_READER: Final = "there is no reader for such a file"
"""Why most that lies in folders is left out."""


def without_records(file: File) -> LeftOutError:
    """Why a file that may hold many documents gives none."""
    return LeftOutError(f"{file.path}: it is empty of records")


def open_here(file: File) -> LeftOutError:
    """Why a file is left out whatever its name is."""
    return LeftOutError(f"{file.path}: it is an index that is open here, or its log")


class Keys(NamedTuple):
    """Where records have their text and their id: columns of a table, keys of an object. None: as documented."""

    text: str | None = None
    id: str | None = None


NO_KEYS: Final = Keys()


class Entry(NamedTuple):
    """A record of a file, or why it is none. number: of its line or row, from 1."""

    number: int
    found: Document | EdgeretError


def is_known(name: str) -> bool:
    """Whether there is a reader for files of this name; one without an ending may be a text."""
    return kind(name) in _READERS or is_records(name)


def is_records(name: str) -> bool:
    """Whether such a file may hold many documents."""
    return _ending(name) in _RECORDS


def endings() -> str:
    """Endings of names that there are readers for."""
    return (
        ", ".join(sorted((*(ending for ending in KINDS if ending and ending not in CODE), *_RECORDS)))
        + " and source code"
    )


def kind(name: str) -> str:
    """What a file holds, by its name: one of `KINDS`, or nothing."""
    return KINDS.get(_ending(name), "")


def document(file: File) -> Document:
    """The one document of a file, its id the file's name.

    Raises InvalidDocumentError for what cannot be indexed, LeftOutError for what has no text, StorageError.
    """
    octets = folder.content(file)
    found = kind(file.name)
    if not _ending(file.name) and b"\0" in octets:
        raise LeftOutError(f"{file.path}: it is no text")
    text, metadata = _READERS[found](file.path, octets)
    if not text.strip():
        why = "it has no text: its pages may be pictures" if found == "pdf" else "it is empty"
        raise LeftOutError(f"{file.path}: expected a text, {why}: leave it out")
    return checked(file.path, Whole(file.name, text, metadata))


def entries(file: File, keys: Keys) -> Iterator[Entry]:
    """The documents of a file that has many, with the ids that they bring, and what is none.

    Raises InvalidDocumentError and StorageError for a file that cannot be read at all.
    """
    return _RECORDS[_ending(file.name)](file, keys)


def identity(name: str, entry: Entry, found: Document) -> str:
    """The id of a record of the file `name` of a folder."""
    if not entry.number:
        return name
    return f"{name}#{entry.number if found.id is None else found.id}"


def standing_twice(place: str, entry: Entry, found: Document) -> InvalidDocumentError:
    """What refuses a record whose id another one of its file has."""
    identity = str(entry.number) if found.id is None else found.id
    return InvalidDocumentError(f"{place}: the id {identity!r:.80} stands twice: give each its own")


def checked(place: str, document: Document) -> Document:
    """The document itself. Raises InvalidDocumentError, which names the place, for one that cannot be indexed."""
    try:
        Record.of(document)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{place}: {error}") from None
    return document


def _ending(name: str) -> str:
    # As of PurePosixPath, which takes longer than the system does to tell of a file.
    stem, dot, ending = name[name.rfind("/") + 1 :].rpartition(".")
    return f".{ending.lower()}" if dot and stem and ending else ""


# -- one document


Text = tuple[str, dict[str, Any]]
"""The text of a file, and its metadata."""


def _plain(place: str, octets: bytes) -> Text:
    text, encoding = encodings.decode(place, octets)
    return text, {} if encoding == "utf-8" else {"encoding": encoding}


def _marked(place: str, octets: bytes) -> Text:
    from edgeret.sources import markup

    text, told = _plain(place, octets)
    body, metadata = markup.front(text)
    return (body, metadata | told) if body.strip() else (text, told)


def _page(place: str, octets: bytes) -> Text:
    from edgeret.sources import markup

    return markup.of_html(place, octets)


def _office(read: str) -> Callable[[str, bytes], Text]:
    def late(place: str, octets: bytes) -> Text:
        from edgeret.sources import office

        found: Text = getattr(office, read)(place, octets)
        return found

    return late


# -- many documents


def lines(found: Iterator[bytes | InvalidDocumentError], place: str, keys: Keys) -> Iterator[Entry]:
    """The documents of JSON Lines, those that are blank aside. place: what an error would name."""
    for number, line in enumerate(found, start=1):
        if isinstance(line, InvalidDocumentError):
            yield Entry(number, line)
            continue
        content = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not content:
            continue
        here = f"{place}, line {number}"
        yield _entry(number, here, partial(_parse, here, content, keys))


def _entry(number: int, place: str, read: Callable[[], Document]) -> Entry:
    """A document among others, or why it is none."""
    try:
        return Entry(number, checked(place, read()))
    except InvalidDocumentError as error:
        return Entry(number, error)


def _lines(file: File, keys: Keys) -> Iterator[Entry]:
    return lines(folder.lines(file), file.path, keys)


def _parse(place: str, line: bytes, keys: Keys) -> Document:
    try:
        fields = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(
            f"{place}: expected UTF-8, got byte 0x{line[error.start]:02x} at {error.start}: convert it"
        ) from None
    except json.JSONDecodeError as error:
        raise InvalidDocumentError(
            f"{place}: expected a JSON object, got {error.msg.lower()} in column {error.colno}: fix this line"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(f"{place}: expected a JSON object, got {error}: fix this line") from None
    return _record(place, fields, keys)


def _record(place: str, fields: object, keys: Keys) -> Document:
    key = keys.text or "text"
    if not isinstance(fields, dict) or key not in fields:
        raise InvalidDocumentError(f"{place}: expected a JSON object with a key {key!r:.80}: fix this line")
    if keys == NO_KEYS and fields.keys() <= _WHOLE and isinstance(fields.get("metadata"), dict):
        # As `edgeret get --json` prints a document.
        vector = _vector(place, fields.get("vector"))
        return Document(fields.get("id"), fields["text"], fields["metadata"], vector)
    text, identity = fields.pop(key), fields.pop(keys.id or "id", None)
    if keys.id and isinstance(identity, int):
        identity = str(identity)
    return Document(identity, text, fields)


def _vector(place: str, value: Any) -> Float32 | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise InvalidDocumentError(f"{place}: expected the vector to be a list of numbers: fix this line")
    try:
        vector: Float32 = normalize(np.array([value], dtype=np.float64), len(value))[0]
    except (OverflowError, InvalidVectorError) as error:
        raise InvalidDocumentError(f"{place}: expected a vector ({error}): fix this line") from None
    return vector


def _objects(file: File, keys: Keys) -> Iterator[Entry]:
    """The objects of a list that have a text; a file of anything else is one document, as it is written."""
    text, _ = encodings.decode(file.path, folder.content(file))
    if not text.strip():
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(f"{file.path}: expected JSON, got {error}: fix it") from None
    key = keys.text or "text"
    objects = found if isinstance(found, list) else [found]
    if not any(isinstance(one, dict) and key in one for one in objects):
        yield Entry(0, checked(file.path, Document(file.name, text)))
        return
    for number, fields in enumerate(objects, start=1):
        here = f"{file.path}, entry {number}"
        yield _entry(number, here, partial(_record, here, fields, keys))


def _rows(file: File, keys: Keys) -> Iterator[Entry]:
    """The rows of a table below its header. Without a column of texts a row's text has all columns with their names."""
    text, _ = encodings.decode(file.path, folder.content(file))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(file.name, text))
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InvalidDocumentError(
            f"{file.path}: expected the names of columns, got {error}: fix its first line"
        ) from None
    names: list[str] = []
    for number, name in enumerate(header, start=1):
        plain = name.strip() or f"column {number}"
        # Of columns of one name each keeps its cells.
        names.append(plain if plain not in names else f"{plain} (column {number})")
    for key in (keys.text, keys.id):
        if key is not None and key not in names:
            raise InvalidDocumentError(
                f"{file.path}: expected a column {key!r:.80}, got {', '.join(names):.200}: name one of these"
            )
    number = 0
    while True:
        number += 1
        here = f"{file.path}, row {number}"
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield Entry(number, checked(here, _row(names, cells, keys)))
        except csv.Error as error:
            yield Entry(
                number, InvalidDocumentError(f"{here}: expected a row of a table, got {error}: fix it")
            )
        except InvalidDocumentError as error:
            yield Entry(number, error)


def _row(names: list[str], cells: list[str], keys: Keys) -> Document:
    from edgeret.sources import markup

    extra = [f"column {number}" for number in range(len(names) + 1, len(cells) + 1)]
    fields = dict(zip(names + extra, cells, strict=False))
    identity = fields.pop(keys.id or "id", None) or None
    key = keys.text or "text"
    text = fields.pop(key, None)
    if text is None:
        text = "\n".join(f"{name}: {cell}" for name, cell in fields.items() if cell.strip())
    return Document(
        identity, text, {name: markup.scalar(cell) for name, cell in fields.items() if cell.strip()}
    )


def _delimiter(name: str, text: str) -> str:
    if _ending(name) == ".tsv":
        return "\t"
    first = text[:_HEADER].partition("\n")[0]
    return max(",;\t|", key=first.count)


_CODE: Final = """
.py .pyi .c .h .cc .cpp .cxx .hh .hpp .cs .java .kt .scala .swift .m .go .rs .js .mjs .cjs .jsx .ts .tsx .php .rb .pl
.pm .lua .r .jl .hs .ml .ex .exs .erl .clj .lisp .el .f90 .pas .vb .dart .zig .nim .sh .bash .zsh .ps1 .sql .proto .css
.scss .less .vue .svelte .cmake .mk .gradle .tf .yaml .yml .toml .ini .cfg .conf .xml .xsl .tex .bib
"""
CODE: Final = frozenset(_CODE.split())
KINDS: Final = {
    "": "text",
    **dict.fromkeys((".txt", ".text"), "text"),
    ".log": "log",
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".rst", ".rest"), "rst"),
    ".pdf": "pdf",
    ".docx": "docx",
    ".epub": "epub",
    **dict.fromkeys(CODE, "code"),
}
"""What files hold, by the endings of their names."""

_READERS: Final[dict[str, Callable[[str, bytes], Text]]] = {
    **dict.fromkeys(("text", "log", "rst", "code"), _plain),
    "markdown": _marked,
    "html": _page,
    # What they need is imported when there is such a file.
    "pdf": _office("of_pdf"),
    "docx": _office("of_docx"),
    "epub": _office("of_epub"),
}
_RECORDS: Final[dict[str, Callable[[File, Keys], Iterator[Entry]]]] = {
    **dict.fromkeys((".jsonl", ".ndjson"), _lines),
    ".json": _objects,
    **dict.fromkeys((".csv", ".tsv"), _rows),
}
