"""An encoder or a reranker as TFLite graphs, made from the bundle's own ONNX graph: the same weights, another runtime.

litert-torch converts one graph for each length bucket; they share their weights in one file. ai-edge-quantizer then
writes it twice: dense layers in INT8 for LiteRT, and with INT8 weights that become float for tflite-runtime.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeret.encode.manifest import Graph
from edgeret.errors import BundleError
from export import block
from export.block import Architecture, Head
from export.convert import KIND, RERANKER, Product, constants, products
from export.network import activated
from export.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgeret.encode.bundle import Bundle

BUCKETS: Final = (16, 32, 64, 128, 256)
GRAPHS: Final = {
    "tflite": Graph("model.int8.tflite", "tokens", "vector"),
    "tflite_weights": Graph("model.weights.tflite", "tokens", "vector"),
}
# Below the scores of any token, and far from the end of float16.
_NEVER: Final = -1e4


@dataclass(frozen=True)
class Weights:
    """What an INT8 graph of export.convert holds, in float32 and in its order.

    positions: [max_tokens, dim]. norms: gain and shift of each normalization. dense: the dense layers. exact: of each
    layer that a score comes through the weights [inputs, outputs] and the biases.
    """

    positions: NDArray[np.float32]
    norms: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    dense: list[Product]
    exact: list[tuple[NDArray[np.float32], NDArray[np.float32]]]
    epsilon: float
    heads: int
    head: Head

    @classmethod
    def read(cls, path: Path) -> Weights:
        """Read the graph. Raises BundleError for one that is not of export.convert in INT8, or not built as BERT is."""
        model = onnx.load(path)
        if model.producer_name == "edgeret" and model.graph.name not in (KIND, RERANKER):
            raise BundleError(
                "expected an encoder of the kind of BERT, RoBERTa or DistilBERT with mean or cls pooling, or a "
                f"reranker of these kinds, {path} has {model.graph.name}: TFLite has no such graph; use onnxruntime"
            )
        known, nodes = constants(model), list(model.graph.node)
        norms = [node for node in nodes if node.op_type == "LayerNormalization"]
        dense = products(model) if model.producer_name == "edgeret" else []
        if not norms or not dense:
            raise BundleError(
                f"expected an INT8 graph of export.convert in {path}, found another: export the bundle again"
            )
        heads = next(node for node in nodes if node.op_type == "Reshape")
        kinds = {node.op_type for node in nodes}
        positions = next(known[node.input[0]] for node in nodes if node.op_type == "Slice")
        head = Head(("mean" if "ReduceMean" in kinds else "cls",), (), positions.shape[1])
        if model.graph.name == RERANKER:
            head = Head(("cls",), ("tanh" if "Tanh" in kinds else "relu", "identity"), 1)
        return cls(
            positions=positions,
            norms=[(known[node.input[1]], known[node.input[2]]) for node in norms],
            dense=dense,
            # MatMul, Add. Those inside the attention have no constant.
            exact=[
                (known[node.input[1]], known[nodes[row + 1].input[1]])
                for row, node in enumerate(nodes)
                if node.op_type == "MatMul" and node.input[1] in known
            ],
            epsilon=next(item.f for item in norms[0].attribute if item.name == "epsilon"),
            heads=int(known[heads.input[1]][2]),
            head=head,
        )


class Bucket(nn.Module):
    """The encoder for texts of at most `size` tokens.

    Float32 tokens [1, size, width] and mask [1, size], 1 for a token and 0 for padding -> a unit vector [1, width], or
    a score [1, 1].
    """

    def __init__(self, weights: Weights, parts: nn.ParameterList, size: int) -> None:
        super().__init__()
        self.size = size
        self.shape = Architecture("bert", len(weights.dense) // 4, weights.heads, weights.epsilon)
        self.head, self.width = weights.head, weights.positions.shape[1]
        self.positions = nn.Parameter(torch.tensor(weights.positions[:size]))
        self.parts = parts

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return the vector or the score by its name in the graph."""
        worker = _Worker(self, mask)
        return {"vector": block.pool(worker, block.run(worker, tokens, self.shape), self.head)}


