"""Texts to unit vectors: tokens, their rows of the token table, a backend's graph or a plain sum.

One text is one inference, never padded: a text's vector depends on that text alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.bundle import Bundle, available
from edgeret.codec import Codec
from edgeret.errors import BackendError, BundleError, InvalidDocumentError
from edgeret.manifest import refuse

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Float32 = NDArray[np.float32]

_LEAST_GOLDEN_COSINE: Final = 0.98

# The two entries, -7 to 7, that a byte of a table of 4 bits holds, low nibble first; 8 bytes an entry, so that
# one lookup gives both.
_NIBBLES: Final = np.stack(np.divmod(np.arange(256), 16)[::-1], axis=1).astype(np.float32) - 8
_PAIRS: Final = _NIBBLES.view(np.float64)[:, 0]

# Growth of the peak RSS on x86-64, rounded up: importing onnxruntime, a vocabulary of 30,000 words,
# and repeated texts of 256 tokens through six layers of 384 dims.
_RUNTIME_BYTES: Final = 20_000_000
_TOKENIZER_BYTES: Final = 15_000_000
_TEXT_BYTES: Final = 32_000_000
_STATIC_TEXT_BYTES: Final = 2_000_000


class Backend(Protocol):
    """What runs a bundle's graph. Called from several threads at once."""

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        ...


class OnnxBackend:
    """The graph on onnxruntime, one core for each text."""

    def __init__(self, bundle: Bundle) -> None:
        # Else it sends events about its use to its maker; it looks once, when it is imported.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
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


class StaticBackend:
    """No graph: the sum of the token embeddings, and a small network that corrects its direction. NumPy only."""

    def __init__(self, bundle: Bundle) -> None:
        hidden = len(bundle.tensor("inner_bias"))
        self._inner, self._inner_bias = _dense(bundle, "inner", (hidden, bundle.dim))
        self._outer, self._outer_bias = _dense(bundle, "outer", (bundle.dim, hidden))

    def run(self, tokens: Float32) -> Float32:
        """Token embeddings [1, n, dim] -> a unit vector [dim]."""
        total = _unit(np.add.reduce(tokens[0]))
        inner = self._inner @ total
        inner += self._inner_bias
        np.maximum(inner, 0, out=inner)
        total += self._outer @ inner
        total += self._outer_bias
        return _unit(total)


_BACKENDS: Final[dict[str, Callable[[Bundle], Backend]]] = {"onnx": OnnxBackend, "static": StaticBackend}


class _Table:
    """The token embeddings, mapped: int8, or 4 bits, two entries in a byte."""

    def __init__(self, bundle: Bundle) -> None:
        self._packed = bundle.tensor("tokens").dtype == np.uint8
        if self._packed:
            count = len(bundle.tensor("tokens"))
            self._rows = _tensor(bundle, "tokens", "uint8", (count, bundle.dim // 2))
            self._scales = _tensor(bundle, "token_scales", "float32", (count,))
        else:
            self._rows, self._scales = bundle.token_table()

    def take(self, ids: list[int]) -> Float32:
        """Token ids -> their embeddings, float32 [n, dim]."""
        rows = self._rows.take(ids, axis=0)
        values = _PAIRS.take(rows).view(np.float32) if self._packed else rows
        tokens: Float32 = values * self._scales.take(ids)[:, None]
        return tokens


class _Pipeline(NamedTuple):
    """What turns a text into a vector, once started."""

    tokenizer: Tokenizer
    table: _Table
    backend: Backend
    max_tokens: int

    def encode(self, text: str) -> Float32:
        ids = _tokenize(self.tokenizer, text).ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]
        return self.backend.run(self.table.take(ids)[None])


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

        backend: "onnx" or "static"; by default the first that the bundle has. Raises BundleError,
        FormatVersionError, or BackendError for a backend that the bundle does not have.
        """
        bundle = Bundle.open(name_or_path)
        served = {"static"} if bundle.manifest.kind == "static" else set(bundle.manifest.graphs)
        backends = [name for name in _BACKENDS if name in served]
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
        files, tensors = self.bundle.manifest.files, self.bundle.manifest.tensors
        table = {
            "tokenizer": _TOKENIZER_BYTES,
            "token table": files[tensors["tokens"].file].nbytes,
        }
        if self.backend == "static":
            # The weights as float32, four bytes each.
            head = tensors["inner"].nbytes + tensors["outer"].nbytes
            return table | {"head": 4 * head, "longest texts": _STATIC_TEXT_BYTES * self.threads}
        graph = self.bundle.manifest.graphs[self.backend]
        return table | {
            "runtime library": _RUNTIME_BYTES,
            "session": files[graph.file].nbytes * 5 // 2,
            "longest texts": _TEXT_BYTES * self.threads,
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
                rows = pool.map(encode, texts)
        else:
            rows = map(encode, texts)
        for row, vector in enumerate(rows):
            vectors[row] = vector
        return vectors

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
            _load_tokenizer(self.bundle), _Table(self.bundle), backend, self.bundle.max_tokens
        )
        golden = self.bundle.golden()
        cosine = float(pipeline.encode(golden.texts[0]) @ golden.own[0])
        if not cosine >= _LEAST_GOLDEN_COSINE:
            raise BackendError(
                f"expected the {self.backend!r} backend to repeat the bundle's golden vector with a cosine of at "
                f"least {_LEAST_GOLDEN_COSINE}, found {cosine:.3f}: install another release of its runtime"
            )
        return pipeline


def _dense(bundle: Bundle, name: str, shape: tuple[int, int]) -> tuple[Float32, Float32]:
    """A dense layer: weights float32 [outputs, inputs], stored as int8 with a scale for each output, and biases."""
    weights = _tensor(bundle, name, "int8", shape)
    scales = _tensor(bundle, name + "_scales", "float32", shape[:1])
    return weights * scales[:, None], np.array(_tensor(bundle, name + "_bias", "float32", shape[:1]))


def _tensor(bundle: Bundle, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    array, found = bundle.tensor(name), bundle.manifest.tensors[name]
    if (found.dtype, found.shape) != (dtype, shape):
        refuse(bundle.path, f"{name} as {dtype} {shape}", f"{found.dtype} {found.shape}")
    return array


def _unit(vector: Float32) -> Float32:
    length = float(np.sqrt(vector @ vector))
    return vector / np.float32(length) if length else vector


def _load_tokenizer(bundle: Bundle) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BackendError("expected tokenizers, found no such package: pip install tokenizers") from error
    try:
        return Tokenizer.from_file(str(bundle.file("tokenizer.json")))
    # The package has no class of its own for a file that it cannot read.
    except Exception as error:
        raise BundleError(
            f"bundle {bundle.path}: expected a tokenizer in tokenizer.json, found {error}: "
            "install or export the bundle again"
        ) from error


def _tokenize(tokenizer: Tokenizer, text: str, *, special: bool = True) -> Encoding:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(
            f"expected Unicode text, found a lone surrogate at {error.start}: read the text as UTF-8"
        ) from error
    return tokenizer.encode(text, add_special_tokens=special)
