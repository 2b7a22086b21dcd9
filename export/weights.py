"""The tensors of a model's folder: safetensors or what torch wrote, whole or in shards, of any precision, checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export import folder

Float32 = NDArray[np.float32]

# bfloat16 is the upper half of float32.
_DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_INTEGERS: Final = {"I64": "<i8", "I32": "<i4"}
# What tables and matrices are called, by every library: of no others matters what they are made of.
_MATRICES: Final = ("weight", "embeddings")
_FLOATS: Final = ("float64", "float32", "float16", "bfloat16")
_OLD_NAMES: Final = {".gamma": ".weight", ".beta": ".bias"}


def read(path: Path) -> dict[str, Float32]:
    """Every tensor of floats in a folder, by its name, in float32.

    Raises BundleError for files that are missing or unsound, and for numbers that are not finite.
    """
    found: dict[str, Float32] = {}
    for file in _files(path):
        found |= _of_torch(file) if file.suffix == ".bin" else _of_safetensors(file)
    for name, tensor in found.items():
        if not np.isfinite(tensor).all():
            raise BundleError(
                f"expected finite weights in {path}, found a NaN or an infinity in {name}: fetch the model again"
            )
    return {_named(name): tensor for name, tensor in found.items()}


def integers(path: Path) -> dict[str, NDArray[np.int64]]:
    """Every tensor of integers in a folder's safetensors, by its name."""
    found = {}
    for file in _files(path):
        if file.suffix != ".bin":
            data, header = _opened(file)
            found |= {
                name: np.frombuffer(data[slice(*entry["data_offsets"])], _INTEGERS[entry["dtype"]]).astype(
                    np.int64
                )
                for name, entry in header.items()
                if name != "__metadata__" and entry["dtype"] in _INTEGERS
            }
    return found


def digest(tensors: Mapping[str, Float32]) -> str:
    """SHA-256 of tensors by name, shape and float32 numbers, however they were saved: 64 hex digits."""
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(json.dumps([name, tensor.shape]).encode())
        whole.update(np.ascontiguousarray(tensor, "<f4").data)
    return whole.hexdigest()


def _files(path: Path) -> list[Path]:
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (path / stem).exists():
            return [path / stem]
        if (path / f"{stem}.index.json").exists():
            listed = path / f"{stem}.index.json"
            shards = folder.load_object(listed).get("weight_map")
            if not isinstance(shards, dict):
                raise BundleError(
                    f"expected a weight_map in {listed}, found {shards!r:.80}: fetch the model again"
                )
            return [path / Path(str(name)).name for name in sorted({*shards.values()})]
    raise BundleError(
        f"expected model.safetensors or pytorch_model.bin in {path}, or their shards, found neither: give the whole "
        "folder of a model"
    )


def _of_safetensors(path: Path) -> dict[str, Float32]:
    data, header = _opened(path)
    try:
        _check_floats(
            path, {name: entry["dtype"] for name, entry in header.items() if name != "__metadata__"}, _DTYPES
        )
        return {
            name: _array(data, entry)
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in _DTYPES
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"expected tensors in {path}, found {error!s:.200}: fetch the model again"
        ) from error


def _opened(path: Path) -> tuple[memoryview, dict[str, Any]]:
    """The bytes of the tensors, and what each is."""
    blob = memoryview(folder.load_bytes(path))
    start = 8 + int.from_bytes(blob[:8], "little")
    try:
        header = json.loads(bytes(blob[8:start]))
    except ValueError as error:
        raise BundleError(
            f"expected tensors in {path}, found {error!s:.200}: fetch the model again"
        ) from error
    return blob[start:], header


def _array(data: memoryview, entry: Mapping[str, Any]) -> Float32:
    first, last = entry["data_offsets"]
    flat = np.frombuffer(data[first:last], _DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(entry["shape"]).astype(np.float32)


def _of_torch(path: Path) -> dict[str, Float32]:
    import pickle

    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise BundleError(
            f"expected tensors in {path}, found {error!s:.200}: fetch the model again"
        ) from error
    kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in found.items()}
    _check_floats(path, kinds, _FLOATS)
    return {name: tensor.float().numpy() for name, tensor in found.items() if kinds[name] in _FLOATS}


def _check_floats(path: Path, kinds: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse a model that others have quantized: what its numbers mean is said elsewhere, in as many ways."""
    for name, kind in kinds.items():
        if kind not in known and name.endswith(_MATRICES):
            raise BundleError(
                f"expected weights in {', '.join(known)}, {path} has {name} in {kind}: it is quantized already; fetch "
                "the model that it was made of"
            )


def _named(name: str) -> str:
    """A name as it is written today."""
    for old, new in _OLD_NAMES.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
