"""Migration: a file of format 1 gets the words of format 2, in one transaction; who opens it to write needs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgeret import stems, words
from edgeret.errors import FormatVersionError, NeedsUpgradeError
from edgeret.storage import file, schema, sides
from edgeret.storage.change import Change
from edgeret.storage.description import FORMAT
from edgeret.storage.store import Store

MOST_PASSAGES: Final = 10_000
"""Of a file that is migrated when it is opened to write: about a second."""


def open_index(path: Path, readonly: bool, wait: float) -> Store:
    """Open a file for an index. A signed one of format 1 is opened read-only, since a migration would break that."""
    if not readonly and os.path.lexists(sides.signature_of(path)):
        signed = Store(path, readonly=True, wait=wait)
        if signed.description.format == 1:
            return signed
        signed.close()
    return Store(path, readonly=True, wait=wait) if readonly else open_to_write(path, wait)


def open_to_write(path: Path, wait: float, large: bool = False) -> Store:
    """Open a file to be changed; one of format 1 is migrated first.

    large: whether that is done whatever its size. Raises NeedsUpgradeError for one of more than MOST_PASSAGES.
    """
    store = Store(path, readonly=False, wait=wait)
    if store.description.format == FORMAT:
        return store

    def migrate_small(store: Store) -> None:
        with store.reading() as state:
            passages = state.passages
        if not large and passages > MOST_PASSAGES:
            raise NeedsUpgradeError(
                f"expected format {FORMAT} to change '{path}', found format 1 with {passages} passages: run "
                f"'edgeret upgrade {path}', or open it with readonly=True"
            )
        for _ in migrate(store):
            pass

    try:
        store.use_once(migrate_small)
    except NeedsUpgradeError:
        raise
    except FormatVersionError:
        # Somebody else has done it meanwhile.
        pass
    return Store(path, readonly=False, wait=wait)


def migrate(store: Store) -> Iterator[int]:
    """Make all words anew, in one transaction, which `store` does not survive; yields how many passages were done."""
    with store.writing() as state:
        if store.description.format == 1:
            schema.migrate(store.connection)
        store.description = store.description._replace(
            format=FORMAT, tokenizer=words.VERSION, stemmer=stems.version(store.description.language)
        )
        change = Change(store, state)
        yield from change.lexicon.build()
        change.describe(store.description)
        change.finish()


def is_current(store: Store) -> bool:
    """Whether there is nothing to migrate."""
    found = store.description
    current = (FORMAT, words.VERSION, stems.version(found.language))
    return (found.format, found.tokenizer, found.stemmer) == current


def open_outdated(path: Path, wait: float) -> Store:
    """Open a file to be migrated."""
    file.check_path(path)
    store = Store(path, readonly=False, wait=wait, outdated=True)
    try:
        store.check_words(older=True)
    except BaseException:
        store.close()
        raise
    return store
