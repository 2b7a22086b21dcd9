"""What goes in and what comes out: Document and Hit."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import CorruptIndexError, InvalidDocumentError

MOST_CONTEXT: Final = 1000
"""Characters of what is encoded before a passage and is not in its text."""

MOST_LEVELS: Final = 32
"""Of lists and mappings inside one another in metadata, their own included."""

_LENGTH: Final = struct.Struct("<Q").pack

_TOKEN: Final = re.compile(r"""\s*+(?:("(?:[^"\\]|\\.)*+")|([][{}:,])|([^][{}:,"\s]++))""")


@dataclass(frozen=True, slots=True)
class Document:
    """A text to index.

    Two documents are equal if their ids, texts, metadata and vectors are.

    Attributes:
        id: Your identifier, unique in an index. None takes the BLAKE2b hash of the text, 32 hex digits.
        text: The text, of any length. It may be empty only if there is a vector.
        metadata: A JSON object that `where` asks; integers have 64 bits at most. Empty by default.
        vector: [dim] numbers, if the text was encoded elsewhere, by an encoder of the index's space. Its length does
            not matter: it is normalized. Such a document is one passage. None has edgeret encode the text.
    """

    id: str | None = None
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    vector: NDArray[np.floating[Any]] | None = field(default=None, hash=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        if (self.id, self.text, self.metadata) != (other.id, other.text, other.metadata):
            return False
        if self.vector is None or other.vector is None or self.vector is other.vector:
            return self.vector is other.vector
        return np.array_equal(self.vector, other.vector)


Given = Document | str | Mapping[str, Any]
"""A document as it may be given: a string is its text, a mapping has its attributes as keys."""

_NOTHING: Final = object()
"""In the place of a value that there is not; null is one."""

_KEYS: Final = ("id", "text", "metadata", "vector")


Span = tuple[int, int]
"""Start and stop, in characters."""


class Section(NamedTuple):
    """A part of a document's text that no passage crosses.

    Attributes:
        start: Where it begins, in characters.
        end: Where it ends.
        context: What is encoded, and searched by words, before each passage of it, such as the headings above; 1,000
            characters at most. None: nothing.
        blocks: Where it has what is one piece, such as a table: cut only if it is longer than a passage, between lines.
    """

    start: int
    end: int
    context: str | None = None
    blocks: tuple[Span, ...] = ()


Chunk = Callable[[Document], Iterable[Section | tuple[int, int] | tuple[int, int, str | None]]]
"""A document -> the parts of its text, in order, that no passage crosses. What no part has is not searched."""


class Highlights(NamedTuple):
    """What a person looks at first in a passage. Spans are of `Hit.text`, in characters.

    Attributes:
        sentence: The sentence that is nearest to the query by meaning; of a "lexical" search, that with the most of its
            words.
        words: Where the query's words stand, in order, in whatever form.
    """

    sentence: Span
    words: list[Span]


class Origin(Protocol):
    """The search that a hit is of: answers what is asked of it later, and costs nothing if nothing is."""

    def highlights(self, text: str) -> Highlights:
        """Those of a passage."""

    def context(self, identity: str, span: Span) -> str | None:
        """What was encoded before a passage of a document, and is not in its text."""


class _Found:
    """What a hit has beside its fields, until it is copied or pickled."""

    __slots__ = ("_json", "_origin")

    _json: str
    _origin: Origin


@dataclass(frozen=True, slots=True)
class Hit(_Found):
    """One document of a result, shown by its best passage.

    Attributes:
        id: The document's id.
        score: Higher is better. "dense": `cosine`. "lexical": `lexical`. "hybrid": `cosine` plus `lexical` times
            what the model and the query make words count; it compares between queries. docs/scores.md says more, and
            what files of format 1 give.
        text: The passage, `document.text[start:end]`.
        start: Where the passage begins in the document's text, in characters.
        end: Where it ends.
        metadata: The document's metadata.
        cosine: Of the passage to the query, -1 to 1. None where only words were asked.
        lexical: BM25 of the passage, as the share of the most that this query's words could give, 0 to 1. None where
            only meaning was asked.
        relevance: The probability that the passage answers the query, of a "hybrid" search. None where nothing was
            measured for the query's model and the documents'.
    """

    id: str
    score: float
    text: str
    start: int
    end: int
    metadata: dict[str, Any] = field(hash=False)
    cosine: float | None = None
    lexical: float | None = None
    relevance: float | None = None

    @property
    def highlights(self) -> Highlights | None:
        """The best sentence and the query's words in `text`. None of a hit that was copied, pickled or made by hand.

        Found when it is asked for, each time: the sentences are encoded then.
        """
        origin: Origin | None = getattr(self, "_origin", None)
        return None if origin is None else origin.highlights(self.text)

    @property
    def passage(self) -> str:
        """The passage as it was encoded: the headings above it, where a reader gave them to it, a line, and `text`.

        The index is asked when this is: if it has changed the passage since, or of a copy, this is `text` alone.
        """
        origin: Origin | None = getattr(self, "_origin", None)
        context = None if origin is None else origin.context(self.id, (self.start, self.end))
        return self.text if context is None else f"{context}\n{self.text}"

    def __getattr__(self, name: str) -> Any:
        if name != "metadata":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        metadata = parse(self._json)
        if metadata is None:
            raise CorruptIndexError(
                f"the metadata of document {self.id!r} are no JSON object: restore a backup, or build the index again"
            )
        object.__setattr__(self, "metadata", metadata)
        return metadata


# What is frozen lets nobody else in, `object.__setattr__` looks each name up, and a loop takes as long as all of these.
_put_id, _put_score, _put_text, _put_start, _put_end = (
    getattr(Hit, name).__set__ for name in ("id", "score", "text", "start", "end")
)
_put_cosine, _put_lexical, _put_relevance, _put_json, _put_origin = (
    getattr(Hit, name).__set__ for name in ("cosine", "lexical", "relevance", "_json", "_origin")
)


class Scores(NamedTuple):
    """Those of a hit."""

    score: float
    cosine: float | None = None
    lexical: float | None = None
    relevance: float | None = None


def make_hit(source: tuple[int, str, str, str], span: Span, scores: Scores, origin: Origin) -> Hit:
    """A hit whose metadata are parsed when they are first asked for.

    source: of its document the number, id, text, and metadata as they are stored.
    """
    _, identity, text, json = source
    start, end = span
    score, cosine, lexical, relevance = scores
    hit = Hit.__new__(Hit)
    _put_id(hit, identity)
    _put_score(hit, score)
    _put_text(hit, text[start:end])
    _put_start(hit, start)
    _put_end(hit, end)
    _put_cosine(hit, cosine)
    _put_lexical(hit, lexical)
    _put_relevance(hit, relevance)
    _put_json(hit, json)
    _put_origin(hit, origin)
    return hit


def rescore(hit: Hit, score: float) -> None:
    """Give a hit another score, before anybody has it."""
    object.__setattr__(hit, "score", score)


@dataclass(frozen=True)
class Record:
    """A document as it is stored: checked, its id settled, its metadata canonical JSON."""

    id: str
    text: str
    metadata: str
    vector: NDArray[np.floating[Any]] | None

    @classmethod
    def of(cls, given: Given) -> Record:
        """Check a document.

        Raises InvalidDocumentError for what is none, for a text that is empty, holds a NUL or cannot be written as
        UTF-8, for an id that is not a non-empty string, and for metadata that JSON cannot hold or that are nested
        deeper than MOST_LEVELS.
        """
        document = as_document(given)
        text = _checked_string("text", document.text)
        if not text.strip() and document.vector is None:
            raise InvalidDocumentError(
                f"expected a text, document {document.id!r} is empty: leave it out, or give it a vector"
            )
        identity = document.id
        if identity is None:
            identity = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        elif not _checked_string("id", identity):
            raise InvalidDocumentError(
                "expected an id, got an empty string: pass None to have one made from the text"
            )
        return cls(identity, text, canonical(identity, document.metadata), document.vector)

    @cached_property
    def digest(self) -> bytes:
        """16 bytes that change with id, text or metadata."""
        return digest_of(self.id, self.text, self.metadata)


class Passages(NamedTuple):
    """The passages of a text.

    spans: (start, stop) of each passage in the text's characters. vectors: int8 [n, dim].
    codes: uint64 [n, words]. contexts: what was encoded before each passage, and is not in the text; empty if nothing.
    """

    spans: list[tuple[int, int]]
    vectors: NDArray[np.int8]
    codes: NDArray[np.uint64]
    contexts: Sequence[str | None] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record with its passages, as of `Passages`."""

    record: Record
    spans: list[tuple[int, int]]
    vectors: NDArray[np.int8]
    codes: NDArray[np.uint64]
    contexts: Sequence[str | None] = ()

    @property
    def passages(self) -> Passages:
        """Those alone."""
        return Passages(self.spans, self.vectors, self.codes, self.contexts)


