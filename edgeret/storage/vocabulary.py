"""Vocabulary: the words of all passages, in our lexicon: taken up with each change, looked for, and verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks, phrases, words
from edgeret.blocks import BLOCK_ROWS, Mask
from edgeret.errors import CorruptIndexError
from edgeret.phrases import Phrase
from edgeret.storage.codes import Codes
from edgeret.storage.lexicon import Lexicon, Summary
from edgeret.storage.rows import Rows
from edgeret.storage.session import Session

_SHARE: Final = 4
_STEP_OCTETS: Final = 1 << 18
"""A commit merges about so many octets, and its share of those that it has written itself."""

_SMALL_SHARE: Final = 16
_SMALL_OCTETS: Final = 1 << 22
"""As long as that comes to no more than this, a larger share, so that few segments wait for a merge to end."""

_BUILT_OCTETS: Final = 1 << 30
"""A merge of all words at once is not cut into steps."""

_MANY_SEGMENTS: Final = 8
"""Within a large change segments are merged by so many."""

PENDING_BYTES: Final = 1 << 18
"""What is added and dropped before it is written, about."""

_ROW_BYTES: Final = 200
"""Of a row that is pending, its words aside, about."""

_NONE: Final = np.empty(0, np.int64)


class Match(NamedTuple):
    """The rows that a query's words are found in.

    rows: int64 [n], best first, equal scores by row. scores: float64 [n]. must_scores: float64, of the rows that had to
    be scored. octets, runs: what was read, and in how many places. evidence: what the query's words tell together, in
    words that only one row has.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    must_scores: NDArray[np.float64]
    octets: int = 0
    runs: int = 0
    evidence: float = 0.0


class Vocabulary:
    """The words as the transactions of a session see them: kept by a reader, made anew for each change.

    live: gives the rows that have a passage.
    """

    name: Final = "lexicon"

    def __init__(self, session: Session, live: Callable[[], Mask]) -> None:
        self._session = session
        self._live = live
        self._lexicon = Lexicon(session.connection, self._damaged)
        self._pending = 0
        self._written = 0
        self._owed = 0

    def _damaged(self, what: str) -> CorruptIndexError:
        return self._session.damaged(f"its lexicon: {what}")

    @property
    def _language(self) -> str | None:
        return self._session.description.language

    # -- reading

    def search(
        self,
        query: str,
        limit: int,
        mask: Mask | None = None,
        hidden: Mask | None = None,
        must_rows: NDArray[np.int64] = _NONE,
        prefix: bool = False,
    ) -> Match:
        """The best `limit` rows for the words of a query, scored from 0 to 1: of the most that any row could have.

        mask: rows outside of it are not found; None: all live ones may be. hidden: nor are these. must_rows: int64 [n],
        rows that are scored whether they are found or not. prefix: as of `words.asked`.
        """
        wanted = words.asked(query, self._language, prefix)
        if not wanted or not limit:
            return Match(_NONE, np.empty(0), np.zeros(len(must_rows)))
        found = self._lexicon.search(wanted, limit, self._chosen(mask, hidden), must_rows)
        most = max(found.most, 1)
        return Match(
            found.rows,
            found.scores / most,
            found.must_scores / most,
            found.reads.octets,
            found.reads.runs,
            found.evidence,
        )

    def _chosen(self, mask: Mask | None, hidden: Mask | None) -> Mask:
        chosen = self._live() if mask is None else mask
        return blocks.grouped(blocks.less(chosen, hidden) if hidden else chosen, BLOCK_ROWS)

    def saying(self, quoted: Sequence[Phrase], mask: Mask | None) -> tuple[Mask, int]:
        """The rows whose texts say all phrases, and how many were read for that: at most `phrases.READ`, best first.

        mask: rows outside of it are not found; None: all live ones may be.
        """
        rows = self.search(" ".join(phrase.text for phrase in quoted), phrases.READ, mask).rows
        said = [row for row, text in Rows(self._session).texts(rows) if phrases.said(quoted, text)]
        return blocks.mask(np.array(said, dtype=np.int64)), len(rows)

    def check_words(self, query: str, texts: Sequence[str], prefix: bool = False) -> None:
        """Raise CorruptIndexError unless each of `texts`, found by `query`'s words, has one of them."""
        asked = words.asked(query, self._language, prefix)
        for text in texts:
            if next(words.among(text, asked, self._language), None) is None:
                raise self._damaged("it finds words where they are not")

    def summary(self) -> Summary:
        """How much there is."""
        return self._lexicon.summary()

    # -- writing

    def add(self, row: int, text: str) -> None:
        """Take up the words of a passage, in a row greater than all before."""
        self._lexicon.add(row, words.stream(text, self._language))
        self._count(text)

    def forget(self, row: int, text: str) -> None:
        """Drop the words of a passage. text: the one that was added, or the lexicon is damaged by this."""
        self._lexicon.remove(row, words.stream(text, self._language))
        self._count(text)

    def _count(self, text: str) -> None:
        self._pending += _ROW_BYTES + len(text)
        if self._pending >= PENDING_BYTES:
            self._flush()
            self._merge(_MANY_SEGMENTS)

    def _flush(self) -> None:
        """Write what is pending."""
        self._pending = 0
        octets = self._lexicon.flush()
        self._written += octets
        self._owed += octets

    def _merge(self, fewest: int) -> None:
        """Go on with merging, a little more than the share of what was written since it last went on."""
        if self._lexicon.is_due(fewest):
            share = max(_SHARE * self._owed, min(_SMALL_SHARE * self._owed, _SMALL_OCTETS))
            self._lexicon.merge(self._alive(), share + _STEP_OCTETS, fewest)
            self._owed = 0

    def _alive(self) -> Mask:
        """The live rows as the change has them by now; its counters come last."""
        codes = Codes(self._session)
        alive = {block: np.frombuffer(live, np.uint8) for block, _, live in codes.blocks()}
        rows = codes.tail_rows(-1)
        return blocks.grouped({**alive, **blocks.mask(rows)}, BLOCK_ROWS)

    def clear(self) -> None:
        """Drop all words."""
        self._lexicon.clear()

    def rewrite(self) -> None:
        """Write all anew: of what was removed nothing stays."""
        self._lexicon.rewrite(self._alive())

    def finish(self) -> None:
        """Write what was added and dropped: before the counters of a change.

        One that makes most of all there is, as a long load does, leaves one segment.
        """
        if not self._pending:
            return
        self._flush()
        found = self._lexicon.summary()
        if found.segments > 1 and self._written > found.octets / 2:
            self._lexicon.rewrite(self._alive())
        else:
            self._merge(2)

    # -- checking

    def verify(self) -> None:
        """Raise CorruptIndexError unless the words are those of the passages' texts."""
        self._lexicon.verify(self._each)

    def _each(self) -> Iterator[tuple[int, Iterator[str]]]:
        for row, text in Rows(self._session).each_text():
            yield row, words.stream(text, self._language)

    def build(self) -> Iterator[int]:
        """Make all words anew of the texts; yields now and then how many passages were taken up meanwhile."""
        self._lexicon.clear(end_row=0)
        done = pending = 0
        for row, text in Rows(self._session).each_text(by_row=True):
            self._lexicon.add(row, words.stream(text, self._language))
            done, pending = done + 1, pending + _ROW_BYTES + len(text)
            if pending >= PENDING_BYTES:
                self._lexicon.flush()
                self._lexicon.merge(None, _BUILT_OCTETS, _MANY_SEGMENTS)
                yield done
                done = pending = 0
        self._lexicon.rewrite(None)
        yield done
