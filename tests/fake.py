"""A fake encoder: real vectors from hashed words, so that texts with common words are near. No model needed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from edgeret.codec import Codec, Float32

DIM = 96
NARROW_DIM = 64
WIDTHS = (64, 96)


@cache
def random_codec(seed: int = 0, dim: int = DIM) -> Codec:
    """A codec with a random rotation."""
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    integers = np.rint(rotation * 32767).astype(np.int16)
    none = np.zeros(dim)
    return Codec(integers, none, rotation.astype(np.float32), none.astype(np.float32), WIDTHS)


class FakeEncoder:
    """Words to random directions, summed. codec: another seed than the geometry's; None takes that."""

    def __init__(self, seed: int = 0, passage_tokens: int = 32, codec: int | None = None) -> None:
        self.name = f"fake-{seed}"
        self.dim = DIM
        self.geometry = f"{seed:032x}"
        self.space = f"{seed:016x}{(seed if codec is None else codec) + 1:016x}"
        self.codec = random_codec(seed if codec is None else codec)
        self.passage_tokens = passage_tokens
        self.planned_bytes = {"fake": 1_000_000}
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> Float32:
        self.encoded.extend(texts)
        vectors = np.stack([self._vector(text) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> Float32:
        return self.encode(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [word.span() for word in re.finditer(r"\w+|[^\w\s]", text)]

    def _vector(self, text: str) -> np.ndarray:
        words = re.findall(r"\w+", text.lower()) or [text]
        return np.sum([_known_direction(self.name + word) for word in words], axis=0)


class NarrowEncoder(FakeEncoder):
    """Of another geometry: fewer dimensions, codes of 64 bits only, and shorter passages."""

    def __init__(self) -> None:
        super().__init__(seed=7, passage_tokens=20)
        self.dim = NARROW_DIM
        self.codec = replace(random_codec(7, NARROW_DIM), widths=(NARROW_DIM,))

    def _vector(self, text: str) -> np.ndarray:
        return super()._vector(text)[:NARROW_DIM]


def direction(word: str) -> np.ndarray:
    """A random one, the same for the same word."""
    seed = int.from_bytes(hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).normal(size=DIM)


_known_direction = cache(direction)
