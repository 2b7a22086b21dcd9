"""Sync: an index as the files of folders are. What is unchanged is neither read nor encoded.

A document's id is its file's path, from the name of the folder on; of a file that holds many, that, `#`, and the id or
the number of each. Metadata have the file's path, size and time, by which the next call knows it again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, Protocol

from edgeret import files
from edgeret.documents import Chunk, Document
from edgeret.errors import (
    ArgumentError,
    BudgetError,
    EdgeretError,
    InvalidDocumentError,
    InvalidVectorError,
    StorageError,
)
from edgeret.reports import MOST_COPIES, Added, Copy, Progress, SyncSummary
from edgeret.sources import folder, formats, structure
from edgeret.sources.folder import Contents, File
from edgeret.sources.formats import NO_KEYS, NO_READER, Keys, LeftOutError, open_here, without_records
from edgeret.storage.place import is_held
from edgeret.storage.rows import Told
from edgeret.upkeep.duplicates import KEEP, SKIP

_COMMIT_S: Final = 10.0
"""Seconds of work that a kill may lose, about."""

_COMMIT_CHARACTERS: Final = 1 << 20
"""Of the texts of one commit, about, and of what waits in memory for it."""

_COMMIT_DOCUMENTS: Final = 10_000

_REFUSALS: Final = (InvalidDocumentError, InvalidVectorError, BudgetError)
"""What is wrong with one document, not with the index."""


class Target(Protocol):
    """The index."""

    def add(self, documents: Iterable[Document], /, *, chunk: Chunk, duplicates: str) -> Added:
        """As of `Index`, all or none."""

    def update_many(self, changes: Mapping[str, Mapping[str, Any]], /) -> int:
        """As of `Index`."""

    def delete(self, ids: Iterable[str], /) -> int:
        """As of `Index`."""

    def get(self, id: str, /) -> Document | None:
        """As of `Index`."""

    def __len__(self) -> int:
        """How many documents there are."""


TellAll = Callable[[str, str], Iterable[Told]]
"""All documents whose ids are from one on and below another."""


class Reading(NamedTuple):
    """How files are read: as of `Index.sync`."""

    keys: Keys = NO_KEYS
    follow_links: bool = False
    chunk: Chunk = structure.sections
    duplicates: str = KEEP


class _Known(NamedTuple):
    """What the index has of a file: its time and size, as far as all documents agree, and how many there are.

    records: what they say of that, the last one as the file was read, others where a column has that name.
    """

    state: tuple[object, object] | None
    documents: int
    records: frozenset[object]

    def is_of(self, file: File) -> bool:
        """Whether it is all there, as the file is now."""
        if self.state != (file.mtime, file.octets):
            return False
        return not formats.is_records(file.name) or self.documents in self.records


def named(folders: Iterable[str | os.PathLike[str]]) -> dict[str, Path]:
    """Folders by their names, with which ids begin. Raises ArgumentError for one without, and for two of one name."""
    found: dict[str, Path] = {}
    for given in folders:
        path = Path(os.path.abspath(given))  # noqa: PTH100 - `resolve` would take the name of what a link leads to
        if not path.name:
            raise ArgumentError(f"expected folders with a name, got '{path}': name those inside of it")
        if found.setdefault(path.name, path) != path:
            raise ArgumentError(
                f"expected folders of different names, got '{found[path.name]}' and '{path}': ids begin with the "
                "name, so sync the folder that holds both"
            )
    if not found:
        raise ArgumentError("expected a folder, got none: name one")
    return found


def check_folder(path: Path) -> None:
    """Raise InvalidDocumentError for a path of something else or nothing, StorageError where nobody may look."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidDocumentError(f"expected a folder, '{path}' is not there: check the path") from None
    except OSError as error:
        raise files.unreadable(path, error) from None
    if not stat.S_ISDIR(mode):
        raise InvalidDocumentError(f"expected a folder, '{path}' is {files.kind(mode)}: check the path")


