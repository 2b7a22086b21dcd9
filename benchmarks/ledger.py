"""The ledger: what has been measured, a JSON object a line, and where it was; lines are only ever added."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.fresh import ROOT
from edgeret import smoke

Line = dict[str, Any]

PATH: Final = Path(__file__).parent / "results" / "systems.jsonl"
SIZES: Final = PATH.with_name("sizes.jsonl")
BOARDS: Final = PATH.with_name("boards.jsonl")
KEY: Final = ("kind", "system", "rows", "threads", "collection", "run", "model", "query_model", "machine")
"""What tells measurements apart; of several lines with the same key the last one counts."""


def read(path: Path = PATH) -> list[Line]:
    """The lines that count, in the order in which their keys first came."""
    found: dict[tuple[Any, ...], Line] = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            # A run that was killed may leave half a line.
            if text.endswith("}"):
                line = json.loads(text)
                found[key(line)] = line
    return list(found.values())


def sizes() -> list[Line]:
    """The lines of `python -m benchmarks sizes`; of two with the same packages the last one counts."""
    return [json.loads(text) for text in SIZES.read_text(encoding="utf-8").splitlines()]


def boards(path: Path = BOARDS) -> list[Line]:
    """The rows of `edgeret bench --json` that users of boards have sent in; none, as long as there is no file."""
    return (
        [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """A line's key; what does not apply is None."""
    return tuple(line.get(name) for name in KEY)


def append(line: Line, packages: Iterable[str], path: Path = PATH) -> None:
    """Add a line, with the versions and the machine that it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, **where(), "versions": versions(packages)}) + "\n")


@cache
def machine() -> str:
    """The processor and how many cores of it there are."""
    found = smoke.machine()
    return f"{found['cpu']}, {found['cpus']} cores"


@cache
def where() -> Line:
    """What all lines of a run share."""
    return {
        "cpu_features": smoke.machine()["cpu_features"],
        "memory_bytes": smoke.machine()["memory_bytes"],
        "system_release": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "revision": revision(),
    }


@cache
def revision() -> str:
    """Of this repository; a plus sign where something is not committed."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "edgeret", "benchmarks/systems"],
        capture_output=True,
        text=True,
        check=False,
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed versions; None for what is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        name = package.partition("==")[0]
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
