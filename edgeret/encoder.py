"""Texts to unit vectors: tokens, their rows of the token table, a backend's graph.

One text is one inference, never padded: a text's vector depends on that text alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.bundle import Bundle, available
from edgeret.codec import Codec
from edgeret.errors import BackendError, InvalidDocumentError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Float32 = NDArray[np.float32]

_LEAST_GOLDEN_COSINE: Final = 0.98

# Growth of the peak RSS on x86-64, rounded up: importing onnxruntime, a vocabulary of 30,000 words,
# and repeated texts of 256 tokens through six layers of 384 dims.
_RUNTIME_BYTES: Final = 20_000_000
_TOKENIZER_BYTES: Final = 15_000_000
_TEXT_BYTES: Final = 32_000_000


class Backend(Protocol):
    """What runs a bundle's graph. Called from several threads at once."""

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        ...


class OnnxBackend:
    """The graph on onnxruntime, one core for each text."""

    def __init__(self, bundle: Bundle) -> None:
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
        # An arena keeps the memory of the longest text seen for ever; without it, it is given back.
        options.enable_cpu_mem_arena = False
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

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        vector: Float32 = self._session.run([self._graph.output], {self._graph.input: tokens})[0][0]
        return vector


_BACKENDS: Final[dict[str, Callable[[Bundle], Backend]]] = {"onnx": OnnxBackend}


class _Pipeline(NamedTuple):
    """What turns a text into a vector, once started."""

    tokenizer: Tokenizer
    rows: NDArray[np.int8]
    scales: Float32
    backend: Backend
    max_tokens: int

    def encode(self, text: str) -> Float32:
        ids = _tokenize(self.tokenizer, text).ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]
        tokens = self.rows[ids] * self.scales[ids][:, None]
        return self.backend.run(tokens[None])


class Encoder:
    """A bundle ready to encode. Tokenizer and backend start when they are first needed.

    name: the bundle's name, or its folder if it is not installed: `load` finds it again. threads:
    texts encoded at once, one core each. May be used from any thread.
    """

    def __init__(self, bundle: Bundle, name: str, backend: str, threads: int) -> None:
        self.bundle = bundle
        self.name = name
        self.backend = backend
        self.threads = threads
        self._starting = threading.Lock()
        self._started: _Pipeline | None = None

    @classmethod
    def load(cls, name_or_path: str | Path, backend: str | None = None, threads: int = 1) -> Encoder:
        """Load a bundle by its name or folder. This is light: the bundle is verified, nothing started.

        backend: "onnx"; by default the first that the bundle has. Raises BundleError,
        FormatVersionError, or BackendError for a backend that the bundle does not have.
        """
        bundle = Bundle.open(name_or_path)
        backends = [name for name in _BACKENDS if name in bundle.manifest.graphs]
        chosen = backend or next(iter(backends), None)
        if chosen not in backends:
            raise BackendError(
                f"expected a backend of bundle {bundle.name!r}, found {chosen!r}: "
                f"choose {' or '.join(map(repr, backends)) or 'another bundle, or upgrade edgeret'}"
            )
        installed = name_or_path in available()
        return cls(bundle, bundle.name if installed else str(bundle.path.resolve()), chosen, threads)

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return self.bundle.dim

    @property
    def geometry(self) -> str:
        """Fingerprint of the teacher's map from text to vector."""
        return self.bundle.geometry

    @property
    def codec_id(self) -> str:
        """Fingerprint of the codec."""
        return self.bundle.codec_id

    @property
    def space(self) -> str:
        """Fingerprint of geometry and codec."""
        return self.bundle.space

    @cached_property
    def codec(self) -> Codec:
        """The codec of the space."""
        return self.bundle.codec()

    @property
    def planned_bytes(self) -> dict[str, int]:
        """What encoding adds to the process at most, part by part, in bytes."""
        files, graph = self.bundle.manifest.files, self.bundle.manifest.graphs[self.backend]
        return {
            "runtime library": _RUNTIME_BYTES,
            "tokenizer": _TOKENIZER_BYTES,
            "session": files[graph.file].nbytes * 5 // 2,
            "longest texts": _TEXT_BYTES * self.threads,
            "token table": files[self.bundle.manifest.tensors["tokens"].file].nbytes,
        }

    @property
    def passage_tokens(self) -> int:
        """Tokens of the longest passage that is encoded whole, special tokens not counted."""
        return self.bundle.max_tokens - self._pipeline().tokenizer.num_special_tokens_to_add(is_pair=False)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts -> float32 [n, dim], unit rows; a text is cut after `max_tokens` tokens.

        A text's vector is the same, bit for bit, alone or among others. Raises InvalidDocumentError
        for a text that is not Unicode, and BackendError for a backend that answers wrongly.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        encode = self._pipeline().encode
        if min(self.threads, len(texts)) > 1:
            with ThreadPoolExecutor(self.threads) as pool:
                rows = list(pool.map(encode, texts))
        else:
            rows = [encode(text) for text in texts]
        return np.stack(rows, out=vectors)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where the text's tokens stand, in characters: no special tokens, nothing cut."""
        spans: list[tuple[int, int]] = _tokenize(self._pipeline().tokenizer, text, special=False).offsets
        return spans

    def _pipeline(self) -> _Pipeline:
        with self._starting:
            if self._started is None:
                self._started = self._start()
            return self._started

    def _start(self) -> _Pipeline:
        backend = _BACKENDS[self.backend](self.bundle)
        pipeline = _Pipeline(
            _load_tokenizer(self.bundle), *self.bundle.token_table(), backend, self.bundle.max_tokens
        )
        golden = self.bundle.golden()
        cosine = float(pipeline.encode(golden.texts[0]) @ golden.own[0])
        if not cosine >= _LEAST_GOLDEN_COSINE:
            raise BackendError(
                f"expected the {self.backend!r} backend to repeat the bundle's golden vector with a cosine of at "
                f"least {_LEAST_GOLDEN_COSINE}, found {cosine:.3f}: install another release of its runtime"
            )
        return pipeline


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackendError("expected tokenizers, found no such package: pip install tokenizers") from error
    return Tokenizer.from_file(str(bundle.file("tokenizer.json")))


def _tokenize(tokenizer: Tokenizer, text: str, *, special: bool = True) -> Encoding:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(
            f"expected Unicode text, found a lone surrogate at {error.start}: read the text as UTF-8"
        ) from error
    return tokenizer.encode(text, add_special_tokens=special)
