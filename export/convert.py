"""The encoder as an ONNX graph: from token embeddings to a unit vector, in fp32 or INT8.

Written node by node with operators of opset 17, so that it runs on every onnxruntime since 1.19.
The token table stays outside: one table serves every backend, and a text touches only its rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import block
from export.block import Architecture, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokenizers import Tokenizer

    from edgeret.encode.manifest import Prompts

Float32 = NDArray[np.float32]
Int8 = NDArray[np.int8]

KIND: Final = "encoder"
"""The name of a graph that is built as BERT's is, with mean or cls pooling: other runtimes read it too."""
RERANKER: Final = "reranker"
"""The same of a graph that gives a score."""

INPUT: Final = "tokens"
OUTPUT: Final = "vector"
_OPSET: Final = 17
_IR_VERSION: Final = 8
# x86 cores without VNNI add two products in 16 bits: 2 * 255 * 63 still fits, so that the integer
# sums are the same on every machine.
_WEIGHT_TOP: Final = 63
_TABLE_TOP: Final = 127
_GAIN_POWER: Final = 0.75
# Below the scores of any token.
_NEVER: Final = -1e4


class Teacher(Protocol):
    """What a graph is made of; `export.teacher.Teacher` is one."""

    weights: dict[str, Float32]
    shape: Architecture
    head: Head
    max_tokens: int

    @property
    def dim(self) -> int:
        """Entries of a vector."""

    @property
    def table(self) -> Float32:
        """The token embeddings, float32 [vocabulary, width]."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without padding, cut at `max_tokens`."""

    @property
    def prompts(self) -> Prompts:
        """What it reads before a document and before a query."""


def graph(teacher: Teacher, peaks: Sequence[Float32] = (), batch: int | None = 1) -> onnx.ModelProto:
    """Return the graph: `tokens` float32 [batch, n, width] -> `vector` float32 [batch, dim], unit rows.

    All texts of a batch have the same number of tokens n: there is no mask. `batch=None` leaves the
    size of the batch open. Without `peaks` the graph is fp32. With `activation_peaks` of the same
    teacher it is INT8: weights of the dense layers are quantized here, their inputs as the graph
    runs; the products inside the attention stay in float.
    """
    return _build(teacher, peaks, batch).model(
        [batch or "batch", "n", teacher.table.shape[1]], [batch or "batch", teacher.dim]
    )


def activation_peaks(teacher: Teacher, texts: Sequence[str]) -> list[Float32]:
    """The largest magnitude of each input of each dense layer over `texts`, as documents, in the graph's order.

    Not as queries: another prompt for them leaves the graph, and what is stored, as it is.
    """
    found = (teacher.tokenizer.encode(teacher.prompts.document + text).ids for text in texts)
    return peaks_of(teacher, (teacher.table[[ids]] for ids in found))


def peaks_of(teacher: Teacher, inputs: Iterable[Float32]) -> list[Float32]:
    """The same over `inputs`, the embeddings of texts' tokens, float32 [1, n, width] each."""
    build = _build(teacher, (), 1)
    model = build.model([1, "n", teacher.table.shape[1]], [1, teacher.dim])
    for name in build.dense_inputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    runner = session(model.SerializeToString())
    peaks = [np.zeros(1, dtype=np.float32) for _ in build.dense_inputs]
    for tokens in inputs:
        found = runner.run(build.dense_inputs, {INPUT: tokens})
        largest = [np.abs(x).reshape(-1, x.shape[-1]).max(axis=0) for x in found]
        peaks = [np.maximum(peak, high) for peak, high in zip(peaks, largest, strict=True)]
    return peaks


def quantize_rows(table: Float32, top: int = _TABLE_TOP) -> tuple[Int8, Float32]:
    """Float rows [n, dim] -> int8 from -top to top [n, dim] and the scale of each row, float32 [n]."""
    scales = np.abs(table).max(axis=1) / top
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(table / scales[:, None]).astype(np.int8), scales


