"""edgeret talks to nobody and runs nothing that a file brings."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counts import long
from fake import DIM, random_codec

from edgeret.encode import bundle
from edgeret.encode.manifest import Graph
from edgeret.encode.onnx import OnnxBackend
from edgeret.errors import BackendError

PACKAGE = Path(__file__).parent.parent / "edgeret"

# -- no socket

AUDITED = """
import sys

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        sys.stderr.write(f"refused: {event}\\n")
        sys.stderr.flush()
        import os
        os._exit(99)

sys.addaudithook(refuse)
"""
EVERYTHING = """
import edgeret, edgeret.shell.demo
from edgeret.shell.cli import main
edgeret.shell.demo.ENTRIES = 20
open("notes.txt", "w").write("Hold the button to reset the Wi-Fi.")
for argv in (
    ["index", "x.edgeret", "notes.txt", "--filter", "lang"],
    ["search", "x.edgeret", "my wireless is broken", "--mode", "hybrid", "--where", '{"lang": {"$exists": false}}'],
    ["list", "x.edgeret"], ["count", "x.edgeret", "--by", "lang"], ["export", "x.edgeret"],
    ["update", "x.edgeret", '{"year": 2024}', "notes.txt"], ["info", "x.edgeret"],
    ["check", "x.edgeret"], ["backup", "x.edgeret", "y.edgeret"],
    ["seal", "x.edgeret", "z.edgeret"], ["delete", "x.edgeret", "notes.txt", "--erase"], ["compact", "x.edgeret"],
    ["models"], ["demo"], ["--version"],
):
    try:
        assert main(argv) == 0, argv
    except SystemExit as end:
        assert end.code == 0, argv
with open("update", "wb") as file:
    edgeret.diff("x.edgeret", "y.edgeret", file)
assert main(["apply", "x.edgeret", "update"]) == 0
"""
SOCKETS = {
    "plain": "import socket; socket.socket()",
    "pair": "import socket; socket.socketpair()",
    "name": "import socket; socket.getaddrinfo('localhost', 80)",
}
# For what is not Python.
GUARD = """
#include <unistd.h>
static int refuse(void) { static const char said[] = "refused: socket\\n"; write(2, said, sizeof said - 1); _exit(99); }
int socket(int domain, int type, int protocol) { (void)domain, (void)type, (void)protocol; return refuse(); }
int getaddrinfo(void) { return refuse(); }
int socketpair(int domain, int type, int protocol, int ends[2]) {
  (void)domain, (void)type, (void)protocol, (void)ends;
  return refuse();
}
"""


def run(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PACKAGE.parent), **environment}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler named cc and Linux are missing: sockets of C code are not watched")
    source = tmp_path_factory.mktemp("guard") / "guard.c"
    source.write_text(GUARD)
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, source], check=True)
    return str(library)


@pytest.mark.parametrize("socket", SOCKETS.values(), ids=SOCKETS)
def test_the_audit_sees_a_socket(tmp_path, socket):
    assert run(AUDITED + socket, tmp_path).returncode == 99


def test_the_guard_sees_a_socket(tmp_path, guard):
    for name in ("plain", "pair"):
        assert run(SOCKETS[name], tmp_path, LD_PRELOAD=guard).returncode == 99


def test_nothing_opens_a_socket_nor_keeps_notes_about_the_user(tmp_path):
    """onnxruntime would: an id of the device, and events that it sends some seconds later."""
    home = tmp_path / "home"
    home.mkdir()
    done = run(AUDITED + EVERYTHING, tmp_path, HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []


@long
def test_no_library_opens_a_socket(tmp_path, guard):
    done = run(EVERYTHING, tmp_path, LD_PRELOAD=guard)
    assert done.returncode == 0, done.stderr


# -- nothing that could run what a file brings

FORBIDDEN_MODULES = {
    "pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "ctypes", "cffi", "runpy", "code",
    "subprocess", "multiprocessing", "socket", "ssl", "urllib.request", "http", "ftplib", "asyncio", "requests",
    "importlib", "zipfile", "tarfile", "shutil", "logging",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "system", "popen", "load_extension", "enable_load_extension",
    "register_custom_ops_library", "from_pretrained", "fromfile", "allow_pickle",
}  # fmt: skip
ALLOWED = {"importlib.metadata", "importlib.util.find_spec", "re.compile"}


def forbidden(source: str) -> list[str]:
    """Names of modules and calls in `source` that run or fetch something."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called not in ALLOWED and (called.split(".")[-1] in FORBIDDEN_CALLS or called == "np.load"):
                found.append(called)
            found += [keyword.arg for keyword in node.keywords if keyword.arg in FORBIDDEN_CALLS]
        for name in names:
            parts = name.split(".")
            beginnings = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            if beginnings & FORBIDDEN_MODULES and not beginnings & ALLOWED:
                found.append(name)
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from os import path\nfrom ctypes import CDLL", "eval('1')", "import os; os.system('x')",
     "np.load(x)", "f(allow_pickle=True)", "import urllib.request", "from importlib import import_module"],
)  # fmt: skip
def test_what_is_forbidden_is_seen(source):
    assert forbidden(source)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_module_runs_or_fetches_anything(path):
    # The smoke test tries what is installed in a process of its own, which may crash, and `bench` measures the memory
    # of one; `platform.system` reads like a call of the system, and tells its name.
    # `edgeret serve` is asked to listen.
    allowed = {
        "smoke": {"multiprocessing", "platform.system"},
        "bench": {"multiprocessing"},
        "web": {"socket"},
        # Parts of a book are read in memory, none is unpacked; a log of another package is silenced.
        "office": {"zipfile", "logging"},
    }
    assert {*forbidden(path.read_text())} - allowed.get(path.stem, set()) == set()


# -- no operator but onnxruntime's own


def field(number: int, content: bytes | int) -> bytes:
    """A field of a protocol buffer; lengths and numbers below 128."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2, len(content)]) + content


def graph_of(domain: bytes, operator: bytes) -> bytes:
    """An ONNX model of one node, by hand: ModelProto, onnx.proto."""
    vector = field(1, field(1, 1) + field(2, field(1, field(1, 1))))
    node = field(1, b"x") + field(2, b"y") + field(4, operator) + field(7, domain)
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + field(2, vector)) + field(12, field(1, b"y") + field(2, vector))
    opsets = field(8, field(1, b"") + field(2, 17)) + field(8, field(1, domain) + field(2, 1))
    return field(1, 8) + field(7, graph) + (opsets if domain else field(8, field(1, b"") + field(2, 17)))


def write(folder: Path, model: bytes) -> bundle.Bundle:
    return bundle.write(
        folder,
        bundle.Content(
            name="tiny",
            max_tokens=16,
            geometry="ab" * 16,
            codec=random_codec(),
            kind="transformer",
            graphs={"onnx": Graph("model.onnx", "x", "y")},
            tensors={
                "tokens.bin": {"tokens": np.ones((5, DIM), np.int8), "token_scales": np.ones(5, np.float32)}
            },
            files={"model.onnx": model},
            about={},
        ),
    )


def test_an_operator_of_a_foreign_domain_is_refused_by_name(tmp_path):
    OnnxBackend(write(tmp_path / "sound", graph_of(b"", b"Identity")))
    with pytest.raises(BackendError, match="Backdoor"):
        OnnxBackend(write(tmp_path / "hostile", graph_of(b"com.example", b"Backdoor")))
