"""Models that nobody here chose, as today's libraries write them: exported rightly, or refused with a remedy."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("torch", reason="needs the packages of the extra 'export': torch is missing")
pytest.importorskip(
    "transformers", reason="needs the packages of the extra 'export': transformers is missing"
)
pytest.importorskip(
    "sentence_transformers",
    reason="needs the packages of the extra 'export': sentence-transformers is missing",
)

import strangers
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling
from test_export import real_teacher

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.errors import BundleError
from export import base, block, convert, network, start, tflite, verify
from export.teacher import Teacher, read

pytestmark = [
    pytest.mark.usefixtures("few_characters"),
    # What these libraries say of each other's future.
    pytest.mark.filterwarnings("ignore"),
]

LEAST = 0.99999
KINDS = {
    "bert": "wordpiece",
    "roberta": "bpe",
    "xlm-roberta": "unigram",
    "distilbert": "wordpiece",
    "mpnet": "wordpiece",
    "albert": "unigram",
    "modernbert": "wordpiece",
    "nomic_bert": "wordpiece",
}
LITE = ("bert", "roberta", "xlm-roberta", "distilbert")
TEXTS = strangers.texts(200)
# Of characters that `few_characters` has.
PLAIN = [text for text in TEXTS if text.strip() and text.isascii()]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each kind's folder and its model, saved when it is first asked for."""
    made = {}

    def model(kind: str):
        if kind not in made:
            folder = tmp_path_factory.mktemp("strangers") / f"tiny-{kind}"
            made[kind] = folder, strangers.save(folder, kind, KINDS[kind])
        return made[kind]

    return model


def saved(model: SentenceTransformer, folder, *behind) -> SentenceTransformer:
    """The same encoder with other modules behind it, saved and loaded again."""
    SentenceTransformer(modules=[model[0], *behind], device="cpu").save(str(folder))
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def assert_same(folder, model, dim=None):
    found = read(folder, dim=dim).encode(TEXTS)
    expected = model.encode(TEXTS, truncate_dim=dim, normalize_embeddings=True)
    assert found.shape == expected.shape
    assert verify.cosines(found, expected).min() >= LEAST


