"""Unknown: what a model does not know of a text as a vector, so that only its like is near it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks

_CHARACTERS: Final = 4096
"""Of a text that count: it may be one unknown token of any length."""

# A word, or a character that is none, such as an emoji.
_SYMBOL: Final = re.compile(r"\w+|[^\w\s]")


def knows(text: str, ids: Sequence[int], spans: Iterable[tuple[int, int]], unknown: int | None) -> bool:
    """Whether any token of `text` says what it is about: one that is not `unknown`, nor special, nor punctuation.

    Punctuation counts where nothing is unknown. ids, spans: of the tokens, special ones too, which stand nowhere.
    """
    placed = [(id, span) for id, span in zip(ids, spans, strict=True) if span[0] < span[1]]
    if not placed:
        return not text.strip()
    if all(id != unknown for id, _ in placed):
        return True
    return any(id != unknown and any(map(str.isalnum, text[slice(*span)])) for id, span in placed)


def stand_in(text: str, dim: int) -> NDArray[np.float32]:
    """A unit vector [dim] from the symbols that the text begins with, the same on every machine.

    That of another text is near as far as the two have symbols in common; any vector of a model is as far away as a
    random direction is.
    """
    symbols = [
        symbol
        for symbol in _SYMBOL.findall(unicodedata.normalize("NFC", text[:_CHARACTERS]).casefold())
        if any(unicodedata.category(character)[0] not in "MC" for character in symbol)
    ]
    total = np.zeros(dim, dtype=np.int64)
    for symbol in symbols:
        total += _signs(symbol, dim)
    if not total.any():
        # No symbol, or, hardly ever, some that cancel out.
        total = _signs("".join(text[:_CHARACTERS].split()), dim)
    vector = total.astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def tinged(
    vector: NDArray[np.float32], text: str, ids: Sequence[int], spans: Iterable[tuple[int, int]], unknown: int
) -> NDArray[np.float32]:
    """A model's vector of `text`, with as much of a `stand_in` as it has `unknown` tokens among the others.

    The model takes all unknown tokens for one: without it, texts that differ in them alone were equal.
    """
    placed = [(id, text[slice(*span)]) for id, span in zip(ids, spans, strict=True) if span[0] < span[1]]
    missing = [token for id, token in placed if id == unknown]
    if not missing:
        return vector
    share = np.float32(len(missing) / len(placed))
    mixed: NDArray[np.float32] = vector + share * stand_in(" ".join(missing), len(vector))
    return mixed / np.float32(np.linalg.norm(mixed))


def _signs(symbol: str, dim: int) -> NDArray[np.int64]:
    octets = np.frombuffer(hashlib.shake_128(symbol.encode()).digest(-(-dim // 8)), dtype=np.uint8)
    return np.where(blocks.unpack(octets, dim), 1, -1)
