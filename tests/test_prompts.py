"""Prompts: what a model reads before a document and before a query, and what nobody else sees."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from copies import copied
from fake import FakeEncoder

import edgeret
from edgeret.encode.bundle import Bundle, Golden, likeness
from edgeret.encode.encoder import Asked, Encoder
from edgeret.encode.manifest import Prompts, read
from edgeret.encode.records import encode_query
from edgeret.errors import BackendError, BundleError

PROMPTS = Prompts("passage: ", "find this: ")
TEXTS = ["my wireless is broken", "", "a fox 🦊 crossed the river"]


@pytest.fixture(scope="module", params=["small", "nano"])
def bare(request) -> Encoder:
    return Encoder.load(request.param)


@pytest.fixture(scope="module")
def prompted(bare, tmp_path_factory) -> Encoder:
    return Encoder.load(with_prompts(bare, tmp_path_factory.mktemp("models") / "prompted").path)


def with_prompts(
    bare: Encoder, folder: Path, prompts: Prompts = PROMPTS, golden: Golden | None = None
) -> Bundle:
    """A copy of a bundle whose model has prompts."""
    own, asked = (bare.encode([prompt + text for text in TEXTS]) for prompt in prompts)
    return copied(bare.bundle, folder, golden or Golden(TEXTS, own, own, asked, asked), prompts=prompts)


def test_each_side_is_the_model_behind_its_prompt(bare, prompted):
    documents, queries = ([prompt + text for text in TEXTS] for prompt in PROMPTS)
    assert prompted.encode(TEXTS).tobytes() == bare.encode(documents).tobytes()
    assert prompted.encode_queries(TEXTS).tobytes() == bare.encode(queries).tobytes()
    asked = prompted.encode_query(TEXTS[0])
    assert (asked.windows, asked.known) == (1, True)
    assert asked.vectors.tobytes() == bare.encode(queries[:1]).tobytes()
    assert prompted.encode_passages(TEXTS[:1]).tobytes() == bare.encode(documents[:1]).tobytes()


def test_without_prompts_both_sides_are_one(bare):
    assert bare.prompts == Prompts()
    assert bare.encode_queries(TEXTS).tobytes() == bare.encode(TEXTS).tobytes()


def test_a_prompt_takes_room_of_a_passage_and_stands_nowhere(bare, prompted):
    taken = len(bare.token_spans(PROMPTS.document))
    assert prompted.passage_tokens == bare.passage_tokens - taken
    text = "Café 漢字 unbelievably " * 200
    assert prompted.token_spans(text) == bare.token_spans(text)
    whole, cut = prompted.encode(["word " * n for n in (prompted.passage_tokens, 5000)])
    assert whole.tobytes() == cut.tobytes()


def test_what_no_model_knows_is_judged_without_the_prompt(bare, prompted):
    for text in ("🦊🦊", "", " ", "🙂"):
        assert prompted.encode_query(text).known == bare.encode_query(text).known
    one, other = prompted.encode_passages(["🦊🦊", "🙂"])
    assert one.tobytes() == bare.encode_passages(["🦊🦊"]).tobytes()
    assert abs(one @ other) < 0.3
    mixed, plain = (encoder.encode_passages(["a fox 🦊"])[0] for encoder in (prompted, bare))
    assert not np.array_equal(mixed, plain)
    assert not np.array_equal(mixed, prompted.encode(["a fox 🦊"])[0])


def test_a_long_query_has_the_prompt_before_each_part(bare, prompted):
    text = "the button resets the wireless " * 200
    asked = prompted.encode_query(text)
    assert asked.windows > 10
    assert len(asked.vectors) == min(asked.windows, 64)
    spans = edgeret.encode.passages.split(text, bare.token_spans(text), 32)
    first = bare.encode([PROMPTS.query + text[slice(*spans[0])]])[0]
    if asked.windows <= 64:
        assert asked.vectors[0] @ first > 0.9999


def test_texts_hits_and_words_never_see_a_prompt(prompted, path):
    with edgeret.Index.create(path, model=prompted) as index:
        index.add([edgeret.Document("a", "the fox crossed the river")])
        assert index.get("a").text == "the fox crossed the river"
        for mode in ("dense", "hybrid"):
            [hit] = index.search("where is the fox", mode=mode)
            assert (hit.text, hit.start, hit.end) == ("the fox crossed the river", 0, 25)
        for word in ("passage", "find"):
            assert index.search(word, mode="lexical") == []
        [hit] = index.search("the fox crossed the river", mode="dense")
        own = (
            prompted.encode(["the fox crossed the river"])
            @ prompted.encode_queries(["the fox crossed the river"]).T
        )
        assert hit.score == pytest.approx(own.item(), abs=0.01)
        index.check()


def test_prompts_stand_under_the_checksum(bare, tmp_path):
    made = with_prompts(bare, tmp_path / "made")
    assert read(made.path).prompts == PROMPTS
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["prompts"] == {"document": "passage: ", "query": "find this: "}
    manifest["prompts"]["query"] = "ask: "
    (made.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="checksum"):
        Bundle.open(made.path)


@pytest.mark.parametrize("side", ["own", "asked_own"])
def test_a_side_that_is_not_repeated_is_refused(bare, tmp_path, side):
    own, asked = (bare.encode([prompt + text for text in TEXTS]) for prompt in PROMPTS)
    golden = Golden(TEXTS, own, own, asked, asked)
    wrong = golden._replace(**{side: asked if side == "own" else own})
    made = with_prompts(bare, tmp_path / "made", golden=wrong)
    with pytest.raises(BackendError, match="likeness of at least"):
        Encoder.load(made.path).encode(["x"])


def test_a_prompt_that_leaves_no_room_is_refused(bare, tmp_path):
    long = Prompts("word " * 200, "word " * 100)
    made = with_prompts(bare, tmp_path / "made", long)
    expected = "tokens around a text: special tokens and prompts, found 128: raise the memory budget"
    with pytest.raises(BundleError, match=expected):
        Encoder.load(made.path).shortened(2).encode(["x"])


def test_likeness_looks_beside_what_all_texts_have_in_common():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(60, 32)) + 10 * rng.normal(size=32)
    known = (known / np.linalg.norm(known, axis=1, keepdims=True)).astype(np.float32)
    assert (known @ known.T).min() > 0.9
    np.testing.assert_allclose(likeness(known, known), 1)
    assert abs(likeness(np.roll(known, 1, axis=0), known).mean()) < 0.2
    # One text alone has nothing beside itself: a cosine is left.
    assert likeness(known[1:2], known[:1]).item() == pytest.approx(float(known[0] @ known[1]), abs=1e-6)


class Asking(FakeEncoder):
    """A user's encoder that reads queries in a way of its own."""

    def encode_query(self, text):
        return self.encode([f"red {text}"])[0]


def test_a_users_encoder_may_have_a_side_for_queries():
    plain, asking = FakeEncoder(), Asking()
    assert encode_query("cat", plain).vectors.tolist() == plain.encode(["cat"]).tolist()
    found = encode_query("cat", asking)
    assert isinstance(found, Asked)
    assert found.vectors.tolist() == plain.encode(["red cat"]).tolist()


def test_a_users_queries_side_is_what_an_index_asks_with(path):
    with edgeret.Index.create(path, model=Asking(), bits=96) as index:
        index.add(["red cat", "blue cat"])
        assert [hit.text for hit in index.search("cat", mode="dense")] == ["red cat", "blue cat"]


def test_golden_vectors_of_one_side_are_as_they_were():
    golden = Bundle.open("nano").golden()
    assert golden.asked_own is golden.asked_teacher is None
    assert list(golden.tensors()) == ["golden.teacher", "golden.own"]
    assert Bundle.open("nano").manifest.as_json() == replace(Bundle.open("nano").manifest).as_json()
    assert "prompts" not in json.loads(Bundle.open("nano").manifest.as_json())
