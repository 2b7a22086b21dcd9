"""The smoke run tells what runs here, names what fails, and keeps the rest to itself."""

import getpass
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeret import scan
from edgeret.encode import bundle

NAMES = {
    "edgeret", "numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "python", "sqlite",
    "system", "libc", "board", "cpu", "cpu_features", "cpus", "page_bytes", "memory_bytes",
    "scan", "instruction_sets", "bundle", "space", "backend", "load_ms", "first_encode_ms", "encode_ms",
    "golden_likeness_mean", "golden_likeness_worst", "index_ms", "search_ms", "peak_rss_bytes", "failed",
}  # fmt: skip
CRASH = "os.kill(os.getpid(), signal.SIGILL)"


def smoke(*arguments: str, change: str = "") -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, after a `change` to the module."""
    script = (
        f"import os, signal, sys\nfrom edgeret import smoke\n{change}\nsys.exit(smoke.main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def sound() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeret.smoke", "--json"], capture_output=True, text=True, check=False
    )


def test_a_sound_installation_passes(sound):
    assert (sound.returncode, sound.stderr) == (0, "")
    report = json.loads(sound.stdout)
    assert report.keys() == NAMES
    assert report["failed"] is None
    assert report["numpy"] == np.__version__
    assert report["python"].endswith(platform.python_version())
    assert report["scan"] == scan.backend()
    assert report["instruction_sets"] == list(scan.instruction_sets())
    assert report["bundle"] in bundle.available()
    assert 0.999 <= report["golden_likeness_mean"] <= 1.000001
    assert 0 < report["encode_ms"] < report["first_encode_ms"]


def test_nothing_private_is_told(sound):
    private = {str(Path.home()), str(Path.cwd()), sys.prefix, socket.gethostname()} - {"localhost"}
    assert not re.search(r"""[\s"']/""", sound.stdout)
    assert not [word for word in private if word in sound.stdout]
    if getpass.getuser() != "root":
        assert getpass.getuser() not in sound.stdout


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (f"smoke.Encoder.load = lambda model: {CRASH}", "load: Illegal instruction"),
        (f"smoke.Encoder.encode = lambda encoder, texts: {CRASH}", "encode: Illegal instruction"),
        ("smoke.LEAST_LIKENESS = 1.1", "golden vectors: edgeret.errors.BackendError: expected "),
        ("smoke._NOTES['lamp'] = ''", "index: edgeret.errors.InvalidDocumentError: "),
        ("smoke._ANSWER = 'oven'", "search: edgeret.errors.BackendError: expected 'oven' first, found "),
        ("smoke.Index.check = lambda index: 1 / 0", "check: ZeroDivisionError: division by zero"),
    ],
    ids=["crash at once", "crash in the runtime", "golden", "document", "answer", "any error"],
)
def test_a_failure_is_named_by_its_step(change, failed):
    done = smoke(change=change)
    assert done.returncode == 1
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith(f"failed: {failed}")


def test_a_damaged_bundle_is_named_without_its_path(tmp_path):
    damaged = shutil.copytree(bundle.Bundle.open(bundle.DEFAULT_MODEL).path, tmp_path / "ann" / "mine")
    (damaged / "tokens.bin").write_bytes(b"")
    done = smoke("--json", "--model", str(damaged))
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["failed"].startswith(
        "load: edgeret.errors.BundleError: bundle (models)/mine: expected tokens.bin "
    )
    assert "ann" not in done.stdout
    assert report["scan"] == scan.backend()


def test_wrong_usage_is_refused():
    assert smoke("--modle", "base").returncode == 2


@pytest.mark.parametrize("name", bundle.available())
def test_every_bundle_answers(name):
    done = smoke("--json", "--model", name)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["failed"] is None
