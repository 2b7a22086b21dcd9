"""Duplicates: documents whose text is nearly that of another one, found by their codes and told by their words.

What is written is compared with all that the transaction has by then, so that it does not matter who else writes. Codes
bring the few texts that are read; two texts are alike as far as they share sequences of three words (Broder, On the
resemblance and containment of documents, 1997).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, tee
from typing import Final, Protocol, TypeVar

import numpy as np

from edgeret import blocks, door, words
from edgeret.codec import Int64, UInt64
from edgeret.codec import words as words_of
from edgeret.documents import Encoded
from edgeret.reports import MOST_COPIES, Copy
from edgeret.scan import Block, top_k
from edgeret.storage.change import Change
from edgeret.storage.rows import StoredDocument

KEEP, SKIP, REPORT = door.DUPLICATES

LEAST_ALIKE: Final = 0.7
"""Of the sequences of three words that two texts have, so many are in both, or neither is a copy."""

_SEQUENCE: Final = 3

_PROBES: Final = 4
"""Passages of a document by which others are looked for: its first, its last, and some between."""
_NEAREST: Final = 8
"""Rows that each of them finds."""
_READ: Final = 8
"""Documents of these that are read, the nearest ones of each passage first: one may be what all pages end with."""
_FARTHEST: Final = 1 / 4
"""Of the bits of a code: rows that differ in more are of other texts."""

_LONGER: Final = 2
"""Texts of which one has more than so many times the characters of the other are not alike."""

_TOGETHER: Final = 32
"""Documents for which the codes of full blocks are read once."""
_CHARACTERS: Final = 1 << 16
"""Of their texts: so many, and one document, are in memory together."""

Answer = TypeVar("Answer")
_Near = list[tuple[int, int, int]]
"""Rows, before each its place among those that are nearest to a probe, and the distance."""


class Hold(Protocol):
    """Does some work while nobody else takes memory."""

    def __call__(self, work: Callable[[], Answer], /) -> Answer:
        """What `work` returns."""


class Duplicates:
    """What is a copy among the documents that one call adds.

    skips: whether copies stay out. hold: for what takes memory as a search does.
    """

    def __init__(self, skips: bool, hold: Hold) -> None:
        self._skips, self._hold = skips, hold
        self.found: list[Copy] = []
        self.count = 0
        self.left_out: set[str] = set()

    def chosen(self, change: Change, staged: Iterator[Encoded]) -> Iterator[Encoded]:
        """Those that go into the index: whoever takes one puts it there before the next.

        What replaces a document is no copy. It comes first, so that nothing is left out for a text that goes.
        """
        picture = _Picture(change)
        for group in _groups(staged):
            near = self._hold(partial(picture.near, group))
            for encoded, rows in zip(group, near, strict=True):
                copy = None
                if not change.rows.holds(encoded.record.id):
                    copy = self._hold(partial(picture.copied, encoded, rows))
                if copy is not None:
                    self._note(copy)
                if copy is None or not self._skips:
                    yield encoded
                    picture.take(encoded)

    def _note(self, copy: Copy) -> None:
        self.count += 1
        if len(self.found) < MOST_COPIES:
            self.found.append(copy)
        if self._skips:
            self.left_out.add(copy.id)


def _groups(staged: Iterator[Encoded]) -> Iterator[list[Encoded]]:
    group: list[Encoded] = []
    characters = 0
    for encoded in staged:
        group.append(encoded)
        characters += len(encoded.record.text)
        if len(group) >= _TOGETHER or characters >= _CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


class _Picture:
    """The codes as a change has them: full blocks are streamed, the tail is kept, and what came after both."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._tail = _Tail(change)
        self._fresh: list[UInt64] = []
        self._begun = change.next_row

    def near(self, group: Sequence[Encoded]) -> list[_Near]:
        """Of each document the nearest rows that are there before the group."""
        self._begun, self._fresh = self._change.next_row, []
        tail = self._tail.now()
        probes = [_probes(encoded) for encoded in group]
        found = iter(_nearest(self._blocks(tail), np.concatenate(probes)))
        return [[pair for own in islice(found, len(one)) for pair in own] for one in probes]

    def take(self, encoded: Encoded) -> None:
        """Know what has just been put into the index."""
        self._fresh.append(encoded.codes)

    def copied(self, encoded: Encoded, near: _Near) -> Copy | None:
        """Which document this is most alike, of those that are near, if it is a copy."""
        if self._fresh:
            fresh = Block(self._begun, np.ascontiguousarray(np.concatenate(self._fresh).T))
            near = [*near, *(pair for own in _nearest([fresh], _probes(encoded)) for pair in own)]
        farthest = _FARTHEST * self._change.store.bits
        rows = [row for _, distance, row in sorted(near) if distance <= farthest]
        owners = self._change.rows.owners(rows)
        docs = dict.fromkeys(owners[row] for row in rows if row in owners)
        best = None
        own = None
        for doc in islice(docs, _READ):
            other = self._change.rows.document(doc)
            is_same = self._is_same(encoded, other)
            alike = 1.0 if is_same else 0.0
            if not is_same and self._may_be_alike(encoded, other):
                own = _sequences(encoded.record.text) if own is None else own
                alike = _share(own, _sequences(other.text))
            if alike >= LEAST_ALIKE and (best is None or (is_same, alike) > (best.is_exact, best.alike)):
                best = Copy(encoded.record.id, other.id, alike, is_same)
            if is_same:
                break
        return best

    def _may_be_alike(self, encoded: Encoded, other: StoredDocument) -> bool:
        shorter, longer = sorted((len(encoded.record.text), len(other.text)))
        return encoded.record.vector is None and not other.own_vector and longer <= _LONGER * shorter

    def _is_same(self, encoded: Encoded, other: StoredDocument) -> bool:
        if encoded.record.text != other.text or (encoded.record.vector is not None) != other.own_vector:
            return False
        if not other.own_vector:
            return True
        return encoded.vectors.tobytes() == self._change.rows.passages_of(other.doc)[0].vector

    def _blocks(self, tail: Block) -> Iterator[Block]:
        codes = self._change.codes
        for number, _, live in codes.blocks():
            yield Block(number * blocks.BLOCK_ROWS, codes.columns(number), np.frombuffer(live, np.uint8))
        if tail.codes.shape[1]:
            yield tail


