"""Beside the rivals: measures every stack on the same machine and the same texts, cell by cell.

    python -m benchmarks compare [--rows N,N] [--kinds KINDS] [--systems NAMES] [--threads 1,all] [--minutes N]

A cell is measured in a process of its own and stored as a line; a run that stops goes on where it was. What takes
longer than 20 minutes, or would by the time that fewer rows took, is a line that says so.
`python -m benchmarks report` makes tables and pictures of the lines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks import collection, fresh, ledger, systems
from benchmarks.figures import PASSES, QUERIES, TURN
from benchmarks.fresh import Child
from benchmarks.ledger import Line
from benchmarks.systems import encoders
from edgeret.encode.bundle import Bundle
from edgeret.errors import EdgeretError

CACHE: Final = fresh.ROOT / ".cache" / "bench"
SHARED: Final = fresh.ROOT.parent / "shared"
QUALITY: Final = ("nfcorpus", "cranfield", "npl_vaswani", "squad2_dev_full_corpus")
LANGUAGES: Final = tuple(f"xquad_r_{language}" for language in ("ar", "de", "es", "hi", "ru", "vi"))
"""Collections that systems of many languages are asked."""

KINDS: Final = ("quality", "encode", "build", "ask", "start", "change")
STARTS: Final = 3
MAX_QUERIES: Final = 500
LONGEST_TURNS_S: Final = 120.0
# Seconds of a cell that has never been measured: at first, and for a million rows.
_GUESS: Final = {
    "quality": (30, 0),
    "encode": (15, 0),
    "build": (10, 600),
    "ask": (15, 45),
    "start": (12, 40),
    "change": (8, 60),
}


class Cell(NamedTuple):
    """What is measured at once. threads: None for all cores."""

    kind: str
    system: str
    rows: int | None = None
    threads: int | None = None
    collection: str | None = None

    @property
    def folder(self) -> Path:
        """Where the index lies."""
        return CACHE / f"{self.rows}-{systems.index_of(self.system)}"


class OutOfTimeError(Exception):
    """The time that was asked for is over."""


def main(argv: list[str]) -> int:
    """Measure what has not been measured; return the exit code."""
    options = _parse(argv)
    wanted = list(cells(options))
    lines = {ledger.key(line): line for line in ledger.read(options.results)}
    # What failed is tried again: a package may have been installed meanwhile.
    done = {key for key, line in lines.items() if "failed" not in line and not options.again}
    waiting = [cell for cell in wanted if ledger.key(_named(cell, options)) not in done]
    minutes = sum(guess(cell, lines.values()) for cell in waiting) / 60
    print(
        f"{len(wanted)} cells, {len(wanted) - len(waiting)} measured before; the others: {minutes:.0f} minutes",
        file=sys.stderr,
    )
    if options.dry_run:
        return 0
    ends = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    for number, cell in enumerate(waiting, 1):
        left = ends - time.monotonic()
        if guess(cell, lines.values()) > left:
            print(f"{len(waiting) - number + 1} cells are left: run it again to go on", file=sys.stderr)
            return 0
        print(f"{number}/{len(waiting)} {' '.join(str(part) for part in cell if part)}", file=sys.stderr)
        line = _named(cell, options)
        line |= hopeless(cell, options, lines.values()) or measured(cell, options, left)
        if "out_of_time" in line:
            print(f"{len(waiting) - number + 1} cells are left: run it again to go on", file=sys.stderr)
            return 0
        ledger.append(line, systems.packages_of(cell.system), options.results)
        lines[ledger.key(line)] = line
        print(json.dumps(line), flush=True)
    return 0


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """All cells, small ones first; an index comes before what is asked of it."""
    every = [*_without_rows(options), *(cell for rows in options.rows for cell in _with_rows(options, rows))]
    return (cell for cell in every if cell.kind in options.kinds)


def _without_rows(options: argparse.Namespace) -> Iterator[Cell]:
    for name in dict.fromkeys(map(systems.encoder_of, options.systems)):
        if name:
            owner = next(stack for stack in options.systems if systems.encoder_of(stack) == name)
            yield Cell("encode", owner, threads=1)
    for folder in options.collections:
        for stack in options.systems:
            if folder.name not in LANGUAGES or stack in systems.MULTILINGUAL:
                yield Cell("quality", stack, collection=str(folder))


def _with_rows(options: argparse.Namespace, rows: int) -> Iterator[Cell]:
    for index in dict.fromkeys(map(systems.index_of, [systems.BASELINE, *options.systems])):
        yield Cell("build", _owner(index), rows, 1)
    for stack in options.systems:
        for threads in options.threads:
            yield Cell("ask", stack, rows, threads)
        yield Cell("start", stack, rows, 1)
    for index in dict.fromkeys(map(systems.index_of, options.systems)):
        yield Cell("change", _owner(index), rows)


def measured(cell: Cell, options: argparse.Namespace, left_s: float) -> Line:
    """What a cell came to, or why it came to nothing."""
    begun = time.monotonic()
    wait_s = min(options.cell_minutes * 60, left_s)
    work: Callable[[Cell, argparse.Namespace, float], Line] = _WORK[cell.kind]
    try:
        line = work(cell, options, wait_s)
    except subprocess.TimeoutExpired:
        if wait_s < options.cell_minutes * 60:
            return {"out_of_time": True}
        line = {"did_not_finish": f"{options.cell_minutes:g} minutes"}
    except subprocess.CalledProcessError as error:
        line = {"failed": _reason(error)}
    except FileNotFoundError:
        line = {"failed": "there is no index: building it did not finish"}
    return line | {"seconds": round(time.monotonic() - begun, 1)}


def hopeless(cell: Cell, options: argparse.Namespace, lines: Iterable[Line]) -> Line | None:
    """Why a build is not tried: fewer rows took so long that as many more in proportion are beyond the limit."""
    if cell.kind != "build":
        return None
    rows = cell.rows or 0
    fewer = [
        line
        for line in lines
        if line["kind"] == "build"
        and line["system"] == cell.system
        and line["rows"] < rows
        and "docs_per_s" in line
    ]
    if not fewer:
        return None
    nearest = max(fewer, key=lambda line: line["rows"])
    took_s = nearest["rows"] / nearest["docs_per_s"]
    if systems.space_of(cell.system):
        # Nobody else's vectors serve it: its texts are encoded before it is built.
        took_s = max(took_s, nearest["seconds"])
    if took_s * rows / nearest["rows"] <= 60 * options.cell_minutes:
        return None
    took = f"{nearest['rows']:,} rows took {took_s / 60:.1f}"
    return {"did_not_finish": f"{options.cell_minutes:g} minutes (not tried: {took})"}


def guess(cell: Cell, lines: Any) -> float:
    """Seconds that a cell will take: as many as the nearest one like it took, by rows; else a guess."""
    like = [
        line
        for line in lines
        if line["kind"] == cell.kind and line["system"] == cell.system and "seconds" in line
    ]
    least, million = _GUESS[cell.kind]
    if not like:
        return least + million * (cell.rows or 0) / 1e6
    nearest = min(like, key=lambda line: abs((line["rows"] or 0) - (cell.rows or 0)))
    more = max((cell.rows or 0) - (nearest["rows"] or 0), 0)
    if cell.kind == "build":
        million = max(nearest["seconds"] - least, 0) / nearest["rows"] * 1e6
    return min(float(nearest["seconds"]) + million * more / 1e6, fresh.LONGEST_S)


def recall(answers: Sequence[list[int] | None], rows: int | None) -> float:
    """Share of the ten nearest by exact float search with `base` that is in an answer; None stands for no answer."""
    nearest = collection.nearest(rows, QUERIES)
    shares = [
        len({*answer} & {*truth}) / len(truth)
        for answer, truth in zip(answers, nearest, strict=True)
        if answer is not None
    ]
    return round(float(np.mean(shares)), 4)


# ---- kinds ----


def _build(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    arguments = systems.index_of(cell.system), str(cell.folder), cell.rows, options.bundles
    line = _run("build", 1, wait_s, *arguments)
    return {"docs_per_s": line["docs_per_s"], "bytes": _size(cell.folder)}


def _ask(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    """The stack and the baseline take turns: what slows the machine down slows down both.

    Both on the same core, where they may use but one. The files are in the page cache. A turn is a few queries: the
    first one finds the processor's caches cold, the others as a busy program does.
    """
    queries = collection.queries(QUERIES)
    baseline = cell._replace(system=systems.BASELINE)
    for asked in (baseline, cell):
        _fill_cache(asked.folder)
    with (
        _asked(baseline, options, queries, wait_s) as other,
        _asked(cell, options, queries, wait_s) as own,
    ):
        other.hear()
        line = own.hear()
        ratios, begun = [], time.monotonic()
        for turn in range(PASSES * QUERIES // TURN):
            first = turn * TURN % QUERIES
            numbers = " ".join(map(str, range(first, first + TURN)))
            order = (own, other) if turn % 2 else (other, own)
            times = {child: statistics.median(child.say(numbers)["ms"]) for child in order}
            ratios.append(times[other] / times[own])
            if turn * TURN >= QUERIES and time.monotonic() - begun > LONGEST_TURNS_S:
                break
        line |= own.say("")
        baseline_p50 = other.say("")["p50_ms"]
    answers = line.pop("answers")
    size = _size(cell.folder)
    return line | {
        "times_faster": round(statistics.median(ratios), 4),
        "baseline_p50_ms": baseline_p50,
        # Words have a say in a hybrid answer: by vectors alone it is not to be judged.
        "recall10": recall(answers, cell.rows) if _by_vectors(cell.system) else None,
        "bytes": size,
        "bytes_per_doc": round(size / cell.rows, 1),
        "k": systems.K,
    }


def _start(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    """Medians, with all files in the page cache and with those of the index and the model dropped from it."""
    if not cell.folder.exists():
        raise FileNotFoundError
    name = systems.encoder_of(cell.system)
    files = [path for path in cell.folder.rglob("*") if path.is_file()]
    files += encoders.files(name, options.bundles) if name else []
    line: Line = {}
    arguments = cell.system, str(cell.folder), options.bundles, collection.queries(1)[0]
    ends = time.monotonic() + wait_s
    for kind in ("warm", "cold"):
        times = []
        for number in range(STARTS + (kind == "warm")):
            if kind == "cold":
                _drop(files)
            found = _run("start", 1, max(ends - time.monotonic(), 1), *arguments)
            # The first warm one fills the cache.
            if kind == "cold" or number:
                times.append(found["ms"])
        line[f"{kind}_ms"] = round(statistics.median(times), 1)
    return line


def _change(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    if not cell.folder.exists():
        raise FileNotFoundError
    arguments = cell.system, str(cell.folder), cell.rows, options.bundles
    line = _run("change", None, wait_s, *arguments)
    return {name: line.get(name) for name in ("add_ms", "delete_ms", "reopen_ms", "kept", "cannot")}


def _quality(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    arguments = cell.system, cell.collection, options.bundles, MAX_QUERIES
    line = _run("rank", None, wait_s, *arguments)
    return {name: line[name] for name in ("ndcg10", "queries", "documents")}


def _encode(cell: Cell, options: argparse.Namespace, wait_s: float) -> Line:
    texts = collection.queries(QUERIES)
    arguments = systems.encoder_of(cell.system), options.bundles, texts
    line = _run("encode", 1, wait_s, *arguments)
    return {"docs_per_s": line["docs_per_s"]}


_WORK: Final = {
    "build": _build,
    "ask": _ask,
    "start": _start,
    "change": _change,
    "quality": _quality,
    "encode": _encode,
}

# ---- parts ----

_BUNDLES: Final = ("nano", "small", "base", "small-tflite", "base-tflite", "world", "world_small")


def _owner(index: str) -> str:
    """The stack under whose name an index is built and changed: the one with `base`, where there is one."""
    stacks = [stack for stack in systems.STACKS if systems.index_of(stack) == index]
    return f"base/{index}" if f"base/{index}" in stacks else stacks[0]


def _by_vectors(stack: str) -> bool:
    return systems.encoder_of(stack) is not None and not systems.is_hybrid(stack)


def _asked(cell: Cell, options: argparse.Namespace, queries: list[str], wait_s: float) -> Child:
    if not cell.folder.exists():
        raise FileNotFoundError
    return Child(
        "benchmarks.measure",
        "ask",
        cell.system,
        str(cell.folder),
        cell.threads,
        options.bundles,
        queries,
        environment=_environment(cell.threads),
        wait_s=wait_s,
    )


def _run(name: str, threads: int | None, wait_s: float, *arguments: Any) -> Line:
    return fresh.run("benchmarks.measure", name, *arguments, environment=_environment(threads), wait_s=wait_s)


def _environment(threads: int | None) -> dict[str, str]:
    count = str(threads or os.cpu_count())
    names = ("OMP_NUM", "OPENBLAS_NUM", "MKL_NUM", "RAYON_NUM", "LANCE_CPU")
    return {f"{name}_THREADS": count for name in names} | {"TOKENIZERS_PARALLELISM": "false"}


def _fill_cache(folder: Path) -> None:
    """Read all files below a folder, so that the system has them in its page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 22):
                    pass


