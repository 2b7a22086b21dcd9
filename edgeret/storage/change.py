"""Change: one write transaction on the index file, from its first row to its counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import UInt64, words
from edgeret.documents import Encoded, Passages, searched
from edgeret.storage.checksum import checksum
from edgeret.storage.description import Description
from edgeret.storage.rows import Passage, StoredDocument
from edgeret.storage.store import Counters, Store
from edgeret.storage.vocabulary import Vocabulary

_SPARSE: Final = 0.75
"""`compact` empties a full block with a smaller share of live rows than this."""


class Change:
    """What may be done between the begin and the commit of a write."""

    def __init__(self, store: Store, counters: Counters) -> None:
        self.store = store
        self.connection = store.connection
        self.codes, self.rows, self.lexicon = store.codes, store.rows, Vocabulary(store, store.live)
        self.generation = counters.generation + 1
        self.next_row = counters.next_row
        self.documents = counters.documents
        self.passages = counters.passages
        self.tail_changed = counters.tail_changed

    def finish(self) -> None:
        """Write the words and the counters: the last statements before the commit."""
        self.lexicon.finish()
        counters = Counters(self.generation, self.next_row, self.tail_changed, self.documents, self.passages)
        self.connection.execute(
            "UPDATE state SET generation = ?, next_row = ?, tail_changed = ?, documents = ?, passages = ?, crc = ?",
            (*counters, checksum(*counters)),
        )

    def insert(self, encoded: Encoded) -> None:
        """Add a document that is not there."""
        # The number of its first row, so that it is never another document's.
        doc = self.next_row
        self.rows.insert(doc, encoded.record)
        self.documents += 1
        self._append_all(doc, encoded.record.text, encoded.passages)

    def remove(self, identity: str) -> bool:
        """Take a document out of everything that is searched; False if there is none."""
        found = self.rows.document_of(identity)
        if found is None:
            return False
        # Verified: forgetting words that the lexicon does not have would damage it.
        passages = self.rows.passages_of(found.doc)
        contexts = self.rows.contexts([passage.row for passage in passages])
        for passage in passages:
            text = found.text[passage.start : passage.end]
            self.lexicon.forget(passage.row, searched(contexts.get(passage.row), text))
        if self.codes.drop([passage.row for passage in passages], self.generation):
            self.tail_changed = self.generation
        self.rows.remove(found.doc)
        self.documents -= 1
        self.passages -= len(passages)
        return True

    def empty_sparse_blocks(self) -> None:
        """Move the rows of blocks with many dead rows to the end, as new rows, and drop the blocks."""
        for block, rows, codes in self.codes.sparse(_SPARSE):
            self._move(rows, codes)
            self.codes.remove_block(block)

    def zero_dead_codes(self) -> None:
        """Overwrite the codes of deleted rows in full blocks."""
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
        self.lexicon.clear()
        self.tail_changed = self.generation
        self.passages = 0

    def replace_passages(self, document: StoredDocument, passages: Passages) -> None:
        """Give a document, whose rows were forgotten, other passages, in new rows."""
        self.rows.remove_passages(document.doc)
        self._append_all(document.doc, document.text, passages)

    def describe(self, description: Description) -> None:
        """Change what the file says of itself."""
        description.write(self.connection)

    def _append_all(self, doc: int, text: str, passages: Passages) -> None:
        contexts = passages.contexts or repeat(None)
        for (start, end), vector, code, context in zip(
            passages.spans, passages.vectors, passages.codes, contexts, strict=False
        ):
            passage = Passage(self.next_row, doc, start, end, vector.tobytes())
            self._append(passage, text[start:end], code, context)
        self.passages += len(passages.spans)

    def _append(self, passage: Passage, text: str, code: UInt64, context: str | None) -> None:
        self.rows.insert_passage(passage, context)
        self.codes.append(passage.row, code)
        self.lexicon.add(passage.row, searched(context, text))
        self.next_row += 1
        if self.next_row % blocks.BLOCK_ROWS == 0:
            self.codes.make_block(self.next_row // blocks.BLOCK_ROWS - 1, self.generation)
            self.tail_changed = self.generation

    def _move(self, rows: Sequence[int], codes: UInt64) -> None:
        """Give passages new rows at the end; those of a document stand together. codes: uint64 [words, n]."""
        doc, text = -1, ""
        contexts = self.rows.contexts(rows)
        for row, code in zip(rows, codes.T, strict=True):
            passage = self.rows.passage(row)
            if passage.doc != doc:
                doc, text = passage.doc, self.rows.document(passage.doc).text
            own = text[passage.start : passage.end]
            self.lexicon.forget(row, searched(contexts.get(row), own))
            self.rows.remove_passage(row)
            self._append(passage._replace(row=self.next_row), own, code, contexts.get(row))
