"""Write the files of the formats of today, to be read for ever: python tests/formats/make.py

Once a format is released its files are never made again: they are what an old edgeret wrote.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeret import Document, Index
from edgeret.blocks import BLOCK_ROWS
from edgeret.codec import Codec
from edgeret.encode import bundle, manifest
from edgeret.storage import schema

HERE = Path(__file__).parent
DIM = 16
BITS = 64
KEPT_OF_BLOCK = 30
TAIL = 20
TEXTS = [
    "The lamp turns red when its battery is low.",
    "Hold the button for five seconds to reset the Wi-Fi.",
    "Le café est prêt; naïve Übung, 東京 and 🦊 are words too.",
]


class Reader:
    """What an index needs to know of its encoder; queries are vectors here."""

    name = "bundle-1"
    passage_tokens = 16

    def __init__(self, path: Path) -> None:
        opened = bundle.Bundle.open(path)
        self.dim, self.geometry, self.space, self.codec = (
            opened.dim,
            opened.geometry,
            opened.space,
            opened.codec(),
        )
        self.planned_bytes = {"reader": 1_000_000}

    def encode(self, texts: list[str]) -> np.ndarray:
        """Something of unit length for each text, of integers alone: the same everywhere."""
        rows = np.array([[sum(text.encode()[d::DIM]) % 61 - 30 for d in range(DIM)] for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Characters."""
        return [(at, at + 1) for at in range(len(text))]


def integers(seed: int, shape: tuple[int, ...], bound: int) -> np.ndarray:
    """Whole numbers within +-bound, whatever NumPy's generators become."""
    numbers = np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * np.uint64(2 * seed + 1)
    return (
        (numbers * numbers * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(2 * bound + 1)
    ).astype(np.int64).reshape(shape) - bound


def make_bundle(path: Path) -> None:
    """A static bundle with every kind of tensor and file."""
    projection = integers(1, (DIM, BITS), 30_000)
    codec = Codec(
        projection.astype(np.int16),
        integers(2, (BITS,), 1000).astype(np.float64),
        (projection / 32768).astype(np.float16).astype(np.float32),
        (integers(2, (BITS,), 1000) / 32768).astype(np.float32),
        (32, 64),
    )
    tokens = {
        "tokens": integers(3, (6, DIM), 127).astype(np.int8),
        "token_scales": np.linspace(0.5, 1, 6, dtype=np.float32),
    }
    bundle.write(
        path,
        bundle.Content(
            name="bundle-1",
            max_tokens=16,
            geometry="0123456789abcdef" * 2,
            codec=codec,
            kind="static",
            graphs={},
            tensors={"tokens.bin": tokens},
            files={"card.md": "# For ever, für immer\n".encode()},
            about={"license": "Apache-2.0"},
        ),
    )


def documents() -> list[Document]:
    """Enough for a sealed block and a tail; one long text, one without a word, one replaced later."""
    vectors = integers(4, (BLOCK_ROWS + TAIL, DIM), 100)
    made = [
        Document(
            f"d{number}",
            f"{TEXTS[number % 3]} number{number}",
            {"year": number % 10, "tag": ["a", number]},
            vector,
        )
        for number, vector in enumerate(vectors.astype(np.float64))
    ]
    made[-1] = Document("long", " ".join(TEXTS * 3), {"year": None, "deep": {"er": [1.5, True, "é"]}})
    made[-2] = Document("wordless", "", {}, made[-2].vector)
    return made


def make_index(path: Path, folder: Path) -> dict[str, Any]:
    """Write an index as `close` leaves it; returns what is to be found in it."""
    encoder = Reader(folder)
    made = documents()
    with Index.create(path, model=encoder, bits=BITS, filters=["year"]) as index:
        index.add(made)
        index.add([Document("d3", "replaced", {"year": "text"}, made[3].vector)])
        index.delete([f"d{number}" for number in range(KEPT_OF_BLOCK, BLOCK_ROWS)], erase=True)
        index.delete([f"d{number}" for number in range(5, 10)])
        assert index.check().blocks == 1
        vector = [float(entry) for entry in made[11].vector]
        queries: list[dict[str, Any]] = [
            {"query": vector, "k": 5, "oversample": 8},
            {"query": vector, "k": 4, "oversample": 8, "where": {"year": {"$lt": 5}}},
            {
                "query": [-entry for entry in vector],
                "k": 3,
                "oversample": 8,
                "where": {"deep": {"$exists": False}},
            },
            {"query": "lamp battery", "k": 6, "mode": "lexical"},
            {"query": "CAFE ubung 東京", "k": 3, "mode": "lexical", "where": {"tag": {"$contains": "a"}}},
        ]
        ids = [
            identity
            for (identity,) in index._store.connection.execute("SELECT id FROM documents ORDER BY doc")
        ]
        found = {identity: index.get(identity) for identity in ids}
        return {
            "info": {
                key: getattr(index.info(), key)
                for key in ("format", "dim", "bits", "filters", "documents", "passages")
            },
            "documents": {identity: [kept.text, kept.metadata] for identity, kept in found.items() if kept},
            "answers": [
                {"query": query, "hits": [asdict(hit) for hit in index.search(**query)]} for query in queries
            ],
        }


def main() -> None:
    """Write what is not there yet."""
    folder = HERE / f"bundle-{manifest.FORMAT}"
    if not folder.exists():
        make_bundle(folder)
    target = HERE / f"index-{schema.FORMAT_VERSION}"
    if not target.exists():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "index.edgeret")
            expected = make_index(path, folder)
            target.mkdir()
            (target / "index.edgeret.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        text = json.dumps(expected, ensure_ascii=False, indent=1)
        (target / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
