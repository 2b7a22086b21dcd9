"""What students of many languages learn from: lines of each language, and pairs of a line and its English.

Of a language's texts some are short, some long, and some translate English ones, whatever its files have most of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from edgeret.errors import BundleError
from export import text
from export.training import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Tokenizer

ENGLISH: Final = "en"
_LONG: Final = 100
"""Characters of a short line at most."""

# Of a language's texts; English has so many times those of another by itself, beside what is translated.
_SHARES: Final = {"short": 0.4, "long": 0.25, "pairs": 0.35}
_ENGLISH: Final = 4


# Of lines: one of so many is a query and a document, and a query has so many tokens at most.
_BOTH: Final = 10
_QUERY_TOKENS: Final = 20

# Of texts whose letters have two cases, one of so many is learned in capitals too, and one without any.
_RECASED: Final = 16


class Line(NamedTuple):
    """A text in a language. english: what it translates, or an empty text."""

    text: str
    language: str
    english: str = ""


class Texts(NamedTuple):
    """What is learned. sides: 0 of a document, 1 of a query. translated: those whose English is the text after them."""

    texts: list[str]
    languages: list[str]
    sides: list[int]
    translated: list[int]


def read(files: Sequence[Path]) -> list[Line]:
    """The lines of plain or .gz files, `English TAB other` where a name has .tsv. Raises BundleError."""
    found = []
    for file in files:
        language, has_pairs = text.language(file) or ENGLISH, ".tsv" in file.name
        if has_pairs and language == ENGLISH:
            raise BundleError(
                f"expected another language in the name of {file}, found English: NAME-en-de.tsv"
            )
        for line in filter(str.strip, text.lines(file)):
            english, _, other = line.partition("\t")
            if has_pairs and not (english.strip() and other.strip()):
                raise BundleError(
                    f"expected English, a tab and {language!r} in each line of {file}, found {line!r:.80}"
                )
            found.append(Line(other, language, english) if has_pairs else Line(line, language))
    return found


def draw(lines: Sequence[Line], each: int, seed: int) -> list[Line]:
    """Draw `each` texts of each language, if it has so many, and some times as many English ones.

    What a pair translates comes in addition. The same `seed` draws the same texts.
    """
    rng = np.random.default_rng(seed)
    pools: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        kind = "pairs" if line.english else "long" if len(line.text) > _LONG else "short"
        pools.setdefault((line.language, kind), []).append(line)
    drawn = []
    for (language, kind), pool in sorted(pools.items()):
        count = int(each * _SHARES[kind] * (_ENGLISH if language == ENGLISH else 1))
        drawn += [pool[row] for row in rng.permutation(len(pool))[:count]]
    return drawn


def more(files: Sequence[Path], counts: Mapping[str, int], known: Iterable[Line], seed: int) -> list[Line]:
    """Draw so many lines of files beside the `known` ones, if they have so many: counts by the files' names.

    A name is that before the first dot: NAME-LANGUAGE. Raises BundleError for a name that no file has.
    """
    named: dict[str, list[Path]] = {}
    for file in files:
        named.setdefault(file.name.partition(".")[0], []).append(file)
    if strange := sorted(counts.keys() - named.keys()):
        raise BundleError(f"expected files of --text by the names {strange}, found {sorted(named)!r:.200}")
    seen, drawn = set(known), []
    for name, count in sorted(counts.items()):
        others = [line for line in dict.fromkeys(read(named[name])) if line not in seen]
        rng = np.random.default_rng([seed, len(others)])
        drawn += [others[row] for row in rng.permutation(len(others))[:count]]
    return drawn


def unrepeated(lines: Sequence[Line], collections: Sequence[Path]) -> tuple[list[Line], int]:
    """The lines without those that share a run with a test collection, and how many these are."""
    both = [line.text for line in lines] + [line.english for line in lines]
    repeated = {row % len(lines) for row in text.sharing(both, text.collection_texts(collections))}
    return [line for row, line in enumerate(lines) if row not in repeated], len(repeated)


def recased(texts: Sequence[str], seed: int) -> dict[int, str]:
    """Some of the texts in capitals, and some without any, by their rows: people write as they like."""
    rows, share = np.random.default_rng(seed).permutation(len(texts)), len(texts) // _RECASED
    found = {row: texts[row].upper() for row in rows[:share].tolist()}
    found |= {row: texts[row].lower() for row in rows[share : 2 * share].tolist()}
    return {row: other for row, other in sorted(found.items()) if other != texts[row]}


def means(
    vectors: NDArray[np.floating], spoken: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.int64]]:
    """The mean of the vectors [n, dim] of each language, the languages, and the place of each vector's among them."""
    names, places = np.unique(spoken, return_inverse=True)
    found = [vectors[places == place].mean(0, dtype=np.float64) for place in range(len(names))]
    return np.stack(found), names, places


def sided(lines: Sequence[Line], tokenizer: Tokenizer) -> Texts:
    """The texts of lines: a short one is a query, a longer one a document, and one of ten is both."""
    lengths = np.diff(Tokens.of([line.english or line.text for line in lines], tokenizer).offsets)
    found = Texts([], [], [], [])
    for number, (line, length) in enumerate(zip(lines, lengths.tolist(), strict=True)):
        own = int(length <= _QUERY_TOKENS)
        for side in (own, 1 - own) if number % _BOTH == 0 else (own,):
            if line.english:
                found.translated.append(len(found.texts))
            for said, language in ((line.text, line.language), (line.english, ENGLISH)):
                if said:
                    found.texts.append(said)
                    found.languages.append(language)
                    found.sides.append(side)
    return found
