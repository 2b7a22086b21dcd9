"""The codec of a space of many languages: its bits say what a text means, and only the last ones in which language.

In an index of one language, bits of the language are the same in every code; in one of many they draw a question to
texts of its own language. So vectors are taken less the mean of their language, and the directions in which these
means differ come last: Yang et al., "A Simple and Effective Method to Eliminate the Self Language Bias in Multilingual
Representations" (EMNLP 2021). Of the others come first those in which texts and their translations vary together. The
axes are not whitened: those that vary little here are what translations do not share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from edgeret.codec import Codec, along
from edgeret.errors import BundleError
from edgeret.rotation import WIDTHS, possible, rotated, stops
from export import hash_head, languages, recall, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgeret.encode.encoder import Encoder

_APART: Final = 10
"""Of the lines, one of so many is not fitted."""

_QUERY: Final = 100
"""Characters of a text that is like a query, at most."""

_QUERIES: Final = 8000


class Sample(NamedTuple):
    """Texts of many languages as documents, and the short ones as queries.

    vectors: float32 [n, dim]. languages: [n], their names. pairs: int64 [m, 2], rows of a text and of the English that
    it translates. queries: float32 [q, dim]. asked: int64 [q], the rows that they are.
    """

    vectors: NDArray[np.float32]
    languages: NDArray[np.str_]
    pairs: NDArray[np.int64]
    queries: NDArray[np.float32]
    asked: NDArray[np.int64]


def gather(
    encoder: Encoder, files: Sequence[Path], collections: Sequence[Path], each: int, seed: int, cache: Path
) -> tuple[Sample, Sample, int]:
    """Draw `each` texts of each language and encode them by a bundle; what was encoded before comes from `cache`.

    Returns what to fit a codec to, what to measure it with, and how many texts were left out for a run of words or
    characters that they share with a collection. Raises BundleError if there are no pairs.
    """
    drawn = languages.draw(languages.read(files), each, seed)
    both = [line.text for line in drawn] + [line.english for line in drawn]
    repeated = {row % len(drawn) for row in text.sharing(both, text.collection_texts(collections))}
    lines = [line for row, line in enumerate(drawn) if row not in repeated]
    apart = lines[::_APART]
    del lines[::_APART]
    if not any(line.english for line in apart):
        raise BundleError("expected pairs of a text and its English, found none: give NAME-en-LANGUAGE.tsv")
    return _encoded(encoder, lines, cache), _encoded(encoder, apart, cache), len(repeated)


def _encoded(encoder: Encoder, lines: Sequence[languages.Line], cache: Path) -> Sample:
    texts, names, pairs = list[str](), list[str](), list[tuple[int, int]]()
    for line in lines:
        if line.english:
            pairs.append((len(texts), len(texts) + 1))
            texts.append(line.text)
            names.append(line.language)
        texts.append(line.english or line.text)
        names.append(languages.ENGLISH if line.english else line.language)
    short = [row for row, said in enumerate(texts) if len(said) <= _QUERY]
    asked = np.array(short[:: max(1, len(short) // _QUERIES)], np.int64)
    key = f"{encoder.space} {encoder.backend}"
    return Sample(
        hash_head.encode(texts, encoder.encode, f"{key} 0", cache),
        np.array(names),
        np.array(pairs, np.int64),
        hash_head.encode([texts[row] for row in asked], encoder.encode_queries, f"{key} 1", cache),
        asked,
    )


def fit(sample: Sample, seed: int, widths: Sequence[int] = WIDTHS) -> Codec:
    """Fit a codec to texts of many languages; queries have a center of their own."""
    lengths = possible(widths, sample.vectors.shape[1])
    names, numbers = np.unique(sample.languages, return_inverse=True)
    means = np.stack(
        [sample.vectors[numbers == number].mean(0, dtype=np.float64) for number in range(len(names))]
    )
    center = means.mean(0)
    centered = sample.vectors - means[numbers]
    # So many means lie in a space of one dim less.
    apart = np.linalg.svd(means - center, full_matrices=False)[2][: len(names) - 1].T
    one, other = centered[sample.pairs.T]
    together = one.T @ other
    outside = np.eye(len(center)) - apart @ apart.T
    # Unit vectors' products are no larger than their number: what is taken off puts these directions last.
    ranked = outside @ (together + together.T) @ outside - 4 * len(one) * apart @ apart.T
    axes = np.linalg.eigh(ranked)[1][:, ::-1]
    codec = along(center, rotated(centered, axes, stops(lengths), seed), lengths)
    return hash_head.ask_around(codec, sample.queries)


def measure(codec: Codec, apart: Sample, candidates: Sequence[int]) -> dict[str, Any]:
    """`recall.recalls` of queries among documents of their language, and of translations among the English ones."""
    english = apart.vectors[apart.pairs[:, 1]]
    own, across = [], []
    translations = np.isin(apart.asked, apart.pairs[:, 0])
    across.append(recall.recalls(codec, apart.queries[translations], english, candidates))
    for name in np.unique(apart.languages):
        among = apart.vectors[apart.languages == name]
        asking = apart.queries[apart.languages[apart.asked] == name]
        if len(asking):
            own.append(recall.recalls(codec, asking, among, candidates))
    return {
        kind: {key: round(float(np.mean([one[key] for one in found])), 4) for key in found[0]}
        for kind, found in (("within", own), ("across", across))
    }
