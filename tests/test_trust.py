"""docs/trust.md: its tests exist, its commands work, its figures are those of the run that is stored beside it."""

import ast
import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from edgeret import Document, Index

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "trust.md").read_text()
LOG = ROOT / "docs" / "trust.jsonl"


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


def test_every_promise_has_a_test():
    promises = re.findall(r"^\| (.*) \| (.*) \|$", PAGE.split("## Signing")[0], re.MULTILINE)
    named = [
        re.findall(r"`tests/(\w+)\.py::(\w+)`", tests) for promise, tests in promises if promise != "promise"
    ]
    assert len(named) > 15
    assert all(named)
    for file, test in chain.from_iterable(named):
        tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
        assert test in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], (
            f"{file}::{test}"
        )


def test_the_figures_are_those_of_the_stored_run():
    assert table(LOG) in PAGE


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
    print(table(LOG))
