"""Students on a tiny random teacher: seconds, on a CPU."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("scipy", reason="export needs the packages of the extra 'export': scipy is missing")

import torch
from test_export import make_teacher, passages

from edgeret.encode import static as kernels
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.errors import BundleError
from export import base, convert, mix, network, ridge, start, static, students, text, training
from export.__main__ import main
from export.teacher import Teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(folder) -> Teacher:
    return Teacher.read(folder)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "pets.txt.gz"
    path.write_bytes(gzip.compress("\n".join(passages(900)).encode()))
    return path


@pytest.fixture(scope="module")
def space_of(folder, text_file, few_characters, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "tiny"
    return base.make(Teacher.read(folder), [text_file], out, 300, 0, out.parent / "cache").path


@pytest.fixture(scope="module")
def material(teacher, text_file, tmp_path_factory):
    return students.gather(teacher, [text_file], [], True, 40_000, 0, tmp_path_factory.mktemp("cache"), "cpu")


def closeness(student, teacher, material) -> float:
    found = training.encode(student, training.Tokens.of(material.held_out, teacher.tokenizer))
    return float((found * teacher.encode(material.held_out)).sum(1).mean())


# -- text


def test_a_passage_that_shares_a_run_is_left_out_and_no_other():
    long = " ".join(f"w{n}" for n in range(40))
    repeated = "Before! " + long[: len("w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12")].upper() + ", after"
    shorter = " ".join(f"w{n}" for n in range(12)) + " other"
    across = " ".join(f"w{n}" for n in range(34, 40)) + " " + " ".join(f"w{n}" for n in range(7))
    found, removed = text.without_runs({"a": [repeated, shorter], "b": [across, ""]}, ["none", long, long])
    assert (found, removed) == ({"a": [shorter], "b": [across, ""]}, 1)


def test_a_run_does_not_cross_two_texts():
    words = [f"w{n}" for n in range(26)]
    passage = " ".join(words[6:20])
    found, removed = text.without_runs({"a": [passage]}, [" ".join(words[:13]), " ".join(words[13:])])
    assert (found, removed) == ({"a": [passage]}, 0)


def test_share_alike_sources_can_be_left_out(tmp_path):
    for name in ("nq_open_questions", "tldr_descriptions", "mine"):
        (tmp_path / f"{name}.txt").write_text("one\n\ntwo\n")
    files = sorted(tmp_path.iterdir())
    assert set(text.read(files)) == {"nq_open_questions", "tldr_descriptions", "mine"}
    assert text.read(files, share_alike=False) == {
        "tldr_descriptions": ["one", "two"],
        "mine": ["one", "two"],
    }


def test_a_missing_text_is_refused(tmp_path):
    with pytest.raises(BundleError, match="check --text"):
        text.read([tmp_path / "none.txt"])


def test_collections_are_read_whole(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "1", "title": "T", "text": "body"}) + "\n")
    (tmp_path / "queries.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "q", "text": "ask"}\n'))
    (tmp_path / "sts.tsv").write_text("score\ts1\ts2\n5\tone\ttwo\n")
    assert sorted(text.collection_texts([tmp_path])) == [" ask", "T body", "one", "two"]


def test_what_is_held_out_is_whole_and_apart():
    known = {"a": [f"line {n}" for n in range(1000)], "b": ["one", "two"]}
    kept, apart = text.split(known, 0.02)
    assert {name: kept[name] + apart[name] for name in known} == known
    assert [len(lines) for lines in apart.values()] == [20, 0]


# -- mix


def test_a_mix_is_a_third_each_and_repeats_with_its_seed():
    lines = [" ".join(f"word{n}" for n in range(30))] * 300
    known = {"prose": lines, "tatoeba_english": ["a short sentence"] * 500}
    drawn = mix.texts(known, 60_000, 1)
    assert drawn == mix.texts(known, 60_000, 1) != mix.texts(known, 60_000, 2)
    sizes = np.array([len(passage.split()) * mix.TOKENS_PER_WORD for passage in drawn])
    for low, high in ((0, 25), (25, 110), (110, 300)):
        assert 0.28 < sizes[(sizes > low) & (sizes <= high)].sum() / 60_000 < 0.39


def test_a_mix_of_loose_lines_alone_has_no_windows():
    drawn = mix.texts({"tatoeba_english": ["a short sentence"]}, 900, 0)
    assert set(drawn) == {"a short sentence"}


# -- the network in torch


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_network_is_the_teacher_whatever_the_padding(tmp_path, pooling):
    teacher = Teacher.read(make_teacher(tmp_path / "tiny", pooling))
    wide, texts = network.Network(teacher).eval(), passages(60)
    tokens = training.Tokens.of(texts, teacher.tokenizer)
    wide.mixed = False
    np.testing.assert_allclose(training.encode(wide, tokens), teacher.encode(texts), atol=1e-5)
    near = network.encode(wide, [tokens[row] for row in range(len(tokens))])
    assert (near * teacher.encode(texts)).sum(1).min() > 0.999


def test_a_teacher_of_xlm_roberta_gives_both_sides(tmp_path):
    pytest.importorskip(
        "sentence_transformers",
        reason="needs the packages of the extra 'export': sentence-transformers is missing",
    )
    import strangers

    strangers.save(
        tmp_path / "teacher", "xlm-roberta", "unigram", prompts={"query": "red ", "document": "warm "}
    )
    teacher = Teacher.read(tmp_path / "teacher")
    (tmp_path / "pets.txt").write_text("\n".join(text for text in strangers.texts(150) if text))
    files, cache = [tmp_path / "pets.txt"], tmp_path / "cache"
    material = students.gather(teacher, files, [], True, 2000, 0, cache, "cpu")
    assert material.sides == 2
    one, asked = material.texts[:2]
    assert material.tokens[0].tolist() == teacher.tokenizer.encode("warm " + one).ids
    assert material.tokens[1].tolist() == teacher.tokenizer.encode("red " + asked).ids
    known = np.concatenate([teacher.encode([one]), teacher.encode_queries([asked])])
    assert (material.vectors[:2] * known).sum(1).min() > 0.99
    student = students.layered(teacher, students.spaced(teacher.shape.layers), "cpu").eval()
    assert (training.encode(student, material.tokens.chosen(np.arange(2))) * known).sum(1).min() > 0.9
    assert students.static(teacher, material, "cpu").tensors()


def test_layers_are_chosen_by_depth():
    chosen = [students.spaced(depth) for depth in (1, 2, 3, 6, 12)]
    assert chosen == [[0], [0, 1], [0, 1, 2], [0, 2, 5], [0, 5, 11]]


def test_chosen_layers_come_in_their_order(teacher):
    chosen = students.with_layers(teacher, [1])
    assert chosen.shape.layers == 1
    name = "encoder.layer.{}.output.dense.weight"
    np.testing.assert_array_equal(chosen.weights[name.format(0)], teacher.weights[name.format(1)])
    assert name.format(1) not in chosen.weights
    assert students.with_layers(teacher, [0, 1]).weights.keys() == teacher.weights.keys()


@given(st.integers(0, 1000), st.sampled_from([2, 4, 7, 8]))
def test_fake_quantization_is_the_stored_one_and_passes_the_gradient(seed, bits):
    table = np.random.default_rng(seed).normal(size=(5, 8)).astype(np.float32)
    rows, scales = convert.quantize_rows(table, 2 ** (bits - 1) - 1)
    weights = torch.tensor(table, requires_grad=True)
    faked = network.fake_quantize(weights, bits)
    np.testing.assert_allclose(faked.detach().numpy(), rows * scales[:, None], atol=1e-6)
    faked.sum().backward()
    assert (weights.grad == 1).all()


def test_the_closed_form_solves_its_equations(teacher, material):
    table = ridge.solve(material.tokens, material.vectors, np.eye(14, 64, dtype=np.float32), [2, 3])
    counts = np.zeros((len(material.tokens), 14))
    for row in range(len(counts)):
        np.add.at(counts[row], material.tokens[row], 1)
    present = np.array([(counts[:, t] > 0).sum() for t in range(14)])
    weights = np.log1p(len(counts) / (1 + present))
    weights[[2, 3]] = 1
    counts = counts * weights
    counts /= counts.sum(1, keepdims=True) ** 0.75
    expected = np.linalg.solve(
        counts.T @ counts + 0.3 * np.eye(14), counts.T @ material.vectors.astype(float) + 0.3 * np.eye(14, 64)
    )
    np.testing.assert_allclose(table / weights[:, None], expected, atol=2e-2)


# -- training


def test_an_interrupted_training_ends_like_one_that_was_not(teacher, material, tmp_path):
    settings = training.Settings(steps=12, batch=64)
    table = np.random.default_rng(0).normal(size=teacher.table.shape).astype(np.float32)

    def fresh() -> static.Static:
        torch.manual_seed(0)
        return static.Static(table, hidden=16)

    whole, part, rest = fresh(), fresh(), fresh()
    assert training.train(whole, material.tokens, material.vectors, settings, tmp_path / "whole.pt")
    assert not training.train(part, material.tokens, material.vectors, settings, tmp_path / "part.pt", 0.0)
    assert training.train(rest, material.tokens, material.vectors, settings, tmp_path / "part.pt")
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_chosen_texts_are_those(teacher):
    texts = passages(5)
    tokens = training.Tokens.of(texts, teacher.tokenizer)
    for rows in ([3], [4, 0, 2], range(5)):
        chosen = tokens.chosen(np.array(rows))
        assert len(chosen) == len(rows)
        assert [chosen[number].tolist() for number in range(len(rows))] == [
            teacher.tokenizer.encode(texts[row]).ids for row in rows
        ]


@pytest.mark.parametrize("topic", [1, 5])
def test_each_text_comes_once_before_any_comes_again(topic):
    vectors = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float16)
    order = training._Order(vectors, training.Settings(steps=0, batch=10, topic=topic))
    drawn = np.concatenate([order.rows(step) for step in range(5)])
    assert sorted(drawn) == list(range(50))
    assert order.rows(5).tolist() != drawn[:10].tolist()


def test_similar_texts_share_a_batch():
    topics = np.eye(8, dtype=np.float16)
    vectors = topics[np.random.default_rng(0).permutation(np.repeat(np.arange(8), 16))]
    order = training._Order(vectors, training.Settings(steps=0, batch=16, topic=16))
    for step in range(8):
        assert len(np.unique(vectors[order.rows(step)], axis=0)) <= 2


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_the_loss_is_the_texts_own_losses_weighed(kl):
    rng = np.random.default_rng(0)
    found, target = (
        torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((4, 8)).astype(np.float32)), dim=1)
        for _ in range(2)
    )
    settings = training.Settings(steps=0, kl=kl)
    alone = [float(training._loss(found, target, row, settings)) for row in torch.eye(4)]
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    expected = sum(loss * weight for loss, weight in zip(alone, weights.tolist(), strict=True))
    assert float(training._loss(found, target, weights, settings)) == pytest.approx(expected, rel=1e-5)
    assert len(set(alone)) == 4
    assert float(training._loss(target, target, weights, settings)) == pytest.approx(0, abs=1e-5)


def test_training_draws_both_students_nearer(teacher, material, tmp_path):
    settings = training.Settings(steps=20, batch=16, rate=2e-3)
    for name, student in (
        ("nano", static.Static(np.random.default_rng(0).normal(size=teacher.table.shape).astype(np.float32))),
        ("small", students.layered(teacher, [1], "cpu")),
    ):
        before = closeness(student, teacher, material)
        training.train(student, material.tokens, material.vectors, settings, tmp_path / f"{name}.pt")
        assert closeness(student, teacher, material) > before + 0.01


def test_the_closed_form_is_a_near_start(teacher, material):
    assert closeness(students.static(teacher, material, "cpu"), teacher, material) > 0.9


# -- bundles


@pytest.mark.parametrize("student", ["nano", "small"])
def test_distill_writes_a_bundle_of_the_same_space(folder, text_file, space_of, tmp_path, student, capsys):
    out = tmp_path / student
    arguments = [
        "distill",
        "--student",
        student,
        "--layers",
        "1",
        "--teacher",
        str(folder),
        "--text",
        str(text_file),
    ]
    arguments += ["--space-of", str(space_of), "--out", str(out), "--tokens", "30000", "--steps", "5"]
    assert main([*arguments, "--batch", "32", "--cache", str(tmp_path / "cache")]) == 0
    encoder, origin = Encoder.load(out), Bundle.open(space_of)
    assert (encoder.space, encoder.name) == (origin.space, str(out))
    assert encoder.backend == {"nano": "static", "small": "onnx"}[student]
    known = encoder.bundle.golden()
    cosines = (encoder.encode(known.texts) * known.own).sum(1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    assert "pets" in encoder.bundle.file("card.md").read_text()
    assert "tokenizer.bin" in encoder.bundle.manifest.files
    assert encoder.planned_bytes.keys() >= {"tokenizer", "token table"}


def test_a_student_starts_from_the_mean_of_its_checkpoints(teacher, material, tmp_path):
    states = []
    for number in range(2):
        student = students.layered(teacher, [number % teacher.shape.layers], "cpu")
        settings = training.Settings(2, batch=16, seed=number)
        training.train(student, material.tokens, material.vectors, settings, tmp_path / f"{number}.pt")
        states.append({name: value.clone() for name, value in student.state_dict().items()})
    mean = start.mean_of([start.of_checkpoint(tmp_path / f"{number}.pt") for number in range(2)])
    assert mean.keys() == states[0].keys()
    for name, value in mean.items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2)
    student.load_state_dict(mean)
    none = training.Settings(0)
    assert training.train(student, material.tokens, material.vectors, none, tmp_path / "mean.pt")
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, mean[name])


def test_the_static_bundle_says_what_the_network_says(teacher, material, space_of, tmp_path, monkeypatch):
    torch.manual_seed(1)
    student = static.Static(
        np.random.default_rng(1).normal(size=teacher.table.shape).astype(np.float32), hidden=16
    )
    torch.nn.init.normal_(student.outer.weight, std=0.1)
    torch.nn.init.normal_(student.outer.bias)
    made = students.write(student, teacher, material, Bundle.open(space_of), tmp_path / "n", True)
    texts = ["", *passages(40)]
    expected = training.encode(student, training.Tokens.of(texts, teacher.tokenizer))
    encoder = Encoder.load(made.path)
    found = encoder.encode(texts)
    assert (found * expected).sum(1).min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    alone = np.concatenate([encoder.encode([passage]) for passage in texts])
    assert alone.tobytes() == found.tobytes()
    # As where the kernel keeps few of the table's rows.
    monkeypatch.setattr(kernels, "_KEPT", 1)
    assert (Encoder.load(made.path).encode(texts) * found).sum(1).min() > 0.99999


def test_a_static_bundle_needs_no_onnxruntime(teacher, material, space_of, tmp_path, monkeypatch):
    student = static.Static(teacher.table, hidden=8)
    made = students.write(student, teacher, material, Bundle.open(space_of), tmp_path / "n", True)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert Encoder.load(made.path).encode(["the cat"]).shape == (1, teacher.dim)


def test_another_teacher_is_refused(teacher, space_of):
    weights = {name: array + 0.05 for name, array in teacher.weights.items()}
    with pytest.raises(BundleError, match="its own teacher"):
        students.check_teacher(replace(teacher, weights=weights), Bundle.open(space_of))
    halved = {name: array.astype(np.float16).astype(np.float32) for name, array in teacher.weights.items()}
    students.check_teacher(replace(teacher, weights=halved), Bundle.open(space_of))


def test_clean_copies_what_no_collection_repeats(text_file, tmp_path, capsys):
    known = gzip.decompress(text_file.read_bytes()).decode().split("\n")
    repeated = next(line for line in known if len(line.split()) > 20)
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "1", "text": repeated}))
    arguments = [
        "clean",
        "--text",
        str(text_file),
        "--collections",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 0
    left = gzip.decompress((tmp_path / "out" / "pets.txt.gz").read_bytes()).decode().split("\n")
    assert repeated not in left
    assert len(left) == len(known) - int(capsys.readouterr().out.split()[0])


def test_codec_writes_the_same_bundles_in_another_space(folder, text_file, space_of, tmp_path, capsys):
    arguments = ["codec", "--teacher", str(folder), "--text", str(text_file), "--bundle", str(space_of)]
    arguments += [
        "--out",
        str(tmp_path / "coded"),
        "--tokens",
        "30000",
        "--steps",
        "3",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert main(arguments) == 0
    origin = Bundle.open(space_of)
    made = Bundle.open(tmp_path / "coded" / origin.path.name)
    assert (made.geometry == origin.geometry, made.codec_id == origin.codec_id) == (True, False)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["codec"] for line in lines] == ["decoded", "nested", "start", "learned"]
    assert all(0 < line["64@10"] <= line["64@40"] <= 1 for line in lines)


def test_a_table_of_another_shape_is_refused(teacher, material, space_of, tmp_path):
    student = static.Static(teacher.table, hidden=8)
    wrong = replace(teacher, weights=teacher.weights)
    tensors = student.tensors()
    tensors["tokens.bin"]["tokens"] = tensors["tokens.bin"]["tokens"][:, 1:]
    student.tensors = lambda: tensors
    with pytest.raises(BundleError, match="tokens as uint8"):
        students.write(student, wrong, material, Bundle.open(space_of), tmp_path / "n", True)
