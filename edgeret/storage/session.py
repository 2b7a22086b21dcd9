"""Session: one connection to an index file, and its transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Self, TypeVar

from edgeret import stems, words
from edgeret.errors import (
    ArgumentError,
    CorruptIndexError,
    EngineError,
    FormatVersionError,
    LockedError,
    NeedsUpgradeError,
    SpaceMismatchError,
    StemmerError,
)
from edgeret.storage import file, log, schema
from edgeret.storage.checksum import checksum
from edgeret.storage.description import Description
from edgeret.storage.kept import Kept
from edgeret.storage.place import Place, absolute

_OR_INSTALL: Final = ", or install the version of PyStemmer that it was made with"
_READERS_S: Final = 1.0
"""How long emptying the log waits for searches to end."""

Answer = TypeVar("Answer")


class Counters(NamedTuple):
    """The counters of an index. `generation` grows by one with every commit that changes it."""

    generation: int
    next_row: int
    tail_changed: int
    documents: int
    passages: int


class Session:
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    def __init__(
        self,
        path: Path,
        readonly: bool,
        cache_bytes: int = file.CACHE_BYTES,
        wait: float = file.WAIT_S,
        known: Place | None = None,
        outdated: bool = False,
    ) -> None:
        """outdated: whether the words may be of other rules than today's, to be made anew."""
        self.path = path = absolute(path)
        self.readonly = readonly
        self.wait = wait
        self._cache_bytes = cache_bytes
        self._most_bytes: int | None = None
        self._doubtful = False
        # Within a transaction that reads, what it sees.
        self._seen: Counters | None = None
        # Where several connections read, theirs together.
        self.kept: Kept | None = None
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
                self.description = self._described()
                self._description_crc = self.description.checksum
                schema.check(self.connection, path, self.description)
                if not outdated:
                    self.check_words()
        except BaseException as error:
            self.close()
            if isinstance(error, EngineError) and file.contradicts(error):
                raise self.damaged(str(error.__cause__)) from error
            raise

    def check_words(self, older: bool = False) -> None:
        """Raise FormatVersionError, or NeedsUpgradeError, unless language and rules of the words are known here.

        older: whether older rules may have made them.
        """
        found = self.description
        try:
            stemmer = stems.version(found.language)
        except ArgumentError as error:
            raise FormatVersionError(
                f"the language of '{self.path}' is not known here: {error}: upgrade edgeret"
            ) from None
        except StemmerError as error:
            raise StemmerError(f"'{self.path}': {error}") from None
        versions, known = (found.tokenizer, found.stemmer), (words.VERSION, stemmer)
        # Another package's stems are made anew either way.
        is_ours = found.language in (None, stems.ENGLISH)
        if versions[0] > known[0] or (is_ours and versions[1] > known[1]):
            raise FormatVersionError(
                f"expected words by version {known[0]} of the rules and {known[1]} of the stems, '{self.path}' has "
                f"{versions[0]} and {versions[1]}: upgrade edgeret"
            )
        if versions != known and not older:
            raise NeedsUpgradeError(
                f"expected words by version {known[0]} of the rules and {known[1]} of the stems, '{self.path}' has "
                f"{versions[0]} and {versions[1]}: run 'edgeret upgrade {self.path}'{'' if is_ours else _OR_INSTALL}"
            )

    @property
    def filters(self) -> list[str]:
        """Metadata keys that have a column."""
        return self.description.filters

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.description.bits

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return self.description.dim

    def _described(self) -> Description:
        try:
            return Description.read(self.connection)
        except ValueError as error:
            raise self.damaged(str(error)) from None

    def check_description(self, found: Description) -> None:
        """Raise SpaceMismatchError unless a later reading of the description differs in the model alone.

        Raises FormatVersionError for another format.
        """
        known = self.description
        if found.format != known.format:
            raise FormatVersionError(
                f"'{self.path}' was opened with format {known.format} and has format {found.format} by now: close it "
                "and open it again"
            )
        if found._replace(model=known.model) != known:
            raise SpaceMismatchError(
                f"'{self.path}' was opened with codes of {known.bits} bits of space {known.space[:8]}, and "
                f"by now has {found.bits} bits of space {found.space[:8]}: close it and open it again"
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

    def backup(self, target: Path) -> None:
        """Copy the file, as this connection sees it, to a new one. Raises as `file.backup` does."""
        file.backup(self.connection, self.path, target)

    def copy_pages(self, target: Path) -> None:
        """Do the same where nobody takes `target` for a whole file yet."""
        file.copy_pages(self.connection, self.path, target)

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
        self.place.idle = False
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
            self.abandon()
            raise
        finally:
            self.place.idle = True

    def abandon(self) -> None:
        """Close the connection, whatever transaction an error has left open."""
        try:
            # A statement that some traceback keeps would keep a closed connection's transaction with it.
            self.connection.rollback()
        except sqlite3.Error:
            # Closing ends it all the same; what was raised first says more.
            pass
        finally:
            self.close()

    def use_once(self, work: Callable[[Self], Answer]) -> Answer:
        """What `work` returns; then the connection is closed."""
        try:
            return self.use(lambda: work(self))
        finally:
            self.close()

    @contextmanager
    def reading(self) -> Iterator[Counters]:
        """One consistent view of the file.

        Raises ReplacedError if another one, or none, lies there; LockedError if a reader that may not lock the file
        finds it changed at the end.
        """
        self.place.check()
        if self.place.changed():
            self.renew()
        # Its own: where an interrupt has left this behind, it ends when there may be another one.
        connection = self.connection
        self._seen = None
        try:
            with file.translated(self.path, self._most_bytes):
                try:
                    connection.execute("BEGIN")
                    self._seen = file.patiently(self.path, self.counters)
                    yield self._begun(self._seen)
                finally:
                    self._seen = None
                    _roll_back(connection)
        finally:
            if self.place.changed():
                raise LockedError(
                    f"'{self.path}' was changed while it was read, and cannot be locked without permission to write it "
                    "and its folder: try again"
                )

    @contextmanager
    def writing(self) -> Iterator[Counters]:
        """All or nothing.

        Raises LockedError if another connection is writing, after the seconds of `wait`, and ReplacedError if
        another file, or none, lies there at the beginning or at the end.
        """
        self.place.check()
        connection = self.connection
        self._seen = None
        with file.translated(self.path, self._most_bytes):
            try:
                file.patiently(self.path, lambda: connection.execute("BEGIN IMMEDIATE"), self.wait)
                changes = connection.total_changes
                yield self._begun(self.counters())
                if connection.total_changes != changes:
                    schema.mark(connection)
                self.place.check()
                connection.execute("COMMIT")
                self.place.note_log()
            except BaseException:
                _roll_back(connection)
                raise

    def _begun(self, state: Counters) -> Counters:
        self.place.expect_log()
        return state

    def counters(self) -> Counters:
        """The counters, as this transaction sees them.

        Raises SpaceMismatchError if another connection has given the index other codes since this one was opened.
        """
        if self._seen is not None:
            return self._seen
        row = self.connection.execute(
            "SELECT generation, next_row, tail_changed, documents, passages, crc,"
            " (SELECT value FROM meta WHERE key = 'crc') FROM state"
        ).fetchone()
        if row is None:
            raise self.damaged("the state is missing")
        if row[6] != self._description_crc:
            found = self._described()
            self.check_description(found)
            self.description, self._description_crc = found, found.checksum
        if not all(isinstance(value, int) for value in row[:6]) or checksum(*row[:5]) != row[5]:
            raise self.damaged("the state is not what was written")
        if min(row[:5]) < 0:
            raise self.damaged(f"a counter is {min(row[:5])}")
        return Counters(*row[:5])

    def check_pages(self, quick: bool) -> None:
        """Raise CorruptIndexError unless SQLite finds its own structures sound. quick: indexes are not compared."""
        pragma = "quick_check" if quick else "integrity_check"
        for (found,) in self.connection.execute(f"PRAGMA {pragma}(1)"):
            if found != "ok":
                raise self.damaged(found)

    def damaged(self, what: str) -> CorruptIndexError:
        """The error for a file that contradicts itself."""
        return CorruptIndexError(
            f"'{self.path}' is damaged ({what}): restore a backup, or build it again from its documents"
        )


def _roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction, if there is one."""
    # Closed, and so ended, by the call that was interrupted.
    with suppress(sqlite3.ProgrammingError):
        connection.rollback()
