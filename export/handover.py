"""Handover: all that an index holds, as the files of another system.

Keys on the other side are row numbers. Beside its own files lie `documents.jsonl` (id, text, metadata),
`passages.jsonl` (row, id, start, stop) and `handover.json`: model, space, prompts, roles, dim, bits, and how many
there are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Int8, Int64, dequantize, words
from edgeret.encode.bundle import Bundle, available
from edgeret.errors import BackendError, IndexExistsError
from edgeret.search.snapshot import CodeSnapshot
from edgeret.storage.rows import StoredDocument
from edgeret.storage.store import Counters, Store

COLLECTION: Final = "passages"
"""Its name in Qdrant."""

_BATCH: Final = 1024


class Batch(NamedTuple):
    """Passages in row order, each with its document.

    heads: int64 [n, 4], of each its row, its document's number, and the span in its text. vectors: int8 [n, dim], of
    unit length once divided by their own. codes: uint8 [n, 8 * words]; bit i of a code is
    bit i % 8, the lowest first, of byte i // 8.
    """

    heads: Int64
    documents: list[StoredDocument]
    vectors: Int8
    codes: NDArray[np.uint8]

    @property
    def rows(self) -> Int64:
        """Numbers of the passages, int64 [n]."""
        return self.heads[:, 0]


class _Sink:
    """Files of one kind in a folder, filled and then closed."""

    def __init__(self, out: Path, store: Store) -> None:
        raise NotImplementedError

    def add_documents(self, documents: list[StoredDocument]) -> None:
        """Take documents, if they have a place of their own."""

    def add_passages(self, batch: Batch) -> None:
        """Take passages."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish the files."""
        raise NotImplementedError


class _Lines(_Sink):
    """`documents.jsonl` and `passages.jsonl`, beside a system that keeps vectors only."""

    def __init__(self, out: Path, store: Store) -> None:
        self._documents = (out / "documents.jsonl").open("w", encoding="utf-8")
        self._passages = (out / "passages.jsonl").open("w", encoding="utf-8")

    def add_documents(self, documents: list[StoredDocument]) -> None:
        for document in documents:
            fields = {"id": document.id, "text": document.text, "metadata": document.metadata}
            _write_line(self._documents, fields)

    def add_passages(self, batch: Batch) -> None:
        for (row, _, start, stop), document in zip(batch.heads.tolist(), batch.documents, strict=True):
            _write_line(self._passages, {"row": row, "id": document.id, "start": start, "stop": stop})

    def close(self) -> None:
        self._documents.close()
        self._passages.close()


class _Faiss(_Sink):
    """`codes.faiss`, exact by Hamming distance, and `vectors.faiss`, exact by inner product of float32 unit vectors.

    Not int8: its 8-bit indexes do not divide by the length of a vector.
    """

    def __init__(self, out: Path, store: Store) -> None:
        import faiss

        self._faiss, self._out = faiss, out
        self._codes = faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(64 * words(store.bits)))
        self._vectors = faiss.IndexIDMap(faiss.IndexFlatIP(store.dim))

    def add_passages(self, batch: Batch) -> None:
        self._codes.add_with_ids(batch.codes, batch.rows)
        self._vectors.add_with_ids(dequantize(batch.vectors), batch.rows)

    def close(self) -> None:
        self._faiss.write_index_binary(self._codes, str(self._out / "codes.faiss"))
        self._faiss.write_index(self._vectors, str(self._out / "vectors.faiss"))


class _Usearch(_Sink):
    """`codes.usearch`, a graph by Hamming distance, and `vectors.usearch`, one by the cosine of int8 vectors."""

    def __init__(self, out: Path, store: Store) -> None:
        from usearch.index import Index

        self._out = out
        self._codes = Index(ndim=64 * words(store.bits), metric="hamming", dtype="b1")
        self._vectors = Index(ndim=store.dim, metric="cos", dtype="i8")

    def add_passages(self, batch: Batch) -> None:
        self._codes.add(batch.rows, batch.codes)
        self._vectors.add(batch.rows, batch.vectors)

    def close(self) -> None:
        self._codes.save(str(self._out / "codes.usearch"))
        self._vectors.save(str(self._out / "vectors.usearch"))


class _Qdrant(_Sink):
    """`qdrant`, a folder of its local mode: float32 vectors, payloads with id, text, span and metadata.

    No codes: it takes none, and quantizes by itself.
    """

    def __init__(self, out: Path, store: Store) -> None:
        from qdrant_client import QdrantClient, models

        self._batch = models.Batch
        self._client = QdrantClient(path=str(out / "qdrant"))
        shape = models.VectorParams(size=store.dim, distance=models.Distance.COSINE)
        self._client.create_collection(COLLECTION, vectors_config=shape)

    def add_passages(self, batch: Batch) -> None:
        payloads = [
            {"id": document.id, "text": document.text[start:stop], "start": start, "stop": stop}
            | {"metadata": document.metadata}
            for (_, _, start, stop), document in zip(batch.heads.tolist(), batch.documents, strict=True)
        ]
        vectors = dequantize(batch.vectors).tolist()
        points = self._batch(ids=batch.rows.tolist(), vectors=vectors, payloads=payloads)
        self._client.upsert(COLLECTION, points=points)

    def close(self) -> None:
        self._client.close()


