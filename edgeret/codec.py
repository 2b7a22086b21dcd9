"""Vectors to 1-bit codes and back: center, project, sign, pack; int8 for the rescore.

A code is computed from the *stored int8 vector* with integers only (held in float64, where
sums below 2**53 are exact), so the same stored vector gives the same code on every machine, in
every batch, for ever: `check` can recompute it and `recode` can replace it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import InvalidVectorError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

PLANES: Final = 4
"""Bits per dimension of an asymmetric query."""

# Spacing of 16 uniform levels with the least squared error on a Gaussian of unit variance: Max,
# "Quantizing for minimum distortion", 1960. Projected queries are close to Gaussian.
_GAUSSIAN_SPACING: Final = 0.3352


def normalize(vectors: NDArray[np.floating], dim: int) -> Float32:
    """Return `vectors` [n, dim] as float32 rows of unit length.

    Raises InvalidVectorError for another dim, a NaN or infinity, or a row of length zero.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidVectorError(
            f"expected vectors of dim {dim}, got an array of shape {rows.shape}: "
            "encode the text with a bundle of this index's space"
        )
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InvalidVectorError(
            f"expected finite numbers, vector {row} holds a NaN or an infinity: check what computed it"
        )
    # Divided by the largest entry first, so that squares neither overflow nor vanish.
    peak = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
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


def words(bits: int) -> int:
    """64-bit words that hold a code of `bits` bits."""
    return -(-bits // 64)


def pack(signs: NDArray[np.bool_]) -> UInt64:
    """Signs, bool [n, bits] -> uint64 [n, words]; bit i of a code is bit i % 64 of word i // 64; pads are 0."""
    count, bits = signs.shape
    packed = np.zeros((count, words(bits) * 8), dtype=np.uint8)
    packed[:, : -(-bits // 8)] = np.packbits(signs, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack(codes: UInt64, bits: int) -> NDArray[np.bool_]:
    """uint64 [n, words] -> bool [n, bits]."""
    octets = np.ascontiguousarray(codes, dtype="<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, count=bits, bitorder="little").astype(np.bool_)


@dataclass(frozen=True, slots=True)
class CodedQuery:
    """A query in the form that the scan takes.

    planes: uint64 [planes, words]. Plane j weighs 2**j; the distance of a code is the weighted
    Hamming distance sum_j 2**j * popcount(planes[j] ^ code), an int32.
    cosine(distance) = offset + step * (bits * (2**planes - 1) - 2 * distance) estimates the cosine.
    """

    planes: UInt64
    bits: int
    offset: float
    step: float

    def cosine(self, distances: Int32) -> Float32:
        """int32 [n] weighted Hamming distances -> float32 [n] estimated cosines."""
        top = self.bits * (2 ** len(self.planes) - 1)
        cosines: Float32 = (self.offset + self.step * (top - 2.0 * distances)).astype(np.float32)
        return cosines


@dataclass(frozen=True, slots=True)
class Decoder:
    """The least-squares map from codes of one width back to vectors: x ~ mean + signs @ matrix.

    mean: float32 [dim]. matrix: float32 [bits, dim]. Signs are -1 or +1.
    """

    mean: Float32
    matrix: Float32


@dataclass(frozen=True, slots=True)
class Codec:
    """The 1-bit codec of a space. Codes nest: the first 64 bits of a 256-bit code are the 64-bit code.

    projection: int16 [dim, max_bits], the centered rotation in integers.
    thresholds: float64 [max_bits], the projected center, in the projection's units.
    decoders: one for each width that an index may have; the query's side (it may differ from the
    documents' side: "asymmetric").
    """

    projection: Int16
    thresholds: Float64
    decoders: dict[int, Decoder]

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return int(self.projection.shape[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """The bits that an index of this space may have."""
        return tuple(sorted(self.decoders))

    def encode(self, stored: Int8, bits: int) -> UInt64:
        """int8 vectors [n, dim] as `quantize` makes them -> codes, uint64 [n, words]."""
        # |sum| <= 384 * 127 * 32767 < 2**53: exact in float64, whatever the order of summation.
        projected = stored.astype(np.float64) @ self.projection[:, :bits].astype(np.float64)
        return pack(projected > _lengths(stored)[:, None] * self.thresholds[:bits])

    def encode_query(self, vector: Float32, bits: int) -> CodedQuery:
        """A unit vector [dim] -> the asymmetric query: PLANES bits per dimension against 1-bit codes.

        The idea of scoring 1-bit codes by a query of few bits through popcounts is RaBitQ's
        (Gao and Long, SIGMOD 2024); here levels are the odd integers from -15 to 15, whose binary
        digits are themselves signs, so that each plane is one Hamming distance.
        """
        decoder = self.decoders[bits]
        weights = decoder.matrix.astype(np.float64) @ vector.astype(np.float64)
        spacing = _GAUSSIAN_SPACING * float(np.sqrt(np.mean(weights**2)))
        top = 2**PLANES - 1
        levels = np.full(bits, top // 2)
        if spacing > 0:
            levels = np.clip(np.floor(weights / spacing) + (top + 1) // 2, 0, top).astype(np.int64)
        planes = pack((levels[None, :] >> np.arange(PLANES)[:, None] & 1).astype(np.bool_))
        offset = float(decoder.mean.astype(np.float64) @ vector.astype(np.float64))
        return CodedQuery(planes=planes, bits=bits, offset=offset, step=spacing / 2)

    def encode_symmetric(self, vector: Float32, bits: int) -> CodedQuery:
        """A unit vector [dim] -> the classic query: its own code, compared by Hamming distance."""
        return CodedQuery(
            planes=self.encode(quantize(vector[None]), bits), bits=bits, offset=0.0, step=1 / bits
        )


def _lengths(stored: Int8) -> Float64:
    squares = np.einsum("ij,ij->i", stored, stored, dtype=np.int64)
    lengths: Float64 = np.sqrt(squares.astype(np.float64))
    return lengths