def as_document(given: Given) -> Document:
    """A document as a Document, not checked yet. Raises InvalidDocumentError for what is none."""
    if isinstance(given, Document):
        return given
    if isinstance(given, str):
        return Document(text=given)
    if not isinstance(given, Mapping):
        raise InvalidDocumentError(
            f"expected a Document, a string or a mapping, got {type(given).__name__}: wrap it in edgeret.Document"
        )
    unknown = [key for key in given if key not in _KEYS]
    if unknown or "text" not in given:
        found = f"{unknown[0]!r:.60}: put it into 'metadata'" if unknown else "no 'text': give it one"
        raise InvalidDocumentError(f"expected a mapping of {', '.join(_KEYS)}, got {found}")
    return Document(**{key: value for key, value in given.items() if value is not None})


def as_sections(text: str, given: Iterable[object]) -> list[Section]:
    """The parts of a text as they are used: those without a word left out. Raises InvalidDocumentError for others."""
    if not isinstance(given, Iterable):
        raise InvalidDocumentError(f"expected parts of a text, got a {type(given).__name__}: return a list")
    sections: list[Section] = []
    end = 0
    for one in given:
        if not isinstance(one, tuple) or not 2 <= len(one) <= 4:
            raise InvalidDocumentError(
                f"expected each part of a text as (start, end) or (start, end, context), got {one!r:.80}: return tuples"
            )
        section = Section(*one)
        _check_ends(section[:2], end, len(text))
        inside = section.start
        for block in section.blocks:
            _check_ends(block, inside, section.end)
            inside = block[1]
        end = section.end
        context = _checked_string("context", section.context or "")
        if len(context) > MOST_CONTEXT:
            raise InvalidDocumentError(
                f"expected a context of at most {MOST_CONTEXT} characters, got {len(context)}: shorten it"
            )
        if text[section.start : end].strip():
            sections.append(section._replace(context=context if context.strip() else None))
    if not sections:
        raise InvalidDocumentError("expected parts of a text, got none with a word: return one at the least")
    return sections


