"""Snapshot: what the scan reads, as one generation of the file has it, in RAM or streamed block by block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from edgeret import blocks
from edgeret.blocks import Bitmap, Mask, both, count, less
from edgeret.codec import UInt64, words
from edgeret.scan import Block
from edgeret.storage.store import Counters, Store


class _FullBlock(NamedTuple):
    """A full block: when it was written, its live rows, and its codes unless they are streamed."""

    written: int
    live: Bitmap
    codes: UInt64 | None


class CodeSnapshot(NamedTuple):
    """The codes as they were at one generation, immutable; the next one shares what did not change.

    resident_blocks: how many full blocks may stay in RAM, the first ones; the others are streamed. None: all stay.
    """

    resident_blocks: int | None
    generation: int
    sealed: dict[int, _FullBlock]
    tail: Block
    tail_changed: int

    @classmethod
    def none(cls, resident_blocks: int | None) -> CodeSnapshot:
        """The picture before anything was read."""
        empty = Block(0, np.zeros((0, 0), dtype=np.uint64), None)
        return cls(resident_blocks, -1, {}, empty, -1)

    def at(self, store: Store, state: Counters) -> CodeSnapshot:
        """The picture that the current read transaction of `store` sees, reading only what changed."""
        if state.generation == self.generation:
            return self
        kept = {block: self.sealed[block] for block in store.codes.block_numbers() if block in self.sealed}
        # A picture of a later generation than this transaction's can't tell what changed in between.
        since = self.generation if self.generation < state.generation else -1
        changed = store.codes.blocks(since)
        stale = [
            block for block, written, _ in changed if block not in kept or kept[block].written != written
        ]
        loaded = dict.fromkeys(stale) | self._load(
            store, stale, sum(block.codes is not None for block in kept.values())
        )
        for block, written, live in changed:
            if not 0 <= block < state.next_row // blocks.BLOCK_ROWS:
                raise store.damaged(f"block {block} lies past the last row, {state.next_row - 1}")
            codes = loaded[block] if block in loaded else kept[block].codes
            kept[block] = _FullBlock(written, np.frombuffer(live, dtype=np.uint8), codes)
        ordered = dict(sorted(kept.items()))
        return CodeSnapshot(
            self.resident_blocks, state.generation, ordered, self._next_tail(store, state), state.tail_changed
        )

    def without(self, numbers: Collection[int]) -> CodeSnapshot:
        """The picture less these full blocks."""
        return self._replace(sealed={n: sealed for n, sealed in self.sealed.items() if n not in numbers})

    def rows(self, mask: Mask | None = None) -> int:
        """How many live rows there are, those of a mask only."""
        return count(self._live() if mask is None else both(self._live(), mask))

    def left(self, mask: Mask | None, hidden: Mask) -> Mask:
        """The rows of a mask, or all live ones, less those of another."""
        return less(self._live() if mask is None else mask, hidden)

    def _live(self) -> dict[int, Bitmap]:
        live = {number: sealed.live for number, sealed in self.sealed.items()}
        if self.tail.live is not None:
            live[self.tail.first_row // blocks.BLOCK_ROWS] = np.pad(
                self.tail.live, (0, blocks.BLOCK_ROWS // 8 - len(self.tail.live))
            )
        return live

    def outdated(self, store: Store) -> bool:
        """Whether blocks kept in RAM were dropped or rewritten: the next snapshot would share only a part of them."""
        written = {block: sealed for block, sealed, _ in store.codes.blocks(self.generation)}
        numbers = set(store.codes.block_numbers())
        return any(
            sealed.codes is not None
            and (block not in numbers or written.get(block, sealed.written) != sealed.written)
            for block, sealed in self.sealed.items()
        )

    def blocks(self, store: Store, mask: Mask | None = None) -> Iterable[Block]:
        """The blocks in row order: a list if all are in RAM, else read one by one as the scan takes them.

        mask: rows outside of it are not scanned.
        """
        found = self._each(store, mask)
        streams = any(sealed.codes is None for sealed in self.sealed.values())
        return found if streams else list(found)

    def _each(self, store: Store, mask: Mask | None) -> Iterator[Block]:
        for number, sealed in self.sealed.items():
            live = sealed.live
            first_row = number * blocks.BLOCK_ROWS
            if mask is not None:
                if number not in mask:
                    continue
                live = live & mask[number]
                if not live.any():
                    continue
            codes = sealed.codes if sealed.codes is not None else store.codes.columns(number)
            yield Block(first_row, codes, live)
        tail = self.tail
        if tail.codes.shape[1]:
            if mask is not None and tail.live is not None:
                chosen = mask.get(tail.first_row // blocks.BLOCK_ROWS, blocks.empty())
                tail = tail._replace(live=tail.live & chosen[: len(tail.live)])
            yield tail

    def _load(self, store: Store, numbers: list[int], held: int) -> dict[int, UInt64]:
        """The codes of the first of `blocks` for which there is room beside the `held` ones."""
        if self.resident_blocks is not None:
            numbers = numbers[: max(self.resident_blocks - held, 0)]
        # One allocation: the kernel backs large ones by huge pages, and the scan saves page walks.
        memory = np.empty((len(numbers), words(store.bits), blocks.BLOCK_ROWS), dtype=np.uint64)
        for block, codes in zip(numbers, memory, strict=True):
            store.codes.columns(block, codes)
        return dict(zip(numbers, memory, strict=True))

    def _next_tail(self, store: Store, state: Counters) -> Block:
        first_row = state.next_row - state.next_row % blocks.BLOCK_ROWS
        known = self.tail
        if state.tail_changed != self.tail_changed or self.generation > state.generation:
            known = Block(first_row, np.zeros((words(store.bits), 0), dtype=np.uint64), None)
        count = known.codes.shape[1]
        rows, added = store.codes.tail(after=first_row + count - 1)
        if len(rows) and rows[-1] >= state.next_row:
            raise store.damaged(f"the rows of the tail lie past the last one, {state.next_row - 1}")
        size = int(rows[-1]) - first_row + 1 if len(rows) else count
        codes = np.zeros((words(store.bits), size), dtype=np.uint64)
        codes[:, :count] = known.codes
        codes[:, rows - first_row] = added.T
        live = np.zeros(size, dtype=np.bool_)
        if known.live is not None:
            live[:count] = blocks.unpack(known.live, count)
        live[rows - first_row] = True
        return Block(first_row, codes, blocks.pack(live))
