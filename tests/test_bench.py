"""`edgeret bench`: one row of figures from this machine, and nothing private in it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_roles import AROUND, small

from edgeret import Document
from edgeret.errors import BackendError
from edgeret.shell import bench, demo
from edgeret.shell.cli import main

DOCUMENTS = 40


@pytest.fixture(scope="module")
def row():
    done = subprocess.run(
        [sys.executable, "-m", "edgeret", "bench", "--docs", str(DOCUMENTS), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_row_tells_what_was_measured_and_on_what(row):
    assert row["documents"] == DOCUMENTS
    assert row["model"] == "small"
    assert row["rounds"] == bench.ROUNDS
    assert row["cpu"]
    assert row["numpy"]
    assert row["scan_rows"] == 1_000_000
    measured = [value for name, value in row.items() if name.endswith(("_ms", "_per_s", "_per_1000"))]
    assert len(measured) == 12
    assert min(measured) > 0
    assert row["encode_ms"] < row["p50_ms"] <= row["p95_ms"]


def test_memory_is_that_of_a_process_of_its_own(row):
    assert 20e6 < row["rss_over_import_bytes"] < row["peak_rss_bytes"]
    assert row["rss_over_import_bytes"] < 120e6


def test_nothing_private_is_told(row):
    private = {str(Path.home()), str(Path.cwd()), sys.prefix, socket.gethostname()} - {"localhost"}
    assert [word for word in private if word in json.dumps(row)] == []


def test_a_model_without_codes_of_256_bits_has_those_that_it_has(tmp_path, monkeypatch):
    narrow = small(tmp_path / "narrow", AROUND["both"])
    monkeypatch.setattr(bench, "SCAN_ROWS", 1000)
    monkeypatch.setattr(
        demo, "corpus", lambda limit: [Document(str(n), f"red cat {n}") for n in range(limit)]
    )
    found = bench.measure(str(narrow.path), documents=5, rounds=2)
    assert (found["bits"], found["documents"]) == (96, 5)


def test_a_search_that_crashes_is_named(tmp_path):
    with pytest.raises(BackendError, match=r"edgeret\.smoke"):
        bench._in_a_process_of_its_own(str(tmp_path / "absent"), "base", 1)


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert main(["bench", "--model", "rowboat"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_no_documents_are_one_line(capsys):
    assert main(["bench", "--docs", "0"]) == 1
    assert "expected at least 1 document, got 0" in capsys.readouterr().err
