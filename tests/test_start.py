"""What a student starts from: bundles that are all that is left of one, and what cannot be gone on with."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("scipy", reason="export needs the packages of the extra 'export': scipy is missing")

import onnx
import torch
from test_export import make_teacher, passages

from edgeret.encode.bundle import WORLD, Bundle
from edgeret.encode.capitals import lowered
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS, Roles
from edgeret.encode.tokenizer import load_tokenizer
from edgeret.errors import BundleError
from export import (
    base,
    block,
    codes,
    convert,
    network,
    query_axes,
    ridge,
    start,
    static,
    students,
    verify,
)
from export.__main__ import main
from export.rewrite import rewrite
from export.teacher import Teacher

ROOT = Path(__file__).parent.parent
LEAST = 0.999
ROLES = Roles(document=2, query=0)
STUDENTS = {
    "nano": ["--student", "nano"],
    "small": ["--student", "small", "--layers", "1"],
    "coded nano": ["--student", "nano", "--codes", "16", "--each", "60"],
    "coded small": ["--student", "small", "--layers", "1", "--codes", "16", "--each", "60"],
}


# -- the bundles of this repository


def bundle_of(name):
    folder = ROOT / ("world/edgeret_world" if name in WORLD else "models") / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder.relative_to(ROOT)}, which is missing")
    return Bundle.open(folder)


def empty(bundle, layers):
    """A teacher of layers as the bundles' teachers have them, with weights of its own."""
    shape, (count, _) = block.Architecture("bert", layers, 12, 1e-12), bundle.placed("tokens").shape
    width, inner, rng = 384, 1536, np.random.default_rng(0)

    def size(name):
        for part, found in (
            (block.TABLE, (count, width)),
            (block.POSITIONS, (512, width)),
            (block.TYPES, (2, width)),
            ("intermediate.dense.weight", (inner, width)),
            ("attention.output.dense.weight", (width, width)),
            ("output.dense.weight", (width, inner)),
            ("intermediate.dense.bias", (inner,)),
            ("bias", (width,)),
            ("LayerNorm.weight", (width,)),
            ("weight", (width, width)),
        ):
            if part in name:
                return found
        raise AssertionError(name)

    weights = {name: rng.standard_normal(size(name), np.float32) for name in block.names(shape)}
    head = block.Head(("mean",), (), width)
    return Teacher("t", "mit", (), "", weights, shape, head, bundle.max_tokens, "", NO_PROMPTS)


def student_of(bundle, teacher, parts):
    """A student before it starts."""
    rows = torch.from_numpy(teacher.table)
    coded = codes.Coded(rows, parts, np.ones(len(rows)), bundle.manifest.roles or ()) if parts else None
    if bundle.manifest.kind == "static":
        return static.Static(coded or teacher.table)
    return network.Network(teacher, 0 if coded else static.BITS, students.WEIGHT_BITS, coded)


def vectors(student, bundle, side):
    """What the student says of the golden texts, as documents or as queries."""
    tokenizer, roles = load_tokenizer(bundle), bundle.manifest.roles
    ids = [tokenizer.tokenize(lowered(text)).ids for text in bundle.golden().texts]
    behind = len(tokenizer.tokenize("").ids) - 1
    most = bundle.max_tokens - behind
    ids = [[*row[:most], *row[max(most, len(row) - behind) :]] for row in ids]
    if roles:
        ids = [[roles[side], *row[1:]] for row in ids]
    with torch.no_grad():
        return np.concatenate([student(*network.pad([row], torch.device("cpu"))).numpy() for row in ids])


@pytest.mark.parametrize(
    ("name", "layers"), [("small", 3), ("nano", 0), ("world-small", 4), ("world-nano", 0)]
)
def test_a_start_from_a_bundle_has_its_vectors(name, layers, monkeypatch):
    # Its centroids are replaced: no time for good ones.
    monkeypatch.setattr(codes, "_ROUNDS", 0)
    bundle = bundle_of(name)
    parts = 96 if "token_centroids" in bundle.manifest.tensors else 0
    kind = "nano" if bundle.manifest.kind == "static" else "small"
    teacher = empty(bundle, layers)
    plan = start.Plan(bundle, teacher, kind, parts, bundle.manifest.roles)
    student = student_of(bundle, teacher, parts).eval()
    start.load(student, start.weights(bundle.path, plan))
    known = bundle.golden()
    cosines = verify.cosines(vectors(student, bundle, 0), known.own)
    print(name, cosines.mean(), cosines.min())
    assert cosines.mean() >= LEAST
    if bundle.manifest.roles:
        asked = query_axes.taken_off(vectors(student, bundle, 1), bundle.tensor("query_axes"))
        assert verify.cosines(asked, known.asked_own).mean() >= LEAST
    if parts:
        np.testing.assert_array_equal(student.coded.codes.numpy(), bundle.tensor("tokens"))
        before = student.coded(torch.arange(len(teacher.table)))
        student.coded.settle()
        torch.testing.assert_close(student.coded(torch.arange(len(teacher.table))), before)


