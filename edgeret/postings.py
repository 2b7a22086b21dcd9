"""Postings: which rows hold a word, each with a mark, packed; and the best rows of a query. No I/O.

Two builds of each function, as for the scan: C where the package was built with it, and a NumPy twin that gives the
same octets, rows and scores. docs/lexicon.md describes the octets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.blocks import BLOCK_ROWS, Mask
from edgeret.errors import InvalidQueryError
from edgeret.native import is_allowed

try:
    from edgeret import _postings
except ImportError:
    _postings = None  # type: ignore[assignment]

Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
UInt32 = NDArray[np.uint32]

MANY: Final = 8
"""Rows of a chunk that is packed; fewer are written as they are."""

COUNT_BITS: Final = 0xE0
"""Of a mark: how often the word stands in the passage; its other bits: how short that is."""

MAX_WEIGHTS: Final = (2**31 - 1) // 255
"""What the weights of a query may be together, so that scores are below 2**31."""

_LAST: Final = 0x8000
_MOST_BLOCKS: Final = 2**31 - 1
_DAMAGED: Final = "expected lists of rows as edgeret.postings writes them, got other octets: they are damaged"


class Word(NamedTuple):
    """A word of a query.

    weight: what its impact counts. lists: octets of lists, in any order. overlaps: the lists may have the same rows, as
    those of the terms that begin with a prefix; then the largest impact of a row counts. Otherwise they do not.
    """

    weight: int
    lists: tuple[bytes, ...]
    overlaps: bool = False


class Best(NamedTuple):
    """What a search finds.

    rows: int64 [n], best first, ties by row. scores: uint32 [n]. must_scores: uint32, of the rows that had to be
    scored, as they were given. added, skipped: rows of lists that were added up, and that did not need to be.
    """

    rows: Int64
    scores: UInt32
    must_scores: UInt32
    added: int
    skipped: int


def is_native() -> bool:
    """Whether C does the work here."""
    return _postings is not None and is_allowed()


def count(octets: bytes, start: int = 0, end: int | None = None) -> int:
    """How many rows the list octets[start:end] has. Raises InvalidQueryError if it is none."""
    stop = len(octets) if end is None else end
    if is_native():
        return _postings.count(octets, start, stop)
    return sum(chunk.rows for chunk in _chunks(octets[start:stop]))


def encode(starts: Int64, rows: Int64, marks: UInt8) -> tuple[bytes, Int64]:
    """Pack lists: the octets of all, and where each begins in them, int64 [lists + 1].

    starts: int64 [lists + 1], where each list begins in `rows`, and the end. rows: int64 [n], ascending within a list.
    marks: uint8 [n].
    """
    if is_native():
        octets, edges = _postings.encode(starts, rows, marks)
        return octets, np.frombuffer(edges, np.int64)
    packed, ends = bytearray(), [0]
    for start, end in pairwise(starts.tolist()):
        _encode_list(packed, rows[start:end], marks[start:end])
        ends.append(len(packed))
    return bytes(packed), np.array(ends, np.int64)


def decode(octets: bytes, starts: Int64, ends: Int64) -> tuple[Int64, Int64, UInt8]:
    """Unpack the lists octets[start:end]: where each begins in the rows, int64 [lists + 1]; rows; marks.

    Raises InvalidQueryError for octets that are no lists.
    """
    if is_native():
        edges, rows, marks = _postings.decode(octets, starts, ends)
        return np.frombuffer(edges, np.int64), np.frombuffer(rows, np.int64), np.frombuffer(marks, np.uint8)
    chunks = [
        list(_chunks(octets[start:end])) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    counts = [sum(chunk.rows for chunk in found) for found in chunks]
    flat = [chunk for found in chunks for chunk in found]
    rows_of = [chunk.block * BLOCK_ROWS + chunk.offsets for chunk in flat]
    return (
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64),
        np.concatenate([np.empty(0, np.int64), *rows_of]),
        np.concatenate([np.empty(0, np.uint8), *(chunk.marks for chunk in flat)]),
    )


def group(blobs: Sequence[bytes]) -> tuple[bytes, Int64]:
    """The different names of terms in order, joined, and for each name that was given its place among them, int64 [n].

    blobs: names, each group of them joined by line feeds; an empty one has none.
    """
    if is_native():
        names, owners = _postings.group(tuple(blobs))
        return names, np.frombuffer(owners, np.int64)
    given = [name for blob in blobs if blob for name in blob.split(b"\n")]
    different = sorted(set(given))
    places = dict(zip(different, range(len(different)), strict=True))
    return b"\n".join(different), np.fromiter(map(places.__getitem__, given), np.int64, len(given))


def top_k(words: Sequence[Word], k: int, impacts: UInt8, mask: Mask | None, must: Int64) -> Best:
    """The k rows with the largest sums of weight times impact over the words; rows without any are not found.

    impacts: uint8 [256], of each mark; of one that has no less in either of its parts it is no less.
    mask: rows outside of it are not found; None: all may be. must: int64, distinct and ascending: rows whose scores
    are wanted in any case, found or not, in the mask or not.

    Raises InvalidQueryError for octets that are no lists, and for arguments out of range.
    """
    if k < 1:
        raise InvalidQueryError(f"expected k of at least 1, got {k}: ask for one row or more")
    weights = sum(word.weight for word in words)
    if weights > MAX_WEIGHTS or any(word.weight < 0 for word in words):
        raise InvalidQueryError(
            f"expected weights of at most {MAX_WEIGHTS} together, got {weights}: scores would not fit"
        )
    if is_native():
        chosen = None if mask is None else np.array(sorted(mask), np.int64)
        bitmaps = () if mask is None else tuple(mask[block] for block in sorted(mask))
        rows, scores, must_scores, added, skipped = _postings.top_k(
            tuple(words), min(k, 2**31 - 1), impacts, chosen, bitmaps, must
        )
        return Best(
            np.frombuffer(rows, np.int64),
            np.frombuffer(scores, np.uint32),
            np.frombuffer(must_scores, np.uint32),
            added,
            skipped,
        )
    return _top_k_numpy(words, k, impacts, mask, must)


# -- the twin


class _Chunk(NamedTuple):
    block: int
    offsets: Int64
    marks: UInt8

    @property
    def rows(self) -> int:
        return len(self.offsets)


def _upper(marks: UInt8) -> int:
    """The mark that none of these has more than, in either part."""
    return int((marks & COUNT_BITS).max() | (marks & ~np.uint8(COUNT_BITS)).max())


def _low_bits(count: int) -> int:
    return (BLOCK_ROWS // count).bit_length() - 1


def _encode_list(packed: bytearray, rows: Int64, marks: UInt8) -> None:
    if not len(rows):
        return
    if rows[0] < 0 or (np.diff(rows) <= 0).any() or rows[-1] // BLOCK_ROWS > _MOST_BLOCKS:
        raise InvalidQueryError(
            "expected rows from 0 on in ascending order, got others: sort the rows of each list"
        )
    numbers, firsts = np.unique(rows // BLOCK_ROWS, return_index=True)
    for block, first, end in zip(
        numbers.tolist(), firsts.tolist(), [*firsts[1:].tolist(), len(rows)], strict=True
    ):
        _encode_chunk(packed, block, rows[first:end] % BLOCK_ROWS, marks[first:end])


def _encode_chunk(packed: bytearray, block: int, offsets: Int64, marks: UInt8) -> None:
    count = len(offsets)
    head = 2 * block + (count >= MANY)
    while head >= 0x80:
        packed.append(head & 0x7F | 0x80)
        head >>= 7
    packed.append(head)
    if count < MANY:
        marked = offsets.astype("<u2")
        marked[-1] |= _LAST
        packed += marked.tobytes() + marks.tobytes()
        return
    low_bits = _low_bits(count)
    packed += count.to_bytes(2, "little")
    packed.append(int(_upper(marks)))
    high = np.zeros(count + (BLOCK_ROWS >> low_bits), np.bool_)
    high[(offsets >> low_bits) + np.arange(count)] = True
    low = (offsets[:, None] >> np.arange(low_bits) & 1).astype(np.bool_)
    packed += blocks.pack(high).tobytes() + blocks.pack(low.reshape(-1)).tobytes() + marks.tobytes()


def _chunks(octets: bytes) -> Iterator[_Chunk]:
    at, block = 0, -1
    while at < len(octets):
        before = block
        try:
            chunk, at = _read_chunk(octets, at)
        except (IndexError, ValueError):
            raise InvalidQueryError(_DAMAGED) from None
        block = chunk.block
        if block <= before:
            raise InvalidQueryError(_DAMAGED)
        yield chunk


def _read_chunk(octets: bytes, at: int) -> tuple[_Chunk, int]:
    """The chunk at a place, and its end. Raises IndexError or ValueError if there is none."""
    head = shift = 0
    while True:
        octet = octets[at]
        at += 1
        head |= (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            break
        if shift > 28:
            raise ValueError
    block = head >> 1
    if block > _MOST_BLOCKS:
        raise ValueError
    upper = octets[at + 2] if head & 1 else None
    offsets, at = _read_many(octets, at) if head & 1 else _read_few(octets, at)
    end = at + len(offsets)
    if end > len(octets):
        raise ValueError
    marks = np.frombuffer(octets, np.uint8, len(offsets), at)
    if upper is not None and upper != _upper(marks):
        raise ValueError
    return _Chunk(block, offsets, marks), end


def _read_few(octets: bytes, at: int) -> tuple[Int64, int]:
    marked: list[int] = []
    while not marked or not marked[-1] & _LAST:
        if len(marked) == MANY - 1:
            raise ValueError
        marked.append(octets[at] | octets[at + 1] << 8)
        at += 2
    return np.array(marked, np.int64) & (BLOCK_ROWS - 1), at


def _read_many(octets: bytes, at: int) -> tuple[Int64, int]:
    count = octets[at] | octets[at + 1] << 8
    at += 3  # past the upper mark
    if not MANY <= count <= BLOCK_ROWS:
        raise ValueError
    low_bits = _low_bits(count)
    high_octets = -(-(count + (BLOCK_ROWS >> low_bits)) // 8)
    low_octets = -(-count * low_bits // 8)
    if at + high_octets + low_octets > len(octets):
        raise ValueError
    high = blocks.offsets(octets[at : at + high_octets])[:count]
    at += high_octets
    low = blocks.unpack(octets[at : at + low_octets], count * low_bits).reshape(count, low_bits)
    if len(high) < count:
        raise ValueError
    offsets = (high - np.arange(count) << low_bits) + low @ (1 << np.arange(low_bits))
    if offsets.max() >= BLOCK_ROWS:
        raise ValueError
    return offsets.astype(np.int64), at + low_octets


def _top_k_numpy(words: Sequence[Word], k: int, impacts: UInt8, mask: Mask | None, must: Int64) -> Best:
    if len(must) and (must[0] < 0 or (np.diff(must) <= 0).any()):
        raise InvalidQueryError("expected distinct rows from 0 on in ascending order, got others: sort them")
    by_block: dict[int, list[tuple[int, list[_Chunk]]]] = {}
    added = 0
    for number, word in enumerate(words):
        for octets in word.lists:
            for chunk in _chunks(octets):
                here = by_block.setdefault(chunk.block, [])
                if not here or here[-1][0] != number:
                    here.append((number, []))
                here[-1][1].append(chunk)
                added += chunk.rows
    must_scores = np.zeros(len(must), np.uint32)
    rows, scores = np.empty(0, np.int64), np.empty(0, np.uint32)
    for block in sorted(by_block):
        sums = _sums(words, by_block[block], impacts)
        wanted = np.flatnonzero(must // BLOCK_ROWS == block)
        must_scores[wanted] = sums[must[wanted] % BLOCK_ROWS]
        if mask is not None:
            if block not in mask:
                continue
            sums = np.where(blocks.unpack(mask[block], BLOCK_ROWS), sums, np.uint32(0))
        found = np.flatnonzero(sums)
        rows = np.concatenate([rows, found + block * BLOCK_ROWS])
        scores = np.concatenate([scores, sums[found]])
        # Rows ascend: equal scores stay in their order.
        order = np.argsort(-scores.astype(np.int64), kind="stable")[:k]
        rows, scores = rows[order], scores[order]
    return Best(rows, scores, must_scores, added, 0)


def _sums(words: Sequence[Word], found: list[tuple[int, list[_Chunk]]], impacts: UInt8) -> UInt32:
    """The scores of a block's rows, uint32 [BLOCK_ROWS]."""
    sums = np.zeros(BLOCK_ROWS, np.uint32)
    for number, chunks in found:
        weight = np.uint32(words[number].weight)
        if words[number].overlaps:
            best = np.zeros(BLOCK_ROWS, np.uint8)
            for chunk in chunks:
                np.maximum.at(best, chunk.offsets, impacts[chunk.marks])
            sums += weight * best.astype(np.uint32)
        else:
            for chunk in chunks:
                np.add.at(sums, chunk.offsets, weight * impacts[chunk.marks].astype(np.uint32))
    return sums
