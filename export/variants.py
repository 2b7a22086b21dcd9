"""Ways to quantize one encoder for onnxruntime, measured side by side, and the rule that keeps one."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export import convert, ranking, verify

if TYPE_CHECKING:
    from benchmarks.datasets import Collection
    from export.teacher import Teacher

Float32 = NDArray[np.float32]

LEAST_COSINE: Final = 0.995
LEAST_SHARE: Final = 0.995
MOST_SIZE: Final = 1.05
RULE: Final = (
    "Of those made of standard operators, with the same integer sums on every processor, that every release "
    f"repeats with a mean cosine of at least {verify.LEAST_OWN_COSINE}, and with a mean cosine to fp32 of at least "
    f"{LEAST_COSINE} and at least {LEAST_SHARE} of the nDCG@10 of fp32 in the mean, keep those of at most {MOST_SIZE} "
    "times the size of the smallest, and take the fastest."
)
SHIPPED: Final = "evened S8 by channel, 7 bits"
TOKENS: Final = 15
_BLOCK: Final = 32
_EVERY: Final = 10

# Runs in other interpreters, which have onnxruntime and NumPy and nothing of ours.
_ELSEWHERE: Final = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
tokens = numpy.load(sys.argv[2])
rows = [session.run(None, {"tokens": tokens[key]})[0][0] for key in tokens.files]
numpy.save(sys.argv[3], numpy.stack(rows))
"""


class Variant(NamedTuple):
    """One way. exact: its integer sums are the same on every processor. make: returns the graph, serialized."""

    name: str
    exact: bool
    make: Callable[[], bytes]


class Row(NamedTuple):
    """What was measured.

    cosine: to fp32, the mean over texts. share: of the fp32 graph's nDCG@10, the mean over collections. standard: no
    operator of onnxruntime's own. ms: the fastest round. releases: mean cosine of another release's vectors to this
    one's, 0 if it fails.
    """

    name: str
    exact: bool
    standard: bool
    nbytes: int
    cosine: float
    share: float
    ms: float
    releases: dict[str, float]


def variants(teacher: Teacher, texts: Sequence[str]) -> list[Variant]:
    """Every way, fp32 first. texts: what activations are measured on, where that is done before."""
    peaks = convert.activation_peaks(teacher, texts)
    exact, evened = convert.graph(teacher), convert.graph(teacher, peaks)
    tokens = [
        teacher.table[[teacher.tokenizer.encode(teacher.prompts.document + text).ids]] for text in texts
    ]

    def dynamic(kind: str, by_channel: bool, reduce: bool = False) -> Callable[[], bytes]:
        return lambda: _dynamic(exact, kind, by_channel, reduce)

    # Its operator knows neither distances nor turns.
    fused = [Variant(SHIPPED + ", fused attention", True, lambda: _packed(fuse_attention(evened)))]
    return [
        Variant("fp32", True, lambda: _packed(exact)),
        # Signed weights of 8 bits overflow the 16-bit sums of x86 processors without VNNI.
        Variant("dynamic S8 by tensor", False, dynamic("QInt8", False)),
        Variant("dynamic S8 by channel", False, dynamic("QInt8", True)),
        Variant("dynamic S8 by channel, 7 bits", True, dynamic("QInt8", True, True)),
        Variant("dynamic U8 by tensor", True, dynamic("QUInt8", False)),
        Variant("dynamic U8 by channel", True, dynamic("QUInt8", True)),
        Variant("static QDQ S8 by channel, 7 bits", True, lambda: _static(exact, tokens)),
        Variant(f"blocks of {_BLOCK}, 8 bits", True, lambda: _blocks(exact, 8)),
        Variant(f"blocks of {_BLOCK}, 4 bits", True, lambda: _blocks(exact, 4)),
        Variant(SHIPPED, True, lambda: _packed(evened)),
        *(fused if convert.kind_of(teacher) == convert.KIND else []),
    ]


