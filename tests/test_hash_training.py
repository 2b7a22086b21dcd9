"""The learned codec on made vectors: seconds, on a CPU."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")

from edgeret.codec import Codec, quantize, unpack
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from export import hash_head, hash_training, recall
from export.rewrite import rewrite

DIM, WIDTHS = 96, (32, 64, 96)


def vectors(count: int, seed: int) -> np.ndarray:
    """Unit vectors around centers, off the origin, in directions of uneven weight."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(40, DIM))
    rows = centers[rng.integers(40, size=count)] * 0.7 + rng.normal(size=(count, DIM)) + 0.3
    rows *= np.linspace(2, 0.3, DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def start():
    return Codec.fit(vectors(3000, 0), 0, WIDTHS)


def test_no_steps_leave_the_codes_as_they_were(start):
    same = hash_training.learn(start, vectors(100, 1), 0, 0)
    stored = quantize(vectors(200, 2))
    equal = unpack(same.encode(stored, 96), 96) == unpack(start.encode(stored, 96), 96)
    assert equal.mean() > 0.999
    query = vectors(1, 3)[0]
    assert (same.encode_query(query, 96) == start.encode_query(query, 96)).all()


def test_learning_repeats_and_finds_more_of_the_nearest(start):
    sample = vectors(3000, 0).astype(np.float16)
    once, again = (hash_training.learn(start, sample, 5, 0) for _ in range(2))
    assert once.projection.tobytes() == again.projection.tobytes() != start.projection.tobytes()
    learned = hash_training.learn(start, sample, 20, 0)
    queries, documents = vectors(100, 4), vectors(2000, 5)
    before = recall.recalls(start, queries, documents, (10, 40))
    after = recall.recalls(learned, queries, documents, (10, 40))
    assert before.keys() == {f"{bits}@{count}" for bits in WIDTHS for count in (10, 40)}
    assert sum(after.values()) > sum(before.values())


def test_recalls_are_those_of_the_scan(start):
    from edgeret import scan

    queries, documents = vectors(20, 4), vectors(500, 5)
    codes = start.encode(quantize(documents), 64)
    planes = np.stack([start.encode_query(query, 64) for query in queries])
    block = scan.Block(0, np.ascontiguousarray(codes.T), None)
    rows = scan.top_k([block], planes, 40)[0]
    exact = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    share = np.mean([np.isin(best, row).mean() for best, row in zip(exact, rows, strict=True)])
    assert recall.recalls(start, queries, documents, [40])["64@40"] == pytest.approx(share, abs=1e-9)


def test_a_bundle_takes_another_codec_and_stays_as_it_is(tmp_path):
    origin = Bundle.open("base")
    other = hash_training.learn(origin.codec(), np.eye(384, dtype=np.float32), 1, 0)
    made = rewrite(origin, tmp_path / "other", codec=other)
    assert (made.geometry, made.name) == (origin.geometry, "other")
    assert made.codec_id != origin.codec_id
    np.testing.assert_array_equal(made.codec().projection, other.projection)
    card = made.file("card.md").read_text()
    assert made.space in card
    assert made.codec_id in card
    assert origin.space not in card
    texts = ["my wireless is broken"]
    assert Encoder.load(made.path).encode(texts).tobytes() == Encoder.load("base").encode(texts).tobytes()


def test_a_prefix_sees_every_dim():
    sample = vectors(3000, 0)
    axes = np.linalg.eigh(np.cov(sample.T))[1]
    # Apart only along the axes of least variance, which nested ITQ keeps for its last bits.
    base = 8 * sample[:50] @ axes[:, -32:] @ axes[:, -32:].T
    apart = np.random.default_rng(1).normal(size=(50, 32)) @ axes[:, :32].T
    same = {}
    for fit in (Codec.fit, hash_head.fit_nested):
        codec = fit(sample, 0, WIDTHS)
        pair = [base + sign * apart for sign in (1, -1)]
        projected = [rows @ codec.projection[:, :32] > codec.thresholds[:32] for rows in pair]
        same[fit] = (projected[0] == projected[1]).mean()
    assert same[hash_head.fit_nested] > 0.99
    assert same[Codec.fit] < 0.9


def test_the_decoded_codec_gives_vectors_back_with_the_least_error():
    sample = vectors(3000, 0)
    nested, decoded = (fit(sample, 0, WIDTHS) for fit in (hash_head.fit_nested, hash_head.fit_decoded))
    stored = quantize(sample)
    assert (nested.encode(stored, 96) == decoded.encode(stored, 96)).all()
    signs = unpack(nested.encode(stored, 96), 96) * 2.0 - 1
    centered = sample - sample.mean(axis=0)

    def error(codec) -> float:
        found = signs @ codec.query_projection.T
        found *= (found * centered).sum() / (found**2).sum()
        return float(((found - centered) ** 2).sum())

    assert error(decoded) < error(nested)


def test_a_direction_in_which_nothing_varies_is_harmless():
    flat = vectors(3000, 0)
    flat[:, -1] = 0
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    codec = Codec.fit(flat, 0, WIDTHS)
    assert np.isfinite(codec.query_projection).all()
    found = recall.recalls(codec, flat[:50], flat[50:1050], (100,))
    assert found["96@100"] > 0.7
