from dataclasses import replace

import numpy as np
import pytest
from fake import DIM, FakeEncoder, random_codec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import edgeret
from edgeret import codec as codec_module
from edgeret.codec import PLANES, cosines, dequantize, normalize, pack, quantize, unpack, words
from edgeret.errors import InvalidVectorError

finite = st.floats(-(2.0**100), 2.0**100, width=32)


def unit(count: int, seed: int = 1) -> np.ndarray:
    return normalize(np.random.default_rng(seed).normal(size=(count, DIM)), DIM)


@given(hnp.arrays(np.bool_, st.tuples(st.integers(0, 5), st.integers(1, 200))))
def test_unpack_returns_what_was_packed_and_pads_are_zero(signs):
    codes = pack(signs)
    assert codes.shape == (len(signs), words(signs.shape[1]))
    assert (unpack(codes, signs.shape[1]) == signs).all()
    assert not unpack(codes, 64 * codes.shape[1])[:, signs.shape[1] :].any()


def test_bit_order_is_literal():
    signs = np.zeros((1, 70), dtype=np.bool_)
    signs[0, [0, 9, 65]] = True
    assert pack(signs).tolist() == [[1 | 1 << 9, 1 << 1]]


@given(hnp.arrays(np.float32, (3, DIM), elements=finite).filter(lambda a: a.any(axis=1).all()))
def test_normalize_gives_unit_rows_whatever_the_scale(vectors):
    assert np.allclose(np.linalg.norm(normalize(vectors, DIM), axis=1), 1, atol=1e-5)


@given(hnp.arrays(np.float32, (3, DIM), elements=finite).filter(lambda a: a.any(axis=1).all()))
def test_stored_vector_is_unit_and_near(vectors):
    rows = normalize(vectors, DIM)
    restored = dequantize(quantize(rows))
    assert np.allclose(np.linalg.norm(restored, axis=1), 1, atol=1e-5)
    assert ((restored * rows).sum(axis=1) > 0.999).all()


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 50), st.just(DIM)), elements=st.integers(-127, 127)))
def test_cosines_are_those_of_the_vectors_and_of_equal_rows_equal(stored):
    vector = unit(1)[0]
    scores = cosines(stored, vector)
    assert scores == pytest.approx(dequantize(stored) @ vector, abs=1e-6)
    for row, score in zip(stored, scores, strict=True):
        assert cosines(row[None], vector)[0] == score


@given(hnp.arrays(np.int8, (2, DIM), elements=st.integers(-127, 127)), st.integers(0, DIM - 1))
def test_quantize_returns_the_integers_that_were_dequantized(stored, peak):
    stored[:, peak] = 127
    assert (quantize(dequantize(stored)) == stored).all()


def test_extremes_clip_and_never_wrap():
    vectors = normalize(np.array([[1.0] + [0.0] * (DIM - 1), [-1.0] + [1e-9] * (DIM - 1)]), DIM)
    assert quantize(vectors)[:, 0].tolist() == [127, -127]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_normalize_refuses_what_is_not_finite(bad):
    vectors = unit(3)
    vectors[1, 2] = bad
    with pytest.raises(InvalidVectorError, match="vector 1 holds a NaN"):
        normalize(vectors, DIM)


def test_normalize_refuses_zero_and_wrong_dims():
    with pytest.raises(InvalidVectorError, match="vector 0 is all zeros"):
        normalize(np.zeros((1, DIM)), DIM)
    with pytest.raises(InvalidVectorError, match=f"expected vectors of dim {DIM}"):
        normalize(np.ones((1, DIM + 1)), DIM)


def test_a_code_does_not_depend_on_company_and_prefixes_nest():
    codec, stored = random_codec(), quantize(unit(300))
    together = codec.encode(stored, 96)
    alone = np.concatenate([codec.encode(row[None], 96) for row in stored])
    assert (together == alone).all()
    assert (codec.encode(stored, 64) == together[:, :1]).all()


def test_projection_sums_are_exact_in_float64():
    codec = random_codec()
    stored = quantize(unit(50))
    exact = stored.astype(object) @ codec.projection.astype(object)
    assert (stored.astype(np.float64) @ codec.projection.astype(np.float64) == exact.astype(np.float64)).all()


def test_the_center_is_subtracted():
    centered = random_codec()
    moved = replace(centered, thresholds=np.full(DIM, 1e9))
    assert not moved.encode(quantize(unit(5)), 96).any()


