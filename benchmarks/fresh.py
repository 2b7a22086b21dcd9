"""Fresh: a piece of work in a process of its own, and what it added to that process's memory.

The measure: the peak of the resident set (VmHWM, Linux) at the end, and that less the peak right after
`import edgeret`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST_S: Final = 20 * 60

_CHILD: Final = """
import sys
import edgeret
def peak_rss_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
imported = peak_rss_bytes()
import json
from importlib import import_module
module, name, arguments = sys.argv[1:]
found = getattr(import_module(module), name)(*json.loads(arguments)) or {}
peak = peak_rss_bytes()
print(json.dumps({**found, "peak_rss_bytes": peak, "rss_over_import_bytes": peak - imported}))
"""


def run(
    module: str,
    name: str,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    wait_s: float = LONGEST_S,
) -> dict[str, Any]:
    """Call `module.name(*arguments)`, which returns a dict or None; return that and its memory in bytes.

    arguments: what JSON holds. Raises subprocess.TimeoutExpired after `wait_s` seconds, and
    subprocess.CalledProcessError, with what it said, if it fails.
    """
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, module, name, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=wait_s,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    if child.returncode:
        print(child.stderr, file=sys.stderr)
        child.check_returncode()
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found
