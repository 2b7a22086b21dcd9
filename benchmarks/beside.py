"""search() beside hnswlib with the same vectors and texts from SQLite: processor time, on one core, in turns.

    python -m benchmarks beside [--model M] [--rows N] [--queries N] [--rounds N] [--modes M ...]

Each makes ten texts of a query of 15 words, which the same bundle encodes. hnswlib has its default graph, and its texts
come one by one, as most programs ask, or all by one statement. Rows are distinct passages of ../shared/text.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from operator import truediv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.systems import OVERSAMPLE, K
from benchmarks.words import drawn
from edgeret import scan
from edgeret.documents import Document
from edgeret.encode.encoder import Encoder
from edgeret.index import Index

_TURN: Final = 10
"""Queries that one answers before the next does: caches are warm within a turn, as they are for each by itself."""

_ONE: Final = "SELECT row, text FROM texts WHERE row = ?"
_ALL: Final = f"SELECT row, text FROM texts WHERE row IN ({', '.join('?' * K)})"

Run = Callable[[str], object]


def main(argv: list[str]) -> int:
    """Print a JSON line for each mode."""
    parser = argparse.ArgumentParser("python -m benchmarks beside", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--modes", nargs="+", default=["dense", "hybrid"])
    options = parser.parse_args(argv)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows, queries = drawn(options.rows, options.queries)
    encoder = Encoder.load(options.model)
    with TemporaryDirectory() as folder, Index.create(Path(folder) / "index", model=encoder) as made:
        made.add(Document(str(row), text) for row, text in enumerate(rows))
        made.close()
        nearest = graph(encoder.encode_passages(rows))
        file = texts_of(Path(folder) / "texts", rows)
        with Index.open(Path(folder) / "index", model=encoder, readonly=True) as index:
            for mode in options.modes:
                runs = {
                    "encode": lambda query: encoder.encode_query(query),
                    "search": lambda query, mode=mode: index.search(query, K, mode=mode),
                    "hnswlib": lambda query: one_by_one(file, nearest(encoder.encode_query(query).vectors)),
                    "hnswlib_once": lambda query: at_once(file, nearest(encoder.encode_query(query).vectors)),
                }
                line = {"model": options.model, "rows": len(rows), "mode": mode, "k": K, "threads": 1}
                line |= {"isa": scan.backend()} | measure(runs, queries, options.rounds)
                line["stages"] = stages(index, queries, mode)
                print(json.dumps(line), flush=True)
        file.close()
    return 0


def measure(runs: dict[str, Run], queries: Sequence[str], rounds: int) -> dict[str, Any]:
    """Medians of a query's microseconds over the rounds, and of the ratios of `search` to each of the others."""
    times = turns(runs, queries, rounds)
    ratios = {
        f"ratio_{name}": round(statistics.median(map(truediv, times["search"], took)), 2)
        for name, took in times.items()
        if name != "search"
    }
    return {f"{name}_us": round(1e6 * statistics.median(took), 1) for name, took in times.items()} | ratios


def stages(index: Index, queries: Sequence[str], mode: str) -> dict[str, float]:
    """Medians of the microseconds that the stages of a search take by the clock."""
    told = [index.explain(query, K, mode=mode) for query in queries]
    return {
        name: round(1e3 * statistics.median(getattr(one, f"{name}_ms") for one in told), 1)
        for name in ("encode", "search", "fetch")
    }


def turns(runs: dict[str, Run], queries: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of the processor for a query, of each run in each round; every round has its own queries."""
    for run in runs.values():
        for query in queries:
            run(query)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        asked = [queries[(number * _TURN + offset) % len(queries)] for offset in range(_TURN)]
        for name, run in runs.items():
            begun = time.thread_time()
            for query in asked:
                run(query)
            times[name].append((time.thread_time() - begun) / _TURN)
    return times


def graph(vectors: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], list[int]]:
    """What finds the rows nearest to a vector [1, dim], among vectors [n, dim]."""
    import hnswlib

    index = hnswlib.Index("cosine", vectors.shape[1])
    index.init_index(len(vectors))
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)))
    index.set_ef(K * OVERSAMPLE)

    def nearest(vector: NDArray[np.float32]) -> list[int]:
        found: list[int] = index.knn_query(vector[:1], K)[0][0].tolist()
        return found

    return nearest


def texts_of(path: Path, texts: Sequence[str]) -> sqlite3.Connection:
    """A SQLite file of texts by row."""
    file = sqlite3.connect(path)
    with file:
        file.execute("CREATE TABLE texts (row INTEGER PRIMARY KEY, text TEXT)")
        file.executemany("INSERT INTO texts VALUES (?, ?)", enumerate(texts))
    return file


def one_by_one(file: sqlite3.Connection, rows: Sequence[int]) -> list[tuple[int, str]]:
    """(row, text) of rows, a statement for each."""
    return [file.execute(_ONE, [row]).fetchone() for row in rows]


def at_once(file: sqlite3.Connection, rows: Sequence[int]) -> list[tuple[int, str]]:
    """(row, text) of K rows, all by one statement."""
    found = dict(file.execute(_ALL, rows))
    return [(row, found[row]) for row in rows]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
