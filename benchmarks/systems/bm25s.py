"""bm25s: BM25 over words, scored beforehand in sparse matrices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bm25s

from benchmarks.systems import Batch, Hit, K, Question, UnsupportedError


class Words:
    """Mapped from the disk; stop words are left out, as by default."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        self._path = folder / "found"
        if self._path.exists():
            self._found = bm25s.BM25.load(self._path, load_corpus=True, mmap=True, show_progress=False)

    def build(self, batches: Iterator[Batch]) -> None:
        texts = [text for batch in batches for text in batch.texts]
        self._found = bm25s.BM25()
        self._found.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        self._found.save(self._path, corpus=texts, show_progress=False)

    def add(self, batch: Batch) -> None:
        raise UnsupportedError("build it anew")

    def delete(self, row: int) -> None:
        raise UnsupportedError("build it anew")

    def search(self, question: Question) -> list[Hit]:
        words = bm25s.tokenize(question.text, show_progress=False)
        found = self._found.retrieve(words, k=K, show_progress=False).documents[0]
        return [Hit(hit["id"], hit["text"]) for hit in found]

    def close(self) -> None:
        self._found = None
