"""Encoding: a record to its passages, their vectors and codes.

An encoder may be ours, which can do more than `TextEncoder` says, or an application's: only this module asks which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np

from edgeret.codec import Codec, Float32, Int8, UInt64, normalize, quantize
from edgeret.documents import Encoded, Record, Section, Span
from edgeret.door import numbers
from edgeret.encode.bundle import INSTALL, MODELS, WORLD, Bundle, installed
from edgeret.encode.encoder import Asked, Encoder
from edgeret.encode.manifest import PLAIN_NAME
from edgeret.encode.passages import split_windows
from edgeret.errors import BundleError
from edgeret.plan import Plan

_AT_ONCE: Final = 64
"""Passages whose vectors are in memory as floating-point numbers."""

_CONTEXT_SHARE: Final = 4
"""Of the tokens of a passage, one in so many may be its context's."""

_UNRELATED: Final = (
    "The ferry leaves the island twice a day.",
    "How do I change a flat bicycle tire?",
    "The court rejected the appeal.",
    "Whisk the eggs with sugar until pale.",
    "Photosynthesis turns light into chemical energy.",
    "What was the score of the match?",
    "Her new novel is set in a lighthouse.",
    "The pump fails when its filter is clogged.",
    "Inflation slowed in the second quarter.",
    "A vaccine trains the body's defenses.",
    "Sort the list before you search it.",
    "The choir rehearses on Thursday evenings.",
    "Wolves returned to the valley.",
    "My passport expires next month.",
    "The moon pulls the oceans toward it.",
    "Children under twelve travel free.",
)
"""Hardly any two have a topic in common."""


class TextEncoder(Protocol):
    """What an index needs of an encoder. `edgeret.Encoder` is one; pass your own as `model`."""

    @property
    def name(self) -> str:
        """The bundle's name or path, as `Encoder.load` finds it again."""

    @property
    def dim(self) -> int:
        """Entries of a vector."""

    @property
    def geometry(self) -> str:
        """Fingerprint of teacher weights, tokenizer and pooling."""

    @property
    def space(self) -> str:
        """Fingerprint of geometry and codec."""

    @property
    def codec(self) -> Codec:
        """The space's codec."""

    @property
    def passage_tokens(self) -> int:
        """Tokens of the longest passage that is encoded whole, without special tokens."""

    @property
    def planned_bytes(self) -> Mapping[str, int]:
        """Memory that encoding adds to the process at most: bytes of each part, by its name."""

    def encode(self, texts: Sequence[str]) -> Float32:
        """Encode texts; a text's vector must depend on that text alone.

        Of a model that wants prompts, as documents. One that reads a query in another way has `encode_query(text)` too,
        which returns float32 [dim], or [n, dim] if a document is as near as to the nearest of several vectors.

        Args:
            texts: The texts, one or more.

        Returns:
            float32 [n, dim], rows of unit length.
        """

    def token_spans(self, text: str) -> list[Span]:
        """Return where the text's tokens stand, without special tokens; nothing is cut.

        Args:
            text: The text.

        Returns:
            (start, stop) in characters, a pair for each token.
        """


def load(model: str | os.PathLike[str] | TextEncoder) -> TextEncoder:
    """An encoder as it is, or that of a bundle by its name or folder. Raises as `Encoder.load` does."""
    if isinstance(model, str | os.PathLike):
        return Encoder.load(os.fspath(model))
    return model


