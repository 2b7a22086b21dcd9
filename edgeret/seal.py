"""Seal: an index as one compact file without a journal, to ship."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path

from edgeret import database
from edgeret.errors import EdgeretError, StorageError
from edgeret.store import Store
from edgeret.writer import Writer


def seal(source: Store, target: Path) -> None:
    """Write the index of `source`, without what was deleted, to a new file, which is whole or empty.

    Raises IndexExistsError if `target` exists, StorageError if it cannot be written.
    """
    try:
        with (
            database.claimed(target),
            tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder,
        ):
            copy = Path(folder, "copy")
            database.backup(source.connection, source.path, copy)
            with closing(Store(copy, readonly=False)) as store:
                Writer(store).compact()
                with database.translated(copy):
                    store.connection.execute("PRAGMA journal_mode = DELETE")
            copy.replace(target)
            _sync_folder(target.parent)
    except OSError as error:
        if isinstance(error, EdgeretError):
            raise
        raise StorageError(f"cannot write '{target}': {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
