"""Listing: what it takes to go through all documents of an index, and to change many of them.

    python -m benchmarks listing PATH [--budget SIZE] [--changes N]

One JSON line for each, done in a process of its own with the memory budget: documents, seconds, those of the
processor, and what it added to the process's memory. All is done in a copy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import fresh
from edgeret import Index


def main(argv: list[str]) -> int:
    """Print JSON lines; return 1 if one took more memory than the budget."""
    parser = argparse.ArgumentParser("python -m benchmarks listing", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="an index")
    parser.add_argument("--budget", type=int, default=40_000_000, metavar="BYTES", help="(default: 40000000)")
    parser.add_argument("--changes", type=int, default=10_000, help="documents to change (default: 10000)")
    options = parser.parse_args(argv)
    within = True
    with TemporaryDirectory() as place:
        copy = Path(place, "copy.edgeret")
        with Index.open(options.path, readonly=True) as index:
            index.backup(copy)
        for name, count in (("ids", 0), ("documents", 0), ("update_many", options.changes)):
            found = fresh.run("benchmarks.listing", "measure", str(copy), name, options.budget, count)
            print(json.dumps({"budget": options.budget, "verb": name, **found}), flush=True)
            within &= found["rss_over_import_bytes"] <= options.budget
    return int(not within)


def measure(path: str, name: str, budget: int, count: int) -> dict[str, Any]:
    """One of the verbs, in this process."""
    verbs: dict[str, Callable[[Index], Iterable[object] | int]] = {
        "ids": lambda index: index.ids(),
        "documents": lambda index: index.documents(),
        "update_many": lambda index: index.update_many(
            (id, {"seen": time.time_ns()}) for id in islice(index.ids(), count)
        ),
    }
    with Index.open(path, memory_budget=budget) as index:
        begun, busy = time.perf_counter(), time.process_time()
        found = verbs[name](index)
        done = found if isinstance(found, int) else sum(1 for _ in found)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - busy
        return {"documents": done, "seconds": round(seconds, 2), "cpu_s": round(cpu, 2)}
