"""Stems of languages other than English: Snowball's (M. F. Porter, snowballstem.org), which PyStemmer brings.

English is stemmed by edgeret.words itself, without a package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edgeret.errors import ArgumentError, StemmerError

ENGLISH: Final = "en"
ENGLISH_VERSION: Final = 1
"""Of the stemmer of English in edgeret.words."""

ALGORITHMS: Final = {
    "ar": "arabic",
    "ca": "catalan",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "es": "spanish",
    "eu": "basque",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Snowball's name of each language, by its code of ISO 639-1."""


def version(language: str | None) -> int:
    """The version of a language's stemmer, 0 for none: 30100 is Snowball's 3.1.0.

    Raises ArgumentError for a language that has no stemmer, StemmerError for one whose package is not installed.
    """
    if language is None:
        return 0
    if language == ENGLISH:
        return ENGLISH_VERSION
    if language not in ALGORITHMS:
        raise ArgumentError(
            f"expected one of {ENGLISH}, {', '.join(ALGORITHMS)}, or None for words as they are, got {language!r:.40}"
        )
    try:
        import Stemmer
    except ImportError:
        raise StemmerError(
            f"expected the package PyStemmer, which stems words of the language {language!r}, found none: "
            "pip install 'edgeret[languages]'"
        ) from None
    major, minor, patch = (int(part) for part in Stemmer.version().split(".")[:3])
    return major * 10_000 + minor * 100 + patch


def stems(words: Sequence[str], language: str) -> list[str]:
    """The stems of words in lower case, with their accents."""
    import Stemmer

    # Made anew: one must not be used by two threads. It keeps no words either.
    found: list[str] = Stemmer.Stemmer(ALGORITHMS[language], 0).stemWords(words)
    return found
