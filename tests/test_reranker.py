"""Cross-encoders become bundles whose scores are those of transformers; others are refused by name."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from edgeret import BackendError, BundleError, Encoder, Reranker
from edgeret.encode.bundle import Bundle
from edgeret.encode.reranker import more_bytes

pytest.importorskip("onnx", reason="needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("torch", reason="needs the packages of the extra 'export': torch is missing")
pytest.importorskip(
    "sentence_transformers",
    reason="needs the packages of the extra 'export': sentence-transformers is missing",
)

import strangers
import torch

from edgeret.shell import cli
from export import reranker, tflite, verify
from export.__main__ import main
from export.rewrite import rewrite

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
    assert figures["score_correlation"] > verify.LEAST_CORRELATION
    loaded = Reranker.load(made.path)
    found = [loaded(query, [text])[0] for query, text in asked]
    assert np.corrcoef(found, known)[0, 1] > verify.LEAST_CORRELATION
    assert sum(loaded.planned_bytes.values()) > 10**6
    # What TFLite is made of, in torch: activations in float, as fp32 has them.
    weights = tflite.Weights.read(made.file("model.int8.onnx"))
    bucket = tflite.Bucket(weights, tflite.parameters(weights), strangers.TOKENS).eval()
    lite = [in_bucket(bucket, read.embedded(pair)) for pair in asked]
    assert np.corrcoef(lite, known)[0, 1] > verify.LEAST_CORRELATION


def in_bucket(bucket, tokens) -> float:
    padded = torch.zeros(1, bucket.size, tokens.shape[2])
    padded[0, : tokens.shape[1]] = torch.from_numpy(tokens[0])
    mask = (torch.arange(bucket.size) < tokens.shape[1]).float()[None]
    with torch.no_grad():
        return float(bucket(padded, mask)["vector"])


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


def test_tflite_refuses_a_reranker_of_another_kind_by_name(tmp_path, capsys):
    strangers.save_reranker(tmp_path / "model", "mpnet")
    reranker.make(reranker.CrossEncoder.read(tmp_path / "model"), tmp_path / "made")
    assert main(["tflite", str(tmp_path / "made"), "--out", str(tmp_path / "out")]) == 1
    assert "mpnet, a reranker: TFLite has no such graph; use onnxruntime" in capsys.readouterr().err


def test_a_bundle_is_verified_by_its_own_pairs(bundle, tmp_path, capsys):
    capsys.readouterr()
    assert main(["verify", str(bundle)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["backend"], told["missed"]) == ("onnx", [])
    opened = Bundle.open(bundle)
    proof = Reranker.load(bundle).proof()
    strange = {"golden.teacher": proof.teacher[::-1], "golden.own": proof.own}
    rewrite(opened, tmp_path / "strange", tensors={"golden.bin": strange})
    assert main(["verify", str(tmp_path / "strange")]) == 1
    assert "expected score_correlation of at least 0.99" in capsys.readouterr().err


def test_a_backend_that_the_bundle_has_not_is_refused_by_name(bundle):
    with pytest.raises(BackendError, match="found 'tflite': choose 'onnx'"):
        Reranker.load(bundle, "tflite")
    with pytest.raises(BackendError, match="expected 'onnx' or 'tflite', found 'static'"):
        Reranker.load(bundle, "static")


def test_memory_counts_a_runtime_that_the_encoder_did_not_bring(bundle):
    loaded = Reranker.load(bundle)
    whole = sum(loaded.planned_bytes.values())
    assert more_bytes(loaded, Encoder.load("nano")) == whole
    assert (
        more_bytes(loaded, Encoder.load("small", "onnx")) == whole - loaded.planned_bytes["runtime library"]
    )
    assert more_bytes(loaded, SimpleNamespace(backend="tflite", planned_bytes=loaded.planned_bytes)) == whole


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
    with pytest.raises(BundleError, match=r"'deberta-v2': .* in a function .* pass that as rerank="):
        reranker.CrossEncoder.read(tmp_path / "two")
    (tmp_path / "two" / "config.json").write_text(json.dumps({**settings, "model_type": "modernbert"}))
    with pytest.raises(BundleError, match=r"expected a reranker of type bert, .* of type 'modernbert'"):
        reranker.CrossEncoder.read(tmp_path / "two")


def test_a_limit_that_leaves_no_room_is_refused(tmp_path):
    strangers.save_reranker(tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
    with pytest.raises(BundleError, match=r"more than the 5 tokens .* has 5: raise max_seq_length"):
        reranker.CrossEncoder.read(tmp_path / "model")