def load_for(model: str | os.PathLike[str] | TextEncoder | None, path: Path, recorded: str) -> TextEncoder:
    """`load`; None takes the installed bundle that the index at `path` says it was made with.

    recorded: that name. It leads to no folder elsewhere: whoever wrote the file may be anybody. Raises BundleError
    for one that is not installed, a path among them, as older indexes may hold one.
    """
    if model is not None:
        return load(model)
    named = "pass model= with its name or folder (--model), or the encoder itself"
    missing = BundleError(
        f"expected the name of a bundle that is installed, index '{path}' was made with {recorded!r:.200}: "
        f"{INSTALL if recorded in WORLD else f'{named}, or set {MODELS} to the folder around it'}"
    )
    if not PLAIN_NAME.fullmatch(recorded):
        raise missing
    if installed(recorded) is not None:
        return load(recorded)
    try:
        encoder = load(recorded)
    except BundleError:
        raise missing from None
    # A folder of that name where the process happens to stand: nothing of it runs.
    if isinstance(encoder, Encoder):
        raise missing
    return encoder


def recorded_name(encoder: TextEncoder) -> str:
    """The name by which an index remembers its encoder: never a path, which tells of its maker's machine."""
    name = encoder.bundle.name if isinstance(encoder, Encoder) else encoder.name
    return name.replace("\\", "/").rpartition("/")[2]


def plan_for(
    encoder: TextEncoder,
    passages: int,
    bits: int,
    budget: int | None,
    writing: bool = True,
    partitions: int = 0,
) -> Plan:
    """The plan of an index in use with this encoder, as `Plan.of`: only the longest text of ours may give way.

    Raises BudgetError.
    """
    shortens = isinstance(encoder, Encoder)
    return Plan.of(passages, bits, encoder.planned_bytes, budget, writing, shortens, partitions, encoder.dim)


def shortened(encoder: TextEncoder, plan: Plan) -> TextEncoder:
    """The encoder, its longest text as short as the plan has it."""
    if isinstance(encoder, Encoder) and plan.text_divisor > 1:
        return encoder.shortened(plan.text_divisor)
    return encoder


def own_vector(record: Record, encoder: TextEncoder) -> Int8 | None:
    """The vector that a record brings, as it is stored, int8 [1, dim]; None if it brings none.

    Raises InvalidVectorError for one that is not of the encoder's dim, not finite or all zeros.
    """
    if record.vector is None:
        return None
    return quantize(normalize(numbers(record.vector)[None], encoder.dim))


class _Part(NamedTuple):
    """A passage to be: where it stands in the text, its context, and what of that is encoded before it."""

    span: Span
    context: str | None = None
    before: str = ""


def encode(
    records: Sequence[Record],
    encoder: TextEncoder,
    bits: int,
    known: Sequence[Mapping[Span, bytes]] | None = None,
    sections: Sequence[Sequence[Section] | None] | None = None,
    alive: Callable[[], None] = lambda: None,
) -> list[Encoded]:
    """Passages, int8 vectors and codes of `bits` bits of records, whose texts are encoded together.

    known: of each record, vectors of passages, as they are stored, that need no encoding; one that a record brings is a
    passage's. sections: of each, the parts of its text that no passage crosses; None: it is one, behind nothing. alive:
    called now and then, as a long text takes hours; what it raises ends this.
    """
    # An encoder that is not ours has an answer of its own to what it does not know.
    encode_texts = encoder.encode_passages if isinstance(encoder, Encoder) else encoder.encode
    cut = zip(records, sections or repeat(None, len(records)), strict=True)
    parts = [_parts(record, encoder, own) for record, own in cut]
    passages = [
        (record, part, stored.get(part.span))
        for record, own, stored in zip(records, parts, known or repeat({}, len(records)), strict=True)
        for part in own
    ]
    vectors = np.empty((len(passages), encoder.dim), dtype=np.int8)
    missing = []
    for number, (record, _, stored) in enumerate(passages):
        if stored is not None:
            vectors[number] = np.frombuffer(stored, dtype=np.int8)
        elif (brought := own_vector(record, encoder)) is not None:
            vectors[number] = brought
        else:
            missing.append(number)
    for first in range(0, len(missing), _AT_ONCE):
        alive()
        some = missing[first : first + _AT_ONCE]
        texts = [
            part.before + record.text[slice(*part.span)]
            for record, part, _ in map(passages.__getitem__, some)
        ]
        vectors[some] = quantize(normalize(encode_texts(texts), encoder.dim))
    batches = (vectors[first : first + _AT_ONCE] for first in range(0, len(vectors), _AT_ONCE))
    codes = np.concatenate([encoder.codec.encode(batch, bits) for batch in batches])
    return [
        _encoded(record, own, vectors[stop - len(own) : stop], codes[stop - len(own) : stop])
        for record, own, stop in zip(records, parts, accumulate(map(len, parts)), strict=True)
    ]


