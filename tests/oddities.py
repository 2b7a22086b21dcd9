"""Oddities: what may lie where a file is expected, and an alarm for whoever waits on it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def laid(path: Path, kind: str) -> Iterator[None]:
    """Something at `path` that is no file: a "pipe", a "socket", or a "device" that never ends."""
    listener = None
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        # Bound by a relative name: that of a socket is short.
        before = Path.cwd()
        os.chdir(path.parent)
        try:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path.name)
        finally:
            os.chdir(before)
    try:
        yield
    finally:
        if listener:
            listener.close()
        path.unlink()


@contextmanager
def alarm(seconds: float = 10.0) -> Iterator[None]:
    """Fails whatever takes longer, a system call that waits included."""

    def ring(*_: object) -> None:
        raise AssertionError(f"hangs for {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
