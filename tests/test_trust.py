"""docs/trust.md: its tests exist, its commands work, its figures are those of the run that is stored beside it."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from counts import long

from edgeret import Document, Index

ROOT = Path(__file__).parent.parent
PAGE_FILE = ROOT / "docs" / "trust.md"
PAGE = PAGE_FILE.read_text()
LOG = ROOT / "docs" / "trust.jsonl"
NAMED = r"`tests/(\w+)\.py::(\w+)`"


def table(log: Path) -> str:
    """The lines that EDGERET_TRUST_LOG has collected, as a table."""
    rows = ["| test | counts | seconds |", "|---|---|---|"]
    for line in sorted(log.read_text().splitlines()):
        counts = json.loads(line)
        test, seconds = counts.pop("test"), counts.pop("seconds")
        shown = ", ".join(
            f"{name.replace('_', ' ')}: {value:,}"
            if isinstance(value, int)
            else f"{name.replace('_', ' ')}: {value}"
            for name, value in counts.items()
        )
        rows.append(f"| `{test}` | {shown} | {seconds:,} |")
    return "\n".join(rows)


def merge(run: Path) -> None:
    """Put the counts of a run in the place of older ones of the same tests, in the log and on the page."""
    shown = table(LOG)
    lines = [*LOG.read_text().splitlines(), *run.read_text().splitlines()]
    newest = {json.loads(line)["test"]: line for line in lines}
    LOG.write_text("".join(f"{line}\n" for _, line in sorted(newest.items())))
    PAGE_FILE.write_text(PAGE_FILE.read_text().replace(shown, table(LOG)))


@long
def test_every_promise_has_a_test():
    promises = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.split("## Signing")[0], re.MULTILINE)
    promised = [tests for promise, tests in promises if promise != "promise"]
    assert len(promised) > 15
    assert all(re.findall(NAMED, tests) for tests in promised)
    for file, test in re.findall(NAMED, PAGE):
        tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
        assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], (
            f"{file}::{test}"
        )


def test_the_figures_are_those_of_the_stored_run():
    assert table(LOG) in PAGE


def test_a_run_takes_the_place_of_an_older_one(tmp_path, monkeypatch):
    log, page, run = tmp_path / "log", tmp_path / "page", tmp_path / "run"
    log.write_text('{"test": "b", "files": 1, "seconds": 2.0}\n{"test": "c", "kills": 3, "seconds": 4.0}\n')
    run.write_text(
        '{"test": "b", "files": 5000, "seconds": 6.0}\n{"test": "a", "points": 7, "seconds": 8.0}\n'
    )
    page.write_text(f"before\n\n{table(log)}\n\nbehind\n")
    monkeypatch.setitem(globals(), "LOG", log)
    monkeypatch.setitem(globals(), "PAGE_FILE", page)
    merge(run)
    rows = ["| `a` | points: 7 | 8.0 |", "| `b` | files: 5,000 | 6.0 |", "| `c` | kills: 3 | 4.0 |"]
    assert table(log).splitlines()[2:] == rows
    assert page.read_text() == f"before\n\n{table(log)}\n\nbehind\n"


def test_the_shown_commands_work(tmp_path):
    if subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the openssl command is missing")
    with Index.create(tmp_path / "house.edgeret") as index:
        index.add([Document("wifi", "Hold the button to reset the Wi-Fi.")])
    (commands,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (script,) = re.findall(r"^```py\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    shell = f'set -eu\nedgeret() {{ "{sys.executable}" -m edgeret "$@"; }}\n{commands}'
    for argv in (["sh", "-c", shell], [sys.executable, "-c", f"{script}print(len(index))"]):
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"


if __name__ == "__main__":
    for run in sys.argv[1:]:
        merge(Path(run))
    print(table(LOG))