@pytest.mark.parametrize("kind", KINDS)
def test_the_fp32_graph_gives_the_librarys_own_vectors(models, kind):
    assert_same(*models(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_that_learns_is_the_same_encoder(models, kind):
    teacher = Teacher.read(models(kind)[0])
    ids, mask = network.pad([teacher.tokenizer.encode(text).ids for text in TEXTS], torch.device("cpu"))
    with torch.no_grad():
        found = network.Network(teacher).eval()(ids, mask).numpy()
    assert verify.cosines(found, teacher.encode(TEXTS)).min() >= LEAST


@pytest.mark.parametrize("kind", KINDS)
def test_int8_keeps_to_the_gate(models, kind):
    teacher = Teacher.read(models(kind)[0])
    model = convert.graph(teacher, convert.activation_peaks(teacher, TEXTS[:50]))
    session = convert.session(model.SerializeToString())
    ids = [teacher.tokenizer.encode(text).ids for text in TEXTS]
    found = np.concatenate([session.run(None, {convert.INPUT: teacher.table[[row]]})[0] for row in ids])
    assert verify.cosines(found, teacher.encode(TEXTS)).mean() >= verify.LEAST_MEAN_COSINE


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_read_back_from_the_int8_graph(models, kind):
    teacher = Teacher.read(models(kind)[0])
    model = convert.graph(teacher, convert.activation_peaks(teacher, TEXTS[:50]))
    none = {name: np.zeros_like(weight) for name, weight in teacher.weights.items()}
    # Positions have the first type in them.
    none |= {name: weight for name, weight in teacher.weights.items() if name == f"{block.TYPES}.weight"}
    found = start.graph_weights(model, replace(teacher, weights=none))
    assert found.keys() == teacher.weights.keys() - {network.TABLE}
    for name, weight in found.items():
        expected = teacher.weights[name][: len(weight)]
        if name == f"{block.RELATIVE}.weight":
            # No text is so long that it has the farthest distances.
            expected = np.where(weight, expected, 0)
        assert np.linalg.norm(weight - expected) < 0.1 * np.linalg.norm(expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_tflite_takes_what_is_built_as_bert_is_and_refuses_the_others_by_name(models, kind, tmp_path):
    teacher = Teacher.read(models(kind)[0])
    path = tmp_path / "model.int8.onnx"
    graph = convert.graph(teacher, convert.activation_peaks(teacher, TEXTS[:50]))
    path.write_bytes(graph.SerializeToString())
    if kind not in LITE:
        with pytest.raises(
            BundleError, match=f"{kind.replace('_', '.')}.* TFLite has no such graph; use onnxruntime"
        ):
            tflite.Weights.read(path)
        return
    weights = tflite.Weights.read(path)
    bucket = tflite.Bucket(weights, tflite.parameters(weights), strangers.TOKENS).eval()
    found = []
    for text in TEXTS[:40]:
        ids = teacher.tokenizer.encode(text).ids
        tokens, mask = torch.zeros(1, strangers.TOKENS, teacher.dim), torch.zeros(1, strangers.TOKENS)
        tokens[0, : len(ids)], mask[0, : len(ids)] = torch.from_numpy(teacher.table[ids]), 1
        with torch.no_grad():
            found.append(bucket(tokens, mask)["vector"][0].numpy())
    assert verify.cosines(np.stack(found), teacher.encode(TEXTS[:40])).mean() >= verify.LEAST_MEAN_COSINE


@pytest.mark.parametrize(
    "pooling", ["cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("cls", "mean")]
)
def test_poolings(models, tmp_path, pooling):
    _, model = models("bert")
    folder = tmp_path / "tiny"
    assert_same(folder, saved(model, folder, Pooling(strangers.WIDTH, pooling_mode=pooling), Normalize()))


def test_poolings_as_they_were_written_before(models, tmp_path):
    folder, model = models("bert")
    old = shutil.copytree(folder, tmp_path / "old")
    config = {"word_embedding_dimension": strangers.WIDTH, "pooling_mode_mean_tokens": True}
    (old / "1_Pooling" / "config.json").write_text(json.dumps(config | {"pooling_mode_cls_token": False}))
    assert_same(old, model)
    assert Teacher.read(old).geometry == Teacher.read(folder).geometry


@pytest.mark.parametrize(
    "activation", [torch.nn.Tanh(), torch.nn.Identity(), torch.nn.GELU(), torch.nn.ReLU()]
)
def test_dense_layers(models, tmp_path, activation):
    _, model = models("bert")
    folder, pooling = tmp_path / "tiny", Pooling(strangers.WIDTH, pooling_mode="mean_sqrt_len_tokens")
    dense = [Dense(strangers.WIDTH, 96, activation_function=activation), Dense(96, 48, bias=False)]
    assert_same(folder, saved(model, folder, pooling, dense[0], Normalize(), dense[1], Normalize()))


def test_vectors_are_cut_before_they_get_their_length(models, tmp_path):
    folder, model = models("bert")
    assert_same(folder, model, dim=32)
    assert Teacher.read(folder, dim=32).geometry != Teacher.read(folder).geometry
    with pytest.raises(BundleError, match="--dim of at most 64"):
        Teacher.read(folder, dim=65)


def test_a_layer_normalization_behind_the_pooling(models, tmp_path):
    _, model = models("nomic_bert")
    norm = LayerNorm(strangers.WIDTH)
    with torch.no_grad():
        for tensor in norm.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.3)
    folder = tmp_path / "tiny"
    assert_same(folder, saved(model, folder, Pooling(strangers.WIDTH), norm), dim=32)


def test_nomics_vectors_are_normalized_before_a_cut_as_its_card_says(models, tmp_path):
    folder, model = models("nomic_bert")
    named = shutil.copytree(folder, tmp_path / "nomic-embed-text-v1.5")
    whole = torch.from_numpy(model.encode(TEXTS))
    normed = torch.nn.functional.layer_norm(whole, whole.shape[1:])[:, :32]
    expected = torch.nn.functional.normalize(normed).numpy()
    given = {"document": "", "query": ""}
    assert verify.cosines(read(named, given, dim=32).encode(TEXTS), expected).min() >= LEAST
    assert Teacher.read(named, given).geometry == Teacher.read(folder).geometry


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(models, tmp_path, dtype):
    folder, _ = models("bert")
    half = shutil.copytree(folder, tmp_path / "half")
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, half / "model.safetensors", {"format": "pt"})
    again = SentenceTransformer(
        str(half), device="cpu", model_kwargs={"dtype": torch.float32}, local_files_only=True
    )
    assert_same(half, again)


@pytest.mark.parametrize("way", ["shards", "bin", "bin in shards", "prefix", "old names", "head"])
def test_weights_are_known_however_they_were_saved(models, tmp_path, way, capsys):
    folder, _ = models("bert")
    other = shutil.copytree(folder, tmp_path / "other")
    from safetensors.torch import load_file, save_file

    tensors = load_file(other / "model.safetensors")
    names = sorted(tensors)
    if way in ("shards", "bin in shards"):
        (other / "model.safetensors").unlink()
        suffix = "safetensors" if way == "shards" else "bin"
        stem = "model" if way == "shards" else "pytorch_model"
        where = {name: f"{stem}-0000{1 + number % 2}-of-00002.{suffix}" for number, name in enumerate(names)}
        for file in sorted({*where.values()}):
            part = {name: tensors[name] for name in names if where[name] == file}
            save_file(part, other / file) if way == "shards" else torch.save(part, other / file)
        (other / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": where}))
    elif way == "bin":
        (other / "model.safetensors").unlink()
        torch.save(tensors, other / "pytorch_model.bin")
    elif way == "prefix":
        save_file({f"auto_model.bert.{name}": tensors[name] for name in names}, other / "model.safetensors")
    elif way == "old names":
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): tensor
            for name, tensor in tensors.items()
        }
        save_file(old, other / "model.safetensors")
    else:
        save_file(
            tensors | {"adapter.weight": torch.ones(2), "pooler.dense.weight": torch.ones(2)},
            other / "model.safetensors",
        )
    assert Teacher.read(other).geometry == Teacher.read(folder).geometry
    assert ("1 tensors that no vector needs: ['adapter.weight']" in capsys.readouterr().err) == (
        way == "head"
    )


def test_saving_again_changes_nothing(models, tmp_path):
    folder, model = models("bert")
    model.save(str(tmp_path / "again"))
    assert Teacher.read(tmp_path / "again").geometry == Teacher.read(folder).geometry


def test_the_shipped_teacher_saved_by_todays_library_has_the_shipped_geometry(tmp_path):
    folder = real_teacher()
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    model.save(str(tmp_path / "again"))
    teacher = Teacher.read(tmp_path / "again")
    assert teacher.geometry == Teacher.read(folder).geometry == Bundle.open("base").geometry
    texts = ["my wireless is broken", "", "a text past its end " * 100]
    assert verify.cosines(teacher.encode(texts), model.encode(texts)).min() >= LEAST


def test_prompts_are_the_librarys_own(models, tmp_path):
    folder, _ = models("roberta")
    asking = shutil.copytree(folder, tmp_path / "asking")
    path = asking / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) | {"prompts": {"query": "red boat: ", "document": "the garden: "}}
    path.write_text(json.dumps(settings))
    model, teacher = (
        SentenceTransformer(str(asking), device="cpu", local_files_only=True),
        Teacher.read(asking),
    )
    for found, expected in (
        (teacher.encode(TEXTS), model.encode_document(TEXTS)),
        (teacher.encode_queries(TEXTS), model.encode_query(TEXTS)),
    ):
        assert verify.cosines(found, expected).min() >= LEAST


