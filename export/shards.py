"""Shards: parts of a corpus, each encoded by itself to a file whose name says all that decides its bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeret.documents import Encoded, Record
from edgeret.encode.encoder import Encoder
from edgeret.encode.records import encode
from edgeret.errors import BundleError, EdgeretError, StorageError

_FORMAT: Final = 1
"""Another number wherever the same documents would be split or encoded in another way."""

_HASH_BYTES: Final = 32


class Shards:
    """A folder of shards of one encoder and one length of codes; any number of processes may fill it at once.

    A part is staged as `NAME.jsonl` (id, text, metadata) and encoded to `NAME.shard`: what NumPy's npz writes, then a
    hash of it. Its arrays are `records`, uint8, the same lines; `counts`, int64 [n], the passages of each document; and
    of the passages `spans`, int64 [p, 2], `vectors`, int8 [p, dim], and `codes`, uint64 [p, words].
    A file has its name only once it is whole and synced.
    """

    def __init__(self, folder: Path, encoder: Encoder, bits: int) -> None:
        self.folder = folder
        self.encoder = encoder
        self.bits = bits
        made_by = (encoder.bundle.manifest.checksum[:16], encoder.backend, encoder.codec_id[:16])
        self._coding = "-".join((*made_by, str(bits), str(_FORMAT)))

    def name(self, records: Sequence[Record]) -> str:
        """Hash of the documents, how many they are, bundle, backend, codec, bits and format."""
        content = hashlib.blake2b(digest_size=16)
        for record in records:
            content.update(record.digest)
        return f"{content.hexdigest()}-{len(records)}-{self._coding}"

    def has(self, name: str) -> bool:
        """Whether this shard is finished."""
        return self._finished(name).exists()

    def stage(self, name: str, records: Sequence[Record]) -> None:
        """Put the documents of a shard where a worker finds them. Raises StorageError."""
        with _written(self._staged(name)) as copy:
            copy.write_bytes(_lines(records))

    def encode(self, name: str) -> None:
        """Make a shard of its staged documents, unless it is finished: whoever was killed is simply asked again.

        Raises BundleError for a shard of another bundle, backend, codec or length; what encoding raises; StorageError.
        """
        if not name.endswith(f"-{self._coding}"):
            raise BundleError(
                f"expected the bundle of shard '{name}', found {self._coding} at {self.encoder.bundle.path}: "
                "give every machine the same one"
            )
        staged = self._staged(name)
        if not self.has(name):
            with translated(staged):
                records = _records(staged.read_bytes())
            encoded = encode(records, self.encoder, self.bits)
            content = io.BytesIO()
            np.savez(
                content,
                records=np.frombuffer(_lines(records), dtype=np.uint8),
                counts=np.array([len(one.spans) for one in encoded], dtype="<i8"),
                spans=np.concatenate([np.array(one.spans, dtype="<i8") for one in encoded]),
                vectors=np.concatenate([one.vectors for one in encoded]),
                codes=np.concatenate([one.codes for one in encoded]).astype("<u8"),
            )
            with _written(self._finished(name)) as copy:
                copy.write_bytes(content.getvalue() + _hash(content.getvalue()))
        with translated(staged):
            staged.unlink(missing_ok=True)

    def read(self, name: str) -> Iterator[Encoded]:
        """The documents of a finished shard, in order. Raises StorageError for one that is damaged."""
        path = self._finished(name)
        with translated(path):
            content = path.read_bytes()
        if _hash(content[:-_HASH_BYTES]) != content[-_HASH_BYTES:]:
            raise StorageError(f"shard '{path}' is damaged: delete it and run the build again")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            records = _records(arrays["records"].tobytes())
            counts, spans, vectors, codes = (arrays[key] for key in ("counts", "spans", "vectors", "codes"))
        stop = 0
        for record, count in zip(records, counts.tolist(), strict=True):
            start, stop = stop, stop + count
            located = [(first, last) for first, last in spans[start:stop].tolist()]
            yield Encoded(record, located, vectors[start:stop], codes[start:stop])

    def _staged(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def _finished(self, name: str) -> Path:
        return self.folder / f"{name}.shard"


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def _lines(records: Sequence[Record]) -> bytes:
    fields = ((record.id, record.text, record.metadata) for record in records)
    return b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in fields)


def _records(lines: bytes) -> list[Record]:
    found: list[Any] = [json.loads(line) for line in lines.split(b"\n") if line]
    return [Record(identity, text, metadata, None) for identity, text, metadata in found]


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A file to fill, which gets the name `path` when it is whole and synced."""
    with translated(path):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        copy = Path(name)
        try:
            yield copy
            os.fsync(descriptor)
            copy.replace(path)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of files into StorageError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, EdgeretError):
            raise
        raise StorageError(
            f"cannot read or write '{path}' ({error.strerror}): check space and permissions, then run it again"
        ) from None
