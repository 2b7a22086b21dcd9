"""A model's folder as people have it: which modules it is made of, its limits and its card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from edgeret.errors import BundleError

_LIBRARY: Final = "sentence_transformers."
# What transformers writes where a tokenizer has no limit.
_NO_LIMIT: Final = 1 << 30
_FENCE: Final = "---"


class Module(NamedTuple):
    """A step of sentence-transformers: its class's name, and the folder of its files."""

    kind: str
    path: Path

    def config(self, name: str = "config.json") -> dict[str, Any]:
        """Its settings. Raises BundleError."""
        return load_object(self.path / name)


class Card(NamedTuple):
    """What a README says of the model.

    languages: as ISO 639 codes, perhaps none. origin: the model that it was made of, or "".
    """

    title: str
    license: str
    languages: tuple[str, ...]
    origin: str


def modules(folder: Path) -> list[Module]:
    """The modules of a model in their order: those of modules.json, or a transformer and the pooling beside it.

    Raises BundleError if there is neither.
    """
    listed = folder / "modules.json"
    if not listed.exists() and _is_model2vec(folder):
        return [Module("StaticEmbedding", folder)]
    if not listed.exists():
        if not (folder / "1_Pooling" / "config.json").exists() and (folder / "config.json").exists():
            raise BundleError(
                f"expected modules.json or 1_Pooling/config.json in {folder}, found neither, so how its tokens become "
                "one vector is not known: fetch the whole model, or save it once with sentence-transformers"
            )
        return [Module("Transformer", folder), Module("Pooling", folder / "1_Pooling")]
    found, entries = [], load_json(listed)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise BundleError(
            f"expected a list of modules in {listed}, found {entries!r:.80}: fetch the model again"
        )
    for entry in entries:
        kind, path = str(entry.get("type")), str(entry.get("path", ""))
        if not kind.startswith(_LIBRARY) or Path(path).is_absolute() or ".." in Path(path).parts:
            raise BundleError(
                f"expected modules of sentence-transformers in {listed}, found {kind!r:.120} at {path!r:.120}: choose "
                "a model without code of its own"
            )
        found.append(Module(kind.rpartition(".")[2], folder / path))
    return found


def _is_model2vec(folder: Path) -> bool:
    return settings(folder / "config.json").get("model_type") == "model2vec"


def longest(folder: Path, positions: int) -> int:
    """The longest input in tokens: the smallest of what the files say, and of `positions`."""
    limits = [positions]
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("sentence_bert_config.json", "max_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        found = settings(folder / name).get(key)
        if isinstance(found, int | float) and 0 < found < _NO_LIMIT:
            limits.append(int(found))
    return min(limits)


def check_longest(folder: Path, longest: int, taken: int) -> None:
    """Raise BundleError for a longest input that leaves a text nothing: `taken` tokens are special, or a prompt's."""
    if longest <= taken:
        raise BundleError(
            f"expected a longest input of more than the {taken} tokens that special ones and prompts take, {folder} "
            f"has {longest}: raise max_seq_length in sentence_bert_config.json, or model_max_length in "
            "tokenizer_config.json"
        )


def card(folder: Path) -> Card:
    """What the README says; the folder's name where it says nothing."""
    path = folder / "README.md"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    header: list[str] = []
    if lines[:1] == [_FENCE] and _FENCE in lines[1:]:
        header = lines[1 : lines.index(_FENCE, 1)]
    title = next((line[2:].strip() for line in lines if line.startswith("# ")), folder.resolve().name)
    if "library_name: sentence-transformers" in header and "/" not in title:
        title = f"sentence-transformers/{title}"
    licenses, origins = _values(header, "license"), _values(header, "base_model")
    return Card(
        title,
        licenses[0] if licenses else "unknown",
        tuple(_values(header, "language")),
        ", ".join(origins),
    )


def load_json(path: Path) -> Any:
    """The JSON of a file. Raises BundleError."""
    try:
        return json.loads(load_bytes(path))
    except ValueError as error:
        raise BundleError(f"expected JSON in {path}, found {error}: fetch the model again") from error


def load_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises BundleError."""
    found = load_json(path)
    if not isinstance(found, dict):
        raise BundleError(f"expected settings in {path}, found {found!r:.80}: fetch the model again")
    return found


def settings(path: Path) -> dict[str, Any]:
    """The same, and no settings where there is no such file."""
    return load_object(path) if path.exists() else {}


def load_bytes(path: Path) -> bytes:
    """A file. Raises BundleError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"expected {path.name} in {path.parent}, found {error.strerror}: give the whole folder of a model"
        ) from error


def said(value: Any) -> Any:
    """JSON without what says nothing: newer releases write keys, switched off, that older ones do not have."""
    if isinstance(value, dict):
        found = {key: said(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner not in (None, False, "", [], {})}
    return [said(inner) for inner in value] if isinstance(value, list) else value


def _values(header: list[str], key: str) -> list[str]:
    """The values of a key of YAML, one or a list of them; nothing else of YAML is needed."""
    for number, line in enumerate(header):
        if line.startswith(f"{key}:"):
            first = line.partition(":")[2].strip()
            if first:
                return [part.strip(" '\"") for part in first.strip("[]").split(",") if part.strip()]
            items = []
            for item in header[number + 1 :]:
                if not (found := re.fullmatch(r"\s*-\s*(.+)", item)):
                    break
                items.append(found[1].strip(" '\""))
            return items
    return []
