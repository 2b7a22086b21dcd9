"""FTS5: the words of a file of format 1, which are read as they were: such a file is not written any more."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.blocks import Mask
from edgeret.phrases import Phrase
from edgeret.storage import file, schema
from edgeret.storage.pages import varint
from edgeret.storage.rows import Rows
from edgeret.storage.session import Session
from edgeret.storage.vocabulary import Match

# With the marks that FTS5 takes for a part of a word.
_WORD: Final = re.compile(r"\w[\w\u0300-\u036f]*")
_NOT_FOLDED: Final = "\u01e0\u01e1"
"""Letters of ASCII with two marks, which FTS5 keeps."""

_NONE: Final = np.empty(0, np.int64)

_MANY_PASSAGES: Final = 16
"""From more of them on, a document's text is cut once, and not in SQL for each."""


class Fts5:
    """The words as the current transaction of a session sees them. Made anew for each use."""

    name: Final = "fts5"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._connection = session.connection

    # -- reading

    def search(
        self,
        query: str,
        limit: int,
        mask: Mask | None = None,
        hidden: Mask | None = None,
        must_rows: NDArray[np.int64] = _NONE,
        prefix: bool = False,
    ) -> Match:
        """The best `limit` rows for the words of a query, scored by BM25 as SQLite computes it.

        mask: rows outside of it are not found. hidden: nor are these. must_rows: not scored, there is no way to.
        prefix: whether the word that the query ends with stands for all that begin with it.
        """
        match = match_any(query, prefix)
        if not match or not limit:
            return Match(_NONE, np.empty(0), np.empty(0))
        condition, parameters = blocks.condition(mask, hidden or {})
        found = self._connection.execute(
            f"SELECT rowid, rank FROM lexicon WHERE lexicon MATCH :match AND {condition}"
            " ORDER BY rank, rowid LIMIT :limit",
            {"match": match, "limit": limit} | parameters,
        ).fetchall()
        if not all(isinstance(rank, float) for _, rank in found):
            raise self._session.damaged("the lexicon gives no ranks")
        rows = np.array([row for row, _ in found], np.int64)
        return Match(rows, np.array([-rank for _, rank in found]), np.empty(0))

    def saying(self, _: Sequence[Phrase], mask: Mask | None) -> tuple[Mask | None, int]:
        """The rows of the mask: here quoted words are words."""
        return mask, 0

    def check_words(self, query: str, texts: Sequence[str], prefix: bool = False) -> None:
        """Raise CorruptIndexError unless each of `texts`, found by `query`'s words, has one of them."""
        if texts and count_matching(match_any(query, prefix), texts) < len(texts):
            raise self._session.damaged("the lexicon finds words where they are not")

    # -- checking

    def verify(self) -> None:
        """Raise CorruptIndexError unless the words are those of the passages' texts.

        FTS5 compares them, but as if it wrote, and so not within a reader's transaction. Therefore in a copy of its
        tables, over the same texts, which lies meanwhile where SQLite keeps temporary files.
        """
        self._check_rows()
        with self._able_to_copy():
            self._cut_long_texts()
            self._compare()

    def _check_rows(self) -> None:
        (different,) = self._connection.execute(
            "SELECT (SELECT count(*) FROM passages WHERE row NOT IN (SELECT id FROM lexicon_docsize))"
            " + (SELECT count(*) FROM lexicon_docsize WHERE id NOT IN (SELECT row FROM passages))"
        ).fetchone()
        if different:
            raise self._session.damaged(
                f"{different} rows are in the lexicon or the passages but not in both"
            )

    @contextmanager
    def _able_to_copy(self) -> Iterator[None]:
        """`query_only` forbids a temporary table too."""
        with file.translated(self._session.path):
            (forbidden,) = self._connection.execute("PRAGMA query_only").fetchone()
            self._connection.execute("PRAGMA query_only = OFF")
        try:
            yield
        finally:
            with file.translated(self._session.path):
                self._connection.execute(f"PRAGMA query_only = {forbidden}")

    def _cut_long_texts(self) -> None:
        """Lay the passages of documents that have many in a temporary table: SQL would read the whole text for each."""
        execute = self._connection.execute
        execute("CREATE TEMP TABLE cut (row INTEGER PRIMARY KEY, text TEXT)")
        for (doc,) in execute(
            "SELECT doc FROM main.passages GROUP BY doc HAVING count(*) > ?", (_MANY_PASSAGES,)
        ):
            text = Rows(self._session).document(doc).text
            for row, start, end in execute(
                "SELECT row, start, stop FROM main.passages WHERE doc = ?", (doc,)
            ):
                execute("INSERT INTO temp.cut VALUES (?, ?)", (row, text[start:end]))

    def _compare(self) -> None:
        execute = self._connection.execute
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
            raise self._session.damaged(
                f"{lost} terms and {expected - found} words of the lexicon cannot be found"
            )
        for table in ("TABLE temp.terms", "TABLE temp.checked", "VIEW temp.checked_texts", "TABLE temp.cut"):
            execute(f"DROP {table}")


def match_any(query: str, prefix: bool = False) -> str:
    """The FTS5 query for texts with any of the query's words; empty if it has none.

    A letter with marks is one character or several (NFC, NFD), and a text may spell it in either way: a word is looked
    for in both, where FTS5 does not read them alike. prefix: the word that the query ends with is a beginning.
    """
    words = list[str]()
    for word in _WORD.findall(unicodedata.normalize("NFC", query.lower())):
        words.append(word)
        if not all(character.isascii() or _is_folded(character) for character in word):
            words.append(unicodedata.normalize("NFD", word))
    begun = {words[-1]} if prefix and words and _WORD.fullmatch(query[-1]) else set()
    return " OR ".join(f'"{word}"{"*" if word in begun else ""}' for word in dict.fromkeys(words))


def _is_folded(character: str) -> bool:
    """Whether FTS5 drops the marks of a letter, or it has none."""
    letters = unicodedata.normalize("NFD", character)
    return len(letters) == 1 or (letters[0].isascii() and character not in _NOT_FOLDED)


def count_matching(match: str, texts: Sequence[str]) -> int:
    """How many of `texts` an FTS5 query finds when a lexicon of them alone is made."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        scratch.execute(
            f"CREATE VIRTUAL TABLE words USING fts5 (text, content = '', tokenize = '{schema.TOKENIZER}')"
        )
        scratch.executemany("INSERT INTO words (text) VALUES (?)", [(text,) for text in texts])
        count: int = scratch.execute("SELECT count(*) FROM words WHERE words MATCH ?", (match,)).fetchone()[0]
        return count
