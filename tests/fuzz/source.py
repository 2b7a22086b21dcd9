"""Source: arbitrary bytes, spent as numbers, choices and texts. When they end, the rest is zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Choice = TypeVar("Choice")


class Source:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._spent = 0

    def octets(self, count: int) -> bytes:
        taken = self._content[self._spent : self._spent + count]
        self._spent += count
        return taken.ljust(count, b"\0")

    def number(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        width = max((high - low).bit_length() + 7, 8) // 8
        return low + int.from_bytes(self.octets(width), "little") % (high - low + 1)

    def choice(self, options: Sequence[Choice]) -> Choice:
        return options[self.number(0, len(options) - 1)]

    def text(self, most: int) -> str:
        return self.octets(self.number(0, most)).decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        taken = self._content[self._spent :]
        self._spent = len(self._content)
        return taken
