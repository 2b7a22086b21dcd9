"""The tokenizer of a bundle without tables of its own, in the package `tokenizers`: of known kinds, within bounds.

Its file may come from anywhere, and the package trusts what it reads: it panics, aborts, or never ends on crafted
files. So the file is checked here first: its vocabulary as text, since as Python's objects it would take more memory
than all else, and the rest as JSON.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, Final

from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import parse_json, refuse
from edgeret.encode.tables import FILE, SOURCE, Tokens, check
from edgeret.errors import BackendError, BundleError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Growth of the peak RSS on x86-64, rounded up: of the package, and for each byte of a tokenizer.json, which grows with
# the vocabulary. 250,000 pieces of Unigram in 9 MB took 297 MB; WordPiece takes half as much.
_PACKAGE_BYTES: Final = 6_000_000
_BYTES_FOR_A_BYTE: Final = 40

_MOST_BYTES: Final = 1 << 26
_KINDS: Final[dict[str, set[str]]] = {
    "normalizer": {
        *("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD"),
        *("Nmt", "Strip", "Precompiled", "Replace"),
    },
    "pre_tokenizer": {
        *("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "Punctuation", "Digits"),
    },
    "post_processor": {"TemplateProcessing", "BertProcessing"},
    "model": {"WordPiece", "WordLevel", "Unigram"},
    # Only read by the package, never asked.
    "decoder": {"WordPiece", "Metaspace"},
}
# A string of JSON, with its quotes, and a vocabulary behind its key: numbers of tokens, or tokens with scores.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_VOCABULARY: Final = re.compile(
    rb"""
    ( "vocab" \s*+ : \s*+ )
    (?:
        \{ (?: \s*+ STRING \s*+ : \s*+ [0-9]++ \s*+ (?: , | (?=\}) ) )*+ \s*+ \}
      | \[ (?: \s*+ \[ \s*+ STRING \s*+ , \s*+ [-+.0-9Ee]++ \s*+ \] \s*+ (?: , | (?=\]) ) )*+ \s*+ \]
    )
    | STRING
    """.replace(b"STRING", _STRING),
    re.VERBOSE | re.DOTALL,
)
_LONG_OR_EMPTY: Final = re.compile(rb'[^"]{1024}|[{\[,]\s*+""')
# Those of the known tokenizers. Any other may take for ever on some text, or overflow the stack.
_REGEXES: Final = frozenset({" {2,}"})
_MOST_STEPS: Final = 16
_LONGEST_TOKEN: Final = 256
_LONGEST_WORD: Final = 1000
# What a normalizer may make of a character, and all that replace something together.
_LONGEST_NORMALIZED: Final = 64
_MOST_GROWTH: Final = 16


def planned_bytes(nbytes: int) -> int:
    """What it adds to the process at most, of a tokenizer.json of so many bytes."""
    return _PACKAGE_BYTES + _BYTES_FOR_A_BYTE * nbytes


class Foreign:
    """A tokenizer of the package. unknown: the id of what it has no token for. special: tokens put around a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special: int = tokenizer.num_special_tokens_to_add(is_pair=False)
        # Not every kind of model has one.
        token = getattr(tokenizer.model, "unk_token", None)
        self.unknown: int | None = None if token is None else tokenizer.token_to_id(token)

    @classmethod
    def load(cls, bundle: Bundle) -> Foreign:
        """Start it. Raises BundleError for one that is unsound or not of a known kind, BackendError."""
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise BackendError(
                f"expected the package tokenizers for {bundle.path}, which has no {FILE}, found no such package: pip "
                "install tokenizers, or make that file with `python -m export tokenizer`"
            ) from error
        if bundle.file(SOURCE).stat().st_size > _MOST_BYTES:
            refuse(bundle.path, f"{SOURCE} of at most {_MOST_BYTES} bytes", "more")
        blob = bundle.read(SOURCE)
        table = parse_json(bundle.path / SOURCE, _VOCABULARY.sub(_emptied, blob))
        try:
            _check(table)
        except ValueError as error:
            refuse(bundle.path, f"a tokenizer that edgeret knows in {SOURCE}", str(error))
        try:
            tokenizer = Tokenizer.from_buffer(blob)
            tokenizer.no_padding()
            tokenizer.no_truncation()
        except BaseException as error:
            if not is_refusal(error):
                raise
            raise _refused(f"bundle {bundle.path}", error) from None
        unknown = table["model"].get("unk_token")
        if unknown is not None and tokenizer.token_to_id(unknown) is None:
            refuse(bundle.path, f"the unknown token {unknown!r:.80} in {SOURCE}", "none")
        return cls(tokenizer)

    def tokenize(self, text: str, *, special: bool = True) -> Tokens:
        """Text -> tokens, with the special ones or without. Raises InvalidDocumentError for what is not Unicode."""
        check(text)
        try:
            found = self._tokenizer.encode(text, add_special_tokens=special)
        except BaseException as error:
            if not is_refusal(error):
                raise
            raise _refused("bundle", error) from None
        return Tokens(found.ids, found.offsets, found.word_ids)

    def ids(self, text: str) -> list[int]:
        """As `Tokenizer.ids`."""
        return self.tokenize(text).ids

    def part(self, text: str, *, begins: bool) -> tuple[Tokens, Tokens]:
        """As `Tokenizer.part`."""
        found = self.tokenize(text, special=False)
        return found, found


