"""Connections: a read connection for each thread that reads, kept for the next; and who may still use them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgeret.errors import ClosedError, ForkedError, SpaceMismatchError
from edgeret.store import State, Store


class Connections:
    """Readers never meet the writer, nor each other: every read transaction has a connection of its own.

    first: the index's first connection; the others must find the file described as this one did.
    """

    def __init__(self, first: Store, cache_bytes: int) -> None:
        self._first = first
        self._path = first.path
        self._cache_bytes = cache_bytes
        self._process = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[Store] = []

    @contextmanager
    def reading(self) -> Iterator[tuple[Store, State]]:
        """A read transaction.

        Raises ClosedError, ForkedError, SpaceMismatchError after a recode, CorruptIndexError, StorageError.
        """
        self.alive()
        with self._lock:
            store = self._idle.pop() if self._idle else None
        store = store or self._connect()
        try:
            with store.reading() as state:
                yield store, state
        finally:
            with self._lock:
                if self._closed:
                    store.close()
                else:
                    self._idle.append(store)

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
        return not self._closed and os.getpid() == self._process

    def alive(self) -> None:
        """Raise ClosedError after `close`, ForkedError in a child process."""
        if os.getpid() != self._process:
            raise ForkedError(
                f"'{self._path}' was opened before this process was forked: open it again in the child"
            )
        if self._closed:
            raise ClosedError(f"'{self._path}' is closed: open it again with Index.open")

    def close(self) -> None:
        """Close idle connections now, those in use when they come back."""
        with self._lock:
            self._closed = True
            for store in self._idle:
                store.close()
            self._idle.clear()
