"""Damaged index files by the thousand: each is made from its number alone."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fake import DIM, FakeEncoder

from edgeret import Document, Hit, Index, blocks, bm25, words
from edgeret.codec import cosines
from edgeret.storage.checksum import checksum
from edgeret.storage.description import meta_checksum
from edgeret.upkeep import check, recode

PAGE = 4096
BLOCK_ROWS = 64
"""Rows of a sealed block here: small, so that a small file has blocks, tail and dead rows."""

WORDS = ["red", "blue", "cat", "dog", "bird", "green", "runs", "sleeps", "today", "never", "naïve", "café"]
QUERIES: list[dict[str, Any]] = [
    {"query": "red cat sleeps", "k": 5, "oversample": 1},
    {"query": "naïve bird number17", "k": 80, "oversample": 1},
    {"query": "blue dog", "k": 3, "mode": "lexical"},
    {"query": "café number40", "k": 20, "mode": "lexical"},
    {"query": "green bird eats", "k": 3, "mode": "hybrid", "oversample": 1},
    {"query": "cat runs", "k": 20, "oversample": 1, "where": {"year": {"$gte": 5}}},
    {"query": "dog today", "k": 3, "mode": "lexical", "where": {"year": 3}},
    {"query": "dog today", "k": 3, "oversample": 1, "where": {"tag": {"$contains": "t1"}}},
]


class Truth(NamedTuple):
    """What the undamaged file says, and what `older`, the same file some commits before, said.

    documents: by id; those of `older` behind. cosines: (query, id, start, cosine) of every passage of both.
    """

    image: bytes
    older: bytes
    documents: list[dict[str, Document]]
    answers: list[list[Hit]]
    info: tuple[Any, ...]
    cosines: set[tuple[int, str, int, float]]


def small_blocks() -> None:
    """Seal blocks of few rows in this process."""
    blocks.BLOCK_ROWS = BLOCK_ROWS
    check._BATCH_ROWS = recode._BATCH_ROWS = BLOCK_ROWS // 2


def make(folder: Path) -> Truth:
    """Write a small index with every feature of the format, and ask it everything."""
    path = folder / "sound.edgeret"
    rng = np.random.default_rng(7)
    texts = [" ".join(rng.choice(WORDS, 6)) + f" number{i}" for i in range(180)]
    documents = [Document(f"d{i}", t, {"year": i % 10, "tag": [f"t{i % 3}"]}) for i, t in enumerate(texts)]
    long = " ".join(f"{text}." for text in texts * 2)
    documents.append(Document("long", long, {"year": "many", "note": "x" * 5000}))
    documents.append(Document("vector", "", {"year": 5}, rng.normal(size=DIM)))
    encoder = FakeEncoder()
    with Index.create(path, model=encoder, bits=96, filters=["year"]) as index:
        index.add(documents[:150])
        index.delete([f"d{i}" for i in range(60, 80)])
    older, older_documents, older_cosines = path.read_bytes(), documents_in(path), _cosines(path)
    with Index.open(path, model=encoder) as index:
        index.add(documents[150:])
        index.add([Document("d3", "a red cat in another text", {"year": 3})])
        index.delete([f"d{i}" for i in range(100, 110)])
        index.check()
        answers = [index.search(**query) for query in QUERIES]
        info = described(index)
    return Truth(
        path.read_bytes(),
        older,
        [documents_in(path), older_documents],
        answers,
        info,
        _cosines(path) | older_cosines,
    )


def documents_in(path: Path) -> dict[str, Document]:
    with Index.open(path, model=FakeEncoder()) as index:
        ids = [row[0] for row in index._store.connection.execute("SELECT id FROM documents")]
        return {identity: document for identity in ids if (document := index.get(identity))}


def _cosines(path: Path) -> set[tuple[int, str, int, float]]:
    vectors = FakeEncoder().encode([query["query"] for query in QUERIES])
    with Index.open(path, model=FakeEncoder()) as index:
        rows = index._store.connection.execute(
            "SELECT id, start, vector FROM passages JOIN documents USING (doc)"
        )
        return {
            (
                query,
                identity,
                start,
                float(cosines(np.frombuffer(stored, np.int8)[None], vector)[0]),
            )
            for identity, start, stored in rows
            for query, vector in enumerate(vectors)
        }


def described(index: Index) -> tuple[Any, ...]:
    info = index.info()
    return (
        info.documents,
        info.passages,
        info.generation,
        info.dim,
        info.bits,
        info.filters,
        info.space,
        len(index),
    )


# -- kinds of damage: (bytes, random numbers, truth) -> bytes

Damage = Callable[[bytearray, np.random.Generator, Truth], bytearray]


def cut_at_a_page(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    return image[: PAGE * int(rng.integers(0, len(image) // PAGE))]


def cut_anywhere(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    return image[: int(rng.integers(0, len(image)))]


def zero_a_range(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    start = int(rng.integers(0, len(image)))
    size = min(int(rng.choice([1, 8, 512, 4096, 16384])), len(image) - start)
    image[start : start + size] = bytes(size)
    return image


def flip_bits(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    for place in rng.integers(0, len(image), int(rng.choice([1, 1, 1, 3, 30]))):
        image[place] ^= 1 << int(rng.integers(0, 8))
    return image


def set_bytes(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    for place in rng.integers(0, len(image), int(rng.choice([1, 2, 10]))):
        image[place] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
    return image


def break_a_header(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    """The first bytes of a page hold its kind, its counts and where its cells are."""
    page = int(rng.integers(0, len(image) // PAGE))
    place = page * PAGE + (100 if page == 0 and rng.random() < 0.7 else 0) + int(rng.integers(0, 24))
    image[place] = int(rng.integers(256))
    return image


def break_a_cell(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    """The first bytes of a cell hold its length, its row and the types of its columns."""
    page = int(rng.integers(1, len(image) // PAGE)) * PAGE
    cells = int.from_bytes(image[page + 3 : page + 5], "big")
    header = 12 if image[page] in (2, 5) else 8
    if not 0 < cells < 1000:
        return flip_bits(image, rng, truth)
    pointer = page + header + 2 * int(rng.integers(0, cells))
    cell = int.from_bytes(image[pointer : pointer + 2], "big")
    image[min(page + cell + int(rng.integers(0, 14)), len(image) - 1)] ^= int(rng.integers(1, 256))
    return image


def swap_pages(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    one, other = (int(page) * PAGE for page in rng.integers(0, len(image) // PAGE, 2))
    if rng.random() < 0.5:
        image[one : one + PAGE] = image[other : other + PAGE]
    else:
        image[one : one + PAGE], image[other : other + PAGE] = (
            image[other : other + PAGE], image[one : one + PAGE],
        )  # fmt: skip
    return image


def random_page(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    page = PAGE * int(rng.integers(0, len(image) // PAGE))
    image[page : page + PAGE] = rng.bytes(PAGE)
    return image


def lose_a_write(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    """Pages as they were some commits ago: each is sound by itself."""
    pages = min(len(image), len(truth.older)) // PAGE
    for page in rng.integers(0, pages, int(rng.choice([1, 1, 3]))):
        image[page * PAGE : (page + 1) * PAGE] = truth.older[page * PAGE : (page + 1) * PAGE]
    return image


def rewrite_a_value(image: bytearray, rng: np.random.Generator, truth: Truth) -> bytearray:
    """A value of another type, size or meaning, in a file that is sound SQLite."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    # A file in WAL mode cannot live in memory.
    image[18:20] = b"\1\1"
    connection.deserialize(bytes(image))
    table, column = COLUMNS[int(rng.integers(len(COLUMNS)))]
    value = VALUES[int(rng.integers(len(VALUES)))]
    rows = (
        "" if rng.random() < 0.2 else f" WHERE rowid IN (SELECT rowid FROM {table} ORDER BY random() LIMIT 1)"
    )
    if table == "meta":
        rows = " WHERE key = 'filters'" if rng.random() < 0.3 else " WHERE key = 'bits'"
    try:
        if rng.random() < 0.15:
            connection.execute(f"DELETE FROM {table}{rows}")
        else:
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = {value}{rows}")
    except sqlite3.Error:
        pass
    changed = bytearray(connection.serialize())
    connection.close()
    changed[18:20] = b"\2\2"
    return changed


