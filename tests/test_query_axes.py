"""What is taken off a student's queries, on made vectors."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")

from edgeret.codec import normalize
from export import query_axes
from export.training import Kinds

DIM, LANGUAGES = 64, 4


def spoken(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors around a center and a language's own, their languages and sides; meanings without both."""
    rng = np.random.default_rng(seed)
    places = np.random.default_rng(9).normal(size=(LANGUAGES + 1, DIM))
    languages, sides = rng.integers(LANGUAGES, size=count), rng.integers(2, size=count)
    meanings = rng.normal(size=(count, DIM)) / 2
    return normalize(meanings + 2 * places[-1] + places[languages], DIM), languages, sides


def test_queries_lose_their_language_and_most_of_the_center():
    vectors, languages, sides = spoken(4000, 1)
    kinds = Kinds(languages, sides, np.zeros((2, DIM), np.float32))
    axes = query_axes.fit(vectors, kinds)
    assert axes.shape == (LANGUAGES, DIM)
    assert axes.dtype == np.float32
    left = query_axes.taken_off(vectors, axes)
    np.testing.assert_allclose(np.linalg.norm(left, axis=1), 1, atol=1e-5)
    means = [
        np.stack([found[languages == one].mean(0) for one in range(LANGUAGES)]) for found in (vectors, left)
    ]
    apart = [float(np.linalg.norm(found - found.mean(0))) for found in means]
    assert apart[1] < 0.1 * apart[0]
    center = axes[-1] / np.linalg.norm(axes[-1])
    np.testing.assert_allclose(
        (vectors - vectors @ axes.T @ axes) @ center, 0.6 * vectors @ center, rtol=1e-4, atol=1e-5
    )


def test_a_space_of_one_language_has_a_center_alone():
    vectors, _, sides = spoken(500, 2)
    axes = query_axes.fit(vectors, Kinds(np.zeros(500, np.int64), sides, np.zeros((2, DIM), np.float32)))
    assert axes.shape == (1, DIM)


def test_queries_do_not_prefer_their_language():
    rng = np.random.default_rng(3)
    vectors, languages, sides = spoken(4000, 1)
    axes = query_axes.fit(vectors, Kinds(languages, sides, np.zeros((2, DIM), np.float32)))
    own, other = (vectors[languages == one].mean(0) for one in (0, 1))
    meanings = rng.normal(size=(300, DIM)) / 40
    asked, translated, strange = (
        normalize(rows, DIM)
        for rows in (own + meanings, other + meanings, own + rng.normal(size=(300, DIM)) / 40)
    )

    def translations_win(queries: np.ndarray) -> float:
        return float(((queries * translated).sum(1) > (queries * strange).sum(1)).mean())

    assert translations_win(query_axes.taken_off(asked, axes)) > translations_win(asked) + 0.3
