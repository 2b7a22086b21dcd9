"""What runs a bundle: the protocol, and what the backends with a graph share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle
from edgeret.errors import BackendError

Float32 = NDArray[np.float32]

# How far from 1 the length of a vector may be: what rounding does is far below.
_LENGTH_TOLERANCE: Final = 1e-2


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


class Evaluator(Backend, Protocol):
    """A backend with a graph, whose tokens may be of two texts, and which may give something else than a vector."""

    def evaluate(self, ids: list[int], added: Float32, start: int) -> NDArray[Any]:
        """What the graph gives for token ids, `added` [width] to the embeddings from number `start` on."""
        ...


def choose(bundle: Bundle, kinds: Mapping[str, type[Backend]], asked: str | None) -> str:
    """The backend that is asked for, or the first of `kinds` that the bundle has and whose package is installed.

    Raises BackendError for one that the bundle does not have.
    """
    backends = [name for name, kind in kinds.items() if kind.serves(bundle)]
    ready = [name for name in backends if kinds[name].installed()]
    # With no package at all, the first one's start says which to install.
    chosen = asked or next(iter(ready or backends), None)
    if chosen is None or chosen not in backends:
        raise BackendError(
            f"expected a backend of bundle {bundle.name!r}, found {chosen!r:.80}: "
            f"choose {' or '.join(map(repr, backends)) or 'another bundle, or upgrade edgeret'}"
        )
    return chosen


def unit(found: Any, width: int) -> Float32:
    """float32 [1, width] of length 1, as a graph must give it -> [width]. Raises BackendError for anything else."""
    is_array = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (np.float32, (1, width))
    length = math.sqrt(found[0] @ found[0]) if is_array else math.nan
    # A NaN is beyond any number.
    if not abs(length - 1) <= _LENGTH_TOLERANCE:
        shown = (
            f"a length of {length}"
            if is_array
            else f"{getattr(found, 'dtype', type(found))} {np.shape(found)}"
        )
        raise BackendError(
            f"expected a graph that gives a vector, float32 (1, {width}) of length 1, found {shown}: "
            "install or export the bundle again"
        )
    vector: Float32 = found[0]
    return vector


def has_graph(bundle: Bundle, name: str) -> bool:
    """Whether the bundle names a graph for this backend and holds its file: an installation may leave it out."""
    graph = bundle.manifest.graphs.get(name)
    return graph is not None and (bundle.path / graph.file).is_file()
