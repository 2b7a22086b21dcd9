"""Partitions: the codes of full blocks once more, near ones side by side, so that a search reads a small share.

An inverted file over coarse centroids (Sivic and Zisserman, ICCV 2003; Jégou et al., TPAMI 2011), kept beside the
index and derived from it: whatever it does not cover, or no longer covers, is scanned as if it were not there.
"""

from __future__ import annotations

import itertools
import math
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks, files
from edgeret.blocks import Mask
from edgeret.codec import Float32, Int32, UInt64, words
from edgeret.errors import PartitionsError
from edgeret.scan import Block, Int64, UInt8, top_k
from edgeret.storage.sides import partitions_of as path_of
from edgeret.storage.store import Counters, Store

PAY_FROM: Final = 3_000_000
"""Rows: fewer are all scanned in no more time than the share of them that partitions read: `docs/partitions.md`."""

# The share of the rows that is scanned, where so many stand for each document wanted, and the power by which it falls:
# .98 of the first ten of the exact scan are found. `python -m benchmarks sublinear --real` is the judge.
_SHARE: Final = 0.44
_SHARE_ROWS: Final = 20_000
_SHARE_POWER: Final = 0.22

_UNEVEN: Final = 4
"""The largest partition, in multiples of the mean; it was 3.7 of a million rows."""

_ROUNDING: Final = 0.01
"""How far the squared length of a centroid may be from 1: its entries have 11 bits."""

_MAGIC: Final = b"edgeret near 1\n\0"
# Magic, words of a code, dims, partitions, blocks, rows, CRC-32 of the head after this line.
_HEAD: Final = Struct("<16sIIIIQI4x")
# Stamps of the blocks, centroids, starts of the partitions, CRC-32s of their places and codes.
_HEAD_TYPES: Final = ("<i8", "<f2", "<i8", "<u4")


class Coverage(NamedTuple):
    """What of the file holds at one generation of the index.

    blocks: those that are as they were. live: uint8 [blocks * BLOCK_ROWS / 8] over all places, zero in other blocks.
    rows: how many that are. whole: whether every row of the file is among them.
    """

    generation: int
    blocks: frozenset[int]
    live: UInt8
    rows: int
    whole: bool


class Near(NamedTuple):
    """The nearest rows that were found, their distances, and how many rows were scanned for them."""

    rows: Int64
    distances: Int32
    scanned: int


def optimal(rows: int) -> int:
    """How many partitions `rows` get: their root, so that finding the nearest ones costs less than scanning them."""
    return max(1, math.isqrt(rows))


def share(rows: int, k: int = 10) -> float:
    """Of `rows` that may be found, the share that is scanned for the `k` nearest.

    The more rows there are for each of them, the nearer they are to the query, and the fewer partitions hold them.
    """
    return min(1.0, _SHARE * math.pow(_SHARE_ROWS * k / max(rows, 1), _SHARE_POWER))


