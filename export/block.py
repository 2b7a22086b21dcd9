"""The encoder, described once: what is done with the embeddings of a text's tokens, whoever does it.

`run` and `pool` say the steps. The ONNX graph (`export.convert`), the network that learns (`export.network`), the
TFLite graphs (`export.tflite`) and the list of needed tensors (`names`) carry them out, each in its own way.
`Architecture` is what one kind of encoder has otherwise than BERT, whose names all tensors get
(`export.architectures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
X = TypeVar("X")

TABLE: Final = "embeddings.word_embeddings"
POSITIONS: Final = "embeddings.position_embeddings"
TYPES: Final = "embeddings.token_type_embeddings"
RELATIVE: Final = "encoder.relative_attention_bias"
EMBEDDED: Final = "embeddings.LayerNorm"
_WIDENED: Final = "encoder.embedding_hidden_mapping_in"
_LAST: Final = "encoder.LayerNorm"
NORM: Final = "layer norm"

# Where MPNet's biases end: the distances that share the last of so many buckets.
BUCKETS: Final = 32
FARTHEST: Final = 128


@dataclass(frozen=True)
class Architecture:
    """What is special of an encoder; the defaults are BERT's.

    activation: of the inner layer: gelu, gelu_new, relu or silu. positions: a table of them is added to the tokens.
    types: the first of a table of types, too. widened: tokens are narrower than the layers. gated: the inner layer's
    values are multiplied by those of another. norm_first: what goes into a part of a layer is normalized, not what
    comes out. relative: attention has a bias by distance. rotary: of each layer the base of the angles by which
    positions turn queries and keys; empty for none. reach: of each layer how many tokens away a token attends, 0 for
    any number. dense_bias, norm_bias: whether there are any. shared: layers may have one set of weights.
    """

    name: str
    layers: int
    heads: int
    epsilon: float
    activation: str = "gelu"
    positions: bool = True
    types: bool = True
    widened: bool = False
    gated: bool = False
    norm_first: bool = False
    relative: bool = False
    rotary: tuple[float, ...] = ()
    reach: tuple[int, ...] = ()
    dense_bias: bool = True
    norm_bias: bool = True
    shared: bool = False


class Weighted:
    """A model in fp32: its tensors by BERT's names, and what is special of it."""

    weights: dict[str, Float32]
    shape: Architecture

    @property
    def kind(self) -> str:
        """Its name among `export.architectures.PAGES`, and how many layers it has."""
        return f"{self.shape.layers} layers of {self.shape.name}"

    @property
    def table(self) -> Float32:
        """The token embeddings, float32 [vocabulary, width]."""
        return self.weights[f"{TABLE}.weight"]


@dataclass(frozen=True)
class Head:
    """What becomes of the tokens' vectors: the poolings, side by side, then steps, a cut, and unit length.

    poolings: of cls, max, mean, sqrt (the sum by the root of the count), weighted (by position) and last. steps:
    "normalize", NORM for a layer normalization `head.N`, or the activation of a dense layer `head.N`, N its place among
    the steps. dim: entries kept, fewer than there are if it is cut.
    """

    poolings: tuple[str, ...]
    steps: tuple[str, ...]
    dim: int
    is_cut: bool = False


class Worker(Protocol[X]):
    """What carries the steps out. Names are those of tensors, without their `.weight` and `.bias`."""

    def placed(self, x: X) -> X:
        """Tokens with the embeddings of their positions and types."""

    def norm(self, x: X, name: str) -> X:
        """Layer normalization; a name that has no tensors leaves x as it is."""

    def dense(self, x: X, name: str) -> X:
        """A dense layer."""

    def dense_pair(self, x: X, names: tuple[str, str]) -> tuple[X, X]:
        """Two dense layers of one input."""

    def attention(self, x: X, layer: int) -> X:
        """Softmax attention among the tokens, its output layer included."""

    def activate(self, x: X, activation: str) -> X:
        """gelu, gelu_new, relu, silu, tanh or identity."""

    def add(self, x: X, other: X) -> X:
        """The sum."""

    def multiply(self, x: X, other: X) -> X:
        """The product, entry by entry."""

    def pooled(self, x: X, poolings: Sequence[str]) -> X:
        """Vectors of tokens to one, as `Head` says."""

    def cut(self, x: X, dim: int) -> X:
        """The first `dim` entries."""

    def unit(self, x: X) -> X:
        """Of length 1."""


