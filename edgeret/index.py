"""Index: the one orchestrator. Text -> vector -> code -> candidates -> hits."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np

from edgeret import database, scan
from edgeret.check import check
from edgeret.codec import Codec, CodedQuery, Float32, normalize, quantize
from edgeret.codes import Codes
from edgeret.connections import Connections
from edgeret.documents import Document, Hit, Record
from edgeret.encoder import Encoder
from edgeret.errors import (
    FilterError,
    InvalidQueryError,
    ReadOnlyError,
    SpaceMismatchError,
)
from edgeret.filters import compile_where
from edgeret.passages import split
from edgeret.plan import Plan, parse_bytes
from edgeret.reports import CheckSummary, Explanation, Info
from edgeret.search import Answer, Clock, Condition, Query, check_arguments, dense, hybrid, lexical
from edgeret.store import State, Store
from edgeret.writer import Encoded, Writer

DEFAULT_MODEL: Final = "base"

Where = Mapping[str, Any]


class TextEncoder(Protocol):
    """What an index needs of an encoder; `edgeret.Encoder` is one."""

    @property
    def name(self) -> str:
        """The bundle's name or path, as `open` finds it again."""

    @property
    def dim(self) -> int:
        """Entries of a vector."""

    @property
    def geometry(self) -> str:
        """Fingerprint of teacher weights, tokenizer and pooling."""

    @property
    def space(self) -> str:
        """Fingerprint of geometry and codec."""

    @property
    def codec(self) -> Codec:
        """The space's codec."""

    @property
    def passage_tokens(self) -> int:
        """Tokens that fit into one encoding, special tokens not counted."""

    @property
    def planned_bytes(self) -> Mapping[str, int]:
        """What encoding adds to the process, part by part."""

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts -> float32 [n, dim], unit rows."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text's tokens stand, in characters."""


