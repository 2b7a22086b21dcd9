"""A static table as a teacher: model2vec's, or a StaticEmbedding. A text's vector is the sum of its tokens' rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import fingerprint
from edgeret.encode.manifest import Prompts
from edgeret.errors import BundleError
from export import folder, vocabulary, weights
from export.block import Head

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Float32 = NDArray[np.float32]

# What model2vec reads of a text if nothing else is said.
_TOKENS: Final = 512
KIND: Final = "static table"


@dataclass(frozen=True)
class Table:
    """A table of tokens' rows, float32 [vocabulary, dim], each with its token's weight."""

    name: str
    license: str
    languages: tuple[str, ...]
    origin: str
    table: Float32
    tokenizer_json: str
    prompts: Prompts
    kind: str = KIND
    max_tokens: int = _TOKENS

    @classmethod
    def read(cls, path: Path, module: folder.Module, found: Prompts, dim: int | None) -> Table:
        """Read the folder of a model that has such a table. Raises BundleError for one that is not understood."""
        tensors, about = weights.read(module.path), folder.card(path)
        config = folder.settings(path / "config.json")
        ours = config.get("model_type") == "model2vec"
        rows = tensors.get("embeddings", tensors.get("embedding.weight"))
        if rows is None or tensors.keys() - {"embeddings", "embedding.weight", "weights"}:
            raise BundleError(
                f"expected a table 'embeddings' or 'embedding.weight', with 'weights' or without, {path} has "
                f"{sorted(tensors)!r:.200}: choose another model"
            )
        mapping = weights.integers(module.path).get("mapping")
        if mapping is not None:
            rows = rows[mapping]
        if ours and "weights" in tensors:
            rows = rows * tensors["weights"][:, None]
        if rows.ndim != 2 or (dim is not None and not 0 < dim <= rows.shape[1]):
            raise BundleError(
                f"expected a table of rows, and --dim of at most their entries, {path} has {rows.shape}, asked for "
                f"{dim}: give another"
            )
        tokenizer, unknown = vocabulary.read_bare(module.path, len(rows))
        if ours and unknown is not None:
            # It leaves unknown tokens out.
            rows = rows.copy()
            rows[unknown] = 0
        return cls(
            name=about.title,
            license=about.license,
            languages=about.languages,
            origin=about.origin,
            table=np.ascontiguousarray(rows[:, :dim]),
            tokenizer_json=tokenizer,
            prompts=found,
        )

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return int(self.table.shape[1])

    @property
    def head(self) -> Head:
        """A sum, which has the direction of a mean."""
        return Head(("mean",), (), self.dim)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the table, however it was saved: 64 hex digits."""
        return weights.digest({"table": self.table})

    @cached_property
    def geometry(self) -> str:
        """Fingerprint of the map from a document to its vector, as that of `export.teacher.Teacher`."""
        return fingerprint(
            {
                "weights": self.digest,
                "tokenizer": folder.said(json.loads(self.tokenizer_json)),
                "head": asdict(self.head),
                "max_tokens": self.max_tokens,
                **({"document_prompt": self.prompts.document} if self.prompts.document else {}),
            }
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without padding and special tokens, cut at `max_tokens`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts, as documents -> fp32 unit vectors [n, dim]; zeros where there is no token."""
        return self.encode_bare([self.prompts.document + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Float32:
        """Texts, as queries -> fp32 unit vectors [n, dim]; zeros where there is no token."""
        return self.encode_bare([self.prompts.query + text for text in texts])

    def encode_bare(self, texts: Sequence[str]) -> Float32:
        """Texts as they are, no prompt before them -> fp32 unit vectors [n, dim]; zeros where there is no token."""
        sums = np.stack([self.table[self.tokenizer.encode(text).ids].sum(axis=0) for text in texts])
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors: Float32 = sums / np.where(lengths > 0, lengths, 1)
        return vectors


def is_table(first: folder.Module, config: Mapping[str, Any]) -> bool:
    """Whether a model begins with a static table."""
    return first.kind == "StaticEmbedding" or config.get("model_type") == "model2vec"
