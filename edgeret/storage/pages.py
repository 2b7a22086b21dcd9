"""Pages: the records on the leaves of an SQLite file, read without its trees.

For a file whose trees are damaged: every page that looks like a leaf is read by itself, and what
does not parse is passed over. Whether a record is what it seems to be is for checksums to say.
https://www.sqlite.org/fileformat2.html describes the format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

PAGE_BYTES: Final = 4096
TABLE_LEAF: Final = 13
INDEX_LEAF: Final = 10

_LARGEST_ROW_CELL: Final = PAGE_BYTES - 35
_LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES: Final = PAGE_BYTES - 4
_INTEGER_BYTES: Final = (0, 1, 2, 3, 4, 6, 8)

Value = int | float | bytes | str | None


class Cell(NamedTuple):
    """Where a record is: the page, from 0, and the byte in it."""

    page: int
    offset: int


class Row(NamedTuple):
    """A line of a table or an entry of an index; `row` is None for the latter."""

    row: int | None
    values: tuple[Value, ...]


class _UnreadableError(ValueError):
    """Bytes that are no record."""


class Pages:
    """A file as pages. Reads one page at a time, and one record with its overflow pages."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = file.seek(0, 2) // PAGE_BYTES

    def records(self) -> Iterator[tuple[Cell, Row]]:
        """Every row that can be read, page by page."""
        for number in range(self.count):
            page = self._page(number)
            first = 100 if number == 0 else 0
            if page[first] not in (TABLE_LEAF, INDEX_LEAF):
                continue
            count = int.from_bytes(page[first + 3 : first + 5], "big")
            pointers = page[first + 8 : first + 8 + 2 * count]
            for (offset,) in struct.iter_unpack(">H", pointers[: len(pointers) // 2 * 2]):
                cell = Cell(number, offset)
                try:
                    yield cell, self._parse(page, page[first], offset)
                except (_UnreadableError, IndexError, UnicodeDecodeError):
                    continue

    def record(self, cell: Cell) -> Row:
        """The row in a cell that `records` gave."""
        page = self._page(cell.page)
        return self._parse(page, page[100 if cell.page == 0 else 0], cell.offset)

    def _page(self, number: int) -> bytes:
        self._file.seek(number * PAGE_BYTES)
        return self._file.read(PAGE_BYTES)

    def _parse(self, page: bytes, kind: int, offset: int) -> Row:
        size, at = varint(page, offset)
        row = None
        if kind == TABLE_LEAF:
            row, at = varint(page, at)
            row -= (row >> 63) << 64
        return Row(row, _values(self._payload(page, at, size, kind)))

    def _payload(self, page: bytes, at: int, size: int, kind: int) -> bytes:
        if size <= (_LARGEST_ROW_CELL if kind == TABLE_LEAF else _LEAST_LOCAL):
            return page[at : at + size]
        if kind == INDEX_LEAF or size > self.count * PAGE_BYTES:
            raise _UnreadableError("a length past the end of the file, or an index entry of no use here")
        local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % _OVERFLOW_BYTES
        if local > _LARGEST_ROW_CELL:
            local = _LEAST_LOCAL
        payload = bytearray(page[at : at + local])
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while len(payload) < size:
            if not 0 < following <= self.count:
                raise _UnreadableError("an overflow page past the end of the file")
            page = self._page(following - 1)
            payload += page[4 : 4 + size - len(payload)]
            following = int.from_bytes(page[:4], "big")
        return bytes(payload)


def _values(payload: bytes) -> tuple[Value, ...]:
    end, at = varint(payload, 0)
    values: list[Value] = []
    begin = end
    while at < end:
        kind, at = varint(payload, at)
        value, begin = _value(payload, kind, begin)
        values.append(value)
    return tuple(values)


def _value(payload: bytes, kind: int, begin: int) -> tuple[Value, int]:
    if kind < 7:
        end = begin + _INTEGER_BYTES[kind]
        return (None if kind == 0 else int.from_bytes(payload[begin:end], "big", signed=True)), end
    if kind in (8, 9):
        return kind - 8, begin
    if kind == 7:
        return struct.unpack(">d", payload[begin : begin + 8].ljust(8, b"\0"))[0], begin + 8
    if kind < 12:
        raise _UnreadableError("a type that SQLite keeps for itself")
    end = begin + (kind - 12) // 2
    if end > len(payload):
        raise _UnreadableError("a value past the end of its record")
    content = payload[begin:end]
    return (content.decode() if kind % 2 else content), end


def varint(content: bytes, at: int) -> tuple[int, int]:
    """SQLite's variable-length integer: seven bits a byte, the ninth byte whole."""
    value = 0
    for count in range(8):
        octet = content[at + count]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + count + 1
    return value << 8 | content[at + 8], at + 9
