"""Parity: whether a bundle says what its teacher says, and what it said when it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import quantize, unpack
from edgeret.encode.bundle import likeness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.datasets import Collection
    from edgeret.codec import Codec
    from edgeret.encode.encoder import Encoder
    from edgeret.encode.reranker import Reranker
    from export.golden import Sides

Float32 = NDArray[np.float32]

TEXTS: Final = 500
LEAST_MEAN_COSINE: Final = 0.99
LEAST_OWN_COSINE: Final = 0.999
LEAST_OWN_BITS: Final = 0.985
LEAST_LIKENESS: Final = 0.97
LEAST_BITS: Final = 0.95
LEAST_OVERLAP: Final = 0.90
LEAST_SHARE: Final = 0.995
LEAST_CORRELATION: Final = 0.99
MOST_LOSS: Final = 0.005
_DEPTH: Final = 10
# Least values by the name of a figure. A backend whose vectors are not the golden ones' own repeats them less well.
_GATES: Final = {
    "golden_own_cosine_mean": LEAST_OWN_COSINE,
    "golden_own_equal_bits": LEAST_OWN_BITS,
    "golden_own_likeness": LEAST_OWN_COSINE,
    "backends_cosine_mean": LEAST_MEAN_COSINE,
    "backends_equal_bits": LEAST_BITS,
    "backends_likeness": LEAST_LIKENESS,
    "backends_overlap": LEAST_OVERLAP,
    "backends_ndcg10_gain": -MOST_LOSS,
    "score_correlation": LEAST_CORRELATION,
}
# A student is another encoder than its teacher: how near it comes is its quality, not its parity.
_TEACHER_GATES: Final = {"teacher_cosine_mean": LEAST_MEAN_COSINE, "teacher_ndcg10_share": LEAST_SHARE}


def golden(encoder: Encoder) -> dict[str, float]:
    """The encoder's golden texts, encoded here, against the vectors that the bundle came with.

    Those are the first backend's own: what another backend gives is measured against them, as `backends`. The likeness
    is that of the worse side.
    """
    known = encoder.bundle.golden()
    vectors = encoder.encode(known.texts)
    teacher = cosines(vectors, known.teacher)
    own = compare(vectors, known.own, encoder.codec)
    name = "backends" if encoder.backend == "tflite" else "golden_own"
    likenesses = [likeness(vectors, known.own).mean()]
    asked = {}
    if known.asked_own is not None and known.asked_teacher is not None:
        queries = encoder.encode_queries(known.texts)
        likenesses.append(likeness(queries, known.asked_own).mean())
        asked = {"golden_asked_teacher_cosine_mean": float(cosines(queries, known.asked_teacher).mean())}
    return {
        "golden_texts": len(known.texts),
        "golden_teacher_cosine_mean": float(teacher.mean()),
        "golden_teacher_cosine_worst": float(teacher.min()),
        **asked,
        **_named(name, own),
        f"{name}_likeness": float(min(likenesses)),
    }


def scores(judge: Reranker) -> Float32:
    """The reranker's scores of the pairs that its bundle came with, computed here, float32 [pairs]."""
    return np.concatenate([judge.score(query, [text]) for query, text in judge.proof().pairs])


def scored(known: Float32, found: Float32) -> dict[str, float]:
    """How scores follow those of fp32: their correlation, and the largest difference in their standard deviations."""
    return {
        "pairs": len(known),
        "score_correlation": float(np.corrcoef(known, found)[0, 1]),
        "score_worst": float(np.abs(known - found).max() / (known.std() or 1)),
    }


def parity(encoder: Encoder, teacher: Sides, texts: Sequence[str]) -> dict[str, float]:
    """The bundle against its fp32 teacher on other texts."""
    found = compare(encoder.encode(texts), teacher.encode(texts), encoder.codec)
    del found["overlap"]
    return {"teacher_texts": len(texts), **_named("teacher", found)}


