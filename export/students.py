"""Students: what they learn from, how each starts, and their bundles. `export/training.py` trains them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from edgeret.codec import normalize
from edgeret.encode import bundle, tables
from edgeret.encode.bundle import Bundle, Golden
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS, Graph, Roles
from edgeret.errors import BundleError
from export import (
    card,
    convert,
    golden,
    hash_head,
    languages,
    mix,
    network,
    pieces,
    query_axes,
    ridge,
    spread,
    text,
    training,
    verify,
    vocabulary,
)
from export.base import PARITY_TEXTS, PEAK_TEXTS, made_with
from export.codes import Coded
from export.network import Network
from export.rows import packed
from export.static import BITS, Static
from export.training import Kinds, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from export.teacher import Teacher

WEIGHT_BITS: Final = 7
_HELD_OUT_SHARE: Final = 0.02
# Of texts in many languages, one of so many is not learned.
_APART: Final = 50
_HELD_OUT_TOKENS: Final = 60_000
_SOLVED: Final = 150_000
_FILLING: Final = ("<pad>", "[PAD]")
_LEAST_COSINE: Final = 0.9999
_GRAPH: Final = "model.int8.onnx"

Parts = tuple[dict[str, Graph], dict[str, dict[str, NDArray[Any]]], dict[str, bytes]]


@dataclass(frozen=True)
class Material:
    """What a student learns from, and texts that it does not see.

    tokens: of the texts, every other one behind the query's prompt, the rest behind the document's. vectors: the
    teacher's, float16 [texts, dim]. removed: passages left out for a run of words that they share
    with a collection. sides: 2 if every other text is a query. apart: those that it does not see by their languages,
    if these are known. kinds, roles: of texts in many languages, which have the token of their role in the place of a
    prompt.
    """

    texts: list[str]
    tokens: Tokens
    vectors: NDArray[np.float16]
    held_out: list[str]
    sources: list[str]
    removed: int
    sides: int = 1
    apart: Mapping[str, list[str]] = field(default_factory=dict)
    kinds: Kinds | None = None
    roles: Roles | None = None

    @property
    def documents(self) -> NDArray[np.float16]:
        """The vectors of those that are no queries."""
        return self.vectors[:: self.sides] if self.kinds is None else self.vectors[self.kinds.around == 0]


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


def gather_languages(
    teacher: Teacher, origin: Encoder, files: Sequence[Path], collections: Sequence[Path], each: int, seed: int,
    cache: Path, more: Mapping[str, int] | None = None,
) -> Material:  # fmt: skip
    """Draw `each` texts of each language and encode them by `origin`, a bundle of the teacher.

    What translates an English text learns the mean of both texts' vectors: Reimers and Gurevych (EMNLP 2020). Some
    texts come in capitals too, and some in small letters, with the vectors that they have as they were written. Roles
    stand for prompts: where `origin` has one side, so has the student. more: of these files so many texts beside.
    """
    if each < 1:
        raise BundleError(f"expected a text of each language or more, found {each}: give a larger --each")
    roles = roles_of(teacher) if origin.sided else None
    drawn = languages.draw(languages.read(files), each, seed)
    drawn += languages.more(files, more or {}, drawn, seed)
    lines, removed = languages.unrepeated(drawn, collections)
    # Drawn language by language, and of a language kind by kind: whoever takes the first few wants some of all.
    held_out, apart = lines[::_APART], dict[str, list[str]]()
    held_out = [held_out[row] for row in np.random.default_rng(seed).permutation(len(held_out))]
    for line in held_out:
        apart.setdefault(line.language, []).append(line.text)
    del lines[::_APART]
    texts, names, sides, translated = languages.sided(lines, teacher.tokenizer)
    if not {0, 1} <= {*sides}:
        raise BundleError(f"expected short texts and longer ones, found {len(texts)}: give more --text")
    around, vectors = np.array(sides), np.empty((len(texts), teacher.dim), np.float16)
    key = hash_head.key(origin)
    for side, encode in enumerate((origin.encode, origin.encode_queries)):
        rows = np.flatnonzero(around == side)
        seen = [texts[row] for row in rows]
        vectors[rows] = hash_head.encode(seen, encode, f"{key} {side}", cache, np.float16)
    centers = [vectors[around == side].mean(0, dtype=np.float64).astype(np.float32) for side in (0, 1)]
    others = np.array(translated, np.int64)
    mixed = vectors[others].astype(np.float32) + vectors[others + 1]
    vectors[others] = normalize(mixed, teacher.dim)
    recased = languages.recased(texts, seed)
    texts += recased.values()
    names += [names[row] for row in recased]
    around, vectors = (np.concatenate([found, found[[*recased]]]) for found in (around, vectors))
    tokens = Tokens.of(texts, as_read(teacher, roles).tokenizer)
    if roles:
        tokens.flat[tokens.offsets[:-1]] = np.array(roles)[around]
    return Material(
        texts,
        tokens,
        vectors,
        [line.text for line in held_out],
        sorted({text.source(file) for file in files}),
        removed,
        apart=apart,
        kinds=Kinds(np.unique(names, return_inverse=True)[1], around, np.stack(centers)),
        roles=roles,
    )


def roles_of(teacher: Teacher) -> Roles:
    """The token at a text's start for documents, and for queries the one that fills up: no text has it.

    Raises BundleError for a tokenizer without them.
    """
    first, other = (teacher.tokenizer.encode(text).ids[:1] for text in ("", "a"))
    if not first or first != other:
        raise BundleError(
            "expected a tokenizer that begins texts with a token, found one without: leave --each out"
        )
    found = [teacher.tokenizer.token_to_id(token) for token in _FILLING]
    filling = next((id for id in found if id is not None), None)
    if filling is None:
        raise BundleError(
            f"expected a tokenizer with one of the tokens {_FILLING}, found none: leave --each out"
        )
    return Roles(first[0], filling)


def as_read(teacher: Teacher, roles: Roles | None) -> Teacher:
    """The teacher with what its student puts around a text: where that has roles, these alone.

    A token behind each text, which says nothing of it, would cost a query of 15 tokens a fifteenth of its time. It
    stays where the vector is made of it.
    """
    if roles is None:
        return teacher
    plain = replace(teacher, prompts=NO_PROMPTS)
    if "last" in teacher.head.poolings:
        return plain
    return replace(plain, tokenizer_json=vocabulary.unended(teacher.tokenizer_json))


def static(
    teacher: Teacher, material: Material, device: str, parts: int = 0, table: Tensor | None = None
) -> Static:
    """The static student at its start: the closed form, from the teacher's vectors of single tokens.

    parts: bytes of a row of product codes; 0 is for entries of 4 bits. table: one in the place of the closed form.
    """
    rows = _closed_form(teacher, material, device) if table is None else table.numpy()
    center = material.kinds.centers.mean(0) if material.kinds else None
    if not parts:
        return Static(rows, center).to(device)
    return Static(_coded(torch.from_numpy(rows / rows.std()), parts, material), center).to(device)


def _closed_form(teacher: Teacher, material: Material, device: str) -> NDArray[np.float32]:
    ends = teacher.tokenizer.encode("").ids
    # More texts make the closed form slower, not better: training sees them all.
    rows = np.random.default_rng(0).permutation(len(material.texts))[:_SOLVED]
    alone = [[ends[0], token, ends[-1]] for token in range(len(teacher.table))]
    prior = network.encode(Network(teacher).to(device).eval(), alone)
    vectors: NDArray[np.floating] = material.vectors[rows]
    if material.kinds:
        prior = normalize(prior - prior.mean(0), teacher.dim)
        vectors = normalize(vectors - material.kinds.centers[material.kinds.around[rows]], teacher.dim)
        ends = [*ends, *(material.roles or ())]
    return ridge.solve(material.tokens.chosen(rows), vectors, prior, ends)


def layered(
    teacher: Teacher, layers: Sequence[int], device: str, material: Material | None = None, parts: int = 0,
    max_tokens: int | None = None,
) -> Network:  # fmt: skip
    """The student of a few of the teacher's layers, trained through its own quantizers.

    parts: as of `static`. max_tokens: its longest input; by default the teacher's.
    """
    chosen = with_layers(teacher, layers, max_tokens)
    if not parts or material is None:
        return Network(chosen, BITS, WEIGHT_BITS).to(device)
    rows = torch.tensor(teacher.table)
    if material.roles:
        rows[material.roles.query] = rows[material.roles.document]
    return Network(chosen, 0, WEIGHT_BITS, _coded(rows, parts, material)).to(device)


def _coded(rows: torch.Tensor, parts: int, material: Material) -> Coded:
    """The table as product codes. A token counts as the root of how often it occurs, and no less than one in a text."""
    counts = np.bincount(material.tokens.flat, minlength=len(rows))
    return Coded(rows, parts, np.sqrt(counts + 1.0), material.roles or ())


def spaced(depth: int, count: int = 3) -> list[int]:
    """`count` of a teacher's `depth` layers, the first and the last among them: all if there are no more."""
    return sorted({number * (depth - 1) // (count - 1) for number in range(count)})


def with_layers(teacher: Teacher, layers: Sequence[int], max_tokens: int | None = None) -> Teacher:
    """The teacher with only these of its layers, in this order. max_tokens: its longest input, if another."""
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
    return replace(teacher, weights=weights, shape=shape, max_tokens=max_tokens or teacher.max_tokens)


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
    read = as_read(teacher, material.roles)
    words = pieces.files(read.tokenizer_json.encode())
    kind = "static" if isinstance(student, Static) else "transformer"
    graphs, tensors, files = (
        ({}, student.tensors(), {})
        if isinstance(student, Static)
        else _graph_parts(student, read, material.held_out[:PEAK_TEXTS])
    )

    axes = None
    if material.kinds and material.roles:
        axes = query_axes.fit(material.vectors, material.kinds)
        tensors = tensors | {"query_axes.bin": {"query_axes": axes}}

    def made(proof: Golden, described: str) -> Bundle:
        return bundle.write(
            out,
            bundle.Content(
                name=out.name,
                max_tokens=teacher.max_tokens if isinstance(student, Static) else student.max_tokens,
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
                prompts=read.prompts,
                roles=material.roles,
            ),
        )

    # What torch computes passes the check at the encoder's start; the bundle's own vectors replace it.
    own = Encoder.load(
        made(golden.proof(texts, teacher, _Learned(student, read, material.roles, axes)), "").path
    )
    proof = golden.proof(texts, teacher, own)
    encoder = Encoder.load(made(proof, "").path)
    figures = verify.golden(encoder) | verify.parity(encoder, teacher, material.held_out[:PARITY_TEXTS])
    run = f"{text.RUN_LETTERS} letters" if material.kinds else f"{text.RUN_WORDS} words"
    described = card.describe_student(
        encoder.bundle, material.sources, share_alike, material.removed, run, figures
    )
    known = material.apart.values() or [material.held_out]
    measured = spread.measure(encoder, [texts[: spread.TEXTS // len(known)] for texts in known])
    return spread.write(made(proof, described), measured)


class _Learned:
    """Both sides of a student as torch computes them."""

    def __init__(
        self,
        student: Static | Network,
        teacher: Teacher,
        roles: Roles | None,
        axes: NDArray[np.float32] | None,
    ) -> None:
        self._student, self._tokenizer, self._roles = student, teacher.tokenizer, roles
        self.prompts, self._axes = teacher.prompts, axes

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._vectors(texts, 0)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = self._vectors(texts, 1)
        return found if self._axes is None else query_axes.taken_off(found, self._axes)

    def _vectors(self, texts: Sequence[str], side: int) -> NDArray[np.float32]:
        tokens = Tokens.of([self.prompts[side] + text for text in texts], self._tokenizer)
        if self._roles:
            tokens.flat[tokens.offsets[:-1]] = self._roles[side]
        return training.encode(self._student, tokens)


def check_shape(
    teacher: Teacher, kind: str, layers: Sequence[int], parts: int, max_tokens: int | None, inner: int | None = None,
) -> None:  # fmt: skip
    """Check that a student can be made so, "nano" or "small", before anything takes long. Raises BundleError.

    inner: as of `narrow`. The others as of `static` and `layered`.
    """
    widest = len(teacher.weights["encoder.layer.0.intermediate.dense.weight"])
    if inner is not None and not (kind == "small" and 1 <= inner <= widest):
        raise BundleError(
            f"expected inner layers of a layered student, of 1 to {widest} entries, found {inner} of {kind!r}: give "
            "another --inner"
        )
    deepest, width = teacher.shape.layers - 1, teacher.dim if kind == "nano" else teacher.table.shape[1]
    least = max(len(teacher.tokenizer.encode(prompt).ids) for prompt in teacher.prompts) + 1
    if not all(0 <= layer <= deepest for layer in layers):
        raise BundleError(
            f"expected layers of the teacher, 0 to {deepest}, found {[*layers]}: give others with --layers"
        )
    if parts and (parts < 0 or width % parts):
        raise BundleError(
            f"expected as many bytes of a row as divide its {width} entries, found {parts}: give another --codes"
        )
    if max_tokens is not None and not least <= max_tokens <= teacher.max_tokens:
        raise BundleError(
            f"expected a longest input of {least} to {teacher.max_tokens} tokens, found {max_tokens}: "
            "give another --max-tokens"
        )


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
    if student.coded:
        tokens = student.coded.tensors()
    else:
        rows, scales = convert.quantize_rows(weights[network.TABLE], 2 ** (BITS - 1) - 1)
        weights[network.TABLE] = rows * scales[:, None]
        tokens = {"tokens": packed(rows), "token_scales": scales}
    trained = replace(teacher, weights=weights, shape=student.shape, max_tokens=student.max_tokens)
    graph = convert.graph(trained, convert.activation_peaks(trained, texts))
    return (
        {"onnx": Graph(_GRAPH, convert.INPUT, convert.OUTPUT)},
        {"tokens.bin": tokens},
        {_GRAPH: graph.SerializeToString(deterministic=True)},
    )
