"""Reencode: passages, vectors and codes anew from the stored texts, by another encoder, while the index is in use."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from edgeret.codec import normalize, quantize
from edgeret.documents import Passages, Record, Section
from edgeret.door import checked
from edgeret.encode.records import TextEncoder, encode, load, plan_for, shortened
from edgeret.errors import InvalidDocumentError
from edgeret.plan import parse_bytes
from edgeret.reports import Progress, ReencodeSummary
from edgeret.space import describe
from edgeret.storage.change import Change
from edgeret.storage.drafts import Drafts
from edgeret.storage.migration import open_to_write
from edgeret.storage.place import absolute
from edgeret.storage.rows import Head
from edgeret.storage.store import Store
from edgeret.upkeep.repair import LISTED_IDS

_BATCH: Final = 256
"""Numbers of documents in memory together."""

_COMPARED: Final = 32
"""Documents whose drafts of an interrupted call are made again, to see whether the others can be believed."""

_PROBE: Final = "The quick brown fox jumps over the lazy dog, 1234567890 times."


@checked
def reencode(
    path: str | os.PathLike[str],
    model: str | os.PathLike[str] | TextEncoder,
    bits: int | None = None,
    memory_budget: str | int | None = None,
    wait: float = 0.0,
    progress: Progress | None = None,
) -> ReencodeSummary:
    """Encode all texts of an index with another model, of any geometry.

    Passages, vectors and codes are replaced by one transaction at the end; the index may be searched and changed
    meanwhile. Until then the new vectors wait in the file `PATH-reencode`, so an interrupted call is simply made
    again. A document's own vector stays if the geometry does.

    Args:
        path: The index file.
        model: A bundle's name or folder, or an encoder; the index's model from then on.
        bits: Length of the new codes in bits. None keeps it.
        memory_budget: As in `Index.create`. None sets no bound.
        wait: Seconds to wait for another writer. 0 waits for none.
        progress: Called now and then as `progress(done, total)`, in documents. None calls nothing.

    Returns:
        The index's model, space and bits now, and what was encoded.

    Raises:
        InvalidDocumentError: A document has a vector of another geometry and no text.
        InvalidQueryError: The codec lacks these bits.
        EdgeretError: What `Index.open` and `Index.add` raise.
    """
    return open_to_write(absolute(path), wait).use_once(
        lambda store: _reencode(store, load(model), bits, memory_budget, progress)
    )


def _reencode(
    store: Store,
    encoder: TextEncoder,
    bits: int | None,
    memory_budget: str | int | None,
    progress: Progress | None,
) -> ReencodeSummary:
    """Encode all texts into drafts, then change the index in one transaction, which `store` does not survive.

    bits: None keeps the length. Raises InvalidDocumentError for a document that is a vector of another geometry and
    no text, InvalidQueryError for bits that the codec lacks, BudgetError, LockedError, CorruptIndexError, StorageError.
    """
    bits = store.bits if bits is None else bits
    encoder.codec.check_bits(bits)
    budget = None if memory_budget is None else parse_bytes(memory_budget)
    plan = plan_for(encoder, 0, bits, budget)
    store.resize_cache(plan.writing_cache_bytes)
    return _Reencoding(store, shortened(encoder, plan), bits).run(progress)


class _Reencoding:
    """One index on its way to one encoder."""

    def __init__(self, store: Store, encoder: TextEncoder, bits: int) -> None:
        self._store = store
        self._encoder = encoder
        self._bits = bits
        self._keeps_vectors = store.description.geometry == encoder.geometry
        if self._keeps_vectors and store.dim != encoder.dim:
            raise store.damaged(f"vectors of dim {store.dim} in a geometry of dim {encoder.dim}")

    def run(self, progress: Progress | None) -> ReencodeSummary:
        self._check_texts()
        with Drafts(self._store.path, self._key(), self._store.wait) as drafts:
            self._compare(drafts)
            encoded = self._draft(drafts, progress)
            summary = self._switch(drafts, encoded)
            drafts.remove()
        return summary

    def _key(self) -> bytes:
        """What a draft depends on beside the document; the vector of a text tells two bundles of one space apart."""
        encoder = self._encoder
        key = hashlib.blake2b(digest_size=16)
        key.update(f"1 {encoder.space} {self._bits} {encoder.passage_tokens} ".encode())
        key.update(quantize(normalize(encoder.encode([_PROBE]), encoder.dim)).tobytes())
        return key.digest()

    def _check_texts(self) -> None:
        """Refuse what cannot be encoded before hours are spent on what can."""
        if self._keeps_vectors:
            return
        with self._store.reading():
            for head in self._store.rows.each_head():
                if head.own_vector:
                    self._record(head)

    def _compare(self, drafts: Drafts) -> None:
        """Forget all drafts if some, drawn at random, are not what this encoder makes of the documents."""
        for doc, digest in drafts.sample(_COMPARED):
            with self._store.reading():
                head = self._store.rows.head(doc)
                if head is None or head.digest != digest or self._keeps(head):
                    continue
                record, sections = self._record(head), self._store.rows.sections(doc)
            kept = drafts.get(doc, digest, len(record.text), self._encoder.dim, self._bits)
            made = self._encoded(record, sections)
            if kept is None or kept.spans != made.spans or (kept.vectors != made.vectors).any():
                drafts.clear()
                return

    def _draft(self, drafts: Drafts, progress: Progress | None) -> int:
        """Passages all documents, those that come meanwhile too; returns how many were encoded for that."""
        encoded = 0
        with self._store.reading() as state:
            total = state.documents
        for done, head in enumerate(self._each_outside(), start=1):
            if not self._keeps(head) and not drafts.holds(head.doc, head.digest):
                current = self._current(head)
                if current is not None:
                    drafts.add(head.doc, head.digest, self._encoded(*current))
                    encoded += 1
            if progress is not None:
                progress(done, max(done, total))
        drafts.commit()
        return encoded

    def _switch(self, drafts: Drafts, encoded: int) -> ReencodeSummary:
        """Give every document its draft, in one transaction."""
        store, encoder, bits = self._store, self._encoder, self._bits
        lost: list[str] = []
        with store.writing() as state:
            change = Change(store, state)
            # Rows that are written from here on are of the new codes; own vectors that stay have the same dim.
            told = store.description
            store.description = describe(encoder, bits, store.filters, told.language)._replace(
                others=told.others
            )
            change.forget_rows()
            count = 0
            for head in self._each():
                document, sections = store.rows.document(head.doc), store.rows.sections(head.doc)
                draft = None if self._keeps(head) else self._kept(drafts, head, len(document.text))
                if draft is None:
                    # It brought its vector, or came a moment ago.
                    draft = self._encoded(self._record(head), sections)
                    encoded += not self._keeps(head)
                change.replace_passages(document, draft._replace(contexts=_contexts(draft.spans, sections)))
                if head.own_vector and not self._keeps_vectors:
                    change.rows.disown_vector(head)
                    lost += [document.id] if len(lost) < LISTED_IDS else []
                count += 1
            _, left, _ = store.rows.counts()
            if (count, left) != (state.documents, change.passages):
                raise store.damaged(
                    f"expected {state.documents} documents with {change.passages} passages, found {count} with {left}"
                )
            change.describe(store.description)
            change.finish()
        return ReencodeSummary(
            path=str(store.path),
            model=encoder.name,
            space=encoder.space,
            bits=bits,
            documents=count,
            passages=change.passages,
            encoded=encoded,
            own_vectors_lost=lost,
        )

    def _kept(self, drafts: Drafts, head: Head, length: int) -> Passages | None:
        """The draft of a document whose text has so many characters; None if there is none that can be believed."""
        draft = drafts.get(head.doc, head.digest, length, self._encoder.dim, self._bits)
        if draft is None or (self._encoder.codec.encode(draft.vectors, self._bits) != draft.codes).any():
            return None
        return draft

    # -- documents

    def _each_outside(self) -> Iterator[Head]:
        """The documents there are, in the order of their numbers, each batch in a transaction of its own.

        Numbers only grow: documents that come meanwhile come at the end.
        """
        after = -1
        while True:
            with self._store.reading():
                batch = self._store.rows.heads(after, _BATCH)
            if not batch:
                return
            yield from batch
            after = batch[-1].doc

    def _each(self) -> Iterator[Head]:
        """The same, all in the current transaction."""
        after = -1
        while batch := self._store.rows.heads(after, _BATCH):
            yield from batch
            after = batch[-1].doc

    def _keeps(self, head: Head) -> bool:
        """Whether its vector is the document's own, and stays."""
        return head.own_vector and self._keeps_vectors

    def _current(self, head: Head) -> tuple[Record, list[Section]] | None:
        """A document as it is now, and the parts of its text; None if it has gone, or is another."""
        with self._store.reading():
            found = self._store.rows.head(head.doc)
            if found is None or found.digest != head.digest:
                return None
            return self._record(head), self._store.rows.sections(head.doc)

    def _record(self, head: Head) -> Record:
        """A document to encode: its text, or the vector that it came with if that is of the geometry to be."""
        document = self._store.rows.document(head.doc)
        vector = None
        if head.own_vector and self._keeps_vectors:
            vector = self._store.rows.own_vector(document)
        elif head.own_vector and not document.text.strip():
            raise InvalidDocumentError(
                f"expected a text to encode, document {document.id!r} is a vector of the old geometry alone: add it "
                "again with a text, or delete it"
            )
        return Record(document.id, document.text, "{}", vector)

    def _encoded(self, record: Record, sections: list[Section]) -> Passages:
        (encoded,) = encode([record], self._encoder, self._bits, sections=[sections])
        return encoded.passages


def _contexts(spans: list[tuple[int, int]], sections: list[Section]) -> list[str | None]:
    """What stands before each passage: drafts do not know it."""
    starts = [section.start for section in sections]
    return [sections[bisect_right(starts, start) - 1].context for start, _ in spans] if sections else []
