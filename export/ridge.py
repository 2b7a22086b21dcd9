"""The static student's start in closed form: a table whose weighted sums are near the teacher's vectors.

Ridge regression towards the teacher's vectors of the single tokens. The normal equations of 30,000 tokens
are too large to factor, so they are solved by conjugate gradient (Hestenes and Stiefel, 1952), all columns at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from export.training import Tokens

Float32 = NDArray[np.float32]

_ROUNDS: Final = 20
_PENALTY: Final = 0.3
# Between a sum (0) and a mean (1): a long text's vector is no longer than a short one's, but surer.
_LENGTH_POWER: Final = 0.75


def solve(tokens: Tokens, vectors: NDArray[np.floating], prior: Float32, unweighted: list[int]) -> Float32:
    """Texts with their vectors [n, dim], and those of each token [vocabulary, dim] -> the table [vocabulary, dim].

    A row of the table holds its token's weight too: idf, and 1 for the tokens `unweighted`, which are in each text.
    """
    weights = _idf(tokens, len(prior))
    weights[unweighted] = 1
    counts = _counts(tokens, weights)
    table = _conjugate_gradient(counts, vectors.astype(np.float32), prior)
    return table * weights[:, None]


def _idf(tokens: Tokens, vocabulary: int) -> Float32:
    frequency = np.bincount(
        np.concatenate([np.unique(tokens[row]) for row in range(len(tokens))]), minlength=vocabulary
    )
    return np.log1p(len(tokens) / (1 + frequency)).astype(np.float32)


def _counts(tokens: Tokens, weights: Float32) -> csr_matrix:
    """The weight of each token in each text, sparse float32 [texts, vocabulary], divided by the text's length."""
    from scipy.sparse import csr_matrix, diags

    rows = np.repeat(np.arange(len(tokens)), np.diff(tokens.offsets))
    counts = csr_matrix((weights[tokens.flat], (rows, tokens.flat)), shape=(len(tokens), len(weights)))
    lengths = np.asarray(counts.sum(1)).ravel() ** _LENGTH_POWER
    return diags((1 / np.maximum(lengths, 1e-6)).astype(np.float32)) @ counts


def _conjugate_gradient(counts: csr_matrix, vectors: Float32, prior: Float32) -> Float32:
    """Minimize |counts @ table - vectors|² + penalty * |table - prior|²."""
    transposed = counts.T.tocsr()
    table = prior.copy()
    residual = transposed @ (vectors - counts @ table)
    direction, square = residual.copy(), (residual * residual).sum(0)
    for _ in range(_ROUNDS):
        image = transposed @ (counts @ direction) + _PENALTY * direction
        step = square / np.maximum((direction * image).sum(0), 1e-20)
        table += step * direction
        residual -= step * image
        fresh = (residual * residual).sum(0)
        direction = residual + fresh / np.maximum(square, 1e-20) * direction
        square = fresh
    return table
