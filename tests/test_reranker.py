"""Cross-encoders become bundles whose scores are those of transformers; others are refused by name."""

import json

import numpy as np
import pytest

from edgeret import BundleError, Encoder, Reranker

pytest.importorskip("onnx", reason="needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("torch", reason="needs the packages of the extra 'export': torch is missing")
pytest.importorskip(
    "sentence_transformers",
    reason="needs the packages of the extra 'export': sentence-transformers is missing",
)

import strangers
import torch

from edgeret.shell import cli
from export import reranker
from export.__main__ import main

pytestmark = [pytest.mark.usefixtures("few_characters"), pytest.mark.filterwarnings("ignore")]

KINDS = [("bert", "wordpiece"), ("xlm-roberta", "unigram"), ("distilbert", "wordpiece")]


def pairs(count: int) -> list[tuple[str, str]]:
    words = [text.split() for text in strangers.texts(3 * count) if text][: 2 * count]
    return [
        (" ".join(one[:2]), " ".join(other[:4])) for one, other in zip(words[::2], words[1::2], strict=True)
    ]


@pytest.fixture(scope="module", autouse=True)
def known_letters():
    """Golden pairs of letters that the tables of a tokenizer have here, where export asks about few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reranker, "golden_pairs", lambda: pairs(40))
        yield


@pytest.mark.parametrize(("kind", "words"), KINDS)
def test_scores_are_those_of_transformers(tmp_path, kind, words):
    model, tokenizer = strangers.save_reranker(tmp_path / "model", kind, words)
    read = reranker.CrossEncoder.read(tmp_path / "model")
    asked = [pair for pair in pairs(20) if len(tokenizer(*pair)["input_ids"]) <= strangers.TOKENS]
    typed = {"return_token_type_ids": kind == "bert", "return_tensors": "pt"}
    with torch.no_grad():
        known = [float(model(**tokenizer(*pair, **typed)).logits) for pair in asked]
    assert len(known) > 5
    assert np.abs(read.scores(asked) - known).max() < 1e-4 * np.std(known) + 1e-5
    made, figures = reranker.make(read, tmp_path / "made")
    assert figures["score_correlation"] > reranker.LEAST_CORRELATION
    loaded = Reranker.load(made.path)
    found = [loaded(query, [text])[0] for query, text in asked]
    assert np.corrcoef(found, known)[0, 1] > reranker.LEAST_CORRELATION
    assert sum(loaded.planned_bytes.values()) > 10**6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reranker")
    strangers.save_reranker(folder / "model")
    assert main(["reranker", str(folder / "model"), "--out", str(folder / "made")]) == 0
    return folder / "made"


def test_a_score_is_the_same_alone_and_among_others_and_long_texts_are_cut(bundle):
    loaded = Reranker.load(bundle)
    texts = ["cat dog", "river " * 500, "boat"]
    scores = loaded.score("cats " * 300, texts)
    assert scores.tolist() == [float(loaded.score("cats " * 300, [text])[0]) for text in texts]
    assert scores.dtype == np.float32
    assert len(loaded.score("cats", [])) == 0
    assert "transformers" not in (bundle / "card.md").read_text()
    assert json.loads((bundle / "manifest.json").read_text())["encoder"]["kind"] == "reranker"


def test_a_plan_says_what_it_takes_and_how_long(bundle, capsys):
    plan = ["plan", "--docs", "1000", "--words", "30", "--model", "nano", "--rerank", str(bundle)]
    assert cli.main([*plan, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["search"]["parts"]["reranker made"] == sum(Reranker.load(bundle).planned_bytes.values())
    assert told["rerank_ms"] > 0
    assert cli.main(plan) == 0
    assert "ms for 20 passages, on this machine" in capsys.readouterr().out


def test_tflite_refuses_a_reranker_by_name(bundle, tmp_path, capsys):
    assert main(["tflite", str(bundle), "--out", str(tmp_path / "out")]) == 1
    assert "bert, a reranker: TFLite has no such graph; use onnxruntime" in capsys.readouterr().err


def test_an_encoder_is_no_reranker_nor_the_other_way(bundle):
    with pytest.raises(BundleError, match="expected a reranker, bundle 'nano' is an encoder"):
        Reranker.load("nano")
    with pytest.raises(
        BundleError, match="expected an encoder, bundle 'made' is a reranker: pass it as rerank="
    ):
        Encoder.load(bundle)


def test_what_is_no_cross_encoder_of_one_output_is_refused(tmp_path):
    strangers.save_reranker(tmp_path / "two", outputs=2)
    with pytest.raises(BundleError, match=r"with one output, .* has 2"):
        reranker.CrossEncoder.read(tmp_path / "two")
    strangers.save(tmp_path / "encoder", "distilbert")
    with pytest.raises(BundleError, match=r"expected a model for pairs, .* no pre_classifier.weight"):
        reranker.CrossEncoder.read(tmp_path / "encoder")
    settings = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps({**settings, "model_type": "deberta-v2"}))
    with pytest.raises(BundleError, match="'deberta-v2'"):
        reranker.CrossEncoder.read(tmp_path / "two")