def _encoded(record: Record, parts: Sequence[_Part], vectors: Int8, codes: UInt64) -> Encoded:
    contexts = [part.context for part in parts]
    return Encoded(record, [part.span for part in parts], vectors, codes, contexts if any(contexts) else ())


def _parts(record: Record, encoder: TextEncoder, sections: Sequence[Section] | None) -> list[_Part]:
    text = record.text
    if record.vector is not None:
        return [_Part((0, len(text)))]
    found = []
    for start, end, context, blocks in sections or [Section(0, len(text))]:
        before, taken = _fitted(context, encoder)
        inside = [(first - start, last - start) for first, last in blocks]
        spans = _spans(text[start:end], encoder, max(encoder.passage_tokens - taken, 1), inside)
        found += [_Part((start + first, start + last), context, before) for first, last in spans]
    return found


def _fitted(context: str | None, encoder: TextEncoder) -> tuple[str, int]:
    """What of a context is encoded before a passage, and its tokens: of a long one the end, which is nearest to it."""
    tokens = encoder.token_spans(context) if context else []
    most = encoder.passage_tokens // _CONTEXT_SHARE
    if context is None or not tokens or not most:
        return "", 0
    before = f"{context[tokens[-most:][0][0] :]}\n"
    # Those of the line's end too: to some tokenizers it is one.
    return before, len(encoder.token_spans(before))


def encode_query(text: str, encoder: TextEncoder) -> Asked:
    """A query's vectors, and what they are made of."""
    ask = getattr(encoder, "encode_query", None)
    if ask is None:
        return Asked(encoder.encode([text]), 1, known=True)
    found = ask(text)
    return found if isinstance(found, Asked) else Asked(np.atleast_2d(found), 1, known=True)


def spread(encoder: TextEncoder) -> float:
    """`deviation` of unrelated texts, as the encoder's bundle knows it, or of a few texts here.

    An encoder that is wrapped around one of ours has its `bundle` too.
    """
    bundle = getattr(encoder, "bundle", None)
    if isinstance(bundle, Bundle) and bundle.manifest.spread is not None:
        return bundle.manifest.spread
    # As queries, since a document's text may be the name of a picture to an encoder that is not ours.
    asked = np.concatenate([encode_query(text, encoder).vectors[:1] for text in _UNRELATED])
    vectors = normalize(asked, encoder.dim)
    return deviation(vectors, vectors)


def deviation(queries: Float32, documents: Float32) -> float:
    """The standard deviation of a query's cosines with other texts as documents; the mean of all queries.

    queries, documents: the vectors of three unrelated texts or more, as either. The mean, not the root of the mean
    square: what words weigh grows with it as it is, and is one number for all queries.
    """
    others = ~np.eye(len(queries), dtype=bool)
    cosines = (queries @ documents.T)[others].reshape(len(queries), -1)
    return float(cosines.std(axis=1, ddof=1, dtype=np.float64).mean())


def _spans(text: str, encoder: TextEncoder, limit: int, blocks: Sequence[Span]) -> list[Span]:
    # Of other encoders, what their tokenizer takes is theirs.
    windows = encoder.token_windows(text) if isinstance(encoder, Encoder) else [encoder.token_spans(text)]
    # A text of characters that no token stands for is still one passage.
    return split_windows(text, windows, limit, blocks) or [(0, len(text))]
