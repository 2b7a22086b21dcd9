"""The codec of a space of many languages: its bits say what a text means, and only the last ones in which language.

In an index of one language, bits of the language are the same in every code; in one of many they draw a question to
texts of its own language. So vectors are taken less the mean of their language, and the directions in which these
means differ come last: Xie et al., "Discovering Low-rank Subspaces for Language-agnostic Multilingual Representations"
(EMNLP 2022). Of the others come first those in which texts and their translations vary together. The axes are not
whitened: those that vary little here are what translations do not share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from edgeret.codec import along
from edgeret.errors import BundleError
from edgeret.rotation import WIDTHS, possible, rotated, stops
from export import hash_head, languages, recall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgeret.codec import Codec
    from edgeret.encode.encoder import Encoder

_APART: Final = 10
"""Of the lines, one of so many is not fitted."""

_QUERY: Final = 100
"""Characters of a text that is like a query, at most."""

_QUERIES: Final = 8000


class Sample(NamedTuple):
    """Texts of many languages as documents, and short ones as queries.

    vectors: float32 [n, dim]. languages: [n], their names. pairs: int64 [m, 2], rows of a text and of the English that
    it translates. queries: float32 [q, dim]. asked: int64 [q], the rows that they are.
    """

    vectors: NDArray[np.float32]
    languages: NDArray[np.str_]
    pairs: NDArray[np.int64]
    queries: NDArray[np.float32]
    asked: NDArray[np.int64]


class _Texts(NamedTuple):
    """What a sample is the vectors of."""

    texts: list[str]
    languages: list[str]
    pairs: list[tuple[int, int]]
    asked: list[int]


def gather(
    encoder: Encoder, files: Sequence[Path], collections: Sequence[Path], each: int, seed: int, cache: Path
) -> tuple[Sample, Sample, int]:
    """Draw `each` texts of each language and encode them by a bundle; what was encoded before comes from `cache`.

    Returns what to fit a codec to, what to measure it with, and how many texts were left out for a run of words or
    characters that they share with a collection. Raises BundleError if there are too few pairs or short texts.
    """
    drawn = languages.draw(languages.read(files), each, seed)
    lines, removed = languages.unrepeated(drawn, collections)
    # What several languages translate is on one side, whole.
    said = [*dict.fromkeys(line.english or line.text for line in lines)]
    kept_apart = {said[row] for row in np.random.default_rng(seed).permutation(len(said))[::_APART]}
    halves = [
        _texts([line for line in lines if ((line.english or line.text) in kept_apart) == apart], seed)
        for apart in (False, True)
    ]
    for half in halves:
        if not {first for first, _ in half.pairs} & {*half.asked}:
            raise BundleError(
                f"expected translations of up to {_QUERY} characters among {len(lines):,} texts, found too few: "
                "give files NAME-en-LANGUAGE.tsv, or a larger --each"
            )
    fitted, apart = (_encoded(encoder, half, cache) for half in halves)
    return fitted, apart, removed


def _texts(lines: Sequence[languages.Line], seed: int) -> _Texts:
    rows, found = dict[tuple[str, str], int](), _Texts([], [], [], [])

    def row(said: str, language: str) -> int:
        if (said, language) not in rows:
            rows[said, language] = len(rows)
            found.texts.append(said)
            found.languages.append(language)
        return rows[said, language]

    for line in lines:
        own = row(line.text, line.language)
        if line.english:
            found.pairs.append((own, row(line.english, languages.ENGLISH)))
    short = [number for number, said in enumerate(found.texts) if len(said) <= _QUERY]
    found.asked.extend(short[one] for one in np.random.default_rng(seed).permutation(len(short))[:_QUERIES])
    return found


def _encoded(encoder: Encoder, half: _Texts, cache: Path) -> Sample:
    key = hash_head.key(encoder)
    asked = [half.texts[row] for row in half.asked]
    return Sample(
        hash_head.encode(half.texts, encoder.encode, f"{key} 0", cache),
        np.array(half.languages),
        np.array(half.pairs, np.int64),
        hash_head.encode(asked, encoder.encode_queries, f"{key} 1", cache),
        np.array(half.asked, np.int64),
    )


def fit(sample: Sample, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit a codec to texts of many languages; queries have a center of their own.

    Raises BundleError for more languages than half of the dims.
    """
    dim = sample.vectors.shape[1]
    lengths = possible(widths, dim)
    means, names, numbers = languages.means(sample.vectors, sample.languages)
    center = means.mean(0)
    # So many means lie in a space of one dim less.
    meaning = dim - (len(names) - 1)
    if meaning < dim / 2:
        raise BundleError(
            f"expected {dim // 2 + 1} languages at most for {dim} dims, found {len(names)}: give fewer files"
        )
    axes = np.linalg.svd(means - center)[2].T
    apart, outside = axes[:, : dim - meaning], axes[:, dim - meaning :]
    # Of pairs by themselves: what is translated differs from other texts, and is no direction of its own.
    translations, english = (sample.vectors[rows] for rows in sample.pairs.T)
    spoken, _, said = languages.means(translations, sample.languages[sample.pairs[:, 0]])
    together = (translations - spoken[said]).T @ (english - english.mean(0, dtype=np.float64))
    ordered = np.linalg.eigh(outside.T @ (together + together.T) @ outside)[1][:, ::-1]
    basis = np.concatenate([outside @ ordered, apart], axis=1)
    ends = sorted(end for end in {*stops(lengths), meaning} if end <= lengths[-1])
    codec = along(center, rotated(sample.vectors - means[numbers], basis, ends, seed), lengths)
    asked, _, _ = languages.means(sample.queries, sample.languages[sample.asked])
    return hash_head.ask_around(codec, asked.astype(np.float32))


def measure(codec: Codec, apart: Sample, candidates: Sequence[int]) -> dict[str, Any]:
    """`recall.recalls` of queries among other texts of their language, and of translations among the English ones.

    The first is the mean over languages. documents: how many they are found among, in the mean.
    """
    asked = np.isin(np.arange(len(apart.vectors)), apart.asked)
    found = []
    for name in np.unique(apart.languages):
        among = apart.vectors[(apart.languages == name) & ~asked]
        asking = apart.queries[apart.languages[apart.asked] == name]
        if len(asking) and len(among):
            found.append(recall.recalls(codec, asking, among, candidates) | {"documents": float(len(among))})
    own = {key: round(float(np.mean([one[key] for one in found])), 4) for key in (found[0] if found else ())}
    english = apart.vectors[np.unique(apart.pairs[:, 1])]
    translations = np.isin(apart.asked, apart.pairs[:, 0])
    across = recall.recalls(codec, apart.queries[translations], english, candidates)
    return {
        "within": own,
        "across": {key: round(value, 4) for key, value in across.items()} | {"documents": len(english)},
    }
