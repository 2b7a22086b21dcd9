"""Shipping: what turns one index into another, as an update file, and its application in one transaction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgeret.codec import Codec
from edgeret.documents import MOST_LEVELS, Encoded, Record, is_deep
from edgeret.door import checked
from edgeret.encode.records import TextEncoder, load_for
from edgeret.errors import InvalidDocumentError, SpaceMismatchError, UpdateMismatchError
from edgeret.fleet import contents as sums
from edgeret.fleet.contents import Contents, Part
from edgeret.fleet.update import FORMAT, Addition, Header, Update, UpdateWriter
from edgeret.reports import UpdateSummary
from edgeret.space import check_space
from edgeret.storage import file
from edgeret.storage.change import Change
from edgeret.storage.migration import open_to_write
from edgeret.storage.place import absolute
from edgeret.storage.store import Store

_Content = tuple[bytes, bool, list[Part]]
"""A document's digest, whether it came with its vector, and its passages."""


@checked
def diff(old: str | os.PathLike[str], new: str | os.PathLike[str], into: BinaryIO) -> UpdateSummary:
    """Write the update that turns the contents of one index into those of another.

    Documents that both hold, with the same vectors, are left out. Texts, vectors and spans are copied; nothing is
    encoded. The way back is the update from `new` to `old`.

    Args:
        old: The index file that the devices have.
        new: The index file that they shall have, of the same space, bits and filters.
        into: A binary stream, written front to back.

    Returns:
        The content hashes before and after, and how many documents the update deletes and adds.

    Raises:
        SpaceMismatchError: The indexes have two spaces or two lengths of codes.
        UpdateMismatchError: They have other filters.
        InvalidDocumentError: A document is too large or its metadata too deep for an update.
        IndexMissingError: There is no file.
        NotAnIndexError: A file is something else.
        CorruptIndexError: An index is damaged.
        StorageError: The medium refused. What `into` raises is passed on.
    """
    with (
        closing(Store(absolute(old), readonly=True)) as left,
        closing(Store(absolute(new), readonly=True)) as right,
    ):
        _check_alike(left, right)
        with left.reading(), right.reading():
            before, after = Contents.of(left).fingerprint, Contents.of(right).fingerprint
            words = right.description
            header = Header(
                words.space, words.bits, before, after, FORMAT, words.language, words.tokenizer, words.stemmer
            )
            writer = UpdateWriter(into, header)
            deleted = added = 0
            for identity in _missing(left, right):
                writer.delete(identity)
                deleted += 1
            for doc in _different(left, right):
                writer.add(_addition(right, doc))
                added += 1
            writer.finish()
    return UpdateSummary(str(new), before, after, deleted, added)


@checked
def apply(
    path: str | os.PathLike[str],
    update: str | os.PathLike[str],
    model: str | os.PathLike[str] | TextEncoder | None = None,
    wait: float = file.WAIT_S,
) -> UpdateSummary:
    """Apply an update to an index, in one transaction. Searches go on meanwhile.

    Applying it again is no error and changes nothing. No text is encoded.

    Args:
        path: The index file to change.
        update: The update file, as `diff` wrote it.
        model: A bundle's name or folder, or an encoder, of the index's space, for its codec. None takes the index's
            own.
        wait: Seconds to wait for another writer before LockedError is raised.

    Returns:
        The content hashes before and after, and how many documents were deleted and added.

    Raises:
        CorruptUpdateError: The update is damaged, or no update.
        UpdateMismatchError: The update was made for another version of the index.
        SpaceMismatchError: The update is of another space or another length of codes.
        FormatVersionError: A newer edgeret wrote the update.
        LockedError: Another writer is at work.
        BundleError: The model is missing or damaged.
        IndexMissingError: There is no index.
        NotAnIndexError: The file is something else.
        CorruptIndexError: The index is damaged.
        ReadOnlyError: The index cannot be written.
        StorageError: The medium refused.
    """
    with Update.open(Path(update)) as shipped:
        return open_to_write(absolute(path), wait).use_once(lambda store: _apply(store, shipped, model))


# -- making one


def _check_alike(old: Store, new: Store) -> None:
    if (old.description.space, old.bits) != (new.description.space, new.bits):
        raise SpaceMismatchError(
            f"'{old.path}' is of space {old.description.space[:8]} with {old.bits} bits, '{new.path}' of space "
            f"{new.description.space[:8]} with {new.bits} bits: give both the same codes with 'edgeret recode', "
            "or ship the whole index"
        )
    if sorted(old.filters) != sorted(new.filters):
        raise UpdateMismatchError(
            f"expected the filters {', '.join(old.filters) or '(none)'}, as '{old.path}' has them, found "
            f"{', '.join(new.filters) or '(none)'}: an update brings documents only, ship the whole index"
        )

    if _language(old) != _language(new):
        raise UpdateMismatchError(
            f"expected the language and rules of words {_language(old)}, as '{old.path}' has them, found "
            f"{_language(new)}: an update brings documents only, ship the whole index"
        )


