"""Prompts on the workstation: where they come from, who is stopped without them, and what carries them."""

import gzip
import json
import shutil

import numpy as np
import pytest

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS, Prompts
from edgeret.errors import BundleError

pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip(
    "safetensors", reason="export needs the packages of the extra 'export': safetensors is missing"
)

from test_export import make_teacher, passages

from export import base, hash_head, prompts, upgrade
from export.__main__ import main
from export.teacher import Teacher

pytestmark = pytest.mark.usefixtures("few_characters")

PROMPTS = Prompts("the cat ", "a dog ")


def declaring(folder, *, default=None, **declared):
    make_teacher(folder)
    config = {"prompts": declared, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return declaring(tmp_path_factory.mktemp("teacher") / "tiny", document="the cat ", query="a dog ")


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "pets.txt.gz"
    path.write_bytes(gzip.compress("\n".join(passages(900)).encode()))
    return path


@pytest.fixture(scope="module")
def made(folder, text_file, tmp_path_factory) -> Bundle:
    out = tmp_path_factory.mktemp("models") / "mini"
    return base.make(Teacher.read(folder), [text_file], out, 300, 0, out.parent / "cache")


@pytest.mark.parametrize(
    ("declared", "default", "found"),
    [
        ({}, None, NO_PROMPTS),
        ({"query": "", "document": ""}, None, NO_PROMPTS),
        ({"query": "q: ", "document": None}, None, Prompts("", "q: ")),
        ({"query": "q: ", "passage": "p: "}, None, Prompts("p: ", "q: ")),
        ({"query": "q: ", "corpus": "c: ", "s2s": "s: "}, None, Prompts("c: ", "q: ")),
        ({"all": "x: "}, "all", Prompts("x: ", "x: ")),
        ({"all": "x: ", "query": "q: "}, "all", Prompts("x: ", "q: ")),
        # What a query wants, a document does not.
        ({"query": "q: "}, "query", Prompts("", "q: ")),
    ],
)
def test_prompts_come_from_the_folder(tmp_path, declared, default, found):
    folder = declaring(tmp_path / "tiny", default=default, **declared)
    assert Teacher.read(folder).prompts == found
    assert Teacher.read(folder, {"query": "ask: "}).prompts == found._replace(query="ask: ")
    assert Teacher.read(folder, {"query": "", "document": ""}).prompts == NO_PROMPTS


def test_prompts_for_other_ends_stop_the_export(tmp_path):
    folder = declaring(tmp_path / "tiny", s2s="compare: ")
    with pytest.raises(BundleError, match=r"\['s2s'\]: give --document-prompt TEXT .* --no-prompt"):
        Teacher.read(folder)


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("e5-small-v2", "--document-prompt 'passage: ' --query-prompt 'query: '"),
        ("multilingual-e5-base", "--document-prompt 'passage: ' --query-prompt 'query: '"),
        ("multilingual-e5-large-instruct", "--query-prompt 'Instruct: "),
        ("bge-small-en-v1.5", "--query-prompt 'Represent this sentence"),
        ("bge-small-zh-v1.5", "--query-prompt '为这个句子"),
        ("snowflake-arctic-embed-xs", "--query-prompt 'Represent this sentence"),
        ("snowflake-arctic-embed-m-v2.0", "--query-prompt 'query: '"),
        ("nomic-embed-text-v1.5", "--document-prompt 'search_document: ' --query-prompt 'search_query: '"),
        ("embeddinggemma-300m", "--document-prompt 'title: none | text: '"),
    ],
)
def test_a_family_that_wants_prompts_stops_the_export_and_names_the_flags(tmp_path, name, flags):
    folder = make_teacher(tmp_path / name)
    with pytest.raises(BundleError, match=r"declares none: give .* or --no-prompt") as found:
        Teacher.read(folder)
    assert flags in str(found.value)
    renamed = shutil.move(folder, tmp_path / "model")
    (renamed / "README.md").write_text(f"# {name}\n")
    with pytest.raises(BundleError, match="--no-prompt"):
        Teacher.read(renamed)
    assert Teacher.read(renamed, {"document": "", "query": ""}).prompts == NO_PROMPTS


@pytest.mark.parametrize(
    "name", ["all-MiniLM-L6-v2", "gte-small", "bge-m3", "bge-micro-v2", "LaBSE", "all-mpnet-base-v2"]
)
def test_families_that_want_none_are_let_through(tmp_path, name):
    assert Teacher.read(make_teacher(tmp_path / name)).prompts == NO_PROMPTS


