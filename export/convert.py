"""The encoder as an ONNX graph: from token embeddings to a unit vector, in fp32 or INT8.

Written node by node with operators of opset 17, so that it runs on every onnxruntime since 1.19.
The token table stays outside: one table serves every backend, and a text touches only its rows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from edgeret.encode.manifest import Prompts

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]

INPUT: Final = "tokens"
OUTPUT: Final = "vector"
_OPSET: Final = 17
_IR_VERSION: Final = 8
# x86 cores without VNNI add two products in 16 bits: 2 * 255 * 63 still fits, so that the integer
# sums are the same on every machine.
_WEIGHT_TOP: Final = 63
_TABLE_TOP: Final = 127
_GAIN_POWER: Final = 0.75


class Teacher(Protocol):
    """What a graph is made of; `export.teacher.Teacher` is one."""

    weights: dict[str, Float32]
    layers: int
    heads: int
    epsilon: float
    pooling: str
    max_tokens: int

    @property
    def dim(self) -> int:
        """Entries of a vector."""

    @property
    def table(self) -> Float32:
        """The token embeddings, float32 [vocabulary, dim]."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without padding, cut at `max_tokens`."""

    @property
    def prompts(self) -> Prompts:
        """What it reads before a document and before a query."""


def graph(teacher: Teacher, peaks: Sequence[Float32] = (), batch: int | None = 1) -> onnx.ModelProto:
    """Return the graph: `tokens` float32 [batch, n, dim] -> `vector` float32 [batch, dim], unit rows.

    All texts of a batch have the same number of tokens n: there is no mask. `batch=None` leaves the
    size of the batch open. Without `peaks` the graph is fp32. With `activation_peaks` of the same
    teacher it is INT8: weights of the dense layers are quantized here, their inputs as the graph
    runs; the products inside the attention stay in float.
    """
    return _build(teacher, peaks, batch).model(
        [batch or "batch", "n", teacher.dim], [batch or "batch", teacher.dim]
    )


def activation_peaks(teacher: Teacher, texts: Sequence[str]) -> list[Float32]:
    """The largest magnitude of each input of each dense layer over `texts`, as documents, in the graph's order.

    Not as queries: another prompt for them leaves the graph, and what is stored, as it is.
    """
    build = _build(teacher, (), 1)
    model = build.model([1, "n", teacher.dim], [1, teacher.dim])
    for name in build.dense_inputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    runner = session(model.SerializeToString())
    peaks = [np.zeros(1, dtype=np.float32) for _ in build.dense_inputs]
    for text in texts:
        tokens = teacher.table[[teacher.tokenizer.encode(teacher.prompts.document + text).ids]]
        found = runner.run(build.dense_inputs, {INPUT: tokens})
        peaks = [np.maximum(peak, np.abs(x).max(axis=(0, 1))) for peak, x in zip(peaks, found, strict=True)]
    return peaks


def quantize_rows(table: Float32, top: int = _TABLE_TOP) -> tuple[Int8, Float32]:
    """Float rows [n, dim] -> int8 from -top to top [n, dim] and the scale of each row, float32 [n]."""
    scales = np.abs(table).max(axis=1) / top
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(table / scales[:, None]).astype(np.int8), scales


def session(model: bytes, threads: int = 1) -> Any:
    """An onnxruntime session of a serialized graph."""
    # As in edgeret.encoder: it looks once, when it is imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _build(teacher: Teacher, peaks: Sequence[Float32], batch: int | None) -> _Graph:
    weights = teacher.weights
    build = _Graph(peaks)
    positions = weights["embeddings.position_embeddings.weight"][: teacher.max_tokens]
    positions = positions + weights["embeddings.token_type_embeddings.weight"][0]
    length = build.node("Shape", INPUT, start=1, end=2)
    offsets = build.node("Slice", build.constant(positions), build.integers(0), length, build.integers(0))
    x = build.norm(build.node("Add", INPUT, offsets), weights, "embeddings.LayerNorm", teacher.epsilon)
    for layer in range(teacher.layers):
        prefix = f"encoder.layer.{layer}."
        x = _attention(build, x, prefix + "attention.", teacher)
        x = _feed_forward(build, x, prefix, teacher)
    if teacher.pooling == "mean":
        pooled = build.node("ReduceMean", x, axes=[1], keepdims=0)
    else:
        pooled = build.node("Gather", x, build.constant(np.array(0, dtype=np.int64)), axis=1)
    build.node("Div", pooled, build.node("ReduceL2", pooled, axes=[1], keepdims=1), output=OUTPUT)
    return build


