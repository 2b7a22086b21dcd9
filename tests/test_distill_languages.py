"""Students of many languages on a tiny random teacher: texts and pairs, roles, product codes."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("scipy", reason="export needs the packages of the extra 'export': scipy is missing")

import torch
from hypothesis import given
from hypothesis import strategies as st
from test_export import make_teacher, passages
from tokenizers import processors

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS, Roles
from edgeret.encode.tokens import TokenTable
from edgeret.errors import BundleError
from export import (
    base,
    codes,
    hash_head,
    hash_languages,
    languages,
    query_axes,
    ridge,
    start,
    students,
    text,
    training,
)
from export.__main__ import main
from export.rewrite import rewrite
from export.teacher import Teacher

PROMPTS = {"document": "cat ", "query": "dog "}


def packed(path, lines):
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(folder) -> Teacher:
    return Teacher.read(folder, PROMPTS)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    made = tmp_path_factory.mktemp("text")
    pairs = [f"{one}\t{other}" for one, other in zip(passages(60, 3), passages(60, 4), strict=True)]
    return [
        packed(made / "pets-de.txt.gz", passages(200, 1)),
        packed(made / "pets.txt.gz", passages(200, 2)),
        packed(made / "pets-en-de.tsv.gz", pairs),
    ]


@pytest.fixture(scope="module")
def origin(teacher, tmp_path_factory, few_characters):
    file = packed(tmp_path_factory.mktemp("more") / "pets.txt.gz", passages(900))
    out = tmp_path_factory.mktemp("models") / "tiny"
    return base.make(teacher, [file], out, 300, 0, out.parent / "cache", center_queries=True)


@pytest.fixture(scope="module")
def material(teacher, origin, files, tmp_path_factory):
    encoder = Encoder.load(origin.path)
    return students.gather_languages(teacher, encoder, files, [], 100, 0, tmp_path_factory.mktemp("cache"))


# -- texts


def test_each_language_has_short_texts_long_ones_and_pairs(files):
    lines = languages.read(files)
    drawn = languages.draw(lines, 100, 0)
    assert drawn == languages.draw(lines, 100, 0) != languages.draw(lines, 100, 1)
    german = [line for line in drawn if line.language == "de"]
    assert sum(bool(line.english) for line in german) == 35
    assert sum(len(line.text) > 100 for line in german if not line.english) == 25
    assert len(drawn) > 100 + len(german)


def test_more_is_drawn_of_a_file_than_of_its_language(files):
    drawn = languages.draw(languages.read(files), 20, 0)
    found = languages.more(files, {"pets-de": 150, "pets-en-de": 7}, drawn, 0)
    assert found == languages.more(files, {"pets-en-de": 7, "pets-de": 150}, drawn, 0)
    assert found != languages.more(files, {"pets-de": 150, "pets-en-de": 7}, drawn, 1)
    assert not {*found} & {*drawn}
    assert sum(bool(line.english) for line in found) == 7
    assert len(found) == len({*found}) == 157
    assert len(languages.more(files, {"pets": 10**6}, drawn, 0)) < 200
    with pytest.raises(
        BundleError, match=r"by the names \['dogs'\], found \['pets', 'pets-de', 'pets-en-de'\]"
    ):
        languages.more(files, {"dogs": 1}, drawn, 0)


def test_some_texts_come_in_capitals_and_some_in_small_letters():
    texts = [f"The Cat {number}" for number in range(64)]
    found = languages.recased(texts, 0)
    assert found == languages.recased(texts, 0) != languages.recased(texts, 1)
    assert all(other in (texts[row].upper(), texts[row].lower()) for row, other in found.items())
    assert sum(other.isupper() for other in found.values()) == len(found) // 2 == 4
    assert languages.recased(["中文"] * 64, 0) == languages.recased([], 0) == {}


def test_a_pair_without_a_tab_is_refused(tmp_path):
    with pytest.raises(BundleError, match="a tab and 'fr'"):
        languages.read([packed(tmp_path / "a-en-fr.tsv.gz", ["only one"])])


def test_pairs_of_which_the_language_is_unknown_are_refused(tmp_path):
    with pytest.raises(BundleError, match="another language in the name of"):
        languages.read([packed(tmp_path / "pairs.tsv.gz", ["one\tother"])])


def test_a_license_is_that_of_the_source_in_any_language():
    shared = [
        text.shared_alike(Path(name))
        for name in (
            "nq_open_questions-de.txt.gz",
            "tatoeba_english.txt",
            "ntrex-en-de.tsv.gz",
            "pydocs-en-de.tsv",
            "a",
        )
    ]
    assert shared == [True, False, True, False, False]


@given(
    st.text(alphabet="abcdefgh", min_size=40, max_size=60),
    st.integers(0, 25),
    st.integers(20, 35),
    st.sampled_from(["", " ", ", ", "\u3000", "_-_"]),
)
def test_letters_in_a_row_are_found_whatever_stands_between(known, start, length, between):
    part = known[start : start + length]
    lines = ["xyz", "Zz" + between.join(part.upper()) + "zZ"]
    expected = {1} if len(part) >= text.RUN_LETTERS else set()
    assert text.sharing(lines, ["other", known]) == expected


def test_nothing_is_shared_with_nothing():
    assert text.sharing(["a" * 40], []) == set()
    assert text.sharing([], ["a" * 40]) == set()


# -- material


def as_written(material: students.Material) -> int:
    """How many of the texts are as they were written: those in another case come behind them."""
    count = len(material.texts)
    return next(n for n in range(count) if n + len(languages.recased(material.texts[:n], 0)) == count)


def test_a_translation_learns_the_mean_of_both_sides(material, origin):
    encoder = Encoder.load(origin.path)
    encode = (encoder.encode, encoder.encode_queries)
    names, kinds = ["de", "en"], material.kinds
    found = 0
    for row in range(as_written(material) - 1):
        said, after = material.texts[row], material.texts[row + 1]
        own = encode[kinds.around[row]]([said])[0]
        english = encode[kinds.around[row + 1]]([after])[0]
        mixed = (own + english) / np.linalg.norm(own + english)
        is_pair = np.allclose(material.vectors[row], mixed, atol=2e-3)
        assert is_pair or np.allclose(material.vectors[row], own, atol=2e-3)
        found += is_pair and not np.allclose(own, mixed, atol=2e-3)
        if is_pair:
            assert [names[kinds.languages[n]] for n in (row, row + 1)] == ["de", "en"]
    assert found > 20


def test_a_text_in_another_case_has_the_vector_of_the_text(material):
    count, kinds = as_written(material), material.kinds
    changed = languages.recased(material.texts[:count], 0)
    assert material.texts[count:] == [*changed.values()]
    assert len(changed) > 10
    for copy, row in enumerate(changed, start=count):
        assert material.vectors[copy].tobytes() == material.vectors[row].tobytes()
        assert (kinds.languages[copy], kinds.around[copy]) == (kinds.languages[row], kinds.around[row])


def test_texts_begin_with_the_token_of_their_role(material, teacher):
    assert material.roles == Roles(document=2, query=0)
    first = material.tokens.flat[material.tokens.offsets[:-1]]
    np.testing.assert_array_equal(first, np.where(material.kinds.around, 0, 2))
    row = int(np.flatnonzero(material.kinds.around)[0])
    read = students.as_read(teacher, material.roles).tokenizer
    assert material.tokens[row][1:].tolist() == read.encode(material.texts[row]).ids[1:]
    assert {0, 1} == set(material.kinds.around.tolist())
    assert len(material.documents) == (material.kinds.around == 0).sum()


@pytest.mark.parametrize(
    ("processor", "levels"),
    [
        ("BertProcessing", []),
        ("TemplateProcessing", []),
        ("RobertaProcessing", ["ByteLevel"]),
        ("Sequence", ["ByteLevel"]),
    ],
)
def test_nothing_stands_behind_what_a_student_with_roles_reads(teacher, processor, levels):
    table = json.loads(teacher.tokenizer_json)
    (first, last), ids = teacher.tokenizer.encode("").tokens, teacher.tokenizer.encode("").ids
    pair = {"sep": [last, ids[1]], "cls": [first, ids[0]]}
    template = json.loads(
        processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(first, ids[0]), (last, ids[1])]
        ).__getstate__()
    )
    spaces = {"add_prefix_space": False, "trim_offsets": True}
    table["post_processor"] = {
        "BertProcessing": {"type": "BertProcessing", **pair},
        "TemplateProcessing": template,
        "RobertaProcessing": {"type": "RobertaProcessing", **pair, **spaces},
        "Sequence": {
            "type": "Sequence",
            "processors": [{"type": "ByteLevel", "use_regex": True, **spaces}, template],
        },
    }[processor]
    whole = replace(teacher, tokenizer_json=json.dumps(table))
    read = students.as_read(whole, Roles(2, 0))
    assert students.as_read(whole, None) is whole
    last = replace(whole, head=replace(whole.head, poolings=("last",)))
    assert students.as_read(last, Roles(2, 0)).tokenizer_json == whole.tokenizer_json
    steps = json.loads(read.tokenizer_json)["post_processor"]
    steps = steps.get("processors", [steps])
    assert [step["type"] for step in steps] == [*levels, "TemplateProcessing"]
    for passage in ("", "cat", " the dog sat ", "a" * 40):
        found, expected = read.tokenizer.encode(passage), whole.tokenizer.encode(passage)
        assert found.ids == expected.ids[:-1]
        assert found.offsets == expected.offsets[:-1]


def test_what_is_kept_apart_is_of_all_languages(material):
    assert sorted(material.held_out) == sorted(text for texts in material.apart.values() for text in texts)
    assert material.apart.keys() == {"de", "en"}


def test_the_closed_form_learns_from_all_languages(teacher, material, monkeypatch):
    tokens, solve, seen = material.tokens, ridge.solve, []
    monkeypatch.setattr(students, "_SOLVED", 40)
    monkeypatch.setattr(ridge, "solve", lambda some, *others: seen.append(some) or solve(some, *others))
    students.static(teacher, material, "cpu")
    known = {tuple(tokens[row]): language for row, language in enumerate(material.kinds.languages)}
    assert len(seen[0]) == 40
    assert {known[tuple(seen[0][row])] for row in range(40)} == {0, 1}


def test_a_tokenizer_that_begins_no_text_has_no_roles(teacher):
    table = json.loads(teacher.tokenizer_json) | {"post_processor": None}
    with pytest.raises(BundleError, match="begins texts with a token"):
        students.roles_of(replace(teacher, tokenizer_json=json.dumps(table)))


def test_what_repeats_a_collection_is_left_out(teacher, origin, tmp_path):
    lines = [f"{line} {number}" for number, line in enumerate(passages(60, 5))]
    lines[7] = "the dog sat on a mat and the cat ran after it"
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "' + lines[7].upper() + '"}\n')
    file = packed(tmp_path / "pets-de.txt.gz", lines)
    encoder = Encoder.load(origin.path)
    gathered = students.gather_languages(teacher, encoder, [file], [tmp_path], 300, 0, tmp_path / "cache")
    assert gathered.removed == 1
    assert lines[7] not in gathered.texts + gathered.held_out
    with pytest.raises(BundleError, match="found 0:"):
        students.gather_languages(
            teacher,
            encoder,
            [packed(tmp_path / "b-de.txt.gz", [lines[7]])],
            [tmp_path],
            300,
            0,
            tmp_path / "cache",
        )


def test_batches_have_a_share_of_one_language():
    rng = np.random.default_rng(0)
    kinds = rng.integers(4, size=400)
    order = training._Order(
        rng.standard_normal((400, 4)), training.Settings(steps=0, batch=20, together=0.75), kinds
    )
    drawn = [order.rows(step) for step in range(20)]
    assert sorted(np.concatenate(drawn)) == list(range(400))
    assert np.mean([np.bincount(kinds[rows]).max() >= 15 for rows in drawn]) > 0.7


# -- codes


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 8), (2, 8), (4, 8), (8, 8)]))
def test_codes_are_the_nearest_of_each_part(seed, shape):
    parts, dim = shape
    rng = np.random.default_rng(seed)
    centroids = torch.from_numpy(rng.standard_normal((parts, 256, dim // parts)).astype(np.float32))
    rows = torch.from_numpy(rng.standard_normal((9, dim)).astype(np.float32))
    found = codes.nearest(rows, centroids)
    assert found.dtype == torch.uint8
    apart = (rows.view(9, parts, 1, -1) - centroids[None]).square().sum(3)
    torch.testing.assert_close(
        apart.gather(2, found.long()[..., None])[..., 0], apart.amin(2), rtol=1e-3, atol=1e-4
    )
    decoded = codes.decoded(found, centroids)
    torch.testing.assert_close((decoded - rows).square().sum(1), apart.amin(2).sum(1), rtol=1e-3, atol=1e-3)


def test_codes_are_looked_for_in_full_precision():
    torch.manual_seed(0)
    rows, centroids = torch.randn(200, 32), torch.randn(4, 256, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = codes.nearest(rows, centroids)
    assert torch.equal(found, codes.nearest(rows, centroids))


def test_codes_that_are_settled_stay():
    torch.manual_seed(0)
    table = codes.Coded(torch.randn(500, 8), 2, np.ones(500))
    with torch.no_grad():
        table.centroids += 0.1 * torch.randn_like(table.centroids)
    first, again = table.tensors(), table.tensors()
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)


def test_few_different_rows_are_kept_exactly():
    rows = torch.from_numpy(np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32))
    table = codes.Coded(rows.clone(), 2, np.ones(200)).eval()
    assert (table(torch.arange(200)) - rows).square().mean() < 0.05 * rows.square().mean()


def test_rows_learn_through_their_codes():
    torch.manual_seed(0)
    rows, wanted = torch.randn(50, 8), torch.randn(50, 8)
    table = codes.Coded(rows, 4, np.ones(50))
    optimizers, every = table.optimizers(0.05), torch.arange(50)
    for _ in range(200):
        for optimizer in optimizers:
            optimizer.zero_grad()
        (table(every) - wanted).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    made = table.tensors()
    tensors = (torch.from_numpy(made[name]) for name in ("tokens", "token_centroids"))
    left = codes.decoded(*tensors) - wanted
    assert left.square().mean() < 0.1 * wanted.square().mean()


# -- bundles


@pytest.mark.parametrize("student", ["nano", "small"])
def test_distill_writes_a_student_with_roles_and_codes(folder, files, origin, tmp_path, student, capsys):
    out = tmp_path / student
    arguments = ["distill", "--student", student, "--layers", "1", "--teacher", str(folder)]
    arguments += ["--space-of", str(origin.path), "--out", str(out), "--each", "60", "--codes", "16"]
    arguments += ["--more", "pets=5"]
    arguments += [
        "--steps",
        "6",
        "--batch",
        "32",
        "--temperature",
        "0.02",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert main([*arguments, "--text", *map(str, files)]) == 0
    made = Bundle.open(out)
    assert (made.space, made.manifest.prompts) == (origin.space, NO_PROMPTS)
    assert made.manifest.roles == Roles(document=2, query=0)
    assert made.placed("tokens").shape[1] == 16
    encoder = Encoder.load(out)
    known = made.golden()
    for encode, own in ((encoder.encode, known.own), (encoder.encode_queries, known.asked_own)):
        np.testing.assert_allclose((encode(known.texts) * own).sum(1), 1, atol=1e-5)
    assert (known.own != known.asked_own).any()
    assert TokenTable(made).take([0]).shape == (1, 64)
    # A language beside English, and the center.
    assert made.placed("query_axes").shape == (2, 64)
    assert encoder.planned_bytes["query_axes"] == 2 * 64 * 4
    described = made.file("card.md").read_text()
    for said in ("product codes, 16 bytes", "side: document 2, query 0", "a run of 30 letters"):
        assert said in described


def test_a_student_of_a_teacher_without_prompts_has_no_roles(folder, files, tmp_path, few_characters):
    bare = Teacher.read(folder, {"document": "", "query": ""})
    text = packed(tmp_path / "pets.txt.gz", passages(900))
    made = base.make(bare, [text], tmp_path / "tiny", 300, 0, tmp_path / "cache")
    arguments = ["distill", "--student", "nano", "--teacher", str(folder), "--space-of", str(made.path)]
    arguments += ["--out", str(tmp_path / "nano"), "--cache", str(tmp_path / "cache"), "--steps", "1"]
    assert main([*arguments, "--each", "60", "--text", *map(str, files)]) == 0
    student = Bundle.open(tmp_path / "nano")
    assert (student.manifest.sided, student.golden().asked_own) == (False, None)
    assert "query_axes" not in student.manifest.tensors


@pytest.mark.parametrize(
    ("student", "wrong", "expected"),
    [
        ("nano", ["--codes", "5"], "divide its 64 entries, found 5"),
        ("small", ["--codes", "-8"], "divide its 64 entries, found -8"),
        ("small", ["--layers", "0", "9"], r"layers of the teacher, 0 to 1, found [0, 9]"),
        ("small", ["--layers", "-1"], "found [-1]"),
        ("small", ["--max-tokens", "9999"], "a longest input of 4 to "),
        ("small", ["--max-tokens", "3"], "tokens, found 3"),
        ("nano", ["--each", "0"], "a text of each language or more, found 0"),
        ("nano", ["--each", "-5"], "found -5"),
        ("nano", ["--more", "pets=5"], "expected --each beside --more, found none"),
        ("nano", ["--each", "60", "--more", "dogs=5"], "by the names ['dogs'], found ['pets', "),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_begins(
    folder, files, origin, tmp_path, student, wrong, expected, capsys
):
    arguments = ["distill", "--student", student, "--teacher", str(folder), "--space-of", str(origin.path)]
    arguments += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    assert main([*arguments, *wrong, "--text", *map(str, files)]) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("pair", ["pets", "pets=", "pets=x", "pets=-3", "=5", ""])
def test_what_is_no_name_and_count_is_refused(pair, files, capsys):
    with pytest.raises(SystemExit):
        main(
            [
                "distill",
                "--student",
                "nano",
                "--teacher",
                "t",
                "--space-of",
                "s",
                "--out",
                "o",
                "--text",
                "f",
                "--more",
                pair,
            ]
        )
    assert f"argument --more: invalid named_count value: {pair!r}" in capsys.readouterr().err


def test_an_interrupted_training_of_codes_goes_on(teacher, material, tmp_path):
    def fresh():
        torch.manual_seed(0)
        return students.layered(teacher, [1], "cpu", material, 16)

    settings = training.Settings(steps=4, batch=16, temperature=0.02)
    train = training.train
    vectors, kinds = material.vectors, material.kinds
    whole, part, rest = fresh(), fresh(), fresh()
    assert train(whole, material.tokens, vectors, settings, tmp_path / "whole.pt", kinds=kinds)
    assert not train(part, material.tokens, vectors, settings, tmp_path / "part.pt", 0.0, kinds)
    assert train(rest, material.tokens, vectors, settings, tmp_path / "part.pt", kinds=kinds)
    for one, other in zip(whole.parameters(), rest.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    mean = start.mean_of([start.of_checkpoint(tmp_path / f"{name}.pt") for name in ("whole", "part")])
    rest.load_state_dict(mean)


def test_axes_are_taken_off_queries_alone(folder, files, origin, tmp_path):
    arguments = ["distill", "--student", "nano", "--teacher", str(folder), "--space-of", str(origin.path)]
    arguments += ["--out", str(tmp_path / "nano"), "--cache", str(tmp_path / "cache"), "--steps", "1"]
    assert main([*arguments, "--each", "60", "--text", *map(str, files)]) == 0
    made = Bundle.open(tmp_path / "nano")
    axes, known = np.array(made.tensor("query_axes")), made.golden()

    def with_axes(name, array, asked):
        changed = {"query_axes.bin": {"query_axes": array}}
        changed["golden.bin"] = known._replace(asked_own=asked).tensors()
        return rewrite(made, tmp_path / name, tensors=changed)

    encoder, texts = Encoder.load(made.path), [" ".join(line.split()[:8]) for line in passages(3, 6)]
    # Axes of nothing: what the student says of queries.
    raw = Encoder.load(with_axes("raw", np.zeros_like(axes), known.own).path)
    asked = raw.encode_queries(texts)
    assert encoder.encode(texts).tobytes() == raw.encode(texts).tobytes()
    np.testing.assert_allclose(encoder.encode_queries(texts), query_axes.taken_off(asked, axes), atol=1e-6)
    np.testing.assert_allclose(
        encoder.encode_query(texts[0]).vectors[0], encoder.encode_queries(texts)[0], atol=1e-6
    )
    nowhere = Encoder.load(with_axes("nan", np.full_like(axes, np.nan), known.asked_own).path)
    with pytest.raises(BundleError, match="query_axes of finite numbers"):
        nowhere.encode_queries(texts)


def test_axes_of_queries_want_a_side_of_their_own(tmp_path):
    axes = {"query_axes.bin": {"query_axes": np.zeros((1, 384), np.float32)}}
    made = rewrite(Bundle.open("nano"), tmp_path / "nano", tensors=axes)
    with pytest.raises(BundleError, match="beside 'query_axes'"):
        Encoder.load(made.path).encode(["a text"])


# -- codec


def fitting(files, origin, out, *more):
    arguments = ["codec", "--bundle", str(origin.path), "--out", str(out), "--cache", str(out / "cache")]
    return main([*arguments, "--text", *map(str, files), *more])


@pytest.fixture
def short_files(files, tmp_path):
    """Those of `files`, with pairs of a few words: what is like a query."""
    words = [" ".join(line.split()[:6]) for line in passages(120, 5)]
    pairs = [f"{one}\t{other}" for one, other in zip(words[:60], words[60:], strict=True)]
    return [*files[:2], packed(tmp_path / "short-en-de.tsv.gz", pairs)]


def test_codec_writes_bundles_with_a_codec_of_languages(short_files, origin, tmp_path, capsys):
    lines = languages.read(short_files)
    tests = [{"_id": "1", "text": lines[7].text}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, tests)))
    (tmp_path / "queries.jsonl").write_text("")
    assert (
        fitting(
            short_files, origin, tmp_path, "--each", "180", "--collections", str(tmp_path), "--removed", "4"
        )
        == 0
    )
    first, start, fitted, last = capsys.readouterr().out.splitlines()
    assert first.endswith(", 5 passages removed")
    assert json.loads(start)["codec"] == "Codec.fit"
    assert json.loads(fitted)["codec"] == "languages"
    made = Bundle.open(tmp_path / origin.path.name)
    assert last.endswith(f"codec {made.codec_id}, space {made.space}")
    encoder = Encoder.load(origin.path)
    sample, _, removed = hash_languages.gather(encoder, short_files, [tmp_path], 180, 0, tmp_path / "other")
    assert removed == 1
    same = hash_languages.fit(sample, 0)
    np.testing.assert_array_equal(made.codec().projection, same.projection)
    card = " ".join(made.file("card.md").read_text().split())
    assert f"of {len(sample.vectors)} texts, less the mean of their language: pets, short." in card


def test_what_translates_the_same_is_on_one_side(short_files, origin, tmp_path, monkeypatch):
    monkeypatch.setattr(hash_languages, "_encoded", lambda encoder, half, cache: half)
    fitted, apart, _ = hash_languages.gather(
        Encoder.load(origin.path), short_files, [], 180, 0, tmp_path / "cache"
    )
    assert not {*fitted.texts} & {*apart.texts}
    assert len({*zip(fitted.texts, fitted.languages, strict=True)}) == len(fitted.texts)
    for half in (fitted, apart):
        assert half.pairs
        assert all((half.languages[own], half.languages[other]) == ("de", "en") for own, other in half.pairs)
        assert {*half.asked} == {row for row, said in enumerate(half.texts) if len(said) <= 100}


def test_vectors_of_bundles_of_one_space_are_kept_apart(origin, folder, files, tmp_path):
    out = tmp_path / "nano"
    arguments = ["distill", "--student", "nano", "--teacher", str(folder), "--space-of", str(origin.path)]
    arguments += [
        "--out",
        str(out),
        "--each",
        "60",
        "--steps",
        "1",
        "--batch",
        "32",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert main([*arguments, "--text", *map(str, files)]) == 0
    keys = [hash_head.key(Encoder.load(path)) for path in (origin.path, out)]
    assert Bundle.open(out).space == origin.space
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "expected --teacher"),
        (["--each", "0"], "--each of 1 or more, found 0"),
        (["--each", "9", "--steps", "2"], "--each alone"),
        (["--each", "9", "--write", "nested"], "--each alone"),
        (["--each", "9", "--teacher", "folder"], "--each alone"),
        (["--each", "2"], "or a larger --each"),
        (["--each", "9", "--bundle", "small", "nano", "absent"], "absent"),
    ],
)
def test_a_codec_is_fitted_one_way(files, origin, tmp_path, more, expected, capsys):
    assert fitting(files, origin, tmp_path, *more) == 1
    assert expected in capsys.readouterr().err


def test_a_codec_is_of_one_geometry(files, origin, tmp_path, capsys):
    assert fitting(files, origin, tmp_path, "--each", "9", "--bundle", str(origin.path), "small") == 1
    assert "one geometry" in capsys.readouterr().err


def test_a_codec_of_languages_wants_pairs(files, origin, tmp_path, capsys):
    assert fitting(files[:2], origin, tmp_path, "--each", "50") == 1
    assert "expected translations" in capsys.readouterr().err
