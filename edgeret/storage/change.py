"""Change: one write transaction on the index file, from its first row to its counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import Int8, UInt64, words
from edgeret.storage.file import checksum, meta_checksum
from edgeret.storage.store import Passage, State, Store, passage_checksum

_SPARSE: Final = 0.75
"""`compact` empties a sealed block with a smaller share of live rows than this."""


class Change:
    """What may be done between the begin and the commit of a write."""

    def __init__(self, store: Store, state: State) -> None:
        self.store = store
        self.connection = store.connection
        self.codes = store.codes
        self.generation = state.generation + 1
        self.next_row = state.next_row
        self.documents = state.documents
        self.passages = state.passages
        self.tail_changed = state.tail_changed

    def finish(self) -> None:
        """Write the counters: the last statement before the commit."""
        state = State(self.generation, self.next_row, self.tail_changed, self.documents, self.passages)
        self.connection.execute(
            "UPDATE state SET generation = ?, next_row = ?, tail_changed = ?, documents = ?, passages = ?, crc = ?",
            (*state, checksum(*state)),
        )

    def insert(
        self,
        document: tuple[str, str, str, bytes, bool],
        passages: Sequence[tuple[int, int, str]],
        vectors: Int8,
        codes: UInt64,
    ) -> None:
        """Add a document that is not there.

        document: id, text, metadata, digest, whether it brought its vector. passages: (start, stop, text).
        vectors: int8 [n, dim]. codes: uint64 [n, words].
        """
        filtered = "".join(", json_extract(?3, ?)" for _ in self.store.filters)
        # The number of its first row, so that it is never another document's.
        doc = self.next_row
        crc = checksum(doc, int(document[4]), content=document[3])
        self.connection.execute(
            f"INSERT INTO documents VALUES (?6, ?1, ?2, ?3, ?4, ?5, ?7{filtered})",
            (*document, doc, crc, *(f'$."{key}"' for key in self.store.filters)),
        )
        self.documents += 1
        self._append_all(doc, passages, vectors, codes)

    def remove(self, identity: str) -> bool:
        """Take a document out of everything that is searched; False if there is none."""
        found = self.store.document_of(identity)
        if found is None:
            return False
        # Verified: forgetting words that the lexicon does not have would damage it.
        passages = self.store.passages_of(found.doc)
        for passage in passages:
            self._forget_words(passage.row, found.text[passage.start : passage.stop])
        if self.codes.drop([passage.row for passage in passages], self.generation):
            self.tail_changed = self.generation
        self.connection.execute("DELETE FROM passages WHERE doc = ?", (found.doc,))
        self.connection.execute("DELETE FROM documents WHERE doc = ?", (found.doc,))
        self.documents -= 1
        self.passages -= len(passages)
        return True

    def empty_sparse_blocks(self) -> None:
        """Move the rows of blocks with many dead rows to the end, as new rows, and drop the blocks."""
        for block, rows, codes in self.codes.sparse(_SPARSE):
            self._move(rows, codes)
            self.codes.remove_block(block)

    def zero_dead_codes(self) -> None:
        """Overwrite the codes of deleted rows in sealed blocks."""
        self.codes.zero_dead(self.generation)

    def recode(
        self, bits: int, made: Callable[[int, int], Iterable[tuple[NDArray[np.int64], UInt64]]]
    ) -> Iterator[int]:
        """Give all passages codes of `bits` bits, as `Codes.rewrite` does; yields how many were done meanwhile."""
        has_tail = yield from self.codes.rewrite(words(bits), self.next_row, self.generation, made)
        if has_tail:
            self.tail_changed = self.generation

    def forget_rows(self) -> None:
        """Drop the codes and words of all documents, each of which `replace_passages` gives new ones."""
        self.codes.clear()
        self.connection.execute("INSERT INTO lexicon (lexicon) VALUES ('delete-all')")
        self.tail_changed = self.generation
        self.passages = 0

    def replace_passages(
        self, doc: int, passages: Sequence[tuple[int, int, str]], vectors: Int8, codes: UInt64
    ) -> None:
        """Give a document, whose rows were forgotten, other passages, in new rows; arguments as of `insert`."""
        self.connection.execute("DELETE FROM passages WHERE doc = ?", (doc,))
        self._append_all(doc, passages, vectors, codes)

    def disown_vector(self, doc: int, digest: bytes) -> None:
        """Note that a document's vector is no longer the one that it brought."""
        self.connection.execute(
            "UPDATE documents SET own_vector = 0, crc = ? WHERE doc = ?",
            (checksum(doc, 0, content=digest), doc),
        )

    def describe(self, meta: Mapping[str, str]) -> None:
        """Change entries of the file's description."""
        changed = {**self.store.meta, **meta}
        changed["crc"] = meta_checksum(changed)
        self.connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", changed.items())

    def optimize_lexicon(self) -> None:
        """Merge the lexicon into one segment: only then FTS5 lets go of deleted terms."""
        self.connection.execute("INSERT INTO lexicon (lexicon) VALUES ('optimize')")

    def _append_all(
        self, doc: int, passages: Sequence[tuple[int, int, str]], vectors: Int8, codes: UInt64
    ) -> None:
        for (start, stop, text), vector, code in zip(passages, vectors, codes, strict=True):
            self._append(doc, start, stop, text, vector.tobytes(), code)
        self.passages += len(passages)

    def _append(self, doc: int, start: int, stop: int, text: str, vector: bytes, code: UInt64) -> None:
        passage = Passage(self.next_row, doc, start, stop, vector)
        self.connection.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", (*passage, passage_checksum(passage))
        )
        self.codes.append(passage.row, code)
        self.connection.execute("INSERT INTO lexicon (rowid, text) VALUES (?, ?)", (passage.row, text))
        self.next_row += 1
        if self.next_row % blocks.BLOCK_ROWS == 0:
            self.codes.seal(self.next_row // blocks.BLOCK_ROWS - 1, self.generation)
            self.tail_changed = self.generation

    def _forget_words(self, row: int, text: str) -> None:
        self.connection.execute(
            "INSERT INTO lexicon (lexicon, rowid, text) VALUES ('delete', ?, ?)", (row, text)
        )

    def _move(self, rows: Sequence[int], codes: UInt64) -> None:
        """Give passages new rows at the end; those of a document stand together. codes: uint64 [words, n]."""
        doc, text = -1, ""
        for row, code in zip(rows, codes.T, strict=True):
            passage = self.store.passage(row)
            if passage.doc != doc:
                doc, text = passage.doc, self.store.document(passage.doc).text
            own = text[passage.start : passage.stop]
            self._forget_words(row, own)
            self.connection.execute("DELETE FROM passages WHERE row = ?", (row,))
            self._append(doc, passage.start, passage.stop, own, passage.vector, code)
