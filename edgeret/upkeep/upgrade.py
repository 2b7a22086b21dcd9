"""Upgrade: the words of an index in the format and by the rules of today."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from edgeret import files
from edgeret.door import checked
from edgeret.errors import LockedError, StorageError
from edgeret.plan import Plan, parse_bytes
from edgeret.reports import Progress, UpgradeSummary
from edgeret.storage.migration import is_current, migrate, open_outdated
from edgeret.storage.place import absolute
from edgeret.storage.store import Store

_ROOM: Final = 1.2
"""Of the file's bytes must be free beside it: for its log, while it is written anew."""


@checked
def upgrade(
    path: str | os.PathLike[str],
    memory_budget: str | int | None = None,
    wait: float = 0.0,
    progress: Progress | None = None,
) -> UpgradeSummary:
    """Bring an index to the format of today: its words are made anew from the texts; nothing is encoded.

    It is one transaction: searches go on with the old words until it commits, and an interrupted call is simply made
    again. Then the file is rewritten, as `compact` does. An index that is open elsewhere raises FormatVersionError on
    its next call, until it is opened again. Partitions beside the index stay.

    Args:
        path: The index file.
        memory_budget: As in `Index.create`. None sets no bound.
        wait: Seconds to wait for another writer. 0 waits for none.
        progress: Called now and then as `progress(done, total)`, in passages. None calls nothing.

    Returns:
        The formats and sizes before and now.

    Raises:
        FormatVersionError: A newer edgeret wrote the file.
        LockedError: Another writer is at work, or a reader prevents the rewrite.
        BudgetError: The budget cannot be met.
        StorageError: The medium refused, or has too little room.
        EdgeretError: What `Index.open` raises.
    """
    budget = None if memory_budget is None else parse_bytes(memory_budget)
    plan = Plan.of_upgrade(budget)
    found = absolute(path)

    def work(store: Store) -> UpgradeSummary:
        before, size = store.description.format, store.place.file_bytes
        done = 0
        if not is_current(store):
            _check_room(store, size)
            store.resize_cache(plan.writing_cache_bytes)
            with store.reading() as state:
                total = state.passages
            for count in migrate(store):
                done += count
                if progress is not None:
                    progress(done, total)
        return UpgradeSummary(str(found), before, store.description.format, done, size, size)

    summary = open_outdated(found, wait).use_once(work)
    if not summary.passages and summary.format_before == summary.format:
        return summary
    return Store(found, readonly=False, wait=wait).use_once(lambda store: _shrunk(store, summary))


def _check_room(store: Store, size: int) -> None:
    needed = int(_ROOM * size)
    free = files.free_bytes(store.path.parent)
    if free is not None and free < needed:
        raise StorageError(
            f"expected {needed:,} bytes free beside '{store.path}' to upgrade it, found {free:,}: free some"
        )


def _shrunk(store: Store, summary: UpgradeSummary) -> UpgradeSummary:
    """Give the place of the old words back."""
    try:
        store.truncate_log()
        store.vacuum()
        store.truncate_log()
    except (LockedError, StorageError) as error:
        raise type(error)(
            f"'{store.path}' has format {summary.format} now, and the place of its old words: run 'edgeret compact' "
            f"({error})"
        ) from error
    return replace(summary, file_bytes=store.place.file_bytes)
