"""A mapped upgrade: a new encoder that asks the index of an old one, through an orthonormal map between their spaces.

The map is the solution of the orthogonal Procrustes problem (Schönemann, 1966) on texts that both have encoded, as in
BT2 (Zhou et al., 2023), which learns old and new together. It turns and mirrors, and so keeps the new model's angles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.encode import bundle
from edgeret.encode.encoder import Encoder
from export import card, golden
from export.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeret.encode.bundle import Bundle

Float32 = NDArray[np.float32]

_GOLDEN_FILE, _MAP_FILE, _CARD = "golden.bin", "map.bin", "card.md"


class Loss(NamedTuple):
    """What the map costs on texts that it was not learned from, by exact float search among documents of the old model.

    cosine: mean, of a text's vectors by both models. recall10: share of the ten nearest that old queries find which the
    new ones find too. Before: without the map; None where the models' dims differ.
    """

    cosine_before: float | None
    cosine: float
    recall10_before: float | None
    recall10: float


def learn(new: Float32, old: Float32) -> Float32:
    """The orthonormal map, float32 [dim of new, dim of old], that brings unit vectors `new` nearest to `old`."""
    left, _, right = np.linalg.svd(new.T.astype(np.float64) @ old, full_matrices=False)
    return (left @ right).astype(np.float32)


def turned(vectors: Float32, turn: Float32) -> Float32:
    """Unit vectors of the new model as the map makes them the old one's."""
    mapped: Float32 = vectors @ turn
    return mapped / np.linalg.norm(mapped, axis=1, keepdims=True)


def measure(turn: Float32, new: Float32, old: Float32, queries: int) -> Loss:
    """The loss on texts that both models have encoded: the first `queries` ask for the others."""
    mapped = turned(new, turn)
    comparable = new.shape == old.shape
    return Loss(
        float((new * old).sum(1).mean()) if comparable else None,
        float((mapped * old).sum(1).mean()),
        _recall(new, old, queries) if comparable else None,
        _recall(mapped, old, queries),
    )


def _recall(new: Float32, old: Float32, queries: int) -> float:
    found, wanted = (np.argsort(-(asked[:queries] @ old[queries:].T), axis=1)[:, :10] for asked in (new, old))
    return float(
        np.mean([len({*a} & {*b}) for a, b in zip(found.tolist(), wanted.tolist(), strict=True)]) / 10
    )


def write(new: Bundle, old: Bundle, turn: Float32, loss: Loss, out: Path) -> Bundle:
    """Write the new model with the map to `out`: a bundle of the old one's space."""
    # Of a model that is mapped already, both maps are one.
    whole = new.tensor("map") @ turn if "map" in new.manifest.tensors else turn
    known, encoder = old.golden(), Encoder.load(new.path)
    own, asked = (turned(encode(known.texts), turn) for encode in (encoder.encode, encoder.encode_queries))
    exact = known.teacher if known.asked_teacher is None else known.asked_teacher
    proof = bundle.Golden(known.texts, known.teacher, own)
    if encoder.sided:
        proof = proof._replace(asked_teacher=exact, asked_own=asked)
    described = card.with_section(
        new.file(_CARD).read_text(encoding="utf-8"),
        "Mapped",
        f"Asks indexes of `{old.name}` through an orthonormal map.\n\n{_table(loss)}",
    )
    return rewrite(
        new,
        out,
        geometry=old.geometry,
        codec=old.codec(),
        tensors={_MAP_FILE: {"map": whole}, _GOLDEN_FILE: proof.tensors()},
        files={"golden.json": golden.listed(known.texts), _CARD: described.encode()},
        spread=old.manifest.spread,
    )


def _table(loss: Loss) -> str:
    rows: Sequence[tuple[str, float | None, float]] = (
        ("mean cosine to the old model's vectors", loss.cosine_before, loss.cosine),
        ("of the ten nearest by the old model", loss.recall10_before, loss.recall10),
    )
    lines = [
        f"| {name} | {'not comparable' if before is None else f'{before:.3f}'} | {after:.3f} |"
        for name, before, after in rows
    ]
    return "\n".join(["| on held-out texts | without | with the map |", "|---|---|---|", *lines])
