"""Index: the one orchestrator. Text -> vector -> code -> candidates -> hits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, Unpack

from edgeret import door, reports, scan, stems
from edgeret.codec import Float32
from edgeret.documents import Chunk, Document, Given, Hit, values_of
from edgeret.encode.bundle import DEFAULT_MODEL
from edgeret.encode.records import TextEncoder, load, load_for, plan_for, shortened
from edgeret.encode.reranker import Reranker, more_bytes
from edgeret.errors import (
    ArgumentError,
    BudgetError,
    IndexExistsError,
    InvalidQueryError,
    NeedsUpgradeError,
    ReadOnlyError,
    ReplacedError,
)
from edgeret.plan import COPIES, parse_bytes
from edgeret.search import partitions
from edgeret.search.arrangement import Groups
from edgeret.search.options import Joint, Nearness, Options, Terms, Where
from edgeret.search.reranking import Judge, reranked
from edgeret.search.searcher import Searcher, common_mode
from edgeret.search.stages import Clock, Query
from edgeret.sources import structure
from edgeret.sources.formats import Keys
from edgeret.space import check_space, describe
from edgeret.storage import file, listing
from edgeret.storage.kept import Kept
from edgeret.storage.migration import open_index
from edgeret.storage.place import absolute, status
from edgeret.storage.readers import Connections
from edgeret.storage.staging import Staging
from edgeret.storage.store import Counters, Store
from edgeret.turns import Free, Turn
from edgeret.upkeep.add import Adding, admit
from edgeret.upkeep.check import check
from edgeret.upkeep.compact import compact, delete, seal
from edgeret.upkeep.duplicates import KEEP, SKIP, Duplicates
from edgeret.upkeep.metadata import update
from edgeret.upkeep.recode import recode
from edgeret.upkeep.reencode import reencode
from edgeret.upkeep.repair import repair
from edgeret.upkeep.sync import Reading, Sync, named

Answer = TypeVar("Answer")

asking: Final = door.checked_with(Terms)
"""Of the calls that take the options of a search."""


class Index:
    """A searchable collection of documents in one file. Made by `create` or `open`; usable from any thread.

    Every method raises ClosedError after `close`, ForkedError in a process that was forked after the index was
    opened, ReplacedError if another file lies at its path now, and ArgumentError for an argument of another type.
    """

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
        self._store = open_index(self._path, readonly, self._wait)
        readonly = self._store.readonly
        try:
            check_space(self._store, encoder)
            near, fallback = partitions.open_partitions(self._store)
            with self._store.reading() as state:
                plan = partial(plan_for, encoder, state.passages, self._store.bits, budget, not readonly)
                try:
                    self._plan = plan(partitions=near.planned_bytes if near else 0)
                except BudgetError as error:
                    if near is None:
                        raise
                    # What lies beside an index must not keep it from being opened.
                    near, fallback, self._plan = None, f"partitions: {error}", plan()
                self._store.resize_cache(self._plan.writing_cache_bytes)
        except BaseException:
            # The read transaction too, whatever it was that ended it.
            self._store.abandon()
            raise
        self._store.place.idle = True
        # The plan has no room for rerankers yet: each is loaded, and planned, when it is asked for.
        self._judges: dict[str, Reranker] = {}
        self._encoder = encoder = shortened(encoder, self._plan)
        # A budget is for one text and one search at a time: others wait for their turn.
        what = f"the memory budget of '{self._path}'"
        self._memory_lock = Free(what) if budget is None else Turn(what)
        room = self._plan.document_bytes
        most_bytes = None if room is None else room // COPIES
        self._store.limit(most_bytes)
        kept = Kept(encoder.dim) if budget is None else None
        self._connections = Connections(self._store, self._plan.cache_bytes, most_bytes, kept)
        self._staging = Staging(self._store, self._connections.alive)
        self._searcher = Searcher(self._connections, encoder, self._plan, self._memory_lock, near, fallback)

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
        wait: float = file.WAIT_S,
        language: str | None = stems.ENGLISH,
    ) -> Index:
        """Create an index file and open it.

        Args:
            path: Where the file goes.
            model: A bundle's name or folder, or an encoder (`TextEncoder`). None takes "small".
            bits: Length of a code in bits, one of the codec's widths (64, 128, 256 and 384 for the models of the
                package). None takes the longest that it has up to 256.
            filters: Metadata keys that `where` will often ask; each gets an SQL index. None or an empty list: none.
            memory_budget: Bound on what edgeret adds to the process after its import: "112MB" (10**6 bytes), "96MiB"
                (2**20 bytes) or a number of bytes. None sets no bound.
            exist_ok: Open the index that is there instead, if it has these bits, filters and language, as far as they
                are given; English counts as not given.
            wait: Seconds that a change waits for another writer before it raises LockedError.
            language: Code of ISO 639-1, such as "de": words are found by their stems in it. All but "en" need the
                package PyStemmer. None: words are found as they are.

        Returns:
            The open index.

        Raises:
            ArgumentError: There is no stemmer of the language.
            StemmerError: The package that the language needs is missing.
            IndexExistsError: There is an index, and `exist_ok` is false or its bits, filters or language differ.
            BundleError: The model is missing or damaged.
            BudgetError: The budget cannot be met.
            FilterError: A key of `filters` cannot be indexed.
            InvalidQueryError: The codec lacks these bits.
            SpaceMismatchError: The index that is there belongs to another space than the model.
            StorageError: The medium refused. After an error no new file is left.
        """
        target = absolute(path)
        file.check_wait(wait)
        stems.version(language)
        file.roll_back(target, wait)
        there = status(target)
        if exist_ok and there is not None and there.st_size:
            return cls.open(target, model, memory_budget, wait=wait)._with_settings(bits, filters, language)
        encoder = load(DEFAULT_MODEL if model is None else model)
        asked, bits = bits, encoder.codec.usual_bits if bits is None else bits
        keys = list(filters or ())
        encoder.codec.check_bits(bits)
        if memory_budget is not None:
            # A budget that cannot be met is refused before there is a file.
            plan_for(encoder, 0, bits, parse_bytes(memory_budget))
        try:
            file.create(target, describe(encoder, bits, keys, language), wait)
        except IndexExistsError:
            if not exist_ok:
                raise
            # Somebody else has made it just now.
            return cls.open(target, encoder, memory_budget, wait=wait)._with_settings(
                asked, filters, language
            )
        try:
            return cls(target, encoder, memory_budget, readonly=False, wait=wait)
        except BaseException:
            file.discard(target)
            raise

    @classmethod
    @door.checked
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
        memory_budget: str | int | None = None,
        readonly: bool = False,
        wait: float = file.WAIT_S,
    ) -> Index:
        """Open an index file.

        Args:
            path: The index file.
            model: A bundle's name or folder, or an encoder, of the index's space. None takes the bundle that the index
                was made with, if it is installed: with the package, or in a folder that EDGERET_MODELS names. A file
                never leads to another folder.
            memory_budget: As in `create`. None sets no bound.
            readonly: Open for reading only, also from a read-only medium. Otherwise a file of format 1 with at most
                10,000 passages gets the format of today; larger ones want `upgrade`, signed ones are only read.
            wait: Seconds that a change waits for another writer before it raises LockedError.

        Returns:
            The open index.

        Raises:
            IndexMissingError: There is no file.
            NotAnIndexError: The file is something else.
            CorruptIndexError: The file is damaged.
            FormatVersionError: A newer edgeret wrote the file.
            NeedsUpgradeError: An older edgeret wrote the file, it is large, and `readonly` is false.
            BundleError: The model is missing or damaged.
            SpaceMismatchError: The model belongs to another space.
            BudgetError: The budget cannot be met.
            NeedsRecoveryError: The medium is read-only, and the log beside the file was not merged.
            StorageError: The medium refused.
        """
        target = absolute(path)
        if model is None:
            with closing(Store(target, readonly=True)) as store:
                recorded = store.description.model
        else:
            file.check_path(target)
            recorded = ""
        return cls(target, load_for(model, target, recorded), memory_budget, readonly, wait)

    # They need no open index, so they are functions of the package; callers may know them by these names.
    recode = staticmethod(recode)
    reencode = staticmethod(reencode)
    repair = staticmethod(repair)

    # -- writing

    @door.checked
    def add(
        self,
        documents: Iterable[Given],
        commit_every: int | None = None,
        chunk: Chunk | None = None,
        duplicates: str = KEEP,
    ) -> reports.Added:
        """Index documents.

        A document whose id is there already replaces the old one; of several with one id the last one wins. A document
        that is there unchanged costs no encoding.

        Args:
            documents: Documents, read one at a time. A string is a text without an id and metadata; a mapping has the
                keys `text` and, as far as it has them, `id`, `metadata` and `vector`.
            commit_every: Documents between two commits; an interrupted load is simply run again. None commits once, at
                the end: all documents or none.
            chunk: A function that takes a document and returns the parts of its text that no passage crosses, in
                order: (start, end) in characters, (start, end, context) with what is encoded before each passage, or
                `Section`.
                A part that is too long for the model is cut further. None: the whole text is one part.
            duplicates: What becomes of a document with a new id whose text is nearly that of another one, of the index
                or of this call: "keep" adds it and does not look, "skip" leaves it out, "report" adds it. The last two
                say which it is a copy of. A document whose id is there already is no copy.

        Returns:
            The ids of the documents that are in the index now, in order, with the copies among them.

        Raises:
            InvalidDocumentError: A document cannot be indexed.
            InvalidVectorError: A document's own vector has another dim, is not finite, or is all zeros.
            BudgetError: A document is too large for the memory budget.
            LockedError: Another writer was at work longer than `wait`.
            ReadOnlyError: The index was opened read-only.
            ReentrantError: `documents` is a generator that changes this index.
            StorageError: The medium refused.
        """

        def add() -> reports.Added:
            hold, room = self._memory_lock.hold, self._plan.document_bytes
            copies = None if duplicates == KEEP else Duplicates(duplicates == SKIP, hold)
            load = Adding(self._staging, self._encoder, hold, room, chunk, copies)
            return load.run(documents, commit_every)

        return self._change(add)

    @door.checked
    def sync(
        self,
        folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        text_key: str | None = None,
        id_key: str | None = None,
        follow_links: bool = False,
        chunk: Chunk | None = None,
        progress: reports.Progress | None = None,
        duplicates: str = KEEP,
    ) -> reports.SyncSummary:
        """Bring the index in step with the files of folders: what is new, what has changed, what is gone.

        A document's id is its file's path from the folder's name on; of a file that holds many (JSON Lines, tables),
        that, `#`, and the id or the number of each. A file of the same size and time is not read, one of the same text
        and metadata not encoded. Documents of other origin stay. It commits every ten seconds or so; an interrupted
        call is simply made again. docs/folders.md has what is read, and how.

        Args:
            folders: A folder, or several of different names. Names in them that begin with a dot are left out.
            text_key: Where records of files have their text. None: `text`.
            id_key: Where they have their id. None: `id`, or else the number of their line.
            follow_links: Also read what links lead to outside of a folder.
            chunk: As in `add`. None cuts at headings, definitions and pages, with the file's name and the headings
                above each passage as its context.
            progress: Called after each commit as `progress(done, total)`: bytes of the files that are safe, and of all
                that are read. None calls nothing.
            duplicates: As in `add`, for files that are new. What "skip" leaves out is read again by the next call, and
                comes into the index when the other one is gone.

        Returns:
            How many files there are of each kind, and what was skipped or refused, with reasons.

        Raises:
            InvalidDocumentError: There is no such folder.
            ArgumentError: A folder has no name, or the name of another one.
            LockedError: Another writer was at work longer than `wait`.
            ReadOnlyError: The index was opened read-only.
            StorageError: The medium refused, or a folder cannot be read.
        """
        how = Reading(Keys(text_key, id_key), follow_links, chunk or structure.sections, duplicates)
        several = [folders] if isinstance(folders, str | os.PathLike) else folders
        return Sync(self, partial(listing.told, self._read), named(several), how, progress).run()

    @door.checked
    def update(self, id: str, metadata: Mapping[str, Any], merge: bool = True) -> bool:
        """Change the metadata of one document. Nothing is encoded.

        The old ones are found no more; their bytes may stay in the file until `compact`.

        Args:
            id: The document's id.
            metadata: Keys and values. Empty is allowed.
            merge: Keep the keys that are not given. False leaves those that are given alone.

        Returns:
            Whether there is such a document.

        Raises:
            EdgeretError: What `update_many` raises.
        """
        return self.update_many([(id, metadata)], merge) > 0

    @door.checked
    def update_many(
        self,
        changes: Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Mapping[str, Any]]],
        merge: bool = True,
    ) -> int:
        """Change the metadata of documents, in one transaction. Nothing is encoded.

        Args:
            changes: Metadata by id, or pairs of an id and metadata, read one at a time. Unknown ids are no error.
            merge: As in `update`.

        Returns:
            How many of the ids there are.

        Raises:
            InvalidDocumentError: Metadata cannot be stored.
            BudgetError: A document is too large for the memory budget.
            LockedError: Another writer was at work longer than `wait`.
            ReadOnlyError: The index was opened read-only.
            ReentrantError: `changes` is a generator that changes this index.
            StorageError: The medium refused.
        """
        pairs = changes.items() if isinstance(changes, Mapping) else changes
        return self._change(lambda: update(self._staging, self._admitted(pairs), merge))

    @door.checked
    def delete(
        self, ids: Iterable[str] | None = None, erase: bool = False, where: Where | None = None
    ) -> int:
        """Remove documents, by their ids or by what their metadata meet, in one transaction.

        Args:
            ids: Ids of documents. Unknown ids are no error. None if there is a `where`.
            erase: Also rewrite the file, as `compact` does, so that nothing of the documents remains in it.
            where: Condition on the metadata (docs/filters.md), not empty. None if there are `ids`.

        Returns:
            How many documents were removed.

        Raises:
            InvalidQueryError: There are neither ids nor a condition, or both, or the condition is empty.
            FilterError: `where` has an unknown operator or a value of the wrong kind.
            LockedError: Another writer was at work longer than `wait`; or a reader prevents the rewrite.
            ReadOnlyError: The index was opened read-only.
            StorageError: The medium refused.
        """
        condition = self._met(where)
        if (ids is None) == (condition is None):
            raise InvalidQueryError(
                "expected either ids or a where that is not empty: to delete all documents pass index.ids()"
            )
        return self._change(lambda: delete(self._staging, ids, condition, erase))

    def compact(self) -> None:
        """Rewrite the file, so that nothing of deleted documents remains in it, and give their space back.

        Meanwhile this takes twice the file's bytes: in its log, and where SQLite keeps temporary files.

        Raises:
            LockedError: Another writer was at work longer than `wait`; or a reader prevents the rewrite.
            ReadOnlyError: The index was opened read-only.
            StorageError: The medium refused.
        """
        self._change(lambda: compact(self._staging))

    @door.checked
    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the index to a new file, also while it is changed.

        Args:
            path: Where the copy goes.

        Raises:
            IndexExistsError: There is a file.
            StorageError: The medium refused.
        """
        self._read(lambda store, _: store.backup(absolute(path)))

    @door.checked
    def seal(self, path: str | os.PathLike[str]) -> None:
        """Write the index to one new file to ship, compact and without a journal. This index stays as it is.

        A sealed file opens on read-only media. Meanwhile this takes four times the file's bytes: beside the new
        file, and where SQLite keeps temporary files.

        Args:
            path: Where the new file goes.

        Raises:
            IndexExistsError: There is a file.
            StorageError: The medium refused.
        """
        self._read(lambda store, _: seal(store, absolute(path)))

    # -- reading

    @asking
    def search(
        self,
        query: Query,
        k: int = 10,
        where: Where | None = None,
        mode: str | None = None,
        **options: Unpack[Options],
    ) -> list[Hit]:
        """Find the `k` best documents for a query, each by its best passage.

        Dense: the best candidates by 1-bit codes are rescored with the stored int8 vectors. Lexical: BM25
        (Robertson et al., TREC-3, 1994), divided by the most that this query's words could give. Hybrid: the best
        passages of either, each scored by both; the score is the cosine plus the weighted score of the words.

        What a text has between double quotes must stand in a passage word by word, but for case and accents; where it
        stands in none, a hybrid search is asked as if nothing were quoted. Other signs mean nothing.

        Args:
            query: A text, or a vector, [dim] numbers of any length but zero.
            k: Documents to return. Fewer come back only if fewer match.
            where: Condition on the metadata (docs/filters.md), applied before the scan. None lets every document pass.
            mode: "dense" (by meaning), "lexical" (by words) or "hybrid" (both). None is "hybrid" for a text and "dense"
                for a vector, which has no other, and for files of format 1.
            oversample: Candidates to rescore, as a multiple of `k`, or of 10 if `k` is smaller. None chooses by the
                number of passages and the length of the codes, 4 or more. "hybrid" rescores 100, or these if
                they are more.
            min_score: Hits with a lower score are left out. None lets every score pass.
            offset: Better documents to leave out, for a page behind others; 0 for the first page. Pages are cut of one
                ranking of the 1,000 best, of 10,000 if one reaches beyond them, so while the index does not change no
                document is on two of them. None, not for pages, ranks `k`, which takes less time.
            feedback: Ids of documents that the answer should be like, and of others that it should be unlike: they move
                the query's vector. None moves nothing.
            prefix: Whether the query is still being typed, for a search at each letter: the word that it ends with
                stands for all words that begin with it, of which the 64 most frequent ones count.
            per_document: Passages that are shown of one document, each a hit, at the most. None shows all that are
                good enough for one of the `k` places.
            diversity: What it counts that a hit differs from those before it, 0 to 1, beside its score: maximal
                marginal relevance over the stored vectors of the 100 best, of 1,000 if more are asked for, and so on.
                None leaves the order of the scores.
            boost: {"key": "date", "halflife": "30d"}: the older a document is by this metadata key (ISO dates, or
                seconds since 1970), the less its score, by a half at the most and by half of that after a half-life
                (s, min, h, d, w, y). "weight", 0 to 1, is another most than 0.5; "now" another date than that of the
                call. The best are chosen as of `diversity`. None has all of one age.
            group_by: A metadata key: of the documents with the same value only the best are shown, as many as
                `per_group`. Those without it are shown all. None groups nothing.
            per_group: Documents that are shown of one group at the most.
            rerank: Who orders the first documents anew by reading their passages with the query: a reranker's bundle by
                its name or folder (`Reranker`), or a function of a query and texts that returns a score for each,
                higher is better. These are the hits' `score` then, of which `min_score` is a bound. None: nobody.
            rerank_k: Documents that are reranked, those that the search has first: `k` and `offset` lie within them.

        Returns:
            Hits, best first, unless `diversity` orders them; equal scores by age, the oldest first.

        Raises:
            InvalidQueryError: The query is empty, `k` is below 1, the mode is unknown or needs a text, a document
                of the feedback is missing, or `group_by` stands beside `per_document` or `diversity`.
            InvalidVectorError: The vector has another dim, is not finite, or is all zeros.
            FilterError: `where` has an unknown operator or a value of the wrong kind.
            BudgetError: So many candidates, or a document that was found, do not fit the memory budget.
            CorruptIndexError: What was read is damaged.
            SpaceMismatchError: The file was recoded or re-encoded since it was opened.
        """
        return self._found(query, Terms(k, where, mode, **options))

    @asking
    def search_many(
        self,
        queries: Iterable[Query],
        k: int = 10,
        where: Where | None = None,
        mode: str | None = None,
        **options: Unpack[Options],
    ) -> list[list[Hit]]:
        """Search for several queries, all in the same state of the index; the codes are read once for many of them.

        Args:
            queries: Texts and vectors, or an array [queries, dim].
            k: Documents to return for each query.
            where: As in `search`; evaluated once.
            mode: As in `search`.
            options: The other keywords of `search`.

        Returns:
            A list of hits for each query, in order.

        Raises:
            EdgeretError: What `search` raises.
        """
        terms, asked = Terms(k, where, mode, **options), list(queries)
        if terms.rerank is None:
            return self._searcher.search(asked, terms)
        judge = self._judge(terms.rerank, asked)
        found = self._searcher.search(asked, terms.judged)
        return [
            list(terms.page(self._reranked(str(query), hits, judge)))
            for query, hits in zip(asked, found, strict=True)
        ]

    @asking
    def explain(
        self,
        query: Query,
        k: int = 10,
        where: Where | None = None,
        mode: str | None = None,
        **options: Unpack[Options],
    ) -> reports.Explanation:
        """Search as `search` does, and return the counts and the time of each stage too.

        Args:
            query: As in `search`.
            k: As in `search`.
            where: As in `search`.
            mode: As in `search`.
            options: The other keywords of `search`.

        Returns:
            The hits, counts, and milliseconds.

        Raises:
            EdgeretError: What `search` raises.
        """
        found = self._explained(query, Terms(k, where, mode, **options))
        unknown = self._read(lambda store, _: listing.unknown_keys(store, where or {}))
        return replace(found, unknown_keys=unknown)

    @door.checked_with(Terms, Nearness.__annotations__)
    def similar(
        self, id: str, k: int = 10, where: Where | None = None, **options: Unpack[Nearness]
    ) -> list[Hit]:
        """Find the `k` documents most like one of the index, by meaning. Nothing is encoded.

        Args:
            id: Its id. Another document is as near as the nearest of its passages to one of that document's; the
                document itself is left out.
            k: As in `search`.
            where: As in `search`.
            options: `oversample`, `min_score`, `offset`, `feedback`, `per_document`, `diversity`, `boost`, `group_by`
                and `per_group` of `search`.

        Returns:
            Hits, best first, unless `diversity` orders them; equal scores by age, the oldest first.

        Raises:
            InvalidQueryError: There is no such document, or `k` is below 1.
            EdgeretError: What `search` raises.
        """
        return self._searcher.similar(id, Terms(k, where, "dense", **options))

    @door.checked
    def get(self, id: str) -> Document | None:
        """Return one document, whole.

        Args:
            id: The document's id.

        Returns:
            The document, with its vector, of unit length, if it came with one. None if there is no such document.

        Raises:
            CorruptIndexError: The document is damaged.
            BudgetError: The document does not fit the memory budget.
        """
        return self._read(lambda store, _: self._get(store, id))

    @door.checked
    def vectors(self, id: str) -> Float32 | None:
        """Return the vectors of one document, as they are stored in 8 bits a dimension.

        Args:
            id: The document's id.

        Returns:
            float32 [passages, dim], rows of unit length, in the order of the text. None if there is no such document.

        Raises:
            CorruptIndexError: The document is damaged.
        """
        return self._read(lambda store, _: store.rows.vectors_of(id))

    @door.checked
    def ids(
        self, where: Where | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[str]:
        """Go through the ids of the documents, in ascending order of their code points.

        They are read a part at a time, so the index may be changed meanwhile, also by whoever goes through them: a
        document that is there all the time comes once.

        Args:
            where: Condition on the metadata (docs/filters.md). None lets every document pass.
            after: An id, of a document or not; only greater ones come. None begins with the first.
            limit: Most ids to return. None returns all.

        Returns:
            Ids, one at a time.

        Raises:
            FilterError: `where` has an unknown operator or a value of the wrong kind.
        """
        self._connections.alive()
        return listing.ids(self._read, self._met(where), after, limit)

    @door.checked
    def documents(
        self, where: Where | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[Document]:
        """Go through the documents, whole, in ascending order of their ids, as `ids` does.

        Args:
            where: As in `ids`.
            after: As in `ids`.
            limit: Most documents to return. None returns all.

        Returns:
            Documents as of `get`, one at a time.

        Raises:
            FilterError: `where` has an unknown operator or a value of the wrong kind.
            CorruptIndexError: A document is damaged.
            BudgetError: A document does not fit the memory budget.
        """
        self._connections.alive()
        return listing.documents(self._read, self._met(where), after, limit)

    @door.checked
    def count(self, where: Where | None = None) -> int:
        """Return how many documents meet a condition.

        Args:
            where: Condition on the metadata (docs/filters.md). None counts all.

        Returns:
            The number of documents.

        Raises:
            FilterError: `where` has an unknown operator or a value of the wrong kind.
        """
        condition = self._met(where)
        return self._read(lambda store, state: listing.count(store, state, condition))

    @door.checked
    def facets(self, key: str, where: Where | None = None, limit: int | None = None) -> list[tuple[Any, int]]:
        """Return the values of a metadata key, and how many documents have each.

        Values are told apart as `where` does it: a document with a list has each of its elements, `1` is `1.0` and
        neither `"1"` nor `True`; objects are no values, keys inside them have dots.

        Args:
            key: The key.
            where: Condition on the metadata (docs/filters.md) of the documents that are counted. None counts all.
            limit: Most values to return. None returns all.

        Returns:
            (value, documents), the most frequent first; of equally frequent ones in a fixed order.

        Raises:
            FilterError: `where` has an unknown operator or a value of the wrong kind, or the key has too many dots.
        """
        condition = self._met(where)
        return self._read(lambda store, _: listing.facets(store, key, condition, limit))

    @door.checked
    def check(self, quick: bool = False) -> reports.CheckSummary:
        """Read one state of the whole file, beside any writer, and compare every part with every other.

        Of a file of format 1 a copy of the words, and of long texts, is made where SQLite keeps temporary files.

        Args:
            quick: Check SQLite's own structures and the counters only.

        Returns:
            What was compared.

        Raises:
            CorruptIndexError: Something is damaged or does not match; the message says what.
            SpaceMismatchError: The index has other codes by now.
            LockedError: Another connection has the whole file locked.
            StorageError: The medium refused, or has no room for the copy.
        """
        return self._alone(lambda: check(self._store, self._encoder.codec, quick))

    @property
    def encoder(self) -> TextEncoder:
        """What encodes its texts and queries."""
        return self._encoder

    def info(self) -> reports.Info:
        """Return the index's settings, counts and sizes."""
        return self._read(self._info)

    def __len__(self) -> int:
        """Return the number of documents."""
        return self._read(lambda _, state: state.documents)

    @door.checked
    def __contains__(self, id: str) -> bool:
        """Whether there is a document of this id."""
        return self._read(lambda store, _: store.rows.document_of(id) is not None)

    def __bool__(self) -> bool:
        """True, however many documents there are."""
        return True

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            f"an Index is connections and locks of one process, and neither copied nor pickled: open '{self._path}' "
            "again, there where it is used"
        )

    def warm_up(self) -> None:
        """Do now what the first search would have to: start the model, read codes and words.

        A service calls this before it says that it is ready.

        Raises:
            EdgeretError: What `search` raises.
        """
        self.search("warm up", k=1)

    def reopen(self) -> None:
        """Go on with the file that lies at the path now, after a ReplacedError.

        Searches that are under way end in the old file. If this fails the index is closed, and `reopen` may be called
        again.

        Raises:
            SpaceMismatchError: The file belongs to another space than the index's encoder.
            EdgeretError: What `open` raises.
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
        """Close the file. Closing twice is no error. When the last connection closes, one file is left.

        Searches that are under way in other threads end normally. A change commits nothing any more and raises
        ClosedError; one in another thread is waited for. Called within a call of the same thread, as by a signal
        handler, this returns at once, and that call closes what it uses when it ends.
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

    def _found(self, query: Query, terms: Terms) -> list[Hit]:
        if terms.rerank is None:
            return self._searcher.search([query], terms)[0]
        return self._explained(query, terms).hits

    def _explained(self, query: Query, terms: Terms) -> reports.Explanation:
        if terms.rerank is None:
            return self._searcher.explain([query], terms)[0]
        judge = self._judge(terms.rerank, [query])
        found = self._searcher.explain([query], terms.judged)[0]
        # Outside of the read transaction: it takes long, and needs no more than the hits.
        clock = Clock()
        hits = self._reranked(str(query), found.hits, judge)
        return replace(found, hits=list(terms.page(hits)), reranked=len(found.hits), rerank_ms=clock.lap())

    def _reranked(self, query: str, hits: list[Hit], judge: Judge) -> list[Hit]:
        if isinstance(judge, Reranker):
            return self._memory_lock.hold(lambda: reranked(query, hits, judge))
        # A function may ask the index itself.
        return reranked(query, hits, judge)

    def _judge(self, rerank: str | os.PathLike[str] | Judge, queries: Iterable[Query]) -> Judge:
        """Who reranks: a function as it is; a bundle is loaded once, if the memory budget has room for it."""
        if not all(isinstance(query, str) for query in queries):
            raise InvalidQueryError("a reranker reads the words of the query, got a vector: leave rerank out")
        if not isinstance(rerank, str | os.PathLike):
            return rerank
        name = os.fspath(rerank)
        if name not in self._judges:
            found = Reranker.load(name)
            self._plan = self._plan.beside(f"reranker {found.name}", more_bytes(found, self._encoder))
            self._searcher.replan(self._plan)
            self._judges[name] = found
        return self._judges[name]

    def _get(self, store: Store, id: str) -> Document | None:
        stored = store.rows.document_of(id)
        if stored is None:
            return None
        return Document(stored.id, stored.text, stored.metadata, store.rows.own_vector(stored))

    def _info(self, store: Store, state: Counters) -> reports.Info:
        file_bytes = store.place.file_bytes
        return reports.Info(
            path=str(self._path),
            model=self._encoder.name,
            space=self._encoder.space,
            geometry=self._encoder.geometry,
            dim=store.dim,
            bits=store.bits,
            filters=store.filters,
            language=store.description.language,
            documents=state.documents,
            passages=state.passages,
            generation=state.generation,
            format=store.description.format,
            file_bytes=file_bytes,
            bytes_per_doc=file_bytes / max(state.documents, 1),
            planned_bytes=self._plan.total,
            codes_resident=self._plan.holds_all_codes,
            covered=self._searcher.covered(store, state),
            fallback=self._searcher.fallback,
            scan=scan.backend(),
        )

    def _with_settings(self, bits: int | None, filters: Iterable[str] | None, language: str | None) -> Self:
        """The index itself, closed if it has not these settings: then raises IndexExistsError."""
        found, keys = self._store.description, None if filters is None else sorted(filters)
        if (
            bits in (None, found.bits)
            and keys in (None, sorted(found.filters))
            and language in (stems.ENGLISH, found.language)
        ):
            return self
        self.close()
        raise IndexExistsError(
            f"'{self._path}' exists with {found.bits} bits and the filters {found.filters}, in the language "
            f"{found.language!r}: ask for these or for none, or choose another path"
        )

    def _read(self, work: Callable[[Store, Counters], Answer]) -> Answer:
        """What `work` returns, in its turn and within a read transaction."""
        # Before the turn too: in a forked process it may be that of a thread that is not there.
        self._connections.alive()
        if self._memory_lock.mine:
            # A signal handler within the call that has the turn: it is answered at once, and takes little.
            return self._connections.read(work)
        return self._memory_lock.hold(lambda: self._connections.read(work))

    def _admitted(
        self, changes: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for id, metadata in changes:
            admit(Document(id, metadata=metadata), self._plan.document_bytes)
            yield id, metadata

    def _met(self, where: Where | None) -> listing.Condition | None:
        return listing.Condition.of(where, self._store.filters)

    def _change(self, work: Callable[[], Answer]) -> Answer:
        self._connections.alive()
        if self._readonly:
            raise ReadOnlyError(
                f"'{self._path}' was opened read-only: open it without readonly=True to change it"
            )
        if self._store.readonly:
            raise NeedsUpgradeError(
                f"'{self._path}' is signed and of format 1, which is not written any more: run 'edgeret upgrade "
                f"{self._path}' and sign it again"
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


def room(index: Index) -> int | None:
    """Bytes that one document may take while it is added to an open index, as of `admit`."""
    return index._plan.document_bytes


@door.checked_with(Terms, Joint.__annotations__)
def search_indexes(
    indexes: Iterable[Index],
    query: Query,
    k: int = 10,
    where: Where | None = None,
    mode: str | None = None,
    **options: Unpack[Joint],
) -> list[tuple[Index, Hit]]:
    """Find the `k` best documents for a query in several indexes of one space.

    Args:
        indexes: Open indexes, one or more. A document that two of them have may be found twice.
        query: As in `Index.search`.
        k: Documents to return.
        where: As in `Index.search`.
        mode: As in `Index.search`. None is "dense" for a vector, or if one of the files is of format 1, else "hybrid".
        options: `oversample`, `min_score`, `offset`, `prefix`, `per_document`, `boost`, `group_by`, `per_group`,
            `rerank` and `rerank_k` of `Index.search`. Of each index as many documents are reranked.

    Returns:
        Hits with the indexes that they are of, best first; equal scores in the order of the indexes. What a word counts
        depends on how rare it is in its own index.

    Raises:
        ArgumentError: There is no index, or something that is none.
        SpaceMismatchError: The indexes are not of one space.
        InvalidQueryError: The mode needs words, and a file of format 1 scores them in its own way.
        EdgeretError: What `Index.search` raises.
    """
    several = list(indexes)
    if not several or not all(isinstance(index, Index) for index in several):
        raise ArgumentError("expected open indexes, one or more: open them with Index.open")
    mode = common_mode([index._searcher for index in several], query, mode)
    terms = Terms(k, where, mode, **options)
    # Each index gives what would be shown if the others had nothing; they meet in the order of their scores.
    whole = terms._replace(k=terms.end, offset=None if terms.offset is None else 0)
    answers = [(index, index._explained(query, whole)) for index in several]
    # Where one of them says the phrases, no other answers as if nothing were quoted.
    answers = [(index, told) for index, told in answers if told.phrases_said] or answers
    found = [(index, hit) for index, told in answers for hit in told.hits]
    found.sort(key=lambda pair: -pair[1].score)
    if terms.group_by is not None:
        groups = Groups(terms.group_by, terms.per_group)
        found = [pair for pair in found if groups.admit(0, values_of(pair[1].metadata, terms.group_by))]
    return found[terms.offset or 0 : terms.end]
