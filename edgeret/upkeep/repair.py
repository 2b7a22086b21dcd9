"""Repair: what a damaged index file still holds, written into a new one.

A document or a vector is kept if its checksum says that it is what was written. Vectors that are lost are made anew
from the texts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgeret import stems
from edgeret.documents import Section
from edgeret.door import checked
from edgeret.encode.bundle import DEFAULT_MODEL
from edgeret.encode.records import TextEncoder, encode, load_for
from edgeret.errors import SpaceMismatchError
from edgeret.reports import RepairSummary
from edgeret.space import describe
from edgeret.storage.file import check_path, create
from edgeret.storage.newfile import assembled
from edgeret.storage.place import absolute
from edgeret.storage.salvage import Found, Salvage, salvaged
from edgeret.storage.staging import Staging
from edgeret.storage.store import Store
from edgeret.upkeep.check import check

COMMIT_EVERY: Final = 1000

LISTED_IDS: Final = 1000
"""A summary lists so many ids at most."""


@checked
def repair(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str] | TextEncoder | None = None,
) -> RepairSummary:
    """Write what a damaged index still holds to a new index, and check that.

    Documents and vectors are kept if their checksums hold. A text whose vectors are lost is encoded again.

    Args:
        path: The damaged index file. It is not changed.
        target: Where the new index goes.
        model: A bundle's name or folder, or an encoder, of the index's geometry. None takes the index's own.

    Returns:
        What was saved, and what was lost.

    Raises:
        NotAnIndexError: Nothing can be kept.
        IndexExistsError: There is a file at `target`.
        FormatVersionError: A newer edgeret wrote the file.
        SpaceMismatchError: The model belongs to another geometry.
        BundleError: The model is missing or damaged.
        StorageError: The medium refused.
    """
    damaged = absolute(path)
    return _repair(damaged, absolute(target), lambda name: load_for(model, damaged, name or DEFAULT_MODEL))


def _repair(path: Path, target: Path, load: Callable[[str | None], TextEncoder]) -> RepairSummary:
    """Write what `path` still holds to a new index at `target`, which is checked, and then whole or empty.

    load: gives an encoder for the name of the model that the file gives, None if that is lost.
    Raises NotAnIndexError if no document is found, IndexExistsError for a `target` that is there,
    FormatVersionError, SpaceMismatchError for an encoder of another geometry, StorageError, and what `load` raises.
    """
    check_path(path)
    with assembled(target) as new:
        with salvaged(path, new.with_name("pages")) as salvage:
            encoder = load(salvage.meta.get("model"))
            summary = _write(salvage, new, encoder)
        with closing(Store(new, readonly=False)) as store:
            check(store, encoder.codec, quick=False)
            store.end_log()
    return replace(summary, path=str(target))


def _write(salvage: Salvage, target: Path, encoder: TextEncoder) -> RepairSummary:
    """Write all of it to a new index."""
    described = salvage.description is not None
    dim = encoder.dim if _same_geometry(salvage, encoder) else None
    bits, filters = salvage.setting("bits"), salvage.setting("filters")
    if bits not in encoder.codec.widths:
        bits = max(encoder.codec.widths)
    if not (isinstance(filters, list) and all(isinstance(key, str) for key in filters)):
        filters = []
    known = salvage.description
    description = describe(encoder, bits, filters, _language(salvage))
    if known is not None:
        description = description._replace(others=known.others)
    create(target, description)
    kept, encoded, own_lost, lost = 0, 0, list[str](), list[str]()
    with closing(Store(target, readonly=False)) as store:
        staging = Staging(store)
        for number, found in enumerate(salvage.documents(dim), start=1):
            if found.had_own_vector and found.record.vector is None:
                if not found.record.text.strip():
                    lost.append(found.record.id)
                    continue
                own_lost.append(found.record.id)
            (written,) = encode([found.record], encoder, bits, [found.known], [_sections(found)])
            reused = sum(span in found.known for span in written.spans)
            kept, encoded = kept + reused, encoded + len(written.spans) - reused
            staging.stage(written)
            if number % COMMIT_EVERY == 0:
                staging.publish()
        staging.publish()
        with store.reading() as state:
            saved = state.documents
    return RepairSummary(
        path=str(target),
        documents=saved,
        documents_expected=salvage.documents_expected,
        vectors_kept=kept,
        vectors_encoded=encoded,
        lost_ids=[*lost, *salvage.lost_ids(LISTED_IDS)][:LISTED_IDS],
        own_vectors_lost=own_lost[:LISTED_IDS],
        described=described,
    )


def _language(salvage: Salvage) -> str | None:
    """By whose stems the words were found; of a damaged description, what its line says if that is a language."""
    if salvage.description is not None:
        return salvage.description.language
    told: str | None = salvage.setting("language")
    is_known = isinstance(told, str) and told in stems.ALGORITHMS
    return told if is_known or salvage.meta.get("language") == "null" else stems.ENGLISH


def _sections(found: Found) -> list[Section] | None:
    """The parts of a text, if something stands before its passages: those that are left, and what lies between them."""
    if not found.contexts:
        return None
    text, made, end = found.record.text, list[Section](), 0
    for span in sorted(found.known):
        context = found.contexts.get(span)
        if span[0] < end:
            continue
        if text[end : span[0]].strip():
            made.append(Section(end, span[0], made[-1].context if made else context))
        made.append(Section(*span, context))
        end = span[1]
    if text[end:].strip():
        made.append(Section(end, len(text), made[-1].context if made else None))
    return made


def _same_geometry(salvage: Salvage, encoder: TextEncoder) -> bool:
    # 32 hexadecimal digits are not the same by chance: this entry needs no other proof.
    if salvage.meta.get("geometry") == encoder.geometry:
        return True
    found = salvage.description
    if found is None:
        return False
    raise SpaceMismatchError(
        f"index '{salvage.path}' is of geometry {found.geometry[:8]}, bundle '{encoder.name}' is of geometry "
        f"{encoder.geometry[:8]}: repair it with a bundle of its own geometry"
    )