class Product(NamedTuple):
    """What a graph has of an INT8 product: its inputs' reciprocal gains, float32 weights [inputs, outputs], biases.

    The weights have the gains in them. Where there are no biases, they are zeros.
    """

    reciprocals: Float32
    weights: Float32
    bias: Float32


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The constants of a graph by their names."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def products(model: onnx.ModelProto) -> list[Product]:
    """The INT8 products of a graph that was made here, in their order."""
    known, nodes, read = constants(model), model.graph.node, []
    # Mul, DynamicQuantizeLinear, MatMulInteger, Mul, Cast, Mul, and Add where there are biases.
    for row, node in enumerate(nodes):
        if node.op_type == "MatMulInteger":
            integers, behind = known[node.input[1]], nodes[row + 4]
            bias = known.get(behind.input[1]) if behind.op_type == "Add" else None
            read.append(
                Product(
                    known[nodes[row - 2].input[1]],
                    integers.astype(np.float32) * known[nodes[row + 1].input[1]],
                    np.zeros(integers.shape[1], np.float32) if bias is None else bias,
                )
            )
    return read


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


def kind_of(teacher: Teacher) -> str:
    """The name of a graph: `KIND` or `RERANKER` if it is as BERT's, whatever its weights are called; else another."""
    shape, plain = teacher.shape, {"types", "layers", "heads", "epsilon", "name"}
    other = any(
        getattr(shape, field.name) != field.default
        for field in fields(Architecture)
        if field.name not in plain
    )
    if teacher.head.dim == 1:
        return f"{shape.name}, a reranker" if other else RERANKER
    if other or teacher.head.steps or teacher.head.poolings not in (("mean",), ("cls",)):
        return f"{shape.name}, {'+'.join(teacher.head.poolings)} pooling"
    return KIND if teacher.head.dim == len(teacher.table[0]) else f"{shape.name}, cut"


def _build(teacher: Teacher, peaks: Sequence[Float32], batch: int | None) -> _Graph:
    build = _Graph(teacher, peaks)
    block.pool(build, block.run(build, INPUT, teacher.shape), teacher.head)
    build.nodes[-1].output[0] = OUTPUT
    return build


