"""What a student starts from: checkpoints of a training, and finished bundles, whose integers become weights again.

A bundle is all that is left of a student whose checkpoint is gone: what was rounded stays so, and the optimizers begin
anew.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeret.encode.bundle import CENTROIDS, Bundle
from edgeret.encode.manifest import Roles, refuse
from edgeret.encode.static import Layer
from edgeret.encode.tokens import TokenTable, is_coded
from edgeret.errors import BundleError
from export import block, convert, narrow, network
from export.codes import decoded
from export.network import Network
from export.static import HIDDEN, Static
from export.teacher import Teacher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Float32 = NDArray[np.float32]

_KINDS: Final = {"nano": "static", "small": "transformer"}


class Plan(NamedTuple):
    """The student that is to be made, as `export.students` makes it.

    origin: the bundle whose space it joins. teacher: with the layers and the longest input of "small". kind: "nano" or
    "small". parts: bytes of a row of product codes; 0 is for entries of 4 bits.
    """

    origin: Bundle
    teacher: Teacher
    kind: str
    parts: int
    roles: Roles | None


def check(paths: Sequence[Path], plan: Plan) -> None:
    """Check that the student can start from all of these, before anything takes long. Raises BundleError."""
    for path in paths:
        if path.is_dir():
            _check_bundle(Bundle.open(path), plan)
        elif not path.exists():
            raise BundleError(
                f"expected a checkpoint or the folder of a bundle at {path}, found nothing: give another --start"
            )


def weights(path: Path, plan: Plan) -> dict[str, Tensor]:
    """The weights in a checkpoint or in a bundle that `check` let pass, by the names of the student's state."""
    return of_bundle(Bundle.open(path), plan) if path.is_dir() else of_checkpoint(path)


def load(student: Static | Network, state: Mapping[str, Tensor]) -> None:
    """Give a student weights that `weights` read. Its inner layers become as narrow as theirs."""
    if isinstance(student, Network):
        narrow.cut(student, narrow.inner_of(state))
    student.load_state_dict(state)


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several weights of one student: a model soup, Wortsman et al. (ICML 2022). Of none, nothing.

    Raises BundleError for weights of several shapes.
    """
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    for found in shapes[1:]:
        if found != shapes[0]:
            strange = sorted({name for name, _ in found.items() ^ shapes[0].items()})
            raise BundleError(
                f"expected weights of one shape to take the mean of, found several of {strange[0]}: "
                "give students of one shape with --start"
            )
    # Codes have no mean: they follow the rows that they stand for.
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in (states[0] if states else {}).items()
    }


def of_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint. Raises BundleError for another file."""
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["student"]
    except (OSError, EOFError, RuntimeError, LookupError, TypeError, pickle.UnpicklingError) as error:
        raise BundleError(
            f"expected a checkpoint of `distill` in {path}, found {error!s:.200}: give another --start"
        ) from error
    return found


def of_bundle(bundle: Bundle, plan: Plan) -> dict[str, Tensor]:
    """The weights in a bundle that `check` let pass."""
    if is_coded(bundle):
        codes = torch.tensor(bundle.tensor("tokens"))
        centroids = torch.tensor(bundle.tensor(CENTROIDS).astype(np.float32))
        table = {"codes": codes, "centroids": centroids, "rows": decoded(codes, centroids)}
        found = {f"coded.{name}": value for name, value in table.items()}
    else:
        rows = TokenTable(bundle).take([*range(bundle.placed("tokens").shape[0])])
        found = (
            {"table": torch.from_numpy(rows)} if plan.kind == "nano" else network.named({network.TABLE: rows})
        )
    return found | (_head(bundle) if plan.kind == "nano" else network.named(_layers(bundle, plan)))


def _check_bundle(bundle: Bundle, plan: Plan) -> None:
    path, found, teacher = bundle.path, bundle.manifest, plan.teacher
    if bundle.space != plan.origin.space or "map" in found.tensors:
        # The fingerprint has the teacher's weights and its tokenizer in it, but of the model behind a map nothing.
        mapped = ", through a map" if "map" in found.tensors else ""
        mend = "start from a student of the bundle that --space-of names"
        expected = f"the teacher, tokenizer and codec of space {plan.origin.space}"
        refuse(path, expected, bundle.space + mapped, mend)
    if found.kind != _KINDS[plan.kind]:
        refuse(path, f"a bundle of kind {_KINDS[plan.kind]!r}", repr(found.kind), "give the other --student")
    if found.roles != plan.roles:
        mend = "--each gives a student roles where its teacher has prompts: give it, or leave it out"
        refuse(path, _said(plan.roles), _said(found.roles), mend)
    table = bundle.placed("tokens")
    how = "product codes" if is_coded(bundle) else f"{4 if table.dtype == 'uint8' else 8} bits an entry"
    width = teacher.dim if plan.kind == "nano" else teacher.table.shape[1]
    expected = f"{(len(teacher.table), plan.parts or width // 2)} of "
    expected += "product codes" if plan.parts else "4 bits an entry"
    if f"{table.shape} of {how}" != expected:
        mend = "give --codes as the bundle has them, or leave it out"
        refuse(path, f"tokens {expected}", f"{table.shape} of {how}", mend)
    if plan.kind == "nano":
        _head(bundle)
    else:
        _layers(bundle, plan)


def _said(roles: Roles | None) -> str:
    return f"roles {dict(roles._asdict())}" if roles else "no roles"