class _Tail:
    """The rows behind the full blocks: those that came since the last time are read, or all if any went."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._known = (-1, 0, 0)
        self._rows = np.empty(0, np.int64)
        self._codes = np.empty((0, words_of(change.store.bits)), np.uint64)

    def now(self) -> Block:
        """As the change has it."""
        change = self._change
        first = change.next_row - change.next_row % blocks.BLOCK_ROWS
        begun, next_row, passages = self._known
        grows = first == begun and change.next_row - next_row == change.passages - passages
        rows, codes = change.codes.tail(int(self._rows[-1]) if grows and len(self._rows) else -1)
        if grows:
            rows, codes = np.concatenate([self._rows, rows]), np.concatenate([self._codes, codes])
        self._rows, self._codes, self._known = rows, codes, (first, change.next_row, change.passages)
        size = int(rows[-1]) - first + 1 if len(rows) else 0
        placed = np.zeros((codes.shape[1], size), np.uint64)
        live = np.zeros(size, np.bool_)
        placed[:, rows - first], live[rows - first] = codes.T, True
        return Block(first, placed, blocks.pack(live))


def _probes(encoded: Encoded) -> UInt64:
    """Codes of some passages of a document, uint64 [n, words]."""
    last = len(encoded.codes) - 1
    found: UInt64 = encoded.codes[sorted({last * part // (_PROBES - 1) for part in range(_PROBES)})]
    return found


def _nearest(scanned: Iterable[Block], probes: UInt64) -> list[_Near]:
    """The rows nearest to each probe."""
    rows, distances = top_k(scanned, np.ascontiguousarray(probes[:, None, :]), _NEAREST)
    return [
        list(zip(range(len(own)), far, own, strict=True))
        for far, own in zip(distances.tolist(), rows.tolist(), strict=True)
    ]


def _sequences(text: str) -> Int64:
    """Each sequence of three words of a text, once, as a number; of a shorter text all its words as one."""
    several = tee(words.stream(text), _SEQUENCE)
    following = (islice(stream, place, None) for place, stream in enumerate(several))
    found = np.fromiter(map(hash, zip(*following, strict=False)), np.int64)
    if not len(found) and (few := tuple(words.stream(text))):
        found = np.array([hash(few)], np.int64)
    return blocks.distinct(found)


def _share(one: Int64, other: Int64) -> float:
    """What two sets have in common, of what both have."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(len(one) + len(other) - common, 1)
