"""The graph on onnxruntime."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.backend import has_graph, unit
from edgeret.encode.bundle import Bundle
from edgeret.encode.graph import check_graph
from edgeret.encode.manifest import open_file
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BackendError

Float32 = NDArray[np.float32]

# Growth of the peak RSS on x86-64, rounded up: importing onnxruntime, and repeated texts of 256 tokens through
# six layers of 384 dims.
_RUNTIME_BYTES: Final = 28_500_000
_TEXT_BYTES: Final = 10_500_000
_FLOATS: Final = "tensor(float)"


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
                "expected onnxruntime, found no such package: pip install onnxruntime, or choose a model that runs on "
                "NumPy alone, such as 'nano'"
            ) from error
        graph = bundle.manifest.graphs["onnx"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The arena keeps the memory of the longest text; yet its peak is lower, and long texts are faster, than
        # where each buffer is the allocator's: freed ones leave holes, or must be cleared page by page.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        # What goes wrong is raised, and says so.
        options.log_severity_level = 4
        # By its name, a file may else be of onnxruntime's own format, which nobody has checked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        self._errors = (
            states.EPFail,
            states.EngineError,
            states.Fail,
            states.InvalidArgument,
            states.InvalidGraph,
            states.InvalidProtobuf,
            states.NotImplemented,
            states.RuntimeException,
            # What is raised in Python, and by C++ outside of its own errors; an allocation that is refused.
            ValueError,
            RuntimeError,
            MemoryError,
        )
        self._release = f"onnxruntime {onnxruntime.__version__}"
        path = bundle.file(graph.file)
        try:
            with open_file(path, bundle.links) as stream:
                check_graph(stream, path.stat().st_size)
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            self._refuse(error)
        taken = [(node.name, node.type) for node in self._session.get_inputs()]
        given = [(node.name, node.type) for node in self._session.get_outputs()]
        if taken != [(graph.input, _FLOATS)] or (graph.output, _FLOATS) not in given:
            self._refuse(f"inputs {taken!r:.200} and outputs {given!r:.200}")
        self._width = bundle.width
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
        return unit(self._evaluate(self._table.take(ids)), self._width)

    def evaluate(self, ids: list[int], added: Float32, start: int) -> NDArray[Any]:
        """What the graph gives for token ids, `added` [width] to the embeddings from number `start` on."""
        tokens = self._table.take(ids)
        tokens[start:] += added
        return np.asarray(self._evaluate(tokens))

    def _evaluate(self, tokens: Float32) -> Any:
        try:
            (found,) = self._session.run([self._graph.output], {self._graph.input: tokens[None]})
        except self._errors as error:
            self._refuse(error)
        return found

    def _refuse(self, found: Any) -> NoReturn:
        raise BackendError(
            f"expected a graph that {self._release} runs, found {found!s:.1000}: "
            "upgrade onnxruntime or choose another bundle"
        ) from (found if isinstance(found, BaseException) else None)
