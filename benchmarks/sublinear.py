"""Sublinear: ways of searching that do not compare every code, beside the exact scan.

    python -m benchmarks sublinear [--rows N] [--shares S,S] [--expansions N,N]
    python -m benchmarks sublinear --real nano,small [--rows N,N]

Partitions (`edgeret optimize`) at several shares of the rows, and an HNSW graph of usearch over the same codes, whose
candidates get our asymmetric distances and are rescored as ours are. One JSON line each, from a process of its own;
queries are vectors, and the collection is that of `memory`.

--real asks something else: how many of the exact scan's first ten partitions find, with the share that they read. Real
passages of shared/text, none twice, encoded by these models; queries are other passages, and questions of collections.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import edgeret
from benchmarks import collection, fresh
from benchmarks.asking import read_calls
from benchmarks.compare import SHARED, Cell, recall
from benchmarks.scan import QUERIES as OTHERS
from benchmarks.scan import REAL_ROWS, SEED, encoded, passages
from edgeret.codec import normalize
from edgeret.encode.encoder import Encoder
from edgeret.reports import Explanation
from edgeret.search import partitions, stages
from edgeret.storage.store import Store

QUERIES: Final = 64
CANDIDATES: Final = 40
SHARES: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
EXPANSIONS: Final = (64, 128, 256, 512)
OVERLAP_QUERIES: Final = 256
QUESTIONS: Final = ("nfcorpus", "squad2_dev_full_corpus", "cosqa_dev", "scitldr")
_BUILD_S: Final = 4 * 3600


def main(argv: list[str]) -> int:
    """Print one JSON line for each way."""
    parser = argparse.ArgumentParser("python -m benchmarks sublinear", description=__doc__)
    parser.add_argument("--rows", type=_numbers, default=(1_000_000,), help="comma-separated with --real")
    parser.add_argument("--real", default="", help="models, comma-separated")
    parser.add_argument("--shares", type=_numbers, default=SHARES, help="of the rows, comma-separated")
    parser.add_argument("--expansions", type=_numbers, default=EXPANSIONS, help="of the graph's search")
    options = parser.parse_args(argv)
    for model in filter(None, options.real.split(",")):
        for rows in options.rows:
            for line in overlaps(model, int(rows)):
                print(json.dumps(line), flush=True)
    if not options.real:
        (options.rows,) = map(int, options.rows)
        _compare(options)
    return 0


def _compare(options: argparse.Namespace) -> None:
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
            return
        for expansion in options.expansions:
            ask("graph", expansion, near, grown)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(",") if number)


def optimize(path: str) -> dict[str, Any]:
    """Write partitions beside the index at `path`."""
    begun = time.perf_counter()
    summary = edgeret.optimize(path)
    return {"build_s": round(time.perf_counter() - begun, 1), "extra_bytes": summary.file_bytes}


def overlaps(model: str, rows: int) -> Iterator[dict[str, Any]]:
    """How many of the exact scan's first ten the partitions of so many real passages find, for two kinds of queries."""
    encoder = Encoder.load(model)
    texts = passages(REAL_ROWS + OTHERS)[: OTHERS + rows]
    vectors = encoded(encoder, texts)
    kinds = {"passages": vectors[:OVERLAP_QUERIES], "questions": encoder.encode(_questions())}
    stored = normalize(vectors[OTHERS:], encoder.dim)
    with tempfile.TemporaryDirectory() as folder:
        exact, near = (Path(folder) / name for name in ("exact.edgeret", "near.edgeret"))
        with edgeret.Index.create(exact, model=model) as index:
            index.add(
                edgeret.Document(str(row), text, vector=vector)
                for row, (text, vector) in enumerate(zip(texts[OTHERS:], stored, strict=True))
            )
        near.hardlink_to(exact)
        summary = edgeret.optimize(near)
        for kind, queries in kinds.items():
            nearest = [set(np.argpartition(-(stored @ query), 10)[:10].tolist()) for query in queries]
            asked = {path: _explained(path, queries) for path in (exact, near)}
            found = {path: [{int(hit.id) for hit in one.hits} for one in asked[path]] for path in asked}
            yield {
                "search": "overlap",
                "model": model,
                "rows": rows,
                "queries": kind,
                "share": summary.share,
                "overlap10": _common(found[exact], found[near]),
                "recall10_exact": _common(nearest, found[exact]),
                "recall10": _common(nearest, found[near]),
                "scanned": round(float(np.mean([one.scanned for one in asked[near]])) / rows, 3),
                "search_ms_exact": round(float(np.median([one.search_ms for one in asked[exact]])), 2),
                "search_ms": round(float(np.median([one.search_ms for one in asked[near]])), 2),
            }


def _explained(path: Path, queries: NDArray[np.float32]) -> list[Explanation]:
    with edgeret.Index.open(path, readonly=True) as index:
        for query in queries:
            index.search(query)
        return [index.explain(query) for query in queries]


def _common(wanted: list[set[int]], found: list[set[int]]) -> float:
    return round(float(np.mean([len(a & b) / 10 for a, b in zip(wanted, found, strict=True)])), 4)


def _questions() -> list[str]:
    """Some of each collection that asks questions."""
    drawn = []
    for name in QUESTIONS:
        lines = (SHARED / "collections" / name / "queries.jsonl").read_text().splitlines()
        chosen = np.random.default_rng(SEED).permutation(len(lines))[: OVERLAP_QUERIES // len(QUESTIONS)]
        drawn += [json.loads(lines[number])["text"] for number in chosen]
    return drawn


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
    partitions.share = lambda rows, k=10: share
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
            answer = stages.rescore(store, vector, found[order])
            return [int(store.rows.document(doc).id) for doc in answer.heads[:10, 1].tolist()]

        return _asked(questions, ask)


def _codes(store: Store) -> NDArray[np.uint64]:
    """All codes, uint64 [rows, words]; the collection has no dead rows."""
    sealed = [store.codes.columns(block).T for block in store.codes.block_numbers()]
    return np.ascontiguousarray(np.concatenate([*sealed, store.codes.tail()[1]]))


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
