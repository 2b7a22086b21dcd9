"""Parity: whether a bundle says what its teacher says, and what it said when it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeret.encoder import Encoder
    from export.teacher import Teacher

LEAST_MEAN_COSINE: Final = 0.99
LEAST_OWN_COSINE: Final = 0.999
LEAST_OWN_BITS: Final = 0.985


def golden(encoder: Encoder) -> dict[str, float]:
    """The encoder's golden texts, encoded here, against the vectors that the bundle came with."""
    known = encoder.bundle.golden()
    vectors = encoder.encode(known.texts)
    teacher, own = cosines(vectors, known.teacher), cosines(vectors, known.own)
    return {
        "golden_texts": len(known.texts),
        "golden_teacher_cosine_mean": float(teacher.mean()),
        "golden_teacher_cosine_worst": float(teacher.min()),
        "golden_own_cosine_mean": float(own.mean()),
        "golden_own_cosine_worst": float(own.min()),
        "golden_own_equal_bits": equal_bits(encoder, vectors, known.own),
    }


def parity(encoder: Encoder, teacher: Teacher, texts: Sequence[str]) -> dict[str, float]:
    """The bundle against its fp32 teacher on other texts."""
    vectors, exact = encoder.encode(texts), teacher.encode(texts)
    found = cosines(vectors, exact)
    return {
        "teacher_texts": len(texts),
        "teacher_cosine_mean": float(found.mean()),
        "teacher_cosine_worst": float(found.min()),
        "teacher_equal_bits": equal_bits(encoder, vectors, exact),
    }


def failures(figures: dict[str, float]) -> list[str]:
    """The gates that the figures miss; those without a figure are not judged."""
    gates = {
        "golden_own_cosine_mean": LEAST_OWN_COSINE,
        "golden_own_equal_bits": LEAST_OWN_BITS,
        "teacher_cosine_mean": LEAST_MEAN_COSINE,
    }
    return [
        f"expected {name} of at least {least}, found {figures[name]:.4f}"
        for name, least in gates.items()
        if not figures.get(name, 1.0) >= least
    ]


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of each pair of unit rows, float64 [n]."""
    return np.einsum("ij,ij->i", one, other, dtype=np.float64)


def equal_bits(encoder: Encoder, one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of equal bits among the longest codes of two sets of vectors."""
    from edgeret.codec import quantize, unpack

    bits = encoder.codec.widths[-1]
    first, second = (unpack(encoder.codec.encode(quantize(rows), bits), bits) for rows in (one, other))
    return float((first == second).mean())
