"""Texts to unit vectors: a tokenizer, and a backend for the ids of its tokens.

One text is one inference, never padded: a text's vector depends on that text alone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.backends import Backend, OnnxBackend
from edgeret.bundle import Bundle, available
from edgeret.codec import Codec
from edgeret.errors import BackendError
from edgeret.manifest import refuse
from edgeret.static import StaticBackend
from edgeret.tflite import TfliteBackend
from edgeret.tokenizer import TOKENIZER_BYTES, load_tokenizer, special_tokens, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Float32 = NDArray[np.float32]

_LEAST_GOLDEN_COSINE: Final = 0.98


BACKENDS: Final[dict[str, type[Backend]]] = {
    "onnx": OnnxBackend,
    "tflite": TfliteBackend,
    "static": StaticBackend,
}


class _Pipeline(NamedTuple):
    """What turns a text into a vector, once started."""

    tokenizer: Tokenizer
    backend: Backend
    max_tokens: int
    map: Float32 | None

    def encode(self, text: str) -> Float32:
        ids = tokenize(self.tokenizer, text).ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]
        vector = self.backend.run(ids)
        if self.map is None:
            return vector
        mapped = vector @ self.map
        return mapped / np.float32(np.linalg.norm(mapped) or 1)


class Encoder:
    """A bundle ready to encode. Tokenizer and backend start when they are first needed.

    name: the bundle's name, or its folder if it is not installed: `load` finds it again. threads:
    texts encoded at once, one core each. max_tokens: the longest input, special tokens included; by default
    the bundle's. May be used from any thread.
    """

    def __init__(
        self, bundle: Bundle, name: str, backend: str, threads: int, max_tokens: int | None = None
    ) -> None:
        self.bundle = bundle
        self.name = name
        self.backend = backend
        self.threads = threads
        self.max_tokens = max_tokens or bundle.max_tokens
        # Again by a signal handler that encodes within the call that starts: then there are two for a while.
        self._starting = threading.RLock()
        self._started: _Pipeline | None = None

    @classmethod
    def load(cls, name_or_path: str | Path, backend: str | None = None, threads: int = 1) -> Encoder:
        """Load a bundle by its name or folder. This is light: the bundle is verified, nothing started.

        backend: "onnx", "tflite" or "static"; by default the first of these that the bundle has and whose
        package is installed. Raises BundleError, FormatVersionError, or BackendError for a backend that the
        bundle does not have.
        """
        bundle = Bundle.open(name_or_path)
        backends = [name for name, kind in BACKENDS.items() if kind.serves(bundle)]
        ready = [name for name in backends if BACKENDS[name].installed()]
        # With no package at all, the first one's start says which to install.
        chosen = backend or next(iter(ready or backends), None)
        if chosen not in backends:
            raise BackendError(
                f"expected a backend of bundle {bundle.name!r}, found {chosen!r}: "
                f"choose {' or '.join(map(repr, backends)) or 'another bundle, or upgrade edgeret'}"
            )
        installed = name_or_path in available()
        return cls(bundle, bundle.name if installed else str(bundle.path.resolve()), chosen, threads)

    def shortened(self, divisor: int) -> Encoder:
        """An encoder, not started, of the same bundle, whose longest input is `divisor` times shorter."""
        return Encoder(self.bundle, self.name, self.backend, self.threads, self.max_tokens // divisor)

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
            "tokenizer": TOKENIZER_BYTES,
            "token table": files[tensors["tokens"].file].nbytes,
        }
        if "map" in tensors:
            table["map"] = tensors["map"].nbytes
        return table | BACKENDS[self.backend].planned_bytes(self.bundle, self.threads)

    @property
    def passage_tokens(self) -> int:
        """Tokens of the longest passage that is encoded whole, special tokens not counted."""
        return self.max_tokens - special_tokens(self._pipeline().tokenizer)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts -> float32 [n, dim], unit rows; a text is cut after `max_tokens` tokens.

        A text's vector is the same, bit for bit, alone or among others. Raises InvalidDocumentError
        for a text that is not Unicode, and BackendError for a backend that answers wrongly.
        """
        if len(texts) == 1:
            # What several texts need would take as long as the graph of the smallest bundle.
            return self._pipeline().encode(texts[0])[None]
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
        spans: list[tuple[int, int]] = tokenize(self._pipeline().tokenizer, text, special=False).offsets
        return spans

    def _pipeline(self) -> _Pipeline:
        # The lock takes as long as a part of a short text's encoding.
        if self._started is None:
            with self._starting:
                self._started = self._started or self._start()
        return self._started

    def _start(self) -> _Pipeline:
        backend = BACKENDS[self.backend](self.bundle, self.threads)
        pipeline = _Pipeline(load_tokenizer(self.bundle), backend, self.max_tokens, _load_map(self.bundle))
        special = special_tokens(pipeline.tokenizer)
        if special >= self.max_tokens:
            refuse(self.bundle.path, f"'max_tokens' above its {special} special tokens", str(self.max_tokens))
        golden = self.bundle.golden()
        cosine = float(pipeline.encode(golden.texts[0]) @ golden.own[0])
        if not cosine >= _LEAST_GOLDEN_COSINE:
            raise BackendError(
                f"expected the {self.backend!r} backend to repeat the bundle's golden vector with a cosine of at "
                f"least {_LEAST_GOLDEN_COSINE}, found {cosine:.3f}: install another release of its runtime"
            )
        return pipeline


def _load_map(bundle: Bundle) -> Float32 | None:
    if "map" not in bundle.manifest.tensors:
        return None
    found = bundle.shaped("map", "float32", (bundle.width, bundle.dim))
    if not np.isfinite(found).all():
        refuse(bundle.path, "a map of finite numbers", "a NaN or an infinity")
    return found