# -- the command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(folder):
    return Teacher.read(folder, {"document": "cat ", "query": "dog "})


@pytest.fixture(scope="module")
def origin(teacher, tmp_path_factory, few_characters):
    text = tmp_path_factory.mktemp("more") / "pets.txt.gz"
    text.write_bytes(gzip.compress("\n".join(passages(900)).encode()))
    return base.make(
        teacher, [text], text.parent / "tiny", 300, 0, text.parent / "cache", center_queries=True
    )


@pytest.fixture(scope="module")
def distill(folder, origin, tmp_path_factory):
    text = tmp_path_factory.mktemp("text") / "pets.txt.gz"
    text.write_bytes(gzip.compress("\n".join(passages(300, 1)).encode()))

    def run(out, *arguments):
        given = ["distill", "--teacher", str(folder), "--space-of", str(origin.path), "--out", str(out)]
        given += ["--cache", str(out.with_name(f"{out.name}-cache")), "--text", str(text), "--tokens", "9000"]
        return main([*given, "--batch", "32", *map(str, arguments)])

    return run


@pytest.fixture(scope="module")
def made(distill, tmp_path_factory):
    """Each student's bundle, made when it is first asked for."""
    done = {}

    def bundle(name):
        if name not in done:
            out = tmp_path_factory.mktemp("made") / "student"
            assert distill(out, *STUDENTS[name], "--steps", 6) == 0
            done[name] = Bundle.open(out)
        return done[name]

    return bundle


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_goes_on_from_its_bundle(distill, made, tmp_path, name, monkeypatch):
    known = made(name)
    # What takes longest of a static student's start, and would be thrown away.
    monkeypatch.delattr(ridge, "solve")
    assert distill(tmp_path / "same", *STUDENTS[name], "--steps", 0, "--start", known.path) == 0
    same = Bundle.open(tmp_path / "same")
    texts = [text for text in passages(60, 9) if len(text) < 40]
    encoders = [Encoder.load(bundle.path) for bundle in (known, same)]
    for one, other in zip(*((encoder.encode, encoder.encode_queries) for encoder in encoders), strict=True):
        assert verify.cosines(one(texts), other(texts)).mean() >= LEAST
    if known.manifest.kind == "static" or "--codes" in STUDENTS[name]:
        np.testing.assert_array_equal(same.tensor("tokens"), known.tensor("tokens"))
    assert same.manifest.roles == known.manifest.roles
    assert distill(tmp_path / "more", *STUDENTS[name], "--steps", 2, "--start", known.path) == 0
    assert (Bundle.open(tmp_path / "more").golden().own != known.golden().own).any()


def test_the_first_tokens_of_roles_keep_their_rows(made, teacher, origin):
    bundle = made("coded nano")
    assert bundle.manifest.roles == ROLES
    rows = start.of_bundle(bundle, start.Plan(origin, teacher, "nano", 16, ROLES))["coded.rows"].numpy()
    centroids = bundle.tensor("token_centroids").astype(np.float32)
    for number, row in enumerate(ROLES):
        np.testing.assert_array_equal(rows[row], centroids[:, number].reshape(-1))


def test_bundles_and_checkpoints_have_a_mean(distill, made, tmp_path):
    known = made("small")
    checkpoint = known.path.with_name("student-cache") / "student.pt"
    given = ["--start", checkpoint, known.path]
    assert distill(tmp_path / "mean", *STUDENTS["small"], "--steps", 0, *given) == 0
    assert verify.cosines(Bundle.open(tmp_path / "mean").golden().own, known.golden().own).mean() >= LEAST


