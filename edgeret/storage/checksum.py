"""Checksum: what every line of an index file carries, to tell what was written from what is read."""

from __future__ import annotations

import struct
import zlib


def checksum(*numbers: int, content: bytes = b"") -> int:
    """CRC-32 over `numbers`, 8 bytes each, little-endian, then `content`."""
    return zlib.crc32(content, zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers)))
