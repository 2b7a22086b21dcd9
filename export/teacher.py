"""The teacher: an encoder in fp32, read from its folder once and checked.

Only what every later step can rely on is accepted; anything else is refused by name, because a
bundle that quietly differs from its teacher is worse than none.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import fingerprint
from edgeret.encode.manifest import Prompts
from edgeret.errors import BundleError
from export import architectures, folder, head, prompts, vocabulary, weights
from export.block import POSITIONS, TABLE, Architecture, Head, Weighted
from export.table import Table, is_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

Float32 = NDArray[np.float32]

_BATCH_TOKENS: Final = 4096
# What a bundle's manifest may say.
_MOST_TOKENS: Final = 8192
# The shipped bundles' geometry was the hash of their teacher's file: saved in any other way, it is the same teacher.
_SHIPPED: Final = {"c60f8a9d98b7357a916f490525323ba1": "ca6bdc9a82b0034a269067550a3b86b3"}


@dataclass(frozen=True)
class Teacher(Weighted):
    """An encoder in fp32.

    weights: the tensors by BERT's names, and the head's. max_tokens: the longest input, special tokens included.
    languages: as its card lists them. origin: the model that it was made of, as its card says, or "".
    """

    name: str
    license: str
    languages: tuple[str, ...]
    origin: str
    weights: dict[str, Float32]
    shape: Architecture
    head: Head
    max_tokens: int
    tokenizer_json: str
    prompts: Prompts

    @classmethod
    def read(cls, path: Path, given: Mapping[str, str] | None = None, dim: int | None = None) -> Teacher:
        """Read the folder of a transformer, as `read` does. Raises BundleError, for a static table too."""
        found = read(path, given, dim)
        if not isinstance(found, cls):
            raise BundleError(f"expected a transformer, {path} is a static table: choose another model")
        return found

    @classmethod
    def of(
        cls,
        path: Path,
        modules: Sequence[folder.Module],
        config: Mapping[str, Any],
        found: Prompts,
        dim: int | None,
    ) -> Teacher:
        """Read the transformer of a folder, understood to its last tensor. Raises BundleError."""
        first, *others = modules
        about, settings = folder.card(path), _settings(path)
        shape, tensors, left = architectures.understood(path, config, weights.read(first.path))
        width = len(tensors["encoder.layer.0.attention.output.dense.weight"])
        cut = settings.get("truncate_dim") if dim is None else dim
        shaped, more = head.read(path, others, width, cut, any(found), _names(path, config, about))
        positions = _MOST_TOKENS
        if shape.positions:
            positions = len(tensors[f"{POSITIONS}.weight"])
        elif isinstance(config.get("max_position_embeddings"), int):
            positions = config["max_position_embeddings"]
        tokenizer = vocabulary.read(first.path, len(tensors[f"{TABLE}.weight"]))
        _say_what_is_left(path, left, settings, others)
        longest = min(folder.longest(first.path, positions), _MOST_TOKENS)
        folder.check_longest(path, longest, vocabulary.most_around(tokenizer, found))
        return cls(
            name=about.title,
            license=about.license,
            languages=about.languages,
            origin=about.origin,
            weights=tensors | more,
            shape=shape,
            head=shaped,
            max_tokens=longest,
            tokenizer_json=tokenizer,
            prompts=found,
        )

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return self.head.dim

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights, however they were saved: 64 hex digits."""
        return weights.digest(self.weights)

    @cached_property
    def geometry(self) -> str:
        """Fingerprint of the map from a document to its vector: weights, shape, tokenizer, head, limit and prompt.

        Not the query's prompt: it changes no vector that an index has.
        """
        plain = {field.name: field.default for field in fields(Architecture)}
        shape = {key: value for key, value in asdict(self.shape).items() if value != plain[key]}
        del shape["name"]
        found = fingerprint(
            {
                "weights": self.digest,
                "shape": shape,
                "tokenizer": folder.said(json.loads(self.tokenizer_json)),
                "head": asdict(self.head),
                "max_tokens": self.max_tokens,
                **({"document_prompt": self.prompts.document} if self.prompts.document else {}),
            }
        )
        return _SHIPPED.get(found, found)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without padding, cut at `max_tokens`."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer_json)
        tokenizer.enable_truncation(self.max_tokens)
        return tokenizer

    @cached_property
    def _session(self) -> Any:
        from export.convert import graph, session

        return session(graph(self, batch=None).SerializeToString())

    def encode(self, texts: Sequence[str]) -> Float32:
        """Texts, as documents -> fp32 unit vectors [n, dim]."""
        return self.encode_bare([self.prompts.document + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> Float32:
        """Texts, as queries -> fp32 unit vectors [n, dim]."""
        return self.encode_bare([self.prompts.query + text for text in texts])

    def encode_bare(self, texts: Sequence[str]) -> Float32:
        """Texts as they are, no prompt before them -> fp32 unit vectors [n, dim]."""
        # Texts of one length share a batch, so there is no padding and no mask to be right about.
        ids = [self.tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(ids), self.dim), dtype=np.float32)
        by_length: dict[int, list[int]] = {}
        for row, tokens in enumerate(ids):
            by_length.setdefault(len(tokens), []).append(row)
        for length, rows in sorted(by_length.items()):
            step = max(1, _BATCH_TOKENS // length)
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                tokens = self.table[np.array([ids[row] for row in part])]
                vectors[part] = self._session.run(None, {"tokens": tokens})[0]
        return vectors


def read(path: Path, given: Mapping[str, str] | None = None, dim: int | None = None) -> Teacher | Table:
    """Read the folder of a model. Raises BundleError for one that is not understood.

    given: prompts of "document" and "query" in the place of the folder's. dim: entries to keep of a vector, of a model
    that was trained to be cut; None keeps what the folder says.
    """
    modules = folder.modules(path)
    first = modules[0]
    config = folder.settings(first.path / "config.json")
    found = prompts.read(path, _settings(path), _names(path, config, folder.card(path)), given or {})
    if is_table(first, config):
        return Table.read(path, first, found, dim)
    if first.kind != "Transformer":
        raise BundleError(
            f"expected a Transformer or a StaticEmbedding first, {path} begins with {first.kind!r:.80}: choose a model "
            "for texts"
        )
    folder.load_object(first.path / "config.json")
    return Teacher.of(path, modules, config, found, dim)


def _settings(path: Path) -> dict[str, Any]:
    """What sentence-transformers says of the whole model; nothing if it did not write it."""
    return folder.settings(path / "config_sentence_transformers.json")


def _names(path: Path, config: Mapping[str, Any], about: folder.Card) -> str:
    return " ".join([path.resolve().name, str(config.get("_name_or_path")), about.title])


def _say_what_is_left(
    path: Path, left: Sequence[str], settings: Mapping[str, Any], modules: Sequence[folder.Module]
) -> None:
    if left:
        print(
            f"export: {path} has {len(left)} tensors that no vector needs: {left[:5]!r:.300}", file=sys.stderr
        )
    if settings.get("similarity_fn_name") == "dot" and all(module.kind != "Normalize" for module in modules):
        print(
            f"export: {path} compares by the dot product; edgeret compares by the cosine, without lengths",
            file=sys.stderr,
        )