class Sync:
    """Folders that an index is to follow.

    folders: as of `named`. tell: what the index has. progress: called with the bytes of the files that are done, and of
    all that are to be read, whenever some are safe.
    """

    def __init__(
        self,
        target: Target,
        tell: TellAll,
        folders: Mapping[str, Path],
        how: Reading,
        progress: Progress | None = None,
    ) -> None:
        self._target, self._tell = target, tell
        self._folders, self._how = folders, how
        self._progress = progress

    def run(self) -> SyncSummary:
        """Bring the index in step with all there is."""
        return self._follow(
            [self._walk(name) for name in self._folders], [(f"{name}/", f"{name}0") for name in self._folders]
        )

    def _walk(self, name: str) -> Contents:
        path = self._folders[name]
        check_folder(path)
        return folder.walk(path, formats.is_known, self._how.follow_links, f"{name}/")

    def _follow(self, found: Sequence[Contents], spans: Iterable[tuple[str, str]]) -> SyncSummary:
        """Bring the index in step with what was found. spans: the ids that such files may have."""
        known = self._known(spans)
        run = _Run(self._target, self._tell, self._how, self._progress)
        there: set[str] = set()
        waiting: list[File] = []
        for contents in found:
            run.leave_out(contents)
            for file in contents.files:
                there.add(file.name)
                if file.name in known and known[file.name].is_of(file):
                    run.unchanged += 1
                else:
                    waiting.append(file)
        hidden = tuple(fault.name for contents in found for fault in contents.faults if not fault.is_special)
        gone = [path for path in known if path not in there and not _is_below(path, hidden)]
        if self._how.duplicates == SKIP:
            # Nothing is left out as a copy of what goes, or changes.
            run.remove(gone)
            run.read(sorted(waiting, key=lambda file: file.name not in known), known)
        else:
            run.read(waiting, known)
            run.remove(gone)
        return run.summary()

    def _known(self, spans: Iterable[tuple[str, str]]) -> dict[str, _Known]:
        known: dict[str, _Known] = {}
        for told in (one for span in spans for one in self._tell(*span)):
            if not isinstance(told.path, str) or not _is_of(told):
                continue
            before = known.get(told.path)
            state, records = (told.mtime, told.octets), frozenset([told.records])
            if before is None:
                known[told.path] = _Known(state, 1, records)
            else:
                known[told.path] = _Known(
                    state if state == before.state else None,
                    before.documents + 1,
                    before.records | records,
                )
        return known


def _is_of(told: Told) -> bool:
    """Whether a document is one that a file gave: those of others are left alone, whatever their ids."""
    return told.mtime is not None and (told.id == told.path or told.id.startswith(f"{told.path}#"))


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in folders)


