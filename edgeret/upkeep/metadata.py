"""Metadata: those of stored documents are changed, and nothing is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgeret.documents import canonical
from edgeret.storage.staging import Staging


def update(staging: Staging, changes: Iterable[tuple[str, Mapping[str, Any]]], merge: bool) -> int:
    """Give documents other metadata, in one transaction; returns how many there were. Unknown ids are no error.

    changes: ids and metadata. merge: keys that are not given stay.
    """
    found = 0
    with staging.changing() as change:
        for identity, metadata in changes:
            # First, so that what cannot be stored is refused wherever it stands.
            told = canonical(identity, metadata)
            document = change.rows.document_of(identity)
            if document is None:
                continue
            found += 1
            if merge:
                told = canonical(identity, {**document.metadata, **metadata})
            if told != document.json:
                change.rows.replace_metadata(document, told)
    return found
