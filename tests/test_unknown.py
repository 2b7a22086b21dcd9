"""What the model does not read, or does not know."""

import numpy as np
import pytest
from counts import long

from edgeret import Document, Index
from edgeret.encode.encoder import Encoder
from edgeret.encode.unknown import knows, stand_in, tinged

MODELS = ("small", "nano")
PREAMBLE = " ".join(
    ["I recently moved into the house on the hill and have been very busy unpacking all my boxes."] * 16
)
QUESTIONS = {
    "dog": "When must puppies be vaccinated?",
    "bread": "How is sourdough bread baked?",
    "tax": "When is the income tax return due?",
}


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def index(model, tmp_path_factory):
    documents = {
        "pump": "How to bleed air from the central heating pump.",
        "bread": "Recipe for sourdough bread with rye flour.",
        "tax": "Deadline for the yearly income tax return.",
        "dog": "Vaccination schedule for puppies.",
        "smile": "😀",
        "two": "🍕 🍔",
        "word": "ሰላም",
        "joiner": "\u200b",
    }
    with Index.create(tmp_path_factory.mktemp("unknown") / "a.edgeret", model=model) as index:
        index.add(Document(identity, text) for identity, text in documents.items())
        yield index


@pytest.mark.parametrize("answer", QUESTIONS)
def test_the_end_of_a_long_query_counts(index, answer):
    explained = index.explain(f"{PREAMBLE} {QUESTIONS[answer]}", k=4)
    assert explained.query_windows > 1
    assert explained.query_known
    assert explained.hits[0].id == answer
    assert index.explain(QUESTIONS[answer]).query_windows == 1


def test_a_short_query_has_the_models_own_vector(model):
    encoder = Encoder.load(model)
    for text in ("my wireless is broken", "recipe!", "!", " ".join(["word"] * encoder.passage_tokens)):
        whole = encoder.encode_query(text)
        assert whole.vectors.tobytes() == encoder.encode([text]).tobytes()
        assert (whole.windows, whole.known) == (1, True)


@pytest.mark.parametrize(
    ("query", "found"), [("😀", "smile"), ("ሰላም", "word"), ("😀 ", "smile"), ("\u200b", "joiner")]
)
def test_an_emoji_finds_itself_and_no_other(index, query, found):
    explained = index.explain(query, k=8)
    assert not explained.query_known
    first, *others = explained.hits
    assert first.id == found
    assert first.score > 0.99
    assert all(abs(hit.score) < 0.3 for hit in others)


@pytest.mark.parametrize("query", ["🍎", "🍎!", "שלום" * 30, "\u0301", "y" * 200])
def test_what_is_unknown_is_found_nowhere(index, query):
    explained = index.explain(query, k=8)
    assert not explained.query_known
    assert all(abs(hit.score) < 0.3 for hit in explained.hits)


def test_symbols_in_common_are_near(index):
    found = index.search("🍔", k=1)[0]
    assert found.id == "two"
    assert 0.6 < found.cosine < 0.8


def test_nothing_known_is_near_what_is_unknown(index):
    for query in ("puppies", "a smiling face", "pizza and burger", "hello"):
        scores = {hit.id: hit.cosine for hit in index.search(query, k=8)}
        assert max(abs(scores[identity]) for identity in ("smile", "two", "word", "joiner")) < 0.25


def test_a_bundle_of_the_same_space_finds_them_too(tmp_path):
    with Index.create(tmp_path / "a.edgeret", model="small") as index:
        index.add([Document("smile", "😀"), Document("pizza", "🍕")])
    with Index.open(tmp_path / "a.edgeret", model="nano") as index:
        assert [hit.id for hit in index.search("🍕")] == ["pizza", "smile"]


def test_a_long_query_of_unknown_and_known_parts_is_its_known_ones():
    encoder = Encoder.load("nano")
    known = "puppies and their vaccination. "
    mixed = encoder.encode_query(known * 10 + "🍕 " * 600)
    alone = encoder.encode_query("🍕 " * 600)
    assert mixed.known
    assert not alone.known
    assert 2 <= len(mixed.vectors) < mixed.windows
    assert mixed.vectors[0] @ encoder.encode([known])[0] > 0.7
    assert len(alone.vectors) == alone.windows >= 8
    assert (alone.vectors @ stand_in("🍕", encoder.dim) > 0.99).all()


