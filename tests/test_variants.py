"""Ways to quantize, on the tiny teacher; what each costs in quality is measured on the real one."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip(
    "ir_measures", reason="nDCG needs the packages of the extra 'bench': ir-measures is missing"
)

import onnx
from test_export import make_teacher, passages

from benchmarks.datasets import Collection
from edgeret.encode.bundle import Bundle, available
from export import convert, variants, verify
from export.teacher import Teacher

ROW = variants.Row("x", True, True, 1000, 0.999, 0.999, 1.0, {"1.19.2": 1.0})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Teacher:
    return Teacher.read(make_teacher(tmp_path_factory.mktemp("teacher") / "tiny"))


def run(graph: bytes, teacher: Teacher, texts: list[str]) -> np.ndarray:
    session = convert.session(graph)
    ids = [teacher.tokenizer.encode(text).ids for text in texts]
    return np.concatenate([session.run(None, {convert.INPUT: teacher.table[[row]]})[0] for row in ids])


def test_every_way_gives_vectors_near_the_teachers(teacher):
    texts = passages(20, seed=2)
    made = variants.variants(teacher, passages(20))
    sizes = {}
    for variant in made:
        graph = variant.make()
        sizes[variant.name] = len(graph)
        cosine = verify.cosines(run(graph, teacher, texts), teacher.encode(texts)).mean()
        assert cosine > (0.97 if "4 bits" in variant.name else 0.99), variant.name
    assert min(sizes, key=sizes.get) == "blocks of 32, 4 bits"
    assert max(sizes, key=sizes.get) == "fp32"
    assert variants.SHIPPED in sizes


def test_ways_whose_sums_are_the_same_everywhere_have_no_large_signed_weight(teacher):
    """Two products of an unsigned and a signed byte must fit in 16 bits."""
    for variant in variants.variants(teacher, passages(5)):
        model = onnx.load_from_string(variant.make())
        peaks = [
            int(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max())
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
        ]
        assert variant.exact == (max(peaks, default=0) <= 64), variant.name


def test_fused_attention_is_the_same_graph(teacher):
    graph = convert.graph(teacher)
    fused = variants.fuse_attention(graph)
    kinds = [node.op_type for node in fused.graph.node]
    assert kinds.count("MultiHeadAttention") == teacher.shape.layers
    assert "Softmax" not in kinds
    texts = passages(10)
    np.testing.assert_allclose(
        run(fused.SerializeToString(), teacher, texts),
        run(graph.SerializeToString(), teacher, texts),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "flaw",
    [
        {"exact": False},
        {"standard": False},
        {"cosine": 0.99},
        {"share": 0.99},
        {"releases": {"1.19.2": 0.99}},
        {"releases": {"1.19.2": 0.0}},
        {"nbytes": 1100},
        {"cosine": float("nan")},
    ],
    ids=str,
)
def test_the_rule_leaves_out_what_is_faster_but_flawed(flaw):
    flawed = ROW._replace(name="flawed", ms=0.5, **flaw)
    assert variants.choose([ROW, flawed]) == ROW
    assert variants.choose([ROW, ROW._replace(name="fast", ms=0.5)]).name == "fast"


def test_nothing_good_enough_is_said():
    bad = ROW._replace(cosine=0.9)
    assert variants.choose([bad]) is None
    assert "Kept: none." in variants.as_markdown([bad], [])


def test_measuring_fills_every_column(teacher):
    texts = passages(24)
    collection = Collection(
        "pets",
        {f"d{i}": text for i, text in enumerate(texts[:20])},
        {f"q{i}": text for i, text in enumerate(texts[20:])},
        {f"q{i}": {f"d{i}": 1} for i in range(4)},
    )
    made = [variants.Variant("fp32", True, lambda: variants.variants(teacher, texts[:3])[0].make())]
    (row,) = variants.measure(teacher, made, [collection], 2, [Path(sys.executable)])
    assert (row.share, row.standard, row.exact) == (1, True, True)
    assert row.cosine == pytest.approx(1, abs=1e-5)
    assert list(row.releases.values()) == [pytest.approx(1, abs=1e-5)]
    assert row.ms > 0
    table = variants.as_markdown([row], [collection])
    assert "| fp32 |" in table
    assert "pets (4 queries, 20 documents)" in table


@pytest.mark.parametrize("name", available())
def test_shipped_graphs_are_sound_and_of_operators_that_onnxruntime_1_19_has(name):
    """onnxruntime 1.13 has opset 17. Whether old releases give the same vectors is for `make runtimes`."""
    bundle = Bundle.open(name)
    if "onnx" not in bundle.manifest.graphs:
        return
    model = onnx.load(bundle.file(bundle.manifest.graphs["onnx"].file))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version <= 8
    assert not model.functions
    assert {node.domain for node in model.graph.node} == {""}
