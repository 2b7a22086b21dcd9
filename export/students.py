"""Students: what they learn from, how each starts, and their bundles. `export/training.py` trains them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from edgeret.encode import bundle, tables
from edgeret.encode.bundle import Bundle, Golden
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import Graph
from edgeret.errors import BundleError
from export import (
    card,
    convert,
    golden,
    hash_head,
    mix,
    network,
    pieces,
    rewrite,
    ridge,
    spread,
    text,
    training,
    verify,
)
from export.base import PARITY_TEXTS, PEAK_TEXTS, made_with
from export.network import Network
from export.rows import packed
from export.static import BITS, Static
from export.training import Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from export.teacher import Teacher

WEIGHT_BITS: Final = 7
_HELD_OUT_SHARE: Final = 0.02
_HELD_OUT_TOKENS: Final = 60_000
_SOLVED: Final = 150_000
_LEAST_COSINE: Final = 0.9999
_GRAPH: Final = "model.int8.onnx"

Parts = tuple[dict[str, Graph], dict[str, dict[str, NDArray[Any]]], dict[str, bytes]]


@dataclass(frozen=True)
class Material:
    """What a student learns from, and texts that it does not see.

    tokens: of the texts, every other one behind the query's prompt, the rest behind the document's. vectors: the
    teacher's, float16 [texts, dim]. removed: passages left out for a run of words that they share
    with a collection. sides: 2 if every other text is a query.
    """

    texts: list[str]
    tokens: Tokens
    vectors: NDArray[np.float16]
    held_out: list[str]
    sources: list[str]
    removed: int
    sides: int = 1

    @property
    def documents(self) -> NDArray[np.float16]:
        """The vectors of those that are no queries."""
        return self.vectors[:: self.sides]


def gather(
    teacher: Teacher, files: Sequence[Path], collections: Sequence[Path], share_alike: bool, count: int, seed: int,
    cache: Path, device: str,
) -> Material:  # fmt: skip
    """Draw texts of `count` tokens and encode them by the teacher; what was encoded before comes from `cache`.

    share_alike: False leaves out the sources whose license asks to share alike.
    """
    passages = text.read(files, share_alike)
    passages, removed = text.without_runs(passages, text.collection_texts(collections))
    passages, apart = text.split(passages, _HELD_OUT_SHARE)
    texts = mix.texts(passages, count, seed)
    # A student has both sides of its teacher: it learns every other text as a query.
    seen = [teacher.prompts[number % 2] + text for number, text in enumerate(texts)]
    held_out = mix.texts(apart, _HELD_OUT_TOKENS, seed)
    wide = Network(teacher).to(device).eval()

    def encode(part: Sequence[str]) -> NDArray[np.float32]:
        return network.encode(wide, [found.ids for found in teacher.tokenizer.encode_batch(list(part))])

    vectors = hash_head.encode(seen, encode, f"{teacher.geometry} bfloat16", cache, np.float16)
    sides = 2 if any(teacher.prompts) else 1
    tokens = Tokens.of(seen, teacher.tokenizer)
    return Material(texts, tokens, vectors, held_out, sorted(passages), removed, sides)


def static(teacher: Teacher, material: Material, device: str) -> Static:
    """The static student at its start: the closed form, from the teacher's vectors of single tokens."""
    ends = teacher.tokenizer.encode("").ids
    alone = [[ends[0], token, ends[-1]] for token in range(len(teacher.table))]
    prior = network.encode(Network(teacher).to(device).eval(), alone)
    # More texts make the closed form slower, not better: training sees them all.
    table = ridge.solve(material.tokens.first(_SOLVED), material.vectors[:_SOLVED], prior, ends)
    return Static(table).to(device)


def layered(teacher: Teacher, layers: Sequence[int], device: str) -> Network:
    """The student of a few of the teacher's layers, trained through its own quantizers."""
    return Network(with_layers(teacher, layers), BITS, WEIGHT_BITS).to(device)


