"""Add: documents are checked, encoded a few at a time, and staged; those of a commit go into the index together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from edgeret.documents import Chunk, Document, Given, Record, Section, Span, as_document, as_sections
from edgeret.encode.records import TextEncoder, encode, own_vector
from edgeret.errors import BudgetError, EdgeretError, LockedError
from edgeret.plan import footprint
from edgeret.reports import Added
from edgeret.storage.staging import Staging
from edgeret.upkeep.duplicates import Duplicates, Hold

_TOGETHER: Final = 8
"""Documents that are encoded together, for each thread of the encoder: few, since a search under a budget waits."""

_SHORT: Final = 4096
"""Characters of a document, with its metadata, that waits for others."""


class _Waiting(NamedTuple):
    """A document to encode, its own vector, as of its only passage, and the parts of its text that none crosses."""

    record: Record
    known: Mapping[Span, bytes]
    sections: Sequence[Section] | None


def admit(document: Document, room: int | None) -> None:
    """Raise BudgetError for a document that is too large, before anything is made of it.

    room: bytes that one may take while it is written; None: any number.
    """
    if room is None:
        return
    text, metadata = document.text, document.metadata
    # What is no text or no mapping is refused by name, a moment later.
    if isinstance(text, str) and isinstance(metadata, Mapping):
        needed = footprint(text, metadata, room)
        if needed > room:
            raise BudgetError(
                f"expected a document that takes at most {room / 10**6:.1f}MB while it is written, "
                f"{str(document.id or text)[:40]!r} takes {needed / 10**6:.1f}MB or more: "
                "split it, or raise the memory budget"
            )


class Adding:
    """A load of documents.

    hold: for what takes memory as a search does. room: as of `admit`. chunk: gives the parts of a document's text;
    None: it is one. copies: chooses what is left out; None: nothing is.
    """

    def __init__(
        self,
        staging: Staging,
        encoder: TextEncoder,
        hold: Hold,
        room: int | None,
        chunk: Chunk | None,
        copies: Duplicates | None,
    ) -> None:
        self._staging, self._encoder, self._hold = staging, encoder, hold
        self._room, self._chunk, self._copies = room, chunk, copies
        self._together = _TOGETHER * getattr(encoder, "threads", 1)
        self._waiting: dict[str, _Waiting] = {}

    def run(self, documents: Iterable[Given], commit_every: int | None) -> Added:
        """Read and add all documents, committed after so many, and at the end; what `Index.add` returns and raises."""
        ids: list[str] = []
        safe = 0
        try:
            # What an interrupted load has left is not asked for.
            self._staging.spare()
            is_first = True
            for given in documents:
                self._staging.alive()
                document = as_document(given)
                admit(document, self._room)
                record = Record.of(document)
                if self._accept(document, record, is_first):
                    is_first = False
                ids.append(record.id)
                if commit_every is not None and len(ids) % commit_every == 0:
                    self._publish()
                    is_first, safe = True, len(ids)
            self._publish()
        except EdgeretError as error:
            told = error
            if isinstance(error, LockedError) and self._staging.spare():
                told = LockedError(
                    f"{error}; what was encoded is kept until the next change: add the same documents again"
                )
            if safe:
                told.add_note(f"the first {safe} documents of this call are committed")
            if told is error:
                raise
            raise told from error
        self._staging.unstage()
        copies = self._copies
        if copies is None:
            return Added(ids)
        kept = (id for id in ids if id not in copies.left_out)
        return Added(kept, copies.found, copies.count)

    def _accept(self, document: Document, record: Record, is_first: bool) -> bool:
        """Have a document wait to be encoded if it is not there; whether it was so.

        is_first: of those that are committed together.
        """
        if record.id in self._waiting:
            self._stage()
        own = own_vector(record, self._encoder)
        if self._staging.holds(record, None if own is None else own[0]):
            return False
        if is_first:
            # Whoever is to be refused is refused before hours of encoding.
            self._staging.await_lock()
        sections = None
        if self._chunk is not None and own is None:
            sections = as_sections(record.text, self._chunk(document))
        known = {} if own is None else {(0, len(record.text)): own.tobytes()}
        self._waiting[record.id] = _Waiting(record, known, sections)
        if len(self._waiting) >= self._together or len(record.text) + len(record.metadata) > _SHORT:
            self._stage()
        return True

    def _stage(self) -> None:
        """Encode the documents that wait, if there are any; then none waits."""
        if not self._waiting:
            return
        records, known, sections = zip(*self._waiting.values(), strict=True)
        self._waiting.clear()
        bits, alive = self._staging.store.bits, self._staging.alive
        for one in self._hold(partial(encode, records, self._encoder, bits, known, sections, alive)):
            self._staging.stage(one)

    def _publish(self) -> None:
        self._stage()
        self._staging.publish(None if self._copies is None else self._copies.chosen)