def distances(codes: np.ndarray, planes: np.ndarray) -> np.ndarray:
    differing = [unpack(codes ^ plane, 96).sum(axis=1) for plane in planes]
    return np.sum([2**j * count for j, count in enumerate(differing)], axis=0).astype(np.int32)


def test_the_weighted_distance_follows_the_asymmetric_score():
    codec, vectors = random_codec(), unit(400)
    codes = codec.encode(quantize(vectors), 96)
    signs = np.where(unpack(codes, 96), 1.0, -1.0)
    for query in unit(5, seed=2):
        planes = codec.encode_query(query, 96)
        assert planes.shape == (PLANES, 2)
        score = signs @ (query @ codec.query_projection[:, :96])
        assert np.corrcoef(score, -distances(codes, planes))[0, 1] > 0.99


def test_levels_are_the_odd_integers():
    """Weighted distance = (sum of |levels| that disagree) + constant: checked against levels worked out here."""
    codec, query = random_codec(), unit(1, seed=7)[0]
    planes = codec.encode_query(query, 96)
    levels = 2 * sum(2**j * unpack(planes[j : j + 1], 96)[0].astype(int) for j in range(PLANES)) - (
        2**PLANES - 1
    )
    assert set(np.abs(levels)) <= {1, 3, 5, 7, 9, 11, 13, 15}
    weights = query @ codec.query_projection
    assert (np.sign(levels) == np.sign(weights))[np.abs(weights) > 1e-6].all()
    codes = codec.encode(quantize(unit(50)), 96)
    signs = np.where(unpack(codes, 96), 1, -1)
    top = 96 * (2**PLANES - 1)
    assert (signs @ levels == top - 2 * distances(codes, planes)).all()


@given(
    st.lists(st.one_of(st.integers(-40, 40), finite), min_size=1, max_size=150),
    st.floats(1e-3, 100),
)
def test_both_builds_make_the_same_planes(weights, spacing):
    if codec_module._codec is None:
        pytest.skip("this edgeret is built without its native codec")
    given = np.array(weights, np.float32)
    made = codec_module._planes(given, spacing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGERET_NO_NATIVE", "1")
        assert (codec_module._planes(given, spacing) == made).all()


def test_a_query_at_the_center_has_a_code_too():
    codec = random_codec()
    query = unit(1)[0]
    centered = replace(codec, query_thresholds=(query @ codec.query_projection).astype(np.float32))
    assert centered.encode_query(query, 96).shape == (PLANES, 2)
    # Exactly there no bit weighs more than another.
    planes = codec.encode_query(np.zeros_like(query), 96)
    assert (unpack(planes, 96) == [[True]] * 3 + [[False]]).all()


def test_asymmetric_codes_rank_better_than_symmetric_ones():
    codec, documents, queries = random_codec(), unit(2000), unit(40, seed=3)
    codes = codec.encode(quantize(documents), 96)
    shares = []
    for encode in (codec.encode_query, codec.encode_symmetric):
        found = 0
        for query in queries:
            near = np.argsort(-documents @ query)[:10]
            candidates = np.argsort(distances(codes, encode(query, 96)), kind="stable")[:40]
            found += len(np.intersect1d(near, candidates))
        shares.append(found / 400)
    assert shares[0] > shares[1] + 0.05


@pytest.mark.parametrize(
    ("widths", "bits"),
    [((64, 128, 256, 384), 256), ((64, 128), 128), ((32,), 32), ((64, 96), 96), ((384, 768), 384)],
)
def test_an_index_gets_the_longest_codes_up_to_256_bits_if_nothing_is_said(widths, bits):
    assert replace(random_codec(), widths=widths).usual_bits == bits


@pytest.mark.parametrize("dim", [32, 64, 96])
def test_narrow_models_make_an_index_with_nothing_said(path, dim):
    encoder = FakeEncoder()
    encoder.dim, encoder.codec = dim, replace(random_codec(dim=dim), widths=(dim,))
    encoder._vector = lambda text, whole=encoder._vector: whole(text)[:dim]
    with edgeret.Index.create(path, model=encoder) as index:
        index.add(["red cat", "blue boat", "warm garden"])
        assert index.info().bits == dim
        assert index.search("blue boat", mode="dense")[0].text == "blue boat"
        index.check()