def _language(store: Store) -> tuple[str | None, int, int]:
    found = store.description
    return found.language, found.tokenizer, found.stemmer


def _missing(old: Store, new: Store) -> Iterator[str]:
    """Ids that only `old` has."""
    with file.translated(old.path):
        for doc, identity in old.rows.each_id():
            with file.translated(new.path):
                held = new.rows.holds(identity)
            if not held:
                yield old.rows.document(doc).id


def _different(old: Store, new: Store) -> Iterator[int]:
    """Numbers, in `new`, of documents that `old` does not have like this."""
    for head in new.rows.each_head():
        known = _content(old, head.id)
        if known is None or known != (head.digest, head.own_vector, _parts(new, head.doc)):
            yield head.doc


def _content(store: Store, identity: str) -> _Content | None:
    with file.translated(store.path):
        head = store.rows.head_of(identity)
        return None if head is None else (head.digest, head.own_vector, _parts(store, head.doc))


def _parts(store: Store, doc: int) -> list[Part]:
    passages = store.rows.passages_of(doc)
    told = store.rows.contexts([passage.row for passage in passages])
    return sorted(
        ((passage.start, passage.end, passage.vector, told.get(passage.row)) for passage in passages),
        key=lambda part: (*part[:3], part[3] or ""),
    )


def _addition(store: Store, doc: int) -> Addition:
    document = store.rows.document(doc)
    if is_deep(document.metadata):
        raise InvalidDocumentError(
            f"expected metadata of at most {MOST_LEVELS} levels, those of document {document.id!r} in "
            f"'{store.path}' have more: add it again with fewer, or ship the whole index"
        )
    parts = _parts(store, doc)
    vectors = np.frombuffer(b"".join(vector for _, _, vector, _ in parts), dtype=np.int8).reshape(
        -1, store.dim
    )
    own = vectors[0].astype(np.float32) if document.own_vector else None
    record = Record(document.id, document.text, document.json, own)
    contexts = [context for *_, context in parts]
    return Addition(record, [(start, end) for start, end, *_ in parts], vectors, contexts)


# -- applying one


def _apply(
    store: Store, shipped: Update, model: str | os.PathLike[str] | TextEncoder | None
) -> UpdateSummary:
    encoder = load_for(model, store.path, store.description.model)
    check_space(store, encoder)
    _check_coding(store, shipped)
    with store.writing() as state:
        contents = Contents.of(store, min(shipped.header.format, sums.VERSION))
        before, after = shipped.header.before, shipped.header.after
        if contents.fingerprint == after:
            return UpdateSummary(str(store.path), after, after, 0, 0)
        if contents.fingerprint != before:
            raise UpdateMismatchError(
                f"update '{shipped.path}' is for contents {before[:8]}, index '{store.path}' has "
                f"{contents.fingerprint[:8]}: make one from an index with these, ship the whole index, or let 'edgeret "
                "check' tell whether it is damaged"
            )
        change = Change(store, state)
        deleted, added = _change(change, contents, shipped, encoder.codec)
        if contents.fingerprint != after:
            raise shipped.damaged(f"it makes contents {contents.fingerprint[:8]} instead of {after[:8]}")
        change.finish()
    return UpdateSummary(str(store.path), before, after, deleted, added)


def _check_coding(store: Store, shipped: Update) -> None:
    space, bits, *_ = shipped.header
    told = shipped.header.language, shipped.header.tokenizer, shipped.header.stemmer
    if told != _language(store):
        raise UpdateMismatchError(
            f"update '{shipped.path}' is of the language and rules of words {told}, index '{store.path}' of "
            f"{_language(store)}: make one from an index with the same words"
        )
    if (store.description.space, store.bits) != (space, bits):
        raise SpaceMismatchError(
            f"update '{shipped.path}' is of space {space[:8]} with {bits} bits, index '{store.path}' of space "
            f"{store.description.space[:8]} with {store.bits} bits: make one from an index with the same codes"
        )


def _change(change: Change, contents: Contents, shipped: Update, codec: Codec) -> tuple[int, int]:
    """Apply all entries, to the index and to its contents; (documents deleted, documents added)."""
    deleted = added = 0
    for entry in shipped.entries(change.store.dim):
        identity = entry if isinstance(entry, str) else entry.record.id
        known = _content(change.store, identity)
        if known is not None:
            change.remove(identity)
            contents.remove(*known)
        if isinstance(entry, str):
            if known is None:
                raise shipped.damaged(f"it deletes document {identity!r:.40}, which is not there")
            deleted += 1
        else:
            _insert(change, contents, entry, codec)
            added += 1
    return deleted, added


def _insert(change: Change, contents: Contents, addition: Addition, codec: Codec) -> None:
    record = addition.record
    codes = codec.encode(addition.vectors, change.store.bits)
    change.insert(Encoded(record, addition.spans, addition.vectors, codes, addition.contexts))
    contents.add(
        record.digest,
        record.vector is not None,
        (
            (*span, vector.tobytes(), context)
            for span, vector, context in zip(
                addition.spans, addition.vectors, addition.contexts or repeat(None), strict=False
            )
        ),
    )
