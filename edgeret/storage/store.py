"""Store: an index file, open: its tables, read and written in the transactions of a session."""

from __future__ import annotations

from edgeret.storage.codes import Codes
from edgeret.storage.lexicon import Lexicon
from edgeret.storage.rows import Rows
from edgeret.storage.session import Counters as Counters
from edgeret.storage.session import Session


class Store(Session):
    """One connection to an index file. Not for two threads at once: Index sees to that."""

    @property
    def codes(self) -> Codes:
        """Blocks, columns and tail."""
        return Codes(self)

    @property
    def rows(self) -> Rows:
        """Documents and passages."""
        return Rows(self)

    @property
    def lexicon(self) -> Lexicon:
        """Words."""
        return Lexicon(self)
