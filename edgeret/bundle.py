"""A model bundle: a folder with a manifest that names, sizes and hashes every other file.

Tensors are raw little-endian arrays; nothing is ever unpickled or decompressed. `Bundle.open`
checks every byte before any runtime sees a file.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec
from edgeret.errors import BundleError
from edgeret.manifest import MANIFEST, File, Graph, Manifest, Tensor, load_json, read, refuse

_CODEC_TENSORS: Final = ("projection", "thresholds", "query_projection", "query_thresholds", "widths")


class Golden(NamedTuple):
    """Texts with the fp32 teacher's vectors and this bundle's own, float32 [texts, dim] each."""

    texts: list[str]
    teacher: NDArray[np.float32]
    own: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An encoder, its tokenizer, its codec and its proofs."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, name_or_path: str | Path) -> Bundle:
        """Open an installed bundle by its name, or any bundle by its folder, and verify every byte.

        Raises BundleError for a bundle that is missing, incomplete or damaged, and
        FormatVersionError for one that a newer edgeret wrote.
        """
        path = _locate(name_or_path)
        bundle = cls(path, read(path))
        for name, file in bundle.manifest.files.items():
            _verify(path / name, file)
        tensors = {name: bundle.tensor(name) for name in bundle.manifest.tensors}
        found = _codec_id({name: tensor for name, tensor in tensors.items() if name in _CODEC_TENSORS})
        if found != bundle.codec_id:
            refuse(path, f"the codec {bundle.codec_id}", found)
        return bundle

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

    def file(self, name: str) -> Path:
        """Path of a file of the bundle. Raises BundleError for a name that is not there."""
        path = self.path / name
        if name not in self.manifest.files or not path.is_file():
            refuse(self.path, f"a file {name!r}", f"only {sorted(self.manifest.files)}")
        return path

    def tensor(self, name: str) -> NDArray[Any]:
        """A tensor, mapped and read-only. Raises BundleError for a name that is not there."""
        if name not in self.manifest.tensors:
            refuse(self.path, f"a tensor {name!r}", f"only {sorted(self.manifest.tensors)}")
        tensor = self.manifest.tensors[name]
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
        return np.memmap(self.file(tensor.file), dtype, "r", tensor.offset, tensor.shape).view(np.ndarray)

    def codec(self) -> Codec:
        """The codec of the space, in memory. Raises BundleError if its tensors do not fit together."""
        widths = self.tensor("widths").ravel().tolist()
        if widths != sorted(set(widths)) or widths[0] < 1:
            refuse(self.path, "ascending widths of codes", f"{widths!r:.80}")
        bits = widths[-1]
        return Codec(
            projection=np.array(self.shaped("projection", "int16", (self.dim, bits)), dtype=np.int16),
            thresholds=np.array(self.shaped("thresholds", "float64", (bits,)), dtype=np.float64),
            query_projection=self.shaped("query_projection", "float16", (self.dim, bits)).astype(np.float32),
            query_thresholds=np.array(self.shaped("query_thresholds", "float32", (bits,)), dtype=np.float32),
            widths=tuple(widths),
        )

    def token_table(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """The token table, mapped: int8 rows [vocabulary, width] and the scale of each, float32."""
        count = len(self.tensor("tokens"))
        return (
            self.shaped("tokens", "int8", (count, self.width)),
            self.shaped("token_scales", "float32", (count,)),
        )

    def golden(self) -> Golden:
        """The texts whose vectors are known. Raises BundleError if there are none."""
        texts = load_json(self.file("golden.json")).get("texts")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            refuse(self.path, "a list of texts in golden.json", f"{texts!r:.80}")
        shape = (len(texts), self.dim)
        return Golden(
            texts=texts,
            teacher=self.shaped("golden.teacher", "float32", shape),
            own=self.shaped("golden.own", "float32", shape),
        )

    def shaped(self, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """A tensor of this dtype and shape, mapped and read-only. Raises BundleError for any other."""
        array, found = self.tensor(name), self.manifest.tensors[name]
        if (found.dtype, found.shape) != (dtype, shape):
            refuse(self.path, f"{name} as {dtype} {shape}", f"{found.dtype} {found.shape}")
        return array


def available() -> list[str]:
    """Names of the installed bundles."""
    folder = _models()
    return sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}")) if folder else []


def fingerprint(value: Any) -> str:
    """BLAKE2b of a JSON value in its canonical spelling: 32 hex digits."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def space(geometry: str, codec_id: str) -> str:
    """Fingerprint of the space of a geometry and a codec: 32 hex digits."""
    return fingerprint({"geometry": geometry, "codec": codec_id})


def write(
    path: Path,
    *,
    name: str,
    max_tokens: int,
    geometry: str,
    codec: Codec,
    kind: str,
    graphs: Mapping[str, Graph],
    tensors: Mapping[str, Mapping[str, NDArray[Any]]],
    files: Mapping[str, bytes],
    about: Mapping[str, Any],
    optional: Collection[str] = (),
) -> Bundle:
    """Write a bundle and open it. An older one at `path` is replaced as a whole.

    tensors: the arrays of each file of tensors; codec.bin is added, the queries' projection
    rounded to float16. files: the bytes of every other file. optional: files that an installation
    may leave out. Raises BundleError as `Bundle.open` does.
    """
    codec_tensors = _codec_tensors(codec)
    contents, entries = dict(files), dict[str, Tensor]()
    for file, arrays in {**tensors, "codec.bin": codec_tensors}.items():
        contents[file], placed = _pack(file, arrays)
        entries |= placed
    manifest = Manifest(
        name=name,
        dim=codec.dim,
        max_tokens=max_tokens,
        geometry=geometry,
        codec=_codec_id(codec_tensors),
        kind=kind,
        graphs=dict(graphs),
        tensors=entries,
        files={
            file: File(len(blob), hashlib.sha256(blob).hexdigest(), optional=file in optional)
            for file, blob in contents.items()
        },
        about=dict(about),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: a process that has the older files mapped keeps them whole.
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


def _models() -> Path | None:
    """The folder of the installed bundles: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return next((p for p in (package / "models", package.parent / "models") if p.is_dir()), None)


def _locate(name_or_path: str | Path) -> Path:
    folder = _models()
    if folder and isinstance(name_or_path, str) and name_or_path in available():
        return folder / name_or_path
    path = Path(name_or_path)
    try:
        found = path.is_dir()
    except OSError:  # A name too long for a path, out of an index that somebody else made.
        found = False
    if not found:
        raise BundleError(
            f"expected the name of a bundle or its folder, found {str(name_or_path)!r}: "
            f"choose one of {', '.join(available()) or 'none installed'}, or a folder"
        )
    return path


def _verify(path: Path, expected: File) -> None:
    if expected.optional and not path.exists():
        return
    if not path.is_file():
        refuse(path.parent, f"a file {path.name!r}", "none")
    try:
        with path.open("rb") as stream:
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