def is_refusal(error: BaseException) -> bool:
    """The package raises `Exception` itself where it refuses, or ValueError, and a hidden class where it panics."""
    return type(error) in (Exception, ValueError) or type(error).__name__ == "PanicException"


def _refused(subject: str, error: BaseException) -> BundleError:
    return BundleError(
        f"{subject}: expected a tokenizer that works in {SOURCE}, found {str(error)!r:.200}: "
        "install or export the bundle again"
    )


def _emptied(found: re.Match[bytes]) -> bytes:
    """A vocabulary without its tokens, so that JSON's parser has little to do; any other string as it is."""
    whole, key = found.group(), found.group(1)
    if key is None or _LONG_OR_EMPTY.search(whole, len(key)):
        return whole
    return key + whole[len(key) : len(key) + 1] + whole[-1:]


def _check(table: dict[str, Any]) -> None:
    """Raise ValueError for what edgeret does not know."""
    model = _object(table.get("model"))
    # Older files do not name the kind, and the package then guesses by the keys.
    if "merges" not in model:
        model.setdefault("type", "Unigram" if "unk_id" in model else "WordPiece")
    for part in _KINDS:
        steps = _steps(table.get(part))
        if len(steps) > _MOST_STEPS:
            raise ValueError(f"a {part} of {len(steps)} steps")
        for step in steps:
            if _text(step.get("type")) not in _KINDS[part]:
                raise ValueError(f"a {part} of type {step['type']!r:.80}")
    _check_normalizer(_steps(table.get("normalizer")))
    if model.get("vocab") != ([] if model["type"] == "Unigram" else {}):
        raise ValueError("a vocabulary of something else than short tokens, each with a number")
    if model["type"] != "Unigram":
        _check_words(model)
    _check_added(table)


def _check_added(table: Mapping[str, Any]) -> None:
    """What is added to a text, and tokens that are found before the others."""
    for step in _steps(table.get("post_processor")):
        if "single" in step and sum("Sequence" in _object(piece) for piece in _list(step["single"])) != 1:
            raise ValueError("a template that has not one place for the text")
    for token in _list(table.get("added_tokens") or []):
        if not 0 < len(_text(_object(token).get("content"))) <= _LONGEST_TOKEN:
            raise ValueError(f"an added token {token!r:.80}")


def _steps(part: Any) -> list[dict[str, Any]]:
    """The parts of a sequence, however nested; a part by itself is one."""
    if part is None:
        return []
    step = _object(part)
    if step.get("type") != "Sequence":
        return [step]
    inner = next((value for key, value in step.items() if key != "type"), None)
    return [found for entry in _list(inner) for found in _steps(entry)]


def _check_normalizer(steps: list[dict[str, Any]]) -> None:
    if sum(step["type"] == "Precompiled" for step in steps) > 1:
        raise ValueError("two precompiled normalizers")
    for step in steps:
        if step["type"] == "Precompiled":
            _check_charsmap(_text(step.get("precompiled_charsmap")))
    if prod(_growth(step) for step in steps if step["type"] == "Replace") > _MOST_GROWTH:
        raise ValueError("a normalizer that makes much of little")


def _growth(step: Mapping[str, Any]) -> float:
    """How much longer a replacement is than what it replaces, at least 1."""
    pattern = _object(step.get("pattern"))
    if "Regex" in pattern and _text(pattern["Regex"]) not in _REGEXES:
        raise ValueError(f"a regular expression {pattern['Regex']!r:.80}")
    replaced = "  " if "Regex" in pattern else _text(pattern.get("String"))
    if not replaced:
        raise ValueError("a replacement of nothing")
    return max(1.0, len(_text(step.get("content"))) / len(replaced))


def _check_charsmap(encoded: str) -> None:
    """Of SentencePiece: the bytes of a trie, the trie, and the strings that it points to, each with a NUL behind it."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a charsmap that is no base64: {error}") from error
    size = int.from_bytes(blob[:4], "little")
    if len(blob) < 4 or not 0 < size <= len(blob) - 4 or size % 4:
        raise ValueError(f"a charsmap of {len(blob)} bytes with a trie of {size}")
    if (longest := max(map(len, blob[4 + size :].split(b"\0")))) > _LONGEST_NORMALIZED:
        raise ValueError(f"a charsmap that makes {longest} bytes of a character")


def _check_words(model: Mapping[str, Any]) -> None:
    _text(model.get("unk_token"))
    if model["type"] == "WordLevel":
        return
    if len(_text(model.get("continuing_subword_prefix"))) > _LONGEST_TOKEN:
        raise ValueError("a prefix of subwords that is longer than any")
    longest = model.get("max_input_chars_per_word")
    if type(longest) is not int or longest > _LONGEST_WORD:
        raise ValueError(f"words of {longest!r:.80} characters")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r:.80} in place of an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.80} in place of a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} in place of a text")
    return value
