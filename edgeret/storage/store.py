"""Store: an index file, open: its tables, read and written in the transactions of a session."""

from __future__ import annotations

from edgeret import blocks
from edgeret.blocks import Mask
from edgeret.storage.codes import Codes
from edgeret.storage.rows import Rows
from edgeret.storage.session import META as META
from edgeret.storage.session import Session
from edgeret.storage.session import State as State


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

    def lexical(
        self, match: str, mask: Mask | None, hidden: Mask | None, limit: int
    ) -> list[tuple[int, float]]:
        """(row, BM25 score, higher is better) of the best `limit` passages for an FTS5 query.

        mask: rows outside of it are not found. hidden: nor are these.
        """
        condition, parameters = blocks.condition(mask, hidden or {})
        found = self.connection.execute(
            f"SELECT rowid, rank FROM lexicon WHERE lexicon MATCH :match AND {condition}"
            " ORDER BY rank, rowid LIMIT :limit",
            {"match": match, "limit": limit} | parameters,
        ).fetchall()
        if not all(isinstance(rank, float) for _, rank in found):
            raise self.damaged("the lexicon gives no ranks")
        return [(row, -rank) for row, rank in found]
