"""A set of byte strings, each with a number, as a double array: one step, one look at memory.

docs/format.md says what a unit is. Labels are the bytes of UTF-8, and some that UTF-8 never has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

END: Final = 0xFF
"""Label of the unit that has a string's number."""

NOBODY: Final = 0xC0
"""Label of units that no string has."""

MOST_UNITS: Final = 1 << 22
MOST_NUMBER: Final = (1 << 22) - 1
_BLOCK: Final = 256
_TRIED_BLOCKS: Final = 24
"""Blocks with holes that a node's children are fitted into; older ones keep their holes."""


def build(numbers: Mapping[bytes, int]) -> NDArray[np.uint32]:
    """The units of these strings, uint32 [n]. Raises ValueError for what it cannot hold."""
    keys = sorted(numbers)
    if any(NOBODY in key or END in key or not key for key in keys):
        raise ValueError("a token that is empty or no UTF-8")
    if any(not 0 <= number <= MOST_NUMBER for number in numbers.values()):
        raise ValueError(f"a token's number beyond {MOST_NUMBER}")
    room = _Room()
    # The root's place is 0, and nobody's child. Base 0 is nobody's: with label 0 it were no unit.
    room.take(0, NOBODY)
    room.forbid(0)
    open_nodes = [(0, 0, len(keys), 0)]
    leaves = {}
    while open_nodes:
        place, first, stop, depth = open_nodes.pop()
        if stop - first == 1 and len(keys[first]) == depth:
            leaves[place] = numbers[keys[first]]
            continue
        children = _children(keys, first, stop, depth)
        base = room.fit([label for label, _, _ in children])
        room.units[place] = base << 9 | room.units[place] & 0xFF
        for label, low, high in children:
            if label == END:
                room.units[place] |= 1 << 8
                room.take(base ^ END, numbers[keys[low]] << 8 | END)
            else:
                room.take(base ^ label, label)
                open_nodes.append((base ^ label, low, high, depth + 1))
    # A base past the end: no step from there finds a unit.
    for place, number in leaves.items():
        room.units[place] |= (len(room.units) + number) << 9 | 1 << 8
    return np.array(room.units, np.uint32)


def place(units: NDArray[np.uint32], prefix: bytes) -> int | None:
    """Where the unit of a prefix is, 0 for an empty one; None if no string begins so."""
    found = 0
    for octet in prefix:
        child = int(units[found]) >> 9 ^ octet
        if child >= len(units) or int(units[child]) & 0xFF != octet:
            return None
        found = child
    return found


def _children(keys: list[bytes], first: int, stop: int, depth: int) -> list[tuple[int, int, int]]:
    """Labels of the next byte of keys[first:stop], which are equal up to `depth`, each with its part of them."""
    children = []
    if first < stop and len(keys[first]) == depth:
        children.append((END, first, first + 1))
        first += 1
    while first < stop:
        label, low = keys[first][depth], first
        while first < stop and keys[first][depth] == label:
            first += 1
        children.append((label, low, first))
    return children


class _Room:
    """Units, and which of them are free."""

    def __init__(self) -> None:
        self.units: list[int] = []
        self._free: list[bool] = []
        self._is_base: list[bool] = []
        self._holes: list[list[int]] = []

    def take(self, place: int, unit: int) -> None:
        while place >= len(self.units):
            self._grow()
        self.units[place] = unit
        self._free[place] = False
        for block in self._holes:
            if block[0] // _BLOCK == place // _BLOCK:
                block.remove(place)
                break
        self._holes = [block for block in self._holes if block]

    def forbid(self, base: int) -> None:
        self._is_base[base] = True

    def fit(self, labels: list[int]) -> int:
        """A base that no other node has, and whose places for these labels are free."""
        free, is_base = self._free, self._is_base
        for block in self._holes:
            for place in block:
                base = place ^ labels[0]
                if not is_base[base] and all(free[base ^ label] for label in labels):
                    is_base[base] = True
                    return base
        self._grow()
        return self.fit(labels)

    def _grow(self) -> None:
        start = len(self.units)
        if start + _BLOCK > MOST_UNITS:
            raise ValueError(f"a vocabulary of more than {MOST_UNITS} units")
        self.units += [NOBODY] * _BLOCK
        self._free += [True] * _BLOCK
        self._is_base += [False] * _BLOCK
        self._holes.append(list(range(start, start + _BLOCK)))
        self._holes = self._holes[-_TRIED_BLOCKS:]
