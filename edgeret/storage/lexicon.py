"""Lexicon: which words stand in which rows, in the index file: added, taken out, merged, searched and verified.

docs/lexicon.md describes the tables byte by byte, and why they are as they are.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from heapq import merge, nsmallest
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks, bm25, postings
from edgeret.blocks import BLOCK_ROWS, Bitmap, Mask
from edgeret.errors import CorruptIndexError, InvalidQueryError
from edgeret.postings import Int64, UInt8, UInt32, Word
from edgeret.storage.checksum import checksum
from edgeret.storage.terms import (
    Batch,
    Damaged,
    Entry,
    Reader,
    Segment,
    Writer,
    find_all,
    list_keys,
    merged,
    parse,
    read_lists,
    segment_checksum,
    sound,
)
from edgeret.words import MOST_ASKED, Wanted

MAX_WORDS: Final = 24
"""Of a query's words, the rarest so many count."""

MAX_TIMES: Final = 4
"""A word that a query repeats counts so often at the most."""

MAX_EXPANDED: Final = 64
"""Of the terms that begin with a prefix, the most frequent so many count."""

COMMON: Final = 0.1
COMMON_ROWS: Final = 16_384
"""Words in a larger share of the rows, and in more rows than that, do not count while others do."""

TAIL_ROWS: Final = 256
TAIL_OCTETS: Final = 1 << 16
"""What the tail holds at most; then it becomes a segment."""

STEP_OCTETS: Final = 2_000_000
"""What a step of merging writes, about."""

_PAGES_AT_ONCE: Final = 64
"""Of terms, in memory together: each word of a query brings the one that would hold it."""

_PENDING_ROWS: Final = 4096
_RATIO: Final = 4
"""A segment is merged with those after it when they are more than its share of so much."""
_MOST_SEGMENTS: Final = 3
"""So many are left at the most: a query reads a page of each for each of its words."""

_STEM: Final = 3
_ENDING: Final = 8
"""Letters that a stem has at the least, and those that a word has behind it at the most, as far as it is typed."""

_SCANNED: Final = 4096
"""Terms that begin with a prefix and are looked at, in their order."""

_PAGES_OF: Final = (
    "SELECT asked.key, page, crc, entries FROM json_each(?) AS asked CROSS JOIN lexicon_terms ON page ="
    " (SELECT page FROM lexicon_terms WHERE segment = ? AND first <= CAST(asked.value AS BLOB)"
    " ORDER BY first DESC LIMIT 1)"
)
"""The page of a segment that would hold each term."""

_COUNT: Final = struct.Struct("<I")

_SCHEMA: Final = """
CREATE TABLE lexicon_state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  stamp INTEGER NOT NULL,
  next_segment INTEGER NOT NULL,
  end_row INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  length INTEGER NOT NULL,
  tail INTEGER NOT NULL,
  tail_octets INTEGER NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE lexicon_tail (entry INTEGER PRIMARY KEY, crc INTEGER NOT NULL, words BLOB NOT NULL);
CREATE TABLE lexicon_segments (
  segment INTEGER PRIMARY KEY,
  first_row INTEGER NOT NULL,
  end_row INTEGER NOT NULL,
  octets INTEGER NOT NULL,
  pages INTEGER NOT NULL,
  lists INTEGER NOT NULL,
  moving INTEGER NOT NULL,
  begins BLOB NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE lexicon_terms (
  page INTEGER PRIMARY KEY,
  segment INTEGER NOT NULL,
  first BLOB NOT NULL,
  crc INTEGER NOT NULL,
  entries BLOB NOT NULL
);
CREATE UNIQUE INDEX lexicon_fences ON lexicon_terms (segment, first);
CREATE TABLE lexicon_lists (list INTEGER PRIMARY KEY, crc INTEGER NOT NULL, rows BLOB NOT NULL)
"""


class Used(NamedTuple):
    """What a word of a query counted.

    rows: live ones that have it; at least so many, of a word that is left out because too many have it. weight: 0 if it
    was left out.
    """

    term: str
    rows: int
    weight: int


class Reads(NamedTuple):
    """What a search read. runs: pieces that need not lie one behind the other in the file."""

    octets: int
    runs: int


class Found(NamedTuple):
    """What a search finds.

    rows: int64 [n], best first, ties by row. scores: uint32 [n]. must_scores: uint32, of the rows that had to be
    scored. most: what no row can score more than; a score divided by it is comparable between queries. evidence: that
    in words that only one row has. words: what each word counted, as it was asked. added, skipped: rows of lists that
    were added up, and that did not need to be.
    """

    rows: Int64
    scores: UInt32
    must_scores: UInt32
    most: int
    evidence: float
    words: list[Used]
    reads: Reads
    added: int
    skipped: int


