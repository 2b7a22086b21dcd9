"""tantivy: BM25 over words, a search library in Rust by its Python package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tantivy

from benchmarks.systems import Batch, Hit, K, Question

WORDS = re.compile(r"\w+")


class Words:
    """A query matches what has any of its words."""

    def __init__(self, folder: Path, encoder: Any) -> None:
        schema = tantivy.SchemaBuilder()
        schema.add_unsigned_field("row", stored=True, indexed=True)
        schema.add_text_field("text", stored=True)
        self._index = tantivy.Index(schema.build(), path=str(folder))

    def build(self, batches: Iterator[Batch]) -> None:
        writer = self._index.writer(num_threads=1)
        for batch in batches:
            self._write(writer, batch)
        self._commit(writer)

    def add(self, batch: Batch) -> None:
        writer = self._index.writer(num_threads=1)
        self._write(writer, batch)
        self._commit(writer)

    def delete(self, row: int) -> None:
        writer = self._index.writer(num_threads=1)
        writer.delete_documents_by_query(self._index.parse_query(f"row:{row}"))
        self._commit(writer)

    def search(self, question: Question) -> list[Hit]:
        query, _ = self._index.parse_query_lenient(" ".join(WORDS.findall(question.text)), ["text"])
        searcher = self._index.searcher()
        found = (searcher.doc(address) for _, address in searcher.search(query, K).hits)
        return [Hit(document["row"][0], document["text"][0]) for document in found]

    def close(self) -> None:
        del self._index

    def _write(self, writer: Any, batch: Batch) -> None:
        for row, text in zip(batch.rows, batch.texts, strict=True):
            document = tantivy.Document(text=text)
            document.add_unsigned("row", row)
            writer.add_document(document)

    def _commit(self, writer: Any) -> None:
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
