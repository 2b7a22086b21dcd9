"""Memory: what opening and searching an index adds to a fresh process, with a budget and without.

    python -m benchmarks memory [--rows N] [--model M] [--budget SIZE] [--mode MODE] [--add N]

One JSON line a run; the index is made once (in .cache/bench). Passages are real, repeated to the number of rows, and
the vectors of the repeats carry noise. Other stores stand in the tables of `compare`.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import collection, fresh
from benchmarks.compare import Cell, recall
from edgeret.encode.bundle import Bundle

QUERIES = 64
LONGEST_ADD_S = 10 * 3600


def main(argv: list[str]) -> int:
    """Print one JSON line for each run."""
    parser = argparse.ArgumentParser("python -m benchmarks memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--model", default="base", help="a bundle of the space of base")
    parser.add_argument(
        "--made-by", metavar="MODEL", help="a bundle of many languages, to ask by one of its space"
    )
    parser.add_argument("--budget", help="such as 112MB (none)")
    parser.add_argument("--mode", choices=("dense", "lexical", "hybrid"), default="dense", help="(dense)")
    parser.add_argument("--add", type=int, metavar="N", help="add N texts instead, with and without a budget")
    options = parser.parse_args(argv)
    if options.add:
        for budget in (None, options.budget):
            print(json.dumps(adding(options.model, options.add, budget)), flush=True)
    else:
        line = searching(options.model, options.rows, options.budget, options.mode, options.made_by)
        print(json.dumps(line), flush=True)
    return 0


def searching(
    model: str, rows: int, budget: str | None, mode: str, made_by: str | None = None
) -> dict[str, Any]:
    """The line of a run that searches. made_by: what encoded the documents, if not `base`."""
    folder, stack, bundles = Cell("build", "base/edgeret", rows).folder, "edgeret", {}
    if made_by:
        folder = folder.with_name(f"{rows}-edgeret-{made_by}")
        stack, bundles = "edgeret-world", {"world": str(Bundle.open(made_by).path)}
    if not folder.exists():
        fresh.run("benchmarks.measure", "build", stack, str(folder), rows, bundles)
    path = folder / "index.edgeret"
    found = fresh.run("benchmarks.asking", "ask", str(path), model, budget, collection.queries(QUERIES), mode)
    answers = found.pop("answers", None)
    size = path.stat().st_size
    return {
        "system": "edgeret",
        "rows": rows,
        "bits": 256,
        "model": model,
        "mode": mode,
        "budget": budget,
        **({"made_by": made_by} if made_by else {}),
        **({"recall10": recall(answers, rows)} if answers and mode == "dense" and not made_by else {}),
        **found,
        "index_file_bytes": size,
        "bytes_per_doc": round(size / rows, 1),
        "tables": by_table(path, rows),
    }


def by_table(path: Path, rows: int) -> dict[str, float]:
    """Bytes of the file for each row, by table and index; of those that take at least a tenth of one."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        found = file.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").fetchall()
    return {name: round(size / rows, 1) for name, size in found if size >= rows / 10}


def adding(model: str, count: int, budget: str | None) -> dict[str, Any]:
    """The line of a run that adds texts of about 256 tokens."""
    with TemporaryDirectory() as folder:
        texts = Path(folder, "texts")
        with texts.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{text}\n" for text in collection.long_passages(count))
        path = str(Path(folder, "new.edgeret"))
        found = fresh.run("benchmarks.asking", "add", path, model, budget, str(texts), wait_s=LONGEST_ADD_S)
    return {"system": "edgeret-add", "documents": count, "model": model, "budget": budget, **found}
