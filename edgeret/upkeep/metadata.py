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
            document = change.rows.document_of(identity)
            kept = document.metadata if document is not None and merge else {}
            # Also of a document that is not there: what cannot be stored is refused wherever it stands.
            told = canonical(identity, {**kept, **metadata})
            if document is None:
                continue
            found += 1
            if told != document.json:
                change.rows.replace_metadata(document, told)
    return found