def backends(one: Encoder, other: Encoder, texts: Sequence[str]) -> dict[str, float]:
    """Two backends of a bundle on the same texts."""
    found = compare(one.encode(texts), other.encode(texts), one.codec)
    return {"backends_texts": len(texts), **_named("backends", found)}


def _named(prefix: str, found: dict[str, float]) -> dict[str, float]:
    """What `compare` found, by the names of the figures."""
    return {f"{prefix}_{'cosine_mean' if key == 'cosine' else key}": value for key, value in found.items()}


def ranked(
    encoder: Encoder, other: Encoder | None, teacher: Sides | None, collections: Sequence[Collection]
) -> dict[str, float]:
    """nDCG@10 of exact float search, beside the teacher's, and with one backend's queries on the other's vectors.

    teacher_ndcg10_share: of the fp32 teacher's, the mean over collections. backends_ndcg10_gain: what the queries'
    change of backend adds to the documents' own, in the worst collection and direction.
    """
    from export.ranking import ndcg10

    figures, shares, gains = dict[str, float](), [], []
    for found in collections:
        names, texts = (
            [encoder, other, teacher],
            (list(found.documents.values()), list(found.queries.values())),
        )
        (one, asked), *others = [
            (who.encode(texts[0]), who.encode_queries(texts[1])) for who in names if who is not None
        ]
        own = figures[f"{found.name}_ndcg10"] = ndcg10(found, one, asked)
        if teacher is not None:
            exact = figures[f"{found.name}_ndcg10_teacher"] = ndcg10(found, *others[-1])
            shares.append(own / exact)
        if other is not None:
            second, queried = others[0]
            gains += [
                ndcg10(found, one, queried) - own,
                ndcg10(found, second, asked) - ndcg10(found, second, queried),
            ]
    if shares:
        figures["teacher_ndcg10_share"] = float(np.mean(shares))
    if gains:
        figures["backends_ndcg10_gain"] = min(gains)
    return figures


def failures(figures: dict[str, float], student: bool = False) -> list[str]:
    """The gates that the figures miss; those without a figure are not judged."""
    gates = _GATES if student else _GATES | _TEACHER_GATES
    return [
        f"expected {name} of at least {least}, found {figures[name]:.4f}"
        for name, least in gates.items()
        if name in figures and not figures[name] >= least
    ]


def compare(one: Float32, other: Float32, codec: Codec) -> dict[str, float]:
    """Two encodings of the same texts, float32 unit rows [n, dim] each.

    cosine: the mean over texts. cosine_worst. equal_bits: share, of the longest codes. overlap: share of the
    ten nearest among these texts, the mean over texts; needs two texts at least.
    """
    found = cosines(one, other)
    return {
        "cosine": float(found.mean()),
        "cosine_worst": float(found.min()),
        "equal_bits": equal_bits(one, other, codec),
        "overlap": overlap(one, other),
    }


def cosines(one: Float32, other: Float32) -> NDArray[np.float64]:
    """Cosine of each pair of unit rows, float64 [n]."""
    return np.einsum("ij,ij->i", one, other, dtype=np.float64)


def equal_bits(one: Float32, other: Float32, codec: Codec) -> float:
    """Share of equal bits among the longest codes of two sets of vectors."""
    bits = codec.widths[-1]
    first, second = (unpack(codec.encode(quantize(rows), bits), bits) for rows in (one, other))
    return float((first == second).mean())


def overlap(one: Float32, other: Float32) -> float:
    """Share of the ten nearest of each row, itself left out, that both sets of vectors agree on; the mean."""
    first, second = nearest(one), nearest(other)
    return float(np.mean([np.isin(rows, found).mean() for rows, found in zip(first, second, strict=True)]))


def nearest(vectors: Float32) -> NDArray[np.int64]:
    """The ten nearest of each row by cosine, itself left out, int64 [n, 10] (fewer if there are fewer)."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, : min(_DEPTH, len(vectors) - 1)]
