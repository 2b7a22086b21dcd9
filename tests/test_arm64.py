"""The aarch64 wheel on emulated processors, beside this machine's own edgeret.

`make test-arm64` lays the machine out (tests/arm64/fetch) and runs this: Debian's Python and the published wheels,
run by qemu's user-mode emulation. It proves that they run and agree; it says nothing of speed.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import BACKENDS
from edgeret.shell.demo import corpus
from export import verify

ROOT = Path(__file__).parent.parent
MACHINE = Path(os.environ.get("EDGERET_ARM64", "no-machine")).resolve()
pytestmark = pytest.mark.skipif(
    not MACHINE.is_dir(), reason="needs the emulated machine that make test-arm64 lays out"
)

# The processors of a Raspberry Pi 4 and 5: without and with the dot product of int8.
PROCESSORS = {"cortex-a72": ["neon", "plain"], "cortex-a76": ["neon-dot", "neon", "plain"]}
RUNTIMES = {"onnx": ["onnx"], "tflite": ["tflite"], "static": []}
# TFLite files are made in folders of their own; those of `base` would take minutes.
FOLDERS = {"onnx": "models/*", "tflite": "build/tflite/small", "static": "models/*"}
SERVED = [
    (str(path.parent), backend)
    for backend, kind in BACKENDS.items()
    for path in sorted(ROOT.glob(f"{FOLDERS[backend]}/manifest.json"))
    if MACHINE.is_dir() and kind.serves(Bundle.open(path.parent))
]

SAME = {"cosine": 0.999, "equal_bits": 0.985, "overlap": 0.99}
"""Least shares between two machines, or one and the bundle's golden vectors."""
OTHER_RUNTIME = {"cosine": 0.99, "equal_bits": 0.95, "overlap": 0.9}
"""The same for LiteRT: golden vectors are onnxruntime's."""

NOTES = {
    "wifi": "Hold the button for five seconds to reset the Wi-Fi.",
    "lamp": "The lamp turns red when its battery is low.",
    "oven": "Preheat the oven to 200 degrees before baking.",
    "door": "The door opens with the card or with the code.",
    "bread": "Knead the dough for ten minutes and let it rest until it has doubled.",
    "boiler": "The boiler shows error E133 when the gas valve is closed.",
}
QUESTIONS = ["my wireless is broken", "how do I bake a loaf"]
ENCODE = """
import json, sys
from pathlib import Path
import numpy as np
from edgeret import Encoder
model, backend, texts, vectors = sys.argv[1:]
np.save(vectors, Encoder.load(model, backend).encode(json.loads(Path(texts).read_text())))
"""
VERBS = """
import contextlib, io, json, sys
from edgeret.shell.cli import main
told = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main(arguments)
    assert code == 0, arguments
    told.append(json.loads(printed.getvalue()))
print(json.dumps(told))
"""
"""Several commands in one process, as most of the time goes into starting one under emulation."""

served = pytest.mark.parametrize(
    ("model", "backend"), SERVED, ids=[f"{Path(model).name}-{backend}" for model, backend in SERVED]
)


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    return request.param


def emulated(processor: str, runtimes: list[str], *arguments: str, cwd: Path) -> str:
    """Run the emulated machine's Python with the wheel and these runtimes only; what it printed."""
    site = [str(MACHINE / name) for name in ("package", "site", *runtimes)]
    machine = ["qemu-aarch64-static", "-cpu", processor, "-L", str(MACHINE / "root")]
    return run([*machine, str(MACHINE / "root/usr/bin/python3"), "-P", *arguments], site, cwd)


def native(*arguments: str, cwd: Path) -> str:
    """Run this machine's own Python; what it printed."""
    return run([sys.executable, "-P", *arguments], [str(ROOT)], cwd)


def run(command: list[str], site: list[str], cwd: Path) -> str:
    # What is tried at random is tried in full by this machine's own kernels; emulated ones take fifteen times as long.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(site), "CI": ""}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def page_bytes(library: Path) -> int:
    """The largest memory page under which the loader accepts an ELF library of 64 bits."""
    with library.open("rb") as file:
        header = file.read(64)
        start, size, count = (
            int.from_bytes(header[at:end], "little") for at, end in ((32, 40), (54, 56), (56, 58))
        )
        file.seek(start)
        segments = [file.read(size) for _ in range(count)]
    is_loaded = (1).to_bytes(4, "little")
    return min(int.from_bytes(one[48:56], "little") for one in segments if one.startswith(is_loaded))