def test_the_family_is_known_by_what_the_folder_calls_itself(tmp_path):
    assert prompts.read(tmp_path, {}, "somebody/copy", {}) == NO_PROMPTS
    with pytest.raises(BundleError, match="passage: "):
        prompts.read(tmp_path, {}, "copy intfloat/E5-small", {})


def test_the_document_prompt_is_geometry_and_the_query_prompt_is_not(folder):
    teacher = Teacher.read(folder)
    assert teacher.geometry == Teacher.read(folder, {"query": "another "}).geometry
    assert teacher.geometry != Teacher.read(folder, {"document": "another "}).geometry
    assert teacher.geometry != Teacher.read(folder, {"document": ""}).geometry


def test_a_teacher_encodes_each_side_behind_its_prompt(folder):
    teacher, bare = Teacher.read(folder), Teacher.read(folder, {"document": "", "query": ""})
    texts = passages(20)
    for encode, prompt in ((teacher.encode, PROMPTS.document), (teacher.encode_queries, PROMPTS.query)):
        np.testing.assert_allclose(encode(texts), bare.encode([prompt + text for text in texts]), atol=1e-6)


def test_a_bundle_has_both_sides_and_verify_judges_both(made, folder, text_file, capsys):
    encoder, teacher = Encoder.load(made.path), Teacher.read(folder)
    assert encoder.prompts == PROMPTS
    golden = made.golden()
    np.testing.assert_allclose(golden.asked_teacher, teacher.encode_queries(golden.texts), atol=1e-6)
    assert not np.allclose(golden.asked_teacher, golden.teacher, atol=0.01)
    assert main(["verify", str(made.path), "--teacher", str(folder), "--text", str(text_file)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["golden_own_likeness"] > 0.9999
    assert figures["golden_asked_teacher_cosine_mean"] > 0.98


def test_a_better_query_prompt_ships_without_encoding_anything_again(made, folder, text_file, tmp_path):
    better = Teacher.read(folder, {"query": "the dogs sat on "})
    again = base.make(better, [text_file], tmp_path / "again", 300, 0, tmp_path / "cache")
    assert again.space == made.space
    assert again.manifest.prompts == Prompts("the cat ", "the dogs sat on ")
    assert (
        Encoder.load(again.path).encode(["mat"]).tobytes()
        == Encoder.load(made.path).encode(["mat"]).tobytes()
    )


def test_prompts_are_given_on_the_command_line(tmp_path, text_file, capsys):
    folder, out = make_teacher(tmp_path / "e5-small"), tmp_path / "models" / "mini"
    make = [
        "base",
        "--teacher",
        str(folder),
        "--text",
        str(text_file),
        "--out",
        str(out),
        "--passages",
        "300",
    ]
    make += ["--cache", str(tmp_path / "cache")]
    assert main(make) == 1
    assert "--query-prompt 'query: '" in capsys.readouterr().err
    assert main([*make, "--document-prompt", "cat ", "--query-prompt", "dog ", "--center-queries"]) == 0
    assert Bundle.open(out).manifest.prompts == Prompts("cat ", "dog ")
    asked = Teacher.read(folder, {"query": "dog ", "document": "cat "}).encode_queries(
        hash_head.sample([text_file], 300, 0)
    )
    codec = Bundle.open(out).codec()
    weights = asked @ codec.query_projection - codec.query_thresholds
    np.testing.assert_allclose(weights.mean(axis=0), 0, atol=1e-5)


def test_a_mapped_model_keeps_its_prompts(made, tmp_path, folder, text_file):
    bare = Teacher.read(folder, {"document": "", "query": ""})
    old = base.make(bare, [text_file], tmp_path / "old", 300, 0, tmp_path / "cache")
    texts = passages(200, seed=5)
    before, after = (Encoder.load(bundle.path).encode(texts) for bundle in (old, made))
    turn = upgrade.learn(after, before)
    for new, one, turned in ((made, old, turn), (old, made, turn.T)):
        mapped = upgrade.write(
            new, one, turned, upgrade.measure(turn, after, before, 20), tmp_path / "mapped"
        )
        encoder = Encoder.load(mapped.path)
        assert encoder.space == one.space
        assert encoder.prompts == new.manifest.prompts
        assert np.linalg.norm(encoder.encode_queries(["the cat"]), axis=1) == pytest.approx(1)
