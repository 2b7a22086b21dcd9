"""Served: an index that several threads ask, and that goes on where another file takes the place of its own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from edgeret.errors import ClosedError, ReplacedError
from edgeret.index import Index

Answer = TypeVar("Answer")


class Served:
    """An open index, opened again when its file was replaced."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._renewing = Lock()

    def ask(self, work: Callable[[Index], Answer]) -> Answer:
        """What `work` returns of the index. Raises what it raises, and what `Index.reopen` does."""
        try:
            return work(self.index)
        except (ReplacedError, ClosedError):
            # Closed: another thread is opening it again, or found no file when it did.
            pass
        with self._renewing:
            try:
                return work(self.index)
            except (ReplacedError, ClosedError):
                self.index.reopen()
                return work(self.index)
