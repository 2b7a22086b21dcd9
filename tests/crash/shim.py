"""The shim from Python: built once, loaded before a child process, steered from inside of it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")
TESTS = SOURCE.parent.parent


def build(folder: Path) -> Path:
    """Compile the shim into `folder`; skips the test where that cannot be."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim is for Linux: it is loaded by LD_PRELOAD")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler 'cc': install one to run the crash tests")
    library = folder / "shim.so"
    command = [compiler, "-std=c11", "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run([*command, "-lpthread"], check=True)
    return library


def child(
    module: str, *arguments: object, library: Path | None = None, temporary: Path | None = None
) -> list[str]:
    """Run `python -m module arguments...` to its end; its lines of output.

    library: the shim to run it under. temporary: where SQLite puts its temporary files.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment(library) | ({} if temporary is None else {"SQLITE_TMPDIR": str(temporary)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout.splitlines()


def environment(library: Path | None = None) -> dict[str, str]:
    """The environment of a child that finds the tests' modules and, if asked, the shim."""
    found = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    preload = {} if library is None else {"LD_PRELOAD": str(library)}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found)), **preload}


class Shim:
    """The shim of this very process, which was started with it."""

    def __init__(self, folder: Path, log: Path | None = None) -> None:
        self._calls = ctypes.CDLL(None)
        self._calls.shim_count.restype = ctypes.c_long
        name = None if log is None else os.fsencode(log)
        self._calls.shim_watch(os.fsencode(folder.resolve()), name)

    def fail(self, at: int, error: int = 0, lasting: bool = False) -> None:
        """Count from 0; change number `at` fails with errno `error`, all later ones too if it lasts. 0: none."""
        self._calls.shim_fail(ctypes.c_long(at), error, int(lasting))

    def die(self, at: int) -> None:
        """Count from 0 and end the process instead of making change number `at`."""
        self._calls.shim_die(ctypes.c_long(at))

    def read_only(self, error: int) -> None:
        """Refuse whatever asks to write, with errno `error`; 0 ends it."""
        self._calls.shim_read_only(error)

    @property
    def count(self) -> int:
        """Changes since `fail` or `die`."""
        return int(self._calls.shim_count())
