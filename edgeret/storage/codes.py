"""Codes: the tables `blocks`, `columns` and `tail`: BLOCK_ROWS rows are a full block, word by word; the rest a tail.

A code is uint64 [words]. A deleted row of a full block keeps its code until `zero_dead`; its bit in `live` goes.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import UInt64, words
from edgeret.storage.checksum import are_sound
from edgeret.storage.session import Session

_OCTETS_AT_ONCE: Final = 1 << 15
"""Of the tail's codes, that are read and verified together."""

# The first search after an open waits for the tail, whose rows would take twice as long one by one.
_SOME: Final = (
    "SELECT group_concat(row), CAST(group_concat(crc) AS BLOB), CAST(group_concat(code, '') AS BLOB) FROM tail"
    " WHERE row > ?1 AND row < (SELECT min(row) FROM tail WHERE row > ?1) + ?2"
)


class Codes:
    """The codes as the current transaction of a session sees them. Made anew for each use."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    # -- reading

    def blocks(self, since: int = -1) -> list[tuple[int, int, bytes]]:
        """(block, generation of its codes, live bitmap) of the full blocks changed after generation `since`."""
        found = self._connection.execute(
            "SELECT block, sealed, live FROM blocks WHERE changed > ? ORDER BY block", (since,)
        ).fetchall()
        for block, _, live in found:
            self._check_bitmap(block, live)
        return found

    def live(self, block: int) -> bytes:
        """The bitmap of a full block's live rows."""
        found = self._connection.execute("SELECT live FROM blocks WHERE block = ?", (block,)).fetchone()
        return self._check_bitmap(block, found[0] if found else None)

    def _check_bitmap(self, block: int, live: object) -> bytes:
        if not isinstance(live, bytes) or len(live) != blocks.BLOCK_ROWS // 8:
            raise self._session.damaged(f"block {block} has no bitmap of its rows")
        return live

    def block_numbers(self) -> list[int]:
        """All full blocks, in row order."""
        found = self._connection.execute("SELECT block FROM blocks ORDER BY block").fetchall()
        return [block for (block,) in found]

    def stamp(self, block: int) -> int | None:
        """CRC-32 of a full block's first column, as it was written."""
        found = self._connection.execute(
            "SELECT crc FROM columns WHERE block = ? AND word = 0", (block,)
        ).fetchone()
        return found[0] if found else None

    def columns(self, block: int, into: UInt64 | None = None) -> UInt64:
        """A full block's codes, uint64 [words, BLOCK_ROWS], verified. into: memory to read them to."""
        width = words(self._session.bits)
        codes = np.empty((width, blocks.BLOCK_ROWS), dtype=np.uint64) if into is None else into
        found = 0
        for word, crc, column in self._connection.execute(
            "SELECT word, crc, codes FROM columns WHERE block = ? ORDER BY word", (block,)
        ):
            if word != found or word >= width or not _sound(column, blocks.BLOCK_ROWS * 8, crc):
                raise self._session.damaged(f"the codes of block {block} are not what was written")
            codes[word] = np.frombuffer(column, dtype="<u8")
            found += 1
        if found != width:
            raise self._session.damaged(f"block {block} has {found} of {width} columns")
        return codes

    def tail(self, after: int = -1) -> tuple[NDArray[np.int64], UInt64]:
        """Rows [n] of the tail past row `after` and their codes, uint64 [n, words]."""
        rows, codes = [np.empty(0, np.int64)], bytearray()
        size = words(self._session.bits) * 8
        count = max(_OCTETS_AT_ONCE // size, 1)
        while True:
            read, checksums, own = self._connection.execute(_SOME, (after, count)).fetchone()
            some = _numbers(read)
            if not len(some):
                break
            # Each part begins behind the one before it: with rows out of order that would never end.
            if some[0] <= after or (np.diff(some) <= 0).any():
                raise self._session.damaged("the rows of the tail are not in order")
            if not are_sound(own, checksums, size, len(some)):
                raise self._session.damaged(self._unsound(after, size))
            rows.append(some)
            codes += own
            after = int(some[-1])
        return np.concatenate(rows), np.frombuffer(codes, dtype="<u8").reshape(-1, size // 8)

    def _unsound(self, after: int, size: int) -> str:
        """What is not as it was written in the tail past row `after`."""
        for row, crc, code in self._connection.execute(
            "SELECT row, crc, code FROM tail WHERE row > ? ORDER BY row", (after,)
        ):
            if not _sound(code, size, crc):
                return f"the code of row {row} is not what was written"
        return f"the codes after row {after} are not what was written"

    def tail_rows(self, after: int) -> NDArray[np.int64]:
        """Rows [n] of the tail past row `after`, their codes unseen."""
        (read,) = self._connection.execute(
            "SELECT group_concat(row) FROM (SELECT row FROM tail WHERE row > ? ORDER BY row)", (after,)
        ).fetchone()
        return _numbers(read)

    def sparse(self, share: float) -> Iterator[tuple[int, list[int], UInt64]]:
        """Full blocks with a smaller share of live rows: the block, these rows, their codes, uint64 [words, n]."""
        for block, _, live in self.blocks():
            alive = blocks.offsets(live)
            if len(alive) < share * blocks.BLOCK_ROWS:
                yield block, (alive + block * blocks.BLOCK_ROWS).tolist(), self.columns(block)[:, alive]

    # -- writing. generation: of the current change, by which readers know what they must read again

    def append(self, row: int, code: UInt64) -> None:
        """Put the code of a row, uint64 [words], behind all others."""
        octets = code.astype("<u8").tobytes()
        self._connection.execute("INSERT INTO tail VALUES (?, ?, ?)", (row, zlib.crc32(octets), octets))

    def make_block(self, block: int, generation: int) -> None:
        """Turn the tail into a block: the one whose last row has just got its number."""
        rows, tail = self.tail()
        if (rows // blocks.BLOCK_ROWS != block).any():
            raise self._session.damaged(f"the tail holds rows outside of block {block}")
        codes = np.zeros((words(self._session.bits), blocks.BLOCK_ROWS), dtype=np.uint64)
        codes[:, rows - block * blocks.BLOCK_ROWS] = tail.T
        live = np.zeros(blocks.BLOCK_ROWS, dtype=np.bool_)
        live[rows - block * blocks.BLOCK_ROWS] = True
        bitmap = blocks.pack(live).tobytes()
        self._connection.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?)", (block, generation, generation, bitmap)
        )
        self._write_columns(block, codes)
        self._connection.execute("DELETE FROM tail")

    def drop(self, rows: Sequence[int], generation: int) -> bool:
        """Take rows, in ascending order, out of what is searched; whether any were in the tail."""
        dropped = [
            self._drop(block, list(own), generation)
            for block, own in itertools.groupby(rows, lambda row: row // blocks.BLOCK_ROWS)
        ]
        return any(dropped)

    def _drop(self, block: int, rows: list[int], generation: int) -> bool:
        """Take rows of one block out of the tail, or clear their bits if the block is sealed."""
        dropped = self._connection.execute(
            "DELETE FROM tail WHERE row IN (SELECT value FROM json_each(?))", (json.dumps(rows),)
        ).rowcount
        if dropped < len(rows):
            live = np.frombuffer(self.live(block), np.uint8).copy()
            blocks.drop(live, np.array(rows) - block * blocks.BLOCK_ROWS)
            self._connection.execute(
                "UPDATE blocks SET live = ?, changed = ? WHERE block = ?", (live.tobytes(), generation, block)
            )
        return dropped > 0

    def remove_block(self, block: int) -> None:
        """Drop a full block and its codes."""
        self._connection.execute("DELETE FROM columns WHERE block = ?", (block,))
        self._connection.execute("DELETE FROM blocks WHERE block = ?", (block,))

    def clear(self) -> None:
        """Drop all codes."""
        for table in ("columns", "blocks", "tail"):
            self._connection.execute(f"DELETE FROM {table}")

    def zero_dead(self, generation: int) -> None:
        """Overwrite the codes of deleted rows in full blocks."""
        for block, _, live in self.blocks():
            alive = blocks.unpack(live)
            codes = self.columns(block)
            if codes[:, ~alive].any():
                codes[:, ~alive] = 0
                self._replace_block(block, codes, generation)

    def rewrite(
        self,
        width: int,
        next_row: int,
        generation: int,
        made: Callable[[int, int], Iterable[tuple[NDArray[np.int64], UInt64]]],
    ) -> Generator[int, None, bool]:
        """Give every row another code, one full block after the other, then the tail.

        width: words of such a code. made: gives the rows from one number to before another that have passages, some
        at a time, with their codes, uint64 [n, width]. Yields how many rows were done since the last time;
        returns whether there was a tail. Raises CorruptIndexError unless they are the rows that have codes.
        """
        for block in self.block_numbers():
            first = block * blocks.BLOCK_ROWS
            codes = np.zeros((width, blocks.BLOCK_ROWS), dtype=np.uint64)
            found = np.zeros(blocks.BLOCK_ROWS, dtype=np.bool_)
            for rows, encoded in made(first, first + blocks.BLOCK_ROWS):
                codes[:, rows - first] = encoded.T
                found[rows - first] = True
                yield len(rows)
            if blocks.pack(found).tobytes() != self.live(block):
                raise self._session.damaged(f"the passages of block {block} are not those with a code")
            self._replace_block(block, codes, generation)
        (size,) = self._connection.execute("SELECT count(*) FROM tail").fetchone()
        unknown = size
        for rows, encoded in made(next_row - next_row % blocks.BLOCK_ROWS, next_row):
            self._replace_tail(rows, encoded)
            unknown -= len(rows)
            yield len(rows)
        if unknown:
            raise self._session.damaged(f"the tail has codes of {unknown} rows without a passage")
        return bool(size)

    def _replace_block(self, block: int, codes: UInt64, generation: int) -> None:
        """Give a full block other codes, uint64 [words, BLOCK_ROWS]."""
        self._connection.execute("DELETE FROM columns WHERE block = ? AND word >= ?", (block, len(codes)))
        self._write_columns(block, codes)
        self._connection.execute(
            "UPDATE blocks SET sealed = ?, changed = ? WHERE block = ?", (generation, generation, block)
        )

    def _write_columns(self, block: int, codes: UInt64) -> None:
        """Write a block's codes, uint64 [words, BLOCK_ROWS], as one BLOB for each word."""
        for word, column in enumerate(codes):
            octets = column.astype("<u8").tobytes()
            self._connection.execute(
                "INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)",
                (block, word, zlib.crc32(octets), octets),
            )

    def _replace_tail(self, rows: NDArray[np.int64], codes: UInt64) -> None:
        """Give rows [n] of the tail other codes, uint64 [n, words]. Raises CorruptIndexError if it lacks one."""
        octets = [code.tobytes() for code in codes.astype("<u8")]
        replaced = self._connection.executemany(
            "UPDATE tail SET crc = ?, code = ? WHERE row = ?",
            ((zlib.crc32(code), code, row) for code, row in zip(octets, rows.tolist(), strict=True)),
        ).rowcount
        if replaced != len(rows):
            raise self._session.damaged(f"the tail lacks codes of {len(rows) - replaced} passages")


def _sound(content: object, size: int, crc: object) -> bool:
    return isinstance(content, bytes) and len(content) == size and zlib.crc32(content) == crc


def _numbers(told: str | None) -> NDArray[np.int64]:
    """Numbers with commas between them, as SQLite writes them; None if there are none."""
    return np.empty(0, np.int64) if told is None else np.fromstring(told, np.int64, sep=",")
