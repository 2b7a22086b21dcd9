"""Schema: the statements that make an index file, word for word, and what tells that a file is one."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgeret.errors import CorruptIndexError, FormatVersionError, NotAnIndexError
from edgeret.storage import lexicon, log
from edgeret.storage.checksum import checksum
from edgeret.storage.description import FORMAT as FORMAT_VERSION
from edgeret.storage.description import Description
from edgeret.storage.pages import PAGE_BYTES

APPLICATION_ID: Final = 0x45644765  # "EdGe"

TOKENIZER: Final = "porter unicode61 remove_diacritics 2"
"""Of FTS5, in format 1."""
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  generation INTEGER NOT NULL,
  next_row INTEGER NOT NULL,
  tail_changed INTEGER NOT NULL,
  documents INTEGER NOT NULL,
  passages INTEGER NOT NULL,
  crc INTEGER NOT NULL
);
CREATE TABLE documents (
  doc INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL,
  metadata TEXT NOT NULL,
  digest BLOB NOT NULL,
  own_vector INTEGER NOT NULL,
  crc INTEGER NOT NULL{columns}
);
CREATE TABLE passages (
  row INTEGER PRIMARY KEY,
  doc INTEGER NOT NULL,
  start INTEGER NOT NULL,
  stop INTEGER NOT NULL,
  vector BLOB NOT NULL,
  crc INTEGER NOT NULL
);
{index};
CREATE TABLE blocks (
  block INTEGER PRIMARY KEY,
  sealed INTEGER NOT NULL,
  changed INTEGER NOT NULL,
  live BLOB NOT NULL
);
CREATE TABLE columns (
  block INTEGER NOT NULL,
  word INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  codes BLOB NOT NULL,
  PRIMARY KEY (block, word)
);
CREATE TABLE tail (row INTEGER PRIMARY KEY, crc INTEGER NOT NULL, code BLOB NOT NULL)
"""

_INDEXES: Final = {
    1: "CREATE INDEX passages_by_doc ON passages (doc)",
    2: "CREATE INDEX passages_by_doc ON passages (doc) WHERE doc <> row",
}
"""By format. A document is numbered as its first row: that one is found without an index, where it was not moved."""

_CONTEXTS: Final = (
    "CREATE TABLE contexts (row INTEGER PRIMARY KEY, crc INTEGER NOT NULL, context TEXT NOT NULL)"
)
"""What was encoded before a passage and is not in its text, such as its headings."""

_VIEW: Final = """CREATE VIEW passage_texts AS
  SELECT row, substr(text, start + 1, stop - start) AS text FROM passages JOIN documents USING (doc)"""

# FTS5 writes these itself, with the name in quotes.
_SHADOW_TABLES: Final = (
    "CREATE TABLE lexicon_config(k PRIMARY KEY, v) WITHOUT ROWID",
    "CREATE TABLE lexicon_data(id INTEGER PRIMARY KEY, block BLOB)",
    "CREATE TABLE lexicon_docsize(id INTEGER PRIMARY KEY, sz BLOB)",
    "CREATE TABLE lexicon_idx(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID",
)
_SHADOW_NAME: Final = re.compile(r"""(?<=^CREATE TABLE )['"](lexicon_[a-z]+)['"](?=\()""")
_LEXICON_VERSION: Final = 4


def lexicon_options(content: str) -> str:
    """What FTS5 is told of a lexicon over a table of `row` and `text`."""
    return f"text, content = '{content}', content_rowid = 'row', tokenize = '{TOKENIZER}'"


def filter_columns(filters: Sequence[str]) -> dict[str, str]:
    """Metadata keys -> names of the columns that repeat their values for an SQL index.

    Plain columns: with `trusted_schema = OFF` a generated one may not call json_extract.
    """
    return {key: f"filter_{number}" for number, key in enumerate(filters)}


def statements(filters: int, format: int = FORMAT_VERSION) -> list[str]:
    """What makes an index with so many filters, FTS5's own tables aside."""
    columns = filter_columns([str(number) for number in range(filters)]).values()
    declared = "".join(f",\n  {column}" for column in columns)
    indexes = [f"CREATE INDEX documents_by_{column} ON documents ({column})" for column in columns]
    return [
        *_SCHEMA.format(columns=declared, index=_INDEXES[format]).strip().split(";\n"),
        *indexes,
        *_words(format),
    ]


def _words(format: int) -> list[str]:
    """What the formats differ in."""
    if format == 1:
        return [
            _VIEW,
            f"CREATE VIRTUAL TABLE lexicon USING fts5 (\n  {lexicon_options('passage_texts')}\n)",
        ]
    return [_CONTEXTS, *lexicon.statements()]


def migrate(connection: sqlite3.Connection) -> None:
    """Give a file of format 1 the tables of format 2, without words, in the current transaction."""
    connection.execute("DROP TABLE lexicon")
    connection.execute("DROP VIEW passage_texts")
    connection.execute("DROP INDEX passages_by_doc")
    connection.execute(_INDEXES[FORMAT_VERSION])
    connection.execute(_CONTEXTS)
    lexicon.create(connection)
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")


def fill(connection: sqlite3.Connection, description: Description) -> None:
    """Make an index without documents of an empty file, in the current transaction."""
    for statement in statements(len(description.filters)):
        connection.execute(statement)
    lexicon.fill(connection)
    description.write(connection)
    connection.execute("INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, ?)", (checksum(0, 0, 0, 0, 0),))
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    mark(connection)
    log.name(connection)


def mark(connection: sqlite3.Connection) -> None:
    """Write the file's first page, which names the file, in the current transaction: so the log has it."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def check_identity(connection: sqlite3.Connection, path: Path) -> None:
    """Raise NotAnIndexError, FormatVersionError or CorruptIndexError unless the file says that it is an index."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise NotAnIndexError(
            f"'{path}' is an SQLite file of another program: choose another path for the index"
        )
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"expected format {FORMAT_VERSION} or older, '{path}' has format {version}: upgrade edgeret"
        )
    layout = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "encoding")]
    if layout != [PAGE_BYTES, "UTF-8"]:
        raise damaged(path, f"its pages have {layout[0]} bytes and its texts are in {layout[1]}")


def check(connection: sqlite3.Connection, path: Path, description: Description) -> None:
    """Raise CorruptIndexError unless the schema is, word for word, what was written in the file's format.

    A stranger's file must not bring triggers, nor views in place of tables.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != description.format:
        raise damaged(path, f"it is of format {version} and describes one of format {description.format}")
    expected = statements(len(description.filters), version)
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL").fetchall()
    named = [str(sql) for (sql,) in found]
    if version == 1:
        named, expected = [_SHADOW_NAME.sub(r"\1", sql) for sql in named], [*expected, *_SHADOW_TABLES]
    if sorted(named) != sorted(expected):
        raise damaged(path, "its schema is not an index's")
    if version == 1:
        # It names the function that ranks, and sizes that memory is taken for.
        settings = connection.execute("SELECT k, v FROM lexicon_config LIMIT 2").fetchall()
        if settings != [("version", _LEXICON_VERSION)]:
            raise damaged(path, "its lexicon has settings of its own")


def damaged(path: Path, what: str) -> CorruptIndexError:
    """The error for a file that `create` did not make."""
    return CorruptIndexError(
        f"'{path}' is damaged ({what}): restore a backup, or run 'edgeret check --repair'"
    )
