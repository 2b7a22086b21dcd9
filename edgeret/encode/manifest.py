"""The manifest of a bundle: what the folder must hold, read strictly.

A manifest may come from anywhere, so every name is plain, every number bounded, every key known and unique,
and the tensors tile their files: nothing that it says can reach outside its folder or past an end.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from edgeret import files
from edgeret.errors import BundleError, FormatVersionError, StorageError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{32}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_DTYPES: Final = ("int8", "uint8", "int16", "float16", "float32", "float64")
_KINDS: Final = ("transformer", "static", "reranker")
_MAX_JSON_BYTES: Final = 1 << 20
_MAX_INT: Final = 1 << 40
# Of one file: what a protocol buffer, and thus a graph, can be at most.
_MAX_FILE_BYTES: Final = 1 << 31
_MAX_TOKENS: Final = 1 << 13
_LONGEST_PROMPT: Final = 1024
REMEDY: Final = "install or export the bundle again"


class Tensor(NamedTuple):
    """Where an array lies: `offset` in bytes, `dtype` little-endian, C order."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


class File(NamedTuple):
    """What a file must be. An optional file may be absent: a wheel leaves some graphs out."""

    nbytes: int
    sha256: str
    optional: bool


class Graph(NamedTuple):
    """A backend's graph: float32 token embeddings [1, n, dim] in, a unit vector [1, dim] or a score [1, 1] out."""

    file: str
    input: str
    output: str


class Prompts(NamedTuple):
    """What the model wants to read before a text: before a document's passage, and before a query. Mostly nothing."""

    document: str = ""
    query: str = ""


NO_PROMPTS: Final = Prompts()