class _Nodes:
    """Nodes and constants in the order in which they are added. kind: the graph's name."""

    def __init__(self, kind: str, peaks: Sequence[Float32]) -> None:
        self.kind, self.peaks = kind, peaks
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

    def product(self, x: str, weight: Float32, bias: Float32 | None, exact: bool = False) -> str:
        """X @ weight + bias; weight [inputs, outputs]. exact: in float, also where others are not."""
        if self.peaks and not exact:
            product = self._int8_product(x, weight, self.peaks[len(self.dense_inputs)])
        else:
            product = self.node("MatMul", x, self.constant(weight))
        if not exact:
            self.dense_inputs.append(x)
        return product if bias is None else self.node("Add", product, self.constant(bias))

    def _int8_product(self, x: str, weight: Float32, peaks: Float32) -> str:
        """X @ weight with int8 weights, a scale for each output; x is quantized as it comes.

        x has one scale, and few of its entries are far larger than the rest: these are divided by a
        gain that their rows of the weights take over. SmoothQuant, Xiao et al. (ICML 2023).
        """
        gains = np.maximum(peaks / (np.median(peaks) or 1), 1) ** np.float32(_GAIN_POWER)
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

    def model(self, inputs: list[int | str], outputs: list[int | str]) -> onnx.ModelProto:
        body = helper.make_graph(
            self.nodes,
            self.kind,
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


class _Graph(_Nodes):
    """Carries out the steps of `export.block` as nodes; a value is the name of what a node gives."""

    def __init__(self, teacher: Teacher, peaks: Sequence[Float32]) -> None:
        super().__init__(kind_of(teacher), peaks)
        self.weights, self.shape, self.max_tokens = teacher.weights, teacher.shape, teacher.max_tokens
        self.scores = teacher.head.dim == 1
        self.width = len(self.weights["encoder.layer.0.attention.output.dense.weight"])
        self._made: dict[tuple[str, float], str] = {}

    def _once(self, name: str, number: float, make: Callable[[], str]) -> str:
        if (name, number) not in self._made:
            self._made[name, number] = make()
        return self._made[name, number]

    @property
    def length(self) -> str:
        """How many tokens there are, int64 [1]."""
        return self._once("length", 0, lambda: self.node("Shape", INPUT, start=1, end=2))

    def placed(self, x: str) -> str:
        first = self.weights[f"{block.TYPES}.weight"][0] if self.shape.types else None
        if self.shape.positions:
            positions = self.weights[f"{block.POSITIONS}.weight"][: self.max_tokens]
            positions = positions if first is None else positions + first
            length = self.length
            return self.node("Add", x, self._slice(positions, length))
        return x if first is None else self.node("Add", x, self.constant(first))

    def _slice(self, table: Float32, length: str) -> str:
        """As many rows of a table as there are tokens."""
        return self.node("Slice", self.constant(table), self.integers(0), length, self.integers(0))

    def norm(self, x: str, name: str) -> str:
        if f"{name}.weight" not in self.weights:
            return x
        parts = [
            self.weights[f"{name}.{part}"] for part in ("weight", "bias") if f"{name}.{part}" in self.weights
        ]
        constants = [self.constant(part) for part in parts]
        return self.node("LayerNormalization", x, *constants, axis=-1, epsilon=self.shape.epsilon)

    def dense(self, x: str, name: str) -> str:
        # All that a score consists of comes through two small layers.
        exact = self.scores and name.startswith("head.")
        return self.product(x, self.weights[f"{name}.weight"].T, self.weights.get(f"{name}.bias"), exact)

    def dense_pair(self, x: str, names: tuple[str, str]) -> tuple[str, str]:
        one, other = self._dense_of(x, names, (1.0, 1.0))
        return one, other

    def _dense_of(self, x: str, names: Sequence[str], factors: Sequence[float]) -> list[str]:
        """Dense layers of one input as one product, each times a factor."""
        pairs = list(zip(names, factors, strict=True))
        weight = np.concatenate(
            [self.weights[f"{name}.weight"].T * np.float32(f) for name, f in pairs], axis=1
        )
        bias = None
        if f"{names[0]}.bias" in self.weights:
            bias = np.concatenate([self.weights[f"{name}.bias"] * np.float32(f) for name, f in pairs])
        mixed = self.product(x, weight, bias)
        stem = f"n{len(self.nodes)}"
        return self.nodes_of("Split", [mixed], [f"{stem}{letter}" for letter in "abc"[: len(names)]], axis=-1)

    def attention(self, x: str, layer: int) -> str:
        prefix = block.layer_name(layer) + "attention."
        heads, depth = self.shape.heads, self.width // self.shape.heads
        # The attention's 1 / sqrt(depth) is folded into the query: one node less for each layer.
        names = [prefix + f"self.{part}" for part in ("query", "key", "value")]
        split = self._dense_of(x, names, (depth**-0.5, 1.0, 1.0))
        shape = self.integers(0, 0, heads, depth)
        query, key, value = (self.node("Reshape", part, shape) for part in split)
        query = self.node("Transpose", query, perm=[0, 2, 1, 3])
        if self.shape.rotary:
            base = self.shape.rotary[layer]
            query = self._turned(query, base, depth)
            key = self._turned(self.node("Transpose", key, perm=[0, 2, 1, 3]), base, depth)
            key = self.node("Transpose", key, perm=[0, 1, 3, 2])
        else:
            key = self.node("Transpose", key, perm=[0, 2, 3, 1])
        value = self.node("Transpose", value, perm=[0, 2, 1, 3])
        scores = self.node("MatMul", query, key)
        if self.shape.relative:
            scores = self.node("Add", scores, self._once("relative", 0, self._relative))
        if self.shape.reach and self.shape.reach[layer]:
            reach = self.shape.reach[layer]
            scores = self.node("Add", scores, self._once("reach", reach, lambda: self._within(reach)))
        shares = self.node("Softmax", scores, axis=-1)
        context = self.node("Transpose", self.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        context = self.node("Reshape", context, self.integers(0, 0, self.width))
        return self.dense(context, prefix + "output.dense")

    def _turned(self, x: str, base: float, depth: int) -> str:
        """Queries or keys [batch, heads, n, depth], turned by their positions."""
        cosines, sines = block.angles(base, depth, self.max_tokens)
        turns = [
            self._once(name, base, lambda table=table: self._slice(table, self.length))  # type: ignore[misc]
            for name, table in (("cosines", cosines), ("sines", sines))
        ]
        stem = f"n{len(self.nodes)}"
        one, other = self.nodes_of("Split", [x], [f"{stem}a", f"{stem}b"], axis=-1)
        crossed = self.node("Concat", self.node("Neg", other), one, axis=-1)
        return self.node("Add", self.node("Mul", x, turns[0]), self.node("Mul", crossed, turns[1]))

    def _distances(self) -> str:
        """How far behind each token another stands, int64 [n, n]."""
        count = self.node("Squeeze", self.length)
        zero, one = (self.constant(np.array(number, dtype=np.int64)) for number in (0, 1))
        places = self.node("Range", zero, count, one)
        along, down = (self.node("Unsqueeze", places, self.integers(axis)) for axis in (0, 1))
        return self.node("Sub", along, down)

    def _within(self, reach: int) -> str:
        """What keeps tokens farther away than `reach` out of the attention, float32 [n, n]."""
        far = self.node(
            "Greater", self.node("Abs", self._once("distances", 0, self._distances)), self.integers(reach)
        )
        return self.node("Where", far, self.scalar(_NEVER), self.scalar(0))

    def _relative(self) -> str:
        """The bias of each head by distance, float32 [heads, n, n]."""
        farthest = self.max_tokens - 1
        buckets = block.buckets(np.arange(-farthest, farthest + 1))
        table = self.weights[f"{block.RELATIVE}.weight"][buckets].T
        rows = self.node("Add", self._once("distances", 0, self._distances), self.integers(farthest))
        return self.node("Gather", self.constant(table), rows, axis=1)

    def activate(self, x: str, activation: str) -> str:
        if activation == "gelu":
            # gelu(x) = x / 2 * (1 + erf(x / sqrt(2))), in the spelling that onnxruntime runs as one operator.
            error = self.node("Erf", self.node("Div", x, self.scalar(2**0.5)))
            return self.node(
                "Mul", self.node("Mul", x, self.node("Add", error, self.scalar(1))), self.scalar(0.5)
            )
        if activation == "gelu_new":
            cube = self.node("Mul", self.node("Mul", x, x), x)
            inner = self.node("Add", x, self.node("Mul", cube, self.scalar(0.044715)))
            curve = self.node("Tanh", self.node("Mul", inner, self.scalar((2 / np.pi) ** 0.5)))
            return self.node(
                "Mul", self.node("Mul", x, self.node("Add", curve, self.scalar(1))), self.scalar(0.5)
            )
        if activation == "silu":
            return self.node("Mul", x, self.node("Sigmoid", x))
        return x if activation == "identity" else self.node({"relu": "Relu", "tanh": "Tanh"}[activation], x)

    def add(self, x: str, other: str) -> str:
        return self.node("Add", x, other)

    def multiply(self, x: str, other: str) -> str:
        return self.node("Mul", x, other)

    def pooled(self, x: str, poolings: Sequence[str]) -> str:
        found = [self._pooled(x, pooling) for pooling in poolings]
        return found[0] if len(found) == 1 else self.node("Concat", *found, axis=-1)

    def _pooled(self, x: str, pooling: str) -> str:
        if pooling in ("cls", "last"):
            place = self.constant(np.array(0 if pooling == "cls" else -1, dtype=np.int64))
            return self.node("Gather", x, place, axis=1)
        if pooling == "max":
            return self.node("ReduceMax", x, axes=[1], keepdims=0)
        if pooling == "weighted":
            count = self.node("Squeeze", self.node("Cast", self.length, to=TensorProto.FLOAT))
            one = self.scalar(1)
            places = self.node("Range", one, self.node("Add", count, one), one)
            # What they are divided by falls out when the vector is made a unit, but for what a dense layer adds.
            shares = self.node("Div", places, self.node("ReduceMean", places, axes=[0], keepdims=1))
            x = self.node("Mul", x, self.node("Unsqueeze", shares, self.integers(1)))
        mean = self.node("ReduceMean", x, axes=[1], keepdims=0)
        if pooling != "sqrt":
            return mean
        return self.node("Mul", mean, self.node("Sqrt", self.node("Cast", self.length, to=TensorProto.FLOAT)))

    def cut(self, x: str, dim: int) -> str:
        return self.node("Slice", x, self.integers(0), self.integers(dim), self.integers(1))

    def unit(self, x: str) -> str:
        return self.node("Div", x, self.node("ReduceL2", x, axes=[1], keepdims=1))