def forecast(rows: int, bits: int, dim: int) -> int:
    """What partitions of `rows` will take in memory, as `Partitions.planned_bytes`."""
    return _planned(rows // blocks.BLOCK_ROWS, optimal(rows), dim, _UNEVEN * optimal(rows), words(bits))


def _planned(sealed: int, count: int, dim: int, largest: int, width: int) -> int:
    # Centroids as stored and as used; stamps and bitmaps; the places and codes of a partition, and of the one before.
    return count * dim * 6 + sealed * (48 + 3 * blocks.BLOCK_ROWS // 8) + largest * (16 * width + 16)


def open_partitions(store: Store) -> tuple[Partitions | None, str]:
    """The partitions of an index, or None and, if they cannot be used, why."""
    path = path_of(store.path)
    if not os.path.lexists(path):
        return None, ""
    try:
        with store.reading() as state:
            return Partitions(path, words(store.bits), store.dim, state.next_row // blocks.BLOCK_ROWS), ""
    except PartitionsError as error:
        return None, str(error)


class Parts(NamedTuple):
    """What a file of partitions holds.

    width: words of a code. stamps: int64 [blocks, 3], a block's number, when it was sealed, and the CRC-32 of its
    first column. centroids: float32 [partitions, dim]. starts: int64 [partitions + 1], their first rows in the
    file. places: uint32 [rows]. codes: uint64 [width * rows], those of a partition word by word.
    """

    width: int
    stamps: Int64
    centroids: Float32
    starts: Int64
    places: NDArray[np.uint32]
    codes: UInt64

    def hold(self, store: Store) -> bool:
        """Whether all blocks are as they were, in the read transaction of `store`."""
        return len(_unchanged(store, self.stamps)) == len(self.stamps)

    def write(self, path: Path) -> None:
        """Write them to a new file, readable by its owner only, and wait until it is on the medium."""
        places, codes = self.places.astype("<u4").data, self.codes.astype("<u8", copy=False).data
        checksums = [
            (zlib.crc32(places[start:stop]), zlib.crc32(codes[self.width * start : self.width * stop]))
            for start, stop in itertools.pairwise(self.starts.tolist())
        ]
        head = b"".join(
            np.asarray(part).astype(dtype).tobytes()
            for part, dtype in zip(
                (self.stamps, self.centroids, self.starts, checksums), _HEAD_TYPES, strict=True
            )
        )
        sizes = (self.width, self.centroids.shape[1], len(self.centroids), len(self.stamps), len(places))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(_HEAD.pack(_MAGIC, *sizes, zlib.crc32(head)))
            file.write(head)
            file.write(places)
            file.write(bytes(4 * (len(places) % 2)))
            file.write(codes)
            file.flush()
            os.fsync(handle)


class Partitions:
    """An open file of partitions. It may be used from any thread.

    A row's place is its number counted over the file's blocks alone. centroids: float32 [partitions, dim].
    """

    def __init__(self, path: Path, width: int, dim: int, most_blocks: int) -> None:
        """Open and verify all but the codes. Raises PartitionsError for a file that is damaged or another index's.

        width: words of a code. most_blocks: how many full blocks the index has had.
        """
        self._path, self._width = path, width
        try:
            stream = files.open_regular(path)
            # No call closes it: another thread's search may be reading.
            weakref.finalize(self, stream.close)
            self._file = stream.fileno()
            size = os.fstat(self._file).st_size
        except OSError as error:
            raise PartitionsError(f"{error}: {_REMEDY}") from error
        magic, found_width, found_dim, count, sealed, rows, crc = _HEAD.unpack(self._read(0, _HEAD.size))
        if magic != _MAGIC or (found_width, found_dim) != (width, dim):
            raise self.damaged("another head")
        # Before memory is taken for them: a head may say anything.
        if sealed > most_blocks or rows > sealed * blocks.BLOCK_ROWS or not 0 < count <= 2 * optimal(rows):
            raise self.damaged(f"{count} partitions of {rows} rows in {sealed} blocks")
        lengths = (24 * sealed, 2 * count * dim, 8 * (count + 1), 8 * count)
        starts = np.cumsum([_HEAD.size, *lengths]).tolist()
        self._places, self._codes = starts[-1], starts[-1] + 4 * (rows + rows % 2)
        if size != self._codes + 8 * width * rows:
            raise self.damaged(f"{size} bytes")
        head = self._read(_HEAD.size, starts[-1] - _HEAD.size)
        if zlib.crc32(head) != crc:
            raise self.damaged("a changed head")
        stamps, centroids, self._starts, checksums = (
            np.frombuffer(head, dtype, offset=start - _HEAD.size, count=length // np.dtype(dtype).itemsize)
            for start, length, dtype in zip(starts, lengths, _HEAD_TYPES, strict=False)
        )
        self._stamps = stamps.reshape(-1, 3)
        numbers = self._stamps[:, 0]
        if (numbers[1:] <= numbers[:-1]).any() or numbers[0] < 0 or numbers[-1] >= most_blocks:
            raise self.damaged("blocks out of order")
        # Compared, not subtracted: differences may wrap around.
        if self._starts[0] != 0 or self._starts[-1] != rows or (self._starts[1:] < self._starts[:-1]).any():
            raise self.damaged("partitions out of order")
        self.centroids: Float32 = centroids.reshape(-1, dim).astype(np.float32)
        lengths_squared = np.einsum("ij,ij->i", self.centroids, self.centroids)
        if not (np.abs(lengths_squared - 1) < _ROUNDING).all():
            raise self.damaged("centroids that are not of unit length")
        self._checksums = checksums.reshape(-1, 2)
        self._sound = np.zeros(self._checksums.shape, dtype=np.bool_)
        self.rows = int(rows)
        self._held = self._read_places(sealed)

    def _read_places(self, sealed: int) -> UInt8:
        """One bit for each place that the file has: uint8 [blocks * BLOCK_ROWS / 8]. No place may be there twice."""
        held = np.zeros(sealed * blocks.BLOCK_ROWS // 8, dtype=np.uint8)
        for number in np.flatnonzero(self._starts[1:] > self._starts[:-1]).tolist():
            places = self._places_of(number)
            if (places[1:] <= places[:-1]).any() or places[-1] >= 8 * len(held):
                raise self.damaged(f"rows of partition {number} out of order")
            if not blocks.choose_new(held, places):
                raise self.damaged(f"rows of partition {number} in another one")
        return held

    @property
    def planned_bytes(self) -> int:
        """What it takes in memory, with what one search reads."""
        largest = int(np.diff(self._starts).max(initial=0))
        count, dim = self.centroids.shape
        return _planned(len(self._stamps), count, dim, largest, self._width)

    def coverage(self, store: Store, state: Counters) -> Coverage:
        """What holds in the read transaction of `store`."""
        live = np.zeros((len(self._stamps), blocks.BLOCK_ROWS // 8), dtype=np.uint8)
        covered = _unchanged(store, self._stamps)
        for number, block in enumerate(self._stamps[:, 0].tolist()):
            if block in covered:
                live[number] = np.frombuffer(covered[block], dtype=np.uint8)
        if (live.reshape(-1) & ~self._held).any():
            raise self.damaged("rows missing")
        rows = int(blocks.unpack(live).sum())
        return Coverage(state.generation, frozenset(covered), live.reshape(-1), rows, rows == self.rows)

    def masked(self, coverage: Coverage, mask: Mask) -> Coverage:
        """The coverage of the rows of a mask alone."""
        live = coverage.live.reshape(-1, blocks.BLOCK_ROWS // 8).copy()
        for number, block in enumerate(self._stamps[:, 0].tolist()):
            live[number] &= mask.get(block, 0)
        rows = int(blocks.unpack(live).sum())
        return coverage._replace(live=live.reshape(-1), rows=rows, whole=rows == self.rows)

    def nearest(self, vector: Float32, planes: UInt64, wanted: int, k: int, coverage: Coverage) -> Near:
        """The nearest of the covered rows, from the partitions whose centroids are nearest.

        vector: float32 [dim]. planes: uint64 [planes, words], the same query for the scan. So many partitions are
        scanned that `share` of the rows that may be found are in them, and at least those wanted: candidates for k
        documents. coverage: whose rows may be found.

        Raises PartitionsError for damage.
        """
        allowed = coverage.live
        enough = min(max(math.ceil(share(coverage.rows, k) * coverage.rows), wanted), coverage.rows)
        chosen: dict[int, UInt8 | None] = {}
        scanned = 0
        for number in np.argsort(-(self.centroids @ vector), kind="stable").tolist():
            if scanned >= enough:
                break
            start, stop = self._starts[number : number + 2].tolist()
            count, live = stop - start, None
            if not coverage.whole:
                alive = _alive(self._places_of(number), allowed)
                count, live = int(alive.sum()), blocks.pack(alive)
            if count:
                chosen[number] = live
                scanned += count
        found, distances = top_k(self._blocks(chosen), planes[None], wanted)
        return Near(self._rows(found[0], allowed), distances[0], scanned)

    def _blocks(self, chosen: dict[int, UInt8 | None]) -> Iterator[Block]:
        for number, live in sorted(chosen.items()):
            yield Block(int(self._starts[number]), self._codes_of(number), live)

    def _rows(self, found: Int64, allowed: UInt8) -> Int64:
        """The rows of codes, by their positions in the file."""
        octets = b"".join(self._read(self._places + 4 * position, 4) for position in found.tolist())
        places = np.frombuffer(octets, dtype="<u4").astype(np.int64)
        if not _alive(places, allowed).all():
            raise self.damaged("rows that are not there")
        rows: Int64 = (
            self._stamps[places // blocks.BLOCK_ROWS, 0] * blocks.BLOCK_ROWS + places % blocks.BLOCK_ROWS
        )
        return rows

    def _places_of(self, number: int) -> NDArray[np.uint32]:
        """A partition's places, uint32 [rows]."""
        return np.frombuffer(self._section(number, 0, self._places, 4), dtype="<u4")

    def _codes_of(self, number: int) -> UInt64:
        """A partition's codes, uint64 [words, rows]."""
        octets = self._section(number, 1, self._codes, 8 * self._width)
        return np.frombuffer(octets, dtype="<u8").reshape(self._width, -1)

    def _section(self, number: int, kind: int, at: int, size: int) -> bytes:
        """What a partition has in the section that begins `at`, `size` bytes a row; verified the first time."""
        start, stop = self._starts[number : number + 2].tolist()
        octets = self._read(at + size * start, size * (stop - start))
        if not self._sound[number, kind]:
            if zlib.crc32(octets) != self._checksums[number, kind]:
                raise self.damaged(f"changed partition {number}")
            self._sound[number, kind] = True
        return octets

    def _read(self, at: int, size: int) -> bytes:
        try:
            # At once: neighbors in a partition are neighbors in the file.
            octets = os.pread(self._file, size, at)
        except OSError as error:
            raise PartitionsError(
                f"expected partitions in '{self._path}', found {error.strerror}: {_REMEDY}"
            ) from error
        if len(octets) != size:
            raise self.damaged("its end")
        return octets

    def damaged(self, found: str) -> PartitionsError:
        """The error for a file that `optimize` cannot have made of this index."""
        return PartitionsError(f"expected sound partitions in '{self._path}', found {found}: {_REMEDY}")


def _unchanged(store: Store, stamps: Int64) -> dict[int, bytes]:
    """The blocks that are as they were stamped, and their bitmaps of live rows."""
    present = {block: (sealed, live) for block, sealed, live in store.codes.blocks()}
    return {
        block: present[block][1]
        for block, sealed, crc in stamps.tolist()
        if block in present and present[block][0] == sealed and store.codes.stamp(block) == crc
    }


def _alive(places: NDArray[np.integer], allowed: UInt8) -> NDArray[np.bool_]:
    """Whether the bits of `places` are set; those past the end are not."""
    inside = places < 8 * len(allowed)
    return inside & blocks.are_set(allowed, np.where(inside, places, 0))


_REMEDY: Final = "write them again with `edgeret optimize`, or delete them"