class _Graph:
    """Nodes and constants in the order in which they are added."""

    def __init__(self, peaks: Sequence[Float32]) -> None:
        self.peaks = peaks
        self.dense_inputs: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, array: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, dtype=np.float32))

    def node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        return self.nodes_of(operator, inputs, [output or f"n{len(self.nodes)}"], **attributes)[0]

    def nodes_of(
        self, operator: str, inputs: Sequence[str], outputs: list[str], **attributes: Any
    ) -> list[str]:
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def dense(self, x: str, weight: Float32, bias: Float32) -> str:
        """X @ weight + bias; weight [inputs, outputs]."""
        if self.peaks:
            product = self._int8_product(x, weight, self.peaks[len(self.dense_inputs)])
        else:
            product = self.node("MatMul", x, self.constant(weight))
        self.dense_inputs.append(x)
        return self.node("Add", product, self.constant(bias))

    def _int8_product(self, x: str, weight: Float32, peaks: Float32) -> str:
        """X @ weight with int8 weights, a scale for each output; x is quantized as it comes.

        x has one scale, and few of its entries are far larger than the rest: these are divided by a
        gain that their rows of the weights take over. SmoothQuant, Xiao et al. (ICML 2023).
        """
        gains = np.maximum(peaks / np.median(peaks), 1) ** np.float32(_GAIN_POWER)
        columns, scales = quantize_rows((weight * gains[:, None]).T, _WEIGHT_TOP)
        x = self.node("Mul", x, self.constant(1 / gains))
        stem = f"n{len(self.nodes)}"
        quantized, scale, zero = self.nodes_of(
            "DynamicQuantizeLinear", [x], [f"{stem}q", f"{stem}s", f"{stem}z"]
        )
        zeros = self.constant(np.zeros(len(scales), dtype=np.int8))
        # In this order onnxruntime recognizes the nodes and runs them as one operator.
        total = self.node("MatMulInteger", quantized, self.constant(columns.T), zero, zeros)
        both = self.node("Mul", scale, self.constant(scales))
        return self.node("Mul", self.node("Cast", total, to=TensorProto.FLOAT), both)

    def norm(self, x: str, weights: dict[str, Float32], name: str, epsilon: float) -> str:
        gain, shift = weights[name + ".weight"], weights[name + ".bias"]
        return self.node(
            "LayerNormalization", x, self.constant(gain), self.constant(shift), axis=-1, epsilon=epsilon
        )

    def model(self, inputs: list[int | str], outputs: list[int | str]) -> onnx.ModelProto:
        body = helper.make_graph(
            self.nodes,
            "encoder",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, inputs)],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, outputs)],
            self.constants,
        )
        model = helper.make_model(
            body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        model.producer_name = "edgeret"
        onnx.checker.check_model(model, full_check=True)
        return model


def _attention(build: _Graph, x: str, prefix: str, teacher: Teacher) -> str:
    weights, heads, dim = teacher.weights, teacher.heads, teacher.dim
    depth = dim // heads
    parts = [prefix + f"self.{part}" for part in ("query", "key", "value")]
    # The attention's 1 / sqrt(depth) is folded into the query: one node less for each layer.
    factors = [depth**-0.5, 1.0, 1.0]
    weight = np.concatenate(
        [weights[part + ".weight"].T * np.float32(f) for part, f in zip(parts, factors, strict=True)], axis=1
    )
    bias = np.concatenate(
        [weights[part + ".bias"] * np.float32(f) for part, f in zip(parts, factors, strict=True)]
    )
    mixed = build.dense(x, weight, bias)
    stem = f"n{len(build.nodes)}"
    split = build.nodes_of("Split", [mixed], [f"{stem}a", f"{stem}b", f"{stem}c"], axis=-1)
    shape = build.integers(0, 0, heads, depth)
    query, key, value = (build.node("Reshape", part, shape) for part in split)
    query = build.node("Transpose", query, perm=[0, 2, 1, 3])
    key = build.node("Transpose", key, perm=[0, 2, 3, 1])
    value = build.node("Transpose", value, perm=[0, 2, 1, 3])
    shares = build.node("Softmax", build.node("MatMul", query, key), axis=-1)
    context = build.node("Transpose", build.node("MatMul", shares, value), perm=[0, 2, 1, 3])
    context = build.node("Reshape", context, build.integers(0, 0, dim))
    out = prefix + "output."
    context = build.dense(context, weights[out + "dense.weight"].T, weights[out + "dense.bias"])
    return build.norm(build.node("Add", context, x), weights, out + "LayerNorm", teacher.epsilon)


def _feed_forward(build: _Graph, x: str, prefix: str, teacher: Teacher) -> str:
    weights, wide, out = teacher.weights, prefix + "intermediate.dense", prefix + "output."
    inner = build.dense(x, weights[wide + ".weight"].T, weights[wide + ".bias"])
    # gelu(x) = x / 2 * (1 + erf(x / sqrt(2))), in the spelling that onnxruntime runs as one operator.
    error = build.node("Erf", build.node("Div", inner, build.scalar(2**0.5)))
    inner = build.node("Mul", inner, build.node("Add", error, build.scalar(1)))
    inner = build.node("Mul", inner, build.scalar(0.5))
    inner = build.dense(inner, weights[out + "dense.weight"].T, weights[out + "dense.bias"])
    return build.norm(build.node("Add", inner, x), weights, out + "LayerNorm", teacher.epsilon)
