"""Functions as an encoder, and the codecs that vectors of one's own get."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake import DIM, direction

import edgeret
from edgeret import Codec, FunctionEncoder, Index
from edgeret.codec import quantize, unpack
from edgeret.encode.bundle import codec_id
from edgeret.errors import (
    ArgumentError,
    BundleError,
    InvalidQueryError,
    InvalidVectorError,
    SpaceMismatchError,
    StorageError,
)


def words(texts):
    """Vectors of the sum of their words, of any length."""
    return np.stack([np.sum([direction(word) for word in text.split()], axis=0) for text in texts])


def pictures(paths):
    """An image tower: reads the words that a file has in the place of a picture."""
    return words([Path(path).read_text() for path in paths])


def test_pictures_are_found_by_words(path, tmp_path):
    for name, shown in (("a.jpg", "red cat"), ("b.jpg", "blue boat")):
        (tmp_path / name).write_text(shown)
    encoder = FunctionEncoder(pictures, DIM, "towers-1", encode_query=words)
    with Index.create(path, model=encoder) as index:
        index.add([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")])
        assert [hit.text[-5:] for hit in index.search("blue boat")] == ["b.jpg", "a.jpg"]
        assert index.search("red cat", k=1, mode="dense")[0].score > 0.99
        index.check()


def test_what_is_shown_of_a_picture_needs_no_picture(path, tmp_path):
    # What would be two sentences of a text.
    picture = tmp_path / "A dog! A red cat.jpg"
    picture.write_text("red cat")
    with Index.create(path, model=FunctionEncoder(pictures, DIM, "towers-1", encode_query=words)) as index:
        index.add([str(picture)])
        picture.unlink()
        (hit,) = index.search("cat")
        assert hit.highlights.sentence == (0, len(hit.text))
        assert [hit.text[slice(*span)] for span in hit.highlights.words] == ["cat"]


def test_an_index_opens_with_an_encoder_of_the_same_name_and_codec_alone(path):
    Index.create(path, model=FunctionEncoder(words, DIM, "mine")).close()
    Index.open(path, model=FunctionEncoder(words, DIM, "mine", words)).close()
    for other, difference in (
        (FunctionEncoder(words, DIM, "yours"), "another geometry"),
        (FunctionEncoder(words, 64, "mine"), "another geometry"),
        (FunctionEncoder(words, DIM, "mine", codec=Codec.random(DIM, 1)), "another codec"),
    ):
        with pytest.raises(SpaceMismatchError, match=difference):
            Index.open(path, model=other)
    with pytest.raises(BundleError, match=r"'mine': pass model=.* or the encoder itself"):
        Index.open(path)


def test_a_codec_is_fitted_to_what_an_index_has(path):
    encoder = FunctionEncoder(words, DIM, "mine")
    with Index.create(path, model=encoder) as index:
        ids = index.add([f"{word} text {n}" for n, word in enumerate(["red", "blue"] * 50)])
        sample = np.concatenate([index.vectors(id) for id in ids])
    better = FunctionEncoder(words, DIM, "mine", codec=Codec.fit(sample))
    assert edgeret.recode(path, model=better).passages == 100
    with Index.open(path, model=better) as index:
        assert index.search("blue text 7", k=1, mode="dense")[0].text == "blue text 7"
        index.check()


def test_a_text_is_cut_only_if_it_is_said_how(path):
    texts = []

    def heard(given):
        texts.extend(given)
        return words(given)

    text = "One cat sat. Two dogs ran."
    assert FunctionEncoder(heard, DIM, "mine").token_spans(text) == []
    for name, limit in (("whole", None), ("cut", 3)):
        with Index.create(
            path.with_name(name), FunctionEncoder(heard, DIM, name, passage_words=limit)
        ) as index:
            index.add([text])
    assert texts == [text, "One cat sat.", "Two dogs ran."]


@pytest.mark.parametrize(
    "function",
    [
        lambda texts: words(texts)[0],
        lambda texts: words(texts)[:, 1:],
        lambda texts: [[None]],
        lambda texts: None,
    ],
)
def test_what_is_no_vector_for_each_text_is_refused(path, function):
    with Index.create(path, FunctionEncoder(function, DIM, "mine")) as index:
        with pytest.raises(InvalidVectorError, match="expected"):
            index.add(["red cat", "blue dog"])
        assert len(index) == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"encode": "words"}, ArgumentError),
        ({"dim": 31}, InvalidVectorError),
        ({"dim": "96"}, ArgumentError),
        ({"name": 5}, ArgumentError),
        ({"encode_query": 5}, ArgumentError),
        ({"codec": Codec}, ArgumentError),
        ({"codec": "random"}, ArgumentError),
        ({"codec": Codec.random(64)}, InvalidVectorError),
        ({"passage_words": 0}, ArgumentError),
    ],
)
def test_what_an_encoder_cannot_be_made_of_is_refused(arguments, error):
    with pytest.raises(error, match="expected"):
        FunctionEncoder(**{"encode": words, "dim": DIM, "name": "mine", **arguments})


@pytest.mark.parametrize(
    ("dim", "known"), [(96, "90ee7a294f66b2f82ff21b8461ad0d2e"), (64, "d2b13f5c9c6d77aa7972beac05129128")]
)
def test_a_random_codec_is_the_same_everywhere(dim, known):
    codec = Codec.random(dim)
    assert codec_id(codec) == known
    rotation = codec.query_projection.astype(np.float64)
    products = rotation.T @ rotation
    assert np.abs(products / products[0, 0] - np.eye(products.shape[1])).max() < 0.01
    assert codec_id(Codec.random(dim, seed=1)) != known


def test_a_random_codec_finds_what_is_near():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 96)).astype(np.float32)
    codec = Codec.random(96)
    assert codec.widths == (64,)
    signs = unpack(codec.encode(quantize(rows), 64), 64) * 2.0 - 1
    asked = rows[:50] + rng.normal(size=(50, 96)) * 0.5
    best = (asked @ codec.query_projection @ signs.T).argsort(axis=1)[:, -10:]
    assert np.mean([number in found for number, found in enumerate(best)]) > 0.9


def test_a_codec_is_kept_in_a_file(tmp_path):
    codec = Codec.fit(words([f"text {n}" for n in range(100)])[:, :40])
    codec.save(tmp_path / "mine.codec")
    assert codec_id(Codec.load(tmp_path / "mine.codec")) == codec_id(codec)
    with pytest.raises(StorageError, match="cannot write"):
        codec.save(tmp_path / "none" / "mine.codec")
    with pytest.raises(StorageError, match="cannot read"):
        Codec.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b'"widths": [64, 128]', b'"widths": [64, 127]'),
        (b'"widths": [64, 128]', b'"widths": []'),
        (b'"widths": [64, 128]', b'"widths": [128, 64]'),
        (b'"widths": [64, 128]', b'"widths": [-1, 128]'),
        (b'"widths": [64, 128]', b'"widths": "ab"'),
        (b'"dim": 128', b'"dim": 1e9'),
        (b'"dim": 128', b'"dim": -128'),
        (b'"dim": 128', b'"rows": 128'),
        (b'{"dim"', b'["dim"'),
    ],
)
def test_a_file_that_is_no_codec_is_refused(tmp_path, said, told):
    path = tmp_path / "mine.codec"
    Codec.random(128).save(path)
    body = path.read_bytes()[:-4].replace(said, told, 1)
    assert told in body
    path.write_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
    with pytest.raises(BundleError, match=r"expected a codec in .* fit it again"):
        Codec.load(path)


def test_numbers_that_are_none_make_no_codec(tmp_path):
    path = tmp_path / "mine.codec"
    codec = Codec.random(96)
    replace(codec, thresholds=np.full(codec.widths[-1], np.nan)).save(path)
    with pytest.raises(BundleError, match="expected a codec in"):
        Codec.load(path)


def test_bytes_that_are_no_codec_are_refused(tmp_path):
    path = tmp_path / "mine.codec"
    Codec.random(96).save(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[500] ^= 1
    for blob in (b"", b"hello", whole[:100], whole[: len(whole) // 2], whole + b"x", bytes(damaged)):
        path.write_bytes(blob)
        with pytest.raises(BundleError, match="expected a codec in"):
            Codec.load(path)


def test_a_codec_wants_vectors_that_differ():
    with pytest.raises(InvalidVectorError, match="that differ, got 40"):
        Codec.fit(np.ones((40, 32)))
    with pytest.raises(InvalidVectorError, match=r"as many as they have dims or more, got .*\(31, 32\)"):
        Codec.fit(np.ones((31, 32)))
    with pytest.raises(InvalidQueryError, match="ascending widths"):
        Codec.fit(np.ones((40, 32)), widths=[64, 32])
