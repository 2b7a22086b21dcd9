"""Nobody: the user that a test becomes to have no permission."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

USER: Final = 65534


def run(work: Callable[[], None]) -> None:
    """Run `work` as a user whom permissions bind: in a child that is nobody where this process is root's."""
    if os.getuid():
        work()
        return
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgid(USER)
            os.setuid(USER)
            work()
        except BaseException as error:  # noqa: BLE001
            os.write(writer, "".join(traceback.format_exception(error))[-2000:].encode())
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    with os.fdopen(reader) as said:
        told = said.read()
    assert not told, told


def give(folder: Path) -> None:
    """Let a folder and its files be nobody's, if this process may give them away."""
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, USER, USER)
