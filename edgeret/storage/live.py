"""Live rows: which rows have a passage. One whose passage is gone keeps its number, and mostly its code."""

from __future__ import annotations

import numpy as np

from edgeret import blocks
from edgeret.blocks import Bitmap, Mask
from edgeret.storage.codes import Codes
from edgeret.storage.session import Counters, Session


class Live:
    """The rows that there are, as the last transaction that asked saw them: what did not change is not read again."""

    def __init__(self) -> None:
        self._known = Counters(-1, 0, -1, 0, 0)
        self._full: dict[int, Bitmap] = {}
        self._tail = blocks.empty()
        self._last_row = -1
        self._mask: Mask = {}

    def at(self, session: Session) -> Mask:
        """Those that the session's transaction sees."""
        state, codes = session.counters(), Codes(session)
        if state == self._known:
            return self._mask
        first_row = state.next_row - state.next_row % blocks.BLOCK_ROWS
        since = self._known.generation if self._known.generation <= state.generation else -1
        kept = {block: self._full[block] for block in codes.block_numbers() if block in self._full}
        for block, _, live in codes.blocks(since):
            if not 0 <= block < state.next_row // blocks.BLOCK_ROWS:
                raise session.damaged(f"block {block} lies past the last row, {state.next_row - 1}")
            kept[block] = np.frombuffer(live, np.uint8)
        if since < 0 or state.tail_changed != self._known.tail_changed:
            self._tail, self._last_row = blocks.empty(), first_row - 1
        rows = codes.tail_rows(self._last_row)
        if len(rows):
            if (np.diff(rows) <= 0).any() or rows[-1] >= first_row + blocks.BLOCK_ROWS:
                raise session.damaged("the rows of the tail are not in order, or past its end")
            blocks.choose(self._tail, rows - first_row)
            self._last_row = int(rows[-1])
        self._known, self._full = state, kept
        self._mask = {**kept, first_row // blocks.BLOCK_ROWS: self._tail.copy()}
        return self._mask