class _Run:
    """One call: what was done, and what waits for the next commit."""

    def __init__(self, target: Target, tell: TellAll, how: Reading, progress: Progress | None) -> None:
        self._target, self._tell, self._how = target, tell, how
        self._progress = progress
        self.unchanged = 0
        self._added = self._changed = self._removed = 0
        self._skipped: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._copies: list[Copy] = []
        self._done = self._total = self._safe = 0
        self._documents: list[Document] = []
        self._touched: dict[str, dict[str, Any]] = {}
        self._broken: set[str] = set()
        self._stale: list[File] = []
        self._reads: list[tuple[File, bool, bool]] = []
        self._characters, self._begun = 0, monotonic()

    def leave_out(self, contents: Contents) -> None:
        """Name what lies in a folder and is no file to read."""
        for fault in contents.faults:
            (self._skipped if fault.is_special else self._refused)[fault.name] = str(fault.error)
        for name in contents.others:
            self._skipped[name] = NO_READER

    def read(self, waiting: Sequence[File], known: Mapping[str, _Known]) -> None:
        """Read files and take what has changed into the index, a commit now and then."""
        self._total = sum(file.octets for file in waiting)
        try:
            for file in waiting:
                self._read(file, file.name in known)
                self._done += file.octets
                self._commit_if_due()
            self._commit()
        except (EdgeretError, OSError, KeyboardInterrupt) as error:
            error.add_note(f"{self._added + self._changed} files of this run are safe: run it again to go on")
            raise

    def _read(self, file: File, is_known: bool) -> None:
        has_changed = False
        try:
            for document in self._documents_of(file):
                has_changed |= self._take(document, is_known)
                self._commit_if_due()
        except LeftOutError as error:
            self._skipped[file.name] = str(error)
            if is_known:
                self.remove([file.name])
            return
        except (InvalidDocumentError, StorageError) as error:
            self._refused[file.name] = str(error)
            return
        # A commit within its documents may have found that it is none for the index.
        if file.name not in self._refused and file.name not in self._skipped:
            self._reads.append((file, is_known, has_changed))

    def _documents_of(self, file: File) -> Iterator[Document]:
        if is_held(file.path):
            raise open_here(file)
        told = {"path": file.name, "mtime": file.mtime, "bytes": file.octets}
        if not formats.is_records(file.name):
            document = formats.document(file)
            yield _with(document, document.id, told)
            return
        # The last one waits for all others, and says how many they are: without it the file is read again.
        last: Document | None = None
        ids: set[str] = set()
        is_whole = True
        for entry in formats.entries(file, self._how.keys):
            found = entry.found
            if isinstance(found, Document):
                identity = formats.identity(file.name, entry, found)
                if identity not in ids:
                    ids.add(identity)
                    if last is not None:
                        yield last
                    last = _with(found, identity, told)
                    continue
                found = formats.standing_twice(file.path, entry, found)
            is_whole = False
            self._refused[f"{file.name}#{entry.number}"] = str(found)
        if last is None and not is_whole:
            raise InvalidDocumentError(f"{file.path}: none of its records can be indexed: fix one")
        if last is None:
            raise without_records(file)
        yield _with(last, last.id, {"records": len(ids)}) if is_whole else last
        if is_whole:
            self._stale.append(file)

    def _take(self, document: Document, is_known: bool) -> bool:
        """Note a document for the next commit, unless it is there; whether its text or what is told of it is new."""
        identity = str(document.id)
        try:
            there = self._target.get(identity) if is_known else None
        except BudgetError:
            # It came under a larger budget: to be replaced it must be read too, and then it is refused by its name.
            there = None
        same = there if there is not None and there.text == document.text else None
        if same is not None:
            # What somebody has added stays as long as the text does.
            added = {key: value for key, value in _own(same).items() if key not in document.metadata}
            document = replace(document, metadata={**added, **document.metadata})
        # Vectors of one's own are compared where they are stored.
        if same is not None and _own(same) == _own(document) and same.vector is document.vector is None:
            if same.metadata != document.metadata:
                keys = same.metadata.keys() | document.metadata.keys()
                self._touched[identity] = {key: document.metadata.get(key) for key in _OF_FILE if key in keys}
            return False
        self._documents.append(document)
        self._characters += len(document.text)
        return True

    def _commit_if_due(self) -> None:
        if (
            self._characters >= _COMMIT_CHARACTERS
            or len(self._documents) + len(self._touched) >= _COMMIT_DOCUMENTS
            or monotonic() - self._begun >= _COMMIT_S
        ):
            self._commit()

    def _commit(self) -> None:
        """Make all that was read safe."""
        self._add(self._documents)
        self._documents = []
        if self._touched:
            self._target.update_many(self._touched)
            self._touched = {}
        for file in self._stale:
            # Of a record that was refused the index keeps what it has.
            if file.name not in self._broken:
                self._remove_stale(file)
        self._stale = []
        for _, is_known, has_changed in self._reads:
            self._added += not is_known
            self._changed += is_known and has_changed
            self.unchanged += is_known and not has_changed
        self._reads = []
        self._characters, self._begun = 0, monotonic()
        if self._progress is not None and self._total:
            self._progress(self._done, self._total)

    def _add(self, documents: Sequence[Document]) -> None:
        """Add documents, those aside that the index does not take."""
        if not documents:
            return
        try:
            added = self._target.add(documents, chunk=self._how.chunk, duplicates=self._how.duplicates)
        except _REFUSALS as error:
            if len(documents) == 1:
                self._refuse(documents[0], error)
                return
            # Several are encoded together: the error does not tell which of them it is of.
            middle = len(documents) // 2
            self._add(documents[:middle])
            self._add(documents[middle:])
        else:
            self._note(added, documents)

    def _refuse(self, document: Document, error: EdgeretError) -> None:
        """Name a document that the index does not take."""
        path = str(document.metadata["path"])
        self._refused[str(document.id)] = f"{document.id}: {error}"
        self._broken.add(path)
        self._reads = [read for read in self._reads if read[0].name != path or formats.is_records(path)]

    def _note(self, added: Added, documents: Sequence[Document]) -> None:
        """Say which of the documents are copies."""
        if self._how.duplicates != SKIP:
            self._copies += added.copies[: MOST_COPIES - len(self._copies)]
            return
        known = {copy.id: copy.of for copy in added.copies}
        there = set(added)
        for document in documents:
            if document.id not in there:
                of = f"'{known[document.id]}'" if document.id in known else "another one"
                self._skipped[str(document.id)] = f"{document.id}: it is a copy of {of}"
        self._reads = [read for read in self._reads if read[0].name not in self._skipped]

    def _remove_stale(self, file: File) -> None:
        """Remove what a file of many documents has no more."""
        state = (file.mtime, file.octets)
        stale = [told.id for told in self._told_of(file.name) if (told.mtime, told.octets) != state]
        if stale:
            self._target.delete(stale)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove all documents of files that are gone."""
        gone = list(paths)
        ids = [told.id for path in gone for told in self._told_of(path)]
        try:
            if ids:
                self._target.delete(ids)
            self._removed += len(gone)
        except BudgetError as error:
            if len(gone) == 1:
                self._refused[gone[0]] = f"{gone[0]}: {error}"
                return
            for path in gone:
                self.remove([path])

    def _told_of(self, path: str) -> Iterator[Told]:
        """What the index has of a file: one document of its name, or many."""
        for span in ((path, f"{path}\x01"), (f"{path}#", f"{path}$")):
            yield from (told for told in self._tell(*span) if told.path == path and _is_of(told))

    def summary(self) -> SyncSummary:
        """What was done."""
        return SyncSummary(
            added=self._added,
            changed=self._changed,
            unchanged=self.unchanged,
            removed=self._removed,
            documents=len(self._target),
            skipped=self._skipped,
            refused=self._refused,
            copies=self._copies,
        )


_OF_FILE: Final = ("mtime", "bytes", "records")


def _own(document: Document) -> dict[str, Any]:
    """Metadata without those that change with a file's time alone."""
    return {key: value for key, value in document.metadata.items() if key not in _OF_FILE}


def _with(document: Document, identity: str | None, told: Mapping[str, Any]) -> Document:
    return replace(document, id=identity, metadata={**document.metadata, **told})