COLUMNS = [
    *[("state", name) for name in ("generation", "next_row", "tail_changed", "documents", "passages", "crc")],
    *[
        ("documents", name)
        for name in ("doc", "id", "text", "metadata", "digest", "own_vector", "crc", "filter_0")
    ],
    *[("passages", name) for name in ("row", "doc", "start", "stop", "vector", "crc")],
    *[("blocks", name) for name in ("block", "sealed", "changed", "live")],
    *[("columns", name) for name in ("block", "word", "crc", "codes")],
    *[("tail", name) for name in ("row", "crc", "code")],
    *[("meta", name) for name in ("key", "value", "value")],
    *[("contexts", name) for name in ("row", "crc", "context")],
    *[
        ("lexicon_state", name)
        for name in (
            "stamp",
            "next_segment",
            "end_row",
            "rows",
            "length",
            "tail",
            "tail_octets",
            "crc",
        )
    ],
    *[("lexicon_tail", name) for name in ("entry", "crc", "words")],
    *[
        ("lexicon_segments", name)
        for name in ("segment", "first_row", "end_row", "octets", "pages", "lists", "moving", "begins", "crc")
    ],
    *[("lexicon_terms", name) for name in ("page", "segment", "first", "crc", "entries")],
    *[("lexicon_lists", name) for name in ("list", "crc", "rows")],
]
VALUES = [
    "0", "1", "-1", "7", "63", "64", "2147483648", "9223372036854775807", "-9223372036854775808", "1e300", "9e999",
    "0.5", "''", "'text'", "'d5'", "'{}'", "'[]'", "'[[]]'", "'NaN'", "'10000000000'", "x''", "x'ff'", "x'c328'",
    "CAST(x'c328' AS TEXT)", "zeroblob(8)", "zeroblob(12)", "zeroblob(96)", "zeroblob(512)", "zeroblob(100000)",
    "randomblob(96)", "NULL", "printf('%.*c', 3000, '[')", "'a' || char(0) || 'b'",
]  # fmt: skip
KINDS: list[Damage] = [
    cut_at_a_page, cut_anywhere, zero_a_range, flip_bits, flip_bits, set_bytes, break_a_header, break_a_header,
    break_a_cell, break_a_cell, break_a_cell, swap_pages, random_page, lose_a_write, rewrite_a_value,
    rewrite_a_value,
]  # fmt: skip


def damaged(number: int, truth: Truth) -> tuple[str, bytes]:
    """The damaged file of this number, and the kind of its damage."""
    rng = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    return kind.__name__, bytes(kind(bytearray(truth.image), rng, truth))


def alter(path: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.close()


def describe(path: Path, **entries: str) -> None:
    """Change the description, and its checksum with it."""
    connection = sqlite3.connect(path)
    meta = dict(connection.execute("SELECT key, value FROM meta")) | entries
    meta["crc"] = meta_checksum(meta)
    with connection:
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
    connection.close()


def lie(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Give a row of the lexicon's tail, which has one, the words of another text, with checksums that hold."""
    counts = Counter(words.terms(text))
    marks = bm25.marks(counts.values(), sum(counts.values()))
    content = len(marks).to_bytes(4, "little") + marks + "\n".join(counts).encode()
    connection.execute(
        "UPDATE lexicon_tail SET words = ?, crc = ? WHERE entry = ?",
        (content, checksum(row, content=content), row),
    )
