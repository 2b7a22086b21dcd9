"""Copies of bundles, with something changed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeret.encode.bundle import Bundle, Content, Golden, write


def copied(origin: Bundle, folder: Path, golden: Golden, **changes: Any) -> Bundle:
    """A copy of a bundle with other golden vectors, whatever else is changed."""
    files: dict[str, dict[str, np.ndarray]] = {"golden.bin": golden.tensors()}
    for name, tensor in origin.manifest.tensors.items():
        if tensor.file not in ("golden.bin", "codec.bin"):
            files.setdefault(tensor.file, {})[name] = origin.tensor(name)
    others = origin.manifest.files.keys() - files.keys() - {"codec.bin", "tokenizer.json"}
    content = Content(
        name=folder.name,
        max_tokens=origin.max_tokens,
        geometry=origin.geometry,
        codec=origin.codec(),
        kind=origin.manifest.kind,
        graphs=origin.manifest.graphs,
        tensors=files,
        files={name: origin.file(name).read_bytes() for name in others}
        | {"golden.json": json.dumps({"texts": golden.texts}).encode()},
        about={},
    )
    return write(folder, replace(content, **changes))
