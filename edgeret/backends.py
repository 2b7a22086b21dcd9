"""What runs a bundle, and the first of them: its graph on onnxruntime."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.bundle import Bundle
from edgeret.errors import BackendError
from edgeret.tokens import TokenTable

Float32 = NDArray[np.float32]

# Growth of the peak RSS on x86-64, rounded up: importing onnxruntime, and repeated texts of 256 tokens through
# six layers of 384 dims.
_RUNTIME_BYTES: Final = 28_500_000
_TEXT_BYTES: Final = 10_500_000


class Backend(Protocol):
    """What runs a bundle. Called from several threads at once."""

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

    def run(self, ids: list[int]) -> Float32:
        """Token ids -> a unit vector [dim]. Raises BundleError for an id that has no embedding."""
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
        self._table = TokenTable(bundle)

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

    def run(self, ids: list[int]) -> Float32:
        """Token ids -> a unit vector [dim]. Raises BundleError for an id that has no embedding."""
        tokens = self._table.take(ids)[None]
        vector: Float32 = self._session.run([self._graph.output], {self._graph.input: tokens})[0][0]
        return vector


def has_graph(bundle: Bundle, name: str) -> bool:
    """Whether the bundle names a graph for this backend and holds its file: an installation may leave it out."""
    graph = bundle.manifest.graphs.get(name)
    return graph is not None and (bundle.path / graph.file).is_file()
