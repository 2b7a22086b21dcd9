"""Check: whether every part of an index file agrees with every other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.codec import Codec
from edgeret.errors import EngineError
from edgeret.reports import CheckSummary
from edgeret.search.snapshot import CodeSnapshot
from edgeret.storage import file, schema
from edgeret.storage.pages import varint
from edgeret.storage.rows import Passage
from edgeret.storage.store import State, Store

_BATCH_ROWS: Final = 1024
"""Passages in memory together; divides the rows of a block."""

_MANY_PASSAGES: Final = 16
"""From more of them on, a document's text is cut once, and not in SQL for each."""


def check(store: Store, codec: Codec, quick: bool) -> CheckSummary:
    """Read the whole file in one transaction, beside any writer; raises CorruptIndexError at the first contradiction.

    Every document's digest, every passage's checksum and span, every code against its vector, every
    live bit against its row, the lexicon against the texts, the counters against the tables. Meanwhile a copy of the
    lexicon, and of long texts, lies where SQLite keeps temporary files. Raises SpaceMismatchError if the index has
    other codes by now, LockedError, StorageError.
    """
    try:
        return _check(store, codec, quick)
    except EngineError as error:
        if not file.contradicts(error):
            raise
        raise store.damaged(str(error.__cause__)) from error


def _check(store: Store, codec: Codec, quick: bool) -> CheckSummary:
    # In this order: a transaction that begins may do so on a new connection.
    with store.reading() as state, _able_to_copy(store):
        _check_sqlite(store, quick)
        _check_counters(store, state)
        blocks = len(store.codes.block_numbers())
        if not quick:
            store.rows.verify()
            _check_codes(store, state, codec)
            _count_lexicon(store)
            _check_lexicon(store)
    return CheckSummary(state.documents, state.passages, blocks, quick, "skipped" if quick else "verified")


@contextmanager
def _able_to_copy(store: Store) -> Iterator[None]:
    """`query_only` forbids a temporary table too."""
    with file.translated(store.path):
        (forbidden,) = store.connection.execute("PRAGMA query_only").fetchone()
        store.connection.execute("PRAGMA query_only = OFF")
    try:
        yield
    finally:
        with file.translated(store.path):
            store.connection.execute(f"PRAGMA query_only = {forbidden}")


def _check_sqlite(store: Store, quick: bool) -> None:
    pragma = "quick_check" if quick else "integrity_check"
    for (found,) in store.connection.execute(f"PRAGMA {pragma}(1)"):
        if found != "ok":
            raise store.damaged(found)


def _check_counters(store: Store, state: State) -> None:
    documents, passages, last = store.rows.counts()
    if (documents, passages) != (state.documents, state.passages):
        raise store.damaged(
            f"expected {state.documents} documents and {state.passages} passages, found {documents} and {passages}"
        )
    if last >= state.next_row:
        raise store.damaged(f"row {last} lies past the last one, {state.next_row - 1}")


def _count_lexicon(store: Store) -> None:
    (different,) = store.connection.execute(
        "SELECT (SELECT count(*) FROM passages WHERE row NOT IN (SELECT id FROM lexicon_docsize))"
        " + (SELECT count(*) FROM lexicon_docsize WHERE id NOT IN (SELECT row FROM passages))"
    ).fetchone()
    if different:
        raise store.damaged(f"{different} rows are in the lexicon or the passages but not in both")


