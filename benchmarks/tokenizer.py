"""The tables of a tokenizer beside the package `tokenizers`: time, and whether tokens are equal."""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeret.encode import tables
from edgeret.encode.bundle import Bundle
from edgeret.encode.foreign import Foreign
from edgeret.encode.tokenizer import Tokenizer, load_tokenizer

_TEXTS: Final = 500
_ROUNDS: Final = 9


def main(argv: list[str]) -> int:
    """Print one JSON object; 1 if a line has other tokens than the package gives."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tokenizer", description=__doc__)
    parser.add_argument("text", type=Path, nargs="+", help="plain or .gz, a text a line")
    parser.add_argument("--model", default="nano", help="bundle with tables")
    parser.add_argument(
        "--tokens", type=int, default=15, help="of the texts that are timed, special ones not counted"
    )
    parser.add_argument(
        "--lines", type=int, default=0, help="compare the tokens of so many lines, drawn at random"
    )
    arguments = parser.parse_args(argv)
    bundle = Bundle.open(arguments.model)
    opening = {"tables": lambda: load_tokenizer(bundle), "package": lambda: Foreign.load(bundle)}
    own, package = load_tokenizer(bundle), Foreign.load(bundle)
    fit = (
        line
        for line in _lines(arguments.text)
        if len(own.tokenize(line, special=False).ids) == arguments.tokens
    )
    texts = list(islice(fit, _TEXTS))
    unequal = _unequal(own, package, _drawn(arguments.text, arguments.lines))
    found: dict[str, Any] = {
        "model": bundle.name,
        "build": "native" if tables.runs_native() else "reference",
        "texts": len(texts),
        "tokens": arguments.tokens,
        **{f"{name}_us": value for name, value in _times({"tables": own, "package": package}, texts).items()},
        **{
            f"{name}_load_ms": round(min(_seconds(load) for _ in range(_ROUNDS)) * 1e3, 2)
            for name, load in opening.items()
        },
        "bytes": bundle.manifest.files[tables.FILE].nbytes,
        "lines": arguments.lines,
        "unequal": len(unequal),
    }
    found["ratio"] = round(found["tables_us"] / found["package_us"], 3)
    print(json.dumps(found | ({"first": unequal[0]} if unequal else {})))
    return bool(unequal)


def _times(tokenizers: dict[str, Tokenizer], texts: list[str]) -> dict[str, float]:
    """Microseconds of a text, the best of some rounds in turn."""
    best = dict.fromkeys(tokenizers, float("inf"))
    for _ in range(_ROUNDS):
        for name, tokenizer in tokenizers.items():
            seconds = _seconds(lambda tokenizer=tokenizer: [tokenizer.tokenize(text) for text in texts])
            best[name] = min(best[name], seconds / len(texts))
    return {name: round(seconds * 1e6, 2) for name, seconds in best.items()}


def _milliseconds(run: Callable[[], object]) -> float:
    return round(min(_seconds(run) for _ in range(_ROUNDS)) * 1e3, 2)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _unequal(own: Tokenizer, package: Tokenizer, lines: Iterable[str]) -> list[str]:
    return [line for line in lines if own.tokenize(line)[:2] != package.tokenize(line)[:2]]


def _drawn(paths: list[Path], count: int) -> list[str]:
    lines = list(_lines(paths)) if count else []
    rows = np.random.default_rng(0).permutation(len(lines))[:count]
    return [lines[row] for row in rows]


def _lines(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8", newline="\n") as stream:
            yield from (line.rstrip("\n") for line in stream)
