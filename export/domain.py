"""A codec for one domain: fitted to its own documents, unlabelled, and compared with the general one.

What is asked there is guessed from the documents, and the document that a query was made from is its answer: GPL, Wang
et al. (NAACL 2022), with spans and terms of the documents where that paper asks a language model. How many of the ten
nearest by float a code finds is no measure here: it rewards what all documents of a domain have in common.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec
from export import recall

if TYPE_CHECKING:
    from collections.abc import Sequence


Float32 = NDArray[np.float32]

_WORD: Final = re.compile(r"\w+")
_SPAN_WORDS: Final = (5, 12)
_TERMS: Final = (2, 5)
_ROUNDS: Final = 10_000


class Row(NamedTuple):
    """nDCG@10 by codes alone of one width, by two codecs; 95 % interval of the difference by a paired bootstrap.

    exact: the same by float vectors.
    """

    bits: int
    exact: float
    before: float
    after: float
    interval: tuple[float, float]


def pseudo_queries(passages: Sequence[str], count: int, seed: int) -> list[tuple[str, int]]:
    """`count` texts that ask for a passage, and its row: spans of its words, and its rarest terms, in turn."""
    rng = np.random.default_rng(seed)
    lists = [_WORD.findall(passage) for passage in passages]
    found = Counter(word.lower() for words in lists for word in {*words})
    queries: list[tuple[str, int]] = []
    for row in rng.permutation(np.resize(np.arange(len(passages)), count)):
        words, span = lists[row], len(queries) % 2 == 0
        least, most = _SPAN_WORDS if span else _TERMS
        size = min(len(words), int(rng.integers(least, most, endpoint=True)))
        start = int(rng.integers(len(words) - size + 1))
        rarest = sorted(range(len(words)), key=lambda at: found[words[at].lower()])[:size]
        chosen = words[start : start + size] if span else [words[at] for at in sorted(rarest)]
        queries.append((" ".join(chosen), int(row)))
    return queries


def fit(domain: Float32, general: Float32, seed: int) -> Codec:
    """Fit a codec to unit vectors [n, dim] of the domain and, for what the domain lacks, as many general ones."""
    return Codec.fit(np.concatenate([domain, general[: len(domain)]]), seed)


def compare(
    before: Codec, after: Codec, queries: Float32, answers: Sequence[int], documents: Float32, seed: int
) -> list[Row]:
    """Compare two codecs at the widths that both have.

    queries, documents: unit vectors [n, dim], of texts that neither codec was fitted to. answers: the row of the one
    document that each query asks for.
    """
    drawn = np.random.default_rng(seed).integers(len(queries), size=(_ROUNDS, len(queries)))
    exact = _gains(queries @ documents.T, answers)
    rows = []
    for bits in sorted({*before.widths} & {*after.widths}):
        old, new = (
            _gains(recall.scores(codec, queries, documents, bits), answers) for codec in (before, after)
        )
        low, high = np.quantile((new - old)[drawn].mean(axis=1), (0.025, 0.975))
        means = (float(found.mean()) for found in (exact, old, new))
        rows.append(Row(bits, *means, (float(low), float(high))))
    return rows


def _gains(scores: Float32, answers: Sequence[int]) -> NDArray[np.float64]:
    """nDCG@10 of each query, whose one answer is a row; scores [queries, rows], ties by row."""
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    found = ranked == np.asarray(answers)[:, None]
    return np.where(found.any(axis=1), 1 / np.log2(found.argmax(axis=1) + 2), 0.0)