class _Parquet(_Sink):
    """`documents.parquet` (metadata as JSON) and `passages.parquet`, with int8 vectors and codes."""

    def __init__(self, out: Path, store: Store) -> None:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetWriter

        self._arrow = arrow
        documents = arrow.schema([(key, arrow.string()) for key in ("id", "text", "metadata")])
        passages = arrow.schema(
            {
                "row": arrow.int64(),
                "id": arrow.string(),
                "start": arrow.int64(),
                "stop": arrow.int64(),
                "vector": arrow.list_(arrow.int8(), store.dim),
                "code": arrow.binary(8 * words(store.bits)),
            }
        )
        self._documents = ParquetWriter(out / "documents.parquet", documents)
        self._passages = ParquetWriter(out / "passages.parquet", passages)

    def add_documents(self, documents: list[StoredDocument]) -> None:
        columns = [
            [document.id for document in documents],
            [document.text for document in documents],
            [json.dumps(document.metadata, ensure_ascii=False) for document in documents],
        ]
        self._documents.write_table(self._arrow.table(columns, schema=self._documents.schema))

    def add_passages(self, batch: Batch) -> None:
        entries = self._arrow.array(batch.vectors.ravel())
        columns = [
            batch.rows,
            [document.id for document in batch.documents],
            batch.heads[:, 2],
            batch.heads[:, 3],
            self._arrow.FixedSizeListArray.from_arrays(entries, batch.vectors.shape[1]),
            [code.tobytes() for code in batch.codes],
        ]
        self._passages.write_table(self._arrow.table(columns, schema=self._passages.schema))

    def close(self) -> None:
        self._documents.close()
        self._passages.close()


SYSTEMS: Final[dict[str, tuple[str, tuple[type[_Sink], ...]]]] = {
    "faiss": ("faiss", (_Lines, _Faiss)),
    "usearch": ("usearch", (_Lines, _Usearch)),
    "qdrant": ("qdrant_client", (_Lines, _Qdrant)),
    "parquet": ("pyarrow", (_Parquet,)),
}
"""Name -> the package that it needs, and the files that it gets."""


def handover(path: Path, system: str, out: Path) -> dict[str, Any]:
    """Write all of the index at `path` to the new folder `out`; returns what `handover.json` says.

    One read transaction; each document and vector is verified. All but Parquet hold their index in memory meanwhile.
    Raises BackendError without the system's package, IndexExistsError if `out` is there, IndexMissingError,
    NotAnIndexError, CorruptIndexError, StorageError.
    """
    package, sinks = SYSTEMS[system]
    if find_spec(package) is None:
        raise BackendError(f"expected {package}, found no such package: pip install 'edgeret[handover]'")
    if out.exists():
        raise IndexExistsError(f"'{out}' exists: choose another name")
    with (
        closing(Store(path, readonly=True)) as store,
        store.reading() as state,
        tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder,
    ):
        made = Path(folder, "made")
        made.mkdir()
        with ExitStack() as stack:
            opened = [stack.enter_context(closing(sink(made, store))) for sink in sinks]
            for documents in _documents(store):
                for sink in opened:
                    sink.add_documents(documents)
            for batch in _passages(store, state):
                for sink in opened:
                    sink.add_passages(batch)
        described = {
            "system": system,
            **{key: getattr(store.description, key) for key in ("model", "space", "geometry")},
            **_sides(store),
            "dim": store.dim,
            "bits": store.bits,
            "documents": state.documents,
            "passages": state.passages,
        }
        (made / "handover.json").write_text(json.dumps(described, indent=1))
        made.replace(out)
    return described


def _sides(store: Store) -> dict[str, dict[str, Any] | None]:
    """By what the model tells documents from queries; None is for what it has not, or if it is not installed here."""
    described = store.description
    unknown: dict[str, dict[str, Any] | None] = {"prompts": None, "roles": None}
    if described.model not in available():
        return unknown
    found = Bundle.open(described.model)
    if found.geometry != described.geometry:
        return unknown
    prompts, roles = found.manifest.prompts, found.manifest.roles
    return {"prompts": prompts._asdict(), "roles": None if roles is None else roles._asdict()}


def _documents(store: Store) -> Iterator[list[StoredDocument]]:
    found = store.rows.each_id()
    while batch := list(islice(found, _BATCH)):
        yield [store.rows.document(doc) for doc, _ in batch]


def _passages(store: Store, state: Counters) -> Iterator[Batch]:
    """Blocks one by one, so that codes and vectors of few passages are in memory."""
    for first_row, codes, live in CodeSnapshot.none(resident_blocks=0).at(store, state).blocks(store):
        offsets = np.arange(codes.shape[1])
        if live is not None:
            offsets = np.flatnonzero(np.unpackbits(live, count=codes.shape[1], bitorder="little"))
        for first in range(0, len(offsets), _BATCH):
            part = offsets[first : first + _BATCH]
            lines = store.rows.lines(first_row + part)
            yield Batch(
                lines.heads,
                _documents_of(store, lines.heads),
                lines.vectors,
                np.ascontiguousarray(codes[:, part].T, dtype="<u8").view(np.uint8),
            )


def _documents_of(store: Store, heads: Int64) -> list[StoredDocument]:
    docs = heads[:, 1].tolist()
    found = {doc: store.rows.document(doc) for doc in set(docs)}
    return [found[doc] for doc in docs]


def _write_line(stream: TextIO, fields: Mapping[str, object]) -> None:
    stream.write(json.dumps(fields, ensure_ascii=False) + "\n")