def _drop(files: list[Path]) -> None:
    """Ask the system to forget the pages of files; those of programs and libraries stay."""
    for file in files:
        # Some stores keep files only while they are open.
        with suppress(FileNotFoundError):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _reason(error: subprocess.CalledProcessError) -> str:
    """The last line of what it said, without paths."""
    said = (error.stderr or "").strip().rpartition("\n")[2] or f"exit code {error.returncode}"
    return said.replace(str(fresh.ROOT), ".")[:200]


def _named(cell: Cell, options: argparse.Namespace) -> Line:
    name = systems.encoder_of(cell.system)
    threads = "all" if cell.threads is None and cell.kind == "ask" else cell.threads
    return {
        **cell._asdict(),
        "threads": threads,
        "collection": cell.collection and Path(cell.collection).name,
        "run": options.run,
        "model": _model(name, options.bundles),
        "machine": ledger.machine(),
    }


def _model(name: str | None, bundles: dict[str, str]) -> str | None:
    """Tells one training of a bundle from another; None for the rivals, whose weights never change."""
    if name not in _BUNDLES:
        return None
    try:
        return Bundle.open(encoders.place(name, bundles)[0]).manifest.files["golden.bin"].sha256[:12]
    except EdgeretError:
        return "missing"


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks compare", description=__doc__)
    parser.add_argument("--rows", type=_numbers, default=[10_000, 100_000, 1_000_000], help="comma-separated")
    parser.add_argument("--kinds", type=_words, default=list(KINDS), help=f"of {','.join(KINDS)} (all)")
    parser.add_argument("--systems", type=_words, default=list(systems.STACKS), help="(all)")
    parser.add_argument("--threads", type=_threads, default=[1, None], help="1, all or both (both)")
    parser.add_argument("--minutes", type=float, help="start nothing that would end later (no bound)")
    parser.add_argument("--cell-minutes", type=float, default=fresh.LONGEST_S / 60, help="(20)")
    parser.add_argument("--run", default="1", help="a name for this run, to compare it with another (1)")
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    parser.add_argument("--dry-run", action="store_true", help="only say how long it takes")
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME=FOLDER", help="not installed")
    parser.add_argument("--collections", type=Path, nargs="*", help="in BEIR layout, for the quality")
    parser.add_argument("--results", type=Path, default=ledger.PATH, help="where lines are stored")
    options = parser.parse_args(argv)
    for kind in options.kinds:
        if kind not in KINDS:
            parser.error(f"expected kinds of {', '.join(KINDS)}, got {kind}")
    for stack in options.systems:
        if stack not in systems.STACKS:
            parser.error(f"expected systems of {', '.join(systems.STACKS)}; got {stack}")
    options.bundles = dict(pair.split("=", 1) for pair in options.bundle)
    if options.collections is None:
        named = [SHARED / "collections" / name for name in QUALITY]
        named += [SHARED / "collections_multi" / name for name in LANGUAGES]
        options.collections = [folder for folder in named if folder.exists()]
    return options


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _words(text: str) -> list[str]:
    return text.split(",")


def _threads(text: str) -> list[int | None]:
    return [None if word == "all" else int(word) for word in text.split(",")]
