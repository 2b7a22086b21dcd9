"""Store: an index file, open: its tables, read in transactions and verified on the way."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret import blocks
from edgeret.blocks import Bitmap, Mask
from edgeret.codec import Float32, Int8, dequantize
from edgeret.documents import Record, parse
from edgeret.storage import file
from edgeret.storage.codes import Codes
from edgeret.storage.session import META as META
from edgeret.storage.session import Session
from edgeret.storage.session import State as State

_DOCUMENT: Final = "SELECT doc, id, text, metadata, digest, own_vector, crc FROM documents"

_HEAD: Final = struct.Struct("<4q")
"""What a passage's checksum covers before its vector."""


class Passage(NamedTuple):
    """A row: the document's number, the span in its text, the vector as stored."""

    row: int
    doc: int
    start: int
    stop: int
    vector: bytes


class StoredDocument(NamedTuple):
    """A document as read back, its digest verified. json: the metadata as they are stored."""

    doc: int
    id: str
    text: str
    metadata: dict[str, Any]
    json: str
    own_vector: bool


class Store(Session):
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    @property
    def codes(self) -> Codes:
        """The codes of its passages."""
        return Codes(self)

    # -- reading rows and documents

    def passages(self, rows: Sequence[int]) -> list[Passage]:
        """The passages of `rows`, each verified, in the order asked."""
        found = {}
        # In row order: neighbors share pages, and a slow card is read forwards.
        for read in self.connection.execute(
            "SELECT row, doc, start, stop, vector, crc FROM passages"
            " WHERE row IN (SELECT value FROM json_each(?)) ORDER BY row",
            (json.dumps(rows),),
        ):
            found[read[0]] = self.verified(read)
        if missing := set(rows).difference(found):
            raise self.damaged(f"row {min(missing)} has a code and no passage")
        return [found[row] for row in rows]

    def passage(self, row: int) -> Passage:
        """One passage, verified."""
        return self.passages([row])[0]

    def verified(self, read: tuple[int, int, int, int, bytes, int]) -> Passage:
        """Check a row of the table `passages`."""
        row, doc, start, stop, vector, crc = read
        if not isinstance(vector, bytes) or len(vector) != self.dim:
            raise self.damaged(f"the vector of row {row} does not have {self.dim} bytes")
        try:
            # As `checksum` does it, without the calls: this is done for every candidate.
            sound = zlib.crc32(vector, zlib.crc32(_HEAD.pack(row, doc, start, stop))) == crc
        except struct.error:
            sound = False
        if not sound or not 0 <= start <= stop:
            raise self.damaged(f"row {row} is not what was written")
        return Passage(row, doc, start, stop, vector)

    def vectors(self, block: int) -> Int8:
        """The stored vectors of a block's rows, int8 [n, dim], verified, in row order."""
        first = block * blocks.BLOCK_ROWS
        octets = bytearray()
        for read in self.connection.execute(
            "SELECT row, doc, start, stop, vector, crc FROM passages WHERE row >= ? AND row < ? ORDER BY row",
            (first, first + blocks.BLOCK_ROWS),
        ):
            octets += self.verified(read).vector
        return np.frombuffer(octets, dtype=np.int8).reshape(-1, self.dim)

    def passages_of(self, doc: int) -> list[Passage]:
        """A document's passages, in row order, verified."""
        found = self.connection.execute(
            "SELECT row, doc, start, stop, vector, crc FROM passages WHERE doc = ? ORDER BY row", (doc,)
        ).fetchall()
        return [self.verified(read) for read in found]

    def document(self, doc: int) -> StoredDocument:
        """One document by its number, verified."""
        read = self.connection.execute(f"{_DOCUMENT} WHERE doc = ?", (doc,)).fetchone()
        if read is None:
            raise self.damaged(f"document {doc} is missing")
        return self._verified_document(read)

    def document_of(self, identity: str) -> StoredDocument | None:
        """One document by its id, verified; None if there is none."""
        try:
            read = self.connection.execute(f"{_DOCUMENT} WHERE id = ?", (identity,)).fetchone()
        except UnicodeEncodeError:
            return None  # No stored id holds a lone surrogate.
        if read is None:
            return None
        found = self._verified_document(read)
        if found.id != identity:
            raise self.damaged(
                f"the index of ids finds document {found.id!r} where {identity!r} is looked for"
            )
        return found

    def own_vector(self, document: StoredDocument) -> Float32 | None:
        """The vector that a document came with, float32 [dim], of unit length; None if it came without."""
        if not document.own_vector:
            return None
        passages = self.passages_of(document.doc)
        if len(passages) != 1:
            raise self.damaged(f"document {document.id!r} has a vector of its own and other passages")
        vector: Float32 = dequantize(np.frombuffer(passages[0].vector, dtype=np.int8)[None])[0]
        return vector

    def _verified_document(self, read: tuple[Any, ...]) -> StoredDocument:
        doc, identity, text, metadata, digest, own_vector, crc = read
        sound = (
            all(isinstance(part, str) for part in (identity, text, metadata))
            and isinstance(own_vector, int)
            and Record(identity, text, metadata, None).digest == digest
            and file.checksum(doc, own_vector, content=digest) == crc
        )
        if not sound:
            raise self.damaged(f"document {identity!r} is not what was written")
        parsed = parse(metadata)
        if parsed is None:
            raise self.damaged(f"the metadata of document {identity!r} are no JSON object")
        return StoredDocument(doc, identity, text, parsed, metadata, bool(own_vector))

    def matching(self, condition: str, parameters: Sequence[object]) -> Mask:
        """The rows whose document meets an SQL condition on `d`."""
        # CROSS: documents first, or the condition is asked again for each of their passages.
        return self._mask(
            f"SELECT p.row FROM documents d CROSS JOIN passages p ON p.doc = d.doc WHERE {condition}",
            parameters,
        )

    def rows_of(self, docs: Iterable[int]) -> Mask:
        """The rows of documents, by their numbers."""
        chosen = json.dumps(list(docs))
        return self._mask("SELECT row FROM passages WHERE doc IN (SELECT value FROM json_each(?))", (chosen,))

    def _mask(self, statement: str, parameters: Sequence[object]) -> Mask:
        mask: dict[int, Bitmap] = {}
        next_row = self.state().next_row
        # The loop alone holds the statement: a traceback that somebody keeps would keep its read lock.
        for batch in iter(partial(self.connection.execute(statement, parameters).fetchmany, 4096), []):
            found = np.array(batch, dtype=np.int64)[:, 0]
            if found.min() < 0 or found.max() >= next_row:
                raise self.damaged(f"an index finds a row that is not one of {next_row}")
            for block in np.unique(found // blocks.BLOCK_ROWS).tolist():
                rows = found[found // blocks.BLOCK_ROWS == block] - block * blocks.BLOCK_ROWS
                bitmap = mask.setdefault(block, blocks.empty())
                blocks.choose(bitmap, rows)
        return mask

    def lexical(
        self, match: str, mask: Mask | None, hidden: Mask | None, limit: int
    ) -> list[tuple[int, float]]:
        """(row, BM25 score, higher is better) of the best `limit` passages for an FTS5 query.

        mask: rows outside of it are not found. hidden: nor are these.
        """
        condition, parameters = blocks.condition(mask, hidden or {})
        found = self.connection.execute(
            f"SELECT rowid, rank FROM lexicon WHERE lexicon MATCH :match AND {condition}"
            " ORDER BY rank, rowid LIMIT :limit",
            {"match": match, "limit": limit} | parameters,
        ).fetchall()
        if not all(isinstance(rank, float) for _, rank in found):
            raise self.damaged("the lexicon gives no ranks")
        return [(row, -rank) for row, rank in found]

    def meeting(self, docs: Iterable[int], condition: str, parameters: Sequence[object]) -> set[int]:
        """Which of the documents meet an SQL condition on `d`: indexes, which found them, have no checksums."""
        found = self.connection.execute(
            "SELECT d.doc FROM documents d NOT INDEXED"
            f" WHERE d.doc IN (SELECT value FROM json_each(?)) AND ({condition})",
            (json.dumps(list(docs)), *parameters),
        ).fetchall()
        return {doc for (doc,) in found}


def passage_checksum(passage: Passage) -> int:
    """CRC-32 over row, document, span and vector."""
    return file.checksum(*passage[:4], content=passage.vector)
