"""Outlook: what would be made of a model, and what was: a line for each thing that its maker wants to know."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

from export import convert, verify
from export.block import TABLE
from export.recall import recalls
from export.rows import MANY
from export.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.datasets import Collection
    from edgeret.encode.encoder import Encoder
    from export.teacher import Teacher

_TOKENS: Final = 15
_ROUNDS: Final = 50
_QUERIES: Final = 100
_CANDIDATES: Final = 40


def told(teacher: Teacher | Table, passages: int, text: Sequence[Path]) -> str:
    """What a model is, as its folder says, and what its bundle would be."""
    prompts = [f"{side} {prompt!r}" for side, prompt in teacher.prompts._asdict().items() if prompt]
    lines = {
        "model": teacher.name,
        "license": teacher.license,
        "languages": ", ".join(teacher.languages) or "its card names none",
        "kind": teacher.kind,
        "pooling": " and ".join(teacher.head.poolings),
        "dims": str(teacher.dim),
        "longest input": f"{teacher.max_tokens} tokens",
        "vocabulary": f"{len(teacher.table):,} tokens",
        "prompts": ", ".join(prompts) or "none",
        "codec": f"fitted to {passages:,} passages of {', '.join(file.name for file in text)}",
        "bundle": f"about {_bytes(teacher) / 1e6:.0f} MB",
        "TFLite": _lite(teacher),
    }
    return _table(lines)


def measured(
    encoder: Encoder, teacher: Teacher | Table, texts: Sequence[str], collections: Sequence[Collection]
) -> dict[str, str]:
    """What a bundle comes to beside its fp32 teacher, on texts that its codec has not seen, and on test collections."""
    own, known = encoder.encode(texts), teacher.encode(texts)
    cosines = verify.cosines(own, known)
    lines = {f"cosine to fp32, {len(texts)} texts": f"{cosines.mean():.4f}, worst {cosines.min():.4f}"}
    found = recalls(encoder.codec, own[:_QUERIES], own[_QUERIES:], [_CANDIDATES])
    lines |= {
        f"ten nearest among {_CANDIDATES} by {name.partition('@')[0]} bits": f"{share:.3f}"
        for name, share in found.items()
    }
    ranked = verify.ranked(encoder, None, teacher, collections)
    lines |= {
        f"nDCG@10, {one.name}": f"{ranked[f'{one.name}_ndcg10']:.4f}, fp32 {ranked[f'{one.name}_ndcg10_teacher']:.4f}"
        for one in collections
    }
    size = sum(file.nbytes for file in encoder.bundle.manifest.files.values())
    return lines | {
        "size": f"{size / 1e6:.1f} MB",
        f"time at {_TOKENS} tokens": f"{_milliseconds(encoder, texts):.2f} ms",
    }


def _table(lines: Mapping[str, str]) -> str:
    return "\n".join(f"{name:<16}{value}" for name, value in lines.items())


def _bytes(teacher: Teacher | Table) -> int:
    """A byte for each entry of a matrix, a half for one of a large table."""
    rows = len(teacher.table) * teacher.table.shape[1]
    if isinstance(teacher, Table):
        return rows
    layers = sum(tensor.size for name, tensor in teacher.weights.items() if not name.startswith(TABLE))
    return layers + (rows // 2 if len(teacher.table) >= MANY else rows)


def _lite(teacher: Teacher | Table) -> str:
    if isinstance(teacher, Table):
        return "needs none"
    kind = convert.kind_of(teacher)
    return "yes" if kind == convert.KIND else f"no, not for {kind}"


def _milliseconds(encoder: Encoder, texts: Sequence[str]) -> float:
    """The median time of a text of so many tokens, special ones not counted."""
    text = " ".join(texts[:_TOKENS])
    spans = encoder.token_spans(text)[:_TOKENS]
    text = text[: spans[-1][1]]
    taken = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        encoder.encode([text])
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken)) * 1000
