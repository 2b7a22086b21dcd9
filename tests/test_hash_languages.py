"""The codec of many languages on made vectors: of a meaning, its language, and noise that translations do not share."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")

from edgeret.codec import Codec, normalize
from edgeret.errors import BundleError, InvalidVectorError
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


@pytest.mark.parametrize("widths", [WIDTHS, (64,), (224,)])
def test_only_the_last_bits_tell_languages_apart(widths):
    whole = sample(700, 1)
    projection = hash_languages.fit(whole, 0, widths).projection.astype(float)
    means = np.stack([whole.vectors[whole.languages == name].mean(0) for name in NAMES])
    steps = np.abs((means - means.mean(0)) @ (projection / np.linalg.norm(projection, axis=0)))
    assert steps[:, : DIM - 3].max() < 1e-3
    if widths[-1] == DIM:
        assert steps[:, DIM - 3 :].max() > 0.1


def test_no_language_begins_beside_the_center_of_queries(fitted):
    asked = sample(700, 1).queries @ fitted.query_projection - fitted.query_thresholds
    spread = asked.std(0)
    for name in NAMES:
        own = asked[sample(700, 1).languages[sample(700, 1).asked] == name]
        assert np.abs(own.mean(0) / spread)[: DIM - 3].mean() < 0.2


def test_the_same_sample_and_seed_make_the_same_codec(fitted):
    again = hash_languages.fit(sample(700, 1), 0, WIDTHS)
    assert again.projection.tobytes() == fitted.projection.tobytes()
    assert again.query_thresholds.tobytes() == fitted.query_thresholds.tobytes()


def test_measured_are_queries_of_each_language_and_translations(fitted):
    apart = sample(80, 5)
    figures = hash_languages.measure(fitted, apart, (10, 40))
    others = np.setdiff1d(np.arange(320), apart.asked)
    expected = []
    for language in range(4):
        among = others[others // 80 == language]
        asking = apart.queries[apart.asked // 80 == language]
        expected.append(recall.shares(fitted, asking, apart.vectors[among], 192, 10).mean())
    assert figures["within"]["192@10"] == pytest.approx(np.mean(expected), abs=1e-4)
    assert figures["within"]["documents"] == 70
    foreign = apart.queries[(apart.asked // 80) != 2]
    across = recall.shares(fitted, foreign, apart.vectors[160:240], 64, 40).mean()
    assert figures["across"]["64@40"] == pytest.approx(across, abs=1e-4)
    assert figures["across"]["documents"] == 80


def test_one_language_is_none_to_tell_apart():
    whole = sample(700, 1)
    same = whole._replace(languages=np.repeat("en", 2800))
    codec = hash_languages.fit(same, 0, WIDTHS)
    assert np.linalg.matrix_rank(codec.projection.astype(float)) == DIM


def test_what_no_codec_can_be_fitted_to_is_refused():
    few = sample(10, 1)
    with pytest.raises(InvalidVectorError, match="at least 32 dims"):
        hash_languages.fit(few._replace(vectors=few.vectors[:, :16]), 0)
    with pytest.raises(BundleError, match="expected 17 languages at most for 32 dims, found 40"):
        hash_languages.fit(few._replace(vectors=few.vectors[:, :32], languages=np.arange(40).astype(str)), 0)