def measure(
    teacher: Teacher,
    made: Sequence[Variant],
    collections: Sequence[Collection],
    rounds: int,
    interpreters: Sequence[Path],
) -> list[Row]:
    """Measure every variant. interpreters: with other releases of onnxruntime, by which the rows call them."""
    releases = {_release(path): path for path in interpreters}
    graphs = {variant.name: variant.make() for variant in made}
    sessions = {name: convert.session(graph) for name, graph in graphs.items()}
    texts = [
        prompt + text
        for found in collections
        for prompt, side in zip(teacher.prompts, (found.documents, found.queries), strict=True)
        for text in side.values()
    ]
    tokens = [teacher.table[[teacher.tokenizer.encode(text).ids]] for text in texts]
    exact = teacher.encode_bare(texts)
    best = _ndcg10(collections, exact)
    times = _interleave(sessions, teacher, rounds)
    rows = []
    for variant in made:
        vectors = np.concatenate([_run(sessions[variant.name], part) for part in tokens])
        shares = np.array(_ndcg10(collections, vectors)) / best
        rows.append(
            Row(
                variant.name,
                variant.exact,
                len(onnx.load_from_string(graphs[variant.name]).opset_import) == 1,
                len(graphs[variant.name]),
                float(verify.cosines(vectors, exact).mean()),
                float(shares.mean()),
                min(times[variant.name]) * 1e3,
                {
                    release: _likeness(path, graphs[variant.name], tokens[::_EVERY], vectors[::_EVERY])
                    for release, path in releases.items()
                },
            )
        )
    return rows


def choose(rows: Sequence[Row]) -> Row | None:
    """The variant that `RULE` keeps; None if none is good enough."""
    good = [
        row
        for row in rows
        if row.exact
        and row.standard
        and min(row.releases.values(), default=1) >= verify.LEAST_OWN_COSINE
        and row.cosine >= LEAST_COSINE
        and row.share >= LEAST_SHARE
    ]
    smallest = min((row.nbytes for row in good), default=0)
    return min(
        (row for row in good if row.nbytes <= MOST_SIZE * smallest), key=lambda row: row.ms, default=None
    )


def as_markdown(rows: Sequence[Row], collections: Sequence[Collection]) -> str:
    """The table, the rule, and what it keeps."""
    releases = list(rows[0].releases)
    head = [
        "graph",
        "bytes",
        "mean cosine",
        "nDCG@10 / fp32",
        f"ms, {TOKENS} tokens",
        "same sums",
        "standard",
        *releases,
    ]
    lines = [
        [
            row.name,
            f"{row.nbytes:,}",
            f"{row.cosine:.4f}",
            f"{row.share:.4f}",
            f"{row.ms:.2f}",
            _yes(row.exact),
            _yes(row.standard),
            *(f"{row.releases[release]:.4f}" for release in releases),
        ]
        for row in rows
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])
    kept = choose(rows)
    sizes = ", ".join(
        f"{found.name} ({len(found.queries)} queries, {len(found.documents):,} documents)"
        for found in collections
    )
    return (
        f"{table}\n\nMeasured against the fp32 teacher on {sizes}; one thread, interleaved, the fastest round. {RULE}\n"
        f"Kept: {kept.name if kept else 'none'}.\n"
    )


