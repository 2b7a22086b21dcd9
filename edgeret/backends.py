"""What runs a bundle's graph: onnxruntime, or NumPy alone where there is no graph."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.bundle import Bundle
from edgeret.errors import BackendError

Float32 = NDArray[np.float32]

# Growth of the peak RSS on x86-64, rounded up: importing onnxruntime, and repeated texts of 256 tokens through
# six layers of 384 dims.
_RUNTIME_BYTES: Final = 28_500_000
_TEXT_BYTES: Final = 10_500_000
_STATIC_TEXT_BYTES: Final = 1_500_000


class Backend(Protocol):
    """What runs a bundle's graph. Called from several threads at once."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Start it for `threads` texts at once. Raises BackendError if it cannot run the bundle."""

    @staticmethod
    def serves(bundle: Bundle) -> bool:
        """Whether the bundle has what it runs."""
        ...

    @staticmethod
    def installed() -> bool:
        """Whether its package is there; nothing is imported."""
        ...

    @staticmethod
    def planned_bytes(bundle: Bundle, threads: int) -> dict[str, int]:
        """What it adds to the process at most, part by part, in bytes."""
        ...

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        ...


class OnnxBackend:
    """The graph on onnxruntime, one core for each text."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        # Else it sends events about its use to its maker; it looks once, when it is imported.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as states
        except ImportError as error:
            raise BackendError(
                "expected onnxruntime, found no such package: pip install onnxruntime"
            ) from error
        graph = bundle.manifest.graphs["onnx"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The arena keeps the memory of the longest text; yet its peak is lower, and long texts are faster, than
        # where each buffer is the allocator's: freed ones leave holes, or must be cleared page by page.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        path = str(bundle.file(graph.file))
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (
            states.Fail,
            states.InvalidArgument,
            states.InvalidGraph,
            states.InvalidProtobuf,
            states.NotImplemented,
        ) as error:
            raise BackendError(
                f"expected a graph that onnxruntime {onnxruntime.__version__} runs, found {error}: "
                "upgrade onnxruntime or choose another bundle"
            ) from error
        self._graph = graph

    @staticmethod
    def serves(bundle: Bundle) -> bool:
        """Whether the bundle has a graph for it, and the graph's file."""
        return has_graph(bundle, "onnx")

    @staticmethod
    def installed() -> bool:
        """Whether onnxruntime is there."""
        return find_spec("onnxruntime") is not None

    @staticmethod
    def planned_bytes(bundle: Bundle, threads: int) -> dict[str, int]:
        """What it adds to the process at most, part by part, in bytes."""
        graph = bundle.manifest.graphs["onnx"]
        return {
            "runtime library": _RUNTIME_BYTES,
            "session": bundle.manifest.files[graph.file].nbytes * 7 // 4,
            "longest texts": _TEXT_BYTES * threads,
        }

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        vector: Float32 = self._session.run([self._graph.output], {self._graph.input: tokens})[0][0]
        return vector


class StaticBackend:
    """No graph: the sum of the token embeddings, and a small network that corrects its direction. NumPy only."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        hidden = len(bundle.tensor("inner_bias"))
        self._inner, self._inner_bias = _dense(bundle, "inner", (hidden, bundle.dim))
        self._outer, self._outer_bias = _dense(bundle, "outer", (bundle.dim, hidden))

    @staticmethod
    def serves(bundle: Bundle) -> bool:
        """Whether the bundle is a static one."""
        return bundle.manifest.kind == "static"

    @staticmethod
    def installed() -> bool:
        """True: it is NumPy's."""
        return True

    @staticmethod
    def planned_bytes(bundle: Bundle, threads: int) -> dict[str, int]:
        """What it adds to the process at most, part by part, in bytes."""
        tensors = bundle.manifest.tensors
        # The weights as float32, four bytes each.
        head = 4 * (tensors["inner"].nbytes + tensors["outer"].nbytes)
        return {"head": head, "longest texts": _STATIC_TEXT_BYTES * threads}

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        total = _unit(np.add.reduce(tokens[0]))
        inner = self._inner @ total
        inner += self._inner_bias
        np.maximum(inner, 0, out=inner)
        total += self._outer @ inner
        total += self._outer_bias
        return _unit(total)


def has_graph(bundle: Bundle, name: str) -> bool:
    """Whether the bundle names a graph for this backend and holds its file: an installation may leave it out."""
    graph = bundle.manifest.graphs.get(name)
    return graph is not None and (bundle.path / graph.file).is_file()


def _dense(bundle: Bundle, name: str, shape: tuple[int, int]) -> tuple[Float32, Float32]:
    """A dense layer: weights float32 [outputs, inputs], stored as int8 with a scale for each output, and biases."""
    weights = bundle.shaped(name, "int8", shape)
    scales = bundle.shaped(name + "_scales", "float32", shape[:1])
    return weights * scales[:, None], np.array(bundle.shaped(name + "_bias", "float32", shape[:1]))


def _unit(vector: Float32) -> Float32:
    length = float(np.sqrt(vector @ vector))
    return vector / np.float32(length) if length else vector