def test_limits_are_the_smallest_of_all(models, tmp_path):
    folder, _ = models("bert")
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        other = shutil.copytree(folder, tmp_path / key)
        settings = json.loads((other / file).read_text()) if (other / file).exists() else {}
        (other / file).write_text(json.dumps(settings | {key: 20}))
        assert Teacher.read(other).max_tokens == 20
        (other / file).write_text(json.dumps(settings | {key: 10**30}))
        assert Teacher.read(other).max_tokens == strangers.TOKENS


def test_a_subfolder_and_a_list_of_words(models, tmp_path):
    folder, model = models("bert")
    other = shutil.copytree(folder, tmp_path / "other")
    inner = other / "0_Transformer"
    inner.mkdir()
    for file in ("config.json", "model.safetensors", "tokenizer_config.json", "sentence_bert_config.json"):
        if (other / file).exists():
            (other / file).rename(inner / file)
    words = json.loads((other / "tokenizer.json").read_text())["model"]["vocab"]
    (other / "tokenizer.json").unlink()
    (inner / "vocab.txt").write_text("\n".join(sorted(words, key=words.get)))
    listed = json.loads((other / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (other / "modules.json").write_text(json.dumps(listed))
    found = Teacher.read(other)
    assert verify.cosines(found.encode(TEXTS), model.encode(TEXTS)).min() >= LEAST


@pytest.mark.parametrize(
    ("readme", "name", "languages", "origin"),
    [
        (None, "other", (), ""),
        ("# A model\nIt is small.\n", "A model", (), ""),
        ("---\nlicense: mit\nlanguage:\n- de\n- fr\n---\n# A model\n", "A model", ("de", "fr"), ""),
        ("---\nbase_model: a/b\nlicense: mit\n---\n# A model\n", "A model", (), "a/b"),
        ("---\nlicense: mit\nlanguage: [en]\n", "other", (), ""),
        (
            "---\nlibrary_name: sentence-transformers\nlanguage: en\n---\n# mini\n",
            "sentence-transformers/mini",
            ("en",),
            "",
        ),
    ],
)
def test_cards_of_all_kinds(models, tmp_path, readme, name, languages, origin):
    other = shutil.copytree(models("bert")[0], tmp_path / "other")
    (other / "README.md").unlink(missing_ok=True)
    if readme:
        (other / "README.md").write_text(readme)
    found = Teacher.read(other)
    assert (found.name, found.languages, found.origin) == (name, languages, origin)


def change(file, **settings):
    def apply(folder):
        path = folder / file
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | settings))

    return apply