def _check_lexicon(store: Store) -> None:
    """Compare the words with the texts: FTS5 does that, but as if it wrote, and so not within a reader's transaction.

    Therefore in a copy of its tables, over the same texts.
    """
    execute = store.connection.execute
    _cut_long_texts(store)
    # In row order, as FTS5 asks for them.
    execute(
        "CREATE TEMP VIEW checked_texts AS"
        " SELECT p.row AS row, coalesce(c.text, substr(d.text, p.start + 1, p.stop - p.start)) AS text"
        " FROM main.passages p CROSS JOIN main.documents d ON d.doc = p.doc LEFT JOIN temp.cut c ON c.row = p.row"
    )
    execute(f"CREATE VIRTUAL TABLE temp.checked USING fts5 ({schema.lexicon_options('checked_texts')})")
    for table in ("data", "idx", "docsize"):
        execute(f"DELETE FROM temp.checked_{table}")
        execute(f"INSERT INTO temp.checked_{table} SELECT * FROM main.lexicon_{table}")
    execute("INSERT INTO temp.checked (checked, rank) VALUES ('integrity-check', 1)")
    # FTS5 reads all terms one after the other for that. A search looks a term up, by another table.
    execute("CREATE VIRTUAL TABLE temp.terms USING fts5vocab (temp, checked, row)")
    lost, found = execute(
        "SELECT count(*) FILTER (WHERE (SELECT b.doc FROM terms b WHERE b.term = a.term) IS NOT a.doc),"
        " ifnull(sum(cnt), 0) FROM terms a"
    ).fetchone()
    # The lengths of the passages in words, which FTS5 has just compared with the texts.
    expected = 0
    for (size,) in execute("SELECT CAST(sz AS BLOB) FROM lexicon_docsize"):
        expected += varint(size, 0)[0]
    if lost or found != expected:
        raise store.damaged(f"{lost} terms and {expected - found} words of the lexicon cannot be found")
    for table in ("TABLE temp.terms", "TABLE temp.checked", "VIEW temp.checked_texts", "TABLE temp.cut"):
        execute(f"DROP {table}")


def _cut_long_texts(store: Store) -> None:
    """Lay the passages of documents that have many in a temporary table: SQL would read the whole text for each."""
    execute = store.connection.execute
    execute("CREATE TEMP TABLE cut (row INTEGER PRIMARY KEY, text TEXT)")
    for (doc,) in execute(
        "SELECT doc FROM main.passages GROUP BY doc HAVING count(*) > ?", (_MANY_PASSAGES,)
    ):
        text = store.rows.document(doc).text
        for row, start, stop in execute("SELECT row, start, stop FROM main.passages WHERE doc = ?", (doc,)):
            execute("INSERT INTO temp.cut VALUES (?, ?)", (row, text[start:stop]))


def _check_codes(store: Store, state: State, codec: Codec) -> None:
    picture = CodeSnapshot.none(resident_blocks=0).at(store, state)
    passages = _batches(store)
    for first_row, codes, live in picture.blocks(store):
        offsets = np.arange(codes.shape[1])
        if live is not None:
            offsets = blocks.offsets(live, codes.shape[1])
        for part in _parts(offsets):
            batch = next(passages, [])
            if [passage.row for passage in batch] != (first_row + part).tolist():
                raise store.damaged(f"the rows from {first_row} on and their codes are not the same")
            stored = np.frombuffer(b"".join(passage.vector for passage in batch), dtype=np.int8)
            expected = codec.encode(stored.reshape(len(batch), -1), store.bits)
            wrong = np.flatnonzero((expected != codes[:, part].T).any(axis=1))
            if len(wrong):
                row = first_row + part[wrong[0]]
                raise store.damaged(f"the code of row {row} is not that of its vector")
    if next(passages, None):
        raise store.damaged("there are passages without codes")


def _parts(offsets: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Offsets within a block, those of one batch at a time."""
    edges = np.flatnonzero(np.diff(offsets // _BATCH_ROWS)) + 1
    return (part for part in np.split(offsets, edges) if len(part))


def _batches(store: Store) -> Iterator[list[Passage]]:
    """All passages, verified, those of one batch of row numbers at a time."""
    batch: list[Passage] = []
    for passage in store.rows.each():
        if batch and passage.row // _BATCH_ROWS != batch[0].row // _BATCH_ROWS:
            yield batch
            batch = []
        batch.append(passage)
    if batch:
        yield batch
