"""Sync: how long an index takes to follow a folder in which one file of many has changed.

    python -m benchmarks sync [--files N] [--model M] [--rounds R]

One JSON line: seconds to index the folder, and the median of some rounds in each of which one file is changed: with the
index open; in a process of its own, the model loaded anew, also its seconds of the processor; and, where
`edgeret sync --watch` follows the folder, until another process finds the file by a new word.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import fresh
from benchmarks.scan import passages
from edgeret import Index

_LOOK_S: Final = 0.02
_PATIENCE_S: Final = 60


def main(argv: list[str]) -> int:
    """Print one JSON line; return 1 if more or less than the one file was found changed."""
    parser = argparse.ArgumentParser("python -m benchmarks sync", description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="files, a passage each (default: 10000)")
    parser.add_argument("--model", default="small", help="name or folder of a bundle (default: small)")
    parser.add_argument("--rounds", type=int, default=5, help="changes of one file (default: 5)")
    options = parser.parse_args(argv)
    with TemporaryDirectory() as place:
        folder, path = Path(place, "files"), Path(place, "files.edgeret")
        for number, text in enumerate(passages(options.files)):
            file = folder / f"{number % 100:02}" / f"{number}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        with Index.create(path, model=options.model) as index:
            first_s = _timed(lambda: index.sync(folder))
            changed = []
            again = []
            for turn in range(options.rounds):
                _change(folder, turn)
                again.append(_timed(lambda: changed.append(index.sync(folder).changed)))
        command = [sys.executable, "-m", "edgeret", "sync", str(path), str(folder), "--json"]
        cold, busy = [], []
        for turn in range(options.rounds):
            _change(folder, turn)
            begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, capture_output=True, check=True, env=fresh.installed())
            cold.append(time.perf_counter() - begun)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            changed.append(json.loads(done.stdout)["changed"])
        seen = _watched([*command, "--watch"], folder, path, options.rounds)
    figures = {
        "first_s": first_s,
        "again_s": median(again),
        "process_s": median(cold),
        "process_cpu_s": median(busy),
        "watch_s": median(seen),
    }
    shown = {name: round(seconds, 3) for name, seconds in figures.items()}
    print(json.dumps({"model": options.model, "files": options.files, **shown}))
    return int(set(changed) != {1})


def _change(folder: Path, turn: int) -> str:
    """Give a file a word that no other has."""
    file = folder / "00" / f"{100 * turn}.md"
    word = f"w{time.time_ns()}"
    file.write_text(f"{file.read_text()} Changed {word}.")
    return word


def _watched(command: list[str], folder: Path, path: Path, rounds: int) -> list[float]:
    """Seconds from a change until a reader finds it, of some changes while a process follows the folder."""
    found = []
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=fresh.installed()) as follower,
        Index.open(path, readonly=True) as index,
    ):
        try:
            assert follower.stdout is not None
            if not follower.stdout.readline():
                raise RuntimeError("expected `edgeret sync --watch` to follow the folder, and it has ended")
            for turn in range(rounds):
                begun = time.perf_counter()
                word = _change(folder, turn)
                while not index.search(word, 1, mode="lexical"):
                    if time.perf_counter() - begun > _PATIENCE_S:
                        raise TimeoutError(f"a change was not found within {_PATIENCE_S} s")
                    time.sleep(_LOOK_S)
                found.append(time.perf_counter() - begun)
        finally:
            follower.terminate()
    return found


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
