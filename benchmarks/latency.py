"""Latency, one text at a time: search() beside encoding its query alone, INT8 beside fp32 and beside TFLite.

With several bundles: encoding with each, in turn, and how many times as fast as the first the others are.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.teacher import read_teacher
from edgeret.documents import Document
from edgeret.encode.encoder import BACKENDS, Encoder
from edgeret.errors import EdgeretError
from edgeret.index import Index

QUERIES = (
    "how do I reset the wireless connection on my new laptop after work",
    "which plants grow well in a dark and humid room without any sun",
    "what is the best way to store fresh bread overnight in a box",
    "why does the engine make a loud noise when cold in the morning",
    "how long should the battery last after a full charge in the winter",
    "where can I find the serial number of this device and its name",
    "what should be checked before the machine is turned on for a test",
    "how to convert a list of words into one string with a space",
)
_TEXT = "The button on the left side of the housing resets the unit when it is held for five seconds. " * 5


def main(argv: list[str]) -> int:
    """Measure and print one JSON line; return the exit code."""
    options = _parse(argv)
    try:
        if len(options.model) > 1:
            print(json.dumps(compare(options.model, options.rounds)))
        else:
            print(json.dumps(measure(*options.model, options.rows, options.rounds, options.teacher)))
    except (EdgeretError, OSError) as error:
        print(f"latency: {error}", file=sys.stderr)
        return 1
    return 0


def measure(
    model: str, rows: int, rounds: int, teacher_folder: Path | None
) -> dict[str, float | int | str | None]:
    """Medians in ms over `rounds`, and medians of the ratios within a round; texts take turns."""
    encoder = Encoder.load(model)
    teacher = read_teacher(teacher_folder)
    with (
        TemporaryDirectory() as folder,
        Index.create(Path(folder) / "latency.edgeret", model=encoder) as index,
    ):
        index.add(_documents(rows, encoder.dim))
        runs: dict[str, Callable[[str], object]] = {
            "encode": lambda query: encoder.encode_queries([query]),
            "search": lambda query: index.search(query, k=10, mode="dense"),
        }
        if teacher is not None:
            runs["fp32"] = lambda query: teacher.encode_queries([query])
        lite = _lite(encoder)
        if lite is not None:
            runs["tflite"] = lambda query: lite.encode_queries([query])
        times = interleave(runs, rounds)
    line: dict[str, float | int | str | None] = {
        "model": encoder.name,
        "rows": rows,
        "rounds": rounds,
        "tokens": _tokens(encoder),
        "encode_ms": _ms(times["encode"]),
        "search_ms": _ms(times["search"]),
        "ratio": _ratio(times["search"], times["encode"]),
        "fp32_ms": None,
        "fp32_ratio": None,
        "tflite_ms": None,
        "tflite_ratio": None,
    }
    if teacher is not None:
        line |= {"fp32_ms": _ms(times["fp32"]), "fp32_ratio": _ratio(times["fp32"], times["encode"])}
    if lite is not None:
        line |= {"tflite_ms": _ms(times["tflite"]), "tflite_ratio": _ratio(times["tflite"], times["encode"])}
    return line


def compare(models: list[str], rounds: int) -> dict[str, Any]:
    """Medians and least times over `rounds` of encoding with the first bundle and with each other one.

    Each in its turn encodes all QUERIES, and finds the processor's caches cold only for the first of them:
    `after_pause` is about that one. The ratios are medians of the ratios in one round. `alone` is the mean of each
    query's least time where no other bundle has turns.
    """
    first, *others = map(Encoder.load, models)
    first_alone, compared = _alone(first, rounds), []
    for other in others:
        own, base = (np.empty((rounds, len(QUERIES))) for _ in range(2))
        for number in range(-1, rounds):
            # The round before the first one does not count.
            base[number], own[number] = _turn(first), _turn(other)
        ratios = np.median(base, axis=1) / np.median(own, axis=1)
        alone = _alone(other, rounds)
        compared.append(
            {
                "model": other.name,
                "encode_us": _us(np.median(own)),
                "after_pause_us": _us(np.median(own[:, 0])),
                "least_us": _us(own.min()),
                "alone_us": _us(alone),
                "first_us": _us(np.median(base)),
                "first_after_pause_us": _us(np.median(base[:, 0])),
                "first_least_us": _us(base.min()),
                "first_alone_us": _us(first_alone),
                "ratio": round(float(np.median(ratios)), 3),
                "after_pause_ratio": round(float(np.median(base[:, 0] / own[:, 0])), 3),
                "alone_ratio": round(first_alone / alone, 3),
            }
        )
    return {"first": first.name, "rounds": rounds, "tokens": _tokens(first), "others": compared}


def _turn(encoder: Encoder) -> list[float]:
    """Seconds of each query's encoding."""
    seconds = []
    for query in QUERIES:
        start = time.perf_counter()
        encoder.encode_queries([query])
        seconds.append(time.perf_counter() - start)
    return seconds


def _alone(encoder: Encoder, rounds: int) -> float:
    return float(np.min([_turn(encoder) for _ in range(10 * rounds)], axis=0).mean())


def interleave(runs: dict[str, Callable[[str], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round, after a round that does not count; every round begins with another one."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(-1, rounds):
        query = QUERIES[number % len(QUERIES)]
        for name in names:
            start = time.perf_counter()
            runs[name](query)
            times[name].append(time.perf_counter() - start)
        names = names[1:] + names[:1]
    return {name: values[1:] for name, values in times.items()}


def _tokens(encoder: Encoder) -> float:
    special = encoder.bundle.max_tokens - encoder.passage_tokens
    return median(len(encoder.token_spans(query)) + special for query in QUERIES)


def _lite(encoder: Encoder) -> Encoder | None:
    """The bundle on TFLite, where it has the graph, the package is installed, and it is not what is measured anyway."""
    kind = BACKENDS["tflite"]
    if encoder.backend == "tflite" or not kind.serves(encoder.bundle) or not kind.installed():
        return None
    return Encoder.load(encoder.name, "tflite")


def _documents(rows: int, dim: int) -> list[Document]:
    vectors = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    return [Document(id=str(row), text=_TEXT, vector=vector) for row, vector in enumerate(vectors)]


def _ms(seconds: list[float]) -> float:
    return round(median(seconds) * 1e3, 3)


def _us(seconds: Any) -> float:
    return round(float(seconds) * 1e6, 1)


def _ratio(above: list[float], below: list[float]) -> float:
    return round(median(one / other for one, other in zip(above, below, strict=True)), 3)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks latency", description=__doc__)
    parser.add_argument(
        "--model", nargs="+", default=["base"], metavar="BUNDLE", help="one, or several to compare"
    )
    parser.add_argument("--rows", type=int, default=10_000, help="documents in the index, for one bundle")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--teacher", type=Path, help="the teacher's folder (default: the installed package's)"
    )
    return parser.parse_args(argv)