def _check_ends(span: tuple[Any, ...], first: int, last: int) -> None:
    whole = len(span) == 2 and all(type(number) is int for number in span)
    if not whole or not first <= span[0] <= span[1] <= last:
        raise InvalidDocumentError(
            f"expected a part (start, end) between {first} and {last}, in characters and in order, got {span!r:.80}"
        )


def searched(context: str | None, text: str) -> str:
    """What a passage is found by: what stands before it, and its text."""
    return text if context is None else f"{context}\n{text}"


def digest_of(identity: str, text: str, metadata: str) -> bytes:
    """16 bytes that change with id, text or metadata, which are canonical JSON."""
    first, long, last = identity.encode(), text.encode(), metadata.encode()
    digest = hashlib.blake2b(_LENGTH(len(first)) + first + _LENGTH(len(long)), digest_size=16)
    digest.update(long)
    digest.update(_LENGTH(len(last)) + last)
    return digest.digest()


def is_deep(metadata: object, levels: int = MOST_LEVELS) -> bool:
    """Whether lists and mappings are nested deeper than `levels`, or hold themselves."""
    entries = [metadata]
    for _ in range(levels):
        outer = {id(entry): entry for entry in entries if isinstance(entry, Mapping | list | tuple)}
        if not outer:
            return False
        entries = [
            entry
            for container in outer.values()
            for entry in (container.values() if isinstance(container, Mapping) else container)
        ]
    return any(isinstance(entry, Mapping | list | tuple) for entry in entries)


