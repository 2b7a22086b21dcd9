"""Terms: the segments of the lexicon, that is pages of terms with their lists of rows, read, written and merged."""

from __future__ import annotations

import sqlite3
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks, postings
from edgeret.blocks import BLOCK_ROWS, Mask
from edgeret.errors import CorruptIndexError, InvalidQueryError
from edgeret.native import is_allowed
from edgeret.postings import Int64, UInt8
from edgeret.storage.checksum import checksum

try:
    from edgeret.storage import _terms
except ImportError:
    _terms = None  # type: ignore[assignment]

_PAGE_OCTETS: Final = 4000
"""Of a page and its first term: they fit in a page of the file without overflowing."""
_INLINE_OCTETS: Final = 3300
"""Of a list in its page, at the most: beside the longest term it still fits there."""
_LIST_OCTETS: Final = 64_000
_PAGES_AT_ONCE: Final = (12, 24)
"""That a merge holds of all its sources together, at the least and at the most."""
_CACHE_KIB: Final = 80
"""It holds one for so much of SQLite's cache: a page becomes arrays of ten times its size."""

_OUTSIDE: Final = 0x8000
_TOLD: Final = 0x4000
_PLACE: Final = 0x3FFF
"""Of an entry's place: its list is in `lexicon_lists`; its number of rows is written; where it begins."""

_HEAD: Final = struct.Struct("<HH")
_PLACES: Final = struct.Struct("<HH")
_NET: Final = struct.Struct("<i")
_RECORD: Final = struct.Struct("<iIH")
_PIECE: Final = 1 << 16
"""Rows of a long list that are held at once, about."""

Pieces = Iterable[tuple[Int64, UInt8]]
Damaged = Callable[[str], CorruptIndexError]


class Segment(NamedTuple):
    """Terms of consecutive rows.

    segment: its number. octets, pages, lists: what was written. moving: the segment that its terms move to, 0 if they
    stay. begins: terms below it have moved.
    """

    segment: int
    first_row: int
    end_row: int
    octets: int
    pages: int
    lists: int
    moving: int
    begins: bytes

    @property
    def place(self) -> tuple[int, int, int]:
        """What segments are ordered by."""
        return self.first_row, self.end_row, self.segment


class Entry(NamedTuple):
    """A term in a segment. net: rows added less rows removed. rows: its list, or None if it is in `lexicon_lists`."""

    net: int
    rows: bytes | None
    list: int = 0
    lists: int = 0


class Batch(NamedTuple):
    """Consecutive terms: rows [starts[i], starts[i + 1]) are of the i-th name; outside: lists that come in pieces.

    names: joined by line feeds.
    """

    names: bytes
    nets: Int64
    starts: Int64
    rows: Int64
    marks: UInt8
    outside: Mapping[int, Pieces]


# -- pages of terms


class Page(NamedTuple):
    """A page taken apart: the flags of each entry, where it starts in `entries`, and where the last one ends.

    names: joined by line feeds.
    """

    names: bytes
    flags: NDArray[np.uint16]
    edges: Int64
    entries: bytes

    def entry(self, number: int, damaged: Damaged) -> Entry:
        """The entry of one of the names."""
        start, end = self.edges[number : number + 2].tolist()
        return _read_entry(self.entries, start, end, int(self.flags[number]), damaged)


def find_all(
    lines: list[tuple[int, int, int, bytes]], terms: tuple[bytes, ...], damaged: Damaged
) -> list[Entry | None]:
    """For each line the entry of its term, or None if its page has none.

    lines: of each a place in `terms`, and a page with its number and checksum, which is verified.
    """
    if _terms is not None and is_allowed():
        found = _terms.find(lines, terms)
        if found is not None:
            return [None if entry is None else Entry._make(entry) for entry in found]
    # Whatever is damaged is named here.
    return [
        _find(sound(page, crc, entries, damaged), terms[number], damaged)
        for number, page, crc, entries in lines
    ]


