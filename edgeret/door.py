"""Door: the arguments of public calls, checked once and converted to plain types.

A parameter means the same in every public call, so that its name says how it is checked; `None` may be passed where it
is the default. Integers of NumPy become Python's, booleans are no numbers, and numbers are no booleans.
"""

from __future__ import annotations

import inspect
import io
import math
import operator
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import (
    ArgumentError,
    BudgetError,
    FilterError,
    InvalidDocumentError,
    InvalidQueryError,
    InvalidVectorError,
    StorageError,
)

MOST_FILTERS: Final = 1000
"""Keys with an SQL index: SQLite bounds the columns of a table (2,000)."""

MOST_THREADS: Final = 1024

_JOINERS: Final = "\u200c\u200d"
"""They stand within words, of Persian and Hindi among others, and within emoji; to Python they cannot be printed."""

DUPLICATES: Final = ("keep", "skip", "report")

_UNITS: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_LARGEST: Final = 2**63 - 1
_LONGEST_SUFFIX: Final = "-partitions"
"""Of the files that lie beside an index."""

_MOST_DIM: Final = 4096
"""Of a codec that is made here: it has as many rows and columns."""

_ENCODER: Final = ("name", "dim", "geometry", "space", "codec", "planned_bytes", "encode", "token_spans")