def spaced(depth: int, count: int = 3) -> list[int]:
    """`count` of a teacher's `depth` layers, the first and the last among them: all if there are no more."""
    return sorted({number * (depth - 1) // (count - 1) for number in range(count)})


def with_layers(teacher: Teacher, layers: Sequence[int]) -> Teacher:
    """The teacher with only these of its layers, in this order."""
    weights = {
        name: array for name, array in teacher.weights.items() if not name.startswith("encoder.layer.")
    }
    for position, layer in enumerate(layers):
        prefix = f"encoder.layer.{layer}."
        weights |= {
            f"encoder.layer.{position}.{name.removeprefix(prefix)}": array
            for name, array in teacher.weights.items()
            if name.startswith(prefix)
        }
    shape = replace(
        teacher.shape,
        layers=len(layers),
        **{
            key: tuple(values[layer] for layer in layers)
            for key in ("rotary", "reach")
            if (values := getattr(teacher.shape, key))
        },
    )
    return replace(teacher, weights=weights, shape=shape)


def write(
    student: Static | Network,
    teacher: Teacher,
    material: Material,
    origin: Bundle,
    out: Path,
    share_alike: bool,
) -> Bundle:
    """Write the student's bundle to `out`, with what it measures against the teacher on held-out texts.

    origin: a bundle of `teacher`, as `check_teacher` says; the student joins its space.
    """
    texts = golden.texts()
    words = pieces.files(teacher.tokenizer_json.encode())
    kind = "static" if isinstance(student, Static) else "transformer"
    graphs, tensors, files = (
        ({}, student.tensors(), {})
        if isinstance(student, Static)
        else _graph_parts(student, teacher, material.held_out[:PEAK_TEXTS])
    )

    def made(proof: Golden, described: str) -> Bundle:
        return bundle.write(
            out,
            bundle.Content(
                name=out.name,
                max_tokens=teacher.max_tokens,
                geometry=origin.geometry,
                codec=origin.codec(),
                kind=kind,
                graphs=graphs,
                tensors=tensors | {"golden.bin": proof.tensors()},
                files=files
                | words
                | {
                    "golden.json": golden.listed(texts),
                    "card.md": described.encode(),
                },
                about={
                    "languages": list(teacher.languages),
                    **{key: origin.manifest.about[key] for key in ("license", "teacher")},
                    "made_with": made_with() | {"torch": torch.__version__},
                },
                optional={tables.SOURCE} if tables.FILE in words else (),
                prompts=teacher.prompts,
            ),
        )

    # What torch computes passes the check at the encoder's start; the bundle's own vectors replace it.
    own = Encoder.load(made(golden.proof(texts, teacher, _Learned(student, teacher)), "").path)
    proof = golden.proof(texts, teacher, own)
    encoder = Encoder.load(made(proof, "").path)
    figures = verify.golden(encoder) | verify.parity(encoder, teacher, material.held_out[:PARITY_TEXTS])
    described = card.describe_student(
        encoder.bundle, material.sources, share_alike, material.removed, figures
    )
    measured = spread.measure(encoder, material.held_out[: spread.TEXTS])
    return rewrite.rewrite(made(proof, described), out, spread=measured)


class _Learned:
    """Both sides of a student as torch computes them."""

    def __init__(self, student: Static | Network, teacher: Teacher) -> None:
        self._student, self._tokenizer, self.prompts = student, teacher.tokenizer, teacher.prompts

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors([self.prompts.document + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors([self.prompts.query + text for text in texts])

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return training.encode(self._student, Tokens.of(texts, self._tokenizer))


def check_teacher(teacher: Teacher, origin: Bundle) -> None:
    """Check that `origin` is of this teacher, if perhaps of its weights in half precision: by its golden vectors.

    Raises BundleError if it is not.
    """
    known = origin.golden()
    found = float(verify.cosines(teacher.encode(known.texts), known.teacher).min())
    if not found >= _LEAST_COSINE:
        raise BundleError(
            f"expected the teacher of bundle {origin.name!r}, which repeats its golden vectors with cosines of at "
            f"least {_LEAST_COSINE}, found {found:.4f}: give its own teacher, or a bundle of this one"
        )


def _graph_parts(student: Network, teacher: Teacher, texts: Sequence[str]) -> Parts:
    """The graph of a layered student, in INT8, and its table of 4 bits."""
    weights = student.weights()
    rows, scales = convert.quantize_rows(weights[network.TABLE], 2 ** (BITS - 1) - 1)
    weights[network.TABLE] = rows * scales[:, None]
    trained = replace(teacher, weights=weights, shape=student.shape)
    graph = convert.graph(trained, convert.activation_peaks(trained, texts))
    return (
        {"onnx": Graph(_GRAPH, convert.INPUT, convert.OUTPUT)},
        {"tokens.bin": {"tokens": packed(rows), "token_scales": scales}},
        {_GRAPH: graph.SerializeToString(deterministic=True)},
    )