def _find(entries: bytes, term: bytes, damaged: Damaged) -> Entry | None:
    """The entry of one term in a page, without looking at the others."""
    try:
        count, octets = _HEAD.unpack_from(entries)
        end = _HEAD.size + octets
        at = entries.find(b"\n" + term + b"\n", _HEAD.size, end)
        if at < 0:
            return None
        number = entries.count(b"\n", _HEAD.size, at)
        start, stop = _PLACES.unpack_from(entries, end + 2 * number)
    except struct.error as error:
        raise damaged("a page of its terms holds none") from error
    first = end + 2 * (count + 1)
    return _read_entry(entries, first + (start & _PLACE), first + (stop & _PLACE), start, damaged)


def parse(entries: bytes, damaged: Damaged) -> Page:
    """Take a page apart."""
    try:
        count, octets = _HEAD.unpack_from(entries)
        end = _HEAD.size + octets
        names = entries[_HEAD.size + 1 : end - 1]
        places = np.frombuffer(entries, "<u2", count + 1, end)
    except (ValueError, struct.error) as error:
        raise damaged("a page of its terms holds none") from error
    edges = (places & _PLACE) + np.int64(end + 2 * (count + 1))
    if names.count(b"\n") != count - 1 or int(edges[-1]) != len(entries) or (edges[1:] < edges[:-1]).any():
        raise damaged("a page of its terms holds others")
    return Page(names, places[:-1] & ~np.uint16(_PLACE), edges, entries)


def _read_entry(entries: bytes, start: int, end: int, flags: int, damaged: Damaged) -> Entry:
    try:
        if flags & _OUTSIDE:
            net, first, lists = _RECORD.unpack_from(entries, start)
            return Entry(net, None, first, lists)
        if flags & _TOLD:
            return Entry(_NET.unpack_from(entries, start)[0], entries[start + _NET.size : end])
        rows = entries[start:end]
        return Entry(postings.count(rows), rows)
    except (struct.error, InvalidQueryError) as error:
        raise damaged("an entry of its terms is not what was written") from error


def list_keys(segment: Segment, entry: Entry) -> range:
    """The keys of a term's lists outside of its page."""
    first = (segment.segment << 32) + entry.list
    return range(first, first + entry.lists)


def read_lists(connection: sqlite3.Connection, keys: Sequence[int], damaged: Damaged) -> dict[int, bytes]:
    """Lists that are outside of pages, verified."""
    lines = connection.execute(
        "SELECT list, crc, rows FROM json_each(?) AS asked CROSS JOIN lexicon_lists ON list = asked.value",
        (str([*keys]),),
    ).fetchall()
    if _terms is None or not is_allowed() or not _terms.are_sound(lines):
        for key, crc, rows in lines:
            sound(key, crc, rows, damaged)
    found = {key: rows for key, _, rows in lines}
    if len(found) != len(keys):
        raise damaged(f"it has {len(found)} of {len(keys)} lists of a term")
    return found


def sound(key: int, crc: int, content: object, damaged: Damaged) -> bytes:
    """The content of a page or list, if its checksum holds."""
    if not isinstance(content, bytes) or checksum(key, content=content) != crc:
        raise damaged("a page of its terms or lists is not what was written")
    return content


def segment_checksum(segment: Segment) -> int:
    """CRC-32 over all that a segment's line says."""
    return checksum(*segment[:-1], content=segment.begins)


