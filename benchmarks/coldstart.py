"""Cold start: `compare` of open and first answer alone, with files in the page cache and not."""

from __future__ import annotations

from benchmarks import compare


def main(argv: list[str]) -> int:
    """Measure what has not been measured; return the exit code. Takes the options of `compare`."""
    return compare.main(["--kinds", "build,start", *argv])
