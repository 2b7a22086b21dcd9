"""Tally: what one run of `edgeret index` has refused and skipped, which texts came twice, and which are copies."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from edgeret.documents import Document
from edgeret.errors import BudgetError, EdgeretError, InvalidDocumentError
from edgeret.reports import MOST_COPIES, Added, Copy
from edgeret.upkeep.add import admit


class Tally:
    """Counts; say: prints the name and the fault of what is refused."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.refused = 0
        self.skipped: dict[str, str] = {}
        self.copies: list[Copy] = []
        self.copies_found = 0
        # 8 bytes a text: a set of Python's would take ten times as much.
        self._texts = array("Q")

    def refuse(self, error: EdgeretError) -> None:
        """Name what cannot be indexed, and count it."""
        self.refused += 1
        self._say(str(error))

    def skip(self, name: str, reason: str) -> None:
        """Note a file that is no document."""
        self.skipped[name] = reason

    def seen(self, documents: Iterable[Document], dim: int, room: int | None) -> Iterator[Document]:
        """The documents that an index of this dim takes; texts without an id are noted. room: as of `admit`."""
        for document in documents:
            try:
                admit(document, room)
            except BudgetError as error:
                self.refuse(error)
                continue
            if document.vector is not None and document.vector.size != dim:
                named = f"{document.id or document.text!r:.60}"
                found = f"got {document.vector.size}: leave the vector out"
                self.refuse(
                    InvalidDocumentError(f"document {named}: expected a vector of dim {dim}, {found}")
                )
                continue
            if document.id is None:
                digest = hashlib.blake2b(document.text.encode(), digest_size=8).digest()
                self._texts.append(int.from_bytes(digest))
            yield document

    def noted(self, added: Added) -> Added:
        """What was added, its copies noted."""
        self.copies += added.copies[: MOST_COPIES - len(self.copies)]
        self.copies_found += added.copies_found
        return added

    def repeated(self) -> int:
        """How many texts without an id were the same as one before."""
        texts = np.frombuffer(self._texts, dtype=np.uint64)
        return len(texts) - len(np.unique(texts))
