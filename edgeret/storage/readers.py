"""Connections: a read connection for each thread that reads, kept for the next; and who may still use them."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final, TypeVar

from edgeret.errors import ClosedError, ForkedError, ReplacedError, SpaceMismatchError
from edgeret.storage.kept import Kept
from edgeret.storage.store import Counters, Store

_MOST_IDLE: Final = 4
"""Connections that wait for the next call. Each has pages in memory; another takes a millisecond or two to open."""

Answer = TypeVar("Answer")

_READINGS_S: Final = 5.0
_POLL_S: Final = 0.002


class Connections:
    """Readers never meet the writer, nor each other: every read transaction has a connection of its own.

    No lock guards them: a signal handler that reads, or closes, would wait for the call that it interrupts.

    first: the index's first connection; the others must find the file described as this one did.
    most_bytes: as of `Store.limit`. kept: what all of them keep in memory; None: nothing.
    """

    def __init__(
        self, first: Store, cache_bytes: int, most_bytes: int | None = None, kept: Kept | None = None
    ) -> None:
        self.first = first
        self._most_bytes = most_bytes
        self._kept = kept
        self._path = first.path
        self._cache_bytes = cache_bytes
        self._process = os.getpid()
        self.closed = False
        # Appended to, popped from and copied only: each is one step.
        self._idle: list[Store] = []
        self._under_way: list[None] = []

    def read(self, work: Callable[[Store, Counters], Answer]) -> Answer:
        """What `work` returns, within a read transaction.

        Raises ClosedError, ForkedError, SpaceMismatchError after a recode, ReplacedError, CorruptIndexError,
        StorageError.
        """
        self.alive()
        self._under_way.append(None)
        try:
            store = self._take()
            answer = store.use(lambda: self._read(store, work))
            # What has failed does not come back: nobody knows what it still holds. Each keeps its pages.
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(store)
            else:
                store.close()
            if self.closed:
                self.rest()
            return answer
        finally:
            self._under_way.pop()

    def _take(self) -> Store:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _read(self, store: Store, work: Callable[[Store, Counters], Answer]) -> Answer:
        # Again: `close` may have met this one among the idle ones.
        self.alive()
        with store.reading() as state:
            return work(store, state)

    def _connect(self) -> Store:
        try:
            store = Store(self._path, readonly=True, cache_bytes=self._cache_bytes, known=self.first.place)
        except ReplacedError:
            # The log goes when a signal handler closes the index within this call.
            self.alive()
            raise
        try:
            self.first.check_description(store.description)
        except SpaceMismatchError:
            store.close()
            raise
        store.limit(self._most_bytes)
        store.kept = self._kept
        return store

    @property
    def usable(self) -> bool:
        """Whether this process opened the index and has not closed it."""
        return not self.closed and self.ours

    @property
    def ours(self) -> bool:
        """Whether this process opened the index."""
        return os.getpid() == self._process

    def alive(self) -> None:
        """Raise ClosedError after `close`, ForkedError in a child process."""
        self.owned()
        if self.closed:
            raise ClosedError(f"'{self._path}' is closed: open it again with Index.open")

    def owned(self) -> None:
        """Raise ForkedError in a child process."""
        if not self.ours:
            raise ForkedError(
                f"'{self._path}' was opened before this process was forked: open it again in the child"
            )

    def close(self) -> None:
        """Close idle connections now, those in use when they come back."""
        self.closed = True
        self.rest()

    def wait(self) -> None:
        """Let what is read now be read to its end, for some seconds."""
        end = monotonic() + _READINGS_S
        while self._under_way and monotonic() < end:
            sleep(_POLL_S)

    def rest(self) -> None:
        """Close idle connections."""
        while self._idle:
            try:
                store = self._idle.pop()
            except IndexError:
                # Another thread has taken the last one.
                return
            store.close()
