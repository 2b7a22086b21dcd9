"""`import edgeret`: how long it takes, NumPy's part and its own, and the modules that take most.

And the processor time of whole processes: of Python alone, with what edgeret cannot do without, with edgeret, and with
onnxruntime and the session of `small`. Each run is a process of its own with its files in the page cache; the one that
took least counts, because what other processes do only adds.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
from typing import Final, NamedTuple

from edgeret.encode.bundle import Bundle

_SESSION: Final = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
_PROCESSES: Final = {
    "python": "pass",
    "numpy, sqlite3, json": "import numpy, sqlite3, json",
    "edgeret": "import edgeret",
    "numpy, session of small": _SESSION,
}

_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)$")
_SHOWN = 8


class Import(NamedTuple):
    """A module as `-X importtime` reports it. own_us: without what it imports. whole_us: with it."""

    module: str
    own_us: int
    whole_us: int


def main(argv: list[str]) -> int:
    """Measure and print one JSON line; return the exit code."""
    options = _parse(argv)
    runs = [_run() for _ in range(options.runs)]
    found = summarize(min(runs, key=lambda run: run[-1].whole_us))
    bundle = Bundle.open("small")
    graph = str(bundle.file(bundle.manifest.graphs["onnx"].file))
    found["process_cpu_ms"] = {
        name: round(min(_cpu_ms(script, graph) for _ in range(options.runs)), 1)
        for name, script in _PROCESSES.items()
    }
    print(json.dumps(found, ensure_ascii=False))
    return 0


def read(report: str) -> list[Import]:
    """What `-X importtime` writes -> the imports, in the order in which they ended."""
    found = map(_LINE.match, report.splitlines())
    return [Import(line[3], int(line[1]), int(line[2])) for line in found if line]


def summarize(imports: list[Import]) -> dict[str, object]:
    """Milliseconds of the whole, of NumPy, of edgeret's modules and of the others; the slowest of edgeret's."""
    by_name = {found.module: found for found in imports}
    ours = [found for found in imports if found.module.partition(".")[0] == "edgeret"]
    whole, numpy = by_name["edgeret"].whole_us, by_name["numpy"].whole_us
    own = sum(found.own_us for found in ours)
    slowest = sorted(ours, key=lambda found: -found.own_us)[:_SHOWN]
    return {
        "import_ms": round(whole / 1000, 1),
        "numpy_ms": round(numpy / 1000, 1),
        "edgeret_ms": round(own / 1000, 1),
        "others_ms": round((whole - numpy - own) / 1000, 1),
        "slowest": {found.module: round(found.own_us / 1000, 1) for found in slowest},
        "python": sys.version.split()[0],
    }


def _run() -> list[Import]:
    script = [sys.executable, "-X", "importtime", "-c", "import edgeret"]
    return read(subprocess.run(script, capture_output=True, text=True, check=True).stderr)


def _cpu_ms(script: str, argument: str) -> float:
    """Processor time of a process, of users' and of the system's code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", script, argument], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks imports", description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    return parser.parse_args(argv)