class Summary(NamedTuple):
    """The size of a lexicon.

    rows, length: live rows and their words. octets: of segments. segments: those there are. tail: entries of the tail.
    """

    rows: int
    length: int
    octets: int
    segments: int
    tail: int


def statements() -> list[str]:
    """What makes the tables of an empty lexicon."""
    return _SCHEMA.strip().split(";\n")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty lexicon."""
    for statement in statements():
        connection.execute(statement)
    fill(connection)


def fill(connection: sqlite3.Connection) -> None:
    """Write the first counters."""
    empty = _State(0, 1, 0, 0, 0, 0, 0)
    connection.execute(
        "INSERT INTO lexicon_state VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", (*empty, checksum(*empty))
    )


class _State(NamedTuple):
    stamp: int
    next_segment: int
    end_row: int
    rows: int
    length: int
    tail: int
    tail_octets: int


def _no_lexicon(what: str) -> CorruptIndexError:
    return CorruptIndexError(f"the lexicon is damaged ({what}): restore a backup, or build it again")


class _Line(NamedTuple):
    """What the tail says of a row: its terms, joined by line feeds, and a mark for each."""

    entry: int
    names: bytes
    marks: bytes

    def packed(self) -> bytes:
        return _COUNT.pack(len(self.marks)) + self.marks + self.names

    @staticmethod
    def unpacked(entry: int, content: bytes) -> _Line:
        (count,) = _COUNT.unpack_from(content)
        marks, names = content[_COUNT.size : _COUNT.size + count], content[_COUNT.size + count :]
        if len(marks) != count or (names.count(b"\n") + 1 if names else 0) != count:
            raise ValueError(f"expected {count} words")
        return _Line(entry, names, marks)


class Lexicon:
    """The words of one index file, on a connection whose transactions others begin and end.

    Rows are added in ascending order. What was added or removed is written by `flush`, which comes before each commit;
    `forget` drops it instead, after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection, damaged: Damaged = _no_lexicon) -> None:
        self.connection = connection
        self.damaged = damaged
        self._added: dict[int, _Line] = {}
        self._removed: dict[int, _Line] = {}
        self._rows = 0
        self._length = 0
        self._tail = _Tail()

    # -- writing

    def add(self, row: int, words: Iterable[str]) -> None:
        """Add the words of a row, greater than every row before."""
        counts: dict[str, int] = {}
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        length = sum(counts.values())
        self._added[row] = _Line(row, "\n".join(counts).encode(), bm25.marks(counts.values(), length))
        self._rows += 1
        self._length += length
        if len(self._added) >= _PENDING_ROWS:
            self.flush()

    def remove(self, row: int, words: Iterable[str]) -> None:
        """Take out the words of a row, those that were added. It may be found until the mask leaves it out."""
        counts = Counter(words)
        if self._added.pop(row, None) is None:
            self._removed[row] = _Line(-1 - row, "\n".join(counts).encode(), bytes(len(counts)))
        self._rows -= 1
        self._length -= counts.total()
        if len(self._removed) >= _PENDING_ROWS:
            self.flush()

    def forget(self) -> None:
        """Drop what was added and removed since the last `flush`, as a rollback does with what was written."""
        self._added, self._removed = {}, {}
        self._rows = self._length = 0

    def flush(self, seal: bool = False) -> int:
        """Write what was added and removed, into the tail or, if that is full, a new segment; octets written.

        seal: leave nothing in the tail.
        """
        state = self._state()
        if self._added and min(self._added) < state.end_row:
            raise InvalidQueryError(
                f"expected rows from {state.end_row} on, got {min(self._added)}: rows of the lexicon ascend"
            )
        state = state._replace(rows=state.rows + self._rows, length=state.length + self._length)
        if state.rows < 0 or state.length < 0:
            raise self.damaged(f"it would have {state.rows} rows of {state.length} words")
        state = self._drop_from_tail(state)
        lines = [self._added[row] for row in sorted(self._added)]
        lines += [self._removed[row] for row in sorted(self._removed)]
        octets = sum(len(line.names) + len(line.marks) for line in lines)
        end_row = max(self._added, default=state.end_row - 1) + 1
        state = state._replace(end_row=max(state.end_row, end_row))
        fits = state.tail + len(lines) <= TAIL_ROWS and state.tail_octets + octets <= TAIL_OCTETS
        if seal or not fits:
            state, octets = self._seal(state, lines)
        else:
            state, octets = self._append(state, lines)
        self._write_state(state)
        self.forget()
        return octets

    def merge(self, live: Mask | None, octets: int = STEP_OCTETS, fewest: int = 2) -> bool:
        """Go on with merging segments, until about so many octets are written; whether there is more to do.

        live: rows that are not removed, others' postings are left out; None: leave out none. fewest: begin only with so
        many segments at once, which writes less in all and leaves more to read. After `flush`.
        """
        while octets > 0:
            segments = self._segments()
            sources = self._next_sources(segments, fewest)
            if not sources:
                return False
            octets -= self._step(sources, segments, live, octets)
        return self.is_due(fewest)

    def is_due(self, fewest: int = 2) -> bool:
        """Whether `merge` has anything to do."""
        return bool(self._next_sources(self._segments(), fewest))

    def rewrite(self, live: Mask | None) -> None:
        """Merge all into one segment, whatever it takes: nothing of what was removed stays. live: as for `merge`."""
        self.flush(seal=True)
        segments = self._segments()
        if not segments:
            return
        target = self._new_segment(min(segment.first_row for segment in segments), self._state().end_row)
        for segment in segments:
            self._write_segment(segment._replace(moving=target.segment))
        while True:
            segments = self._segments()
            sources = [segment for segment in segments if segment.moving]
            if not sources:
                return
            self._step(sources, segments, live, STEP_OCTETS)

    def clear(self, end_row: int | None = None) -> None:
        """Drop all words of all rows. end_row: the next rows are not below it; None: not below those before."""
        self.forget()
        for table in ("tail", "segments", "terms", "lists"):
            self.connection.execute(f"DELETE FROM lexicon_{table}")
        state = self._state()
        state = _State(
            checksum(state.stamp),
            state.next_segment,
            state.end_row if end_row is None else end_row,
            *(0, 0, 0, 0),
        )
        self._write_state(state)

    def _drop_from_tail(self, state: _State) -> _State:
        for row in sorted(self._removed):
            found = self.connection.execute(
                "SELECT length(words) FROM lexicon_tail WHERE entry = ?", (row,)
            ).fetchone()
            if found is None:
                continue
            self.connection.execute("DELETE FROM lexicon_tail WHERE entry = ?", (row,))
            del self._removed[row]
            state = state._replace(
                stamp=checksum(state.stamp, row),
                tail=state.tail - 1,
                tail_octets=state.tail_octets - found[0],
            )
        return state

    def _append(self, state: _State, lines: list[_Line]) -> tuple[_State, int]:
        written, stamp = 0, state.stamp
        for line in lines:
            content = line.packed()
            crc = checksum(line.entry, content=content)
            self.connection.execute("INSERT INTO lexicon_tail VALUES (?, ?, ?)", (line.entry, crc, content))
            stamp = checksum(stamp, line.entry, crc)
            written += len(content)
        return (
            state._replace(
                stamp=stamp, tail=state.tail + len(lines), tail_octets=state.tail_octets + written
            ),
            written,
        )

    def _seal(self, state: _State, lines: list[_Line]) -> tuple[_State, int]:
        """Make a segment of the tail and of what was added and removed."""
        lines = [*self._read_tail(), *lines]
        if not lines:
            return state, 0
        # Removals last: what is before them are the words of rows, which ascend.
        lines.sort(key=lambda line: (line.entry < 0, line.entry))
        added = [line for line in lines if line.entry >= 0]
        names, given = postings.group([line.names for line in lines])
        count = int(given.max(initial=-1)) + 1
        rows = np.repeat(
            np.array([line.entry for line in added], np.int64), [len(line.marks) for line in added]
        )
        owners, leaving = given[: len(rows)], given[len(rows) :]
        counts = np.bincount(owners, minlength=count)
        marks = np.frombuffer(b"".join(line.marks for line in added), np.uint8)
        # Rows ascend, and stay in their order.
        order = np.argsort(owners, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        nets = counts - np.bincount(leaving, minlength=count)
        first_row = added[0].entry if added else state.end_row
        segment = Segment(state.next_segment, first_row, state.end_row, 0, 0, 0, 0, b"")
        writer = Writer(self.connection, segment)
        writer.add(Batch(names, nets, starts, rows[order], marks[order], {}))
        segment = writer.finish()
        if segment.pages:
            self._write_segment(segment)
        self.connection.execute("DELETE FROM lexicon_tail")
        return (
            state._replace(
                stamp=checksum(state.stamp, segment.segment),
                next_segment=state.next_segment + 1,
                tail=0,
                tail_octets=0,
            ),
            writer.written,
        )

    def _next_sources(self, segments: list[Segment], fewest: int) -> list[Segment]:
        """The segments whose merge goes on, or begins; none if nothing is to be merged."""
        targets = {segment.moving for segment in segments if segment.moving}
        last = max((segment.place for segment in segments if segment.segment in targets), default=None)
        free = [
            segment
            for segment in segments
            if not segment.moving
            and segment.segment not in targets
            and (last is None or segment.place > last)
        ]
        after = 0
        begins = None
        for number in range(len(free) - 1, -1, -1):
            is_due = free[number].octets < _RATIO * after or (number >= _MOST_SEGMENTS - 1 and after > 0)
            if is_due and len(free) - number >= fewest:
                begins = number
            after += free[number].octets
        if begins is not None:
            return free[begins:]
        if last is None:
            return []
        return [segment for segment in segments if segment.moving == last[2]]

    def _step(self, sources: list[Segment], segments: list[Segment], live: Mask | None, octets: int) -> int:
        """Merge consecutive terms of the sources into their target, about so many octets; octets written."""
        if sources[0].moving:
            target = next(segment for segment in segments if segment.segment == sources[0].moving)
        else:
            target = self._new_segment(sources[0].first_row, sources[-1].end_row)
            sources = [source._replace(moving=target.segment) for source in sources]
        readers = [Reader(self.connection, source, self.damaged) for source in sources]
        writer = Writer(self.connection, target)
        cut, moved = None, sources
        for batch, cut in merged(readers, live):
            writer.add(batch)
            if cut is not None:
                # Soon, so that what is written next takes their place in the file.
                moved = [reader.drop_below(cut + b"\0") for reader in readers]
                if writer.written >= octets:
                    break
        done = writer.finish()
        if cut is None:
            for reader in readers:
                reader.drop_all()
            if done.pages:
                self._write_segment(done)
            else:
                self._drop_segment(done.segment)
        else:
            for segment in (done, *moved):
                self._write_segment(segment)
        return max(1, writer.written)

    def _new_segment(self, first_row: int, end_row: int) -> Segment:
        state = self._state()
        segment = Segment(state.next_segment, first_row, end_row, 0, 0, 0, 0, b"")
        self._write_state(state._replace(next_segment=state.next_segment + 1))
        self._write_segment(segment)
        return segment

    def _write_state(self, state: _State) -> None:
        self.connection.execute(
            "UPDATE lexicon_state SET stamp = ?, next_segment = ?, end_row = ?, rows = ?, length = ?, tail = ?,"
            " tail_octets = ?, crc = ?",
            (*state, checksum(*state)),
        )

    def _write_segment(self, segment: Segment) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO lexicon_segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*segment, segment_checksum(segment)),
        )

    def _drop_segment(self, number: int) -> None:
        self.connection.execute("DELETE FROM lexicon_segments WHERE segment = ?", (number,))

    # -- reading

    def summary(self) -> Summary:
        """How much there is."""
        state, segments = self._state(), self._segments()
        return Summary(
            state.rows,
            state.length,
            sum(segment.octets for segment in segments),
            len(segments),
            state.tail,
        )

    def search(
        self, query: Sequence[Wanted], k: int, mask: Mask | None = None, must_rows: Int64 | None = None
    ) -> Found:
        """The k best rows for the words of a query, and the scores of other rows.

        query: words; one that is there twice counts twice, up to MAX_TIMES. mask: rows outside of
        it, dead ones among them, are not found; None: all may be. must_rows: int64 [n], rows whose scores are wanted,
        in the mask or not.

        What was added and not flushed is not searched.
        """
        state, segments = self._state(), self._segments()
        is_known = self._tail.stamp == state.stamp
        reading = _Reading(self, state, segments, self._read_cached_tail(state))
        if not is_known and state.tail:
            reading.octets, reading.runs = self._tail.octets, 1
        asked, counted = reading.words(_distinct(query))
        times = Counter(query)
        weights = {
            word.wanted: bm25.weight(word.rows, state.rows) * min(times[word.wanted], MAX_TIMES)
            for word in counted
        }
        words = [
            Word(weights[word.wanted], lists, word.wanted.is_prefix)
            for word, lists in zip(counted, reading.lists(counted), strict=True)
            if lists
        ]
        must = np.empty(0, np.int64) if must_rows is None else must_rows
        distinct, places = must, np.arange(len(must))
        if (must[1:] <= must[:-1]).any():
            distinct, places = np.unique(must, return_inverse=True)
        try:
            best = postings.top_k(words, k, bm25.impacts(state.rows, state.length), mask, distinct)
        except InvalidQueryError as error:
            raise self._translated(error) from error
        together = max(sum(weights.values()), bm25.least(state.rows))
        return Found(
            best.rows,
            best.scores,
            best.must_scores[places],
            bm25.IMPACT * together,
            together / bm25.weight(1, state.rows),
            [Used(word.wanted.term, word.rows, weights.get(word.wanted, 0)) for word in asked],
            Reads(reading.octets, reading.runs),
            best.added,
            best.skipped,
        )

    def verify(self, texts: Callable[[], Iterable[tuple[int, Iterable[str]]]]) -> None:
        """Raise CorruptIndexError unless the lexicon is what these rows, all live ones, and their words make.

        texts: gives them; called, not handed over, since a traceback that somebody keeps would keep what reads them.
        Memory does not grow with their number, but for a bit a row.
        """
        state = self._state()
        live: dict[int, Bitmap] = {}
        rows = length = expected = 0
        for row, words in texts():
            bits = live.setdefault(row // BLOCK_ROWS, np.zeros(BLOCK_ROWS // 8, np.uint8))
            if not blocks.choose_new(bits, np.array([row % BLOCK_ROWS])):
                raise self.damaged(f"row {row} is there twice")
            counts = Counter(words)
            size = counts.total()
            rows, length = rows + 1, length + size
            terms = np.array([_hash(term.encode()) for term in counts], np.uint64)
            marks = np.frombuffer(bm25.marks(counts.values(), size), np.uint8)
            expected += _mixed(terms, np.full(len(terms), row), marks)
        if (state.rows, state.length) != (rows, length):
            raise self.damaged(
                f"it counts {state.rows} rows of {state.length} words, and there are {rows} of {length}"
            )
        _Check(self, state, live).run(expected)

    def _translated(self, error: InvalidQueryError) -> Exception:
        return self.damaged("a list of rows is not what was written") if "damaged" in str(error) else error

    def _state(self) -> _State:
        found = self.connection.execute(
            "SELECT stamp, next_segment, end_row, rows, length, tail, tail_octets, crc FROM lexicon_state"
        ).fetchone()
        if found is None or not all(isinstance(value, int) for value in found):
            raise self.damaged("its counters are missing")
        if checksum(*found[:-1]) != found[-1]:
            raise self.damaged("its counters are not what was written")
        return _State(*found[:-1])

    def _segments(self) -> list[Segment]:
        """All segments, in the order of their rows."""
        found = []
        for row in self.connection.execute(
            "SELECT segment, first_row, end_row, octets, pages, lists, moving, begins, crc FROM lexicon_segments"
        ):
            segment = Segment(*row[:-1])
            numbers = all(isinstance(value, int) for value in row[:-2])
            if not numbers or not isinstance(segment.begins, bytes) or segment_checksum(segment) != row[-1]:
                raise self.damaged("a segment is not what was written")
            found.append(segment)
        return sorted(found, key=lambda segment: segment.place)

    def _read_tail(self) -> list[_Line]:
        found = self.connection.execute(
            "SELECT entry, crc, words FROM lexicon_tail ORDER BY entry"
        ).fetchall()
        return [self._line(*line) for line in found]

    def _line(self, entry: int, crc: int, content: object) -> _Line:
        if not isinstance(content, bytes) or checksum(entry, content=content) != crc:
            raise self.damaged(f"an entry of its tail, {entry}, is not what was written")
        try:
            return _Line.unpacked(entry, content)
        except (ValueError, struct.error) as error:
            raise self.damaged(f"an entry of its tail, {entry}, holds no words") from error

    def _read_cached_tail(self, state: _State) -> _Tail:
        if self._tail.stamp != state.stamp:
            found = self.connection.execute(
                "SELECT entry, crc, words FROM lexicon_tail ORDER BY entry"
            ).fetchall()
            self._tail.renew(state.stamp, found, self._line)
        return self._tail


class _Tail:
    """The tail by term: what an unchanged one was read as before."""

    def __init__(self) -> None:
        self.stamp = -1
        self.octets = 0
        self._entries: set[tuple[int, int]] = set()
        self.rows: dict[str, list[tuple[int, int]]] = {}
        self.removed: Counter[str] = Counter()

    def renew(
        self,
        stamp: int,
        lines: list[tuple[int, int, bytes]],
        unpack: Callable[[int, int, bytes], _Line],
    ) -> None:
        entries = {line[:2] for line in lines}
        if not self._entries <= entries:
            self._entries, self.rows, self.removed = set(), {}, Counter()
        for line in lines:
            if line[:2] in self._entries:
                continue
            entry, names, marks = unpack(*line)
            terms = names.decode(errors="replace").split("\n") if names else []
            if entry < 0:
                self.removed.update(terms)
                continue
            for term, own in zip(terms, marks, strict=True):
                self.rows.setdefault(term, []).append((entry, own))
        self._entries = entries
        self.octets = sum(len(content) for _, _, content in lines)
        self.stamp = stamp

    def net(self, term: str) -> int:
        return len(self.rows.get(term, ())) - self.removed.get(term, 0)

    def lists(self, terms: list[str]) -> Iterator[bytes]:
        """The lists of terms that have rows here, packed."""
        for term in terms:
            rows, marks = zip(*self.rows[term], strict=True)
            starts = np.array([0, len(rows)])
            yield postings.encode(starts, np.array(rows, np.int64), np.array(marks, np.uint8))[0]

    def beginning(self, prefix: str) -> list[tuple[bytes, int]]:
        """Terms that begin so, in order, and what they count."""
        found = {term for term in (*self.rows, *self.removed) if term.startswith(prefix)}
        return [(term.encode(), self.net(term)) for term in sorted(found)]


class _Asked(NamedTuple):
    """A word of a query as it was found. rows: live ones. entries: in segments. tail: its terms there.

    is_whole: whether all of it was looked for; if not, so many rows have it at the least.
    """

    wanted: Wanted
    rows: int
    entries: list[tuple[Segment, Entry]]
    tail: list[str]
    is_whole: bool = True


class _Reading:
    """Reads what one search needs, and counts it."""

    def __init__(self, lexicon: Lexicon, state: _State, segments: list[Segment], tail: _Tail) -> None:
        self.connection = lexicon.connection
        self.damaged = lexicon.damaged
        self.rows = state.rows
        self.segments = segments
        self.tail = tail
        self.octets = 0
        self.runs = 0
        self._removed = state.end_row - state.rows
        self._seen: set[int] = set()

    def words(self, query: Sequence[Wanted]) -> tuple[list[_Asked], list[_Asked]]:
        """What there is of each word, and of those that count.

        The largest segment often tells that a word is too common to count beside others: it is not looked for in more.
        """
        most = max(int(COMMON * self.rows), COMMON_ROWS)
        asked = self._looked_up(query, most)
        counted = [word for word in _rarest(asked) if word.rows <= most]
        if any(word.rows for word in counted):
            return asked, counted
        if not all(word.is_whole for word in asked):
            asked = self._looked_up(query, self.rows)
        return asked, _rarest(asked)

    def _looked_up(self, query: Sequence[Wanted], most: int) -> list[_Asked]:
        """What there is of each word, or of one that more than `most` rows have, enough to tell so."""
        exact = [wanted for wanted in query if not wanted.is_prefix]
        entries: dict[Wanted, list[tuple[Segment, Entry]]] = {wanted: [] for wanted in exact}
        left = exact
        for segment in sorted(self.segments, key=lambda segment: -segment.octets):
            left = [wanted for wanted in left if self._least(entries[wanted]) <= most]
            for first in range(0, len(left), _PAGES_AT_ONCE):
                self._look_up(segment, left[first : first + _PAGES_AT_ONCE], entries)
        whole = set(left)
        asked = [
            self._expanded(wanted)
            if wanted.is_prefix
            else self._exact(wanted, entries[wanted], wanted in whole)
            for wanted in query
        ]
        for word in asked:
            if not 0 <= word.rows <= self.rows:
                raise self.damaged(f"{word.rows} of {self.rows} rows have {word.wanted.term!r:.80}")
        return asked

    def _look_up(
        self, segment: Segment, words: list[Wanted], entries: dict[Wanted, list[tuple[Segment, Entry]]]
    ) -> None:
        """Add what a segment has of the words."""
        terms = tuple(wanted.term.encode() for wanted in words)
        asked = json.dumps([wanted.term for wanted in words])
        lines = self.connection.execute(_PAGES_OF, (asked, segment.segment)).fetchall()
        if segment.begins:
            lines = [line for line in lines if terms[line[0]] >= segment.begins]
        for (number, page, _, content), entry in zip(
            lines, find_all(lines, terms, self.damaged), strict=True
        ):
            self._count(page, content)
            if entry is not None:
                entries[words[number]].append((segment, entry))

    def _least(self, entries: list[tuple[Segment, Entry]]) -> int:
        """How many live rows have a word at the least, of which more entries may follow: some may take rows out."""
        return sum(entry.net for _, entry in entries) - self._removed

    def _exact(self, wanted: Wanted, entries: list[tuple[Segment, Entry]], is_whole: bool) -> _Asked:
        if not is_whole:
            return _Asked(wanted, self._least(entries), [], [], is_whole)
        net = self.tail.net(wanted.term) + sum(entry.net for _, entry in entries)
        return _Asked(wanted, net, entries, [wanted.term] if wanted.term in self.tail.rows else [])

    def _count(self, page: int, content: bytes) -> None:
        """Count a page once."""
        if page not in self._seen:
            self._seen.add(page)
            self.octets += len(content)
            self.runs += 1

    def _expanded(self, wanted: Wanted) -> _Asked:
        """All terms that begin with a prefix: a word that stands where one of them does."""
        prefix = wanted.term.encode()
        nets: dict[bytes, int] = {}
        entries: dict[bytes, list[tuple[Segment, Entry]]] = {}
        sources: list[Iterable[tuple[bytes, int, tuple[Segment, Entry] | None]]] = [
            ((name, net, None) for name, net in self.tail.beginning(wanted.term)),
            *(self._beginning(segment, prefix) for segment in self.segments),
        ]
        seen, last = 0, None
        for name, net, entry in merge(*sources, key=lambda found: found[0]):
            if name != last:
                seen += last is not None and nets[last] > 0
                if seen == _SCANNED:
                    break
                last = name
            nets[name] = nets.get(name, 0) + net
            if entry is not None:
                entries.setdefault(name, []).append(entry)
        chosen = nsmallest(
            MAX_EXPANDED, (name for name in nets if nets[name] > 0), lambda name: (-nets[name], name)
        )
        if not chosen:
            return self._begun(wanted)
        rows = min(sum(nets[name] for name in chosen), self.rows)
        terms = [name.decode(errors="replace") for name in chosen]
        return _Asked(
            wanted,
            rows,
            [entry for name in chosen for entry in entries.get(name, ())],
            [term for term in terms if term in self.tail.rows],
        )

    def _begun(self, wanted: Wanted) -> _Asked:
        """The longest term that a prefix begins with: more may be typed of a word than its stem has."""
        length = len(wanted.term)
        stops = range(length - 1, max(_STEM, length - _ENDING) - 1, -1)
        shorter = [Wanted(wanted.term[:stop], False) for stop in stops]
        entries: dict[Wanted, list[tuple[Segment, Entry]]] = {stem: [] for stem in shorter}
        for segment in self.segments if shorter else ():
            self._look_up(segment, shorter, entries)
        found = (self._exact(stem, entries[stem], is_whole=True) for stem in shorter)
        return next((word for word in found if word.rows > 0), _Asked(wanted, 0, [], []))._replace(
            wanted=wanted
        )

    def _beginning(
        self, segment: Segment, prefix: bytes
    ) -> Iterator[tuple[bytes, int, tuple[Segment, Entry]]]:
        found = self.connection.execute(
            "SELECT page FROM lexicon_terms WHERE segment = ? AND first <= ? ORDER BY first DESC LIMIT 1",
            (segment.segment, prefix),
        ).fetchone()
        page = found[0] if found else segment.segment << 32
        while True:
            exists = self.connection.execute(
                "SELECT page, first, crc, entries FROM lexicon_terms WHERE page >= ? AND segment = ?"
                " ORDER BY page LIMIT 1",
                (page, segment.segment),
            ).fetchone()
            if exists is None or (exists[1] > prefix and not exists[1].startswith(prefix)):
                return
            page = exists[0] + 1
            content = sound(exists[0], exists[2], exists[3], self.damaged)
            self._count(exists[0], content)
            parsed = parse(content, self.damaged)
            names = parsed.names.split(b"\n")
            for number in range(bisect_left(names, max(prefix, segment.begins)), len(names)):
                name = names[number]
                if not name.startswith(prefix):
                    return
                entry = parsed.entry(number, self.damaged)
                yield name, entry.net, (segment, entry)

    def lists(self, words: list[_Asked]) -> list[tuple[bytes, ...]]:
        """The lists of each word."""
        keys = [
            [list_keys(segment, entry) for segment, entry in word.entries if entry.rows is None]
            for word in words
        ]
        read = read_lists(
            self.connection, [key for own in keys for several in own for key in several], self.damaged
        )
        self.octets += sum(map(len, read.values()))
        self.runs += sum(map(len, keys))
        return [
            (
                *(entry.rows for _, entry in word.entries if entry.rows),
                *(read[key] for several in own for key in several),
                *self.tail.lists(word.tail),
            )
            for word, own in zip(words, keys, strict=True)
        ]


def _distinct(query: Sequence[Wanted]) -> list[Wanted]:
    """The words that are looked for, each once.

    Of those that stand for all that begin with them the last MAX_WORDS: each is a scan of its own, and no more count.
    """
    found = list(dict.fromkeys(query))[:MOST_ASKED]
    begun = [wanted for wanted in found if wanted.is_prefix]
    left_out = set(begun[:-MAX_WORDS])
    return [wanted for wanted in found if wanted not in left_out]


def _rarest(asked: list[_Asked]) -> list[_Asked]:
    """The words that count if none of them is too common."""
    return sorted(asked, key=lambda word: word.rows)[:MAX_WORDS]


# -- verifying


@lru_cache(maxsize=1 << 11)
def _hash(term: bytes) -> int:
    return int.from_bytes(blake2b(term, digest_size=8).digest(), "little")


def _mixed(terms: NDArray[np.uint64], rows: Int64, marks: UInt8) -> int:
    """A sum over postings that does not depend on their order."""
    mixed = terms ^ (rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + marks.astype(np.uint64))
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return int((mixed ^ (mixed >> np.uint64(29))).sum(dtype=np.uint64))


class _Check:
    """Compares a lexicon with the sum of what it should hold."""

    def __init__(self, lexicon: Lexicon, state: _State, live: Mask) -> None:
        self.lexicon = lexicon
        self.state = state
        self.live = live
        self.damaged = lexicon.damaged
        self.found = 0
        self.tail = _Tail()

    def run(self, expected: int) -> None:
        lexicon, connection = self.lexicon, self.lexicon.connection
        lines = connection.execute("SELECT entry, crc, words FROM lexicon_tail ORDER BY entry").fetchall()
        self.tail.renew(self.state.stamp, lines, lexicon._line)
        if (self.state.tail, self.state.tail_octets) != (len(lines), self.tail.octets):
            raise self.damaged(f"its tail has {len(lines)} entries of {self.state.tail}")
        segments = lexicon._segments()
        self._check_fences(segments)
        readers = [Reader(connection, segment, self.damaged) for segment in segments]
        last = b""
        for batch, _ in merged(readers, self.live):
            if batch.names.partition(b"\n")[0] < last:
                raise self.damaged("its terms are out of order")
            last = batch.names.rpartition(b"\n")[2]
            self._take(batch)
        for term in {*self.tail.rows, *self.tail.removed}:
            self._count(term.encode(), 0, np.empty(0, np.int64), np.empty(0, np.uint8))
        if self.found % 2**64 != expected % 2**64:
            raise self.damaged("its words are not those of the texts")

    def _check_fences(self, segments: list[Segment]) -> None:
        known = {segment.segment for segment in segments}
        before, last = 0, b""
        for page, number, first, crc, entries in self.lexicon.connection.execute(
            "SELECT page, segment, first, crc, entries FROM lexicon_terms ORDER BY page"
        ):
            names = parse(sound(page, crc, entries, self.damaged), self.damaged).names.split(b"\n")
            if number != before:
                before, last = number, b""
            in_order = all(one < other for one, other in pairwise([last, *names]))
            if page >> 32 != number or number not in known or first != names[0] or not in_order:
                raise self.damaged("a page of its terms is out of place")
            last = names[-1]

    def _take(self, batch: Batch) -> None:
        for number, (name, start, end) in enumerate(
            zip(batch.names.split(b"\n"), batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True)
        ):
            rows, marks = batch.rows[start:end], batch.marks[start:end]
            net = int(batch.nets[number])
            if number in batch.outside:
                for rows, marks in batch.outside[number]:
                    net -= len(rows)
                    self._add(name, rows, marks)
                rows, marks = rows[:0], marks[:0]
            self._count(name, net, rows, marks)

    def _count(self, name: bytes, net: int, rows: Int64, marks: UInt8) -> None:
        term = name.decode(errors="replace")
        own = self.tail.rows.pop(term, [])
        net += len(own) - self.tail.removed.pop(term, 0)
        own = [(row, value) for row, value in own if self._is_live(row)]
        rows = np.concatenate([rows, np.array([row for row, _ in own], np.int64)])
        marks = np.concatenate([marks, np.array([value for _, value in own], np.uint8)])
        if net != len(rows):
            raise self.damaged(f"it counts {net} rows of {term!r:.80}, and there are {len(rows)}")
        self._add(name, rows, marks)

    def _is_live(self, row: int) -> bool:
        bits = self.live.get(row // BLOCK_ROWS)
        return bits is not None and bool(blocks.are_set(bits, np.array([row % BLOCK_ROWS]))[0])

    def _add(self, name: bytes, rows: Int64, marks: UInt8) -> None:
        if len(rows) and (rows[0] < 0 or (np.diff(rows) <= 0).any() or rows[-1] >= self.state.end_row):
            raise self.damaged(f"the rows of {name.decode(errors='replace')!r:.80} are out of order")
        self.found += _mixed(np.full(len(rows), _hash(name), np.uint64), rows, marks)
