"""Vectors to 1-bit codes and back: center, project, sign, pack; int8 for the rescore.

A code is computed from the *stored int8 vector* with integers only (held in float64, where
sums below 2**53 are exact), so the same stored vector gives the same code on every machine, in
every batch, for ever: `check` can recompute it.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret import blocks
from edgeret.door import checked, integer, numbers, shown
from edgeret.errors import BundleError, InvalidQueryError, InvalidVectorError, StorageError
from edgeret.files import open_regular
from edgeret.native import is_allowed
from edgeret.rotation import WIDTHS, learned, possible, shuffled

try:
    from edgeret import _codec
except ImportError:
    _codec = None  # type: ignore[assignment]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

PLANES: Final = 4
"""Bits per dimension of an asymmetric query."""

FIXED: Final = np.float32(2**30)
"""What 1 is in a vector in fixed point."""

_USUAL_BITS: Final = 256
_PLANE_BITS: Final = (1 << np.arange(PLANES, dtype=np.uint8))[:, None]

_MAGIC: Final = b"edgeret codec 1\n"
"""Of a file. A line of JSON follows, `dim` and `widths`, the arrays one after the other, and the CRC-32 of it all."""

_MOST_BYTES: Final = 1 << 26
_KINDS: Final[dict[str, np.dtype[Any]]] = {
    "projection": np.dtype("<i2"),
    "thresholds": np.dtype("<f8"),
    "query_projection": np.dtype("<f4"),
    "query_thresholds": np.dtype("<f4"),
}

_ROWS_AT_ONCE: Final = 1024
"""Vectors projected at a time: their sums take 8 bytes an entry."""

_FEW_ROWS: Final = 16
"""Vectors that are projected one by one: for so few, BLAS starts threads that cost more than they bring."""

# Spacing of 16 uniform levels with the least squared error on a Gaussian of unit variance: Max,
# "Quantizing for minimum distortion", 1960. Projected queries are close to Gaussian.
_GAUSSIAN_SPACING: Final = 0.3352


def normalize(vectors: NDArray[np.floating], dim: int) -> Float32:
    """Return `vectors` [n, dim] as float32 rows of unit length.

    Raises InvalidVectorError for another dim, a NaN or infinity, or a row of length zero.
    """
    with np.errstate(over="ignore"):
        rows = numbers(vectors).astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidVectorError(
            f"expected vectors of dim {dim}, got an array of shape {rows.shape}: "
            "encode the text with a bundle of this index's space"
        )
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    peak = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    if not np.isfinite(peak).all():
        row = int(np.flatnonzero(~np.isfinite(peak))[0])
        raise InvalidVectorError(
            f"expected finite numbers, vector {row} holds a NaN or an infinity: check what computed it"
        )
    if not peak.all():
        row = int(np.flatnonzero(peak == 0)[0])
        raise InvalidVectorError(f"expected a direction, vector {row} is all zeros: leave the document out")
    rows = rows / peak
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def quantize(vectors: Float32) -> Int8:
    """Unit vectors [n, dim] -> int8 [n, dim], each row scaled so that its largest entry is 127.

    No scale is stored: the vector is known to be of unit length, so its integers imply it.
    """
    peak = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True)
    scaled = np.rint(vectors / np.where(peak > 0, peak, 1) * 127)
    return np.clip(scaled, -127, 127).astype(np.int8)


def dequantize(stored: Int8) -> Float32:
    """int8 [n, dim] -> float32 unit vectors [n, dim]."""
    vectors: Float32 = (stored / np.maximum(_lengths(stored), 1)[:, None]).astype(np.float32)
    return vectors


def cosines(stored: Int8, vector: Float32) -> Float32:
    """Cosines, float32 [n], of int8 vectors [n, dim] to a unit vector [dim]; the same on every machine, bit by bit."""
    # Of integers below 2**53, whose products sum up exactly in any order.
    rows = stored.astype(np.float64)
    lengths = np.sqrt(np.maximum(np.einsum("ij,ij->i", rows, rows), 1))
    found = rows @ fixed(vector).astype(np.float64) / (lengths * FIXED)
    # Rounding makes some of equal vectors a little more than 1.
    scores: Float32 = np.minimum(np.maximum(found, -1), 1).astype(np.float32)
    return scores


def fixed(vectors: Float32) -> Int32:
    """Unit vectors [..., dim] in fixed point."""
    found: Int32 = np.rint(vectors * FIXED).astype(np.int32)
    return found


def words(bits: int) -> int:
    """64-bit words that hold a code of `bits` bits."""
    return -(-bits // 64)


def pack(signs: NDArray[np.bool_]) -> UInt64:
    """Signs, bool [n, bits] -> uint64 [n, words]; bit i of a code is bit i % 64 of word i // 64; pads are 0."""
    count, bits = signs.shape
    if not bits % 64:
        return blocks.pack(signs).view("<u8").astype(np.uint64, copy=False)
    packed = np.zeros((count, words(bits) * 8), dtype=np.uint8)
    packed[:, : -(-bits // 8)] = blocks.pack(signs)
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(codes: UInt64, bits: int) -> NDArray[np.bool_]:
    """uint64 [n, words] -> bool [n, bits]."""
    octets = np.ascontiguousarray(codes, dtype="<u8").view(np.uint8)
    return blocks.unpack(octets, bits)


@dataclass(frozen=True, slots=True)
class Codec:
    """The 1-bit codec of a space. Codes nest: the first 64 bits of a 256-bit code are the 64-bit code.

    A bundle has its own. `fit` learns one from vectors by ITQ (Gong and Lazebnik, CVPR 2011), block by block, `random`
    needs none. Documents and queries have a side each: documents' is in integers, because codes are stored and must be
    the same on every machine.

    Attributes:
        projection: int16 [dim, max_bits], the rotation of documents.
        thresholds: float64 [max_bits], the documents' projected center, in the projection's units.
        query_projection: float32 [dim, max_bits], the rotation of queries, in any units.
        query_thresholds: float32 [max_bits], the queries' projected center, in the same units.
        widths: The lengths in bits that an index of this space may have, ascending.
    """

    projection: Int16
    thresholds: Float64
    query_projection: Float32
    query_thresholds: Float32
    widths: tuple[int, ...]

    @classmethod
    @checked
    def fit(cls, vectors: NDArray[np.floating], seed: int = 0, widths: Sequence[int] | None = None) -> Codec:
        """Learn a codec from vectors of documents. Takes seconds for some thousand, and eight bytes an entry.

        Args:
            vectors: [n, dim] numbers, of any length but zero: as many as there are dims, better ten times as many.
            seed: Where the search for the rotation begins.
            widths: Lengths in bits that codes may have, ascending. None takes those of 64, 128, 256, 384, 512 and 768
                that `dim` has room for, and of fewer dims `dim` itself.

        Returns:
            The codec. Another machine may learn another one from the same vectors: `save` it.

        Raises:
            InvalidVectorError: There are too few vectors, they have fewer than 32 dims, they are all the same, or one
                is not finite or all zeros.
        """
        array = numbers(vectors)
        if array.ndim != 2 or len(array) < array.shape[1]:
            raise InvalidVectorError(
                f"expected vectors [n, dim], as many as they have dims or more, got {shown(array)}: pass more, or take "
                "Codec.random"
            )
        lengths = possible(widths or WIDTHS, array.shape[1])
        return along(*learned(normalize(array, array.shape[1]), seed, lengths), lengths)

    @classmethod
    @checked
    def random(cls, dim: int, seed: int = 0) -> Codec:
        """Make a codec that needs no vectors: a random rotation, the same on every machine.

        It finds less than one that `fit` learned, most of all where all vectors lie on one side of the origin.

        Args:
            dim: Entries of a vector, 32 or more.
            seed: Of the rotation.

        Returns:
            The codec, with the widths that `fit` takes.

        Raises:
            InvalidVectorError: `dim` is below 32.
        """
        widths = possible(WIDTHS, dim)
        return along(np.zeros(dim), shuffled(dim, seed)[:, : widths[-1]], widths)

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Codec:
        """Read a codec that `save` wrote.

        Args:
            path: The file.

        Returns:
            The codec.

        Raises:
            BundleError: The file is something else, or damaged.
            StorageError: It cannot be read.
        """
        with open_regular(Path(path)) as stream:
            content = stream.read(_MOST_BYTES + 1)
        body = content[:-4]
        if not body.startswith(_MAGIC) or zlib.crc32(body) != int.from_bytes(content[-4:], "little"):
            raise BundleError(
                f"expected a codec in '{path}', found something else, or a part of one: fit it again"
            )
        head, _, rest = body[len(_MAGIC) :].partition(b"\n")
        try:
            said = json.loads(head)
            dim, widths = said["dim"], tuple(said["widths"])
            arrays, start = dict[str, NDArray[Any]](), 0
            for name, kind in _KINDS.items():
                shape = (dim, widths[-1]) if name.endswith("projection") else widths[-1:]
                stop = start + math.prod(shape) * kind.itemsize
                arrays[name] = np.frombuffer(rest[start:stop], kind).reshape(shape)
                start = stop
            sound = start == len(rest) and list(widths) == sorted({*widths}) and widths[0] > 0
        except (ValueError, KeyError, TypeError, IndexError, OverflowError):
            sound = False
        if not sound or not all(np.isfinite(array).all() for array in arrays.values()):
            raise BundleError(f"expected a codec in '{path}', found arrays that are none: fit it again")
        return cls(**arrays, widths=widths)

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the codec to a file, in the place of one that is there: about six bytes for each dim and bit.

        Args:
            path: The file.

        Raises:
            StorageError: The medium refused.
        """
        head = json.dumps({"dim": self.dim, "widths": self.widths}).encode() + b"\n"
        arrays = (getattr(self, name).astype(kind).tobytes() for name, kind in _KINDS.items())
        body = b"".join((_MAGIC, head, *arrays))
        try:
            Path(path).write_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
        except OSError as error:
            raise StorageError(f"cannot write '{path}' ({error.strerror}): choose another path") from None

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return int(self.projection.shape[0])

    @property
    def usual_bits(self) -> int:
        """The length that an index gets if nothing else is said: the longest up to 256 bits, or else the shortest."""
        return max((bits for bits in self.widths if bits <= _USUAL_BITS), default=self.widths[0])

    @checked
    def check_bits(self, bits: int) -> None:
        """Raise InvalidQueryError unless the codec has this length.

        Args:
            bits: Length of a code in bits.

        Raises:
            InvalidQueryError: It is not one of `widths`.
        """
        if bits not in self.widths:
            raise InvalidQueryError(
                f"expected bits to be one of {', '.join(map(str, self.widths))}, got {bits}: choose one of them"
            )

    @checked
    def planned_bytes(self, bits: int, count: int) -> int:
        """Return the memory that the codec takes, and the codes of `count` vectors at a time, in bytes.

        Args:
            bits: Length of a code in bits.
            count: Vectors at a time.
        """
        arrays = sum(
            array.nbytes
            for array in (self.projection, self.thresholds, self.query_projection, self.query_thresholds)
        )
        return (
            arrays
            + 8 * (self.dim * bits + min(count, _ROWS_AT_ONCE) * (self.dim + 2 * bits))
            + 2 * count * self.dim
        )

    def encode(self, stored: Int8, bits: int) -> UInt64:
        """Make the codes of stored vectors.

        Args:
            stored: int8 [n, dim], as `quantize` makes them.
            bits: Length of a code in bits.

        Returns:
            uint64 [n, words]; bit i of a code is bit i % 64 of word i // 64, and the last word is padded with zeros.

        Raises:
            InvalidVectorError: `stored` has another type or shape.
            InvalidQueryError: The codec lacks these bits.
        """
        bits = self._check(stored, "i1", 2, bits)
        # |sum| <= 384 * 127 * 32767 < 2**53: exact in float64, whatever the order of summation.
        projection = self.projection[:, :bits].astype(np.float64)
        codes = np.empty((len(stored), words(bits)), dtype=np.uint64)
        for first in range(0, len(stored), _ROWS_AT_ONCE):
            rows = stored[first : first + _ROWS_AT_ONCE]
            thresholds = _lengths(rows)[:, None] * self.thresholds[:bits]
            codes[first : first + len(rows)] = pack(_sums(rows.astype(np.float64), projection) > thresholds)
        return codes

    def encode_query(self, vector: Float32, bits: int) -> UInt64:
        """Make the asymmetric query of a vector: 4 bits a dimension, in planes.

        Plane j weighs 2**j: the distance to a code is the sum over j of 2**j * popcount(planes[j] ^ code). Scoring
        1-bit codes by a query of few bits through popcounts is RaBitQ's idea (Gao and Long, SIGMOD 2024). Here levels
        are the odd integers from -15 to 15; their binary digits are signs, so that each plane is one Hamming distance.

        Args:
            vector: float32 [dim], of unit length.
            bits: Length of a code in bits.

        Returns:
            uint64 [4, words], plane by plane.

        Raises:
            InvalidVectorError: `vector` has another type or shape.
            InvalidQueryError: The codec lacks these bits.
        """
        bits = self._check(vector, "f4", 1, bits)
        weights = vector @ self.query_projection[:, :bits]
        weights -= self.query_thresholds[:bits]
        spacing = _GAUSSIAN_SPACING * math.sqrt(float(weights @ weights) / bits)
        if not spacing:
            # At the center no bit weighs more than another.
            weights, spacing = weights - 1, 1.0
        return _planes(weights, spacing)

    def encode_symmetric(self, vector: Float32, bits: int) -> UInt64:
        """Make the symmetric query of a vector: its own code, for plain Hamming distance.

        Args:
            vector: float32 [dim], of unit length.
            bits: Length of a code in bits.

        Returns:
            uint64 [1, words].

        Raises:
            InvalidVectorError: `vector` has another type or shape.
            InvalidQueryError: The codec lacks these bits.
        """
        self._check(vector, "f4", 1, bits)
        return self.encode(quantize(vector[None]), bits)

    def _check(self, array: object, dtype: str, ndim: int, bits: object) -> int:
        expected = np.dtype(dtype)
        fits = isinstance(array, np.ndarray) and array.dtype == expected and array.ndim == ndim
        if not fits or array.shape[-1] != self.dim:  # type: ignore[attr-defined]
            shape = f"[{'n, ' * (ndim - 1)}{self.dim}]"
            raise InvalidVectorError(
                f"expected {expected} {shape}, got {shown(array)}: pass what normalize or quantize makes"
            )
        return integer("bits", bits, 1, self.projection.shape[1], InvalidQueryError)


def along(center: Float64, projection: Float64, widths: Sequence[int]) -> Codec:
    """The codec that takes signs along a projection [dim, widths[-1]], from a center [dim] on."""
    # A bit does not change with its column's scale, and columns of one scale lose least by rounding.
    columns = projection * (np.iinfo(np.int16).max / np.abs(projection).max(axis=0))
    integers = np.rint(columns).astype(np.int16)
    # As bundles store it, so that a codec read back is this one.
    queries = (projection / np.abs(projection).max()).astype(np.float16).astype(np.float32)
    # A sum of zeros may be -0, on some machines: then it is 0 too.
    return Codec(
        projection=integers,
        thresholds=center @ integers.astype(np.float64) + 0.0,
        query_projection=queries,
        query_thresholds=(center @ queries.astype(np.float64) + 0.0).astype(np.float32),
        widths=tuple(widths),
    )


def _planes(weights: Float32, spacing: float) -> UInt64:
    """The levels of weights [bits], which are `spacing` apart, as planes."""
    if _codec is not None and is_allowed():
        planes: UInt64 = np.frombuffer(_codec.planes(weights, spacing), np.uint64).reshape(PLANES, -1)
        return planes
    steps = np.floor(weights / spacing) + 2**PLANES // 2
    levels = np.minimum(np.maximum(steps, 0), 2**PLANES - 1).astype(np.uint8)
    return pack((levels & _PLANE_BITS) != 0)


def _sums(rows: Float64, projection: Float64) -> Float64:
    """rows @ projection."""
    if len(rows) > _FEW_ROWS:
        return rows @ projection
    return np.stack([row @ projection for row in rows]) if len(rows) else np.empty((0, projection.shape[1]))


def _lengths(stored: Int8) -> Float64:
    squares = np.einsum("ij,ij->i", stored, stored, dtype=np.int64)
    lengths: Float64 = np.sqrt(squares.astype(np.float64))
    return lengths
