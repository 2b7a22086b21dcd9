"""Backends: what encoding adds to a fresh process's memory with short texts and with all lengths; and its time."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from subprocess import CalledProcessError

from benchmarks import fresh
from edgeret.encode.encoder import BACKENDS, Encoder
from edgeret.errors import EdgeretError

# Tokens of a text, without the special ones: of one length bucket of TFLite, and of each.
SHORT = (10,)
EVERY = (10, 25, 55, 110, 240)
_ROUNDS = 3
_TIMED = 100


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
    """MB beyond `import edgeret`, planned and measured, and the least milliseconds of a text of `SHORT` tokens."""
    short, every = (
        fresh.run("benchmarks.backends", "encode", model, backend, lengths) for lengths in (SHORT, EVERY)
    )
    planned = sum(Encoder.load(model, backend).planned_bytes.values())
    line: dict[str, float | str] = {"model": model, "backend": backend, "short_ms": round(short["ms"], 3)}
    sizes = {
        "short": short["rss_over_import_bytes"],
        "every": every["rss_over_import_bytes"],
        "planned": planned,
    }
    return line | {f"{name}_mb": round(size / 1e6, 1) for name, size in sizes.items()}


def encode(model: str, backend: str, lengths: Sequence[int]) -> dict[str, float]:
    """Encode a text of each length, more than once; the least time of the first, in milliseconds."""
    encoder = Encoder.load(model, backend)
    texts = ["the " * length for length in lengths]
    encoder.encode(texts * _ROUNDS)
    taken = []
    for _ in range(_TIMED):
        begun = time.perf_counter()
        encoder.encode(texts[:1])
        taken.append(time.perf_counter() - begun)
    return {"ms": 1000 * min(taken)}