_BOUND: Final = ("self", "cls")

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def checked(call: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Let only arguments in that `call` can have: each is checked, and made plain, by its parameter's name."""
    return _entered(call, inspect.signature(call))


def checked_with(
    options: Callable[..., object], keywords: Collection[str] | None = None
) -> Callable[[Callable[_Parameters, _Result]], Callable[_Parameters, _Result]]:
    """`checked` for calls whose last parameter is `**options`: those are, by name, parameters of `options`.

    The signature that a call shows has them one by one. keywords: which of them; None: all.
    """

    def enclose(call: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
        signature = inspect.signature(call)
        *own, _ = signature.parameters.values()
        names = {parameter.name for parameter in own}
        others = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(options).parameters.values()
            if parameter.name not in names and (keywords is None or parameter.name in keywords)
        ]
        return _entered(call, signature.replace(parameters=[*own, *others]))

    return enclose


def _entered(
    call: Callable[_Parameters, _Result], signature: inspect.Signature
) -> Callable[_Parameters, _Result]:
    named = {parameter.name: _passage(parameter) for parameter in signature.parameters.values()}
    # `self` is not asked about: in a call of a few microseconds that would count.
    ordered = [
        None if parameter.name in _BOUND else named[parameter.name]
        for parameter in signature.parameters.values()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]

    run: Callable[..., _Result] = call

    @wraps(call)
    def enter(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        plain = [check(value) if check else value for check, value in zip(ordered, args, strict=False)]
        # What is too much, or has no such name, Python itself refuses.
        if len(args) > len(ordered):
            plain += args[len(ordered) :]
        if not kwargs:
            # Most calls: what is left to do for others would take as long as a part of a short text's encoding.
            return run(*plain)
        if not named.keys() >= kwargs.keys():
            signature.bind(*args, **kwargs)
        return run(*plain, **{name: named[name](value) for name, value in kwargs.items()})

    enter.__signature__ = signature  # type: ignore[attr-defined]
    return enter


def _passage(parameter: inspect.Parameter) -> Callable[[Any], Any]:
    if parameter.name in _BOUND:
        return _as_it_is
    check = partial(CHECKS[parameter.name], parameter.name)
    if parameter.default is not None:
        return check
    return lambda value: None if value is None else check(value)


def _as_it_is(value: Any) -> Any:
    return value


# -- kinds of values


def integer(
    name: str,
    value: object,
    least: int = 0,
    most: int | None = None,
    refusal: type[ArgumentError] = ArgumentError,
) -> int:
    """A Python integer from `least` to `most`. Raises `refusal` for anything else, booleans too."""
    found = None
    if not isinstance(value, bool | np.bool_):
        try:
            found = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            found = None
    if found is None or found < least or (most is not None and found > most):
        upper = "" if most is None else f" and at most {most}"
        raise refusal(f"expected {name} to be an integer of at least {least}{upper}, got {shown(value)}")
    return found


def boolean(name: str, value: object) -> bool:
    """True or False, of Python or NumPy. Raises ArgumentError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"expected {name} to be True or False, got {shown(value)}")
    return bool(value)


def numbers(value: object) -> NDArray[Any]:
    """An array of real numbers, of any shape. Raises InvalidVectorError for what is none."""
    try:
        array = np.asarray(value)
    # What NumPy raises for ragged lists, and other packages for arrays of theirs that it cannot have.
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidVectorError(f"expected a vector of numbers, got {shown(value)}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise InvalidVectorError(
            f"expected a vector of real numbers, got an array of {array.dtype}: convert it to float32"
        )
    return array


def text(name: str, value: object, refusal: type[ArgumentError] = ArgumentError) -> str:
    """A string that can be written as UTF-8. Raises `refusal` for anything else."""
    if not isinstance(value, str):
        raise refusal(f"expected {name} to be a string, got {shown(value)}: convert it with str()")
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise refusal(
            f"expected {name} to be Unicode, got a lone surrogate at {error.start}: decode the source with "
            "errors='replace'"
        ) from None
    return value


def path(name: str, value: object) -> Path:
    """The path of a file, absolute or relative as it came.

    Raises ArgumentError for what can be none, StorageError where the system does not let it be looked up.
    """
    found = Path(_spelled(name, value))
    if not found.name:
        found = found.absolute()
    if not found.name:
        raise ArgumentError(f"expected {name} to be a file, got '{found}': name one in it")
    try:
        found.with_name(found.name + _LONGEST_SUFFIX).lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise StorageError(f"cannot use '{found!s:.200}' ({error.strerror}): choose another path") from None
    return found


def parse_bytes(budget: str | int) -> int:
    """Bytes of "112MB" (10**6), "96MiB" (2**20) or a plain number. Raises BudgetError for anything else."""
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", budget.lower(), re.ASCII)
        number, unit = found.groups() if found else ("0", "")
        size = float(number) * _UNITS.get(unit or "b", 0)
    elif isinstance(budget, int | np.integer) and not isinstance(budget, bool):
        size = int(budget)
    else:
        size = 0
    if not 1 <= size <= _LARGEST:
        raise BudgetError(
            f"expected a memory budget such as '112MB', '96MiB' or a number of bytes, got {shown(budget)}"
        )
    return int(size)


def shown(value: object) -> str:
    """A short description of any value, for an error."""
    match value:
        case None | bool() | float():
            return repr(value)
        case int():
            return str(value) if abs(value) <= _LARGEST else f"an integer of {value.bit_length()} bits"
        case str():
            return repr(value[:40])
        case np.ndarray():
            return f"an array of {value.dtype} and shape {value.shape}"
        case np.generic() if value.dtype.kind in "fiub":
            return str(value)
    return f"a value of type {type(value).__name__}"


def _spelled(name: str, value: object) -> str:
    if isinstance(value, bytes):
        raise ArgumentError(f"expected {name} as a string or a path, got bytes: decode it with os.fsdecode()")
    try:
        spelled = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        raise ArgumentError(
            f"expected {name} as a string or a path, got {shown(value)}: pass a str or a pathlib.Path"
        ) from None
    if not isinstance(spelled, str) or not spelled or "\0" in spelled:
        raise ArgumentError(f"expected {name} as a string or a path, got {shown(spelled)}: name a file")
    try:
        spelled.encode()
    except UnicodeEncodeError:
        raise ArgumentError(
            f"expected {name} in UTF-8, got {spelled!a}: rename the file or its folder"
        ) from None
    return spelled


def _several(name: str, value: object, what: str, refusal: type[ArgumentError]) -> Iterable[Any]:
    """An iterable that is not one thing by itself."""
    if type(value) is list:
        # Most are, and all else that is asked here takes as long as a part of a short text's encoding.
        return value
    single = isinstance(value, str | bytes | bytearray | Mapping) or getattr(value, "shape", None) == ()
    if single or not isinstance(value, Iterable):
        example = f", pass [{shown(value)}]" if isinstance(value, str) else ""
        raise refusal(
            f"expected {name} to be an iterable of {what}, got {shown(value)}: put it in a list{example}"
        )
    return value


# -- arguments by their names


def _model(name: str, value: object) -> object:
    if isinstance(value, type) or not all(hasattr(value, attribute) for attribute in _ENCODER):
        return _bundle(name, value)
    return value


def _bundle(name: str, value: object) -> object:
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(
            f"expected {name} to be a bundle's name or folder, or an encoder, got {shown(value)}: pass 'small', say"
        )
    _spelled(name, value)
    return value


def _bits(name: str, value: object) -> int:
    return integer(name, value, 1, 2**16, InvalidQueryError)


def is_printable(character: str) -> bool:
    """Whether a character is a part of what people read."""
    return character.isprintable() or character in _JOINERS


def _filters(name: str, value: object) -> list[str]:
    keys = list(_several(name, value, "metadata keys", FilterError))
    for key in keys:
        if (
            not isinstance(key, str)
            or not key
            or not all(map(is_printable, key))
            or '"' in key
            or "\\" in key
        ):
            raise FilterError(
                f"cannot index the metadata key {shown(key)}: use printable strings without quotes"
            )
    if len(set(keys)) < len(keys):
        raise FilterError(f"expected distinct filter keys, got {', '.join(keys):.200}: name each once")
    if len(keys) > MOST_FILTERS:
        raise FilterError(
            f"expected at most {MOST_FILTERS} filter keys, got {len(keys)}: other keys can be asked too, slower"
        )
    return keys


def _seconds(name: str, value: object) -> float:
    if not _is_real(value) or not value >= 0:
        raise InvalidQueryError(f"expected to {name} for 0 seconds or more, got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _float(value: object) -> float:
    """A number as Python has it; NaN for what is none, or larger than any."""
    try:
        return float(value) if _is_real(value) else math.nan
    except OverflowError:
        return math.nan


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _ids(name: str, value: object) -> Iterator[str]:
    ids = _several(name, value, "ids", InvalidQueryError)
    return (text("an id", identity, InvalidQueryError) for identity in ids)


def _changes(name: str, value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    pairs = value.items() if isinstance(value, Mapping) else value
    several = _several(name, pairs, "pairs of an id and metadata", InvalidQueryError)
    return (_pair(pair) for pair in several)


def _pair(value: object) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidQueryError(
            f"expected each change to be an id and metadata, got {shown(value)}: pair them"
        )
    return _id("an id", value[0]), _metadata("the metadata", value[1])


def _metadata(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidDocumentError(
            f'expected {name} to be a mapping of keys to values, got {shown(value)}: write {{"key": value}}'
        )
    return value


def _feedback(name: str, value: object) -> tuple[list[str], list[str]]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise InvalidQueryError(
            f"expected {name} to be two lists of ids, liked and disliked, got {shown(value)}: one may be empty"
        )
    liked, disliked = (list(_ids(name, ids)) for ids in value)
    return liked, disliked


def _boost(name: str, value: object) -> dict[str, Any]:
    known = {"key", "halflife", "weight", "now"}
    if not isinstance(value, Mapping) or not {"key", "halflife"} <= value.keys() <= known:
        raise InvalidQueryError(
            f"expected {name} to have a key and a halflife, got {shown(value)}: write "
            '{"key": "date", "halflife": "30d"}'
        )
    halflife = value["halflife"]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", halflife) if isinstance(halflife, str) else None
    seconds = float(found[1]) * _SECONDS.get(found[2], 0) if found else 0
    if not 0 < seconds < math.inf:
        raise InvalidQueryError(
            f"expected a halflife of a number and one of {', '.join(_SECONDS)}, got {shown(halflife)}: write '30d'"
        )
    return {
        "key": text("the key of boost", value["key"], FilterError),
        "halflife": seconds,
        "weight": _share("the weight of boost", value.get("weight", 0.5)),
        "now": _moment(value["now"]) if "now" in value else time.time(),
    }


def _moment(value: object) -> float:
    number = _float(value)
    if math.isfinite(number):
        return number
    try:
        found = datetime.fromisoformat(value)  # type: ignore[arg-type]
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        raise InvalidQueryError(
            f"expected the now of boost to be an ISO date or seconds since 1970, got {shown(value)}: leave it out"
        ) from None


def _share(name: str, value: object) -> float:
    if not _is_real(value) or not 0 <= value <= 1:
        raise InvalidQueryError(f"expected {name} to be a number from 0 to 1, got {shown(value)}")
    return float(value)


def _id(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidQueryError(
            f"expected {name} to be a string, got {shown(value)}: ids are strings, convert it with str()"
        )
    return value


def _query(name: str, value: object) -> str | NDArray[Any]:
    if isinstance(value, str):
        if not text(name, value, InvalidQueryError).strip():
            raise InvalidQueryError("expected a query, got an empty text: ask for some words")
        return value
    if value is None or isinstance(value, bytes | bytearray | Mapping | bool | int | float):
        raise InvalidQueryError(
            f"expected {name} to be a text or a vector, got {shown(value)}: pass a string, or an array [dim]"
        )
    return numbers(value)


def _queries(name: str, value: object) -> list[str | NDArray[Any]]:
    if isinstance(value, str):
        raise InvalidQueryError("expected a list of queries, got one string: use search, or put it in a list")
    several = _several(name, value, "queries", InvalidQueryError)
    if isinstance(value, set | frozenset):
        raise InvalidQueryError(
            f"expected {name} in an order, got a set: pass a list, answers come in its order"
        )
    if isinstance(value, np.ndarray) and value.ndim != 2 and value.dtype.kind in "fiuc":
        raise InvalidVectorError(
            f"expected vectors [queries, dim], got {shown(value)}: use search, or put it in a list"
        )
    return [_query("each query", query) for query in several]


def _where(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise FilterError(
            f'expected {name} to be a mapping of keys to conditions, got {shown(value)}: write {{"key": value}}'
        )
    return value


def _widths(name: str, value: object) -> list[int]:
    found = [
        integer("each width", bits, 1, _MOST_DIM, InvalidQueryError)
        for bits in _several(name, value, "lengths in bits", InvalidQueryError)
    ]
    if not found or found != sorted(set(found)):
        raise InvalidQueryError(f"expected ascending {name}, got {found!r:.80}: sort them, each once")
    return found


def _codec(name: str, value: object) -> object:
    if isinstance(value, type) or not hasattr(value, "query_projection"):
        raise ArgumentError(
            f"expected {name} to be a codec, got {shown(value)}: pass what Codec.fit, random or load returns"
        )
    return value


def _chunk(name: str, value: object) -> object:
    if not callable(value):
        raise ArgumentError(
            f"expected {name} to be a function, got {shown(value)}: pass one that takes a document"
        )
    return value


def _duplicates(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in DUPLICATES:
        known = ", ".join(map(repr, DUPLICATES))
        raise ArgumentError(
            f"expected {name} to be one of {known}, got {shown(value)}: leave it out to add all"
        )
    return value


def _folders(name: str, value: object) -> list[str]:
    if isinstance(value, str | bytes | os.PathLike):
        return [_spelled(name, value)]
    return [_spelled(name, folder) for folder in _several(name, value, "folders", ArgumentError)]


def _texts(name: str, value: object) -> list[str]:
    several = _several(name, value, "texts", ArgumentError)
    return [text("each text", entry, InvalidDocumentError) for entry in several]


def _backend(name: str, value: object) -> str:
    return text(name, value)


def _callable(name: str, value: object) -> object:
    if not callable(value):
        raise ArgumentError(
            f"expected {name} to be a function, got {shown(value)}: pass one, not what it returns"
        )
    return value


def _judge(name: str, value: object) -> object:
    if isinstance(value, str | os.PathLike):
        _spelled(name, value)
    elif isinstance(value, type) or not callable(value):
        raise ArgumentError(
            f"expected {name} to be a reranker's name or folder, or a function of a query and texts, got "
            f"{shown(value)}: pass edgeret.Reranker.load(FOLDER), say"
        )
    return value


def _stream(name: str, value: object) -> object:
    is_text = isinstance(value, io.TextIOBase)
    if is_text or isinstance(value, type) or not callable(getattr(value, "write", None)):
        raise ArgumentError(
            f"expected {name} to be a binary stream, got {shown(value)}: open a file with 'wb'"
        )
    return value


def _budget(name: str, value: object) -> int | None:
    return None if value is None else integer(f"the {name} in bytes", value, 1)


def _parts(name: str, value: object) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"expected the parts of {name} as a mapping, got {shown(value)}: pass planned_bytes"
        )
    return {text("a part", part): integer(f"part {part!r}", size) for part, size in value.items()}


def _score(name: str, value: object) -> float:
    found = _float(value)
    if math.isnan(found):
        raise InvalidQueryError(
            f"expected {name} to be a number, got {shown(value)}: leave it out, or pass 0.5"
        )
    return found


_count = partial(integer, least=1, refusal=InvalidQueryError)

CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    # Files and models.
    **dict.fromkeys(("path", "target", "old", "new", "index", "update", "private_key", "public_key"), path),
    "into": _stream,
    "model": _model,
    "name_or_path": _bundle,
    "backend": _backend,
    # A codec, and an encoder of functions.
    "vectors": lambda _, value: numbers(value),
    "seed": partial(integer, most=2**32 - 1),
    "widths": _widths,
    "dim": partial(integer, least=1, most=_MOST_DIM),
    "name": text,
    "codec": _codec,
    "passage_words": partial(integer, least=1),
    **dict.fromkeys(("encode", "encode_query"), _callable),
    # How an index is made, opened and changed.
    "bits": _bits,
    "filters": _filters,
    "language": lambda name, value: None if value is None else text(name, value),
    "memory_budget": lambda _, value: parse_bytes(value),
    "wait": _seconds,
    "threads": partial(integer, least=1, most=MOST_THREADS),
    "progress": _callable,
    "documents": partial(_several, what="documents", refusal=InvalidQueryError),
    "commit_every": _count,
    "id": _id,
    "ids": _ids,
    "folders": _folders,
    "chunk": _chunk,
    "duplicates": _duplicates,
    **dict.fromkeys(("text_key", "id_key"), text),
    "changes": _changes,
    "metadata": _metadata,
    **dict.fromkeys(
        ("exist_ok", "readonly", "erase", "merge", "follow_links", "prefix", "quick", "writing", "shortens"),
        boolean,
    ),
    # How it is asked.
    "query": _query,
    "queries": _queries,
    "indexes": partial(_several, what="indexes", refusal=ArgumentError),
    "k": _count,
    "where": _where,
    "key": partial(text, refusal=FilterError),
    "after": partial(text, refusal=InvalidQueryError),
    "limit": lambda name, value: min(integer(name, value, refusal=InvalidQueryError), sys.maxsize),
    "mode": partial(text, refusal=InvalidQueryError),
    "min_score": _score,
    "feedback": _feedback,
    "per_document": lambda name, value: None if value is None else _count(name, value),
    "per_group": _count,
    "diversity": _share,
    "boost": _boost,
    "group_by": partial(text, refusal=FilterError),
    "offset": partial(integer, most=_LARGEST, refusal=InvalidQueryError),
    "oversample": _count,
    "rerank": _judge,
    "rerank_k": _count,
    "text": partial(text, refusal=InvalidDocumentError),
    "texts": _texts,
    # What it takes.
    "budget": _budget,
    "encoder": _parts,
    "part": text,
    "size": partial(integer, most=_LARGEST),
    "divisor": partial(integer, least=1),
    **dict.fromkeys(
        ("rows", "count", "partitions", "codec_bytes", "vector_bytes"), partial(integer, most=_LARGEST)
    ),
}
"""Every parameter of a public call, and how it is checked."""