class Index:
    """A searchable collection in one file. Made by `create` or `open`; usable from any thread."""

    def __init__(
        self, path: Path, encoder: TextEncoder, memory_budget: str | int | None, readonly: bool
    ) -> None:
        self._path = path
        self._encoder = encoder
        self._readonly = readonly
        self._write_lock = threading.Lock()
        self._budget = None if memory_budget is None else parse_bytes(memory_budget)
        self._store = Store(path, readonly)
        try:
            self._check_space()
            with self._store.reading() as state:
                self._plan = Plan.of(state.passages, self._store.bits, encoder.planned_bytes, self._budget)
        except BaseException:
            self._store.close()
            raise
        self._connections = Connections(path, self._plan.cache_bytes)
        self._writer = Writer(self._store)
        self._codes = Codes.none(self._plan.resident)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder = DEFAULT_MODEL,
        bits: int = 256,
        filters: Sequence[str] = (),
        memory_budget: str | int | None = None,
        exist_ok: bool = False,
    ) -> Index:
        """Create an index file and open it.

        model: a bundle's name or folder, or an encoder. bits: length of a code, one of the codec's
        widths. filters: metadata keys that `where` will ask often; they get an SQL index.
        memory_budget: "112MB", "96MiB" or bytes, beyond what `import edgeret` takes. exist_ok: open the
        index that is there instead.

        Raises IndexExistsError, BundleError, BudgetError, FilterError for a key that cannot be
        indexed, InvalidQueryError for bits that the codec lacks, StorageError.
        """
        target = Path(path)
        if exist_ok and target.exists() and target.stat().st_size:
            return cls.open(target, model, memory_budget)
        encoder = _load(model)
        if bits not in encoder.codec.widths:
            raise InvalidQueryError(
                f"expected bits to be one of {', '.join(map(str, encoder.codec.widths))}, got {bits}"
            )
        for key in filters:
            if not key or not key.isprintable() or '"' in key or "\\" in key:
                raise FilterError(f"cannot index the metadata key {key!r}: use printable keys without quotes")
        if len(set(filters)) < len(filters):
            raise FilterError(f"expected distinct filter keys, got {', '.join(filters)}: name each once")
        meta = {
            "model": encoder.name,
            "space": encoder.space,
            "geometry": encoder.geometry,
            "dim": str(encoder.dim),
            "bits": str(bits),
            "filters": json.dumps(list(filters)),
        }
        if memory_budget is not None:
            Plan.of(0, bits, encoder.planned_bytes, parse_bytes(memory_budget))
        database.create(target, meta, filters)
        return cls(target, encoder, memory_budget, readonly=False)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        model: str | os.PathLike[str] | TextEncoder | None = None,
        memory_budget: str | int | None = None,
        readonly: bool = False,
    ) -> Index:
        """Open an index file.

        model: None takes the bundle that the index was made with; any other bundle of the same space
        will do. readonly: many processes may, even from a read-only medium.

        Raises IndexMissingError, NotAnIndexError, CorruptIndexError, FormatVersionError, BundleError,
        SpaceMismatchError, BudgetError, NeedsRecoveryError, StorageError.
        """
        target = Path(path)
        if model is None:
            store = Store(target, readonly=True)
            model = store.meta.get("model", DEFAULT_MODEL)
            store.close()
        else:
            database.check_header(target)
        return cls(target, _load(model), memory_budget, readonly)

    # -- writing

    def add(self, documents: Iterable[Document | str], commit_every: int | None = None) -> list[str]:
        """Index documents; returns their ids, in order.

        The same id replaces: the last one wins. A document that is there unchanged costs no encoding.
        commit_every: None makes the call atomic; a number commits after so many documents, so that an
        interrupted load can simply be run again.

        Raises InvalidDocumentError, InvalidVectorError, LockedError, StorageError, ReadOnlyError.
        """
        if commit_every is not None and commit_every < 1:
            raise InvalidQueryError(f"expected commit_every of at least 1 or None, got {commit_every}")
        if isinstance(documents, str | Document):
            raise InvalidQueryError("expected an iterable of documents, got one: put it in a list")
        ids = []
        with self._writing() as writer:
            for document in documents:
                record = Record.of(document)
                self._stage(writer, record)
                ids.append(record.id)
                if commit_every is not None and len(ids) % commit_every == 0:
                    writer.publish()
            writer.publish()
        return ids

    def delete(self, ids: Iterable[str], erase: bool = False) -> int:
        """Remove documents at once; returns how many there were. Unknown ids are no error.

        erase: also overwrite what remains of them in the file, which takes longer.
        Raises LockedError, also when a reader prevents erasing.
        """
        if isinstance(ids, str):
            raise InvalidQueryError(f"expected an iterable of ids, got one string: pass [{ids!r}]")
        with self._writing() as writer:
            return writer.delete(ids, erase)

    def compact(self) -> None:
        """Overwrite what deleted documents left behind and give their space back."""
        with self._writing() as writer:
            writer.compact()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the index, also while it is written, to a new file. Raises IndexExistsError."""
        with self._connections.reading() as (store, _):
            database.backup(store.connection, store.path, Path(path))

    # -- reading

    def search(
        self, query: Query, k: int = 10, where: Where | None = None, mode: str = "dense", oversample: int = 4
    ) -> list[Hit]:
        """The `k` best documents for a text, or for a vector [dim], each by its best passage.

        where: only documents whose metadata meet it; it filters before the scan. mode: "dense" (by
        meaning), "lexical" (by words), "hybrid". oversample: candidates by code are `oversample * k`,
        at least 10 times `oversample`; they are rescored with the stored int8 vectors.

        Raises InvalidQueryError, InvalidVectorError, FilterError, CorruptIndexError.
        """
        return self.search_many([query], k, where, mode, oversample)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 10,
        where: Where | None = None,
        mode: str = "dense",
        oversample: int = 4,
    ) -> list[list[Hit]]:
        """`search` for each query; the codes are read once for all of them."""
        return [explained.hits for explained in self._explain(queries, k, where, mode, oversample)]

    def explain(
        self, query: Query, k: int = 10, where: Where | None = None, mode: str = "dense", oversample: int = 4
    ) -> Explanation:
        """`search`, with the counts and the time of each stage."""
        return self._explain([query], k, where, mode, oversample)[0]

    def get(self, id: str) -> Document | None:
        """The document with this id, or None."""
        with self._connections.reading() as (store, _):
            stored = store.document_of(id)
        return None if stored is None else Document(stored.id, stored.text, json.loads(stored.metadata))

    def check(self, quick: bool = False) -> CheckSummary:
        """Read the whole file and compare every part with every other; raises CorruptIndexError."""
        with self._write_lock:
            self._connections.alive()
            return check(self._store, self._encoder.codec, quick)

    def info(self) -> Info:
        """What this index is and how large."""
        with self._connections.reading() as (store, state):
            file_bytes = self._path.stat().st_size
            return Info(
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
                codes_resident=self._plan.resident,
                scan=scan.backend(),
            )

    def __len__(self) -> int:
        """How many documents."""
        with self._connections.reading() as (_, state):
            return state.documents

    def close(self) -> None:
        """Close the file; closing twice is no error. The last connection to close leaves one file."""
        if self._connections.usable:
            with self._write_lock:
                self._connections.close()
                self._store.close()

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

    def _explain(
        self, queries: Sequence[Query], k: int, where: Where | None, mode: str, oversample: int
    ) -> list[Explanation]:
        check_arguments(queries, k, mode, oversample)
        self._connections.alive()
        if not queries:
            return []
        clock = Clock()
        vectors, coded = self._encode_queries(queries, mode)
        encode_ms = clock.lap()
        condition = Condition()
        if where is not None:
            condition = Condition(*compile_where(where, database.filter_columns(self._store.filters)))
        with self._connections.reading() as (store, state):
            mask = None
            if condition.sql and mode != "lexical":
                mask = store.matching(condition.sql, condition.parameters, state.next_row)
            filter_ms = clock.lap()
            pool = k if mode == "dense" else oversample * max(k, 10)
            answers = []
            if mode != "lexical":
                answers = dense(store, self._picture(store, state), vectors, coded, pool, oversample, mask, 1)
            if mode != "dense":
                by_words = [
                    lexical(store, query, pool, condition) for query in queries if isinstance(query, str)
                ]
                answers = (
                    [hybrid(*parts, k) for parts in zip(vectors, answers, by_words, strict=True)]
                    if answers
                    else by_words
                )
            search_ms = clock.lap()
            hits = [self._hits(store, answer, k) for answer in answers]
            fetch_ms = clock.lap()
        eligible = state.passages if mask is None else int(np.unpackbits(mask).sum())
        return [
            Explanation(
                found,
                state.documents,
                state.passages,
                eligible,
                answer.candidates,
                encode_ms,
                filter_ms,
                search_ms,
                fetch_ms,
            )
            for found, answer in zip(hits, answers, strict=True)
        ]

    def _encode_queries(self, queries: Sequence[Query], mode: str) -> tuple[Float32, list[CodedQuery]]:
        if mode == "lexical":
            return np.empty((0, self._encoder.dim), dtype=np.float32), []
        rows = [
            self._encoder.encode([query]) if isinstance(query, str) else np.asarray(query)[None]
            for query in queries
        ]
        vectors = np.concatenate([normalize(row, self._encoder.dim) for row in rows])
        codec = self._encoder.codec
        return vectors, [codec.encode_query(vector, self._store.bits) for vector in vectors]

    def _hits(self, store: Store, answer: Answer, k: int) -> list[Hit]:
        hits = []
        for passage, score in answer.ranked[:k]:
            stored = store.document(passage.doc)
            text = stored.text[passage.start : passage.stop]
            metadata = json.loads(stored.metadata)
            hits.append(Hit(stored.id, float(score), text, passage.start, passage.stop, metadata))
        return hits

    def _stage(self, writer: Writer, record: Record) -> None:
        own = None
        if record.vector is not None:
            own = quantize(normalize(np.asarray(record.vector)[None], self._encoder.dim))
        if writer.holds(record, None if own is None else own[0]):
            return
        if own is not None:
            spans, vectors = [(0, len(record.text))], own
        else:
            tokens = self._encoder.token_spans(record.text)
            # A text of characters that no token stands for is still one passage.
            spans = split(record.text, tokens, self._encoder.passage_tokens) or [(0, len(record.text))]
            texts = [record.text[start:stop] for start, stop in spans]
            vectors = quantize(normalize(self._encoder.encode(texts), self._encoder.dim))
        codes = self._encoder.codec.encode(vectors, self._store.bits)
        writer.stage(Encoded(record, spans, vectors, codes))

    def _picture(self, store: Store, state: State) -> Codes:
        codes = self._codes.at(store, state)
        # Another thread may have been here with a newer generation: keep the newest.
        if codes.generation > self._codes.generation:
            self._codes = codes
        return codes

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        self._connections.alive()
        if self._readonly:
            raise ReadOnlyError(
                f"'{self._path}' was opened read-only: open it without readonly=True to change it"
            )
        with self._write_lock:
            self._connections.alive()
            try:
                yield self._writer
            finally:
                self._writer.unstage()

    def _check_space(self) -> None:
        found, encoder = self._store.meta, self._encoder
        if found.get("space") == encoder.space and self._store.bits in encoder.codec.widths:
            return
        remedy = (
            "rebuild the codes with 'edgeret recode'"
            if found.get("geometry") == encoder.geometry
            else "open it with a bundle of its own space, or re-encode it with 'edgeret reencode'"
        )
        raise SpaceMismatchError(
            f"index '{self._path}' is of space {found.get('space', '?')[:8]} with {self._store.bits} bits, "
            f"bundle '{encoder.name}' is of space {encoder.space[:8]}: {remedy}"
        )


def _load(model: str | os.PathLike[str] | TextEncoder) -> TextEncoder:
    if isinstance(model, str | os.PathLike):
        return Encoder.load(os.fspath(model))
    return model
