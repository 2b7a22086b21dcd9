"""Bundles that somebody made with intent: every hash is sound, and a part is not what it should be."""

import hashlib
import json
import shutil
import struct
from pathlib import Path

from edgeret.encode import manifest
from edgeret.encode.bundle import Bundle


def clone(name: str, target: Path) -> Path:
    """A copy of an installed bundle, to be changed."""
    return Path(shutil.copytree(Bundle.open(name).path, target, ignore=shutil.ignore_patterns("card.md")))


def seal(folder: Path, **changes) -> Path:
    """Make the manifest's sizes, hashes and checksum those of the files that are there; set some of its keys."""
    path = folder / manifest.MANIFEST
    table = json.loads(path.read_text()) | changes
    table.pop("checksum", None)
    present = sorted(file.name for file in folder.iterdir() if file.name in table["files"])
    table["files"] = {name: described((folder / name).read_bytes()) for name in present}
    path.write_text(json.dumps(table))
    table["checksum"] = manifest.read(folder).checksum
    path.write_text(json.dumps(table))
    return folder


def described(blob: bytes) -> dict:
    return {"bytes": len(blob), "sha256": hashlib.sha256(blob).hexdigest()}


# -- ONNX, as onnx.proto3 numbers the fields


def field(number: int, content) -> bytes:
    """A number, a float, a text or a message as a field."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content & (1 << 64) - 1)
    if isinstance(content, float):
        return varint(number << 3 | 5) + struct.pack("<f", content)
    octets = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(octets)) + octets


def varint(value: int) -> bytes:
    octets = bytearray()
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])


def fields(number: int, contents) -> bytes:
    return b"".join(field(number, content) for content in contents)


def tensor(name: str, shape: list[int], dtype: int, raw: bytes = b"", more: bytes = b"") -> bytes:
    return fields(1, shape) + field(2, dtype) + field(8, name) + (field(9, raw) if raw else b"") + more


def external(location: str) -> bytes:
    """What makes a tensor's data those of another file."""
    return field(13, field(1, "location") + field(2, location)) + field(14, 1)


def node(operator: str, taken: list[str], given: list[str], *attributes: bytes, domain: str = "") -> bytes:
    return fields(1, taken) + fields(2, given) + field(4, operator) + fields(5, attributes) + field(7, domain)


def attribute(name: str, value) -> bytes:
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    return field(1, name) + fields(8, value) + field(20, 7)


def value(name: str, shape: list, dtype: int = 1) -> bytes:
    sizes = [field(2, size) if isinstance(size, str) else field(1, size) for size in shape]
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, fields(1, sizes))))


TOKENS, VECTOR = value("tokens", [1, "n", 384]), value("vector", [1, 384])


def graph(nodes, initializers=(), taken=(TOKENS,), given=(VECTOR,), more: bytes = b"") -> bytes:
    return (
        fields(1, nodes)
        + field(2, "g")
        + fields(5, initializers)
        + fields(11, taken)
        + fields(12, given)
        + more
    )


def model(body: bytes, more: bytes = b"") -> bytes:
    return field(1, 8) + field(7, body) + field(8, field(1, "") + field(2, 17)) + more


def mean(to: str, axes=(1,), of: str = "tokens") -> bytes:
    return node("ReduceMean", [of], [to], attribute("axes", list(axes)), attribute("keepdims", 0))
