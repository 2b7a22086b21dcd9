"""Store: an index file, open: its tables, read and written in the transactions of a session."""

from __future__ import annotations

from edgeret.blocks import Mask
from edgeret.storage.codes import Codes
from edgeret.storage.fts5 import Fts5
from edgeret.storage.live import Live
from edgeret.storage.rows import Rows
from edgeret.storage.session import Counters as Counters
from edgeret.storage.session import Session
from edgeret.storage.vocabulary import Vocabulary


class Store(Session):
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    _live: tuple[object, Live] | None = None
    _vocabulary: tuple[object, Vocabulary] | None = None

    @property
    def codes(self) -> Codes:
        """Blocks, columns and tail."""
        return Codes(self)

    @property
    def rows(self) -> Rows:
        """Documents and passages."""
        return Rows(self)

    def live(self) -> Mask:
        """The rows that have a passage. What was read of them is kept."""
        if self._live is None or self._live[0] is not self.connection:
            self._live = self.connection, Live()
        return self._live[1].at(self)

    @property
    def lexicon(self) -> Vocabulary | Fts5:
        """Words, to be read: in FTS5's table, where the file is of format 1. What was read of ours is kept."""
        if self.description.format == 1:
            return Fts5(self)
        if self._vocabulary is None or self._vocabulary[0] is not self.connection:
            self._vocabulary = self.connection, Vocabulary(self, self.live)
        return self._vocabulary[1]
