"""Connections: a read connection for each thread that reads, kept for the next; and who may still use them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from edgeret.errors import ClosedError, ForkedError, SpaceMismatchError
from edgeret.store import State, Store

Answer = TypeVar("Answer")


class Connections:
    """Readers never meet the writer, nor each other: every read transaction has a connection of its own.

    No lock guards them: a signal handler that reads, or closes, would wait for the call that it interrupts.

    first: the index's first connection; the others must find the file described as this one did.
    """

    def __init__(self, first: Store, cache_bytes: int) -> None:
        self._first = first
        self._path = first.path
        self._cache_bytes = cache_bytes
        self._process = os.getpid()
        self.closed = False
        # Appended to, popped from and copied only: each is one step.
        self._idle: list[Store] = []

    def read(self, work: Callable[[Store, State], Answer]) -> Answer:
        """What `work` returns, within a read transaction.

        Raises ClosedError, ForkedError, SpaceMismatchError after a recode, CorruptIndexError, StorageError.
        """
        self.alive()
        store = self._take()
        answer = store.use(lambda: self._read(store, work))
        # What has failed does not come back: nobody knows what it still holds.
        self._idle.append(store)
        if self.closed:
            self._close_idle()
        return answer

    def _take(self) -> Store:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _read(self, store: Store, work: Callable[[Store, State], Answer]) -> Answer:
        # Again: `close` may have met this one among the idle ones.
        self.alive()
        with store.reading() as state:
            return work(store, state)

    def _connect(self) -> Store:
        store = Store(self._path, readonly=True, cache_bytes=self._cache_bytes)
        try:
            self._first.check_description(store.meta)
        except SpaceMismatchError:
            store.close()
            raise
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
        if not self.ours:
            raise ForkedError(
                f"'{self._path}' was opened before this process was forked: open it again in the child"
            )
        if self.closed:
            raise ClosedError(f"'{self._path}' is closed: open it again with Index.open")

    def close(self) -> None:
        """Close idle connections now, those in use when they come back."""
        self.closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        for store in list(self._idle):
            store.close()
