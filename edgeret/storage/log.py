"""Log: what SQLite has written and not yet merged, in a file beside the index, and whose it is."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from edgeret import files
from edgeret.errors import ReplacedError
from edgeret.storage.place import Place, beside, status

_TRY_S: Final = 0.1
"""How long one try waits within SQLite, where no signal ends it."""

_RENAMED: Final = 1 << 16
"""SQLite counts one more schema each time it writes the file anew; a log has less of them."""


def connection(path: Path, mode: str) -> sqlite3.Connection:
    """A connection as SQLite gives it. mode: "rw", "ro", or "immutable": without locks, and without the log.

    Raises StorageError for what is no regular file.
    """
    _check_regular(path)
    how = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{how}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_TRY_S)


def _check_regular(path: Path) -> None:
    """Refuse a pipe, a device or a folder in the place of a file that SQLite would open: it would wait for ever."""
    # SQLite looks for logs beside the file that a link leads to.
    for file in (path, *(beside(path, suffix) for suffix in ("-journal", "-wal", "-shm"))):
        found = status(file)
        if found is not None:
            files.check_regular(file, found.st_mode)


def name(connection: sqlite3.Connection, seed: bytes | None = None) -> None:
    """Give the file a number of its own, by which a log of another file is known: where SQLite counts schemas.

    seed: at least 4 bytes that make the number; None takes a random one.
    """
    number = int.from_bytes((seed or os.urandom(4))[:4], "big")
    connection.execute(f"PRAGMA schema_version = {number >> 2 | 1 << 20}")


def check(place: Place) -> None:
    """Raise ReplacedError if the log beside the file belongs to another one, which lay there before.

    SQLite would merge it all the same.
    """
    if not place.log_bytes:
        return
    # Neither of them merges anything.
    try:
        with (
            closing(connection(place.path, "immutable")) as alone,
            closing(connection(place.path, "ro")) as merged,
        ):
            before, after = (of.execute("PRAGMA schema_version").fetchone()[0] for of in (alone, merged))
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise
        # Damage, which has its own name as soon as the file is read.
        return
    if not before <= after < before + _RENAMED:
        raise ReplacedError(
            f"expected the log of '{place.path}' beside it, found that of another file which lay there before: close "
            f"whoever has that one open, or move '{place.path.name}-wal' and '{place.path.name}-shm' away"
        )


def take_along(connection: sqlite3.Connection) -> None:
    """Merge the log into the file of `connection`, which has gone from its place, and remove it from there.

    Only if no other connection has the file open: else that one does so when it is closed.
    """
    # SQLite ends the log, and then refuses to note that in a file that has moved.
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("PRAGMA journal_mode = DELETE")
