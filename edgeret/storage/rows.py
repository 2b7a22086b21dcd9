"""Rows: the tables `documents` and `passages`, each line with a checksum that is compared whenever it is read."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np

from edgeret import blocks
from edgeret.blocks import Bitmap, Mask
from edgeret.codec import Float32, Int8, Int64, dequantize
from edgeret.documents import Record, Section, digest_of, parse, searched
from edgeret.errors import CorruptIndexError
from edgeret.storage.checksum import (
    checksum,
    document_check,
    document_checksum,
    is_document_head,
    score,
    sound_lines,
)
from edgeret.storage.kept import Lines
from edgeret.storage.schema import filter_columns
from edgeret.storage.session import Session

_COLUMNS: Final = ("row", "doc", "start", "stop", "vector", "crc")
_PASSAGES: Final = f"SELECT {', '.join(_COLUMNS)} FROM passages"
_DOCUMENT: Final = "SELECT doc, id, text, metadata, digest, own_vector, crc FROM documents"
_HEAD: Final = "SELECT doc, id, digest, own_vector FROM documents"

_OWN: Final = "(p.row = {doc} AND p.doc = {doc} OR p.doc = {doc} AND p.doc <> p.row)"
"""What the passages `p` of a document meet: the one in the row that numbers it, and those that the index has."""
_OF_DOC: Final = _OWN.format(doc="?1")
_OF_EACH: Final = _OWN.format(doc="d.doc")

_AT_ONCE: Final = (10, 40, 100)
"""So many lines one statement reads by their keys: there are few such statements, each prepared once."""

_FIRST_ROW: Final = -(2**63)
_LAST_ROW: Final = 2**63 - 1

_SPAN: Final = struct.Struct("<4q")
"""What a passage's checksum covers before its vector."""


class Passage(NamedTuple):
    """A row: the document's number, the span in its text, the vector as stored."""

    row: int
    doc: int
    start: int
    end: int
    vector: bytes


class Source(NamedTuple):
    """What hits show of their document, its digest verified. json: the metadata as they are stored."""

    doc: int
    id: str
    text: str
    json: str


class StoredDocument(NamedTuple):
    """A document as read back, its digest verified. json: the metadata as they are stored."""

    doc: int
    id: str
    text: str
    metadata: dict[str, Any]
    json: str
    own_vector: bool


class Head(NamedTuple):
    """What tells a document from every other, as it is written: nothing of it is verified.

    own_vector: whether its vector came with it.
    """

    doc: int
    id: str
    digest: bytes
    own_vector: bool


class Told(NamedTuple):
    """What a document's metadata say of the file that it is of. records: how many documents the file has."""

    id: str
    path: object
    mtime: object
    octets: object
    records: object


