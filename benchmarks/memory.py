"""Memory: what opening and searching an index adds to a fresh process, beside other stores.

    python -m benchmarks memory [--rows N] [--model M] [--budget SIZE] [--systems NAMES] [--add N]

One JSON line a system; each is filled once (in .cache/memory), then opened and asked in a process of its own.
Passages are real, repeated to the number of rows, and the vectors of the repeats carry noise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import collection, fresh
from benchmarks.rivals import RIVALS

QUERIES = 64
FILLING_S = 20 * 60
LONGEST_ADD_S = 10 * 3600


def main(argv: list[str]) -> int:
    """Print one JSON line for each system."""
    parser = argparse.ArgumentParser("python -m benchmarks memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--model", default="base", help="a bundle of the space of base")
    parser.add_argument("--budget", help="of edgeret, such as 112MB (none)")
    parser.add_argument("--systems", default="edgeret", help="comma-separated, edgeret or a rival; or all")
    parser.add_argument("--add", type=int, metavar="N", help="add N texts instead, with and without a budget")
    options = parser.parse_args(argv)
    if options.add:
        for budget in (None, options.budget):
            print(json.dumps(adding(options.model, options.add, budget)), flush=True)
        return 0
    names = ["edgeret", *RIVALS] if options.systems == "all" else options.systems.split(",")
    for name in names:
        print(json.dumps(measure(name, options)), flush=True)
    return 0


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One system's line."""
    line: dict[str, Any] = {
        "system": name,
        "rows": options.rows,
        "bits": options.bits,
        "model": options.model,
    }
    try:
        path = filled(name, options.rows, options.bits)
        queries = collection.queries(QUERIES)
        found = fresh.run("benchmarks.asking", "ask", name, str(path), options.model, options.budget, queries)
    except subprocess.TimeoutExpired:
        return {**line, "did_not_finish": f"{FILLING_S} s"}
    except subprocess.CalledProcessError as error:
        return {**line, "failed": f"exit code {error.returncode}"}
    nearest = collection.nearest(options.rows, QUERIES)
    answers = found.pop("answers")
    recall = np.mean(
        [len({*answer} & {*truth}) / len(truth) for answer, truth in zip(answers, nearest, strict=True)]
    )
    size = sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())
    return {
        **line,
        "budget": options.budget if name == "edgeret" else None,
        **found,
        "index_file_bytes": size,
        "bytes_per_doc": round(size / options.rows, 1),
        "recall10": round(float(recall), 4),
    }


def filled(name: str, rows: int, bits: int) -> Path:
    """The index of a system: a file or a folder, filled before or now, in a process that is stopped in time."""
    if name == "edgeret":
        return collection.index(rows, bits)
    folder = collection.CACHE / f"{rows}-{name.removesuffix('-load').removesuffix('-view')}"
    if not (folder / "done").exists():
        fresh.run("benchmarks.asking", "fill", name, str(folder), rows, wait_s=FILLING_S)
    return folder


def adding(model: str, count: int, budget: str | None) -> dict[str, Any]:
    """The line of a run that adds texts of about 256 tokens."""
    with TemporaryDirectory() as folder:
        texts = Path(folder, "texts")
        with texts.open("w", encoding="utf-8") as lines:
            lines.writelines(f"{text}\n" for text in collection.long_passages(count))
        path = str(Path(folder, "new.edgeret"))
        found = fresh.run("benchmarks.asking", "add", path, model, budget, str(texts), wait_s=LONGEST_ADD_S)
    return {"system": "edgeret-add", "documents": count, "model": model, "budget": budget, **found}
