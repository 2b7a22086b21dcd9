"""Seal: an index as one compact file without a journal, to ship."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from edgeret import database
from edgeret.errors import StorageError
from edgeret.store import Store
from edgeret.target import assembled
from edgeret.writer import Writer


def seal(source: Store, target: Path) -> None:
    """Write the index of `source`, without what was deleted, to a new file, which is whole or empty.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    with assembled(target) as copy:
        database.copy_pages(source.connection, source.path, copy)
        try:
            with closing(Store(copy, readonly=False)) as store:
                Writer(store).compact()
                store.end_log()
        except StorageError as error:
            raise StorageError(
                f"cannot write '{target}', '{source.path}' is as it was: {error.__cause__ or error}"
            ) from error