def tensors(**changed):
    def apply(folder):
        from safetensors.torch import load_file, save_file

        found = load_file(folder / "model.safetensors")
        for name, make in changed.items():
            name = name.replace("__", ".")
            found[name] = make(found.get(name))
        save_file(
            {name: tensor for name, tensor in found.items() if tensor is not None},
            folder / "model.safetensors",
        )

    return apply


def listed(entry):
    def apply(folder):
        path = folder / "modules.json"
        path.write_text(json.dumps([*json.loads(path.read_text()), entry]))

    return apply


def removed(*files):
    return lambda folder: [
        shutil.rmtree(folder / f) if (folder / f).is_dir() else (folder / f).unlink() for f in files
    ]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (change("config.json", model_type="deberta-v2"), r"'deberta-v2': choose a model of these"),
        (change("config.json", hidden_act="swish2"), r"'swish2': choose another"),
        (change("config.json", position_embedding_type="relative_key"), r"'relative_key': choose"),
        (change("config.json", num_attention_heads=5), r"5 heads divide.*: choose"),
        (change("config.json", num_hidden_layers=4), r"a tensor encoder\.layer\.3\..*: fetch the model again"),
        (change("1_Pooling/config.json", pooling_mode="attention"), r"a pooling of cls, max.*attention.*: choose"),
        (change("sentence_bert_config.json", do_lower_case="?") , None),
        (change("config.json", num_hidden_layers=0), r"layers and heads \(0, 4\): choose"),
        (change("config_sentence_transformers.json", truncate_dim="32"), r"'32': give another"),
        (change("config_sentence_transformers.json", prompts=["query: "]), r"by name.*: give --document-prompt"),
        (lambda folder: (folder / "modules.json").write_text("[]"), r"a list of modules .* found \[\]: fetch"),
        (lambda folder: (folder / "modules.json").write_text('["x"]'), r"a list of modules .*: fetch"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"settings in .*config.json, found \[\]: fetch"),
        (lambda folder: (folder / "1_Pooling" / "config.json").write_text("[]"), r"settings in .*1_Pooling.*: fetch"),
        (lambda folder: (folder / "tokenizer_config.json").write_text("[1]"), r"in .*tokenizer_config.*: fetch"),
        (tensors(embeddings__word_embeddings__weight=lambda t: t[:, 0].clone()), r"word_embedd.*\(\d+,\): choose"),
        (tensors(embeddings__LayerNorm__weight=lambda t: torch.ones(5)), r"LayerNorm\.weight of \(64,\).*: choose"),
        (tensors(encoder__layer__0__output__dense__bias=lambda t: torch.ones(5)), r"dense\.bias of \(64,\).*: choose"),
        (listed({"type": "sentence_transformers.models.LSTM", "path": "9"}), r"'LSTM': choose"),
        (listed({"type": "custom_code.Layer", "path": "9"}), r"'custom_code.Layer'.*: choose a model without code"),
        (listed({"type": "sentence_transformers.models.Dense", "path": "../9"}), r"'\.\./9'.*: choose"),
        (tensors(encoder__layer__0__output__dense__weight=lambda t: t * torch.nan), r"a NaN or an .*: fetch"),
        (tensors(embeddings__word_embeddings__weight=lambda t: t[:10].clone()), r"tokens below 10.*: fetch"),
        (tensors(encoder__layer__0__query__lora_A__weight=lambda t: torch.ones(2)), r"lora_A.*: merge the adapter"),
        (tensors(encoder__layer__0__output__dense__weight=lambda t: t[:3].clone()), r"dense\.weight of .*: choose"),
        (tensors(pooler__weight=lambda t: torch.ones(2, dtype=torch.int8)), r"pooler\.weight in I8: it is quantized"),
        (tensors(pooler__weight=lambda t: torch.ones(2).to(torch.float8_e4m3fn)), r"in F8_E4M3: .*; fetch the model"),
        (lambda folder: torch.save({"a.qweight": torch.ones(2, dtype=torch.int32)}, folder / "pytorch_model.bin")
            or (folder / "model.safetensors").unlink(), r"a\.qweight in int32: it is quantized already; fetch the"),
        (change("sentence_bert_config.json", max_seq_length=2), r"more than the 2 .* has 2: raise max_seq_length"),
        (removed("config.json"), r"config\.json.*: give the whole folder"),
        (removed("model.safetensors"), r"model\.safetensors or pytorch_model\.bin.*: give the whole folder"),
        (removed("tokenizer.json"), r"tokenizer\.json or vocab\.txt.*: load its tokenizer with transformers"),
        (removed("1_Pooling"), r"config\.json in .*1_Pooling.*: give the whole folder"),
        (removed("1_Pooling", "modules.json"), r"modules\.json or 1_Pooling.*: fetch the whole model, or save it once"),
        (lambda folder: (folder / "config.json").write_text("{"), r"JSON in .*: fetch the model again"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"a tokenizer in .*: fetch the model again"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x10" * 40), r"tensors in .*: fetch"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), r"tensors in .*: fetch"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_with_a_remedy(models, tmp_path, spoil, found):
    other = shutil.copytree(models("bert")[0], tmp_path / "other")
    spoil(other)
    if found is None:
        Teacher.read(other)
        return
    with pytest.raises(BundleError, match=f"(?s)^expected .*{found}"):
        Teacher.read(other)


def test_small_letters_where_the_settings_ask_for_them(models, tmp_path):
    other = shutil.copytree(models("roberta")[0], tmp_path / "other")
    change("sentence_bert_config.json", do_lower_case=True)(other)
    lowered = Teacher.read(other)
    np.testing.assert_array_equal(lowered.encode(["The CAT"]), lowered.encode(["the cat"]))
    plain = Teacher.read(models("roberta")[0])
    assert not np.allclose(plain.encode(["The CAT"]), plain.encode(["the cat"]))


def test_a_dot_product_is_said_to_become_a_cosine(models, tmp_path, capsys):
    _, model = models("bert")
    folder = tmp_path / "dot"
    saved(model, folder, Pooling(strangers.WIDTH, pooling_mode="cls"))
    change("config_sentence_transformers.json", similarity_fn_name="dot")(folder)
    Teacher.read(folder)
    assert "compares by the dot product; edgeret compares by the cosine" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["albert", "modernbert", "roberta"])
