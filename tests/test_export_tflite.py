"""TFLite graphs are made of the bundle's own weights: in torch first, then converted where the converter is here."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("torch", reason="export needs the packages of the extra 'export': torch is missing")

import torch
from test_export import make_teacher, passages

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.reranker import Reranker
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BundleError
from export import base, reranker, tflite, verify
from export.__main__ import main
from export.teacher import Teacher


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny")
    teacher = Teacher.read(make_teacher(folder / "teacher"))
    text = folder / "pets.txt"
    text.write_text("\n".join(passages(900)))
    return base.make(teacher, [text], folder / "tiny", passages=300, seed=0, cache=folder / "cache")


def vectors(bundle: Bundle, size: int, texts: list[str]) -> np.ndarray:
    """Encoded by a bucket in torch: float activations, nothing converted."""
    weights = tflite.Weights.read(bundle.file("model.int8.onnx"))
    bucket = tflite.Bucket(weights, tflite.parameters(weights), size).eval()
    pipeline, table, rows = Encoder.load(bundle.path)._pipeline(), TokenTable(bundle), []
    for text in texts:
        tokens = table.take(pipeline.tokenizer.tokenize(text).ids)
        padded = torch.zeros(1, size, bundle.dim)
        padded[0, : len(tokens)] = torch.from_numpy(tokens)
        mask = (torch.arange(size) < len(tokens)).float()[None]
        with torch.no_grad():
            rows.append(bucket(padded, mask)["vector"][0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("name", ["base", "tiny"])
def test_a_bucket_has_the_weights_of_the_onnx_graph(name, tiny):
    bundle = tiny if name == "tiny" else Bundle.open(name)
    texts = ["a cat sat", "the dog on the mat", "cats"]
    cosines = verify.cosines(vectors(bundle, 32, texts), Encoder.load(bundle.path).encode(texts))
    assert cosines.min() > 0.995


def test_padding_changes_nothing(tiny):
    texts = ["a cat sat", "the dog on the mat", ""]
    np.testing.assert_allclose(vectors(tiny, 16, texts), vectors(tiny, 32, texts), atol=1e-6)


def test_another_graph_is_refused(tmp_path):
    import onnx

    model = onnx.load(Bundle.open("base").file("model.int8.onnx"))
    model.producer_name = "another"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BundleError, match=r"export\.convert"):
        tflite.Weights.read(tmp_path / "model.onnx")


@pytest.fixture
def converter():
    for package in ("litert_torch", "ai_edge_quantizer", "ai_edge_litert"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"conversion needs the packages of the extra 'export-tflite': {package} is missing")


# The converter's own, of the libraries that it uses.
@pytest.mark.filterwarnings("ignore")
def test_a_converted_reranker_keeps_to_the_gate_of_onnx(
    converter, few_characters, monkeypatch, tmp_path, capsys
):
    import strangers
    from test_reranker import pairs

    monkeypatch.setattr(reranker, "golden_pairs", lambda: pairs(40))
    strangers.save_reranker(tmp_path / "model")
    made, known = reranker.make(reranker.CrossEncoder.read(tmp_path / "model"), tmp_path / "judge")
    assert main(["tflite", str(made.path), "--out", str(tmp_path / "lite")]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["backend"] == "tflite"
    assert figures["score_correlation"] >= verify.LEAST_CORRELATION
    assert figures["pairs"] == known["pairs"]
    one, other = (Reranker.load(tmp_path / "lite", name) for name in ("onnx", "tflite"))
    texts = [text for _, text in pairs(40)]
    assert np.corrcoef(one.score("a cat sat", texts), other.score("a cat sat", texts))[0, 1] > 0.98
    assert 10**6 < sum(other.planned_bytes.values()) < sum(one.planned_bytes.values()) * 3


# The converter's own, of the libraries that it uses.
@pytest.mark.filterwarnings("ignore")
def test_the_converted_files_repeat_the_bundle(converter, tiny, tmp_path):
    made = tflite.add(tiny, tmp_path / "tiny")
    assert made.space == tiny.space
    for graph in tflite.GRAPHS.values():
        assert made.manifest.files[graph.file].optional
        assert Path(made.path, graph.file).read_bytes()[4:8] == b"TFL3"
    onnx_encoder, encoder = Encoder.load(made.path, "onnx"), Encoder.load(made.path, "tflite")
    texts = passages(100, seed=3)
    assert verify.backends(onnx_encoder, encoder, texts)["backends_cosine_mean"] > 0.99
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    threaded = Encoder.load(made.path, "tflite", threads=2).encode(texts[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == threaded.tobytes()