class Writer:
    """Writes terms, in their order, behind those that a segment has."""

    def __init__(self, connection: sqlite3.Connection, segment: Segment) -> None:
        self.connection = connection
        self.segment = segment
        self.written = 0
        self._pages = segment.pages
        self._lists = segment.lists
        self._names = b""
        self._sizes = np.empty(0, np.int64)
        self._flags = np.empty(0, np.uint16)
        self._entries = b""

    def add(self, batch: Batch) -> None:
        """Write terms greater than all before."""
        octets, edges = postings.encode(batch.starts, batch.rows, batch.marks)
        counts, lengths = np.diff(batch.starts), np.diff(edges)
        special = (lengths > _INLINE_OCTETS) | (counts != batch.nets)
        special[list(batch.outside)] = True
        sizes, flags = lengths.copy(), np.zeros(len(lengths), np.uint16)
        # What no row has and nothing counts is gone.
        kept = special | (counts > 0)
        parts, begin = [], 0
        for number in np.flatnonzero(special).tolist():
            parts.append(octets[edges[begin] : edges[number]])
            begin = number + 1
            net = int(batch.nets[number])
            if number in batch.outside:
                entry, flags[number] = self._long(batch.outside[number], net)
            elif lengths[number] > _INLINE_OCTETS:
                own = slice(int(batch.starts[number]), int(batch.starts[number + 1]))
                entry, flags[number] = self._long([(batch.rows[own], batch.marks[own])], net)
            else:
                entry, flags[number] = _told(octets[edges[number] : edges[begin]], net)
            parts.append(entry)
            sizes[number] = len(entry)
            kept[number] = bool(entry)
        parts.append(octets[edges[begin] :])
        names = batch.names
        if not kept.all():
            names = b"\n".join(
                name for name, keep in zip(names.split(b"\n"), kept.tolist(), strict=True) if keep
            )
        if kept.any():
            self._names += b"\n" + names if self._names else names
        self._sizes = np.concatenate([self._sizes, sizes[kept]])
        self._flags = np.concatenate([self._flags, flags[kept]])
        self._entries += b"".join(parts)
        self._write_pages(last=False)

    def finish(self) -> Segment:
        """Write what is left; the segment as it is then."""
        self._write_pages(last=True)
        return self.segment._replace(
            octets=self.segment.octets + self.written, pages=self._pages, lists=self._lists
        )

    def _long(self, pieces: Pieces, net: int) -> tuple[bytes, int]:
        """The entry of a term with a long list, which is written, and its flags."""
        parts: list[list[bytes]] = [[]]
        held = total = written = count = 0
        for chunk, rows in _chunked(pieces):
            if held + len(chunk) > _LIST_OCTETS:
                self._write_list(b"".join(parts[-1]))
                written += 1
                parts, held = [[]], 0
            parts[-1].append(chunk)
            held += len(chunk)
            total += len(chunk)
            count += rows
        if total <= _INLINE_OCTETS:
            own = b"".join(parts[-1])
            return (own, 0) if count == net else _told(own, net)
        self._write_list(b"".join(parts[-1]))
        first = self._lists - written - 1
        return _RECORD.pack(net, first, written + 1), _OUTSIDE

    def _write_list(self, rows: bytes) -> None:
        key = (self.segment.segment << 32) + self._lists
        self.connection.execute(
            "INSERT INTO lexicon_lists VALUES (?, ?, ?)", (key, checksum(key, content=rows), rows)
        )
        self._lists += 1
        self.written += len(rows)

    def _write_pages(self, last: bool) -> None:
        ends = name_ends(self._names)
        lengths = np.diff(ends, prepend=-1)
        totals = np.concatenate([[0], np.cumsum(lengths + 2 + self._sizes)])
        edges = np.concatenate([[0], np.cumsum(self._sizes)])
        begin = at = 0
        while begin < len(ends):
            first = self._names[at : ends[begin]]
            room = _PAGE_OCTETS - _HEAD.size - 3 - len(first)
            end = int(np.searchsorted(totals, totals[begin] + room, side="right")) - 1
            if end == len(ends) and not last:
                break
            names = b"\n" + self._names[at : ends[end - 1]] + b"\n"
            places = (edges[begin : end + 1] - edges[begin]).astype("<u2")
            places[:-1] |= self._flags[begin:end]
            entries = b"".join(
                (
                    _HEAD.pack(end - begin, len(names)),
                    names,
                    places.tobytes(),
                    self._entries[edges[begin] : edges[end]],
                )
            )
            key = (self.segment.segment << 32) + self._pages
            self.connection.execute(
                "INSERT INTO lexicon_terms VALUES (?, ?, ?, ?, ?)",
                (key, self.segment.segment, first, checksum(key, content=entries), entries),
            )
            self._pages += 1
            self.written += len(entries)
            begin, at = end, int(ends[end - 1]) + 1
        self._names, self._entries = self._names[at:], self._entries[edges[begin] :]
        self._sizes, self._flags = self._sizes[begin:], self._flags[begin:]