def _head(bundle: Bundle) -> dict[str, Tensor]:
    """The network behind a static student's sum: `Static.tensors`, turned round."""
    found, root = {}, np.float32(bundle.dim**0.5)
    for name, shape, factor, of_bias in (
        ("inner", (HIDDEN, bundle.dim), 1 / root, 1),
        ("outer", (bundle.dim, HIDDEN), root, root),
    ):
        layer = Layer.read(bundle, name, shape)
        found[f"{name}.weight"] = torch.tensor(layer.weights * (layer.scales * factor)[:, None])
        found[f"{name}.bias"] = torch.tensor(layer.bias * of_bias)
    return found


def _layers(bundle: Bundle, plan: Plan) -> dict[str, Float32]:
    """A graph's weights by the teacher's names, without the token table. Raises BundleError for another graph."""
    path, teacher = bundle.path, plan.teacher
    if "onnx" not in bundle.manifest.graphs:
        refuse(path, "an ONNX graph", f"{[*bundle.manifest.graphs]}", "install the bundle with all its files")
    model = onnx.load_from_string(bundle.read(bundle.manifest.graphs["onnx"].file))
    if model.producer_name != "edgeret" or not convert.products(model):
        refuse(path, "an INT8 graph of export.convert", "another", "start from what `distill` wrote")
    depth = sum(node.op_type == "Softmax" for node in model.graph.node)
    expected, found = (
        f"{count} layers of {kind!r}"
        for count, kind in (
            (teacher.shape.layers, convert.kind_of(teacher)),
            (depth, model.graph.name),
        )
    )
    if found != expected:
        refuse(path, expected, found, "give as many --layers as the bundle has")
    weights, places = graph_weights(model, teacher), f"{block.POSITIONS}.weight"
    if teacher.shape.positions:
        longest = len(weights[places])
        if longest < teacher.max_tokens:
            mend = f"give --max-tokens {longest}"
            refuse(path, f"positions for {teacher.max_tokens} tokens", f"{longest}", mend)
        weights[places] = np.concatenate([weights[places], teacher.weights[places][longest:]])
    for name, weight in weights.items():
        shape = teacher.weights[name].shape
        if weight.shape != shape and not (narrow.is_inner(name) and np.less_equal(weight.shape, shape).all()):
            mend = "start from a student of this teacher"
            refuse(path, f"{name} of shape {shape}", f"{weight.shape}", mend)
    return weights


def graph_weights(model: onnx.ModelProto, teacher: Teacher) -> dict[str, Float32]:
    """The weights of an INT8 graph of `export.convert`, by the names of a teacher of its shape.

    All but the token table, and positions for its longest input alone. What the graph does not have is the teacher's.
    """
    reader = _Reader(model, teacher)
    block.pool(reader, block.run(reader, None, teacher.shape), teacher.head)
    return reader.weights


class _Reader(block.Idle):
    """Goes along a graph and notes the weights."""

    def __init__(self, model: onnx.ModelProto, teacher: Teacher) -> None:
        self.shape = teacher.shape
        self.weights = {name: weight for name, weight in teacher.weights.items() if name != network.TABLE}
        self._nodes, self._constants = model.graph.node, convert.constants(model)
        self._norms = (node for node in model.graph.node if node.op_type == "LayerNormalization")
        self._products = iter(convert.products(model))

    def placed(self, x: None) -> None:
        # Positions have the first type in them.
        name = f"{block.TYPES}.weight"
        first = self.weights[name][0] if self.shape.types else np.float32(0)
        if self.shape.positions:
            self.weights[f"{block.POSITIONS}.weight"] = self._first("Slice", 0) - first
        elif self.shape.types:
            self._put(name, 0, self._first("Add", 1))

    def norm(self, x: None, name: str) -> None:
        if f"{name}.weight" in self.weights:
            for part, constant in zip(("weight", "bias"), next(self._norms).input[1:], strict=False):
                self.weights[f"{name}.{part}"] = self._constants[constant]

    def dense(self, x: None, name: str) -> None:
        self._take([name])

    def dense_pair(self, x: None, names: tuple[str, str]) -> tuple[None, None]:
        self._take(names)
        return None, None

    def attention(self, x: None, layer: int) -> None:
        prefix = f"{block.layer_name(layer)}attention."
        depth = len(self.weights[f"{prefix}output.dense.weight"]) // self.shape.heads
        self._take([f"{prefix}self.{part}" for part in ("query", "key", "value")], depth**-0.5)
        if self.shape.relative and layer == 0:
            table = self._first("Gather", 0).T
            farthest = len(table) // 2
            buckets = block.buckets(np.arange(-farthest, farthest + 1))
            self._put(f"{block.RELATIVE}.weight", buckets, table)
        self.dense(x, f"{prefix}output.dense")

    def _first(self, operator: str, place: int) -> Float32:
        """The first constant that such a node takes at a place."""
        return next(
            self._constants[node.input[place]]
            for node in self._nodes
            if node.op_type == operator and node.input[place] in self._constants
        )

    def _put(self, name: str, rows: Any, values: Float32) -> None:
        """Replace some rows of a weight."""
        self.weights[name] = self.weights[name].copy()
        self.weights[name][rows] = values

    def _take(self, names: Sequence[str], factor: float = 1.0) -> None:
        """The next product, of one dense layer or of several side by side; the first one times a factor."""
        product = next(self._products)
        weights = np.split((product.weights * product.reciprocals[:, None]).T, len(names))
        for number, (name, weight, bias) in enumerate(
            zip(names, weights, np.split(product.bias, len(names)), strict=True)
        ):
            undone = np.float32(1 if number else 1 / factor)
            self.weights[f"{name}.weight"] = weight * undone
            if f"{name}.bias" in self.weights:
                self.weights[f"{name}.bias"] = bias * undone
