"""Fuzz one target: `python tests/fuzz/run.py NAME --seconds N`. Atheris guides it by branch coverage.

With --plain it feeds random bytes instead, and needs no package. The last line says how many executions.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    if arguments.plain:
        return _plain(arguments.name, arguments.seconds)
    try:
        import atheris
    except ImportError:
        print(f"cannot fuzz {arguments.name}: expected the package atheris, found none: pip install atheris")
        return 2
    with atheris.instrument_imports(include=["edgeret"]):
        from targets import TARGETS
    with tempfile.TemporaryDirectory(prefix="edgeret-corpus-") as corpus:
        finds = Path.cwd() / ".fuzz" / arguments.name
        finds.mkdir(parents=True, exist_ok=True)
        limits = [
            f"-max_total_time={arguments.seconds}",
            "-max_len=4096",
            "-rss_limit_mb=1500",
            "-timeout=20",
        ]
        # Atheris ends the process itself; libFuzzer's own last lines tell the count.
        atheris.Setup([sys.argv[0], corpus, *limits, f"-artifact_prefix={finds}/"], TARGETS[arguments.name])
        atheris.Fuzz()
    return 0


def _plain(name: str, seconds: int) -> int:
    from targets import TARGETS

    chance = random.Random(name)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        content = chance.randbytes(chance.choice([0, 1, 4, 16, 64, 256, 4096]))
        try:
            TARGETS[name](content)
        except BaseException:
            print(f"found by {content.hex()}")
            raise
        count += 1
    print(f"Done {count} runs in {seconds} second(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
