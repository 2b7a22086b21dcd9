"""Texts to unit vectors: a tokenizer, and a backend for the ids of its tokens.

One text is one inference, never padded: a text's vector depends on that text alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec, normalize
from edgeret.documents import Span
from edgeret.door import checked
from edgeret.encode.backend import Backend, choose
from edgeret.encode.bundle import Bundle, installed, likeness
from edgeret.encode.capitals import lowered
from edgeret.encode.manifest import REMEDY, Prompts, refuse
from edgeret.encode.onnx import OnnxBackend
from edgeret.encode.passages import split_windows
from edgeret.encode.static import StaticBackend
from edgeret.encode.tables import check
from edgeret.encode.tflite import TfliteBackend
from edgeret.encode.tokenizer import Tokenizer, load_tokenizer, planned_bytes
from edgeret.encode.unknown import knows, stand_in, tinged
from edgeret.encode.windows import CHARACTERS, windows
from edgeret.errors import BackendError, BundleError
from edgeret.turns import Start

Float32 = NDArray[np.float32]

_LEAST_LIKENESS: Final = 0.97
"""Of a golden vector to itself, computed here. What answers without its prompt has .85, garbage .3."""

# Characters to a token of a text that is taken for one that the model reads whole.
_BRIEF: Final = 4

# Where a special token stands; and how many of them a text with no other may have.
_NOWHERE: Final = (0, 0)
_MOST_SPECIAL: Final = 2

# Short passages: of a question behind a preamble, one is all question (docs/quality.md). And so many are compared.
_QUERY_TOKENS: Final = 32
_MOST_PARTS: Final = 64


BACKENDS: Final[dict[str, type[Backend]]] = {
    "onnx": OnnxBackend,
    "tflite": TfliteBackend,
    "static": StaticBackend,
}


class Asked(NamedTuple):
    """A query of any length, encoded.

    vectors: float32 [n, dim], unit rows, one for each part of it: a document is as near as to the nearest. windows: how
    many parts were encoded. known: whether the model knows a word of it; else its vectors are of `edgeret.unknown`.
    """

    vectors: Float32
    windows: int
    known: bool


class _Whole(NamedTuple):
    """A text's vector, whether the model reads it to its end, and whether it knows a word of it."""

    vector: Float32
    whole: bool
    known: bool


class _Reading(NamedTuple):
    """Tokens that the model takes of a text, special ones and its prompt's too, where in the text, and whether all."""

    ids: list[int]
    spans: list[Span]
    whole: bool


class _Side(NamedTuple):
    """What makes a text a document or a query: a prompt, its tokens, and the role, the id in the first one's place.

    axes: float32 [n, dim], what is taken off its vector.
    """

    prompt: str
    taken: int
    role: int | None
    axes: Float32 | None = None


