"""Vectors that are computed once: an encoder whose answers are kept in a file."""

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edgeret.encode.bundle import fingerprint
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS

Float32 = NDArray[np.float32]

CACHE = Path(".cache/vectors")
_CHUNK = 128
_NOT_IN_VECTORS = {"codec", "golden", "card"}


class CachedEncoder:
    """An encoder that keeps each text's vector on disk, so that an interrupted or repeated run is short.

    key names the weights (a hash): vectors of another key are never mixed in. What is not about vectors
    is asked of the encoder itself.
    """

    def __init__(self, encoder: Any, key: str, folder: Path = CACHE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder = encoder
        self._path = folder / f"{key}.sqlite"
        self._connect().close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts, as documents -> float32 [n, dim], unit rows."""
        return self._vectors(texts, "", self._encoder.encode)

    def encode_queries(self, texts: Sequence[str]) -> Float32:
        """Texts, as queries -> float32 [n, dim], unit rows."""
        prompts = getattr(self._encoder, "prompts", NO_PROMPTS)
        if prompts.query == prompts.document and not getattr(self._encoder, "sided", False):
            return self.encode(texts)
        return self._vectors(texts, f"query {prompts.query}\0", self._encoder.encode_queries)

    def encode_query(self, text: str) -> Float32:
        """A query, cut where its encoder ends -> float32 [1, dim]."""
        return self.encode_queries([text])

    def _vectors(
        self, texts: Sequence[str], side: str, encode: Callable[[Sequence[str]], Float32]
    ) -> Float32:
        keys = [hashlib.sha256((side + text).encode()).digest() for text in texts]
        with closing(self._connect()) as file:
            known = self._read(file, keys)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            # Longest first: what does not fit in memory fails at once, and the bar's estimate errs high.
            waiting = sorted(missing.items(), key=lambda item: -len(item[1]))
            for start in tqdm(range(0, len(waiting), _CHUNK), self._encoder.name, disable=None, leave=False):
                chunk = waiting[start : start + _CHUNK]
                rows = encode([text for _, text in chunk])
                known.update(zip((key for key, _ in chunk), rows, strict=True))
                with file:
                    file.executemany(
                        "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                        [
                            (key, row.astype("<f4").tobytes())
                            for (key, _), row in zip(chunk, rows, strict=True)
                        ],
                    )
        return np.array([known[key] for key in keys], dtype=np.float32).reshape(len(keys), -1)

    def _connect(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=60)
        file.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        return file

    def _read(self, file: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, Float32]:
        found = {}
        for key in keys:
            row = file.execute("SELECT vector FROM vectors WHERE text = ?", [key]).fetchone()
            if row:
                found[key] = np.frombuffer(row[0], dtype="<f4")
        return found


def load_encoder(model: str, backend: str | None = None) -> CachedEncoder:
    """Load a bundle's encoder, by name or path."""
    encoder = Encoder.load(model, backend)
    parts = {
        name: file.sha256
        for name, file in encoder.bundle.manifest.files.items()
        if Path(name).stem not in _NOT_IN_VECTORS
    }
    key: dict[str, Any] = {"files": parts, "backend": encoder.backend}
    if encoder.prompts.document:
        key["document_prompt"] = encoder.prompts.document
    if roles := encoder.bundle.manifest.roles:
        key["roles"] = roles
    return CachedEncoder(encoder, fingerprint(key))
