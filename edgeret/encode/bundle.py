"""A model bundle: a folder with a manifest that names, sizes and hashes every other file.

Tensors are raw little-endian arrays; nothing is ever unpickled or decompressed. `Bundle.open`
checks every byte before any runtime sees a file, and refuses a folder that holds other files.
Nothing is mapped: a file that is cut meanwhile would end the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec
from edgeret.encode.manifest import (
    MANIFEST,
    NO_PROMPTS,
    File,
    Graph,
    Manifest,
    Prompts,
    Roles,
    Tensor,
    load_json,
    open_file,
    read,
    refuse,
)
from edgeret.errors import BundleError

DEFAULT_MODEL: Final = "small"

MODELS: Final = "EDGERET_MODELS"
"""The environment variable with further folders of installed bundles, as PATH has those of commands."""

WORLD: Final = ("world-base", "world-nano", "world-small")
"""The bundles of the package edgeret-world, which `pip install edgeret[world]` brings."""

INSTALL: Final = "pip install 'edgeret[world]'"

CENTROIDS: Final = "token_centroids"
"""The tensor of a token table of product codes, which has no scales."""

_WORLD_PACKAGE: Final = "edgeret_world"

# What people and `edgeret sign` lay beside a bundle; nothing reads it, but the signature's check.
_BESIDE: Final = frozenset({MANIFEST, f"{MANIFEST}.sig", "README.md", "LICENSE", "NOTICE"})
_CODEC_TENSORS: Final = ("projection", "thresholds", "query_projection", "query_thresholds", "widths")


class Golden(NamedTuple):
    """Texts with the fp32 teacher's vectors and this bundle's own, float32 [texts, dim] each.

    asked_teacher, asked_own: those of the same texts as queries; None if they have the same as documents.
    """

    texts: list[str]
    teacher: NDArray[np.float32]
    own: NDArray[np.float32]
    asked_teacher: NDArray[np.float32] | None = None
    asked_own: NDArray[np.float32] | None = None

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The vectors by the names that they have in a bundle."""
        named = {
            "golden.teacher": self.teacher,
            "golden.own": self.own,
            "golden.asked_teacher": self.asked_teacher,
            "golden.asked_own": self.asked_own,
        }
        return {name: vectors for name, vectors in named.items() if vectors is not None}


