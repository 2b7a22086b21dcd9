"""`python -m benchmarks NAME ...`: run one benchmark; each prints one JSON object a line."""

import os
import sys
from importlib import import_module

BENCHMARKS = (
    "compare",
    "report",
    "minilm",
    "quality",
    "robustness",
    "scan",
    "latency",
    "beside",
    "memory",
    "coldstart",
    "imports",
    "oversampling",
    "sizes",
    "backends",
    "updates",
    "sublinear",
    "longqueries",
    "tokenizer",
    "words",
    "modes",
    "fusion",
    "exact",
    "sync",
    "duplicates",
    "listing",
    "languages",
)


def main(argv: list[str]) -> int:
    """Run the benchmark named by the first argument with the others; return its exit code."""
    if not argv or argv[0] not in BENCHMARKS:
        print(f"usage: python -m benchmarks {{{','.join(BENCHMARKS)}}} ...", file=sys.stderr)
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    code: int = import_module(f"benchmarks.{argv[0]}").main(argv[1:])
    return code


if __name__ == "__main__":
    # Everybody is timed on one thread: BLAS reads this when a benchmark imports NumPy.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