def test_libraries_load_where_pages_have_16_kb() -> None:
    """As on a Raspberry Pi 5; the emulated pages have 4 KB, so this looks at the files."""
    folders = [MACHINE / name for name in ("package", "site", "onnx", "tflite")]
    libraries = [path for folder in folders for path in folder.rglob("*.so*") if path.is_file()]
    assert {path.name for path in libraries} >= {"_scan.abi3.so", "_static.abi3.so"}
    assert [path.name for path in libraries if page_bytes(path) < 16384] == []


def test_the_kernels_pass_their_own_tests(processor: str, tmp_path: Path) -> None:
    # NumPy's builds do not depend on the processor: once is enough.
    chosen = [] if processor == "cortex-a76" else ["-k", "neon or static"]
    tests = [str(ROOT / "tests" / name) for name in ("test_scan.py", "test_static.py")]
    # Bundles made by hand have no tables.
    told = emulated(
        processor,
        ["tokenizers"],
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        *tests,
        *chosen,
        cwd=tmp_path,
    )
    assert " passed" in told
    assert "skipped" not in told


def test_every_backend_is_served() -> None:
    assert {backend for _, backend in SERVED} == set(BACKENDS)


@served
def test_a_real_query_runs(processor: str, model: str, backend: str, tmp_path: Path) -> None:
    told = emulated(
        processor, RUNTIMES[backend], "-m", "edgeret.smoke", "--json", "--model", model, cwd=tmp_path
    )
    report = json.loads(told)
    assert report["failed"] is None
    assert report["system"].endswith("aarch64")
    assert report["scan"] == f"native-{PROCESSORS[processor][0]}"
    assert report["instruction_sets"] == PROCESSORS[processor]
    assert report["backend"] == backend


@served
def test_an_index_of_either_machine_is_searched_on_the_other(
    processor: str, model: str, backend: str, tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    for name, text in NOTES.items():
        (tmp_path / "notes" / f"{name}.md").write_text(text)

    def verbs(*commands: str) -> str:
        return json.dumps([[*shlex.split(command), "--json", "--model", model] for command in commands])

    def here(*commands: str) -> list[Any]:
        return json.loads(native("-c", VERBS, verbs(*commands), cwd=tmp_path))

    def there(*commands: str) -> list[Any]:
        return json.loads(emulated(processor, RUNTIMES[backend], "-c", VERBS, verbs(*commands), cwd=tmp_path))

    # All of the documents: whether two that are nearly as good change places is not judged.
    searches = [
        f"search {path} '{question}' -k {len(NOTES)}"
        for path in ("here.edgeret", "there.edgeret")
        for question in QUESTIONS
    ]
    here("index here.edgeret notes")
    _, checked, *found = there("index there.edgeret notes", "check here.edgeret", *searches)
    assert checked["documents"] == len(NOTES)
    checked, *expected = here("check there.edgeret", *searches)
    assert checked["documents"] == len(NOTES)
    for hits, others in zip(found, expected, strict=True):
        scores = {hit["id"]: hit["score"] for hit in others}
        assert {hit["id"]: hit["score"] for hit in hits} == pytest.approx(scores, abs=0.03)


@served
def test_vectors_are_the_same_on_either_machine(
    processor: str, model: str, backend: str, tmp_path: Path, trust
) -> None:
    bundle = Bundle.open(model)
    golden = bundle.golden()
    texts = golden.texts + [document.text[:120] for document in corpus(36)]
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    native("-c", ENCODE, model, backend, "texts.json", "here.npy", cwd=tmp_path)
    emulated(
        processor, RUNTIMES[backend], "-c", ENCODE, model, backend, "texts.json", "there.npy", cwd=tmp_path
    )
    here, there = np.load(tmp_path / "here.npy"), np.load(tmp_path / "there.npy")
    codec = bundle.codec()
    compared = {
        "x86-64": (here, SAME),
        "golden": (golden.own, OTHER_RUNTIME if backend == "tflite" else SAME),
    }
    for against, (vectors, gates) in compared.items():
        figures = verify.compare(there[: len(vectors)], vectors, codec)
        trust(
            bundle=bundle.name,
            backend=backend,
            processor=processor,
            against=against,
            texts=len(vectors),
            **figures,
        )
        assert {name: figures[name] for name, least in gates.items() if not figures[name] >= least} == {}
