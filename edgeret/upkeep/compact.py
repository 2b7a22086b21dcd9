"""Compact: what was deleted leaves the file, and everything that lies beside it; an index as one file, to ship."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from edgeret.errors import StorageError
from edgeret.storage import drafts, sides
from edgeret.storage.listing import Condition
from edgeret.storage.migration import open_to_write
from edgeret.storage.newfile import assembled
from edgeret.storage.staging import Staging
from edgeret.storage.store import Store


def delete(staging: Staging, ids: Iterable[str] | None, condition: Condition | None, erase: bool) -> int:
    """Remove documents; returns how many there were. Unknown ids are no error.

    ids: None for those that meet the condition. erase: also drop their codes and terms, and rewrite the file without
    them.
    """
    staging.unstage()
    if erase:
        drafts.check_idle(staging.store)
    with staging.changing() as change:
        if condition is not None:
            ids = change.rows.ids_meeting(condition.sql, condition.parameters)
        removed = sum([change.remove(identity) for identity in ids or ()])
        if erase:
            change.zero_dead_codes()
            change.lexicon.rewrite()
    if erase:
        try:
            _rewrite(staging.store)
        except StorageError as error:
            raise StorageError(
                f"what was deleted is found no more, but its bytes are still in '{staging.store.path}' or beside it: "
                f"{error}"
            ) from error
    return removed


def compact(staging: Staging) -> None:
    """Empty sparse blocks, drop deleted codes and terms, rewrite the file without free pages."""
    staging.unstage()
    drafts.check_idle(staging.store)
    with staging.changing() as change:
        change.empty_sparse_blocks()
        change.zero_dead_codes()
        change.lexicon.rewrite()
    try:
        _rewrite(staging.store)
    except StorageError as error:
        raise StorageError(
            f"'{staging.store.path}' holds all its documents, and perhaps bytes of deleted ones too: {error}"
        ) from error


def seal(source: Store, target: Path) -> None:
    """Write the index of `source`, without what was deleted, to a new file, which is whole or empty.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    with assembled(target) as copy:
        source.copy_pages(copy)
        try:
            with closing(open_to_write(copy, 0.0, large=True)) as store:
                compact(Staging(store))
                store.end_log()
        except StorageError as error:
            raise StorageError(
                f"cannot write '{target}', '{source.path}' is as it was: {error.__cause__ or error}"
            ) from error


def _rewrite(store: Store) -> None:
    """Rewrite the file from what is live, cut the log to nothing, and empty what lies beside."""
    store.place.check()
    # First, since a reader who prevents it would let the log grow by the file's size at every attempt.
    store.truncate_log()
    # Not zeros in place: where SQLite balances a tree, `secure_delete` leaves copies of the cells
    # that it moves in the free space of their old pages.
    store.vacuum()
    store.truncate_log()
    _empty_sides(store)


def _empty_sides(store: Store) -> None:
    # Last: who writes them has looked at the index, in a read transaction, for which the log was not cut.
    store.place.check()
    partitions = sides.partitions_of(store.path)
    sides.sweep(partitions.parent, unfinished=partitions)
    sides.remove(partitions)
    drafts.forget(store)