def test_a_query_of_any_length_has_few_vectors():
    asked = Encoder.load("nano").encode_query("puppies and their vaccination. " * 2000)
    assert asked.windows > 150
    assert asked.vectors.shape == (64, 384)
    assert np.linalg.norm(asked.vectors, axis=1) == pytest.approx(1)


@pytest.mark.parametrize("mode", [pytest.param("dense", marks=long), "hybrid"])
def test_long_queries_among_short_ones_are_answered_each_for_itself(index, mode):
    queries = [
        "puppies",
        f"{PREAMBLE} {QUESTIONS['bread']}",
        "tax",
        f"{QUESTIONS['dog']} {PREAMBLE * 5}",
        "pump",
    ] * 4
    together = index.search_many(queries, k=3, mode=mode)
    alone = {query: index.search(query, k=3, mode=mode) for query in set(queries)}
    assert together == [alone[query] for query in queries]
    assert [hits[0].id for hits in together[:5]] == ["dog", "bread", "tax", "dog", "pump"]


def test_a_stand_in_is_the_same_everywhere():
    vector = stand_in("🍕", 16)
    assert (vector * 4).astype(int).tolist() == [-1, 1, 1, 1, 1, -1, -1, 1, 1, 1, 1, 1, 1, -1, 1, -1]
    assert np.linalg.norm(stand_in("🍕 🍔 שלום", 384)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "ids", "spans", "known"),
    [
        ("ab", [7], [(0, 2)], True),
        ("ab", [1], [(0, 2)], False),
        ("a b", [7, 1], [(0, 1), (2, 3)], True),
        ("! b", [7, 1], [(0, 1), (2, 3)], False),
        ("!", [7], [(0, 1)], True),
        ("ab", [0, 0], [(0, 0), (0, 0)], False),
        ("", [0, 0], [(0, 0), (0, 0)], True),
    ],
)
def test_what_the_model_knows(text, ids, spans, known):
    assert knows(text, ids, spans, unknown=1) == known


# -- among known words

SYMBOLS = ["🐈", "🐕", "👩‍👩‍👧", "ꙮ", "𐎠𐎡", "x" * 130]
FRAMES = ["{}", "I love {}", "{} sat on the mat", "Where can I buy {} for my children?", "{}, {} and tea"]


@pytest.mark.parametrize("frame", FRAMES)
def test_texts_that_differ_in_what_is_unknown_are_not_equal(model, frame):
    encoder = Encoder.load(model)
    texts = [frame.format(*[symbol] * 2) for symbol in SYMBOLS]
    vectors = encoder.encode_passages(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0)
    assert cosines.max() < 0.999
    # Alone as in company, and a query as a passage.
    for text, vector in zip(texts, vectors, strict=True):
        assert (encoder.encode_passages([text])[0] == vector).all()
        assert (encoder.encode_query(text).vectors == vector).all()


@pytest.mark.parametrize("frame", FRAMES)
def test_an_unknown_symbol_finds_its_own_document(tmp_path, model, frame):
    encoder = Encoder.load(model)
    with Index.create(tmp_path / "index.edgeret", encoder) as index:
        texts = [frame.format(*[symbol] * 2) for symbol in SYMBOLS]
        index.add(Document(text, text) for text in [*texts, "nothing of this kind"])
        for text, symbol in zip(texts, SYMBOLS, strict=True):
            first, second = index.search(text, k=2)
            assert first.id == text
            assert first.score > second.score
            assert index.search(symbol, k=1)[0].id == text


def test_what_is_known_whole_is_the_models_own(model):
    encoder = Encoder.load(model)
    texts = ["Hold the button for five seconds.", "naïve café", "...", "c++ & 100%", "日 本"]
    assert (encoder.encode_passages(texts) == encoder.encode(texts)).all()


def test_the_less_is_unknown_the_less_it_weighs(model):
    encoder = Encoder.load(model)
    share = [
        float(encoder.encode([text])[0] @ encoder.encode_passages([text])[0])
        for text in ("love 🐈", "I love 🐈 very much", "I love 🐈 " + "very much " * 50)
    ]
    assert 0.7 < share[0] < share[1] < share[2] <= 1.001
    assert share[2] > 0.999


def test_a_text_without_tokens_of_its_own_stays_as_it_is():
    vector = stand_in("anything", 64)
    assert tinged(vector, " ", [1, 0, 2], [(0, 0)] * 3, 0) is vector
