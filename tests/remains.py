"""What is left of a document in the bytes of an index file: searched for, not asked of SQLite."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from edgeret import Document, Index

COMMON = ["red", "blue", "cat"]
_WINDOW = 16
_SUFFIX = 12


class Secrets:
    """Documents of words that nothing else has, and the bytes that each of them puts into a file."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.terms: dict[str, list[str]] = {}
        self._needles: dict[str, dict[str, list[bytes]]] = {}

    def documents(self, count: int) -> list[Document]:
        """New documents; ids, metadata and words in no order, so that trees are balanced all the time."""
        made = []
        for _ in range(count):
            identity, tag = self._unique("i"), self._unique("t")
            # Digits only: the stemmer leaves them alone.
            terms = [self._unique("z") for _ in range(self._random.randint(1, 60))]
            text = " ".join(terms + self._random.choices(COMMON, k=5))
            made.append(Document(identity, text, {"tag": tag, "note": tag * self._random.randint(1, 20)}))
            self.terms[identity] = terms
            # Terms are compressed by the prefix that they share with their neighbors: ends are stored as they are.
            self._needles[identity] = {
                "id": [identity.encode()],
                "metadata": [tag.encode()],
                "text": [term[-_SUFFIX:].encode() for term in terms],
            }
        return made

    def note_vectors(self, index: Index, identity: str) -> None:
        """Remember the vectors and codes of a document that is in the index."""
        vectors = [
            vector
            for (vector,) in index._store.connection.execute(
                "SELECT vector FROM passages JOIN documents USING (doc) WHERE id = ?", (identity,)
            )
        ]
        codes = index._encoder.codec.encode(
            np.frombuffer(b"".join(vectors), np.int8).reshape(len(vectors), -1), 64
        )
        self._needles[identity]["vector"] = [
            vector[at : at + _WINDOW]
            for vector in vectors
            for at in range(0, len(vector) - _WINDOW + 1, _WINDOW)
        ]
        self._needles[identity]["code"] = [code.astype("<u8").tobytes() for code in codes]

    def choose(self, ids: list[str], count: int) -> list[str]:
        """Some of `ids`."""
        return self._random.sample(ids, count)

    def found(self, content: bytes, gone: list[str], kept: list[str]) -> dict[str, int]:
        """How many documents of `gone` have left something in `content`, by kind, that none of `kept` has too."""
        shared = {needle for identity in kept for kind in self._needles[identity].values() for needle in kind}
        found = dict.fromkeys(("id", "metadata", "text", "vector", "code"), 0)
        for identity in gone:
            for kind, needles in self._needles[identity].items():
                found[kind] += any(needle in content for needle in needles if needle not in shared)
        return found

    def _unique(self, letter: str) -> str:
        return f"{letter}{self._random.randrange(10**18):018}"


def content(path: Path) -> bytes:
    """Every byte of the file and its write-ahead log."""
    log = path.with_name(path.name + "-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")


def free_pages(path: Path) -> int:
    """What the file's header says: bytes 36 to 39."""
    return int.from_bytes(path.read_bytes()[36:40], "big")


def terms(index: Index) -> set[str]:
    """All terms in the lexicon, in its pages and in its tail, those of deleted rows too.

    Before the terms of a page are two numbers of 2 bytes, the second of which is their length; before those of an entry
    of the tail a number of 4 bytes, how many they are, and a byte for each.
    """
    connection = index._store.connection
    found = set[bytes]()
    for (page,) in connection.execute("SELECT entries FROM lexicon_terms"):
        found.update(page[4 : 4 + int.from_bytes(page[2:4], "little")].split(b"\n"))
    for (entry,) in connection.execute("SELECT words FROM lexicon_tail"):
        found.update(entry[4 + int.from_bytes(entry[:4], "little") :].split(b"\n"))
    return {term.decode() for term in found if term}


def separators(index: Index) -> set[str]:
    """What the lexicon keeps to find a term's page: terms."""
    rows = index._store.connection.execute(
        "SELECT CAST(first AS TEXT) FROM lexicon_terms UNION SELECT CAST(begins AS TEXT) FROM lexicon_segments"
    )
    return {separator for (separator,) in rows}