def name_ends(names: bytes) -> Int64:
    """Where each of the names ends that line feeds join."""
    if not names:
        return np.empty(0, np.int64)
    return np.append(np.flatnonzero(np.frombuffer(names, np.uint8) == ord("\n")), len(names))


def _told(rows: bytes, net: int) -> tuple[bytes, int]:
    """An entry whose rows are not all that count; none if nothing does."""
    return (_NET.pack(net) + rows, _TOLD) if rows or net else (b"", 0)


def _chunked(pieces: Pieces) -> Iterator[tuple[bytes, int]]:
    """A list that comes in pieces, a chunk for each block: its octets and rows."""
    rows, marks = np.empty(0, np.int64), np.empty(0, np.uint8)
    for more, others in pieces:
        rows, marks = np.concatenate([rows, more]), np.concatenate([marks, others])
        if len(rows) < _PIECE:
            continue
        whole = int(np.searchsorted(rows, rows[-1] // BLOCK_ROWS * BLOCK_ROWS))
        yield from _chunks_of(rows[:whole], marks[:whole])
        rows, marks = rows[whole:], marks[whole:]
    yield from _chunks_of(rows, marks)


def _chunks_of(rows: Int64, marks: UInt8) -> Iterator[tuple[bytes, int]]:
    if not len(rows):
        return
    edges = np.flatnonzero(np.diff(rows // BLOCK_ROWS)) + 1
    starts = np.concatenate([[0], edges, [len(rows)]]).astype(np.int64)
    octets, ends = postings.encode(starts, rows, marks)
    for (start, end), (first, last) in zip(pairwise(ends.tolist()), pairwise(starts.tolist()), strict=True):
        yield octets[start:end], last - first


class Reader:
    """Reads the terms of a segment, a few pages at a time."""

    def __init__(self, connection: sqlite3.Connection, segment: Segment, damaged: Damaged) -> None:
        self.connection = connection
        self.segment = segment
        self.damaged = damaged
        self.names = b""
        self.is_done = False
        self._name_ends = np.empty(0, np.int64)
        self._flags = np.empty(0, np.uint16)
        self._starts = self._ends = np.empty(0, np.int64)
        self._entries = b""
        self._next_page = segment.segment << 32
        self._next_list = 0

    def fill(self, pages_at_once: int) -> None:
        """Read on, if all that was read is taken."""
        while not self.names and not self.is_done:
            pages = self.connection.execute(
                "SELECT page, crc, entries FROM lexicon_terms WHERE page >= ? AND page < ? ORDER BY page LIMIT ?",
                (self._next_page, self.segment.segment + 1 << 32, pages_at_once),
            ).fetchall()
            if not pages:
                self.is_done = True
                return
            self._next_page = pages[-1][0] + 1
            parsed = [
                parse(sound(page, crc, entries, self.damaged), self.damaged) for page, crc, entries in pages
            ]
            offsets = np.cumsum([0, *(len(page.entries) for page in parsed[:-1])])
            self._hold(b"\n".join(page.names for page in parsed))
            begin = self._count_below(self.segment.begins) if self.segment.begins else 0
            self._pass(begin)
            self._flags = np.concatenate([page.flags for page in parsed])[begin:]
            moved = [page.edges + offset for page, offset in zip(parsed, offsets.tolist(), strict=True)]
            self._starts = np.concatenate([edges[:-1] for edges in moved])[begin:]
            self._ends = np.concatenate([edges[1:] for edges in moved])[begin:]
            self._entries = b"".join(page.entries for page in parsed)

    @property
    def last(self) -> bytes:
        """The last name that is held."""
        return self.names[self.names.rfind(b"\n") + 1 :]

    def _hold(self, names: bytes) -> None:
        self.names, self._name_ends = names, name_ends(names)

    def _name(self, number: int) -> bytes:
        return self.names[self._name_ends[number - 1] + 1 if number else 0 : self._name_ends[number]]

    def _count_below(self, name: bytes) -> int:
        return bisect_left(range(len(self._name_ends)), name, key=self._name)

    def _pass(self, count: int) -> bytes:
        """Let go of the first names, and return them."""
        if not count:
            return b""
        at = int(self._name_ends[count - 1])
        passed = self.names[:at]
        self._hold(self.names[at + 1 :])
        return passed

    def take(self, cut: bytes) -> _Taken:
        """What is held of the terms up to `cut`."""
        end = len(self._name_ends) if self.last <= cut else self._count_below(cut + b"\0")
        names = self._pass(end)
        flags, starts, ends = self._flags[:end], self._starts[:end], self._ends[:end]
        self._flags = self._flags[end:]
        self._starts, self._ends = self._starts[end:], self._ends[end:]
        outside = {}
        is_outside = (flags & _OUTSIDE) != 0
        is_told = (flags & _TOLD) != 0
        for number in np.flatnonzero(is_outside).tolist():
            entry = _read_entry(self._entries, int(starts[number]), int(ends[number]), _OUTSIDE, self.damaged)
            self._next_list = max(self._next_list, entry.list + entry.lists)
            outside[number] = entry
        firsts = np.where(is_told, starts + _NET.size, starts)
        ends = np.where(is_outside, firsts, ends)
        try:
            edges, rows, marks = postings.decode(self._entries, firsts, ends)
        except InvalidQueryError as error:
            raise self.damaged("a list of rows is not what was written") from error
        counts = edges[1:] - edges[:-1]
        nets = counts.copy()
        for number in np.flatnonzero(is_told).tolist():
            nets[number] = _read_entry(
                self._entries, int(starts[number]), int(ends[number]), _TOLD, self.damaged
            ).net
        for number, entry in outside.items():
            nets[number] = entry.net
        return _Taken(names, nets, counts, rows, marks, outside)

    def pieces(self, entry: Entry) -> Iterator[tuple[Int64, UInt8]]:
        """A list that is outside of the page, piece by piece."""
        for key in list_keys(self.segment, entry):
            octets = read_lists(self.connection, [key], self.damaged)[key]
            try:
                _, rows, marks = postings.decode(octets, np.array([0]), np.array([len(octets)]))
            except InvalidQueryError as error:
                raise self.damaged("a list of rows is not what was written") from error
            yield rows, marks

    def drop_below(self, begins: bytes) -> Segment:
        """Delete what holds only terms below; the segment as it is then."""
        # Of a merge that was under way more may have moved: a page still has those terms.
        begins = max(begins, self.segment.begins)
        number = self.segment.segment
        self.connection.execute(
            "DELETE FROM lexicon_terms WHERE page >= ? AND page < coalesce((SELECT page FROM lexicon_terms"
            " WHERE segment = ? AND first <= ? ORDER BY first DESC LIMIT 1), 0)",
            (number << 32, number, begins),
        )
        self.connection.execute(
            "DELETE FROM lexicon_lists WHERE list >= ? AND list < ?",
            (number << 32, (number << 32) + self._next_list),
        )
        return self.segment._replace(begins=begins)

    def drop_all(self) -> None:
        """Delete the segment."""
        bounds = (self.segment.segment << 32, self.segment.segment + 1 << 32)
        self.connection.execute("DELETE FROM lexicon_terms WHERE page >= ? AND page < ?", bounds)
        self.connection.execute("DELETE FROM lexicon_lists WHERE list >= ? AND list < ?", bounds)
        self.connection.execute("DELETE FROM lexicon_segments WHERE segment = ?", (self.segment.segment,))


class _Taken(NamedTuple):
    names: bytes
    nets: Int64
    counts: Int64
    rows: Int64
    marks: UInt8
    outside: dict[int, Entry]


def merged(readers: list[Reader], live: Mask | None) -> Iterator[tuple[Batch, bytes | None]]:
    """The terms of segments, which are in the order of their rows, and the last term of each batch; None at the end."""
    each = max(1, _pages_at_once(readers[0].connection) // len(readers)) if readers else 0
    while True:
        for reader in readers:
            reader.fill(each)
        held = [reader for reader in readers if reader.names]
        if not held:
            return
        cut = min(reader.last for reader in held)
        taken = [reader.take(cut) for reader in readers]
        for reader in readers:
            reader.fill(each)
        is_last = not any(reader.names for reader in readers)
        yield _joined(readers, taken, live), None if is_last else cut


def _pages_at_once(connection: sqlite3.Connection) -> int:
    """As many as the memory budget, from which SQLite's cache follows, has room for."""
    (size,) = connection.execute("PRAGMA cache_size").fetchone()
    least, most = _PAGES_AT_ONCE
    return min(max(-int(size) // _CACHE_KIB, least), most)


def _joined(readers: list[Reader], taken: list[_Taken], live: Mask | None) -> Batch:
    names, given = postings.group([part.names for part in taken])
    places = np.split(given, np.cumsum([len(part.nets) for part in taken[:-1]]))
    count = int(given.max()) + 1
    nets = np.zeros(count, np.int64)
    for part, place in zip(taken, places, strict=True):
        nets[place] += part.nets
    owners = np.repeat(given, np.concatenate([part.counts for part in taken]))
    rows = np.concatenate([part.rows for part in taken])
    marks = np.concatenate([part.marks for part in taken])
    alive = _alive(rows, live)
    if alive is not None:
        owners, rows, marks = owners[alive], rows[alive], marks[alive]
    long = {int(place[number]) for part, place in zip(taken, places, strict=True) for number in part.outside}
    outside = {owner: _pieces(readers, taken, places, owner, live) for owner in long}
    if long:
        is_inside = np.ones(count, np.bool_)
        is_inside[list(long)] = False
        inside = is_inside[owners]
        owners, rows, marks = owners[inside], rows[inside], marks[inside]
    # Segments are in the order of rows, which stays.
    order = np.argsort(owners, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))]).astype(np.int64)
    return Batch(names, nets, starts, rows[order], marks[order], outside)


def _pieces(
    readers: list[Reader], taken: list[_Taken], places: list[Int64], owner: int, live: Mask | None
) -> Iterator[tuple[Int64, UInt8]]:
    """Of each segment, in their order, the rows of a term that it has inside or outside of its page."""
    for reader, part, place in zip(readers, taken, places, strict=True):
        number = int(np.searchsorted(place, owner))
        if number == len(place) or place[number] != owner:
            continue
        if number in part.outside:
            found: Pieces = reader.pieces(part.outside[number])
        else:
            start = int(part.counts[:number].sum())
            own = slice(start, start + int(part.counts[number]))
            found = [(part.rows[own], part.marks[own])]
        for rows, marks in found:
            alive = _alive(rows, live)
            yield (rows, marks) if alive is None else (rows[alive], marks[alive])


def _alive(rows: Int64, live: Mask | None) -> NDArray[np.bool_] | None:
    """Which of the rows are in the mask; None if all are."""
    if live is None:
        return None
    alive = np.zeros(len(rows), np.bool_)
    numbers = rows // BLOCK_ROWS
    for block in blocks.distinct(numbers).tolist():
        if block in live:
            here = numbers == block
            alive[here] = blocks.are_set(live[block], rows[here] % BLOCK_ROWS)
    return None if alive.all() else alive
