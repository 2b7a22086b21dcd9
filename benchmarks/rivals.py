"""Other stores of vectors: how each is filled, and opened in a process that has not filled it.

Every one gets the vectors and the queries of the same encoder. `open` returns what answers a query's vector
with the rows of the ten nearest, their texts read too where the store holds texts.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import quantize
from edgeret.encoder import Encoder

if TYPE_CHECKING:
    from benchmarks.collection import Collection

K = 10
OVERSAMPLE = 4
BITS = 256

Vector = NDArray[np.float32]
Ask = Callable[[Vector], list[int]]


class Rival(NamedTuple):
    """returns_text: else a store of texts comes on top of what is measured."""

    fill: Callable[[Path, Collection], None]
    open: Callable[[Path, Encoder], Ask]
    returns_text: bool


def _fill_faiss(folder: Path, collection: Collection) -> None:
    import faiss

    codec = Encoder.load("base").codec
    index = faiss.IndexBinaryFlat(BITS)
    for _, vectors in collection.chunks():
        index.add(codec.encode(quantize(vectors), BITS).view(np.uint8))
    faiss.write_index_binary(index, str(folder / "index"))


def _open_faiss(folder: Path, encoder: Encoder) -> Ask:
    import faiss

    faiss.omp_set_num_threads(1)
    index, codec = faiss.read_index_binary(str(folder / "index")), encoder.codec

    def ask(vector: Vector) -> list[int]:
        found: list[int] = index.search(codec.encode(quantize(vector[None]), BITS).view(np.uint8), K)[1][
            0
        ].tolist()
        return found

    return ask


def _fill_usearch(folder: Path, collection: Collection) -> None:
    from usearch.index import Index

    index = Index(ndim=collection.vectors.shape[1], metric="cos", dtype="i8")
    for first, vectors in collection.chunks():
        index.add(np.arange(first, first + len(vectors)), vectors, threads=1)
    index.save(str(folder / "index"))


def _open_usearch(folder: Path, encoder: Encoder, view: bool = False) -> Ask:
    from usearch.index import Index

    index = Index.restore(str(folder / "index"), view=view)

    def ask(vector: Vector) -> list[int]:
        found: list[int] = index.search(vector, K, threads=1).keys.tolist()
        return found

    return ask


def _view_usearch(folder: Path, encoder: Encoder) -> Ask:
    return _open_usearch(folder, encoder, view=True)


def _fill_hnswlib(folder: Path, collection: Collection) -> None:
    import hnswlib

    index = hnswlib.Index("cosine", collection.vectors.shape[1])
    index.init_index(collection.rows)
    for first, vectors in collection.chunks():
        index.add_items(vectors, np.arange(first, first + len(vectors)), num_threads=1)
    index.save_index(str(folder / "index"))


def _open_hnswlib(folder: Path, encoder: Encoder) -> Ask:
    import hnswlib

    index = hnswlib.Index("cosine", encoder.dim)
    index.load_index(str(folder / "index"))
    index.set_ef(K * OVERSAMPLE)

    def ask(vector: Vector) -> list[int]:
        found: list[int] = index.knn_query(vector[None], K, num_threads=1)[0][0].tolist()
        return found

    return ask


def _connect_sqlite_vec(folder: Path) -> sqlite3.Connection:
    import sqlite_vec

    # Many Pythons are built without enable_load_extension; SQLite's own registration is always there.
    library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
    library.sqlite3_auto_extension(ctypes.CDLL(f"{sqlite_vec.loadable_path()}.so").sqlite3_vec_init)
    connection = sqlite3.connect(folder / "index")
    library.sqlite3_reset_auto_extension()
    return connection


def _fill_sqlite_vec(folder: Path, collection: Collection) -> None:
    codec, connection = Encoder.load("base").codec, _connect_sqlite_vec(folder)
    connection.execute(
        f"CREATE VIRTUAL TABLE found USING vec0 (code bit[{BITS}], vector int8[{codec.dim}], +text TEXT)"
    )
    for first, vectors in collection.chunks():
        stored = quantize(vectors)
        rows = zip(range(first, first + len(vectors)), codec.encode(stored, BITS), stored, strict=True)
        connection.executemany(
            "INSERT INTO found (rowid, code, vector, text) VALUES (?, vec_bit(?), vec_int8(?), ?)",
            ((row, code.tobytes(), vector.tobytes(), collection.text(row)) for row, code, vector in rows),
        )
        connection.commit()
    connection.close()


def _open_sqlite_vec(folder: Path, encoder: Encoder) -> Ask:
    connection, codec = _connect_sqlite_vec(folder), encoder.codec

    def ask(vector: Vector) -> list[int]:
        code = codec.encode(quantize(vector[None]), BITS).tobytes()
        near = connection.execute(
            "SELECT rowid FROM found WHERE code MATCH vec_bit(?) AND k = ?", (code, K * OVERSAMPLE)
        ).fetchall()
        read = [
            connection.execute("SELECT vector, text FROM found WHERE rowid = ?", row).fetchone()
            for row in near
        ]
        stored = np.frombuffer(b"".join(blob for blob, _ in read), np.int8).reshape(len(read), -1)
        scores = stored @ vector / np.linalg.norm(stored, axis=1)
        return [near[i][0] for i in np.argsort(-scores)[:K]]

    return ask


def _fill_lancedb(folder: Path, collection: Collection) -> None:
    import lancedb

    def batch(first: int, vectors: Vector) -> list[dict[str, Any]]:
        return [
            {"row": row, "vector": vector, "text": collection.text(row)}
            for row, vector in enumerate(vectors, first)
        ]

    chunks = collection.chunks()
    table = lancedb.connect(str(folder)).create_table("found", batch(*next(chunks)))
    for first, vectors in chunks:
        table.add(batch(first, vectors))
    table.create_index(metric="cosine")


def _open_lancedb(folder: Path, encoder: Encoder) -> Ask:
    import lancedb

    table = lancedb.connect(str(folder)).open_table("found")

    def ask(vector: Vector) -> list[int]:
        return [hit["row"] for hit in table.search(vector).refine_factor(OVERSAMPLE).limit(K).to_list()]

    return ask


def _chroma(folder: Path) -> Any:
    import chromadb

    client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
    return client.get_or_create_collection(
        "found", metadata={"hnsw:space": "cosine", "hnsw:num_threads": 1}, embedding_function=None
    )


def _fill_chroma(folder: Path, collection: Collection) -> None:
    found = _chroma(folder)
    for first, vectors in collection.chunks():
        for part in range(0, len(vectors), 5000):
            rows = range(first + part, first + min(part + 5000, len(vectors)))
            found.add(
                ids=[str(row) for row in rows],
                embeddings=vectors[part : part + 5000],
                documents=[collection.text(row) for row in rows],
            )


def _open_chroma(folder: Path, encoder: Encoder) -> Ask:
    found = _chroma(folder)

    def ask(vector: Vector) -> list[int]:
        return [int(row) for row in found.query(query_embeddings=[vector], n_results=K)["ids"][0]]

    return ask


RIVALS = {
    "faiss-binary-flat": Rival(_fill_faiss, _open_faiss, False),
    "usearch-load": Rival(_fill_usearch, _open_usearch, False),
    "usearch-view": Rival(_fill_usearch, _view_usearch, False),
    "sqlite-vec": Rival(_fill_sqlite_vec, _open_sqlite_vec, True),
    "hnswlib": Rival(_fill_hnswlib, _open_hnswlib, False),
    "lancedb": Rival(_fill_lancedb, _open_lancedb, True),
    "chroma": Rival(_fill_chroma, _open_chroma, True),
}