def parse(metadata: str) -> dict[str, Any] | None:
    """Metadata as they are stored -> the object; None if they are none. Their depth and the stack's do not matter."""
    try:
        try:
            value = json.loads(metadata)
        except RecursionError:
            # Files of older releases hold documents nested as deep as their writer's stack let them.
            value = _parse_deep(metadata)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else None


def values_of(metadata: Mapping[str, Any], key: str) -> list[Any]:
    """The values that `where` compares with a key, or finds behind its dots; a list gives its elements."""
    found = [metadata[key]] if key in metadata else []
    if "." in key:
        value: Any = metadata
        for step in key.split("."):
            value = value.get(step, _NOTHING) if isinstance(value, Mapping) else _NOTHING
        found += [] if value is _NOTHING else [value]
    elements = [element for value in found for element in (value if isinstance(value, list) else [value])]
    return [element for element in elements if not isinstance(element, Mapping | list)]


def _parse_deep(text: str) -> Any:
    """JSON without recursion. Raises ValueError for brackets that do not fit and for values that are none."""
    outer: list[tuple[str, list[Any]]] = []
    values: list[Any] = []
    place = 0
    while (token := _TOKEN.match(text, place)) is not None:
        place = token.end()
        string, mark, scalar = token.groups()
        if mark in ("[", "{"):
            outer.append((mark, values))
            values = []
        elif mark in ("]", "}"):
            opened, before = outer.pop() if outer else ("", [])
            if opened + mark not in ("[]", "{}"):
                raise ValueError(f"a bracket that was not opened at {token.start()}")
            before.append(values if mark == "]" else dict(zip(values[::2], values[1::2], strict=True)))
            values = before
        elif mark is None:
            values.append(json.loads(string or scalar))
    if outer or len(values) != 1 or text[place:].strip():
        raise ValueError(f"no whole JSON value up to {place}")
    return values[0]


def _checked_string(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidDocumentError(
            f"expected the {what} to be a string, got {type(value).__name__}: convert it with str()"
        )
    if "\0" in value:
        raise InvalidDocumentError(
            f"expected printable text, the {what} {value[:40]!r} holds a NUL: remove it with .replace('\\0', ' ')"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidDocumentError(
            f"expected Unicode text, the {what} {value[:40]!r} holds a lone surrogate at {error.start}: "
            "decode the source with errors='replace'"
        ) from None
    return value


def canonical(identity: str, metadata: object) -> str:
    """Metadata of the document `identity` as they are stored. Raises InvalidDocumentError for what JSON cannot hold."""
    if not isinstance(metadata, Mapping):
        raise InvalidDocumentError(
            f"expected the metadata of document {identity!r} to be a mapping, got {type(metadata).__name__}"
        )
    if is_deep(metadata):
        raise InvalidDocumentError(
            f"expected at most {MOST_LEVELS} levels of lists and mappings, the metadata of document {identity!r} have "
            "more: flatten them"
        )
    try:
        _check_value(f"metadata of document {identity!r}", metadata)
        canonical = json.dumps(
            dict(metadata),
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
            default=_plain,
        )
        canonical.encode()
    except InvalidDocumentError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidDocumentError(
            f"expected metadata that JSON can hold, document {identity!r} has: {error}; "
            "use strings, finite numbers, booleans, None, lists and mappings"
        ) from None
    return canonical


def _plain(value: object) -> Any:
    """What JSON has of a mapping that is no dict, and of a number or a boolean of NumPy."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    raise TypeError(f"a value of type {type(value).__name__}")


def _check_value(what: str, value: object) -> None:
    """Refuse what JSON holds but SQLite's JSON functions do not read back."""
    if isinstance(value, str):
        _checked_string(what, value)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _checked_string(f"key in the {what}", key)
            _check_value(what, entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            _check_value(what, entry)
    elif isinstance(value, int | np.integer) and not -(2**63) <= value < 2**63:
        raise InvalidDocumentError(
            f"expected integers of 64 bits, the {what} holds one of {int(value).bit_length()}: "
            "write it as a string, or as a float"
        )
