"""The systems that the scan benchmark compares: a few lines for each, over the same data."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeret import scan
from edgeret.codec import Codec, UInt64

BLOCK_ROWS = 16_384
BASELINE = "faiss-binary-flat"
CACHE = Path(__file__).resolve().parents[1] / ".cache" / "scan"

Search = Callable[[int], NDArray[np.int64]]
Build = Callable[["Data", NDArray[np.uint64], int], "System"]


@dataclass(frozen=True)
class Data:
    """Unit vectors: float32 [rows, dim] in chunks of BLOCK_ROWS, and the queries, float32 [n, dim]."""

    rows: int
    bits: int
    codec: Codec
    queries: NDArray[np.float32]
    chunks: Callable[[], Iterator[NDArray[np.float32]]]


@dataclass(frozen=True)
class System:
    """search: the number of a query -> rows, nearest first."""

    name: str
    bytes_per_row: float
    search: Search
    is_slow: bool = False


def blocks_of(codes: NDArray[np.uint64]) -> list[scan.Block]:
    """Word-major blocks, one after another in one piece of memory."""
    memory = np.empty(codes.size, np.uint64)
    blocks = []
    for first in range(0, len(codes), BLOCK_ROWS):
        rows = codes[first : first + BLOCK_ROWS]
        block = memory[first * codes.shape[1] :][: rows.size].reshape(codes.shape[1], -1)
        block[:] = rows.T
        blocks.append(scan.Block(first, block))
    return blocks


def coded(data: Data, is_symmetric: bool) -> list[UInt64]:
    """All queries in the form that the scan takes."""
    code = data.codec.encode_symmetric if is_symmetric else data.codec.encode_query
    return [code(query, data.bits) for query in data.queries]


def edgeret(name: str) -> Build:
    """Build one of the four edgeret systems."""

    def build(data: Data, codes: NDArray[np.uint64], k: int) -> System:
        planes = [planes[None] for planes in coded(data, "-symmetric" in name)]
        blocks = blocks_of(codes)

        def search(query: int) -> NDArray[np.int64]:
            return scan.top_k(blocks, planes[query], k)[0][0]

        def search_numpy(query: int) -> NDArray[np.int64]:
            return scan._scan_numpy(blocks, planes[query], k)[0][0]

        is_numpy = name.endswith("-numpy")
        return System(name, codes.shape[1] * 8, search_numpy if is_numpy else search)

    return build


def octets(codes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """uint64 [n, words] -> uint8 [n, 8 * words]."""
    return np.ascontiguousarray(codes).view(np.uint8)


def query_octets(data: Data) -> NDArray[np.uint8]:
    """Return the queries' own codes: uint8 [n, 8 * words]."""
    return octets(np.concatenate(coded(data, is_symmetric=True)))


def faiss_binary_flat(data: Data, codes: NDArray[np.uint64], k: int) -> System:
    """Exact Hamming search."""
    import faiss

    index = faiss.IndexBinaryFlat(codes.shape[1] * 64)
    index.add(octets(codes))
    queries = query_octets(data)
    return System(
        BASELINE, codes.shape[1] * 8, lambda query: index.search(queries[query : query + 1], k)[1][0]
    )


def faiss_float(name: str, make: Callable[[int, int], Any]) -> Build:
    """Build one of the FAISS indexes that take float vectors."""

    def build(data: Data, codes: NDArray[np.uint64], k: int) -> System:
        import faiss

        index = make(data.queries.shape[1], data.bits)
        index.train(np.concatenate(list(itertools.islice(data.chunks(), 4))))
        for chunk in data.chunks():
            index.add(chunk)
        size = faiss.downcast_index(getattr(index, "index", index)).code_size

        def search(query: int) -> NDArray[np.int64]:
            return index.search(data.queries[query : query + 1], k)[1][0]

        return System(name, size, search)

    return build


def pq_fast_scan(dim: int, bits: int) -> Any:
    """64 subquantizers of 4 bits: 32 bytes a row."""
    from benchmarks.systems import faiss

    return faiss.pq_fast_scan(dim)


