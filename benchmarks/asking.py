"""Asking: what `memory` and `modes` have a process of its own do; it imports little: its memory is measured."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import edgeret
from edgeret.errors import BudgetError


def ask(
    path: str, model: str, budget: str | None, queries: list[str], mode: str = "dense", k: int = 10
) -> dict[str, Any]:
    """Open, ask each query once for the time of the first answer and again for the others; milliseconds.

    A budget that is refused is an answer too.
    """
    begun, busy = time.perf_counter(), time.process_time()
    try:
        index = edgeret.Index.open(path, model=model, memory_budget=budget, readonly=True)
    except BudgetError as error:
        return {"refused": str(error)}
    opened = time.perf_counter()
    index.search(queries[0], k, mode=mode)
    answered, busy = time.perf_counter(), time.process_time() - busy
    times, answers, reads = [], [], read_calls()
    for query in queries:
        start = time.perf_counter()
        answers.append([int(hit.id) for hit in index.search(query, k, mode=mode)])
        times.append(time.perf_counter() - start)
    pages = (read_calls() - reads) / len(queries)
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "planned_bytes": index.info().planned_bytes,
        "open_ms": round((opened - begun) * 1e3, 1),
        "first_query_ms": round((answered - opened) * 1e3, 1),
        "start_cpu_ms": round(busy * 1e3, 1),
        "p50_ms": round(p50 * 1e3, 2),
        "p95_ms": round(p95 * 1e3, 2),
        "pages_per_query": round(pages, 1),
        "answers": answers,
    }


def add(path: str, model: str, budget: str | None, texts: str) -> dict[str, Any]:
    """Encode and add the lines of a file; the rate by the clock, and by processor time, which a busy machine spares."""
    begun, busy = time.perf_counter(), time.process_time()
    with (
        edgeret.Index.create(path, model=model, memory_budget=budget) as index,
        Path(texts).open(encoding="utf-8") as lines,
    ):
        ids = index.add(edgeret.Document(str(number), line) for number, line in enumerate(lines))
        planned = index.info().planned_bytes
    return {
        "planned_bytes": planned,
        "docs_per_s": round(len(ids) / (time.perf_counter() - begun), 1),
        "docs_per_cpu_s": round(len(ids) / (time.process_time() - busy), 1),
    }


def read_calls() -> int:
    """Calls of read(2) and its like so far: SQLite reads a page at a time. Mapped files are not seen."""
    return int(Path("/proc/self/io").read_text().split("syscr: ")[1].split()[0])