def run(worker: Worker[X], tokens: X, shape: Architecture) -> X:
    """Token embeddings to the last layer's vectors of the tokens."""
    x = worker.norm(worker.placed(tokens), EMBEDDED)
    if shape.widened:
        x = worker.dense(x, _WIDENED)
    for layer in range(shape.layers):
        name = layer_name(layer)
        around_attention, around_inner = name + "attention.output.LayerNorm", name + "output.LayerNorm"
        if shape.norm_first:
            x = worker.add(worker.attention(worker.norm(x, around_attention), layer), x)
            x = worker.add(_inner(worker, worker.norm(x, around_inner), name, shape), x)
        else:
            x = worker.norm(worker.add(worker.attention(x, layer), x), around_attention)
            x = worker.norm(worker.add(_inner(worker, x, name, shape), x), around_inner)
    return worker.norm(x, _LAST) if shape.norm_first else x


def pool(worker: Worker[X], x: X, head: Head) -> X:
    """The tokens' vectors to the text's, of unit length; to a score, of a head of one dim."""
    x = worker.pooled(x, head.poolings)
    for number, step in enumerate(head.steps):
        name = f"head.{number}"
        if step == "normalize":
            x = worker.unit(x)
        elif step == NORM:
            # With the encoder's epsilon: another would change lengths, which go.
            x = worker.norm(x, name)
        else:
            x = worker.activate(worker.dense(x, name), step)
    if head.is_cut:
        x = worker.cut(x, head.dim)
    # A score has no direction.
    return x if head.dim == 1 else worker.unit(x)


def layer_name(layer: int) -> str:
    """What the names of a layer's tensors begin with."""
    return f"encoder.layer.{layer}."


def angles(base: float, depth: int, count: int) -> tuple[Float32, Float32]:
    """Cosines and sines by which positions turn queries and keys, float32 [count, depth] each."""
    speeds = base ** -(np.arange(0, depth, 2, dtype=np.float32) / np.float32(depth))
    turns = np.outer(np.arange(count, dtype=np.float32), speeds)
    turns = np.concatenate([turns, turns], axis=1)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


def buckets(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """MPNet's rows of its biases for distances: exact ones for near tokens, wider and wider ones for far."""
    half = BUCKETS // 2
    near = half // 2
    apart = np.abs(distances)
    # In float32, as it was trained: at a border another row would be taken.
    steps = np.log(np.maximum(apart, 1).astype(np.float32) / np.float32(near)) / np.float32(
        np.log(FARTHEST / near)
    )
    far = np.minimum(near + (steps * np.float32(half - near)).astype(np.int64), half - 1)
    rows: NDArray[np.int64] = np.where(apart < near, apart, far) + np.where(distances > 0, half, 0)
    return rows


def names(shape: Architecture) -> set[str]:
    """The tensors that an encoder of this shape has, the token table among them."""
    found = _Names(shape)
    run(found, None, shape)
    return found.tensors | {f"{TABLE}.weight"}


def _inner(worker: Worker[X], x: X, name: str, shape: Architecture) -> X:
    wide = name + "intermediate.dense"
    if shape.gated:
        inner, gate = worker.dense_pair(x, (wide, name + "intermediate.gate"))
        inner = worker.multiply(worker.activate(inner, shape.activation), gate)
    else:
        inner = worker.activate(worker.dense(x, wide), shape.activation)
    return worker.dense(inner, name + "output.dense")


class Idle:
    """What a worker that computes nothing does where no tensor is."""

    def activate(self, x: None, activation: str) -> None:
        """No tensor."""

    def add(self, x: None, other: None) -> None:
        """No tensor."""

    def multiply(self, x: None, other: None) -> None:
        """No tensor."""

    def pooled(self, x: None, poolings: Sequence[str]) -> None:
        """No tensor."""

    def cut(self, x: None, dim: int) -> None:
        """No tensor."""

    def unit(self, x: None) -> None:
        """No tensor."""


class _Names(Idle):
    """Notes the tensors."""

    def __init__(self, shape: Architecture) -> None:
        self.shape, self.tensors = shape, set[str]()

    def _note(self, name: str, bias: bool) -> None:
        self.tensors |= {f"{name}.weight"} | ({f"{name}.bias"} if bias else set())

    def placed(self, x: None) -> None:
        for name, there in ((POSITIONS, self.shape.positions), (TYPES, self.shape.types)):
            if there:
                self._note(name, bias=False)
        if self.shape.relative:
            self._note(RELATIVE, bias=False)

    def norm(self, x: None, name: str) -> None:
        # The first of the layers that normalize first takes what is normalized already.
        if not (self.shape.norm_first and name == layer_name(0) + "attention.output.LayerNorm"):
            self._note(name, self.shape.norm_bias)

    def dense(self, x: None, name: str) -> None:
        self._note(name, self.shape.dense_bias)

    def dense_pair(self, x: None, names: tuple[str, str]) -> tuple[None, None]:
        return (self.dense(x, names[0]), self.dense(x, names[1]))  # type: ignore[func-returns-value]

    def attention(self, x: None, layer: int) -> None:
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            self.dense(x, f"{layer_name(layer)}attention.{part}")