def rabitq(kind: str) -> Callable[[int, int], Any]:
    """RaBitQ over as many principal components as a code has bits."""

    def make(dim: int, bits: int) -> Any:
        import faiss

        index = getattr(faiss, kind)(bits, faiss.METRIC_L2)
        return index if dim == bits else faiss.IndexPreTransform(faiss.PCAMatrix(dim, bits), index)

    return make


def usearch_exact(data: Data, codes: NDArray[np.uint64], k: int) -> System:
    """Usearch's exact search over packed bits."""
    from usearch.index import MetricKind, search

    rows, queries = octets(codes), query_octets(data)

    def ask(query: int) -> NDArray[np.int64]:
        found = search(rows, queries[query : query + 1], k, MetricKind.Hamming, exact=True, threads=1)
        return np.asarray(found.keys, np.int64).reshape(-1)

    return System("usearch-b1-exact", rows.shape[1], ask, is_slow=True)


def usearch_hnsw(data: Data, codes: NDArray[np.uint64], k: int) -> System:
    """Usearch's graph over packed bits, with its default settings."""
    from usearch.index import Index, MetricKind, ScalarKind

    rows, queries = octets(codes), query_octets(data)
    index = Index(ndim=codes.shape[1] * 64, metric=MetricKind.Hamming, dtype=ScalarKind.B1)
    # Building it takes minutes, so it is kept.
    path = CACHE / f"{hashlib.blake2b(rows, digest_size=16).hexdigest()}.usearch"
    if path.exists():
        index.load(path)
    else:
        index.add(np.arange(len(rows)), rows, threads=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        index.save(path)

    def ask(query: int) -> NDArray[np.int64]:
        return np.asarray(index.search(queries[query], k, threads=1).keys, np.int64)

    return System("usearch-b1-hnsw", index.memory_usage / len(rows), ask)


def sqlite_vec(data: Data, codes: NDArray[np.uint64], k: int) -> System:
    """Exact search of a vec0 table of bit vectors in memory."""
    from benchmarks.systems import sqlite_vec

    rows, queries = octets(codes), query_octets(data)
    database = sqlite_vec.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE codes USING vec0(code bit[{rows.shape[1] * 8}])")
    insert = "INSERT INTO codes(rowid, code) VALUES (?, vec_bit(?))"
    database.executemany(insert, ((i, row.tobytes()) for i, row in enumerate(rows)))
    ask = "SELECT rowid FROM codes WHERE code MATCH vec_bit(?) AND k = ? ORDER BY distance"

    def search(query: int) -> NDArray[np.int64]:
        found = database.execute(ask, (queries[query].tobytes(), k)).fetchall()
        return np.array(found, np.int64).reshape(-1)

    return System("sqlite-vec-bit", rows.shape[1], search, is_slow=True)


def numpy_naive(data: Data, codes: NDArray[np.uint64], k: int) -> System:
    """Do what one writes first: row-major codes, every distance, argpartition."""
    queries = [planes[0] for planes in coded(data, is_symmetric=True)]

    def search(query: int) -> NDArray[np.int64]:
        distances = np.bitwise_count(codes ^ queries[query]).sum(axis=1, dtype=np.int32)
        near = np.argpartition(distances, k - 1)[:k]
        return near[np.argsort(distances[near], kind="stable")]

    return System("numpy-naive", codes.shape[1] * 8, search, is_slow=True)


BUILDERS: dict[str, Build] = {
    "edgeret-symmetric": edgeret("edgeret-symmetric"),
    "edgeret-asymmetric": edgeret("edgeret-asymmetric"),
    "edgeret-symmetric-numpy": edgeret("edgeret-symmetric-numpy"),
    "edgeret-asymmetric-numpy": edgeret("edgeret-asymmetric-numpy"),
    BASELINE: faiss_binary_flat,
    "faiss-pq64x4-fastscan": faiss_float("faiss-pq64x4-fastscan", pq_fast_scan),
    "faiss-rabitq": faiss_float("faiss-rabitq", rabitq("IndexRaBitQ")),
    "faiss-rabitq-fastscan": faiss_float("faiss-rabitq-fastscan", rabitq("IndexRaBitQFastScan")),
    "usearch-b1-exact": usearch_exact,
    "usearch-b1-hnsw": usearch_hnsw,
    "sqlite-vec-bit": sqlite_vec,
    "numpy-naive": numpy_naive,
}