class Roles(NamedTuple):
    """Ids of the tokens that say what a text is: one stands where the tokenizer's first one would."""

    document: int
    query: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    max_tokens: the longest input, special tokens included. geometry and codec: fingerprints, 32 hex
    digits each. kind: "transformer", "static" or "reranker". graphs: one for each backend that the bundle
    serves. about: what decides nothing (teacher, license, versions). spread: how far the cosines of a query with
    unrelated texts lie apart; None in the first bundles. prompts, roles: of the model, which has one of them at most.
    """

    name: str
    dim: int
    max_tokens: int
    geometry: str
    codec: str
    kind: str
    graphs: dict[str, Graph]
    tensors: dict[str, Tensor]
    files: dict[str, File]
    about: dict[str, Any]
    spread: float | None = None
    prompts: Prompts = NO_PROMPTS
    roles: Roles | None = None

    @property
    def sided(self) -> bool:
        """Whether a query has another vector than a document of the same text."""
        return any(self.prompts) or self.roles is not None

    def as_json(self) -> str:
        """The text of manifest.json."""
        table = self._decisive() | {"checksum": self.checksum, "about": self.about}
        return json.dumps(table, ensure_ascii=False, indent=1)

    @property
    def checksum(self) -> str:
        """BLAKE2b of everything but `about`, 32 hex digits."""
        text = json.dumps(self._decisive(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _decisive(self) -> dict[str, Any]:
        files = {
            name: {"bytes": file.nbytes, "sha256": file.sha256}
            | ({"optional": True} if file.optional else {})
            for name, file in sorted(self.files.items())
        }
        return {
            "format": FORMAT,
            "name": self.name,
            "dim": self.dim,
            "max_tokens": self.max_tokens,
            "geometry": self.geometry,
            "codec": self.codec,
            "encoder": {
                "kind": self.kind,
                "graphs": {backend: graph._asdict() for backend, graph in self.graphs.items()},
            },
            "tensors": {name: tensor._asdict() for name, tensor in self.tensors.items()},
            "files": files,
            **({} if self.spread is None else {"spread": self.spread}),
            **({"prompts": self.prompts._asdict()} if any(self.prompts) else {}),
            **({} if self.roles is None else {"roles": self.roles._asdict()}),
        }


def read(folder: Path, links: bool = False) -> Manifest:
    """Read and check the manifest of the bundle in `folder`.

    links: as in `open_file`. Raises BundleError for one that is missing or unsound, FormatVersionError for a newer one.
    """
    table = load_json(folder / MANIFEST, links)
    version = _get(folder, table, "format", int)
    if version != FORMAT:
        raise FormatVersionError(
            f"expected a bundle of format {FORMAT}, {folder} is of format {version}: upgrade edgeret"
        )
    encoder = _get(folder, table, "encoder", dict)
    manifest = Manifest(
        name=_matching(folder, PLAIN_NAME, "a plain name", _get(folder, table, "name", str)),
        dim=_positive(folder, table, "dim"),
        max_tokens=_positive(folder, table, "max_tokens"),
        geometry=_matching(folder, _FINGERPRINT, "32 hex digits", _get(folder, table, "geometry", str)),
        codec=_matching(folder, _FINGERPRINT, "32 hex digits", _get(folder, table, "codec", str)),
        kind=_get(folder, encoder, "kind", str),
        graphs={
            backend: _graph(folder, entry) for backend, entry in _get(folder, encoder, "graphs", dict).items()
        },
        tensors={name: _tensor(folder, v) for name, v in _get(folder, table, "tensors", dict).items()},
        files={name: _file(folder, name, v) for name, v in _get(folder, table, "files", dict).items()},
        about=_get(folder, table, "about", dict),
        spread=_get(folder, table, "spread", float) if "spread" in table else None,
        prompts=_prompts(folder, table["prompts"]) if "prompts" in table else NO_PROMPTS,
        roles=_roles(folder, table["roles"]) if "roles" in table else None,
    )
    decisive = manifest._decisive()
    _check_keys(folder, table, decisive.keys() | {"checksum", "about"})
    _check_keys(folder, encoder, decisive["encoder"].keys())
    if manifest.max_tokens > _MAX_TOKENS:
        refuse(folder, f"'max_tokens' of at most {_MAX_TOKENS}", str(manifest.max_tokens))
    if manifest.spread is not None and not 0 < manifest.spread < 1:
        refuse(folder, "a 'spread' between 0 and 1", str(manifest.spread))
    if manifest.kind not in _KINDS:
        refuse(folder, f"an encoder of kind {' or '.join(_KINDS)}", repr(manifest.kind))
    for backend, graph in manifest.graphs.items():
        if graph.file not in manifest.files:
            refuse(folder, f"the file of the {backend} graph among the files", repr(graph.file))
    _check_tiling(folder, manifest)
    _check_roles(folder, manifest)
    # The first bundles have none.
    if "checksum" in table and table["checksum"] != manifest.checksum:
        refuse(folder, f"{MANIFEST} with checksum {manifest.checksum}", f"{table['checksum']!r:.80}")
    return manifest


def load_json(path: Path, links: bool = False) -> dict[str, Any]:
    """Read a JSON object of at most 1 MiB, as `parse_json` does; links: as in `open_file`."""
    with open_file(path, links) as stream:
        try:
            blob = stream.read(_MAX_JSON_BYTES + 1)
        except OSError as error:
            refuse(path.parent, f"a file {path.name}", str(error.strerror))
    if len(blob) > _MAX_JSON_BYTES:
        refuse(path.parent, f"{path.name} of at most {_MAX_JSON_BYTES} bytes", "more")
    return parse_json(path, blob)


def parse_json(path: Path, blob: bytes) -> dict[str, Any]:
    """The JSON object of a bundle's file; duplicate keys, NaN and huge integers are refused."""
    try:
        value = json.loads(blob, object_pairs_hook=_unique, parse_int=_bounded, parse_constant=_bounded)
    except (ValueError, RecursionError) as error:
        refuse(path.parent, f"sound JSON in {path.name}", str(error))
    return _object(path.parent, value)


def open_file(path: Path, links: bool = False) -> BufferedReader:
    """Open a file of a bundle to read it. A device or a pipe is not even waited for.

    links: whether it may be a link, symbolic or hard: package managers install so. Raises BundleError for any other
    link, for what is no regular file, and for a file that is not there.
    """
    try:
        stream = files.open_regular(path, follow=links)
    except StorageError as error:
        refuse(path.parent, f"a file {path.name}", str(error))
    if os.fstat(stream.fileno()).st_nlink > 1 and not links:
        stream.close()
        refuse(path.parent, f"a file {path.name} of this folder alone", "one that has other names")
    return stream


def refuse(folder: Path, expected: str, found: str, remedy: str = REMEDY) -> NoReturn:
    """Raise the BundleError of a bundle that is not as it must be."""
    raise BundleError(f"bundle {folder}: expected {expected}, found {found}: {remedy}")


def _graph(folder: Path, value: Any) -> Graph:
    entry = _object(folder, value)
    _check_keys(folder, entry, {*Graph._fields})
    return Graph(*(_get(folder, entry, key, str) for key in Graph._fields))


def _prompts(folder: Path, value: Any) -> Prompts:
    entry = _object(folder, value)
    _check_keys(folder, entry, {*Prompts._fields})
    prompts = Prompts(*(_get(folder, entry, key, str) for key in Prompts._fields))
    for prompt in prompts:
        # JSON may spell half a character.
        if len(prompt) > _LONGEST_PROMPT or any("\ud800" <= letter <= "\udfff" for letter in prompt):
            refuse(folder, f"a prompt of at most {_LONGEST_PROMPT} characters, in Unicode", f"{prompt!r:.80}")
    return prompts if any(prompts) else refuse(folder, "'prompts' that say something", "empty ones")