class _Worker:
    """Carries out the steps of `export.block` with weights in the order in which these ask for them."""

    def __init__(self, bucket: Bucket, mask: Tensor) -> None:
        self.bucket, self.mask, self.parts = bucket, mask, iter(bucket.parts)
        self.absent = ((1 - mask) * _NEVER).reshape(1, 1, 1, bucket.size)

    def placed(self, x: Tensor) -> Tensor:
        return x + self.bucket.positions

    def norm(self, x: Tensor, name: str) -> Tensor:
        gain, shift = next(self.parts), next(self.parts)
        return functional.layer_norm(x, x.shape[-1:], gain, shift, self.bucket.shape.epsilon)

    def dense(self, x: Tensor, name: str) -> Tensor:
        if name.startswith("head."):
            weight, bias = next(self.parts), next(self.parts)
            # Not as a layer: the quantizer would take it for one of those in INT8.
            return (x[:, None] * weight).sum(-1) + bias
        gains, weight, bias = next(self.parts), next(self.parts), next(self.parts)
        return functional.linear(x * gains, weight, bias)

    def attention(self, x: Tensor, layer: int) -> Tensor:
        size, heads, width = self.bucket.size, self.bucket.shape.heads, self.bucket.width
        # One product for queries, keys and values, the queries scaled already.
        mixed = self.dense(x, "query, key and value").split(width, dim=-1)
        query, key, value = (part.reshape(1, size, heads, -1).transpose(1, 2) for part in mixed)
        shares = torch.softmax(query @ key.transpose(2, 3) + self.absent, -1)
        context = (shares @ value).transpose(1, 2).reshape(1, size, width)
        return self.dense(context, "output")

    def activate(self, x: Tensor, activation: str) -> Tensor:
        return activated(x, activation)

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        return x + other

    def pooled(self, x: Tensor, poolings: Sequence[str]) -> Tensor:
        if poolings[0] == "cls":
            return x[:, 0]
        # The mean's divisor falls out when the vector is made a unit.
        return (self.mask.reshape(1, 1, self.bucket.size) @ x).reshape(1, self.bucket.width)

    def unit(self, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).sum(-1, keepdim=True))

    def dense_pair(self, x: Tensor, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def multiply(self, x: Tensor, other: Tensor) -> Tensor:
        raise NotImplementedError

    def cut(self, x: Tensor, dim: int) -> Tensor:
        raise NotImplementedError


def parameters(weights: Weights) -> nn.ParameterList:
    """The weights in the order in which a bucket's forward pass takes them; all buckets share them."""
    norms, dense = iter(weights.norms), iter(weights.dense)
    parts = [*next(norms)]
    for _ in range(len(weights.dense) // 4):
        for kind in (dense, dense, norms, dense, dense, norms):
            found = next(kind)
            parts += found if kind is norms else (found[0], found[1].T, found[2])
    for weight, bias in weights.exact:
        parts += (weight.T, bias)
    return nn.ParameterList(nn.Parameter(torch.tensor(np.ascontiguousarray(part))) for part in parts)


def add(bundle: Bundle, out: Path) -> Bundle:
    """Write the bundle with its TFLite graphs to `out`; installations may leave their files out."""
    weights = Weights.read(bundle.file(bundle.manifest.graphs["onnx"].file))
    sizes = [size for size in BUCKETS if size < bundle.max_tokens] + [bundle.max_tokens]
    files = {GRAPHS[name].file: blob for name, blob in quantize(convert(weights, sizes)).items()}
    return rewrite(
        bundle, out, graphs=dict(bundle.manifest.graphs) | GRAPHS, files=files, optional=files.keys()
    )


def convert(weights: Weights, sizes: list[int]) -> bytes:
    """A float32 TFLite file with one signature, `encode_N`, for each number of tokens N."""
    import litert_torch

    parts, converter = parameters(weights), litert_torch
    for size in sizes:
        example = {"tokens": torch.zeros(1, size, weights.positions.shape[1]), "mask": torch.ones(1, size)}
        bucket = Bucket(weights, parts, size).eval()
        converter = converter.signature(f"encode_{size}", bucket, sample_kwargs=example)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.tflite")
        converter.convert().export(str(path))
        return path.read_bytes()


def quantize(model: bytes) -> dict[str, bytes]:
    """The file for each runtime, by the names of GRAPHS."""
    from ai_edge_quantizer import quantizer, recipe

    recipes = {"tflite": recipe.dynamic_wi8_afp32(), "tflite_weights": recipe.weight_only_wi8_afp32()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.tflite")
        path.write_bytes(model)
        found = {}
        for name, rules in recipes.items():
            work = quantizer.Quantizer(str(path))
            work.load_quantization_recipe(rules)
            found[name] = bytes(work.quantize().quantized_model)
        return found