def test_a_bundle_encodes_as_its_teacher_does(models, tmp_path, kind):
    folder, _ = models(kind)
    made = bundle(read(folder), tmp_path)
    encoder = Encoder.load(made.path)
    figures = verify.golden(encoder) | verify.parity(encoder, read(folder), PLAIN)
    assert verify.failures(figures) == []
    assert kind in made.manifest.about["teacher"]["kind"]


def bundle(teacher, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join({text for text in strangers.texts(900) if text.strip()}))
    return base.make(teacher, [text], tmp_path / "made", 200, 0, tmp_path / "cache")


# -- static tables


def table(folder, *, weights=False, mapping=False, library=True):
    """A folder as model2vec writes it, or as sentence-transformers does."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    made = strangers.tokenizer("wordpiece")
    count = made.get_vocab_size()
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    saved = {"embeddings": rng.normal(size=(count, 64)).astype(np.float32)}
    if weights:
        saved["weights"] = rng.uniform(0.1, 2, size=count).astype(np.float32)
    if mapping:
        saved["mapping"] = rng.integers(0, count, size=count)
    save_file(saved, folder / "model.safetensors")
    if library:
        (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    kind = "sentence_transformers.models."
    steps = [("StaticEmbedding", ""), ("Normalize", "1_Normalize")]
    listed = [
        {"idx": number, "name": str(number), "path": path, "type": kind + name}
        for number, (name, path) in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    rows = saved["embeddings"][saved.get("mapping", np.arange(count))]
    return rows * saved.get("weights", np.ones(count, np.float32))[:, None], made


def test_a_static_table_is_the_librarys_own(tmp_path):
    table(tmp_path / "tiny", library=False)
    model = SentenceTransformer(str(tmp_path / "tiny"), device="cpu", local_files_only=True)
    texts = [text for text in TEXTS if text.strip()]
    found = read(tmp_path / "tiny").encode(texts)
    assert verify.cosines(found, model.encode(texts, normalize_embeddings=True)).min() >= LEAST


@pytest.mark.parametrize(("weights", "mapping"), [(False, False), (True, False), (True, True)])
def test_model2vec_leaves_unknown_tokens_out_and_weighs_the_others(tmp_path, weights, mapping):
    rows, tokenizer = table(tmp_path / "tiny", weights=weights, mapping=mapping)
    unknown = tokenizer.token_to_id("[UNK]")
    found = read(tmp_path / "tiny")
    for text in TEXTS[:30]:
        ids = [id for id in tokenizer.encode(text, add_special_tokens=False).ids if id != unknown]
        expected = rows[ids].sum(axis=0) if ids else np.zeros(64)
        expected /= np.linalg.norm(expected) or 1
        np.testing.assert_allclose(found.encode([text])[0], expected, atol=1e-5)


def test_a_static_bundle_runs_without_a_graph(tmp_path):
    table(tmp_path / "tiny", weights=True)
    teacher = read(tmp_path / "tiny")
    made = bundle(teacher, tmp_path)
    encoder = Encoder.load(made.path)
    assert (encoder.backend, made.manifest.graphs) == ("static", {})
    assert verify.failures(verify.golden(encoder) | verify.parity(encoder, teacher, PLAIN)) == []
    for text in ("", "   ", "🦊", "漢"):
        for vectors in (
            encoder.encode([text]),
            encoder.encode_query(text).vectors,
            encoder.encode_passages([text]),
        ):
            assert np.linalg.norm(vectors) == pytest.approx(1)
    long = "cat dog " * 1000
    assert encoder.encode([long]).tobytes() == encoder.encode(["cat dog " * 256]).tobytes()
    assert replace(teacher, table=teacher.table * 2).geometry != teacher.geometry


def test_a_static_table_of_another_kind_is_refused(tmp_path):
    from safetensors.numpy import save_file

    table(tmp_path / "tiny")
    save_file({"rows": np.ones((3, 4), np.float32)}, tmp_path / "tiny" / "model.safetensors")
    with pytest.raises(BundleError, match=r"expected a table 'embeddings'.*: choose another model"):
        read(tmp_path / "tiny")
    table(tmp_path / "other")
    with pytest.raises(BundleError, match="expected a transformer"):
        Teacher.read(tmp_path / "other")
