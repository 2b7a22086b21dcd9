"""Makes the bundle `base`: the teacher itself, quantized."""

from __future__ import annotations

import platform
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec
from edgeret.encode import bundle, tables
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import Graph
from edgeret.errors import BundleError
from export import card, convert, golden, hash_head, pieces, spread, verify
from export.rows import Rows
from export.teacher import Teacher

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from edgeret.encode.bundle import Bundle, Golden
    from export.table import Table

PARITY_TEXTS: Final = verify.TEXTS
PEAK_TEXTS: Final = 200
_GRAPH: Final = "model.int8.onnx"
CENTER_TEXTS: Final = 500
# Not a seed that any setting was chosen on.
PARITY_SEED: Final = 1000
_MOST_PASSAGES: Final = 72_000
_LEAST_FOR_A_DIM: Final = 4
_PACKAGES: Final = ("numpy", "onnx", "onnxruntime", "tokenizers")
_CPU_FLAGS: Final = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "asimd", "asimddp", "i8mm")


class _Parts(NamedTuple):
    """What a bundle is made of: the token table, the codec, and the INT8 graph of a transformer."""

    rows: Rows
    codec: Codec
    model: ModelProto | None


def make(
    teacher: Teacher | Table,
    text: Sequence[Path],
    out: Path,
    passages: int,
    seed: int,
    cache: Path,
    center_queries: bool = False,
) -> Bundle:
    """Fit the codec on `passages` passages of text, quantize the teacher and write its bundle to `out`.

    center_queries: whether the codec's queries have a center of their own, that of some of the passages as queries.
    Codes then find more of a teacher with a prompt for queries, and the query's prompt becomes a part of the space.
    """
    drawn = hash_head.sample(text, passages, seed)
    vectors = hash_head.encode(drawn, teacher.encode, teacher.geometry, cache)
    # A static table has none for a text of which it knows no word.
    codec = Codec.fit(vectors[vectors.any(axis=1)], seed)
    if center_queries:
        codec = hash_head.ask_around(
            codec, teacher.encode_queries(drawn[:: max(1, len(drawn) // CENTER_TEXTS)])
        )
    model = None
    if isinstance(teacher, Teacher):
        model = convert.graph(
            teacher, convert.activation_peaks(teacher, hash_head.sample(text, PEAK_TEXTS, seed))
        )
    texts, parts = golden.texts(), _Parts(Rows.of(teacher), codec, model)
    # A first bundle has vectors that are its own but for rounding: they pass the check at the encoder's start, and then
    # its own can be computed by the very code that will be judged.
    near = _Quantized(teacher, parts)
    write = partial(_write, teacher, parts, out, golden.proof(texts, teacher, near))
    own = Encoder.load(write("").path)
    write = partial(_write, teacher, parts, out, golden.proof(texts, teacher, own))
    encoder = Encoder.load(write("").path)
    languages = hash_head.sample_languages(text, PARITY_TEXTS, seed + PARITY_SEED, set(drawn)).values()
    apart = list(chain.from_iterable(languages))
    figures = verify.golden(encoder) | verify.parity(encoder, teacher, apart)
    made = write(card.describe(encoder.bundle, teacher, text, passages, figures))
    return spread.write(made, spread.measure(encoder, languages))


def most_passages(text: Sequence[Path], dim: int) -> int:
    """How many passages a codec for so many dims is fitted on: what there is, but for those that it is measured with.

    Raises BundleError if they are too few.
    """
    there = hash_head.count(text)
    least = _LEAST_FOR_A_DIM * dim + PARITY_TEXTS
    if there < least:
        raise BundleError(
            f"expected {least:,} passages of text or more, found {there:,}: vectors of {dim} dims want that many; give "
            "more text files, a passage a line, or leave --text out"
        )
    return min(_MOST_PASSAGES, there - PARITY_TEXTS)


class _Quantized:
    """Both sides of a teacher as its INT8 graph and table give them."""

    def __init__(self, teacher: Teacher | Table, parts: _Parts) -> None:
        self._table, self._tokenizer, self.prompts = parts.rows.floats(), teacher.tokenizer, teacher.prompts
        self._session = None if parts.model is None else convert.session(parts.model.SerializeToString())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(self.prompts.document + text) for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._vector(self.prompts.query + text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float32]:
        tokens = self._table[self._tokenizer.encode(text).ids]
        if self._session is not None:
            found: NDArray[np.float32] = self._session.run(None, {convert.INPUT: tokens[None]})[0][0]
            return found
        total = tokens.sum(axis=0)
        return total / np.float32(np.linalg.norm(total) or 1)


def _write(teacher: Teacher | Table, parts: _Parts, out: Path, proof: Golden, described: str) -> Bundle:
    model = parts.model
    words = pieces.files(teacher.tokenizer_json.encode())
    return bundle.write(
        out,
        bundle.Content(
            name=out.name,
            max_tokens=teacher.max_tokens,
            geometry=teacher.geometry,
            codec=parts.codec,
            kind="static" if model is None else "transformer",
            graphs={} if model is None else {"onnx": Graph(_GRAPH, convert.INPUT, convert.OUTPUT)},
            tensors={
                "tokens.bin": parts.rows.tensors(),
                "golden.bin": proof.tensors(),
            },
            files={
                **({} if model is None else {_GRAPH: model.SerializeToString(deterministic=True)}),
                **words,
                "golden.json": golden.listed(proof.texts),
                "card.md": described.encode(),
            },
            about={
                "license": teacher.license,
                "languages": list(teacher.languages),
                "teacher": {
                    "name": teacher.name,
                    **({"origin": teacher.origin} if teacher.origin else {}),
                    "weights_sha256": teacher.digest,
                    "kind": teacher.kind,
                    "pooling": "+".join(teacher.head.poolings),
                },
                "made_with": made_with(),
            },
            optional={tables.SOURCE} if tables.FILE in words else (),
            prompts=teacher.prompts,
        ),
    )


def made_with() -> dict[str, Any]:
    """Versions and instruction sets behind the bundle's own golden vectors."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in words],
        **{package: version(package) for package in _PACKAGES},
    }
