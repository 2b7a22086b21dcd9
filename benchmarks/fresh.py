"""Fresh: a piece of work in a process of its own, and what it added to that process's memory.

The measure: the peak of the resident set (VmHWM, Linux) at the end, and that less the peak right after
`import edgeret`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parents[1]
LONGEST_S: Final = 20 * 60

# What libraries print goes to standard error: the other end waits for JSON lines. A parent that is killed takes its
# child along (PR_SET_PDEATHSIG).
_CHILD: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
import edgeret
def peak_rss_bytes():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
imported = peak_rss_bytes()
import json
from importlib import import_module
module, name, arguments = sys.argv[1:]
found = getattr(import_module(module), name)(*json.loads(arguments))
while hasattr(found, "send"):
    try:
        print(json.dumps(next(found)), file=answers, flush=True)
    except StopIteration as end:
        found = end.value
peak = peak_rss_bytes()
found = {**(found or {}), "peak_rss_bytes": peak, "rss_over_import_bytes": peak - imported}
print(json.dumps(found), file=answers, flush=True)
os._exit(0)
"""


class Child:
    """A process that calls `module.name(*arguments)`; what a generator yields comes line by line.

    arguments: what JSON holds. The whole ends within `wait_s` seconds, or `hear` raises subprocess.TimeoutExpired; if
    it fails, subprocess.CalledProcessError with what it said last as `stderr`.
    """

    def __init__(
        self,
        module: str,
        name: str,
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        wait_s: float = LONGEST_S,
    ) -> None:
        handle, errors = mkstemp()
        self._errors, self._wait_s = Path(errors), wait_s
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, module, name, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=handle,
            text=True,
            start_new_session=True,
            env={**installed(), "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        os.close(handle)
        self._deadline = time.monotonic() + wait_s
        self._timer = threading.Timer(wait_s, self._kill)
        self._timer.start()

    def hear(self) -> dict[str, Any]:
        """What it yields next or, at last, returns, with its memory in bytes."""
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            if time.monotonic() >= self._deadline:
                raise subprocess.TimeoutExpired(self._process.args, self._wait_s)
            said = self._errors.read_text(errors="replace")
            raise subprocess.CalledProcessError(code, self._process.args, stderr=said)
        found: dict[str, Any] = json.loads(line)
        return found

    def say(self, word: str) -> dict[str, Any]:
        """Write a line to its standard input; what it answers."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._errors.unlink()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def installed() -> dict[str, str]:
    """An environment in which byte code is kept, as that of an installed package is."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(
    module: str,
    name: str,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    wait_s: float = LONGEST_S,
) -> dict[str, Any]:
    """Call `module.name(*arguments)`, which returns a dict or None; return that and its memory in bytes.

    Raises as `Child` does, and shows what a process that fails said.
    """
    with Child(module, name, *arguments, environment=environment, wait_s=wait_s) as child:
        try:
            return child.hear()
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            raise