class Source:
    """A file that is read from place to place, and closed at last. descriptor: of it, open; from then on its own."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor, self._name = descriptor, name

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)

    def read(self, nbytes: int, offset: int) -> bytes:
        """So many bytes. Raises BundleError for a file that ends before them, or cannot be read."""
        try:
            blob = os.pread(self.descriptor, nbytes, offset)
        except OSError as error:
            raise BundleError(
                f"expected {self._name} to be readable, found {error.strerror}: install or export the bundle again"
            ) from error
        if len(blob) != nbytes:
            raise BundleError(
                f"expected {self._name} as long as it was, found less: install or export the bundle again"
            )
        return blob


@dataclass(frozen=True, slots=True)
class Bundle:
    """An encoder, its tokenizer, its codec and its proofs.

    links: whether its files may be links: those that came with the package.
    """

    path: Path
    manifest: Manifest
    links: bool = False

    @classmethod
    def open(cls, name_or_path: str | Path) -> Bundle:
        """Open an installed bundle by its name, or any bundle by its folder, and verify every byte.

        Raises BundleError for a bundle that is missing, incomplete or damaged, and
        FormatVersionError for one that a newer edgeret wrote.
        """
        path = _locate(name_or_path)
        links = path.resolve().parent in _packages()
        bundle = cls(path, read(path, links), links)
        bundle._check_folder()
        for name, file in bundle.manifest.files.items():
            _verify(path / name, file, links)
        names = [name for name in bundle.manifest.tensors if name in _CODEC_TENSORS]
        found = _codec_id({name: bundle.tensor(name) for name in names})
        if found != bundle.codec_id:
            refuse(path, f"the codec {bundle.codec_id}", found)
        return bundle

    def _check_folder(self) -> None:
        """Refuse what no hash and no signature is for: a runtime might be told to read it."""
        try:
            found = {path.name for path in self.path.iterdir()}
        except OSError as error:
            refuse(self.path, "a folder that can be listed", str(error.strerror))
        if foreign := sorted(found - self.manifest.files.keys() - _BESIDE):
            expected = f"no files but those that {MANIFEST} names"
            refuse(self.path, expected, f"{foreign!r:.200}", "take them out of the folder")

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.manifest.name

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return self.manifest.dim

    @property
    def width(self) -> int:
        """Entries of what the backend gives: those of a vector, unless the tensor `map` makes it of others."""
        turned = self.manifest.tensors.get("map")
        return self.dim if turned is None else turned.shape[0]

    @property
    def token_width(self) -> int:
        """Entries of a token's embedding: those of what the backend gives, unless a graph makes it of others."""
        tokens, centroids = self.placed("tokens"), self.manifest.tensors.get(CENTROIDS)
        if self.manifest.kind == "static" or len(tokens.shape) != 2:
            return self.width
        if centroids is not None:
            return tokens.shape[1] * centroids.shape[-1]
        return tokens.shape[1] * (2 if tokens.dtype == "uint8" else 1)

    @property
    def max_tokens(self) -> int:
        """The longest input, special tokens included."""
        return self.manifest.max_tokens

    @property
    def geometry(self) -> str:
        """Fingerprint of the teacher's map from text to vector, 32 hex digits."""
        return self.manifest.geometry

    @property
    def codec_id(self) -> str:
        """Fingerprint of the codec's tensors, 32 hex digits."""
        return self.manifest.codec

    @property
    def space(self) -> str:
        """Fingerprint of geometry and codec: encoders of one space share their indexes."""
        return space(self.geometry, self.codec_id)

    @property
    def file_bytes(self) -> int:
        """Bytes of its files, as far as they are there: an installation may leave some out."""
        files = self.manifest.files
        return sum(file.nbytes for name, file in files.items() if (self.path / name).is_file())

    def file(self, name: str) -> Path:
        """Path of a file of the bundle. Raises BundleError for a name that is not there."""
        path = self.path / name
        if name not in self.manifest.files or not path.is_file():
            refuse(self.path, f"a file {name!r}", f"only {sorted(self.manifest.files)}")
        return path

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor, read into memory and read-only. Raises BundleError for a name that is not there, or a cut file."""
        tensor = self.placed(name)
        # Memory of NumPy's, which large tensors get in large pages: a third of the time, where the system has them.
        octets = np.empty(tensor.nbytes, np.uint8)
        with self._at(tensor.file, tensor.offset) as stream:
            self._check_end(tensor.file, tensor.offset, len(octets), stream.readinto(octets.data))
        octets.flags.writeable = False
        return octets.view(np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)

    def placed(self, name: str) -> Tensor:
        """Where a tensor lies; nothing is read. Raises BundleError for a name that is not there."""
        if name not in self.manifest.tensors:
            refuse(self.path, f"a tensor {name!r}", f"only {sorted(self.manifest.tensors)}")
        return self.manifest.tensors[name]

    def read(self, name: str, offset: int = 0, nbytes: int | None = None) -> bytes:
        """A file of the bundle, or a part of it. Raises BundleError if it is shorter than the manifest says."""
        with self._at(name, offset) as stream:
            nbytes = self.manifest.files[name].nbytes if nbytes is None else nbytes
            blob = stream.read(nbytes)
        self._check_end(name, offset, nbytes, len(blob))
        return blob

    @contextmanager
    def _at(self, name: str, offset: int) -> Iterator[BufferedReader]:
        """A file of the bundle, open there."""
        try:
            with open_file(self.file(name), self.links) as stream:
                stream.seek(offset)
                yield stream
        except OSError as error:
            refuse(self.path, f"{name} to be readable", str(error.strerror))

    def _check_end(self, name: str, offset: int, wanted: int, found: int) -> None:
        if found != wanted:
            refuse(self.path, f"{name} of {offset + wanted} bytes", str(offset + found))

    def source(self, name: str) -> Source:
        """A file of the bundle that stays where it is. Raises BundleError."""
        try:
            with open_file(self.file(name), self.links) as stream:
                return Source(os.dup(stream.fileno()), name)
        except OSError as error:
            refuse(self.path, f"{name} to be readable", str(error.strerror))

    def codec(self) -> Codec:
        """The codec of the space, in memory. Raises BundleError if its tensors do not fit together."""
        widths = self.shaped("widths", "int16", self.placed("widths").shape[:1]).tolist()
        if widths != sorted(set(widths)) or widths[0] < 1:
            refuse(self.path, "ascending widths of codes", f"{widths!r:.80}")
        bits = widths[-1]
        codec = Codec(
            projection=np.array(self.shaped("projection", "int16", (self.dim, bits)), dtype=np.int16),
            thresholds=np.array(self.shaped("thresholds", "float64", (bits,)), dtype=np.float64),
            query_projection=self.shaped("query_projection", "float16", (self.dim, bits)).astype(np.float32),
            query_thresholds=np.array(self.shaped("query_thresholds", "float32", (bits,)), dtype=np.float32),
            widths=tuple(widths),
        )
        for numbers in (codec.thresholds, codec.query_projection, codec.query_thresholds):
            if not np.isfinite(numbers).all():
                refuse(self.path, "a codec of finite numbers", "a NaN or an infinity")
        return codec

    def golden(self) -> Golden:
        """The texts whose vectors are known. Raises BundleError if there are none."""
        texts = load_json(self.file("golden.json"), self.links).get("texts")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            refuse(self.path, "a list of texts in golden.json", f"{texts!r:.80}")
        shape = (len(texts), self.dim)
        names = ["golden.teacher", "golden.own"]
        if self.manifest.sided:
            names += ["golden.asked_teacher", "golden.asked_own"]
        return Golden(texts, *(self.shaped(name, "float32", shape) for name in names))

    def shaped(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor of this dtype and shape, as `tensor` reads it. Raises BundleError for any other."""
        self.fitting(name, dtype, shape)
        return self.tensor(name)

    def fitting(self, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        """Where a tensor of this dtype and shape lies; nothing is read. Raises BundleError for any other."""
        found = self.placed(name)
        if (found.dtype, found.shape) != (dtype, shape):
            refuse(self.path, f"{name} as {dtype} {shape}", f"{found.dtype} {found.shape}")
        return found


def likeness(found: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float64]:
    """How well each row of `found` [n, dim] repeats the first n of golden vectors `known`: 1 is exactly, float64 [n].

    A cosine, but measured by how far the golden vectors lie from their mean: unrelated texts have one of about 0 then,
    also where the model gives all texts a part in common, and cosines of .8.
    """
    spread = np.square(known - known.mean(axis=0, dtype=np.float64)).sum(axis=1).mean()
    apart = np.square(found - known[: len(found)], dtype=np.float64).sum(axis=1)
    found_likeness: NDArray[np.float64] = 1 - apart / (2 * (spread or 1))
    return found_likeness


def available() -> list[str]:
    """Names of the installed bundles: the packages', and those in the folders that EDGERET_MODELS names."""
    return sorted({name for folder in _models() for name in _names(folder)})


def installed(name: object) -> Path | None:
    """The folder of the installed bundle of that name, or None: nothing is looked for behind the folder that has it."""
    found = (folder / name for folder in _models() if isinstance(name, str) and name in _names(folder))
    return next(found, None)


def fingerprint(value: Any) -> str:
    """BLAKE2b of a JSON value in its canonical spelling: 32 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def space(geometry: str, codec_id: str) -> str:
    """Fingerprint of the space of a geometry and a codec: 32 hex digits."""
    return fingerprint({"geometry": geometry, "codec": codec_id})


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a new bundle holds.

    codec: None of a reranker. tensors: the arrays of each file of tensors; codec.bin is added, the queries' projection
    rounded to float16. files: the bytes of every other file. optional: those that an installation may leave out.
    absent: what the manifest says of such files that this one left out. spread, prompts, roles: as of the manifest.
    """

    name: str
    max_tokens: int
    geometry: str
    codec: Codec | None
    kind: str
    graphs: Mapping[str, Graph]
    tensors: Mapping[str, Mapping[str, NDArray[Any]]]
    files: Mapping[str, bytes]
    about: Mapping[str, Any]
    optional: Collection[str] = ()
    absent: Mapping[str, File] = field(default_factory=dict)
    spread: float | None = None
    prompts: Prompts = NO_PROMPTS
    roles: Roles | None = None


def write(path: Path, content: Content) -> Bundle:
    """Write a bundle and open it. An older one at `path` is replaced as a whole. Raises BundleError as `open` does."""
    codec_tensors = {} if content.codec is None else _codec_tensors(content.codec)
    coded = {"codec.bin": codec_tensors} if codec_tensors else {}
    contents, entries = dict(content.files), dict[str, Tensor]()
    for file, arrays in {**content.tensors, **coded}.items():
        contents[file], placed = _pack(file, arrays)
        entries |= placed
    manifest = Manifest(
        name=content.name,
        dim=1 if content.codec is None else content.codec.dim,
        max_tokens=content.max_tokens,
        geometry=content.geometry,
        codec=_codec_id(codec_tensors),
        kind=content.kind,
        graphs=dict(content.graphs),
        tensors=entries,
        files={
            file: File(len(blob), hashlib.sha256(blob).hexdigest(), optional=file in content.optional)
            for file, blob in contents.items()
        }
        | dict(content.absent),
        about=dict(content.about),
        spread=content.spread,
        prompts=content.prompts,
        roles=content.roles,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: whoever opens the folder meanwhile finds the old files or the new ones.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        for file, blob in contents.items():
            Path(fresh, file).write_bytes(blob)
        Path(fresh, MANIFEST).write_text(manifest.as_json() + "\n", encoding="utf-8")
        Bundle.open(fresh)
        if path.exists():
            path.rename(Path(scratch, "old"))
        fresh.rename(path)
    return Bundle.open(path)


def _packaged() -> Path | None:
    """The folder of the bundles that came with the package: inside it, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return next((p for p in (package / "models", package.parent / "models") if p.is_dir()), None)


def _world() -> Path | None:
    """The folder of the bundles of edgeret-world, if it is installed."""
    found = find_spec(_WORLD_PACKAGE)
    return Path(found.origin).resolve().parent if found and found.origin else None


def _packages() -> Iterator[Path]:
    """The folders of bundles that a package manager installed; the other package is looked for where it is needed."""
    for place in (_packaged, _world):
        if folder := place():
            yield folder


def _models() -> Iterator[Path]:
    """The folders of installed bundles. Those of packages come first: nothing takes the place of their names."""
    yield from _packages()
    yield from (Path(folder) for folder in os.environ.get(MODELS, "").split(os.pathsep) if folder)


def _names(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob(f"*/{MANIFEST}")}


def _locate(name_or_path: str | Path) -> Path:
    if (folder := installed(name_or_path)) is not None:
        return folder
    path = Path(name_or_path)
    try:
        found = path.is_dir()
    except (OSError, ValueError):  # A name too long for a path, or with a NUL.
        found = False
    if not found:
        known = f"choose one of {', '.join(available()) or 'none installed'}, or a folder"
        raise BundleError(
            f"expected the name of a bundle or its folder, found {str(name_or_path)!r:.200}: "
            f"{INSTALL if name_or_path in WORLD else known}"
        )
    return path


def _verify(path: Path, expected: File, links: bool) -> None:
    if expected.optional and not os.path.lexists(path):
        return
    with open_file(path, links) as stream:
        try:
            size = stream.seek(0, 2)
            if size != expected.nbytes:
                refuse(path.parent, f"{path.name} of {expected.nbytes} bytes", str(size))
            stream.seek(0)
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            refuse(path.parent, f"{path.name} to be readable", str(error.strerror))
    if digest != expected.sha256:
        refuse(path.parent, f"{path.name} with SHA-256 {expected.sha256[:12]}…", f"{digest[:12]}…")


def _pack(file: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[bytes, dict[str, Tensor]]:
    """Lay arrays out, the widest dtype first, so that all are aligned without a hole."""
    blob, entries = bytearray(), {}
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0])):
        entries[name] = Tensor(file, array.dtype.name, array.shape, len(blob))
        blob += _little_endian(array)
    return bytes(blob), entries


def codec_id(codec: Codec) -> str:
    """Fingerprint of a codec, 32 hex digits."""
    return _codec_id(_codec_tensors(codec))


def _codec_tensors(codec: Codec) -> dict[str, NDArray[Any]]:
    return {
        "projection": codec.projection,
        "thresholds": codec.thresholds,
        "query_projection": codec.query_projection.astype(np.float16),
        "query_thresholds": codec.query_thresholds,
        "widths": np.array(codec.widths, dtype=np.int16),
    }


def _codec_id(tensors: Mapping[str, NDArray[Any]]) -> str:
    return fingerprint(
        {
            name: [array.dtype.name, list(array.shape), hashlib.sha256(_little_endian(array)).hexdigest()]
            for name, array in tensors.items()
        }
    )


def _little_endian(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
