"""Formats: a file -> its documents, by the ending of its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret.codec import Float32, normalize
from edgeret.documents import Document, Record
from edgeret.errors import EdgeretError, InvalidDocumentError, InvalidVectorError
from edgeret.sources import encodings, folder
from edgeret.sources.folder import File

_BOM: Final = b"\xef\xbb\xbf"
_WHOLE: Final = frozenset(("id", "text", "metadata", "vector"))


class LeftOutError(InvalidDocumentError):
    """A file that is no text, or has none: nobody can want it in an index."""


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
    """Whether there is a reader for files of this name."""
    return _ending(name) in _WHOLE_FILES or is_records(name)


def is_records(name: str) -> bool:
    """Whether such a file holds many documents."""
    return _ending(name) in _RECORDS


def endings() -> str:
    """The endings of names that there are readers for."""
    return ", ".join(sorted((*_WHOLE_FILES, *_RECORDS)))


def document(file: File) -> Document:
    """The one document of a file, its id the file's name.

    Raises InvalidDocumentError for what cannot be indexed, LeftOutError for what has no text, StorageError.
    """
    octets = folder.content(file)
    text, metadata = _WHOLE_FILES[_ending(file.name)](file.path, octets)
    if not text.strip():
        raise LeftOutError(f"{file.path}: it is empty")
    return checked(file.path, Document(file.name, text, metadata))


def entries(file: File, keys: Keys) -> Iterator[Entry]:
    """The documents of a file that has many, with the ids that they bring, and what is none.

    Raises InvalidDocumentError and StorageError for a file that cannot be read at all.
    """
    return _RECORDS[_ending(file.name)](file, keys)


def checked(place: str, document: Document) -> Document:
    """The document itself. Raises InvalidDocumentError, which names the place, for one that cannot be indexed."""
    try:
        Record.of(document)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{place}: {error}") from None
    return document


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


# -- one document


Text = tuple[str, dict[str, Any]]
"""The text of a file, and its metadata."""


def _plain(place: str, octets: bytes) -> Text:
    text, encoding = encodings.decode(place, octets)
    return text, {} if encoding == "utf-8" else {"encoding": encoding}


# -- many documents


def lines(found: Iterator[bytes | InvalidDocumentError], place: str) -> Iterator[Entry]:
    """The documents of JSON Lines, those that are blank aside. place: what an error would name."""
    for number, line in enumerate(found, start=1):
        if isinstance(line, InvalidDocumentError):
            yield Entry(number, line)
            continue
        content = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not content:
            continue
        here = f"{place}, line {number}"
        try:
            yield Entry(number, checked(here, _parse(here, content)))
        except InvalidDocumentError as error:
            yield Entry(number, error)


def _lines(file: File, keys: Keys) -> Iterator[Entry]:
    return lines(folder.lines(file), file.path)


def _parse(place: str, line: bytes) -> Document:
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
    if not isinstance(fields, dict) or "text" not in fields:
        raise InvalidDocumentError(f"{place}: expected a JSON object with a key 'text': fix this line")
    if fields.keys() <= _WHOLE and isinstance(fields.get("metadata"), dict):
        # As `edgeret get --json` prints a document.
        vector = _vector(place, fields.get("vector"))
        return Document(fields.get("id"), fields["text"], fields["metadata"], vector)
    return Document(id=fields.pop("id", None), text=fields.pop("text"), metadata=fields)


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


_WHOLE_FILES: Final[dict[str, Callable[[str, bytes], Text]]] = dict.fromkeys(
    (".txt", ".text", ".log", ".md", ".markdown"), _plain
)
_RECORDS: Final[dict[str, Callable[[File, Keys], Iterator[Entry]]]] = dict.fromkeys(
    (".jsonl", ".ndjson"), _lines
)
