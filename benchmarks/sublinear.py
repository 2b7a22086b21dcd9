"""Sublinear: ways of searching that do not compare every code, beside the exact scan.

    python -m benchmarks sublinear [--rows N] [--shares S,S] [--expansions N,N]

Partitions (`edgeret optimize`) at several shares of the rows, and an HNSW graph of usearch over the same codes, whose
candidates get our asymmetric distances and are rescored as ours are. One JSON line each, from a process of its own;
queries are vectors, and the collection is that of `memory`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import edgeret
from benchmarks import collection, fresh
from benchmarks.asking import read_calls
from benchmarks.compare import Cell, recall
from edgeret import partitions, search
from edgeret.encoder import Encoder
from edgeret.store import Store

QUERIES: Final = 64
CANDIDATES: Final = 40
SHARES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
EXPANSIONS: Final = (64, 128, 256, 512)
_BUILD_S: Final = 4 * 3600


def main(argv: list[str]) -> int:
    """Print one JSON line for each way."""
    parser = argparse.ArgumentParser("python -m benchmarks sublinear", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shares", type=_numbers, default=SHARES, help="of the rows, comma-separated")
    parser.add_argument("--expansions", type=_numbers, default=EXPANSIONS, help="of the graph's search")
    options = parser.parse_args(argv)
    cell = Cell("build", "base/edgeret", options.rows)
    if not cell.folder.exists():
        fresh.run(
            "benchmarks.measure", "build", "edgeret", str(cell.folder), options.rows, {}, wait_s=_BUILD_S
        )
    near = cell.folder.with_name(f"{options.rows}-sublinear") / "index.edgeret"
    if not near.exists():
        near.parent.mkdir()
        near.hardlink_to(cell.folder / "index.edgeret")
    built = fresh.run("benchmarks.sublinear", "optimize", str(near))
    questions = near.with_name("queries.npy")
    np.save(questions, collection.Collection.load(options.rows).query_vectors[:QUERIES])

    def ask(way: str, setting: float | None, index: Path, about: dict[str, Any]) -> None:
        found = fresh.run("benchmarks.sublinear", f"ask_{way}", str(index), str(questions), setting)
        line = {"search": way, "rows": options.rows, "setting": setting}
        line |= {"recall10": recall(found.pop("answers"), options.rows), **found}
        print(json.dumps(line | {key: about[key] for key in ("build_s", "extra_bytes") if about}), flush=True)

    ask("exact", None, cell.folder / "index.edgeret", {})
    for share in options.shares:
        ask("partitions", share, near, built)
    if options.expansions:
        try:
            grown = fresh.run("benchmarks.sublinear", "grow", str(near), str(near.with_name("graph")))
        except subprocess.TimeoutExpired as late:
            print(
                json.dumps(
                    {"search": "graph", "rows": options.rows, "did_not_finish": f"{late.timeout:.0f} s"}
                )
            )
            return 0
        for expansion in options.expansions:
            ask("graph", expansion, near, grown)
    return 0


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(",") if number)


def optimize(path: str) -> dict[str, Any]:
    """Write partitions beside the index at `path`."""
    begun = time.perf_counter()
    summary = edgeret.optimize(path)
    return {"build_s": round(time.perf_counter() - begun, 1), "extra_bytes": summary.file_bytes}


def grow(path: str, graph: str) -> dict[str, Any]:
    """Write a graph of the codes of the index at `path`."""
    from usearch.index import Index, MetricKind, ScalarKind

    begun = time.perf_counter()
    with closing(Store(Path(path), readonly=True)) as store, store.reading():
        codes = _codes(store)
    grown = Index(ndim=64 * codes.shape[1], metric=MetricKind.Hamming, dtype=ScalarKind.B1)
    grown.add(np.arange(len(codes)), codes.view(np.uint8), threads=1)
    grown.save(graph)
    return {"build_s": round(time.perf_counter() - begun, 1), "extra_bytes": Path(graph).stat().st_size}


def ask_exact(path: str, questions: str, _: float | None) -> dict[str, Any]:
    """Ask all codes."""
    with edgeret.Index.open(path, readonly=True) as index:
        return _asked(questions, lambda vector: [int(hit.id) for hit in index.search(vector)])


def ask_partitions(path: str, questions: str, share: float) -> dict[str, Any]:
    """Ask the partitions that hold `share` of the rows."""
    partitions.SHARE = share  # type: ignore[misc]
    return ask_exact(path, questions, None)


def ask_graph(path: str, questions: str, expansion: float) -> dict[str, Any]:
    """Ask the graph for `expansion` rows; the nearest of them by our distance are rescored."""
    from usearch.index import Index

    codec = Encoder.load("base").codec
    with closing(Store(Path(path), readonly=True)) as store, store.reading():
        codes = _codes(store)
        graph = Index.restore(Path(path).with_name("graph"), view=True)
        graph.expansion_search = int(expansion)

        def ask(vector: NDArray[np.float32]) -> list[int]:
            symmetric = codec.encode_symmetric(vector, store.bits).view(np.uint8)[0]
            found = graph.search(symmetric, int(expansion)).keys.astype(np.int64)
            planes = codec.encode_query(vector, store.bits)
            different = np.bitwise_count(codes[found][:, None] ^ planes).sum(axis=2, dtype=np.int64)
            order = np.argsort(different @ (1 << np.arange(len(planes))), kind="stable")[:CANDIDATES]
            answer = search.rescore(store, vector, found[order].tolist())
            return [int(store.document(passage.doc).id) for passage, _ in answer.ranked[:10]]

        return _asked(questions, ask)


def _codes(store: Store) -> NDArray[np.uint64]:
    """All codes, uint64 [rows, words]; the collection has no dead rows."""
    sealed = [store.read_columns(block).T for block in store.block_numbers()]
    return np.ascontiguousarray(np.concatenate([*sealed, store.tail()[1]]))


def _asked(questions: str, ask: Callable[[NDArray[np.float32]], list[int]]) -> dict[str, Any]:
    """Answers and times, each query asked once before."""
    vectors = np.load(questions)
    for vector in vectors:
        ask(vector)
    times, answers, before = [], [], read_calls()
    for vector in vectors:
        begun = time.perf_counter()
        answers.append(ask(vector))
        times.append(time.perf_counter() - begun)
    p50, p95 = np.percentile(times, [50, 95]) * 1e3
    return {
        "answers": answers,
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "reads_per_query": round((read_calls() - before) / len(vectors), 1),
    }
