"""The TFLite backend on a stand-in for its packages, which computes in NumPy what a graph would."""

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
from test_encoder import copy

from edgeret.encode import tflite
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import Graph
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BackendError

BUCKETS = (16, 32, 256)
GRAPHS = {name: Graph(f"{name}.tflite", "tokens", "vector") for name in ("tflite", "tflite_weights")}


class Interpreter:
    """The unit mean of the tokens that the mask names."""

    buckets: ClassVar = BUCKETS
    fault: ClassVar = ""
    opened: ClassVar[list["Interpreter"]] = []

    def __init__(self, model_content: bytes, num_threads: int) -> None:
        assert num_threads == 1
        if self.fault == "broken":
            raise ValueError("not a flatbuffer")
        self.content = model_content
        self.busy = threading.Lock()
        self.ran: list[tuple[int, int]] = []
        self.opened.append(self)

    def get_signature_list(self):
        return {f"encode_{size}": {} for size in self.buckets}

    def get_signature_runner(self, key):
        size = int(key.removeprefix("encode_"))

        def run(tokens, mask):
            assert self.busy.acquire(blocking=False), "two threads in one interpreter"
            try:
                assert tokens.shape[:2] == mask.shape == (1, size)
                assert tokens.dtype == mask.dtype == np.float32
                assert not tokens[mask == 0].any()
                self.ran.append((size, int(mask.sum())))
                total = tokens[0].T @ mask[0]
                if self.fault == "garbage":
                    total = total[::-1]
                return {"vector": (total / np.linalg.norm(total))[None]}
            finally:
                self.busy.release()

        return run


@pytest.fixture
def package(monkeypatch):
    """Makes the stand-in the only installed package, under a name."""

    def install(name: str) -> None:
        for other in ("ai_edge_litert", "tflite_runtime"):
            monkeypatch.setitem(sys.modules, other, None)
        module, inner = ModuleType(name), ModuleType(f"{name}.interpreter")
        module.__spec__ = ModuleSpec(name, None)
        inner.Interpreter = Interpreter
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, inner.__name__, inner)

    monkeypatch.setattr(Interpreter, "opened", [])
    return install


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Bundle:
    """A copy of `base` whose golden vectors are the stand-in's."""
    known, pipeline = Bundle.open("base").golden(), Encoder.load("base")._pipeline()
    text, own = known.texts[0], known.own.copy()
    total = TokenTable(Bundle.open("base")).take(pipeline.tokenizer.tokenize(text).ids).sum(axis=0)
    own[0] = total / np.linalg.norm(total)
    files = {graph.file: graph.file.encode() for graph in GRAPHS.values()}
    return copy(tmp_path_factory.mktemp("bundle"), known._replace(own=own), graphs=GRAPHS, files=files)


@pytest.mark.parametrize(
    ("name", "file"), [("ai_edge_litert", "tflite.tflite"), ("tflite_runtime", "tflite_weights.tflite")]
)
def test_each_package_gets_the_file_that_it_runs(made, package, name, file):
    package(name)
    assert Encoder.load(made.path, "tflite").encode(["the boiler"]).shape == (1, 384)
    assert [interpreter.content for interpreter in Interpreter.opened] == [file.encode()]


def test_a_text_takes_the_smallest_bucket_that_holds_it(made, package):
    package("ai_edge_litert")
    encoder = Encoder.load(made.path, "tflite")
    encoder.encode(["x"])
    (interpreter,) = Interpreter.opened
    interpreter.ran.clear()
    encoder.encode([" ".join(["the"] * (count - 2)) for count in (3, 16, 17, 32, 33, 256, 300)])
    assert interpreter.ran == [(16, 3), (16, 16), (32, 17), (32, 32), (256, 33), (256, 256), (256, 256)]


def test_threads_have_an_interpreter_each_and_no_more(made, package):
    package("ai_edge_litert")
    texts = [f"text {number}" for number in range(200)]
    expected = Encoder.load(made.path, "tflite").encode(texts)
    Interpreter.opened.clear()
    encoder = Encoder.load(made.path, "tflite", threads=3)
    assert encoder.encode(texts).tobytes() == expected.tobytes()
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda text: encoder.encode([text])[0], texts))
    assert np.stack(found).tobytes() == expected.tobytes()
    assert 1 <= len(Interpreter.opened) <= 3


def test_the_second_of_two_texts_is_known_by_what_is_added_to_its_tokens(made, package):
    package("ai_edge_litert")
    table, added = TokenTable(made), np.linspace(-1, 1, 384, dtype=np.float32)
    tokens = table.take([5, 6, 7])
    total = tokens.sum(axis=0) + 2 * added
    found = tflite.TfliteBackend(made).evaluate([5, 6, 7], added, 1)
    np.testing.assert_allclose(found, [total / np.linalg.norm(total)], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table.take([5, 6, 7]), tokens)


def test_garbage_is_refused_by_name(made, package, monkeypatch):
    package("tflite_runtime")
    monkeypatch.setattr(Interpreter, "fault", "garbage")
    with pytest.raises(BackendError, match="'tflite' backend to repeat the bundle's golden vector"):
        Encoder.load(made.path, "tflite").encode(["x"])


def test_a_file_that_the_package_cannot_read_is_refused(made, package, monkeypatch):
    package("ai_edge_litert")
    monkeypatch.setattr(Interpreter, "fault", "broken")
    with pytest.raises(BackendError, match="ai_edge_litert runs, found not a flatbuffer: upgrade"):
        Encoder.load(made.path, "tflite").encode(["x"])


def test_buckets_that_do_not_hold_the_longest_text_are_refused(made, package, monkeypatch):
    package("ai_edge_litert")
    for buckets in ((), (16, 32)):
        monkeypatch.setattr(Interpreter, "buckets", buckets)
        with pytest.raises(BackendError, match="expected a graph for 256 tokens, found one for"):
            Encoder.load(made.path, "tflite").encode(["x"])


def test_without_a_package_the_message_says_which(made, monkeypatch):
    for name in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not tflite.TfliteBackend.installed()
    with pytest.raises(BackendError, match="pip install ai-edge-litert"):
        Encoder.load(made.path, "tflite").encode(["x"])


def test_what_is_installed_is_the_default(made, package, monkeypatch):
    package("ai_edge_litert")
    assert Encoder.load(made.path).backend == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert Encoder.load(made.path).backend == "tflite"
    package("onnx_elsewhere")
    assert Encoder.load(made.path).backend == "onnx"


def test_a_bundle_whose_files_an_installation_left_out_is_whole(made, package, tmp_path):
    package("ai_edge_litert")
    lean = tmp_path / "lean"
    shutil.copytree(made.path, lean, ignore=shutil.ignore_patterns("*.tflite"))
    assert Encoder.load(lean).backend == "onnx"
    with pytest.raises(BackendError, match="'tflite': choose 'onnx'"):
        Encoder.load(lean, "tflite")


def test_memory_is_planned_for_each_thread(made, package):
    for name in ("ai_edge_litert", "tflite_runtime"):
        package(name)
        one, three = (Encoder.load(made.path, "tflite", threads).planned_bytes for threads in (1, 3))
        assert three["session"] == 3 * one["session"]
        assert three["runtime library"] == one["runtime library"]
