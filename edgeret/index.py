"""Index: the one orchestrator. Text -> vector -> code -> candidates -> hits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self, TypeVar

from edgeret import database, door, partitions, reports, scan
from edgeret.check import check
from edgeret.connections import Connections
from edgeret.documents import Document, Hit, Record
from edgeret.encoder import Encoder
from edgeret.encoding import TextEncoder, describe, encode, load, load_for, own_vector
from edgeret.errors import ArgumentError, IndexExistsError, LockedError, ReadOnlyError, ReplacedError
from edgeret.place import absolute, status
from edgeret.plan import Plan, parse_bytes
from edgeret.recode import check_space, recode
from edgeret.reencode import reencode
from edgeret.repair import repair
from edgeret.seal import seal
from edgeret.search import Query, Where
from edgeret.searcher import Searcher
from edgeret.store import State, Store
from edgeret.turns import Free, Turn
from edgeret.writer import Writer

Answer = TypeVar("Answer")

DEFAULT_MODEL: Final = "small"
DEFAULT_BITS: Final = 256


class Index:
    """A searchable collection in one file. Made by `create` or `open`; usable from any thread."""

    def __init__(
        self, path: Path, encoder: TextEncoder, memory_budget: str | int | None, readonly: bool, wait: float
    ) -> None:
        self._path = path
        self._readonly, self._wait = readonly, wait
        self._changing = Turn(f"the writer of '{path}'")
        self._budget = None if memory_budget is None else parse_bytes(memory_budget)
        self._given = encoder
        self._take()

    def _take(self) -> None:
        """Open the file that lies at the path now."""
        encoder, readonly, budget = self._given, self._readonly, self._budget
        self._store = Store(self._path, readonly, wait=self._wait)
        try:
            check_space(self._store, encoder)
            near, fallback = partitions.beside(self._store)
            with self._store.reading() as state:
                self._plan = Plan.of(
                    state.passages,
                    self._store.bits,
                    encoder.planned_bytes,
                    budget,
                    writing=not readonly,
                    shortens=isinstance(encoder, Encoder),
                    partitions=near.planned_bytes if near else 0,
                )
                self._store.resize_cache(self._plan.writing_cache_bytes)
        except BaseException:
            # The read transaction too, whatever it was that ended it.
            try:
                self._store.connection.rollback()
            finally:
                self._store.connection.close()
            raise
        if isinstance(encoder, Encoder) and self._plan.text_divisor > 1:
            encoder = encoder.shortened(self._plan.text_divisor)
        self._encoder = encoder
        # A budget is for one text and one search at a time: others wait for their turn.
        what = f"the memory budget of '{self._path}'"
        self._turn = Free(what) if budget is None else Turn(what)
        self._connections = Connections(self._store, self._plan.cache_bytes)
        self._writer = Writer(self._store, self._connections.alive)
        self._searcher = Searcher(
            self._connections, encoder, self._store, self._plan, self._turn, near, fallback
        )

    @classmethod
    @door.checked
    def create(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
        bits: int | None = None,
        filters: Iterable[str] | None = None,
        memory_budget: str | int | None = None,
        exist_ok: bool = False,
        wait: float = database.WAIT_S,
    ) -> Index:
        """Create an index file and open it.

        model: a bundle's name or folder, or an encoder; None takes the default. bits: length of a code, one
        of the codec's widths; None takes 256. filters: metadata keys that `where` will ask often; they get an SQL
        index. memory_budget: "112MB", "96MiB" or bytes, beyond what `import edgeret` takes. exist_ok: open the
        index that is there instead, if it has these bits and filters, as far as they are given. wait: as in `open`.

        Raises IndexExistsError, BundleError, BudgetError, SpaceMismatchError, FilterError for a key that cannot be
        indexed, InvalidQueryError for bits that the codec lacks, StorageError; then there is no file.
        """
        target = absolute(path)
        database.check_wait(wait)
        database.roll_back(target, wait)
        there = status(target)
        if exist_ok and there is not None and there.st_size:
            return cls.open(target, model, memory_budget, wait=wait)._with_settings(bits, filters)
        encoder = load(DEFAULT_MODEL if model is None else model)
        asked, bits = bits, DEFAULT_BITS if bits is None else bits
        keys = list(filters or ())
        encoder.codec.check_bits(bits)
        if memory_budget is not None:
            budget, shortens = parse_bytes(memory_budget), isinstance(encoder, Encoder)
            Plan.of(0, bits, encoder.planned_bytes, budget, shortens=shortens)
        try:
            database.create(target, describe(encoder, bits, keys), keys, wait)
        except IndexExistsError:
            if not exist_ok:
                raise
            # Somebody else has made it just now.
            return cls.open(target, encoder, memory_budget, wait=wait)._with_settings(asked, filters)
        try:
            return cls(target, encoder, memory_budget, readonly=False, wait=wait)
        except BaseException:
            database.discard(target)
            raise

    @classmethod
    @door.checked
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
        memory_budget: str | int | None = None,
        readonly: bool = False,
        wait: float = database.WAIT_S,
    ) -> Index:
        """Open an index file.

        model: None takes the bundle that the index was made with, if it is installed, with the package or in a folder
        of EDGERET_MODELS; a file leads to no other folder. Any other bundle of the same space will do. readonly: many
        processes may, even from a read-only medium. wait: seconds that a change waits for another writer to end before
        it raises LockedError.

        Raises IndexMissingError, NotAnIndexError, CorruptIndexError, FormatVersionError, BundleError,
        SpaceMismatchError, BudgetError, NeedsRecoveryError, StorageError.
        """
        target = absolute(path)
        if model is None:
            with closing(Store(target, readonly=True)) as store:
                recorded = store.meta["model"]
        else:
            database.check_path(target)
            recorded = ""
        return cls(target, load_for(model, target, recorded), memory_budget, readonly, wait)

    @classmethod
    @door.checked
    def repair(
        cls,
        path: str | os.PathLike[str],
        target: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
    ) -> reports.RepairSummary:
        """Write what a damaged index still holds to a new one at `target`, and check that.

        Documents and vectors are kept if their checksums hold; a text whose vectors are lost is encoded
        again. model: one of the geometry of the index; None takes its own. Raises NotAnIndexError if nothing can be
        kept, IndexExistsError, FormatVersionError, SpaceMismatchError, BundleError, StorageError.
        """
        damaged = absolute(path)
        return repair(damaged, absolute(target), lambda name: load_for(model, damaged, name or DEFAULT_MODEL))

    @classmethod
    @door.checked
    def recode(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
        bits: int | None = None,
        memory_budget: str | int | None = None,
        wait: float = 0.0,
        progress: reports.Progress | None = None,
    ) -> reports.RecodeSummary:
        """Give an index the codes of another codec of its geometry, or of another length, from its stored vectors.

        One transaction: searches go on in the old codes until it ends, and then open indexes raise SpaceMismatchError
        until they are opened again. No text is encoded; ids, texts, vectors and words stay as they are.
        model: whose codec, and the index's own model from then on; None takes the one that it has.
        bits: length of the new codes; None keeps it. wait, memory_budget: as in `open`. progress: is called with
        the passages done and all of them, now and then.

        Raises SpaceMismatchError for another geometry, InvalidQueryError for bits that the codec lacks, LockedError,
        and what `open` raises.
        """
        return Store(absolute(path), readonly=False, wait=wait).use_once(
            lambda store: recode(
                store, load_for(model, store.path, store.meta["model"]), bits, memory_budget, progress
            )
        )

    @classmethod
    @door.checked
    def reencode(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder,
        bits: int | None = None,
        memory_budget: str | int | None = None,
        wait: float = 0.0,
        progress: reports.Progress | None = None,
    ) -> reports.ReencodeSummary:
        """Give an index the passages, vectors and codes of any other model, from its stored texts.

        Others search and change it meanwhile; one transaction at the end changes it. What is encoded waits beside it
        in `PATH-reencode`: an interrupted call is simply made again. A document's own vector stays if the geometry
        does. Arguments as of `recode`; progress counts documents. Raises InvalidDocumentError for a vector of another
        geometry without a text, InvalidQueryError for bits that the codec lacks, and what `open` and `add` raise.
        """
        return Store(absolute(path), readonly=False, wait=wait).use_once(
            lambda store: reencode(store, load(model), bits, memory_budget, progress)
        )

    # -- writing

    @door.checked
    def add(self, documents: Iterable[Document | str], commit_every: int | None = None) -> list[str]:
        """Index documents; returns their ids, in order.

        The same id replaces: the last one wins. A document that is there unchanged costs no encoding.
        commit_every: None makes the call atomic; a number commits after so many documents, so that an
        interrupted load can simply be run again.

        Raises InvalidDocumentError, InvalidVectorError, LockedError, StorageError, ReadOnlyError.
        """
        return self._change(lambda: self._add(documents, commit_every))

    @door.checked
    def delete(self, ids: Iterable[str], erase: bool = False) -> int:
        """Remove documents at once; returns how many there were. Unknown ids are no error.

        erase: also write the file anew, as `compact` does, so that nothing of them remains in it.
        Raises LockedError, also when a reader prevents erasing.
        """
        return self._change(lambda: self._writer.delete(ids, erase))

    def compact(self) -> None:
        """Write the file anew, so that nothing of deleted documents remains, and give their space back.

        Meanwhile it takes twice the file's bytes: in its log, and where SQLite keeps temporary files.
        Raises LockedError, also when a reader prevents it.
        """
        self._change(self._writer.compact)

    @door.checked
    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the index, also while it is written, to a new file. Raises IndexExistsError."""
        self._connections.read(lambda store, _: database.backup(store.connection, store.path, absolute(path)))

    @door.checked
    def seal(self, path: str | os.PathLike[str]) -> None:
        """Write the index, compact and without a journal, to one new file to ship; this one stays as it is.

        Such a file opens on read-only media. Meanwhile it takes four times the bytes: beside the new file, and
        where SQLite keeps temporary files. Raises IndexExistsError, StorageError.
        """
        self._connections.read(lambda store, _: seal(store, absolute(path)))

    # -- reading

    @door.checked
    def search(
        self,
        query: Query,
        k: int = 10,
        where: Where | None = None,
        mode: str = "dense",
        oversample: int | None = None,
    ) -> list[Hit]:
        """The `k` best documents for a text, or for a vector [dim], each by its best passage.

        where: only documents whose metadata meet it; it filters before the scan. mode: "dense" (by
        meaning), "lexical" (by words), "hybrid". oversample: candidates by code are `oversample * k`,
        at least 10 times `oversample`; they are rescored with the stored int8 vectors. None: as many as the
        number of passages and the length of the codes ask for, 4 or more.

        Raises InvalidQueryError, InvalidVectorError, FilterError, CorruptIndexError.
        """
        return self._searcher.explain([query], k, where, mode, oversample)[0].hits

    @door.checked
    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        where: Where | None = None,
        mode: str = "dense",
        oversample: int | None = None,
    ) -> list[list[Hit]]:
        """`search` for each query, all on one state of the index; the codes are read once for many of them.

        queries: texts and vectors, or an array [queries, dim].
        """
        return self._searcher.search(list(queries), k, where, mode, oversample)

    @door.checked
    def explain(
        self,
        query: Query,
        k: int = 10,
        where: Where | None = None,
        mode: str = "dense",
        oversample: int | None = None,
    ) -> reports.Explanation:
        """`search`, with the counts and the time of each stage."""
        return self._searcher.explain([query], k, where, mode, oversample)[0]

    @door.checked
    def get(self, id: str) -> Document | None:
        """The document with this id, or None; with its vector, of unit length, if that came with it."""
        return self._connections.read(lambda store, _: self._get(store, id))

    @door.checked
    def check(self, quick: bool = False) -> reports.CheckSummary:
        """Read the whole file and compare every part with every other; raises CorruptIndexError."""
        return self._alone(lambda: check(self._store, self._encoder.codec, quick))

    def info(self) -> reports.Info:
        """What this index is and how large."""
        return self._connections.read(self._info)

    def __len__(self) -> int:
        """How many documents."""
        return self._connections.read(lambda _, state: state.documents)

    def __bool__(self) -> bool:
        """True, however many documents there are."""
        return True

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            f"an Index is connections and locks of one process, and neither copied nor pickled: open '{self._path}' "
            "again, there where it is used"
        )

    def reopen(self) -> None:
        """Go on with the file that lies at the path now, after a ReplacedError.

        Searches that are under way end in the old file. Raises what `open` raises, SpaceMismatchError for a file of
        another space; then it is closed, and `reopen` may be called again.
        """
        self._connections.owned()
        self._changing.hold(self._reopen)

    def _reopen(self) -> None:
        self._connections.close()
        # The last one that closes merges the old file's log, which must not lie beside the new one.
        self._connections.wait()
        self._store.close()
        self._take()

    def close(self) -> None:
        """Close the file; closing twice is no error. The last connection to close leaves one file.

        Calls that run meanwhile: what reads already ends as if nothing were; a change commits nothing any more and ends
        with ClosedError. A change in another thread is waited for. From within a call of the same thread, as
        a signal handler does it, this returns at once, and that call closes what it uses when it ends.
        """
        if not self._connections.ours:
            return
        self._connections.close()
        if not self._changing.mine:
            self._changing.hold(self._store.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._connections.usable else ", closed"
        return f"<edgeret.Index {str(self._path)!r}, {self._store.bits} bits, model {self._encoder.name!r}{state}>"

    # -- inside

    def _get(self, store: Store, id: str) -> Document | None:
        stored = store.document_of(id)
        if stored is None:
            return None
        return Document(stored.id, stored.text, stored.metadata, store.own_vector(stored))

    def _info(self, store: Store, state: State) -> reports.Info:
        file_bytes = store.place.file_bytes
        return reports.Info(
            path=str(self._path),
            model=self._encoder.name,
            space=self._encoder.space,
            geometry=self._encoder.geometry,
            dim=store.dim,
            bits=store.bits,
            filters=store.filters,
            documents=state.documents,
            passages=state.passages,
            generation=state.generation,
            format=database.FORMAT_VERSION,
            file_bytes=file_bytes,
            bytes_per_doc=file_bytes / max(state.documents, 1),
            planned_bytes=self._plan.total,
            codes_resident=self._plan.holds_all_codes,
            covered=self._searcher.covered(store, state),
            fallback=self._searcher.fallback,
            scan=scan.backend(),
        )

    def _with_settings(self, bits: int | None, filters: Iterable[str] | None) -> Self:
        """The index itself, closed if it has not these bits and filters: then raises IndexExistsError."""
        found, keys = self._store, None if filters is None else sorted(filters)
        if bits in (None, found.bits) and keys in (None, sorted(found.filters)):
            return self
        self.close()
        raise IndexExistsError(
            f"'{self._path}' exists with {found.bits} bits and the filters {found.filters}: ask for these or for "
            "none, or choose another path"
        )

    def _add(self, documents: Iterable[Document | str], commit_every: int | None) -> list[str]:
        ids: list[str] = []
        try:
            # What an interrupted `add` of another turn may have left is not asked for.
            self._writer.spare()
            fresh = 0
            for document in documents:
                self._connections.alive()
                record = Record.of(document)
                fresh += self._stage(record, first=not fresh)
                ids.append(record.id)
                if commit_every is not None and len(ids) % commit_every == 0:
                    self._writer.publish()
                    fresh = 0
            self._writer.publish()
        except LockedError as error:
            if not self._writer.spare():
                raise
            raise LockedError(
                f"{error}; what was encoded is kept until the next change: add the same documents again"
            ) from error
        self._writer.unstage()
        return ids

    def _stage(self, record: Record, first: bool) -> bool:
        """Encode a document that is not there; whether it was so. first: of those that are committed together."""
        own = own_vector(record, self._encoder)
        if self._writer.holds(record, None if own is None else own[0]):
            return False
        if first:
            # Whoever is to be refused is refused before hours of encoding.
            self._writer.await_lock()
        known = {} if own is None else {(0, len(record.text)): own.tobytes()}
        self._writer.stage(self._turn.hold(lambda: encode(record, self._encoder, self._store.bits, known)))
        return True

    def _change(self, work: Callable[[], Answer]) -> Answer:
        self._connections.alive()
        if self._readonly:
            raise ReadOnlyError(
                f"'{self._path}' was opened read-only: open it without readonly=True to change it"
            )
        return self._alone(work)

    def _alone(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns, while nobody else uses the writer's connection."""
        # Before the turn too: in a forked process it may be that of a thread that is not there.
        self._connections.alive()
        return self._changing.hold(lambda: self._use(work))

    def _use(self, work: Callable[[], Answer]) -> Answer:
        self._connections.alive()
        try:
            return self._store.use(work)
        except ReplacedError:
            # What was acknowledged goes into the file now, before anybody changes it where it has gone.
            self._connections.rest()
            raise
        finally:
            # By a signal handler or a generator, within this call.
            if self._connections.closed:
                self._store.close()
