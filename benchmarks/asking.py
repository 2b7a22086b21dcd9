"""Asking: what `memory` and `coldstart` have a process of its own do; it imports little: its memory is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgeret


def fill(name: str, folder: str, rows: int) -> None:
    """Fill a rival's store."""
    import shutil

    from benchmarks.collection import Collection
    from benchmarks.rivals import RIVALS

    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    RIVALS[name].fill(Path(folder), Collection.load(rows))
    Path(folder, "done").touch()


def ask(name: str, path: str, model: str, budget: str | None, queries: list[str]) -> dict[str, Any]:
    """Open, ask each query once for the time of the first answer and again for the others; milliseconds."""
    begun = time.perf_counter()
    search = _edgeret(path, model, budget) if name == "edgeret" else _rival(name, path, model)
    opened = time.perf_counter()
    search(queries[0])
    answered = time.perf_counter()
    times, answers, reads = [], [], _reads()
    for query in queries:
        start = time.perf_counter()
        answers.append(search(query))
        times.append(time.perf_counter() - start)
    pages = (_reads() - reads) / len(queries)
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "open_ms": round((opened - begun) * 1e3, 1),
        "first_query_ms": round((answered - opened) * 1e3, 1),
        "p50_ms": round(p50 * 1e3, 2),
        "p95_ms": round(p95 * 1e3, 2),
        "pages_per_query": round(pages, 1),
        "answers": answers,
    }


def add(path: str, model: str, budget: str | None, texts: str) -> dict[str, Any]:
    """Encode and add the lines of a file."""
    begun = time.perf_counter()
    with (
        edgeret.Index.create(path, model=model, memory_budget=budget) as index,
        Path(texts).open(encoding="utf-8") as lines,
    ):
        ids = index.add(edgeret.Document(str(number), line) for number, line in enumerate(lines))
        planned = index.info().planned_bytes
    return {"planned_bytes": planned, "docs_per_s": round(len(ids) / (time.perf_counter() - begun), 1)}


def _edgeret(path: str, model: str, budget: str | None) -> Callable[[str], list[int]]:
    index = edgeret.Index.open(path, model=model, memory_budget=budget, readonly=True)
    return lambda query: [int(hit.id) for hit in index.search(query)]


def _rival(name: str, path: str, model: str) -> Callable[[str], list[int]]:
    from benchmarks.rivals import RIVALS

    encoder = edgeret.Encoder.load(model)
    # Started first: onnxruntime 1.31 crashes where it is imported after usearch 2.26.
    encoder.encode(["start"])
    store = RIVALS[name].open(Path(path), encoder)
    return lambda query: store(encoder.encode([query])[0])


def _reads() -> int:
    """Calls of read(2) and its like so far: SQLite reads a page at a time. Mapped files are not seen."""
    return int(Path("/proc/self/io").read_text().split("syscr: ")[1].split()[0])
