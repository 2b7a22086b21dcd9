"""Turns: a lock for whole calls, which interrupts do not leave taken and which its own holder cannot wait for.

And a start, which the first caller makes while the others wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from edgeret.errors import ReentrantError

Answer = TypeVar("Answer")


class Turn:
    """One thread at a time holds it. what: the one thing that it guards, for the error's text."""

    def __init__(self, what: str) -> None:
        self._what = what
        # An owner's name that were noted beside a plain lock would be late by an instruction, and signals come there.
        self._lock = threading.RLock()

    @property
    def mine(self) -> bool:
        """Whether this thread holds it: a generator or a signal handler may ask within the call that does."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]
        return owned

    def hold(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns, once no other thread holds it. Raises ReentrantError if this one does."""
        if self.mine:
            raise ReentrantError(
                f"{self._what} is taken by a call that this thread is still within, as from a generator of documents "
                "or a signal handler: call it when that has returned, or from another thread"
            )
        try:
            self._lock.acquire()
            return work()
        finally:
            # One call, into C: an interrupt comes before `acquire` or after `release`, or the lock is taken, and goes.
            # `suppress` would be Python, where it comes in between.
            try:  # noqa: SIM105
                self._lock.release()
            except RuntimeError:
                pass


class Start(Generic[Answer]):
    """What is made when it is first needed, and once."""

    def __init__(self) -> None:
        # Again by a signal handler that needs it within the call that makes it: then there are two for a while.
        self._lock = threading.RLock()
        self._made: Answer | None = None

    def made(self, make: Callable[[], Answer]) -> Answer:
        """What `make` returned when it was first called."""
        # The lock takes as long as a part of a short text's encoding.
        if self._made is None:
            with self._lock:
                if self._made is None:
                    self._made = make()
        return self._made


class Free(Turn):
    """A turn that everybody has always."""

    def hold(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns."""
        return work()
