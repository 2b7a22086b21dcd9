"""Footprint: what one document takes while it is written, in bytes, before it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Growth of the peak RSS on x86-64, rounded up. A value in metadata: what JSON's encoder collects.
COPIES: Final = 10
"""Of a byte that is stored: Python's, those bound to a statement, SQLite's rows, and what JSON's parser makes of it."""
_VALUE_BYTES: Final = 140

_CHARACTERS_AT_ONCE: Final = 1 << 16


def footprint(text: str, metadata: Mapping[str, Any], enough: int | None = None) -> int:
    """Of a document that is added; what is more than `enough` is not counted to its end."""
    found = COPIES * _utf8_bytes(text)
    left: list[Any] = [iter([metadata])]
    while left and (enough is None or found <= enough):
        value = next(left[-1], left)
        if value is left:
            left.pop()
            continue
        found += _VALUE_BYTES
        if isinstance(value, str):
            found += COPIES * _utf8_bytes(value)
        elif isinstance(value, Mapping):
            left += [iter(value.values()), iter(value)]
        elif isinstance(value, list | tuple):
            left.append(iter(value))
    return found


def _utf8_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    parts = (text[first : first + _CHARACTERS_AT_ONCE] for first in range(0, len(text), _CHARACTERS_AT_ONCE))
    return sum(len(part.encode(errors="surrogatepass")) for part in parts)
