"""Checksum: what every line of an index file carries, to tell what was written from what is read.

Many lines are compared at once, in C where the package was built with it; the twin in Python gives the same.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import cache, reduce
from typing import Any, Final

import numpy as np

from edgeret.codec import Float32, Int8, Int64, cosines, fixed
from edgeret.documents import digest_of
from edgeret.native import is_allowed

try:
    from edgeret.storage import _checksum
    from edgeret.storage._checksum import are_sound as _are_sound
    from edgeret.storage._checksum import is_document as _native_check
    from edgeret.storage._checksum import score as _score
except ImportError:
    # Not built, or of an older source.
    _checksum = None  # type: ignore[assignment]

_HEAD: Final = struct.Struct("<4q")


@cache
def _packed(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{count}q").pack


def checksum(*numbers: int, content: bytes = b"") -> int:
    """CRC-32 over `numbers`, 8 bytes each, little-endian, then `content`."""
    return zlib.crc32(content, zlib.crc32(_packed(len(numbers))(*numbers)))


def sound_lines(lines: list[tuple[Any, ...]], width: int) -> tuple[Int64, Int8]:
    """The lines before the first that is not what was written, as arrays: int64 [n, 4], int8 [n, width].

    lines: of each four numbers, a content of `width` bytes, 1 or more, and the checksum of both.
    """
    if _checksum is not None and is_allowed():
        heads, contents, sound = _checksum.sound_lines(lines, width)
    else:
        heads, contents, sound = _sound_lines(lines, width)
    return (
        np.frombuffer(heads, np.int64).reshape(-1, 4)[:sound],
        np.frombuffer(contents, np.int8).reshape(-1, width)[:sound],
    )


def are_sound(contents: object, checksums: object, width: int, count: int) -> bool:
    """Whether `count` contents of `width` bytes, one behind the other, are what was written.

    checksums: CRC-32 of each, in decimal, with commas between them. Both are as SQLite gives them: None is not sound.
    """
    if not isinstance(contents, bytes) or not isinstance(checksums, bytes) or len(contents) != width * count:
        return False
    if _checksum is not None and is_allowed():
        return _are_sound(contents, width, checksums)
    found = (zlib.crc32(contents[start : start + width]) for start in range(0, len(contents), width))
    return ",".join(map(str, found)).encode() == checksums


def score(stored: Int8, vectors: Float32) -> Float32:
    """The cosine, float32 [n], of each of stored vectors [n, dim] to the nearest of unit vectors [queries, dim]."""
    if _checksum is not None and is_allowed():
        return np.frombuffer(_score(stored, vectors.shape[1], fixed(vectors)), np.float32)
    scores: Float32 = reduce(np.maximum, [cosines(stored, vector) for vector in vectors])
    return scores


def document_check() -> Callable[[tuple[Any, ...]], bool]:
    """What tells whether a line of the table `documents`, less its filters, is what was written."""
    return _native_check if _checksum is not None and is_allowed() else _is_document


def _is_document(line: tuple[Any, ...]) -> bool:
    doc, identity, text, metadata, digest, own_vector, crc = line
    if not (isinstance(identity, str) and isinstance(text, str) and isinstance(metadata, str)):
        return False
    return digest_of(identity, text, metadata) == digest and is_document_head(doc, digest, own_vector, crc)


def document_checksum(doc: int, own_vector: int, digest: bytes) -> int:
    """CRC-32 over number, whether the vector came with it, and digest."""
    return checksum(doc, own_vector, content=digest)


def is_document_head(doc: int, digest: object, own_vector: object, crc: object) -> bool:
    """Whether what a line of `documents` says beside its texts is what was written."""
    if not isinstance(digest, bytes) or not isinstance(own_vector, int):
        return False
    return document_checksum(doc, own_vector, digest) == crc


def _sound_lines(lines: list[tuple[Any, ...]], width: int) -> tuple[bytes, bytes, int]:
    heads, contents = list[bytes](), list[bytes]()
    for *numbers, content, crc in lines:
        try:
            head = _HEAD.pack(*numbers)
        except struct.error:
            break
        is_whole = isinstance(content, bytes) and len(content) == width
        if not is_whole or zlib.crc32(content, zlib.crc32(head)) != crc:
            break
        heads.append(head)
        contents.append(content)
    plain = np.frombuffer(b"".join(heads), "<i8").astype(np.int64)
    return plain.tobytes(), b"".join(contents), len(heads)
