"""The graph on LiteRT, package `ai-edge-litert`, or on its predecessor, `tflite-runtime`.

A graph has a fixed number of tokens: one signature for each length bucket, of which a text takes the smallest that
holds it. A mask says which tokens count, so that padding changes nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from queue import LifoQueue
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.backend import has_graph, unit
from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import Graph
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BackendError

Float32 = NDArray[np.float32]

# Which of a bundle's graphs each package runs. tflite-runtime 2.14 computes dense layers with INT8 weights and a
# scale for each output wrongly, and says nothing; it is right where they become float before they are used.
_GRAPHS: Final = {"ai_edge_litert": "tflite", "tflite_runtime": "tflite_weights"}
_SIGNATURE: Final = "encode_"
_MASK: Final = "mask"
_LONGEST_BUCKET: Final = 1 << 14
# What the packages raise for a graph that they cannot run, an input or output that it lacks or has in another shape or
# dtype, and an allocation that is refused.
_ERRORS: Final = (ValueError, RuntimeError, KeyError, TypeError, MemoryError)

# Growth of the peak RSS on x86-64, rounded up: importing the package, and the tensors of all buckets of six layers
# of 384 dims.
_RUNTIME_BYTES: Final = 12_000_000
_TEXT_BYTES: Final = 14_000_000
# For each byte of the file: each bucket has the weights once more, as the package lays them out, INT8 or float32.
_COPIES: Final = {"ai_edge_litert": 5, "tflite_runtime": 17}


class TfliteBackend:
    """The graph on LiteRT or tflite-runtime, one core for each text."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._package = package = _package()
        try:
            if package == "ai_edge_litert":
                from ai_edge_litert.interpreter import Interpreter
            else:
                from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise BackendError(
                f"expected ai-edge-litert, or tflite-runtime beside a NumPy below 2, found {error}: "
                "pip install ai-edge-litert"
            ) from error
        self._graph = bundle.manifest.graphs[_GRAPHS[package]]
        # Not by its path: the package maps the file, and a file that is cut meanwhile would end the process.
        self._content = bundle.read(self._graph.file)
        self._width = bundle.width
        self._interpreter = Interpreter
        # An interpreter serves one thread at a time. The last one back is the first to go out again.
        self._idle: LifoQueue[_Session | None] = LifoQueue()
        for _ in range(threads - 1):
            self._idle.put(None)
        first = self._open()
        longest = max(first.buckets, default=0)
        if longest < bundle.max_tokens:
            raise BackendError(
                f"expected a graph for {bundle.max_tokens} tokens, found one for {longest}: "
                "install or export the bundle again"
            )
        self._idle.put(first)
        self._table = TokenTable(bundle)

    @staticmethod
    def serves(bundle: Bundle) -> bool:
        """Whether the bundle has the graph that the installed package runs, and the graph's file."""
        return has_graph(bundle, _GRAPHS[_package()])

    @staticmethod
    def installed() -> bool:
        """Whether one of the packages is there."""
        return any(map(find_spec, _GRAPHS))

    @staticmethod
    def planned_bytes(bundle: Bundle, threads: int) -> dict[str, int]:
        """What it adds to the process at most, part by part, in bytes."""
        package = _package()
        graph = bundle.manifest.graphs[_GRAPHS[package]]
        return {
            "runtime library": _RUNTIME_BYTES,
            "session": bundle.manifest.files[graph.file].nbytes * _COPIES[package] * threads,
            "longest texts": _TEXT_BYTES * threads,
        }

    def run(self, ids: list[int]) -> Float32:
        """Token ids -> a unit vector [dim]. Raises BundleError for an id that has no embedding."""
        return unit(self._evaluate(self._table.take(ids)), self._width)

    def evaluate(self, ids: list[int], added: Float32, start: int) -> NDArray[Any]:
        """What the graph gives for token ids, `added` [width] to the embeddings from number `start` on."""
        tokens = self._table.take(ids)
        tokens[start:] += added
        return np.asarray(self._evaluate(tokens))

    def _evaluate(self, tokens: Float32) -> Any:
        session = self._idle.get()
        try:
            session = session or self._open()
            return session.run(tokens)
        except _ERRORS as error:
            self._refuse(error)
        finally:
            self._idle.put(session)

    def _open(self) -> _Session:
        try:
            return _Session(self._interpreter(model_content=self._content, num_threads=1), self._graph)
        except _ERRORS as error:
            self._refuse(error)

    def _refuse(self, error: Exception) -> NoReturn:
        raise BackendError(
            f"expected a graph that {self._package} runs, found {error!s:.1000}: "
            "upgrade it or choose another bundle"
        ) from error


class _Session:
    """One interpreter and its signatures, each started when it is first needed."""

    def __init__(self, interpreter: Any, graph: Graph) -> None:
        self._interpreter, self._graph = interpreter, graph
        self.buckets = sorted(int(key.removeprefix(_SIGNATURE)) for key in interpreter.get_signature_list())
        if self.buckets and not 0 < self.buckets[0] <= self.buckets[-1] <= _LONGEST_BUCKET:
            raise ValueError(f"signatures for {self.buckets[0]} to {self.buckets[-1]} tokens")
        self._runners: dict[int, Any] = {}

    def run(self, tokens: Float32) -> Any:
        count, dim = tokens.shape
        bucket = next(size for size in self.buckets if size >= count)
        if bucket not in self._runners:
            self._runners[bucket] = self._interpreter.get_signature_runner(f"{_SIGNATURE}{bucket}")
        padded, mask = np.zeros((1, bucket, dim), dtype=np.float32), np.zeros((1, bucket), dtype=np.float32)
        padded[:, :count], mask[:, :count] = tokens, 1
        found = self._runners[bucket](**{self._graph.input: padded, _MASK: mask})
        return found[self._graph.output]


def _package() -> str:
    """The installed package, the better one first."""
    return next(filter(find_spec, _GRAPHS), next(iter(_GRAPHS)))
