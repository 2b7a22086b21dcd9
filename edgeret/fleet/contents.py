"""Contents: an order-independent, incremental content hash of all documents of an index.

LtHash (Lewi, Kim, Maykov, Weis, "Securing Update Propagation with Homomorphic Hashing", 2019), of 256 lanes of 64 bits:
the sum of a long hash of each passage. Adding or taking away a passage needs no other one. Version 1 had 1,024 lanes of
16 bits, in which 65,536 equal passages, or half as many of each of some hundreds, are as nothing; it is read for ever.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret.storage import file
from edgeret.storage.store import Store

VERSION: Final = 2
_LANES: Final = {1: "<u2", 2: "<u8"}
"""The lanes of each version."""

_HASH_BYTES: Final = 2048
_BATCH: Final = 256
"""Passages whose long hashes are in memory together."""

Part = tuple[int, int, bytes, str | None]
"""A passage's start and end in its text, its vector as stored, and its context if it has one."""


class Contents:
    """The documents of an index in one space, with codes of one length, as a sum. version: of the sum."""

    def __init__(self, space: str, bits: int, version: int = VERSION) -> None:
        self._coding = f"edgeret contents {version}\nspace {space}\nbits {bits}\n".encode()
        self._lanes = np.dtype(_LANES[version])
        self._sum = self._total([])

    @classmethod
    def of(cls, store: Store, version: int = VERSION) -> Contents:
        """The contents that the current transaction of `store` sees, every vector verified."""
        with file.translated(store.path):
            return cls._read(store, version)

    @classmethod
    def _read(cls, store: Store, version: int) -> Contents:
        contents = cls(store.description.space, store.bits, version)
        for batch in store.rows.each_of_documents(_BATCH):
            told = store.rows.contexts([passage.row for passage, *_ in batch])
            contents._sum += contents._total(
                [
                    _hash(
                        digest,
                        own_vector,
                        (passage.start, passage.end, passage.vector, told.get(passage.row)),
                    )
                    for passage, digest, own_vector in batch
                ]
            )
        return contents

    @property
    def fingerprint(self) -> str:
        """64 hex digits: BLAKE2b over space, bits and the sum."""
        return hashlib.blake2b(self._coding + self._sum.tobytes(), digest_size=32).hexdigest()

    def add(self, digest: bytes, own_vector: bool, parts: Iterable[Part]) -> None:
        """Count a document in. digest: over id, text and metadata. own_vector: whether it came with its vector."""
        for total in self._totals(digest, own_vector, parts):
            self._sum += total

    def remove(self, digest: bytes, own_vector: bool, parts: Iterable[Part]) -> None:
        """Count a document out."""
        for total in self._totals(digest, own_vector, parts):
            self._sum -= total

    def _totals(
        self, digest: bytes, own_vector: bool, parts: Iterable[Part]
    ) -> Iterator[NDArray[np.unsignedinteger]]:
        """The sums of some passages of a document at a time."""
        remaining = iter(parts)
        while batch := list(islice(remaining, _BATCH)):
            yield self._total([_hash(digest, own_vector, part) for part in batch])

    def _total(self, hashes: list[bytes]) -> NDArray[np.unsignedinteger]:
        lanes = np.frombuffer(b"".join(hashes), dtype=self._lanes).reshape(
            -1, _HASH_BYTES // self._lanes.itemsize
        )
        total: NDArray[np.unsignedinteger] = lanes.sum(axis=0, dtype=self._lanes)
        return total


def _hash(digest: bytes, own_vector: int, part: Part) -> bytes:
    start, end, vector, context = part
    head = struct.pack("<16s3q", digest, own_vector, start, end)
    told = b"" if context is None else context.encode()
    return hashlib.shake_128(head + vector + told).digest(_HASH_BYTES)
