"""The codec of many languages on made vectors: of a meaning, its language, and noise that translations do not share."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")

from edgeret.codec import Codec, normalize
from edgeret.errors import InvalidVectorError
from export import hash_head, hash_languages, recall
from export.hash_languages import Sample

DIM, WIDTHS, NAMES = 224, (64, 192, 224), np.array(["ar", "de", "en", "ru"])
MEANING, NOISE = slice(0, 40), slice(40, 220)


def spoken(count: int, seed: int, language: int) -> np.ndarray:
    """Unit vectors of the same meanings for a seed, in a language: the noise is stronger than the meaning."""
    rng = np.random.default_rng(seed)
    meanings = rng.normal(size=(count, 40))
    rows = np.zeros((count, DIM))
    rows[:, MEANING] = meanings
    rows[:, NOISE] = 0.8 * np.random.default_rng([seed, language]).normal(size=(count, 180))
    rows += 12 * np.random.default_rng([99, language]).normal(size=DIM) / DIM**0.5 + 0.5
    return normalize(rows, DIM)


def sample(count: int, seed: int) -> Sample:
    vectors = np.concatenate([spoken(count, seed, language) for language in range(4)])
    rows = np.arange(count)
    pairs = np.concatenate(
        [np.stack([rows + language * count, rows + 2 * count], 1) for language in (0, 1, 3)]
    )
    asked = np.arange(0, len(vectors), 8)
    return Sample(vectors, np.repeat(NAMES, count), pairs, vectors[asked], asked)


@pytest.fixture(scope="module")
def fitted():
    return hash_languages.fit(sample(700, 1), 0, WIDTHS)


def test_translations_are_found_by_codes(fitted):
    whole = sample(700, 1)
    plain = hash_head.ask_around(Codec.fit(whole.vectors, 0, WIDTHS), whole.queries)
    russian, english = spoken(200, 7, 3), spoken(200, 7, 2)

    def first(codec) -> float:
        found = recall.scores(codec, russian, english, 192)
        return float((found.argmax(1) == np.arange(200)).mean())

    assert first(fitted) > 1.2 * first(plain)


def test_only_the_last_bits_tell_languages_apart(fitted):
    whole = sample(700, 1)
    means = np.stack([whole.vectors[whole.languages == name].mean(0) for name in NAMES])
    apart = means - means.mean(0)
    steps = np.abs(apart @ (fitted.projection / np.linalg.norm(fitted.projection.astype(float), axis=0)))
    assert steps[:, :192].max() < 1e-3 < steps[:, 192:].max()


def test_the_same_sample_and_seed_make_the_same_codec(fitted):
    again = hash_languages.fit(sample(700, 1), 0, WIDTHS)
    assert again.projection.tobytes() == fitted.projection.tobytes()
    assert again.query_thresholds.tobytes() == fitted.query_thresholds.tobytes()


def test_measured_are_queries_of_each_language_and_translations(fitted):
    figures = hash_languages.measure(fitted, sample(80, 5), (10, 40))
    assert figures.keys() == {"within", "across"}
    for kind in figures.values():
        assert kind.keys() == {f"{bits}@{count}" for bits in fitted.widths for count in (10, 40)}
        assert all(0 <= value <= 1 for value in kind.values())
        assert kind["192@40"] >= kind["192@10"]


def test_short_vectors_are_refused():
    few = sample(10, 1)
    with pytest.raises(InvalidVectorError, match="at least 32 dims"):
        hash_languages.fit(few._replace(vectors=few.vectors[:, :16]), 0)