def _roles(folder: Path, value: Any) -> Roles:
    entry = _object(folder, value)
    _check_keys(folder, entry, {*Roles._fields})
    return Roles(*(_get(folder, entry, key, int) for key in Roles._fields))


def _check_roles(folder: Path, manifest: Manifest) -> None:
    if manifest.roles is None:
        return
    if any(manifest.prompts):
        refuse(folder, "'prompts' or 'roles'", "both")
    table = manifest.tensors.get("tokens")
    count = 0 if table is None else table.shape[0]
    if not all(0 <= id < count for id in manifest.roles):
        refuse(
            folder, f"'roles' that are ids below the {count} of the tensor 'tokens'", str([*manifest.roles])
        )


def _tensor(folder: Path, value: Any) -> Tensor:
    entry = _object(folder, value)
    _check_keys(folder, entry, {*Tensor._fields})
    dtype = _get(folder, entry, "dtype", str)
    if dtype not in _DTYPES:
        refuse(folder, f"a dtype of {', '.join(_DTYPES)}", repr(dtype))
    shape = _get(folder, entry, "shape", list)
    if not 1 <= len(shape) <= 4 or not all(type(size) is int and size > 0 for size in shape):
        refuse(folder, "a shape of 1 to 4 positive sizes", repr(shape))
    return Tensor(_get(folder, entry, "file", str), dtype, tuple(shape), _get(folder, entry, "offset", int))


def _file(folder: Path, name: str, value: Any) -> File:
    _matching(folder, PLAIN_NAME, "a plain file name", name)
    entry = _object(folder, value)
    _check_keys(folder, entry, {"bytes", "sha256", "optional"})
    if _get(folder, entry, "bytes", int) > _MAX_FILE_BYTES:
        refuse(folder, f"{name} of at most {_MAX_FILE_BYTES} bytes", str(entry["bytes"]))
    sha256 = _matching(folder, _SHA256, "64 hex digits", _get(folder, entry, "sha256", str))
    optional = _get(folder, entry, "optional", bool) if "optional" in entry else False
    return File(entry["bytes"], sha256, optional)


def _check_tiling(folder: Path, manifest: Manifest) -> None:
    """A file with tensors consists of them, one after the other, each aligned to its dtype."""
    ends: dict[str, int] = {}
    for name, tensor in sorted(manifest.tensors.items(), key=lambda item: item[1].offset):
        if tensor.file not in manifest.files:
            refuse(folder, f"the file of tensor {name!r} among the files", repr(tensor.file))
        start = ends.get(tensor.file, 0)
        if tensor.offset != start or start % np.dtype(tensor.dtype).itemsize:
            refuse(folder, f"tensor {name!r} aligned at byte {start} of {tensor.file}", str(tensor.offset))
        ends[tensor.file] = start + tensor.nbytes
    for file, end in ends.items():
        if end != manifest.files[file].nbytes:
            refuse(folder, f"{file} of the {end} bytes of its tensors", str(manifest.files[file].nbytes))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key twice among {[key for key, _ in pairs]!r:.200}")
    return found


def _bounded(digits: str) -> int:
    if len(digits) > len(str(_MAX_INT)) or not 0 <= int(digits) <= _MAX_INT:
        raise ValueError(f"a number beyond 0 to {_MAX_INT}: {digits:.40}")
    return int(digits)


def _object(folder: Path, value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else refuse(folder, "a JSON object", f"{value!r:.80}")


def _check_keys(folder: Path, table: Mapping[str, Any], known: Set[str]) -> None:
    """What an older edgeret does not know may change every vector: it is refused, not passed over."""
    if unknown := sorted(table.keys() - known):
        refuse(
            folder,
            f"no keys but {', '.join(sorted(known))}",
            f"{unknown!r:.200}",
            f"upgrade edgeret, or {REMEDY}",
        )


def _get(folder: Path, table: Mapping[str, Any], key: str, kind: type) -> Any:
    value = table.get(key)
    # Not isinstance: a bool passes for an int there, and `true` is no size.
    return value if type(value) is kind else refuse(folder, f"{key!r} as {kind.__name__}", f"{value!r:.80}")


def _positive(folder: Path, table: Mapping[str, Any], key: str) -> int:
    value: int = _get(folder, table, key, int)
    return value if value > 0 else refuse(folder, f"{key!r} above 0", str(value))


def _matching(folder: Path, pattern: re.Pattern[str], meaning: str, value: str) -> str:
    return value if pattern.fullmatch(value) else refuse(folder, meaning, f"{value!r:.80}")