class _Pipeline(NamedTuple):
    """What turns a text into a vector, once started.

    before: how many of the special tokens stand before a text. cased: whether capitals have tokens of their own.
    """

    tokenizer: Tokenizer
    backend: Backend
    max_tokens: int
    dim: int
    map: Float32 | None
    before: int
    cased: bool
    document: _Side
    query: _Side

    def encode(self, text: str, side: _Side) -> Float32:
        """The model's vector of a text of one side, as much of it as the model reads."""
        ids = self._ids(text, side)
        vector = self._run(self._read(text, side).ids if ids is None else ids, side)
        # Of a sum of no tokens.
        return stand_in(text, self.dim) if _is_zero(vector) else vector

    def encode_known(self, text: str, side: _Side) -> _Whole:
        """The same, or a vector of `edgeret.unknown`."""
        unknown, few = self.tokenizer.unknown, _MOST_SPECIAL + side.taken
        brief = self._ids(text, side)
        if brief is not None and len(brief) > few and unknown not in brief:
            # Most texts: nothing is asked of where their tokens stand.
            vector = self._run(brief, side)
            if not _is_zero(vector):
                return _Whole(vector, whole=True, known=True)
        ids, spans, whole = self._read(text, side)
        if (len(ids) <= few or unknown in ids) and not knows(text, ids, spans, unknown):
            read = text if whole else text[: max(stop for _, stop in spans)]
            return _Whole(stand_in(read, self.dim), whole, known=False)
        vector = self._run(ids, side)
        if _is_zero(vector):
            return _Whole(stand_in(text, self.dim), whole, known=not text.strip())
        if unknown is not None and unknown in ids:
            vector = tinged(vector, text, ids, spans, unknown)
        return _Whole(vector, whole, known=True)

    def room(self, side: _Side) -> int:
        """Tokens of the longest text of one side that is read whole."""
        return self.max_tokens - self.tokenizer.special - side.taken

    def windows(self, text: str) -> Iterator[list[Span]]:
        """Where the text's tokens stand, some of them at a time."""
        check(text)
        return (window.spans for window in windows(self.tokenizer, text))

    def _ids(self, text: str, side: _Side) -> list[int] | None:
        """Those that `_read` finds, without where they stand, which takes less time. None of a text that may be cut."""
        if len(side.prompt) + len(text) > min(CHARACTERS, _BRIEF * self.max_tokens):
            return None
        ids = self.tokenizer.ids(side.prompt + self._as_read(text))
        if len(ids) > self.max_tokens:
            return None
        if side.role is not None:
            ids[0] = side.role
        return ids

    def _read(self, text: str, side: _Side) -> _Reading:
        check(text)
        as_read = self._as_read(text)
        reading = self._cut(side.prompt + as_read)
        if as_read is not text and not reading.whole:
            # Passages are cut by their tokens as they are written, and a few words have more of them in small letters.
            as_it_is = self._cut(side.prompt + text)
            reading = as_it_is if as_it_is.whole else reading
        ids, spans, whole = reading
        if side.role is not None:
            ids[0] = side.role
        if not side.prompt:
            return reading
        start = len(side.prompt)
        placed = [(max(low - start, 0), high - start) if high > start else _NOWHERE for low, high in spans]
        return _Reading(ids, placed, whole)

    def _as_read(self, text: str) -> str:
        """A text as the model reads it."""
        return lowered(text) if self.cased else text

    def _cut(self, text: str) -> _Reading:
        if len(text) <= CHARACTERS:
            ids, spans, _ = self.tokenizer.tokenize(text)
        else:
            # The ids that stand around any text.
            frame = self.tokenizer.tokenize("").ids
            ids, spans = frame[: self.before], [_NOWHERE] * self.before
            for window in windows(self.tokenizer, text):
                ids += window.ids
                spans += window.spans
                if len(ids) > self.max_tokens:
                    break
            ids += frame[self.before :]
            spans += [_NOWHERE] * len(frame[self.before :])
        if len(ids) <= self.max_tokens:
            return _Reading(ids, spans, whole=True)
        # The special tokens behind it stay.
        behind = self.tokenizer.special - self.before
        kept, rest = self.max_tokens - behind, len(ids) - behind
        return _Reading([*ids[:kept], *ids[rest:]], [*spans[:kept], *spans[rest:]], whole=False)

    def _run(self, ids: list[int], side: _Side) -> Float32:
        vector = self.backend.run(ids)
        if self.map is not None:
            vector = _unit(vector @ self.map)
        if side.axes is not None:
            along: Float32 = side.axes @ vector
            vector = _unit(vector - along @ side.axes)
        return vector


