"""Updates: how large an update is and how long it takes to apply, beside the file and a rebuild from its texts.

    python -m benchmarks updates [--rows N] [--model M] [--changed SHARES] [--rounds R]

One JSON line for each share of the documents that gets another text. The rebuild encodes all of them; an update is
applied to a fresh copy each time, and the model's files are verified anew, as a process of its own would do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import edgeret
from benchmarks.scan import passages
from edgeret import Document, Index
from edgeret.fleet.contents import Contents
from edgeret.storage.store import Store


def main(argv: list[str]) -> int:
    """Print one JSON line for each share; return 1 if an update made something else than the new index."""
    parser = argparse.ArgumentParser("python -m benchmarks updates", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="documents, a passage each (default: 20000)")
    parser.add_argument("--model", default="base", help="name or folder of a bundle (default: base)")
    parser.add_argument("--changed", default="0.001,0.01,0.1", help="shares, comma-separated")
    parser.add_argument("--rounds", type=int, default=5, help="of applying (default: 5)")
    options = parser.parse_args(argv)
    shares = [float(share) for share in options.changed.split(",")]
    most = round(max(shares) * options.rows)
    texts = passages(options.rows + most)
    with TemporaryDirectory() as folder:
        old = Path(folder, "old.edgeret")
        rebuild_s = build(old, options.model, texts[: options.rows])
        for share in shares:
            others = texts[options.rows :][: round(share * options.rows)]
            line = measure(old, others, options.model, options.rounds)
            line |= {
                "rebuild_s": round(rebuild_s, 2),
                "share_of_rebuild": round(line["apply_s"] / rebuild_s, 5),
            }
            print(json.dumps({"model": options.model, "documents": options.rows, **line}), flush=True)
            if not line["same_contents"]:
                return 1
    return 0


def build(path: Path, model: str, texts: list[str]) -> float:
    """Index the texts; the seconds that it took."""
    begun = time.perf_counter()
    with Index.create(path, model=model) as index:
        index.add(Document(str(row), text) for row, text in enumerate(texts))
    return time.perf_counter() - begun


def measure(old: Path, texts: list[str], model: str, rounds: int) -> dict[str, Any]:
    """Give as many documents, spread over the index, other texts; diff, and apply to copies."""
    new, update = old.with_name("new.edgeret"), old.with_name("update")
    shutil.copy(old, new)
    with Index.open(new, model=model) as index:
        spread = len(index) // max(len(texts), 1)
        index.add(Document(str(row * spread), text) for row, text in enumerate(texts))
    begun = time.perf_counter()
    with update.open("wb") as file:
        summary = edgeret.diff(old, new, file)
    diff_s = time.perf_counter() - begun
    times, same = [], True
    for _ in range(rounds):
        copy = Path(shutil.copy(old, old.with_name("copy.edgeret")))
        begun = time.perf_counter()
        edgeret.apply(copy, update, model)
        times.append(time.perf_counter() - begun)
        same &= contents(copy) == summary.after
    return {
        "changed": len(texts),
        "file_bytes": new.stat().st_size,
        "update_bytes": update.stat().st_size,
        "share_of_file": round(update.stat().st_size / new.stat().st_size, 5),
        "diff_s": round(diff_s, 3),
        "apply_s": round(median(times), 3),
        "same_contents": same,
    }


def contents(path: Path) -> str:
    """The name of what an index holds."""
    with closing(Store(path, readonly=True)) as store, store.reading():
        return Contents.of(store).fingerprint