def test_a_narrow_student_is_started_from_a_wide_one_and_gone_on_with(
    distill, made, teacher, tmp_path, capsys
):
    known, inner = made("coded small"), len(teacher.weights["encoder.layer.1.intermediate.dense.weight"])
    folders = [tmp_path / name for name in ("narrow", "again", "more")]
    thin = ["--inner", inner // 2, "--steps", 0]
    assert distill(folders[0], *STUDENTS["coded small"], *thin, "--start", known.path) == 0
    checkpoint = tmp_path / "narrow-cache" / "narrow.pt"
    assert distill(folders[1], *STUDENTS["coded small"], "--steps", 0, "--start", checkpoint) == 0
    assert distill(folders[2], *STUDENTS["coded small"], "--steps", 2, "--start", folders[0]) == 0
    for folder in folders:
        model = onnx.load_from_string(Bundle.open(folder).read("model.int8.onnx"))
        assert [len(product.bias) for product in convert.products(model)][2] == inner // 2
    wrong = ["--steps", 0, "--start", checkpoint, known.path]
    assert distill(tmp_path / "mean", *STUDENTS["coded small"], *wrong) == 1
    assert "expected weights of one shape to take the mean of" in capsys.readouterr().err
    found, again = (Bundle.open(folder).golden() for folder in folders[:2])
    assert verify.cosines(again.own, found.own).mean() >= LEAST
    # From its own checkpoint, which has its entries.
    assert distill(folders[0], *STUDENTS["coded small"], *thin, "--start", known.path) == 0
    np.testing.assert_array_equal(Bundle.open(folders[0]).golden().own, found.own)
    assert verify.cosines(found.own, known.golden().own).mean() > 0.9


@pytest.mark.parametrize(("student", "inner"), [("small", 0), ("small", 10**6), ("nano", 8)])
def test_an_inner_layer_that_cannot_be_is_refused(distill, tmp_path, student, inner, capsys):
    assert distill(tmp_path / "out", *STUDENTS[student], "--inner", inner) == 1
    assert f"found {inner} of '{student}': give another --inner" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("student", "wrong", "expected"),
    [
        (
            "coded small",
            ["--student", "nano"],
            "kind 'static', found 'transformer': give the other --student",
        ),
        ("nano", ["--student", "small"], "kind 'transformer', found 'static': give the other --student"),
        (
            "coded nano",
            ["--codes", "8"],
            "(14, 8) of product codes, found (14, 16) of product codes: give --codes",
        ),
        ("coded nano", ["--codes", "0"], "(14, 32) of 4 bits an entry, found (14, 16) of product codes"),
        ("small", ["--codes", "32"], "(14, 32) of product codes, found (14, 32) of 4 bits an entry"),
        ("nano", ["--each", "60"], "roles {'document': 2, 'query': 0}, found no roles: --each"),
        (
            "small",
            ["--layers", "0", "1"],
            "2 layers of 'encoder', found 1 layers of 'encoder': give as many --layers",
        ),
    ],
)
def test_a_bundle_of_another_student_is_refused_before_it_begins(
    distill, made, tmp_path, student, wrong, expected, capsys
):
    path = made(student).path
    capsys.readouterr()
    assert distill(tmp_path / "out", *STUDENTS[student], "--start", path, *wrong) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out-cache").exists()


def test_too_few_positions_are_refused(made, teacher, origin):
    plan = start.Plan(origin, students.with_layers(teacher, [1], 33), "small", 0, None)
    with pytest.raises(BundleError, match="positions for 33 tokens, found 32: give --max-tokens 32"):
        start.check([made("small").path], plan)


def test_another_tokenizer_is_refused_as_another_space(distill, made, teacher, tmp_path, capsys):
    swapped = teacher.tokenizer_json.replace('"a":4', '"a":5').replace('"b":5', '"b":4')
    assert swapped != teacher.tokenizer_json
    geometry = replace(teacher, tokenizer_json=swapped).geometry
    other = rewrite(made("nano"), tmp_path / "other", geometry=geometry)
    assert distill(tmp_path / "out", *STUDENTS["nano"], "--start", other.path) == 1
    assert f"found {other.space}: start from a student of the bundle" in capsys.readouterr().err


def test_a_mapped_bundle_is_refused(distill, made, tmp_path, capsys):
    turn = np.eye(64, dtype=np.float32)
    mapped = rewrite(made("nano"), tmp_path / "mapped", tensors={"map.bin": {"map": turn}})
    assert distill(tmp_path / "out", *STUDENTS["nano"], "--start", mapped.path) == 1
    assert "through a map" in capsys.readouterr().err


def test_another_graph_is_refused(made, teacher, origin, tmp_path):
    import onnx

    bundle = made("small")
    model = onnx.load(bundle.file("model.int8.onnx"))
    model.producer_name = "another"
    other = rewrite(bundle, tmp_path / "other", files={"model.int8.onnx": model.SerializeToString()})
    teacher = students.with_layers(teacher, [1])
    with pytest.raises(BundleError, match="an INT8 graph of export"):
        start.check([other.path], start.Plan(origin, teacher, "small", 0, None))


def test_what_is_no_checkpoint_is_refused(distill, tmp_path, capsys):
    assert distill(tmp_path / "out", *STUDENTS["nano"], "--start", tmp_path / "none.pt") == 1
    assert "none.pt, found nothing: give another --start" in capsys.readouterr().err
    for content in (b"", b"text", b"PK\x03\x04"):
        (tmp_path / "any.pt").write_bytes(content)
        with pytest.raises(BundleError, match=r"a checkpoint of `distill` in .*any\.pt"):
            start.of_checkpoint(tmp_path / "any.pt")