class Encoder:
    """A bundle ready to encode. Tokenizer and backend start when they are first needed.

    Usually made by `Encoder.load`. May be used from any thread.

    Args:
        bundle: The opened bundle.
        name: The bundle's name, or its folder if it is not installed: `load` finds it again.
        backend: What runs the model, one that the bundle has.
        threads: Texts encoded at once, one core each.
        max_tokens: The longest input in tokens, special tokens included. None takes the bundle's.
    """

    def __init__(
        self, bundle: Bundle, name: str, backend: str, threads: int, max_tokens: int | None = None
    ) -> None:
        self.bundle = bundle
        self.name = name
        self.backend = backend
        self.threads = threads
        self.max_tokens = max_tokens or bundle.max_tokens
        self._started = Start[_Pipeline]()

    @classmethod
    @checked
    def load(cls, name_or_path: str | Path, backend: str | None = None, threads: int = 1) -> Encoder:
        """Load a bundle by its name or folder. This is light: the bundle is verified, nothing is started.

        Args:
            name_or_path: The name of an installed bundle ("small", "nano", or one in a folder of EDGERET_MODELS), or a
                bundle's folder.
            backend: "onnx", "tflite" or "static". None takes the first of these that the bundle has and whose package
                is installed.
            threads: Texts encoded at once, one core each.

        Returns:
            The encoder.

        Raises:
            BundleError: The bundle is missing or damaged.
            FormatVersionError: A newer edgeret wrote the bundle.
            BackendError: The bundle does not have this backend.
        """
        bundle = Bundle.open(name_or_path)
        if bundle.manifest.kind == "reranker":
            raise BundleError(
                f"expected an encoder, bundle {bundle.name!r} is a reranker: pass it as rerank="
            )
        chosen = choose(bundle, BACKENDS, backend)
        name = str(bundle.path.resolve()) if installed(name_or_path) is None else bundle.name
        return cls(bundle, name, chosen, threads)

    @checked
    def shortened(self, divisor: int) -> Encoder:
        """Return an encoder of the same bundle whose longest input is shorter. It is not started.

        Args:
            divisor: How many times shorter.
        """
        return Encoder(self.bundle, self.name, self.backend, self.threads, self.max_tokens // divisor)

    def __repr__(self) -> str:
        return (
            f"<edgeret.Encoder {self.name!r}, dim {self.dim}, at most {self.max_tokens} tokens, "
            f"{self.backend}, space {self.space[:8]}>"
        )

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return self.bundle.dim

    @property
    def geometry(self) -> str:
        """Fingerprint of the teacher's map from text to vector."""
        return self.bundle.geometry

    @property
    def codec_id(self) -> str:
        """Fingerprint of the codec."""
        return self.bundle.codec_id

    @property
    def space(self) -> str:
        """Fingerprint of geometry and codec."""
        return self.bundle.space

    @cached_property
    def codec(self) -> Codec:
        """The codec of the space."""
        return self.bundle.codec()

    @property
    def planned_bytes(self) -> dict[str, int]:
        """What encoding adds to the process at most, part by part, in bytes."""
        parts, tensors = planned_bytes(self.bundle), self.bundle.manifest.tensors
        parts |= {name: tensors[name].nbytes for name in ("map", "query_axes") if name in tensors}
        return parts | BACKENDS[self.backend].planned_bytes(self.bundle, self.threads)

    @property
    def prompts(self) -> Prompts:
        """What the model reads before a document's passage, and before a query: empty for most."""
        return self.bundle.manifest.prompts

    @property
    def sided(self) -> bool:
        """Whether a query has another vector than a document of the same text, by prompts or by its first token."""
        return self.bundle.manifest.sided

    @property
    def passage_tokens(self) -> int:
        """Tokens of the longest passage that is encoded whole, special tokens and its prompt's not counted."""
        pipeline = self._pipeline()
        return pipeline.room(pipeline.document)

    @checked
    def encode(self, texts: Iterable[str]) -> Float32:
        """Encode texts as documents: behind the document's prompt or first token, if the model has one.

        A text is cut after `max_tokens` tokens. Its vector is the same, bit for bit, alone or among others.

        Args:
            texts: An iterable of strings.

        Returns:
            float32 [n, dim], rows of unit length.

        Raises:
            ArgumentError: `texts` is one text instead of several.
            InvalidDocumentError: A text is not Unicode.
            BackendError: The backend answers wrongly.
        """
        return self._each(lambda pipeline, text: pipeline.encode(text, pipeline.document), texts)

    @checked
    def encode_queries(self, texts: Iterable[str]) -> Float32:
        """Encode texts as queries: behind the query's prompt or first token, if the model has one; else as `encode`.

        A text is cut after `max_tokens` tokens; `encode_query` reads all of it, as a search does.

        Args:
            texts: An iterable of strings.

        Returns:
            float32 [n, dim], rows of unit length.

        Raises:
            EdgeretError: What `encode` raises.
        """
        return self._each(lambda pipeline, text: pipeline.encode(text, pipeline.query), texts)

    @checked
    def encode_passages(self, texts: Iterable[str]) -> Float32:
        """Encode texts as an index stores passages.

        Like `encode`, but what the model does not know counts too: its symbols get a vector of their own, added by
        their share of the text, and alone where no word is known. To the model one emoji is another.

        Args:
            texts: An iterable of strings.

        Returns:
            float32 [n, dim], rows of unit length.

        Raises:
            EdgeretError: What `encode` raises.
        """
        return self._each(lambda pipeline, text: pipeline.encode_known(text, pipeline.document).vector, texts)

    def _each(self, encode_one: Callable[[_Pipeline, str], Float32], texts: Iterable[str]) -> Float32:
        texts = list(texts)
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        pipeline = self._pipeline()
        if len(texts) == 1:
            # What several texts need would take as long as the graph of the smallest bundle.
            return encode_one(pipeline, texts[0])[None]
        encode = partial(encode_one, pipeline)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if min(self.threads, len(texts)) > 1:
            # Here, for it brings `logging` along: a twentieth of what `import edgeret` takes.
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(self.threads) as pool:
                rows = pool.map(encode, texts)
        else:
            rows = map(encode, texts)
        for row, vector in enumerate(rows):
            vectors[row] = vector
        return vectors

    @checked
    def encode_query(self, text: str) -> Asked:
        """Encode a query of any length, behind the query's prompt or first token if the model has one.

        One that the model reads to its end has one vector; unless `sided` it is that of `encode_passages`, bit for
        bit. A longer one has those of its passages of 32 tokens at most; if they are more than 64, neighbors are
        averaged. Passages of which the model knows no word count only if all are such.

        Args:
            text: The query.

        Returns:
            The vectors, float32 [n, dim], of unit length: a document is as near as to the nearest; how many passages
            were encoded; whether the model knows a word.

        Raises:
            EdgeretError: What `encode` raises.
        """
        pipeline = self._pipeline()
        side = pipeline.query
        vector, whole, known = pipeline.encode_known(text, side)
        if whole:
            return Asked(vector[None], 1, known)
        spans = split_windows(text, pipeline.windows(text), min(_QUERY_TOKENS, pipeline.room(side)))
        parts = min(len(spans), _MOST_PARTS)
        sums = {known: np.zeros((parts, self.dim), dtype=np.float64) for known in (True, False)}
        for number, (start, stop) in enumerate(spans):
            passage = pipeline.encode_known(text[start:stop], side)
            sums[passage.known][number * parts // len(spans)] += passage.vector
        known = bool(sums[True].any())
        vectors = sums[known][sums[known].any(axis=1)]
        return Asked(normalize(vectors, self.dim), len(spans), known)

    @checked
    def token_spans(self, text: str) -> list[Span]:
        """Return where the text's tokens stand, without special tokens; nothing is cut.

        Args:
            text: The text.

        Returns:
            (start, stop) in characters, a pair for each token.
        """
        return list(chain.from_iterable(self.token_windows(text)))

    @checked
    def token_windows(self, text: str) -> Iterator[list[Span]]:
        """Return `token_spans` a part at a time: the memory that this takes does not grow with the text.

        Args:
            text: The text.

        Returns:
            An iterator over lists of (start, stop) in characters.
        """
        return self._pipeline().windows(text)

    def _pipeline(self) -> _Pipeline:
        return self._started.made(self._start)

    def _start(self) -> _Pipeline:
        backend = BACKENDS[self.backend](self.bundle, self.threads)
        tokenizer = load_tokenizer(self.bundle)
        document, query = _sides(self.bundle, tokenizer)
        taken = tokenizer.special + max(document.taken, query.taken)
        if taken >= self.max_tokens:
            is_shortened = taken < self.bundle.max_tokens
            refuse(
                self.bundle.path,
                f"'max_tokens' above the {taken} tokens around a text: special tokens and prompts",
                str(self.max_tokens),
                "raise the memory budget" if is_shortened else REMEDY,
            )
        turn, before = _load_map(self.bundle), _special_before(tokenizer)
        if self.bundle.manifest.roles and not before:
            refuse(self.bundle.path, "a tokenizer that begins texts with a token, for 'roles'", "none")
        # Others lower every letter themselves.
        cased = tokenizer.ids("A") != tokenizer.ids("a")
        pipeline = _Pipeline(
            tokenizer, backend, self.max_tokens, self.dim, turn, before, cased, document, query
        )
        golden = self.bundle.golden()
        for known, side in ((golden.own, document), (golden.asked_own, query)):
            if known is None:
                continue
            found = float(likeness(pipeline.encode(golden.texts[0], side)[None], known)[0])
            if not found >= _LEAST_LIKENESS:
                raise BackendError(
                    f"expected the {self.backend!r} backend to repeat the bundle's golden vector with a likeness of at "
                    f"least {_LEAST_LIKENESS}, found {found:.3f}: install another release of its runtime"
                )
        return pipeline


def _unit(vector: Float32) -> Float32:
    unit: Float32 = vector / np.float32(math.sqrt(vector @ vector) or 1)
    return unit


def _is_zero(vector: Float32) -> bool:
    # The first is hardly ever 0. `any` would take three times as long as the other, and that ten times as long as this.
    return not (vector.item(0) or np.count_nonzero(vector))


def _sides(bundle: Bundle, tokenizer: Tokenizer) -> Iterator[_Side]:
    """Those of documents and of queries."""
    manifest = bundle.manifest
    both = zip(manifest.prompts, manifest.roles or (None, None), (None, _load_axes(bundle)), strict=True)
    for prompt, role, axes in both:
        yield _Side(prompt, len(tokenizer.tokenize(prompt, special=False).ids) if prompt else 0, role, axes)


def _special_before(tokenizer: Tokenizer) -> int:
    """How many special tokens stand before a text: those that a text and the empty one begin with."""
    around, ids = (tokenizer.tokenize(text).ids for text in ("", "a"))
    if ids == around:
        # It has no token for the letter: one behind, as most have it.
        return max(len(around) - 1, 0)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(around, ids, strict=False)))


def _load_map(bundle: Bundle) -> Float32 | None:
    if "map" not in bundle.manifest.tensors:
        return None
    return _finite(bundle, "map", bundle.shaped("map", "float32", (bundle.width, bundle.dim)))


def _load_axes(bundle: Bundle) -> Float32 | None:
    placed = bundle.manifest.tensors.get("query_axes")
    if placed is None:
        return None
    if not bundle.manifest.sided:
        refuse(bundle.path, "'roles' or a query's prompt beside 'query_axes'", "neither")
    count = placed.shape[0] if placed.shape else 0
    return _finite(bundle, "query_axes", bundle.shaped("query_axes", "float32", (count, bundle.dim)))


def _finite(bundle: Bundle, name: str, found: Float32) -> Float32:
    if not np.isfinite(found).all():
        refuse(bundle.path, f"{name} of finite numbers", "a NaN or an infinity")
    return found