def fuse_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with each layer's attention as one operator of onnxruntime's own."""
    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    nodes, kept, heads = list(model.graph.node), [], 0
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inside = False
    for node in nodes:
        if node.op_type == "Split":
            inside, parts, reshapes = True, list(node.output), 0
            kept.append(node)
        elif not inside:
            kept.append(node)
        elif node.op_type == "Reshape":
            reshapes += 1
            if reshapes == 1:
                heads = int(constants[node.input[1]][2])
            if reshapes == 4:
                inside = False
                kept.append(
                    helper.make_node(
                        "MultiHeadAttention", parts, list(node.output), domain="com.microsoft", num_heads=heads,
                        scale=1.0,
                    )
                )  # fmt: skip
    del fused.graph.node[:]
    fused.graph.node.extend(kept)
    fused.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return fused


def _dynamic(model: onnx.ModelProto, kind: str, by_channel: bool, reduce: bool) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def quantize(source: str, target: str) -> None:
        quantize_dynamic(
            source,
            target,
            ["MatMul"],
            per_channel=by_channel,
            reduce_range=reduce,
            weight_type=QuantType[kind],
        )

    return _through_files(model, quantize)


def _static(model: onnx.ModelProto, tokens: Sequence[Float32]) -> bytes:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(tokens)

        def get_next(self) -> dict[str, Float32] | None:
            row = next(self.rows, None)
            return None if row is None else {convert.INPUT: row}

    def quantize(source: str, target: str) -> None:
        quantization.quantize_static(
            source, target, Reader(), op_types_to_quantize=["MatMul"], per_channel=True, reduce_range=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip

    return _through_files(model, quantize)


def _blocks(model: onnx.ModelProto, bits: int) -> bytes:
    """Dense layers as MatMulNBits: a scale for each block of inputs of each output; activations as it likes."""
    packed = onnx.ModelProto()
    packed.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in packed.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        weight = constants[node.input[1]]
        inputs, outputs = weight.shape
        rows, scales = convert.quantize_rows(weight.T.reshape(-1, _BLOCK), 2 ** (bits - 1) - 1)
        codes = (rows.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8).reshape(outputs, -1, _BLOCK)
        if bits == 4:
            codes = codes[..., ::2] | codes[..., 1::2] << 4
        names = [f"{node.input[1]}_codes", f"{node.input[1]}_scales"]
        packed.graph.initializer.extend(
            numpy_helper.from_array(array, name) for array, name in zip((codes, scales), names, strict=True)
        )
        node.CopyFrom(
            helper.make_node(
                "MatMulNBits", [node.input[0], *names], list(node.output), domain="com.microsoft", K=inputs, N=outputs,
                bits=bits, block_size=_BLOCK, accuracy_level=4,
            )
        )  # fmt: skip
    used = {name for node in packed.graph.node for name in node.input}
    kept = [tensor for tensor in packed.graph.initializer if tensor.name in used]
    del packed.graph.initializer[:]
    packed.graph.initializer.extend(kept)
    packed.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return _packed(packed)


def _through_files(model: onnx.ModelProto, quantize: Callable[[str, str], None]) -> bytes:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "exact.onnx"), Path(folder, "quantized.onnx")
        quant_pre_process(model, source, skip_optimization=True, skip_symbolic_shape=True)
        quantize(str(source), str(target))
        return target.read_bytes()


def _packed(model: onnx.ModelProto) -> bytes:
    blob: bytes = model.SerializeToString(deterministic=True)
    return blob


def _run(session: Any, tokens: Float32) -> Float32:
    vectors: Float32 = session.run(None, {convert.INPUT: tokens})[0]
    return vectors


def _ndcg10(collections: Sequence[Collection], vectors: Float32) -> list[float]:
    found, start = [], 0
    for collection in collections:
        middle = start + len(collection.documents)
        end = middle + len(collection.queries)
        found.append(ranking.ndcg10(collection, vectors[start:middle], vectors[middle:end]))
        start = end
    return found


def _interleave(sessions: dict[str, Any], teacher: Teacher, rounds: int) -> dict[str, list[float]]:
    """Seconds of each graph for a text of `TOKENS` tokens, in turn; the first round does not count."""
    tokens = teacher.table[np.random.default_rng(0).integers(len(teacher.table), size=(1, TOKENS))]
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            _run(session, tokens)
            times[name].append(time.perf_counter() - start)
    return {name: found[1:] for name, found in times.items()}


def _likeness(interpreter: Path, graph: bytes, tokens: Sequence[Float32], expected: Float32) -> float:
    """Mean cosine of the vectors that another interpreter's onnxruntime gives; 0 if it does not run the graph."""
    with tempfile.TemporaryDirectory() as folder:
        model, given, found = (Path(folder, name) for name in ("model.onnx", "tokens.npz", "found.npy"))
        model.write_bytes(graph)
        np.savez(given, *tokens)
        done = subprocess.run(
            [interpreter, "-c", _ELSEWHERE, model, given, found], capture_output=True, check=False
        )
        return float(verify.cosines(np.load(found), expected).mean()) if done.returncode == 0 else 0.0


def _release(interpreter: Path) -> str:
    """The onnxruntime that an interpreter has."""
    script = "import onnxruntime; print(onnxruntime.__version__)"
    done = subprocess.run([interpreter, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def as_json(rows: Sequence[Row]) -> str:
    """One line for each row."""
    return "\n".join(json.dumps(row._asdict()) for row in rows)
