"""Dense, lexical and hybrid search of one index of real passages, on one core: time, reads, and the first answer.

    python -m benchmarks modes [--rows N ...] [--model M] [--documents M] [--queries N] [--commits N [--each N]]
        [--keep DIR]

Rows are distinct passages of ../shared/text in random order, and of ../shared/text_multi where those do not suffice;
queries are the first 15 words of others that have so many. Each round asks every mode the same query, in turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import fresh
from benchmarks.words import drawn
from edgeret import scan
from edgeret.documents import Document
from edgeret.index import Index

MODES = ("dense", "lexical", "hybrid")
_STARTS = 7


def main(argv: list[str]) -> int:
    """Print a JSON line for each number of rows and mode."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks modes", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000])
    parser.add_argument("--model", default="small", help="the queries' bundle")
    parser.add_argument("--documents", default="nano", help="the documents' bundle, of the same space")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--budget", help="such as 112MB (none)")
    parser.add_argument(
        "--commits", type=int, default=1, help="commits that the rows come in, the first one of what is left"
    )
    parser.add_argument("--each", type=int, default=1, help="rows of each of the other commits")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leaves the indexes there, and asks what is there"
    )
    options = parser.parse_args(argv)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    texts, queries = drawn(max(options.rows), options.queries)
    for rows in options.rows:
        with TemporaryDirectory() as folder:
            name = f"{options.documents}-{rows}-{options.commits}x{options.each}.edgeret"
            path = (options.keep or Path(folder)) / name
            if not path.exists():
                unfinished = path.with_suffix(".part")
                unfinished.unlink(missing_ok=True)
                build(unfinished, texts[:rows], options.documents, options.commits, options.each)
                unfinished.rename(path)
            for line in measure(path, queries, options.model, options.k, options.budget):
                told = {"documents": options.documents, "commits": options.commits, "each": options.each}
                line = {"rows": rows} | told | line
                print(json.dumps(line), flush=True)
    return 0


def build(path: Path, texts: list[str], model: str, commits: int, each: int) -> None:
    """Add all texts in so many commits: so many of them with each of the last ones, and what is left with the first."""
    documents = [Document(str(row), text) for row, text in enumerate(texts)]
    whole = len(documents) - (commits - 1) * each
    with Index.create(path, model=model, filters=[]) as index:
        index.add(documents[:whole])
        for first in range(whole, len(documents), each):
            index.add(documents[first : first + each])


def measure(path: Path, queries: list[str], model: str, k: int, budget: str | None) -> list[dict[str, Any]]:
    """A line for each mode."""
    with Index.open(path, model=model, memory_budget=budget, readonly=True) as index:
        told = {mode: [index.explain(query, k=k, mode=mode) for query in queries] for mode in MODES}
        times: dict[str, list[float]] = {mode: [] for mode in MODES}
        gc.disable()
        for query in queries:
            for mode in MODES:
                begun = time.perf_counter()
                index.search(query, k=k, mode=mode)
                times[mode].append((time.perf_counter() - begun) * 1e3)
        gc.enable()
        planned = index.info().planned_bytes
    starts: dict[str, list[float]] = {mode: [] for mode in MODES}
    busy: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(_STARTS):
        for mode in MODES:
            found = fresh.run("benchmarks.asking", "ask", str(path), model, budget, queries[:1], mode, k)
            starts[mode].append(found["open_ms"] + found["first_query_ms"])
            busy[mode].append(found["start_cpu_ms"])
    memory = {
        mode: fresh.run("benchmarks.asking", "ask", str(path), model, budget, queries, mode, k)
        for mode in MODES
    }
    return [
        {
            "mode": mode,
            "model": model,
            "k": k,
            "budget": budget,
            "isa": scan.backend(),
            "p50_ms": round(float(np.percentile(times[mode], 50)), 3),
            "p95_ms": round(float(np.percentile(times[mode], 95)), 3),
            "ratio_p50": round(float(np.median(np.array(times[mode]) / times["dense"])), 2),
            "start_ms": round(statistics.median(starts[mode]), 1),
            "start_cpu_ms": min(busy[mode]),
            "start_ratio": round(statistics.median(starts[mode]) / statistics.median(starts["dense"]), 2),
            "rescored_p95": int(np.percentile([one.candidates for one in told[mode]], 95)),
            "words_kb_p95": round(float(np.percentile([one.words_bytes for one in told[mode]], 95)) / 1e3, 1),
            "words_runs_p95": int(np.percentile([one.words_runs for one in told[mode]], 95)),
            "rss_over_import_mb": round(memory[mode]["rss_over_import_bytes"] / 1e6, 1),
            "planned_mb": round(planned / 1e6, 1),
            "bytes_per_row": round(path.stat().st_size / max(told[mode][0].passages, 1), 1),
        }
        for mode in MODES
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