class Rows:
    """Documents and their passages as the current transaction of a session sees them. Made anew for each use."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    # -- reading passages

    def lines(self, rows: Int64) -> Lines:
        """The passages of `rows`, distinct ones, each verified, in the order asked."""
        kept = self._session.kept
        if kept is not None and self._session.counters().next_row <= kept.rows:
            return kept.lines(rows, self._lines)
        return self._lines(rows)

    def _lines(self, rows: Int64) -> Lines:
        # In row order: neighbors share pages, and a slow card is read forwards.
        order = np.argsort(rows)
        read = self._read(rows[order].tolist())
        found = Lines(*sound_lines(read, self._session.dim))
        spans = found.heads[:, 2:]
        if len(spans) < len(read) or (spans[:, 0] < 0).any() or (spans[:, 0] > spans[:, 1]).any():
            self._refuse(read)
        heads, vectors = np.empty_like(found.heads), np.empty_like(found.vectors)
        heads[order], vectors[order] = found
        return Lines(heads, vectors)

    def places(self, rows: Int64) -> Int64:
        """The heads alone: some passages are read at a time, as they bring their vectors."""
        order = np.argsort(rows)
        heads = np.empty((len(rows), 4), np.int64)
        for first in range(0, len(rows), _AT_ONCE[-1]):
            part = order[first : first + _AT_ONCE[-1]]
            heads[part] = self.lines(rows[part]).heads
        return heads

    def scored(self, rows: Int64, vectors: Float32) -> tuple[Int64, Float32]:
        """The heads, as of `Lines`, of the passages of `rows`, each verified, and the cosines, float32 [n], to vectors.

        rows: distinct. vectors: float32 [queries, dim], unit rows, of which the nearest counts.
        """
        lines = self.lines(rows)
        return lines.heads, score(lines.vectors, vectors)

    def _read(self, rows: list[int]) -> list[tuple[Any, ...]]:
        read = list[tuple[Any, ...]]()
        for part in _parts(rows):
            read += self._connection.execute(_asking(_PASSAGES, "row", len(part)), part).fetchall()
        if len(read) < len(rows):
            raise self._missing(min(set(rows).difference(row for row, *_ in read)))
        return read

    def _refuse(self, read: list[tuple[Any, ...]]) -> None:
        """Raise what is to be said of the first line that is not what was written."""
        for line in read:
            self._verified(line)

    def passage(self, row: int) -> Passage:
        """One passage, verified."""
        read = self._connection.execute(f"{_PASSAGES} WHERE row = ?", (row,)).fetchone()
        if read is None:
            raise self._missing(row)
        return self._verified(read)

    def _missing(self, row: int) -> CorruptIndexError:
        return self._session.damaged(f"row {row} has a code and no passage")

    def each(self, first: int = _FIRST_ROW, stop: int = _LAST_ROW) -> Iterator[Passage]:
        """The passages from row `first` on to before `stop`, in row order, verified."""
        for read in self._connection.execute(
            f"{_PASSAGES} WHERE row >= ? AND row < ? ORDER BY row", (first, stop)
        ):
            yield self._verified(read)

    def batches(self, first: int, stop: int, count: int) -> Iterator[list[Passage]]:
        """The same, `count` at a time."""
        statement = f"{_PASSAGES} WHERE row >= ? AND row < ? ORDER BY row"
        # The loop alone holds the statement: a traceback that somebody keeps would keep its read lock.
        for batch in iter(partial(self._connection.execute(statement, (first, stop)).fetchmany, count), []):
            yield [self._verified(read) for read in batch]

    def vectors(self, block: int) -> Int8:
        """The stored vectors of a block's rows, int8 [n, dim], verified, in row order."""
        octets = bytearray()
        for passage in self.each(block * blocks.BLOCK_ROWS, (block + 1) * blocks.BLOCK_ROWS):
            octets += passage.vector
        return np.frombuffer(octets, dtype=np.int8).reshape(-1, self._session.dim)

    def passages_of(self, doc: int) -> list[Passage]:
        """A document's passages, in the order of its text, verified.

        Not that of their rows: `compact` gives the first ones the last rows, where it empties the block they were in.
        """
        found = self._connection.execute(
            f"{_PASSAGES} p WHERE {_OF_DOC} ORDER BY start, row", (doc,)
        ).fetchall()
        return [self._verified(read) for read in found]

    def owners(self, rows: Sequence[int]) -> dict[int, int]:
        """The numbers of the documents of `rows`, by row, not verified; those that are gone are not in it."""
        return dict(
            self._connection.execute(
                "SELECT row, doc FROM passages WHERE row IN (SELECT value FROM json_each(?))",
                (json.dumps(rows),),
            ).fetchall()
        )

    def _verified(self, read: tuple[int, int, int, int, bytes, int]) -> Passage:
        row, doc, start, end, vector, crc = read
        if not isinstance(vector, bytes) or len(vector) != self._session.dim:
            raise self._session.damaged(f"the vector of row {row} does not have {self._session.dim} bytes")
        passage = Passage(row, doc, start, end, vector)
        try:
            sound = passage_checksum(passage) == crc
        except struct.error:
            sound = False
        if not sound or not 0 <= start <= end:
            raise self._session.damaged(f"row {row} is not what was written")
        return passage

    # -- reading documents

    def document(self, doc: int) -> StoredDocument:
        """One document by its number, verified."""
        read = self._connection.execute(f"{_DOCUMENT} WHERE doc = ?", (doc,)).fetchone()
        if read is None:
            raise self._session.damaged(f"document {doc} is missing")
        return self._verified_document(read)

    def sources(self, docs: Sequence[int]) -> Iterator[Source]:
        """Documents by their numbers, verified, one after the other, in the order asked."""
        asked, is_sound = iter(docs), document_check()
        for part in _parts(docs):
            for read in self._connection.execute(_asking(_DOCUMENT, "doc", len(part)), part):
                if read[0] != (doc := next(asked)):
                    raise self._session.damaged(f"document {doc} is missing")
                if not is_sound(read):
                    raise self._altered(read)
                yield Source(*read[:4])
        for doc in asked:
            raise self._session.damaged(f"document {doc} is missing")

    def document_of(self, identity: str) -> StoredDocument | None:
        """One document by its id, verified; None if there is none."""
        try:
            read = self._connection.execute(f"{_DOCUMENT} WHERE id = ?", (identity,)).fetchone()
        except UnicodeEncodeError:
            return None  # No stored id holds a lone surrogate.
        if read is None:
            return None
        found = self._verified_document(read)
        if found.id != identity:
            raise self._session.damaged(
                f"the index of ids finds document {found.id!r} where {identity!r} is looked for"
            )
        return found

    def vectors_of(self, identity: str) -> Float32 | None:
        """The vectors of a document's passages, float32 [n, dim], of unit length, in the order of the text.

        None if there is no such document.
        """
        document = self.document_of(identity)
        if document is None:
            return None
        octets = b"".join(passage.vector for passage in self.passages_of(document.doc))
        vectors: Float32 = dequantize(np.frombuffer(octets, dtype=np.int8).reshape(-1, self._session.dim))
        return vectors

    def own_vector(self, document: StoredDocument) -> Float32 | None:
        """The vector that a document came with, float32 [dim], of unit length; None if it came without."""
        if not document.own_vector:
            return None
        passages = self.passages_of(document.doc)
        if len(passages) != 1:
            raise self._session.damaged(
                f"document {document.id!r} has a vector of its own and other passages"
            )
        vector: Float32 = dequantize(np.frombuffer(passages[0].vector, dtype=np.int8)[None])[0]
        return vector

    def head(self, doc: int) -> Head | None:
        """The head of a document by its number; None if there is none."""
        read = self._connection.execute(f"{_HEAD} WHERE doc = ?", (doc,)).fetchone()
        return None if read is None else _head(read)

    def head_of(self, identity: str) -> Head | None:
        """The head of a document by its id; None if there is none."""
        read = self._connection.execute(f"{_HEAD} WHERE id = ?", (identity,)).fetchone()
        return None if read is None else _head(read)

    def heads(self, after: int, count: int) -> list[Head]:
        """The heads of the next `count` documents past number `after`, in order."""
        found = self._connection.execute(
            f"{_HEAD} WHERE doc > ? ORDER BY doc LIMIT ?", (after, count)
        ).fetchall()
        return [_head(read) for read in found]

    def each_head(self) -> Iterator[Head]:
        """The heads of all documents, in order of their numbers."""
        for read in self._connection.execute(f"{_HEAD} ORDER BY doc"):
            yield _head(read)

    def each_id(self) -> Iterator[tuple[int, str]]:
        """(number, id) of all documents, in order of their numbers, not verified."""
        yield from self._connection.execute("SELECT doc, id FROM documents ORDER BY doc")

    def holds(self, identity: str) -> bool:
        """Whether there is a document of this id."""
        found = self._connection.execute("SELECT 1 FROM documents WHERE id = ?", (identity,)).fetchone()
        return found is not None

    def stored_as(self, identity: str) -> tuple[bytes, int, bytes] | None:
        """(digest, whether its vector came with it, its first vector) of a document by its id, not verified."""
        found: tuple[bytes, int, bytes] | None = self._connection.execute(
            f"SELECT digest, own_vector, (SELECT vector FROM passages p WHERE {_OF_EACH} ORDER BY row LIMIT 1)"
            " FROM documents d WHERE id = ?",
            (identity,),
        ).fetchone()
        return found

    def each_of_documents(self, count: int) -> Iterator[list[tuple[Passage, bytes, int]]]:
        """All passages, verified, with digest and `own_vector` of their documents, `count` at a time."""
        # The documents outside, so that a long text is passed over once, not once for each of its passages.
        statement = (
            f"SELECT {', '.join(f'p.{column}' for column in _COLUMNS)}, d.doc, d.digest, d.own_vector, d.crc"
            f" FROM documents d LEFT JOIN passages p ON {_OF_EACH}"
        )
        for batch in iter(partial(self._connection.execute(statement).fetchmany, count), []):
            yield [self._verified_pair(read[:6], *read[6:]) for read in batch]

    def _verified_pair(
        self, read: tuple[Any, ...], doc: int, digest: bytes, own_vector: int, crc: int
    ) -> tuple[Passage, bytes, int]:
        if read[0] is None:
            raise self._session.damaged("a document has no passage")
        passage = self._verified(read)
        if not is_document_head(doc, digest, own_vector, crc):
            raise self._session.damaged(f"document {doc} is not what was written")
        return passage, digest, own_vector

    def _verified_document(self, read: tuple[Any, ...]) -> StoredDocument:
        doc, identity, text, metadata, _, own_vector, _ = read
        if not document_check()(read):
            raise self._altered(read)
        parsed = parse(metadata)
        if parsed is None:
            raise self._session.damaged(f"the metadata of document {identity!r} are no JSON object")
        return StoredDocument(doc, identity, text, parsed, metadata, bool(own_vector))

    def _altered(self, read: tuple[Any, ...]) -> CorruptIndexError:
        return self._session.damaged(f"document {read[1]!r} is not what was written")

    def contexts(self, rows: Sequence[int]) -> dict[int, str]:
        """What was encoded before the passages of `rows` and is not in their texts, verified, where there is any."""
        if self._session.description.format == 1:
            return {}
        found = self._connection.execute(
            "SELECT row, crc, context FROM contexts WHERE row IN (SELECT value FROM json_each(?))",
            (json.dumps(rows),),
        ).fetchall()
        return {row: self._verified_context(row, crc, context) for row, crc, context in found}

    def context_of(self, identity: str, span: tuple[int, int]) -> str | None:
        """What was encoded before a passage of a document, as of `contexts`; None: nothing, or there is none such."""
        found = self._connection.execute(
            f"SELECT p.row FROM documents d CROSS JOIN passages p ON {_OF_EACH}"
            " WHERE d.id = ? AND p.start = ? AND p.stop = ?",
            (identity, *span),
        ).fetchone()
        return None if found is None else self.contexts(found).get(found[0])

    def _verified_context(self, row: int, crc: int, context: object) -> str:
        if not isinstance(context, str) or context_checksum(row, context) != crc:
            raise self._session.damaged(f"the context of row {row} is not what was written")
        return context

    def sections(self, doc: int) -> list[Section]:
        """The parts of a document's text, in order, as what stands before its passages tells; none if nothing does."""
        if self._session.description.format == 1:
            return []
        read = self._connection.execute(
            "SELECT p.row, p.start, p.stop, c.crc, c.context FROM passages p LEFT JOIN contexts c ON c.row = p.row"
            f" WHERE {_OF_DOC} ORDER BY p.start",
            (doc,),
        ).fetchall()
        found: list[Section] = []
        for row, start, end, crc, context in read:
            told = None if context is None else self._verified_context(row, crc, context)
            if found and found[-1].context == told:
                found[-1] = found[-1]._replace(end=end)
            else:
                found.append(Section(start, end, told))
        return found if any(section.context for section in found) else []

    def each_text(self, by_row: bool = False) -> Iterator[tuple[int, str]]:
        """(row, what it is found by) of all passages, those of a document together.

        by_row: in ascending order of the rows.
        """
        of_each = f"documents d CROSS JOIN passages p ON {_OF_EACH} ORDER BY d.doc"
        passages = "passages p ORDER BY row" if by_row else of_each
        context = "(SELECT context FROM contexts c WHERE c.row = p.row)"
        told = "NULL" if self._session.description.format == 1 else context
        doc, text = -1, ""
        for row, owner, start, end, context in self._connection.execute(
            f"SELECT p.row, p.doc, p.start, p.stop, {told} FROM {passages}"
        ):
            if owner != doc:
                doc, text = owner, self.document(owner).text
            yield row, searched(context, text[start:end])

    def texts(self, rows: Int64) -> Iterator[tuple[int, str]]:
        """(row, what it is found by) of passages, verified, those of a document together: each is read once."""
        told = self.contexts(rows.tolist())
        heads = self.places(rows)
        heads = heads[np.argsort(heads[:, 1], kind="stable")]
        owned = groupby(heads.tolist(), key=itemgetter(1))
        sources = self.sources(blocks.distinct(heads[:, 1]).tolist())
        for source, (_, own) in zip(sources, owned, strict=True):
            for row, _, start, end in own:
                yield row, searched(told.get(row), source.text[start:end])

    # -- listing

    def ids_after(self, identity: str, condition: str, parameters: Sequence[object], count: int) -> list[str]:
        """The next `count` ids greater than one, ascending, of documents that meet an SQL condition on `d`.

        They are not verified.
        """
        found = self._connection.execute(
            f"SELECT d.id FROM documents d WHERE d.id > ? AND {condition} ORDER BY d.id LIMIT ?",
            (identity, *parameters, count),
        ).fetchall()
        ids = [identity, *(found_id for (found_id,) in found)]
        if any(first >= second for first, second in pairwise(ids)):
            raise self._session.damaged("the index of ids is not in order")
        return ids[1:]

    def told(self, first: str, stop: str, count: int) -> list[Told]:
        """What the next `count` documents with ids from `first` on and below `stop` say of their files, by id.

        It is not verified.
        """
        found = self._connection.execute(
            "SELECT id, json_extract(metadata, '$.path'), json_extract(metadata, '$.mtime'),"
            " json_extract(metadata, '$.bytes'), json_extract(metadata, '$.records')"
            " FROM documents WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (first, stop, count),
        ).fetchall()
        return [Told(*read) for read in found]

    def documents_after(
        self, identity: str, condition: str, parameters: Sequence[object], count: int, octets: int
    ) -> list[StoredDocument]:
        """The next `count` documents with ids greater than one, ascending, verified, that meet an SQL condition on `d`.

        octets: of texts and metadata, about: fewer documents come if they have more, but one if there is one.
        """
        found: list[StoredDocument] = []
        last, left = identity, octets
        for read in self._connection.execute(
            f"{_DOCUMENT} d WHERE d.id > ? AND {condition} ORDER BY d.id LIMIT ?",
            (identity, *parameters, count),
        ):
            document = self._verified_document(read)
            if document.id <= last:
                raise self._session.damaged("the index of ids is not in order")
            found.append(document)
            last, left = document.id, left - len(document.text) - len(document.json) - len(document.id)
            if left <= 0:
                break
        return found

    def facets(self, values: str, parameters: Sequence[object], limit: int | None) -> list[tuple[Any, int]]:
        """Values and how many documents have each, the most frequent first, then by kind and value.

        values: a statement that gives `kind` and `value` of each document, and its parameters. limit: how many values;
        None: all.
        """
        found = self._connection.execute(
            f"SELECT kind, value, count(*) AS docs FROM ({values}) GROUP BY kind, value"
            " ORDER BY docs DESC, kind, value LIMIT ?",
            (*parameters, -1 if limit is None else limit),
        ).fetchall()
        literals = {"true": True, "false": False}
        return [(literals.get(kind, value), count) for kind, value, count in found]

    # -- conditions

    def count(self, condition: str, parameters: Sequence[object], most: int = _LAST_ROW) -> int:
        """How many documents meet an SQL condition on `d`; they are counted to `most`."""
        (found,) = self._connection.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM documents d WHERE {condition} LIMIT ?)", (*parameters, most)
        ).fetchone()
        return int(found)

    def ids_meeting(self, condition: str, parameters: Sequence[object]) -> Iterator[str]:
        """The ids of the documents that meet an SQL condition on `d` now; they may be removed meanwhile."""
        chosen = self._mask(f"SELECT d.doc FROM documents d WHERE {condition}", parameters)
        for block, bits in sorted(chosen.items()):
            for offset in blocks.offsets(bits).tolist():
                head = self.head(block * blocks.BLOCK_ROWS + offset)
                if head is None:
                    raise self._session.damaged("an index finds a document where there is none")
                yield head.id

    def matching(self, condition: str, parameters: Sequence[object]) -> Mask:
        """The rows whose document meets an SQL condition on `d`, and the first ones of such documents that were moved.

        The table of passages, which is large, is not read.
        """
        return self._mask(
            "SELECT d.doc, coalesce(p.row, d.doc) FROM documents d"
            f" LEFT JOIN passages p ON p.doc = d.doc AND p.doc <> p.row WHERE {condition}",
            parameters,
        )

    def rows_of(self, docs: Iterable[int]) -> Mask:
        """The rows of documents, by their numbers."""
        chosen = json.dumps(list(docs))
        return self._mask(
            "SELECT row FROM json_each(?1) CROSS JOIN passages ON row = value AND doc = value UNION ALL"
            " SELECT row FROM passages WHERE doc IN (SELECT value FROM json_each(?1)) AND doc <> row",
            (chosen,),
        )

    def _mask(self, statement: str, parameters: Sequence[object]) -> Mask:
        mask: dict[int, Bitmap] = {}
        next_row = self._session.counters().next_row
        # The loop alone holds the statement: a traceback that somebody keeps would keep its read lock.
        for batch in iter(partial(self._connection.execute(statement, parameters).fetchmany, 4096), []):
            found = np.array(batch, dtype=np.int64).reshape(-1)
            if found.min() < 0 or found.max() >= next_row:
                raise self._session.damaged(f"an index finds a row that is not one of {next_row}")
            for block, bits in blocks.mask(found).items():
                mask[block] = mask[block] | bits if block in mask else bits
        return mask

    def meeting(self, docs: Iterable[int], condition: str, parameters: Sequence[object]) -> set[int]:
        """Which of the documents meet an SQL condition on `d`: indexes, which found them, have no checksums."""
        found = self._connection.execute(
            "SELECT d.doc FROM documents d NOT INDEXED"
            f" WHERE d.doc IN (SELECT value FROM json_each(?)) AND ({condition})",
            (json.dumps(list(docs)), *parameters),
        ).fetchall()
        return {doc for (doc,) in found}

    # -- checking

    def counts(self) -> tuple[int, int, int]:
        """How many documents and passages there are, and the last row, -1 if there is none."""
        documents, passages, last = self._connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages),"
            " (SELECT ifnull(max(row), -1) FROM passages)"
        ).fetchone()
        return documents, passages, last

    def verify(self) -> None:
        """Raise CorruptIndexError unless every document is what was written and its passages lie in its text.

        The columns of the filters repeat the metadata, too. Vectors are not read.
        """
        passages = 0
        for (doc,) in self._connection.execute("SELECT doc FROM documents"):
            passages += self._check_spans(self.document(doc))
        self._check_filters()
        self._check_contexts()
        if lost := self._session.counters().passages - passages:
            raise self._session.damaged(f"{lost} passages belong to no document")
        (taken,) = self._connection.execute(
            "SELECT count(*) FROM passages p CROSS JOIN documents d ON d.doc = p.row WHERE p.doc <> p.row"
        ).fetchone()
        if taken:
            raise self._session.damaged(f"{taken} passages have the first row of another document")

    def _check_spans(self, document: StoredDocument) -> int:
        """How many passages a document has, each within its text."""
        spans = self._connection.execute(
            f"SELECT start, stop FROM passages p WHERE {_OF_DOC} ORDER BY row", (document.doc,)
        ).fetchall()
        if not spans:
            raise self._session.damaged(f"document {document.id!r} has no passage")
        for start, end in spans:
            integers = isinstance(start, int) and isinstance(end, int)
            if not integers or not 0 <= start <= end <= len(document.text):
                raise self._session.damaged(f"a passage of document {document.id!r} lies outside of its text")
        return len(spans)

    def _check_contexts(self) -> None:
        if self._session.description.format == 1:
            return
        for row, crc, context, owner in self._connection.execute(
            "SELECT c.row, c.crc, c.context, p.row FROM contexts c LEFT JOIN passages p ON p.row = c.row"
        ):
            self._verified_context(row, crc, context)
            if owner is None:
                raise self._session.damaged(f"the context of row {row} belongs to no passage")

    def _check_filters(self) -> None:
        for key, column in filter_columns(self._session.filters).items():
            (different,) = self._connection.execute(
                f"SELECT count(*) FROM documents WHERE {column} IS NOT json_extract(metadata, ?)",
                (_path(key),),
            ).fetchone()
            if different:
                raise self._session.damaged(
                    f"{different} documents have another {key!r} than the column that is searched for it"
                )

    # -- writing

    def insert(self, doc: int, record: Record) -> None:
        """Add a document, under a number that was never another's. It has its own vector if the record has one."""
        digest, own_vector = record.digest, record.vector is not None
        filters = self._session.filters
        self._connection.execute(
            f"INSERT INTO documents VALUES (?6, ?1, ?2, ?3, ?4, ?5, ?7{', json_extract(?3, ?)' * len(filters)})",
            (
                *(record.id, record.text, record.metadata, digest, own_vector, doc),
                document_checksum(doc, own_vector, digest),
                *map(_path, filters),
            ),
        )

    def remove(self, doc: int) -> None:
        """Delete a document and its passages."""
        self.remove_passages(doc)
        self._connection.execute("DELETE FROM documents WHERE doc = ?", (doc,))

    def remove_passages(self, doc: int) -> None:
        """Delete a document's passages."""
        self._connection.execute(
            f"DELETE FROM contexts WHERE row IN (SELECT row FROM passages p WHERE {_OF_DOC})", (doc,)
        )
        self._connection.execute(f"DELETE FROM passages AS p WHERE {_OF_DOC}", (doc,))

    def insert_passage(self, passage: Passage, context: str | None) -> None:
        """Add a passage, in a row that was never another's. context: what stands before it; None: nothing."""
        self._connection.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", (*passage, passage_checksum(passage))
        )
        if context is not None:
            self._connection.execute(
                "INSERT INTO contexts VALUES (?, ?, ?)",
                (passage.row, context_checksum(passage.row, context), context),
            )

    def remove_passage(self, row: int) -> None:
        """Delete a passage."""
        self._connection.execute("DELETE FROM contexts WHERE row = ?", (row,))
        self._connection.execute("DELETE FROM passages WHERE row = ?", (row,))

    def replace_metadata(self, document: StoredDocument, metadata: str) -> None:
        """Give a document other metadata, canonical JSON."""
        digest = digest_of(document.id, document.text, metadata)
        columns = filter_columns(self._session.filters)
        assigned = "".join(f", {column} = json_extract(?1, ?)" for column in columns.values())
        self._connection.execute(
            f"UPDATE documents SET doc = ?2, metadata = ?1, digest = ?3, crc = ?4{assigned} WHERE doc = ?2",
            (
                *(metadata, document.doc, digest),
                document_checksum(document.doc, document.own_vector, digest),
                *map(_path, columns),
            ),
        )

    def disown_vector(self, head: Head) -> None:
        """Note that a document's vector is no longer the one that it brought."""
        self._connection.execute(
            "UPDATE documents SET own_vector = 0, crc = ? WHERE doc = ?",
            (document_checksum(head.doc, 0, head.digest), head.doc),
        )


