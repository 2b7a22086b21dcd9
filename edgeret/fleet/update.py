"""Update: the file that takes an index from one contents to another; written in a stream, read strictly.

It may come from anywhere: its own hash is compared before it is believed, no length reaches past its end, and a
document in it must be one that `add` could have stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

import numpy as np

from edgeret import files, stems, words
from edgeret.codec import Float32, Int8
from edgeret.documents import MOST_LEVELS, Document, Record, is_deep, parse
from edgeret.errors import (
    CorruptUpdateError,
    FormatVersionError,
    InvalidDocumentError,
    StorageError,
)

MAGIC: Final = b"edgeret update "
FORMAT: Final = 3
_FORMATS: Final = (1, 2, FORMAT)
MOST_BYTES: Final = 1 << 24
"""Of a document in an update, its vectors included: reading one takes a small multiple of that."""
MOST_METADATA_BYTES: Final = 1 << 20

_DEEPEST: Final = 1000
"""Levels of metadata that SQLite reads: no release has stored more."""

_HEADER: Final = re.compile(
    rb"edgeret update ([123])\nspace ([0-9a-f]{32})\nbits ([1-9]\d{0,4})\n"
    rb"(?:words (-|[a-z]{2,16}) (\d{1,9}) (\d{1,9})\n)?"
    rb"before ([0-9a-f]{64})\nafter ([0-9a-f]{64})\n\n"
)
_LONGEST_HEADER: Final = 384
_HASH_BYTES: Final = 32
_CHUNK: Final = 1 << 16
_DELETE: Final = b"-"
_ADD: Final = b"+"
_LENGTHS: Final = struct.Struct("<6Q")
_OLD_LENGTHS: Final = struct.Struct("<5Q")
"""Of formats 1 and 2, which have no contexts."""


class Header(NamedTuple):
    """What an update is for. before, after: names of contents, 64 hex digits each, of the version `format`, at most 2.

    language, tokenizer, stemmer: as of `Description`; updates of older formats name none.
    """

    space: str
    bits: int
    before: str
    after: str
    format: int = FORMAT
    language: str | None = stems.ENGLISH
    tokenizer: int = words.VERSION
    stemmer: int = stems.ENGLISH_VERSION


class Addition(NamedTuple):
    """A document that an update brings, under a new id or in the place of another.

    record: with a vector if it is the document's own. spans: (start, stop) of each passage in the text's characters.
    vectors: int8 [n, dim]. contexts: as of `Passages`.
    """

    record: Record
    spans: list[tuple[int, int]]
    vectors: Int8
    contexts: Sequence[str | None] = ()


class UpdateWriter:
    """Writes an update to a stream: entries, then `finish`."""

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self._format = header.format
        told = ""
        if header.format > 2:
            told = f"words {header.language or '-'} {header.tokenizer} {header.stemmer}\n"
        self._write(
            f"edgeret update {header.format}\nspace {header.space}\nbits {header.bits}\n{told}"
            f"before {header.before}\nafter {header.after}\n\n".encode()
        )

    def delete(self, identity: str) -> None:
        """A document goes."""
        encoded = identity.encode()
        _check_size(identity, len(encoded), 0)
        self._write(_DELETE + len(encoded).to_bytes(8, "little") + encoded)

    def add(self, addition: Addition) -> None:
        """A document comes. Raises InvalidDocumentError for one that is too large for an update."""
        record = addition.record
        identity, text, metadata = record.id.encode(), record.text.encode(), record.metadata.encode()
        contexts = b""
        if self._format > 2 and any(addition.contexts):
            contexts = json.dumps(list(addition.contexts)).encode()
        lengths = (len(identity), len(text), len(metadata), len(addition.spans), record.vector is not None)
        content = b"".join(
            (
                identity,
                text,
                metadata,
                contexts,
                np.array(addition.spans, dtype="<i8").tobytes(),
                addition.vectors.tobytes(),
            )
        )
        _check_size(record.id, len(content), len(metadata))
        if self._format > 2:
            self._write(_ADD + _LENGTHS.pack(*lengths, len(contexts)) + content)
        else:
            self._write(_ADD + _OLD_LENGTHS.pack(*lengths) + content)

    def finish(self) -> None:
        """Write the hash that ends an update."""
        self._stream.write(self._hash.digest())

    def _write(self, content: bytes) -> None:
        self._hash.update(content)
        self._stream.write(content)


class Update:
    """An update file, open for reading, its hash compared. Made by `open`."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self._stream = stream
        self._left = os.fstat(stream.fileno()).st_size - _HASH_BYTES
        self._compare_hash()
        self.header = self._read_header()

    @classmethod
    def open(cls, path: Path) -> Update:
        """Read the whole file once, a little at a time.

        Raises CorruptUpdateError for a file that is damaged or no update, FormatVersionError, StorageError.
        """
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise CorruptUpdateError(f"expected an edgeret update, '{path}' is no file: name one")
            stream = files.open_regular(path)
            try:
                return cls(path, stream)
            except BaseException:
                stream.close()
                raise
        except StorageError:
            raise
        except OSError as error:
            raise files.unreadable(path, error) from None

    def entries(self, dim: int) -> Iterator[str | Addition]:
        """In order: the id of a document that goes, or a document that comes, with vectors of `dim` entries.

        Raises CorruptUpdateError for what `add` could not have stored, StorageError.
        """
        try:
            while self._left:
                kind = self._take(1)
                if kind == _DELETE:
                    size = int.from_bytes(self._take(8), "little")
                    yield self._text(size)
                elif kind == _ADD:
                    yield self._addition(dim)
                else:
                    raise self.damaged(f"an entry of kind {kind!r}")
        except OSError as error:
            raise files.unreadable(self.path, error) from None

    def damaged(self, what: str) -> CorruptUpdateError:
        """The error for a file that is not what an edgeret wrote."""
        return CorruptUpdateError(
            f"update '{self.path}' is damaged ({what}), nothing was changed: fetch or make it again"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    # -- inside

    def _compare_hash(self) -> None:
        start = self._stream.read(len(MAGIC) + 8)
        if not start.startswith(MAGIC):
            raise CorruptUpdateError(f"expected an edgeret update, '{self.path}' is another kind of file")
        version = start[len(MAGIC) :].partition(b"\n")[0]
        if version.isdigit() and version not in [str(known).encode() for known in _FORMATS]:
            raise FormatVersionError(
                f"expected an update of format {FORMAT} or older, '{self.path}' has format {version.decode()}: "
                "upgrade edgeret"
            )
        self._stream.seek(0)
        found, left = hashlib.sha256(), self._left
        while left > 0 and (chunk := self._stream.read(min(left, _CHUNK))):
            found.update(chunk)
            left -= len(chunk)
        if left or self._stream.read(_HASH_BYTES) != found.digest():
            raise self.damaged("its hash is not that of its content")
        self._stream.seek(0)

    def _read_header(self) -> Header:
        found = _HEADER.match(self._stream.read(_LONGEST_HEADER))
        if found is None or found.end() > self._left:
            raise self.damaged("its header cannot be read")
        self._stream.seek(found.end())
        self._left -= found.end()
        version, space, bits, language, tokenizer, stemmer, before, after = (
            (group or b"").decode() for group in found.groups()
        )
        header = Header(space, int(bits), before, after, int(version))
        if (header.format > 2) != bool(language):
            raise self.damaged("its header is that of another format")
        if not language:
            return header
        return header._replace(
            language=None if language == "-" else language, tokenizer=int(tokenizer), stemmer=int(stemmer)
        )

    def _take(self, size: int) -> bytes:
        # Before it is read: a length may say anything, and memory is taken for it at once.
        if size > min(self._left, MOST_BYTES):
            raise self.damaged(f"{size} bytes are announced where {min(self._left, MOST_BYTES)} can be")
        content = self._stream.read(size)
        if len(content) != size:
            raise self.damaged("it became shorter meanwhile")
        self._left -= size
        return content

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"text that is not UTF-8: {error.reason}") from None

    def _addition(self, dim: int) -> Addition:
        lengths = _LENGTHS if self.header.format > 2 else _OLD_LENGTHS
        identity, text, metadata, passages, own, *more = lengths.unpack(self._take(lengths.size))
        told = sum(more)
        size = identity + text + metadata + told + passages * (16 + dim)
        if own > 1 or not passages or size > MOST_BYTES or metadata > MOST_METADATA_BYTES:
            raise self.damaged(f"a document of {size} bytes with {passages} passages")
        strings = self._text(identity), self._text(text), self._text(metadata)
        contexts = self._contexts(strings[0], self._text(told), passages)
        spans = np.frombuffer(self._take(16 * passages), dtype="<i8").reshape(-1, 2)
        vectors = np.frombuffer(self._take(dim * passages), dtype=np.int8).reshape(-1, dim)
        # Passages are in order, never overlap and are never empty: a few bytes must not stand for much text.
        edges = np.concatenate([[0], spans.ravel(), [len(strings[1])]])
        empty = passages > 1 and (spans[:, 0] == spans[:, 1]).any()
        if (edges[1:] < edges[:-1]).any() or empty or (own and spans.tolist() != [[0, len(strings[1])]]):
            raise self.damaged(f"the passages of document {strings[0]!r:.40} are not those of its text")
        if vectors.min() < -127 or (np.abs(vectors).max(axis=1) != 127).any():
            raise self.damaged(f"a vector of document {strings[0]!r:.40} is not one that is stored")
        record = self._record(*strings, vectors[0].astype(np.float32) if own else None)
        return Addition(record, [(start, stop) for start, stop in spans.tolist()], vectors, contexts)

    def _contexts(self, identity: str, text: str, passages: int) -> list[str | None]:
        if not text:
            return []
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        sound = isinstance(found, list) and all(
            one is None or (isinstance(one, str) and one) for one in found
        )
        if not sound or len(found) != passages or not any(found) or json.dumps(found) != text:
            raise self.damaged(f"the contexts of document {identity!r:.40} are not those of its passages")
        try:
            "".join(one for one in found if one).encode()
        except UnicodeEncodeError:
            raise self.damaged(f"a context of document {identity!r:.40} is no text") from None
        return list(found)

    def _record(self, identity: str, text: str, metadata: str, vector: Float32 | None) -> Record:
        parsed = parse(metadata)
        if parsed is None or is_deep(parsed, _DEEPEST):
            raise self.damaged(f"the metadata of document {identity!r:.40} are no JSON object")
        if is_deep(parsed):
            raise InvalidDocumentError(
                f"expected metadata of at most {MOST_LEVELS} levels, those of document {identity!r:.40} in update "
                f"'{self.path}' have more, nothing was changed: ship the whole index instead"
            )
        try:
            record = Record.of(Document(identity, text, parsed, vector))
        except InvalidDocumentError as error:
            raise self.damaged(str(error)) from None
        if record.metadata != metadata:
            raise self.damaged(f"the metadata of document {identity!r:.40} are not as they are stored")
        return record


def _check_size(identity: str, size: int, metadata: int) -> None:
    if size > MOST_BYTES or metadata > MOST_METADATA_BYTES:
        raise InvalidDocumentError(
            f"expected documents of at most {MOST_BYTES:,} bytes with their vectors, {MOST_METADATA_BYTES:,} of them "
            f"metadata, {identity[:40]!r} has {size:,} and {metadata:,}: ship the whole index instead"
        )
