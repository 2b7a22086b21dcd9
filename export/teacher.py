"""The teacher: a Hugging Face folder of a BERT-like encoder, read once and checked.

Only what every later step can rely on is accepted; anything else is refused by name, because a
bundle that quietly differs from its teacher is worse than none.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import fingerprint
from edgeret.encode.manifest import Prompts
from edgeret.errors import BundleError
from export import prompts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tokenizers import Tokenizer

POOLINGS: Final = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}

_MODULES: Final = {"Transformer", "Pooling", "Normalize"}
_BATCH_TOKENS: Final = 4096


@dataclass(frozen=True)
class Teacher:
    """A BERT-like encoder in fp32.

    weights: the tensors of model.safetensors by their Hugging Face names, without a "bert." prefix.
    pooling: "mean" or "cls". max_tokens: the longest input, special tokens included.
    """

    name: str
    license: str
    weights: dict[str, NDArray[np.float32]]
    weights_sha256: str
    layers: int
    heads: int
    epsilon: float
    pooling: str
    max_tokens: int
    tokenizer_json: str
    prompts: Prompts

    @classmethod
    def read(cls, folder: Path, given: Mapping[str, str] | None = None) -> Teacher:
        """Read a Hugging Face folder. Raises BundleError for anything but a BERT-like encoder.

        given: prompts of "document" and "query" in the place of the folder's.
        """
        from safetensors.numpy import load

        config = _json(folder / "config.json")
        _check_architecture(folder, config)
        blob = _bytes(folder / "model.safetensors")
        weights = {
            name.removeprefix("bert."): tensor.astype(np.float32)
            for name, tensor in load(blob).items()
            if not name.endswith("position_ids")
        }
        positions = weights["embeddings.position_embeddings.weight"].shape[0]
        wanted = positions
        if (folder / "sentence_bert_config.json").exists():
            wanted = int(_json(folder / "sentence_bert_config.json").get("max_seq_length") or positions)
        card = _front_matter(folder / "README.md")
        return cls(
            name=_teacher_name(folder, card),
            license=card.get("license", "unknown"),
            weights=weights,
            weights_sha256=hashlib.sha256(blob).hexdigest(),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config["layer_norm_eps"]),
            pooling=_pooling(folder),
            max_tokens=min(wanted, positions),
            tokenizer_json=_plain_tokenizer(_bytes(folder / "tokenizer.json").decode()),
            prompts=_prompts(folder, config, card, given or {}),
        )

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return int(self.table.shape[1])

    @property
    def table(self) -> NDArray[np.float32]:
        """The token embeddings, float32 [vocabulary, dim]."""
        return self.weights["embeddings.word_embeddings.weight"]

    @property
    def geometry(self) -> str:
        """Fingerprint of the map from a document to its vector: weights, tokenizer, pooling, cut and prompt.

        Not the query's prompt: it changes no vector that an index has.
        """
        return fingerprint(
            {
                "weights": self.weights_sha256,
                "tokenizer": json.loads(self.tokenizer_json),
                "pooling": self.pooling,
                "max_tokens": self.max_tokens,
                **({"document_prompt": self.prompts.document} if self.prompts.document else {}),
            }
        )

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

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts, as documents -> fp32 unit vectors [n, dim]."""
        return self.encode_bare([self.prompts.document + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts, as queries -> fp32 unit vectors [n, dim]."""
        return self.encode_bare([self.prompts.query + text for text in texts])

    def encode_bare(self, texts: Sequence[str]) -> NDArray[np.float32]:
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


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for key, value in expected.items():
        found = config.get(key, expected["position_embedding_type"] if "position" in key else None)
        if found != value:
            raise BundleError(
                f"expected an encoder with {key} {value!r}, {folder} has {found!r}: choose a BERT-like teacher"
            )
    if (folder / "modules.json").exists():
        found_modules = {entry["type"].rpartition(".")[2] for entry in _json(folder / "modules.json")}
        if not found_modules <= _MODULES:
            raise BundleError(
                f"expected the modules {sorted(_MODULES)}, {folder} has {sorted(found_modules)}: "
                "choose a teacher without further layers"
            )


def _prompts(folder: Path, config: dict[str, Any], card: dict[str, str], given: Mapping[str, str]) -> Prompts:
    path = folder / "config_sentence_transformers.json"
    names = " ".join([folder.resolve().name, str(config.get("_name_or_path")), card.get("title", "")])
    return prompts.read(folder, _json(path) if path.exists() else {}, names, given)


def _pooling(folder: Path) -> str:
    """The one pooling that 1_Pooling/config.json switches on."""
    config = _json(folder / "1_Pooling" / "config.json")
    active = {key for key, on in config.items() if key.startswith("pooling_mode_") and on}
    for name, key in POOLINGS.items():
        if active == {key}:
            return name
    raise BundleError(
        f"expected one of the poolings {sorted(POOLINGS.values())}, {folder} has {sorted(active)}: "
        "choose a teacher with mean or cls pooling"
    )


def _plain_tokenizer(text: str) -> str:
    """tokenizer.json in one canonical spelling, with padding and truncation cleared."""
    tokenizer = json.loads(text)
    tokenizer["padding"] = tokenizer["truncation"] = None
    ends = [next(iter(item)) for item in (tokenizer.get("post_processor") or {}).get("single", [])]
    if ends != ["SpecialToken", "Sequence", "SpecialToken"]:
        raise BundleError(
            f"expected a tokenizer that adds one token at each end, found the template {ends}: "
            "choose a BERT-like teacher"
        )
    return json.dumps(tokenizer, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _teacher_name(folder: Path, card: dict[str, str]) -> str:
    title = card.get("title", folder.name)
    library = card.get("library_name", "")
    return f"{library}/{title}" if library == "sentence-transformers" else title


def _front_matter(path: Path) -> dict[str, str]:
    """The plain `key: value` lines of a model card's header, and its first heading as "title"."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    header = lines[: lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
    found = dict(line.split(": ", 1) for line in header if ": " in line)
    for line in lines:
        if line.startswith("# "):
            found["title"] = line[2:].strip()
            break
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"expected {path.name} in {path.parent}, found {error.strerror}: give a Hugging Face folder"
        ) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path))
    except ValueError as error:
        raise BundleError(f"expected JSON in {path}, found {error}: fetch the teacher again") from error
