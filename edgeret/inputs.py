"""Folders of text, text files and JSON Lines -> documents, one after the other, never all in memory."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Final, NamedTuple, NoReturn

from edgeret.documents import Document, Record
from edgeret.errors import InvalidDocumentError, StorageError

STDIN: Final = "-"
TEXT_SUFFIXES: Final = (".txt", ".md", ".markdown")
LINES_SUFFIX: Final = ".jsonl"

_BOM: Final = b"\xef\xbb\xbf"


class _File(NamedTuple):
    name: str
    identity: str | None
    """None for JSON Lines, which bring their own."""


def read(inputs: Sequence[str]) -> Iterator[Document]:
    """Return the documents of `inputs`, in order.

    A folder gives its text and Markdown files and those of its subfolders (hidden ones left out), sorted,
    with the path inside the folder as id. A text file has its name as id. A `.jsonl` file and `-` (standard
    input) hold one JSON object a line: `text`, perhaps `id`, and any other key is metadata; blank lines
    are passed over.

    Raises InvalidDocumentError: at once for an input that is none of these, and while reading for a document
    that cannot be indexed, naming its file and line. Raises StorageError for what cannot be read.
    """
    files = [file for name in inputs for file in _files(name)]
    names: dict[str, str] = {}
    for name, identity in files:
        if identity is not None and names.setdefault(identity, name) != name:
            raise InvalidDocumentError(
                f"expected one file for the id {identity!r}, got '{names[identity]}' and '{name}': "
                "index the folder that holds both"
            )
    return _documents(files)


def count(inputs: Sequence[str]) -> int | None:
    """Return how many documents `read` gives; None for standard input and pipes, which are read only once."""
    files = [file for name in inputs for file in _files(name)]
    if STDIN in inputs or not all(Path(file.name).is_file() for file in files):
        return None
    return sum(1 if file.identity is not None else sum(1 for _ in _lines(file.name)) for file in files)


def _files(name: str) -> list[_File]:
    path = Path(name)
    if name == STDIN:
        return [_File(name, None)]
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InvalidDocumentError(f"no file or folder at '{name}': check the path")
    if path.suffix.lower() == LINES_SUFFIX:
        return [_File(name, None)]
    if path.suffix.lower() in TEXT_SUFFIXES:
        return [_File(name, path.name)]
    raise InvalidDocumentError(
        f"expected a folder, {LINES_SUFFIX}, {', '.join(TEXT_SUFFIXES)} or {STDIN}, got '{name}': "
        "rename it, or turn it into JSON Lines"
    )


def _folder(folder: Path) -> list[_File]:
    found = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if path.suffix.lower() in TEXT_SUFFIXES and not name.startswith("."):
                found.append(_File(str(path), path.relative_to(folder).as_posix()))
    if not found:
        raise InvalidDocumentError(
            f"expected {', '.join(TEXT_SUFFIXES)} files in '{folder}', found none: choose another folder"
        )
    return sorted(found, key=lambda file: str(file.identity))


def _documents(files: Iterable[_File]) -> Iterator[Document]:
    for name, identity in files:
        if identity is None:
            for place, line in _lines(name):
                yield _checked(place, _parse(place, line))
        else:
            yield _checked(name, Document(id=identity, text=_decode(name, _content(name))))


def _lines(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield each line that is not blank, after the place that an error would name."""
    shown = "standard input" if name == STDIN else name
    try:
        with _open(name) as stream:
            for number, line in enumerate(stream, start=1):
                content = (line.removeprefix(_BOM) if number == 1 else line).strip()
                if content:
                    yield f"{shown}, line {number}", content
    except OSError as error:
        _unreadable(error)


def _open(name: str) -> AbstractContextManager[IO[bytes]]:
    return nullcontext(sys.stdin.buffer) if name == STDIN else Path(name).open("rb")


def _parse(place: str, line: bytes) -> Document:
    text = _decode(place, line)
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidDocumentError(
            f"{place}: expected a JSON object, got {error.msg.lower()} in column {error.colno}: mend it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidDocumentError(f"{place}: expected a JSON object, got {error}: mend this line") from None
    if not isinstance(fields, dict) or "text" not in fields:
        raise InvalidDocumentError(f"{place}: expected a JSON object with a key 'text': mend this line")
    return Document(id=fields.pop("id", None), text=fields.pop("text"), metadata=fields)


def _checked(place: str, document: Document) -> Document:
    try:
        Record.of(document)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{place}: {error}") from None
    return document


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes().removeprefix(_BOM)
    except OSError as error:
        _unreadable(error)


def _decode(place: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(
            f"{place}: expected UTF-8, got byte 0x{content[error.start]:02x} at {error.start}: convert it"
        ) from None


def _unreadable(error: OSError) -> NoReturn:
    raise StorageError(
        f"cannot read '{error.filename or STDIN}' ({error.strerror}): check that it is there and permitted"
    ) from None