def _parts(keys: Sequence[int]) -> Iterator[list[int | None]]:
    """The keys, as many as a statement asks for, and none in the places that are left."""
    for first in range(0, len(keys), _AT_ONCE[-1]):
        part = keys[first : first + _AT_ONCE[-1]]
        size = next(size for size in _AT_ONCE if size >= len(part))
        yield [*part, *[None] * (size - len(part))]


@cache
def _asking(selected: str, key: str, count: int) -> str:
    """The statement that gives the lines of so many keys, in their order."""
    asked = f"WITH asked (key) AS (VALUES {', '.join(['(?)'] * count)})"
    return f"{asked} {selected.replace(' FROM ', ' FROM asked CROSS JOIN ')} ON {key} = asked.key"


def passage_checksum(passage: Passage) -> int:
    """CRC-32 over row, document, span and vector."""
    # As `checksum` does it, without the calls: this is done for every candidate.
    return zlib.crc32(passage.vector, zlib.crc32(_SPAN.pack(*passage[:4])))


def context_checksum(row: int, context: str) -> int:
    """CRC-32 over row and context."""
    return checksum(row, content=context.encode())


def _head(read: tuple[int, str, bytes, int]) -> Head:
    doc, identity, digest, own_vector = read
    return Head(doc, identity, digest, bool(own_vector))


def _path(key: str) -> str:
    """Where json_extract finds a key of the metadata."""
    return f'$."{key}"'
