"""Checksum: what every line of an index file carries, to tell what was written from what is read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgeret.codec import Int8, Int64

_HEAD: Final = struct.Struct("<4q")


def checksum(*numbers: int, content: bytes = b"") -> int:
    """CRC-32 over `numbers`, 8 bytes each, little-endian, then `content`."""
    return zlib.crc32(content, zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers)))


def sound_lines(lines: Sequence[tuple[Any, ...]], width: int) -> tuple[Int64, Int8]:
    """The lines before the first that is not what was written, as arrays: int64 [n, 4], int8 [n, width].

    lines: of each four numbers, a content of `width` bytes, and the checksum of both.
    """
    heads, contents = bytearray(), bytearray()
    for *numbers, content, crc in lines:
        try:
            head = _HEAD.pack(*numbers)
        except struct.error:
            break
        is_whole = isinstance(content, bytes) and len(content) == width
        if not is_whole or zlib.crc32(content, zlib.crc32(head)) != crc:
            break
        heads += head
        contents += content
    return (
        np.frombuffer(heads, "<i8").reshape(-1, 4),
        np.frombuffer(contents, np.int8).reshape(-1, width),
    )
