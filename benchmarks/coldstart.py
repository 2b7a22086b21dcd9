"""Cold start: opening an index and the first answer in a fresh process, files in the page cache and not.

    python -m benchmarks coldstart [--rows N] [--model M] [--rounds N] [--systems NAMES]

Milliseconds from before the open to after the first answer; packages are imported meanwhile, `import edgeret`
was before. Cold: the pages of the index and of the model were dropped; those of programs and libraries were not.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import collection, fresh
from benchmarks.memory import filled
from edgeret.bundle import Bundle


def main(argv: list[str]) -> int:
    """Print one JSON line for each system."""
    parser = argparse.ArgumentParser("python -m benchmarks coldstart", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--model", default="base", help="a bundle of the space of base")
    parser.add_argument("--budget", help="of edgeret (none)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", default="edgeret", help="comma-separated")
    options = parser.parse_args(argv)
    for name in options.systems.split(","):
        path = filled(name, options.rows, options.bits)
        files = [path, *path.rglob("*"), *Bundle.open(options.model).path.iterdir()]
        line: dict[str, Any] = {"system": name, "rows": options.rows, "model": options.model}
        for kind in ("warm", "cold"):
            times = []
            for _ in range(options.rounds):
                if kind == "cold":
                    drop([file for file in files if file.is_file()])
                times.append(start(name, path, options))
            line[f"{kind}_ms"] = round(median(times), 1)
        print(json.dumps({**line, "rounds": options.rounds}), flush=True)
    return 0


def start(name: str, path: Path, options: argparse.Namespace) -> float:
    """Milliseconds of open and first answer."""
    found = fresh.run(
        "benchmarks.asking", "ask", name, str(path), options.model, options.budget, collection.queries(1)
    )
    total: float = found["open_ms"] + found["first_query_ms"]
    return total


def drop(files: list[Path]) -> None:
    """Ask the system to forget the pages of files."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
