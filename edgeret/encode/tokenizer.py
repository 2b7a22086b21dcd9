"""The tokenizer of a bundle: its own tables where it has them, else the package `tokenizers`."""

from __future__ import annotations

from typing import Protocol

from edgeret.encode import foreign, tables, tokens
from edgeret.encode.bpe import BytePairs
from edgeret.encode.bundle import Bundle
from edgeret.encode.foreign import Foreign
from edgeret.encode.pieces import Pieces
from edgeret.encode.tables import Tokens
from edgeret.encode.unigram import Unigram


class Tokenizer(Protocol):
    """What the encoder needs of one."""

    unknown: int | None
    """The id of what it has no token for."""

    special: int
    """How many tokens it puts around a text."""

    def tokenize(self, text: str, *, special: bool = True) -> Tokens:
        """Text -> tokens, with the special ones or without. Raises InvalidDocumentError for what is not Unicode."""

    def ids(self, text: str) -> list[int]:
        """Text -> the ids of its tokens and of the special ones. Raises what `tokenize` raises."""

    def part(self, text: str, *, begins: bool) -> tuple[Tokens, Tokens]:
        """Tokens of a part of a text, no special ones; and the same as the text may be cut between them.

        The latter's spans have all blanks, and words that the text cannot be cut between have one number. begins:
        whether the text begins here; if not, a word does. Raises InvalidDocumentError for what is not Unicode.
        """


def load_tokenizer(bundle: Bundle) -> Tokenizer:
    """Start the tokenizer. Raises BundleError for one that is unsound or not of a known kind, BackendError."""
    if not _has_tables(bundle):
        return Foreign.load(bundle)
    match tables.kind_of(bundle):
        case tables.UNIGRAM:
            return Unigram.load(bundle)
        case tables.BYTE_PAIRS:
            return BytePairs.load(bundle)
    return Pieces.load(bundle)


def planned_bytes(bundle: Bundle) -> dict[str, int]:
    """What it and the token table behind it add to the process at most, in bytes."""
    files = bundle.manifest.files
    own = (
        files[tables.FILE].nbytes + tables.PLANNED_BYTES
        if _has_tables(bundle)
        else foreign.planned_bytes(files[tables.SOURCE].nbytes)
    )
    return {"tokenizer": own, "token table": tokens.planned_bytes(bundle)}


def _has_tables(bundle: Bundle) -> bool:
    return tables.FILE in bundle.manifest.files
