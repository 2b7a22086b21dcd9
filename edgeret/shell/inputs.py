"""Folders of text, text files and JSON Lines -> documents, one after the other, never all in memory."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np

from edgeret import files
from edgeret.codec import Float32, normalize
from edgeret.documents import Document, Record
from edgeret.errors import EdgeretError, InvalidDocumentError, InvalidVectorError, StorageError

STDIN: Final = "-"
TEXT_SUFFIXES: Final = (".txt", ".md", ".markdown")
LINES_SUFFIX: Final = ".jsonl"
LARGEST_BYTES: Final = 1 << 28
"""Of a text file and of a line: what is larger is no document, and would take all memory."""

_BOM: Final = b"\xef\xbb\xbf"
_WHOLE: Final = frozenset(("id", "text", "metadata", "vector"))
_CHUNK: Final = 1 << 16

Refuse = Callable[[EdgeretError], None]
"""Called with the error of what cannot be indexed; if it returns, the other inputs are read."""


class _File(NamedTuple):
    name: str
    identity: str | None = None
    """None for JSON Lines, which bring their own."""
    root: Path | None = None
    """The folder, its links resolved, that must hold the file; None: it may lie anywhere."""
    fault: EdgeretError | None = None
    """Why nothing can be read here."""


def _raise(error: EdgeretError) -> None:
    raise error


def read(inputs: Sequence[str], refuse: Refuse = _raise, follow_links: bool = False) -> Iterator[Document]:
    """Return the documents of `inputs`, in order.

    A folder gives its text and Markdown files and those of its subfolders (hidden ones left out), sorted,
    with the path inside the folder as id. A text file has its name as id. A `.jsonl` file and `-` (standard
    input) hold one JSON object a line, as docs/shell.md defines it: `text`, perhaps `id`, and any other key is
    metadata; blank lines are passed over.

    refuse: called with an error for each file and each line that cannot be indexed; it may raise. follow_links: also
    read what links in a folder lead to outside of it; a folder is read once, whatever leads to it.

    Raises InvalidDocumentError, or StorageError for what cannot be read, at once for an input that is none of these.
    """
    found = [file for name in inputs for file in _files(name, follow_links)]
    names: dict[str, str] = {}
    for file in found:
        if file.identity is not None and names.setdefault(file.identity, file.name) != file.name:
            raise InvalidDocumentError(
                f"expected one file for the id {file.identity!r}, got '{names[file.identity]}' and '{file.name}': "
                "index the folder that holds both"
            )
    return _documents(found, refuse)


def count(inputs: Sequence[str], follow_links: bool = False) -> int | None:
    """Return how many documents `read` gives or refuses; None for standard input, which is read only once."""
    if STDIN in inputs:
        return None
    found = [file for name in inputs for file in _files(name, follow_links)]
    return sum(
        1 if file.identity or file.fault else sum(1 for _ in _lines(file.name, lambda _: None))
        for file in found
    )


# -- files


def _files(name: str, follow_links: bool) -> list[_File]:
    if name == STDIN:
        return [_File(name)]
    if not name:
        raise InvalidDocumentError("expected a file or folder, got an empty name: use . for this folder")
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidDocumentError(f"no file or folder at '{name}': check the path") from None
    except (OSError, ValueError) as error:
        raise files.unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        return _folder(path, follow_links)
    if not stat.S_ISREG(mode):
        raise InvalidDocumentError(
            f"expected a file or folder, '{name}' is {files.kind(mode)}: give its lines on standard input, {STDIN}"
        )
    if path.suffix.lower() == LINES_SUFFIX:
        return [_File(name)]
    if path.suffix.lower() in TEXT_SUFFIXES:
        return [_File(name, path.name)]
    raise InvalidDocumentError(
        f"expected a folder, {LINES_SUFFIX}, {', '.join(TEXT_SUFFIXES)} or {STDIN}, got '{name}': "
        "rename it, or turn it into JSON Lines"
    )


def _folder(folder: Path, follow_links: bool) -> list[_File]:
    """The text files of a folder, sorted by their ids, and what hides others."""
    root = None if follow_links else Path(os.path.realpath(folder))
    found: list[_File] = []
    walked: set[tuple[int, int]] = set()
    # Links wait until the folders themselves are read, so that a file has the id of its own place.
    waiting, links = [folder], list[Path]()
    while waiting or links:
        parent = waiting.pop() if waiting else links.pop(0)
        try:
            status = _resolved(parent, root).stat()
            if (status.st_dev, status.st_ino) in walked:
                continue
            walked.add((status.st_dev, status.st_ino))
            with os.scandir(parent) as entries:
                visible = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError as error:
            if parent == folder:
                raise files.unreadable(parent, error) from None
            found.append(_File(str(parent), fault=files.unreadable(parent, error)))
            continue
        except InvalidDocumentError as error:
            found.append(_File(str(parent), fault=error))
            continue
        for path in map(parent.joinpath, visible):
            if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
                (links if path.is_symlink() else waiting).append(path)
            elif path.suffix.lower() in TEXT_SUFFIXES:
                found.append(_File(str(path), path.relative_to(folder).as_posix(), root))
    if not found:
        raise InvalidDocumentError(
            f"expected {', '.join(TEXT_SUFFIXES)} files in '{folder}', found none: choose another folder"
        )
    return sorted(found, key=lambda file: file.identity or file.name)


def _resolved(path: Path, root: Path | None) -> Path:
    """The path without links if it must not leave the folder `root`; refuses one that does."""
    if root is None:
        return path
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(root):
        raise InvalidDocumentError(
            f"'{path}' is a link out of the folder: pass --follow-links to read it too"
        )
    return real


# -- documents


def _documents(found: Iterable[_File], refuse: Refuse) -> Iterator[Document]:
    for file in found:
        if file.fault is not None:
            refuse(file.fault)
        elif file.identity is None:
            for place, line in _lines(file.name, refuse):
                try:
                    document = _checked(place, _parse(place, line))
                except InvalidDocumentError as error:
                    refuse(error)
                else:
                    yield document
        else:
            try:
                text = _decode(file.name, _content(file))
                document = _checked(file.name, Document(id=_identity(file), text=text))
            except (InvalidDocumentError, StorageError) as error:
                refuse(error)
            else:
                yield document


def _lines(name: str, refuse: Refuse) -> Iterator[tuple[str, bytes]]:
    """Yield each line that is not blank, after the place that an error would name."""
    shown = "standard input" if name == STDIN else name
    number = 0
    try:
        with _open(name) as stream:
            while line := stream.readline(LARGEST_BYTES + 1):
                number += 1
                if len(line) > LARGEST_BYTES:
                    while line and not line.endswith(b"\n"):
                        line = stream.readline(_CHUNK)
                    refuse(_too_large(f"{shown}, line {number}"))
                    continue
                content = (line.removeprefix(_BOM) if number == 1 else line).strip()
                if content:
                    yield f"{shown}, line {number}", content
    except OSError as error:
        refuse(error if isinstance(error, StorageError) else files.unreadable(Path(shown), error))


def _open(name: str) -> AbstractContextManager[IO[bytes]]:
    if name != STDIN:
        return files.open_regular(Path(name))
    if sys.stdin is None:
        raise StorageError("cannot read standard input (it is closed): give a file instead")
    return nullcontext(sys.stdin.buffer)


def _parse(place: str, line: bytes) -> Document:
    text = _decode(place, line)
    try:
        fields = json.loads(text)
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


def _checked(place: str, document: Document) -> Document:
    try:
        Record.of(document)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(f"{place}: {error}") from None
    return document


def _content(file: _File) -> bytes:
    # Looked at once, so that it is what was looked at that is opened.
    path = _resolved(Path(file.name), file.root)
    try:
        with files.open_regular(path, follow=file.root is None) as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except StorageError as error:
        raise StorageError(f"{file.name}: {error}") from None
    except OSError as error:
        raise files.unreadable(Path(file.name), error) from None
    if len(content) > LARGEST_BYTES:
        raise _too_large(file.name)
    return content.removeprefix(_BOM)


def _too_large(place: str) -> InvalidDocumentError:
    return InvalidDocumentError(f"{place}: expected at most {LARGEST_BYTES:,} bytes, got more: split it")


def _identity(file: _File) -> str | None:
    try:
        (file.identity or "").encode()
    except UnicodeEncodeError:
        raise InvalidDocumentError(
            f"{file.name}: expected a name in UTF-8, as it is the document's id, got another encoding: rename it"
        ) from None
    return file.identity


def _decode(place: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidDocumentError(
            f"{place}: expected UTF-8, got byte 0x{content[error.start]:02x} at {error.start}: convert it"
        ) from None
