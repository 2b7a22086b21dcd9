"""Backends: what encoding adds to a fresh process's memory, short texts alone and texts of every length."""

import argparse
import json
import sys
from collections.abc import Sequence
from subprocess import CalledProcessError

from benchmarks import fresh
from edgeret.encode.encoder import BACKENDS, Encoder
from edgeret.errors import EdgeretError

# Tokens of a text, without the special ones: of one length bucket of TFLite, and of each.
SHORT = (10,)
EVERY = (10, 25, 55, 110, 240)
_ROUNDS = 3


def main(argv: list[str]) -> int:
    """Print one JSON line for each backend that the bundle serves and that is installed; return the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks backends", description=__doc__)
    parser.add_argument("--model", default="base", help="a bundle")
    options = parser.parse_args(argv)
    try:
        bundle = Encoder.load(options.model).bundle
        for backend in (name for name, kind in BACKENDS.items() if kind.serves(bundle) and kind.installed()):
            print(json.dumps(measure(options.model, backend)), flush=True)
    except (EdgeretError, CalledProcessError) as error:
        print(f"backends: {error}", file=sys.stderr)
        return 1
    return 0


def measure(model: str, backend: str) -> dict[str, float | str]:
    """MB beyond `import edgeret`: planned, and measured."""
    short, every = (
        fresh.run("benchmarks.backends", "encode", model, backend, lengths)["rss_over_import_bytes"] / 1e6
        for lengths in (SHORT, EVERY)
    )
    planned = sum(Encoder.load(model, backend).planned_bytes.values()) / 1e6
    line: dict[str, float | str] = {"model": model, "backend": backend}
    return line | {"short_mb": round(short, 1), "every_mb": round(every, 1), "planned_mb": round(planned, 1)}


def encode(model: str, backend: str, lengths: Sequence[int]) -> None:
    """Encode a text of each length, more than once."""
    encoder = Encoder.load(model, backend)
    encoder.encode(["the " * length for length in lengths] * _ROUNDS)
