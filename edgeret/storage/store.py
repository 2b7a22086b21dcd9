"""Store: what is in the SQLite file, read in transactions and verified on the way."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.blocks import Bitmap, Mask
from edgeret.codec import Float32, Int8, UInt64, dequantize, words
from edgeret.documents import Record, parse
from edgeret.errors import CorruptIndexError, EngineError, LockedError, SpaceMismatchError
from edgeret.storage import file, log, schema
from edgeret.storage.place import Place, absolute

"""Rows of a sealed block. A multiple of 8, so that bitmaps of rows split at block edges."""

META: Final = {"model", "space", "geometry", "dim", "bits", "filters", "crc"}
"""What the table `meta` holds."""

_READERS_S: Final = 1.0
"""How long emptying the log waits for searches to end."""

_DOCUMENT: Final = "SELECT doc, id, text, metadata, digest, own_vector, crc FROM documents"

_HEAD: Final = struct.Struct("<4q")
"""What a passage's checksum covers before its vector."""

Answer = TypeVar("Answer")


class State(NamedTuple):
    """The counters of an index. `generation` grows by one with every commit that changes it."""

    generation: int
    next_row: int
    tail_changed: int
    documents: int
    passages: int


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


class Store:
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    def __init__(
        self,
        path: Path,
        readonly: bool,
        cache_bytes: int = file.CACHE_BYTES,
        wait: float = file.WAIT_S,
        known: Place | None = None,
    ) -> None:
        self.path = path = absolute(path)
        self.readonly = readonly
        self.wait = wait
        self._cache_bytes = cache_bytes
        self._most_bytes: int | None = None
        self._doubtful = False
        if known is not None:
            known.check()
        file.check_path(path)
        self.place = Place(path, known)
        try:
            self.connection = file.connect(self.place, readonly, cache_bytes, wait, known=known)
        except BaseException:
            self.place.leave()
            raise
        try:
            with file.translated(path):
                self.meta = self._read_meta()
                self.filters: list[str] = self._described("filters", list)
                self.bits: int = self._described("bits", int)
                self.dim: int = self._described("dim", int)
                schema.check(self.connection, path, len(self.filters))
        except BaseException as error:
            self.close()
            if isinstance(error, EngineError) and file.contradicts(error):
                raise self.damaged(str(error.__cause__)) from error
            raise

    def _read_meta(self) -> dict[str, str]:
        entries = self.connection.execute("SELECT key, value FROM meta LIMIT ?", (2 * len(META),)).fetchall()
        meta = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, str)}
        if meta.keys() != META or meta["crc"] != file.meta_checksum(meta):
            raise self.damaged("its description, the table meta, is not what was written")
        return meta

    def _described(self, key: str, kind: type) -> Any:
        try:
            value = json.loads(self.meta[key])
        except (ValueError, RecursionError):
            value = None
        strings = not isinstance(value, list) or all(isinstance(entry, str) for entry in value)
        if not isinstance(value, kind) or not strings:
            raise self.damaged(f"its {key} are {self.meta[key]!r:.40}")
        return value

    def check_description(self, meta: Mapping[str, str]) -> None:
        """Raise SpaceMismatchError unless `meta`, a later reading of the description, differs in the model alone."""
        if any(meta[key] != self.meta[key] for key in META - {"model", "crc"}):
            raise SpaceMismatchError(
                f"'{self.path}' was opened with codes of {self.bits} bits of space {self.meta['space'][:8]}, and "
                f"by now has {meta['bits']:.8} bits of space {meta['space'][:8]}: close it and open it again"
            )

    def renew(self) -> None:
        """Go on with a new connection; raises as opening does, and then the old one stays."""
        self.place.check()
        fresh = file.connect(self.place, self.readonly, self._cache_bytes, self.wait, known=self.place)
        self.connection.close()
        self.connection = fresh
        self.place.enter()
        self._doubtful = False
        self.limit(self._most_bytes)

    def limit(self, most_bytes: int | None) -> None:
        """Read and write no text and no BLOB of more bytes, also after `renew`: SQLite refuses. None: its own limit."""
        self._most_bytes = most_bytes
        if most_bytes is not None:
            self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most_bytes)

    def resize_cache(self, cache_bytes: int) -> None:
        """Keep so many bytes of the file's pages, also after `renew`."""
        self._cache_bytes = cache_bytes
        with file.translated(self.path):
            file.resize_cache(self.connection, cache_bytes)

    def end_log(self) -> None:
        """Merge the write-ahead log and go on without one: the file is whole by itself, and synced."""
        with file.translated(self.path):
            self.connection.execute("PRAGMA journal_mode = DELETE")
            self.place.forget_log()

    def truncate_log(self) -> None:
        """Merge the write-ahead log and cut it to nothing; raises LockedError if a reader prevents it."""
        # Searches end soon, and there may always be one: without a wait the log would never be cut.
        file.patiently(self.path, self._try_to_truncate, max(_READERS_S, self.wait))
        self.place.note_log()

    def _try_to_truncate(self) -> None:
        if self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise LockedError(
                f"'{self.path}': deleted content is still in the file or its log because another connection "
                "is reading: run it again when that has ended"
            )

    def vacuum(self) -> None:
        """Write the file anew from what is live, through the log. Raises LockedError, StorageError."""
        file.patiently(self.path, lambda: self.connection.execute("VACUUM"), self.wait)

    def close(self) -> None:
        """Close the connection; the last one merges the write-ahead log into the file, wherever that lies by now."""
        with file.translated(self.path):
            try:
                if self.place.left_log():
                    log.take_along(self.connection)
            finally:
                self.connection.close()
                self.place.leave()

    # -- transactions

    def use(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns, with this connection or, after an error within an earlier one, with a new one.

        Whatever ends it, an interrupt at any instruction too, no transaction stays open: to leave one, `reading` and
        `writing` run Python, and that may be where the interrupt comes.
        """
        if self._doubtful:
            self.renew()
        try:
            return work()
        except LockedError:
            # Refused before anything was begun: what is staged stays.
            self.connection.rollback()
            raise
        except BaseException:
            self._doubtful = True
            try:
                # A statement that some traceback keeps would keep a closed connection's transaction with it.
                self.connection.rollback()
            except sqlite3.Error:
                # Closing ends it all the same; what was raised first says more.
                pass
            finally:
                self.close()
            raise

    def use_once(self, work: Callable[[Store], Answer]) -> Answer:
        """What `work` returns; then the connection is closed."""
        try:
            return self.use(lambda: work(self))
        finally:
            self.close()

    @contextmanager
    def reading(self) -> Iterator[State]:
        """One consistent view of the file.

        Raises ReplacedError if another one, or none, lies there; LockedError if a reader that may not lock the file
        finds it changed at the end.
        """
        self.place.check()
        if self.place.changed():
            self.renew()
        # Its own: where an interrupt has left this behind, it ends when there may be another one.
        connection = self.connection
        try:
            with file.translated(self.path, self._most_bytes):
                try:
                    connection.execute("BEGIN")
                    yield self._begun(file.patiently(self.path, self.state))
                finally:
                    _roll_back(connection)
        finally:
            if self.place.changed():
                raise LockedError(
                    f"'{self.path}' was changed while it was read, and cannot be locked without permission to write it "
                    "and its folder: try again"
                )

    @contextmanager
    def writing(self) -> Iterator[State]:
        """All or nothing.

        Raises LockedError if another connection is writing, after the seconds of `wait`, and ReplacedError if
        another file, or none, lies there at the beginning or at the end.
        """
        self.place.check()
        connection = self.connection
        with file.translated(self.path, self._most_bytes):
            try:
                file.patiently(self.path, lambda: connection.execute("BEGIN IMMEDIATE"), self.wait)
                changes = connection.total_changes
                yield self._begun(self.state())
                if connection.total_changes != changes:
                    file.mark(connection)
                self.place.check()
                connection.execute("COMMIT")
                self.place.note_log()
            except BaseException:
                _roll_back(connection)
                raise

    def _begun(self, state: State) -> State:
        self.place.expect_log()
        return state

    def state(self) -> State:
        """The counters, as this transaction sees them.

        Raises SpaceMismatchError if another connection has given the index other codes since this one was opened.
        """
        row = self.connection.execute(
            "SELECT generation, next_row, tail_changed, documents, passages, crc,"
            " (SELECT value FROM meta WHERE key = 'crc') FROM state"
        ).fetchone()
        if row is None:
            raise self.damaged("the state is missing")
        if row[6] != self.meta["crc"]:
            meta = self._read_meta()
            self.check_description(meta)
            self.meta = meta
        if not all(isinstance(value, int) for value in row[:6]) or file.checksum(*row[:5]) != row[5]:
            raise self.damaged("the state is not what was written")
        if min(row[:5]) < 0:
            raise self.damaged(f"a counter is {min(row[:5])}")
        return State(*row[:5])

    # -- reading codes

    def blocks(self, since: int = -1) -> list[tuple[int, int, bytes]]:
        """(block, generation sealed, live bitmap) of the sealed blocks changed after generation `since`."""
        found = self.connection.execute(
            "SELECT block, sealed, live FROM blocks WHERE changed > ? ORDER BY block", (since,)
        ).fetchall()
        for block, _, live in found:
            if not isinstance(live, bytes) or len(live) != blocks.BLOCK_ROWS // 8:
                raise self.damaged(f"block {block} has no bitmap of its rows")
        return found

    def stamp(self, block: int) -> int | None:
        """CRC-32 of a sealed block's first column, as it was written."""
        found = self.connection.execute(
            "SELECT crc FROM columns WHERE block = ? AND word = 0", (block,)
        ).fetchone()
        return found[0] if found else None

    def live(self, block: int) -> bytes:
        """The bitmap of a sealed block's live rows."""
        found = self.connection.execute("SELECT live FROM blocks WHERE block = ?", (block,)).fetchone()
        if found is None or not isinstance(found[0], bytes) or len(found[0]) != blocks.BLOCK_ROWS // 8:
            raise self.damaged(f"block {block} has no bitmap of its rows")
        return found[0]

    def block_numbers(self) -> list[int]:
        """All sealed blocks, in row order."""
        found = self.connection.execute("SELECT block FROM blocks ORDER BY block").fetchall()
        return [block for (block,) in found]

    def read_columns(self, block: int, into: UInt64 | None = None) -> UInt64:
        """A sealed block's codes, uint64 [words, BLOCK_ROWS], verified. into: memory to read them to."""
        width = words(self.bits)
        codes = np.empty((width, blocks.BLOCK_ROWS), dtype=np.uint64) if into is None else into
        found = 0
        for word, crc, column in self.connection.execute(
            "SELECT word, crc, codes FROM columns WHERE block = ? ORDER BY word", (block,)
        ):
            if word != found or word >= width or not _sound(column, blocks.BLOCK_ROWS * 8, crc):
                raise self.damaged(f"the codes of block {block} are not what was written")
            codes[word] = np.frombuffer(column, dtype="<u8")
            found += 1
        if found != width:
            raise self.damaged(f"block {block} has {found} of {width} columns")
        return codes

    def tail(self, after: int = -1) -> tuple[NDArray[np.int64], UInt64]:
        """Rows int64 [n] of the tail past row `after` and their codes, uint64 [n, words]."""
        rows, codes = array("q"), bytearray()
        size = words(self.bits) * 8
        for row, crc, code in self.connection.execute(
            "SELECT row, crc, code FROM tail WHERE row > ? ORDER BY row", (after,)
        ):
            if not _sound(code, size, crc):
                raise self.damaged(f"the code of row {row} is not what was written")
            rows.append(row)
            codes += code
        return np.frombuffer(rows, dtype=np.int64), np.frombuffer(codes, dtype="<u8").reshape(-1, size // 8)

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

    def damaged(self, what: str) -> CorruptIndexError:
        """The error for a file that contradicts itself."""
        return CorruptIndexError(
            f"'{self.path}' is damaged ({what}): restore a backup, or build it again from its documents"
        )


def passage_checksum(passage: Passage) -> int:
    """CRC-32 over row, document, span and vector."""
    return file.checksum(*passage[:4], content=passage.vector)


def _sound(content: object, size: int, crc: object) -> bool:
    return isinstance(content, bytes) and len(content) == size and zlib.crc32(content) == crc


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if there is one."""
    # Closed, and so ended, by the call that was interrupted.
    with suppress(sqlite3.ProgrammingError):
        connection.rollback()
