"""Rerankers: a model that reads a query and a text together, and says how well the text answers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Float32
from edgeret.door import checked
from edgeret.encode.backend import Evaluator, choose
from edgeret.encode.bundle import Bundle, likeness
from edgeret.encode.manifest import load_json, refuse
from edgeret.encode.onnx import OnnxBackend
from edgeret.encode.records import TextEncoder
from edgeret.encode.tables import check
from edgeret.encode.tflite import TfliteBackend
from edgeret.encode.tokenizer import Tokenizer, load_tokenizer, planned_bytes
from edgeret.errors import BackendError, BundleError, InvalidQueryError
from edgeret.turns import Start

KIND: Final = "reranker"
"""In a manifest."""

PAIRS: Final = "pairs.json"
"""The file with the pairs whose scores are known."""

_BACKENDS: Final[dict[str, type[Evaluator]]] = {"onnx": OnnxBackend, "tflite": TfliteBackend}
_LEAST_LIKENESS: Final = 0.97
_RUNTIME: Final = "runtime library"


class Proof(NamedTuple):
    """Pairs of a query and a text with the fp32 model's scores and this bundle's own, float32 [pairs] each."""

    pairs: list[tuple[str, str]]
    teacher: NDArray[np.float32]
    own: NDArray[np.float32]


class _Pipeline(NamedTuple):
    """What scores a pair, once started. first, last: ids around a text. between: how often `last` is between two."""

    tokenizer: Tokenizer
    backend: Evaluator
    second: Float32
    first: int
    last: int
    between: int
    max_tokens: int

    def score(self, query: str, text: str) -> np.float32:
        check(query)
        check(text)
        room = self.max_tokens - 2 - self.between
        asked, told = (self.tokenizer.tokenize(part, special=False).ids for part in (query, text))
        # A long query leaves half of the room to the text.
        asked = asked[: max(room // 2, room - len(told))]
        told = told[: room - len(asked)]
        ids = [self.first, *asked, *[self.last] * self.between, *told, self.last]
        # The model knows the second text by what is added to its tokens.
        found = self.backend.evaluate(ids, self.second, len(asked) + 1 + self.between)
        if found.dtype != np.float32 or found.shape != (1, 1) or not np.isfinite(found).all():
            raise BackendError(
                f"expected a graph that gives a score, found {found.dtype} {found.shape} or no finite number: export "
                "the bundle again"
            )
        return np.float32(found[0, 0])


class Reranker:
    """A bundle of a cross-encoder, ready to score. Tokenizer and backend start when they are first needed.

    Made by `Reranker.load`. May be used from any thread.

    Args:
        bundle: The opened bundle.
        backend: What runs the model, one that the bundle has.
    """

    def __init__(self, bundle: Bundle, backend: str) -> None:
        self.bundle = bundle
        self.name = bundle.name
        self.backend = backend
        self._started = Start[_Pipeline]()

    @classmethod
    @checked
    def load(cls, name_or_path: str | Path, backend: str | None = None) -> Reranker:
        """Load a bundle by its name or folder. This is light: the bundle is verified, nothing is started.

        Args:
            name_or_path: The name of a bundle in a folder of EDGERET_MODELS, or a bundle's folder.
            backend: "onnx" or "tflite". None takes the first of these that the bundle has and whose package is
                installed.

        Returns:
            The reranker.

        Raises:
            BundleError: The bundle is missing, damaged, or an encoder.
            FormatVersionError: A newer edgeret wrote the bundle.
            BackendError: The bundle does not have this backend.
        """
        if backend is not None and backend not in _BACKENDS:
            raise BackendError(
                f"expected {' or '.join(map(repr, _BACKENDS))}, found {backend!r:.80}: choose one of these backends"
            )
        bundle = Bundle.open(name_or_path)
        if bundle.manifest.kind != KIND:
            raise BundleError(
                f"expected a reranker, bundle {bundle.name!r} is an encoder: make one with 'python -m export reranker'"
            )
        return cls(bundle, choose(bundle, _BACKENDS, backend))

    def __repr__(self) -> str:
        return f"<edgeret.Reranker {self.name!r}, at most {self.bundle.max_tokens} tokens, {self.backend}>"

    @property
    def planned_bytes(self) -> dict[str, int]:
        """What scoring adds to the process at most, part by part, in bytes."""
        return planned_bytes(self.bundle) | _BACKENDS[self.backend].planned_bytes(self.bundle, 1)

    @checked
    def score(self, query: str, texts: Iterable[str]) -> Float32:
        """Score how well texts answer a query. A score is the same alone or among others, and has no scale of its own.

        Args:
            query: The query; of one that takes more than half of what the model reads, the beginning.
            texts: An iterable of strings; of each, as much as the model reads.

        Returns:
            float32 [n], higher is better.

        Raises:
            InvalidQueryError: The query is empty, or a vector.
            InvalidDocumentError: A text is not Unicode.
            BackendError: The backend answers wrongly, or its package is missing.
        """
        if not isinstance(query, str):
            raise InvalidQueryError("expected a query of words, got a vector: a reranker reads texts")
        pipeline = self._pipeline()
        return np.array([pipeline.score(query, text) for text in texts], dtype=np.float32)

    def __call__(self, query: str, texts: Iterable[str]) -> Float32:
        """As `score`: a reranker is a function like one of an application's own."""
        return self.score(query, texts)

    def proof(self) -> Proof:
        """The pairs whose scores are known. Raises BundleError if there are none."""
        listed = load_json(self.bundle.file(PAIRS), self.bundle.links).get("pairs")
        if not isinstance(listed, list) or not listed or not all(_is_pair(pair) for pair in listed):
            refuse(self.bundle.path, f"a list of pairs in {PAIRS}", f"{listed!r:.80}")
        shape = (len(listed),)
        scores = (self.bundle.shaped(f"golden.{whose}", "float32", shape) for whose in ("teacher", "own"))
        return Proof([(query, text) for query, text in listed], *scores)

    def _pipeline(self) -> _Pipeline:
        return self._started.made(self._start)

    def _start(self) -> _Pipeline:
        bundle = self.bundle
        tokenizer = load_tokenizer(bundle)
        ends = tokenizer.tokenize("").ids
        if len(ends) != 2:
            refuse(
                bundle.path, "a tokenizer that puts one token at each end of a text", f"{len(ends)} around it"
            )
        second = bundle.shaped("second", "float32", (bundle.token_width,))
        between = int(bundle.shaped("between", "int8", (1,))[0])
        if not (0 < between < 3 and bundle.max_tokens > 2 + between + 2 and np.isfinite(second).all()):
            refuse(bundle.path, "one or two tokens between two texts, and room for both", str(between))
        backend = _BACKENDS[self.backend](bundle, 1)
        pipeline = _Pipeline(tokenizer, backend, second, ends[0], ends[1], between, bundle.max_tokens)
        known = self.proof()
        found = pipeline.score(*known.pairs[0])
        alike = float(likeness(np.array([[found]]), known.own[:, None])[0])
        if not alike >= _LEAST_LIKENESS:
            raise BackendError(
                f"expected the {self.backend!r} backend to repeat the bundle's own score {known.own[0]:.4f}, found "
                f"{found:.4f}: install another release of its runtime"
            )
        return pipeline


def more_bytes(reranker: Reranker, encoder: TextEncoder) -> int:
    """What a reranker adds to the process beside an encoder, which may have brought the same runtime."""
    parts, there = reranker.planned_bytes, encoder.planned_bytes
    brought = getattr(encoder, "backend", None) == reranker.backend and _RUNTIME in there
    return sum(size for part, size in parts.items() if part != _RUNTIME or not brought)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
