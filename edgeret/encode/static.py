"""The static student: the sum of a text's token embeddings, and a small network that corrects its direction.

Two builds of one function: a C kernel where the package was built with one, and a NumPy reference. Their vectors
differ by rounding only; `EDGERET_NO_NATIVE=1` forces the reference.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle
from edgeret.encode.tokens import TokenTable, is_packed
from edgeret.errors import BundleError
from edgeret.native import is_allowed

try:
    from edgeret.encode import _static
except ImportError:
    _static = None  # type: ignore[assignment]

Float32 = NDArray[np.float32]
Encode = Callable[[list[int]], Float32]

# Rows of a table of 4 bits that the kernel keeps, in pieces of 256: those that texts have first, which are nearly all.
_KEPT: Final = 16_384
_POINTER: Final = 8

# Growth of the peak RSS on x86-64, rounded up, with repeated texts of 256 tokens.
_TEXT_BYTES: Final = 1_500_000


class StaticBackend:
    """No graph: the C kernel, or NumPy alone."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        table = TokenTable(bundle)
        if not _has_head(bundle):
            self._encode: Encode = lambda ids: _unit(np.add.reduce(table.take(ids)))
            return
        hidden = bundle.placed("inner_bias").shape[0]
        inner = Layer.read(bundle, "inner", (hidden, bundle.width))
        outer = Layer.read(bundle, "outer", (bundle.width, hidden))
        if not runs_native(bundle):
            self._encode = reference(table, inner, outer)
        elif is_packed(bundle):
            self._encode = native(table, inner, outer)
        else:
            self._encode = native_head(table, inner, outer)

    @staticmethod
    def serves(bundle: Bundle) -> bool:
        """Whether the bundle is a static one."""
        return bundle.manifest.kind == "static"

    @staticmethod
    def installed() -> bool:
        """True: NumPy is enough."""
        return True

    @staticmethod
    def planned_bytes(bundle: Bundle, threads: int) -> dict[str, int]:
        """What it adds to the process at most, part by part, in bytes."""
        tensors = bundle.manifest.tensors
        weights = sum(tensors[name].nbytes for name in ("inner", "outer") if _has_head(bundle))
        # NumPy has them as float32, four bytes each.
        planned = {
            "head": weights if runs_native(bundle) else 4 * weights,
            "longest texts": _TEXT_BYTES * threads,
        }
        if runs_native(bundle) and is_packed(bundle):
            # In the place of the rows that NumPy would keep.
            count, width = tensors["tokens"].shape
            kept = count * _POINTER + min(count, _KEPT) * width
            planned["token table"] = tensors["token_scales"].nbytes + kept
        return planned

    def run(self, ids: list[int]) -> Float32:
        """Token ids -> a unit vector [dim]. Raises BundleError for an id without an embedding, or weights too large."""
        return self._encode(ids)


class Layer(NamedTuple):
    """A dense layer: weights int8 [outputs, inputs], for each output a scale and a bias, float32."""

    weights: NDArray[np.int8]
    scales: Float32
    bias: Float32

    @classmethod
    def read(cls, bundle: Bundle, name: str, shape: tuple[int, int]) -> Layer:
        """Read a layer. Raises BundleError for tensors of another dtype or shape."""
        return cls(
            bundle.shaped(name, "int8", shape),
            bundle.shaped(name + "_scales", "float32", shape[:1]),
            bundle.shaped(name + "_bias", "float32", shape[:1]),
        )


def runs_native(bundle: Bundle) -> bool:
    """Whether the C kernel runs the bundle's head; it takes floats as the file has them."""
    return _static is not None and is_allowed() and _has_head(bundle) and sys.byteorder == "little"


def _has_head(bundle: Bundle) -> bool:
    """Whether a small network corrects the sum. A table that learned by itself has none."""
    return "inner" in bundle.manifest.tensors


def native(table: TokenTable, inner: Layer, outer: Layer, isa: str | None = None) -> Encode:
    """The C kernel of a table of 4 bits, on an instruction set of `_static.isas()`; by default the best.

    All give the same bits.
    """
    student = _static.student(table.read, _KEPT, table.scales, *inner, *outer, isa or _static.isas()[0])
    dim, dtype = len(outer.bias), np.dtype(np.float32)

    def encode(ids: list[int]) -> Float32:
        # Half the time of `frombuffer`. Nobody else has the buffer.
        return np.ndarray(dim, dtype, _static.encode(student, ids))

    return encode


def native_head(table: TokenTable, inner: Layer, outer: Layer, isa: str | None = None) -> Encode:
    """The C kernel behind a sum of NumPy's, of any other table."""
    head = _static.head(*inner, *outer, isa or _static.isas()[0])

    def encode(ids: list[int]) -> Float32:
        return np.frombuffer(_static.correct(head, np.add.reduce(table.take(ids))), np.float32)

    return encode


def reference(table: TokenTable, inner: Layer, outer: Layer) -> Encode:
    """The same in NumPy."""
    inner_weights, outer_weights = (layer.weights * layer.scales[:, None] for layer in (inner, outer))

    def encode(ids: list[int]) -> Float32:
        total = _unit(np.add.reduce(table.take(ids)))
        activations = inner_weights @ total
        activations += inner.bias
        np.maximum(activations, 0, out=activations)
        total += outer_weights @ activations
        total += outer.bias
        return _unit(total)

    return encode


def _unit(vector: Float32) -> Float32:
    length = math.sqrt(vector @ vector)
    if not math.isfinite(length):
        raise BundleError(
            "expected weights that give finite vectors, got larger ones: install or export the bundle again"
        )
    return vector / np.float32(length) if length else vector
