"""Static bundles, made by hand: what docs/format.md says of them, computed once more."""

import contextlib
import errno
import gc
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from counts import tries
from fake import DIM, random_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import bundle, static, tokens
from edgeret.encode.encoder import Encoder
from edgeret.encode.static import Layer
from edgeret.errors import BackendError, BundleError

WORDS = ["[UNK]", "red", "cat", "sleeps", "[CLS]", "[SEP]"]
HIDDEN = 8
KINDS = ["8 bits", "4 bits", "codes"]
PARTS = 24
TOKENIZER = {
    "version": "1.0",
    "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {
        "type": "BertProcessing",
        "sep": ["[SEP]", 5],
        "cls": ["[CLS]", 4],
    },
}
NATIVE = static._static.isas() if static._static is not None else ()
FARTHEST = 1e-5  # cosine distance between the builds
TEXTS = ["red cat", "cat sleeps red red", "unheard of", ""]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) or 1)


def tensors(kind: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dense = {
        "inner": rng.integers(-127, 128, (HIDDEN, DIM), np.int8),
        "outer": rng.integers(-127, 128, (DIM, HIDDEN), np.int8),
    }
    scales = {f"{name}_scales": rng.uniform(0.001, 0.01, len(weights)) for name, weights in dense.items()}
    biases = {f"{name}_bias": rng.normal(size=len(weights)) * 0.1 for name, weights in dense.items()}
    if kind == "codes":
        beside = {"token_centroids": rng.normal(size=(PARTS, 256, DIM // PARTS))}
    else:
        beside = {"token_scales": rng.uniform(0.5, 2, len(WORDS))}
    floats = scales | biases | beside
    width, dtype = {"8 bits": (DIM, np.int8), "4 bits": (DIM // 2, np.uint8), "codes": (PARTS, np.uint8)}[
        kind
    ]
    tokens = rng.integers(0, 256, (len(WORDS), width)).astype(np.uint8).astype(dtype)
    floats = {name: array.astype(np.float32) for name, array in floats.items()}
    if kind == "codes":
        floats["token_centroids"] = floats["token_centroids"].astype(np.float16)
    return dense | floats | {"tokens": tokens}


def embeddings(table: dict[str, np.ndarray]) -> np.ndarray:
    if "token_centroids" in table:
        parts = [
            centroids[codes]
            for centroids, codes in zip(table["token_centroids"], table["tokens"].T, strict=True)
        ]
        return np.concatenate(parts, axis=1).astype(np.float64)
    rows = table["tokens"].astype(np.int64)
    if table["tokens"].dtype == np.uint8:
        rows = np.stack([rows & 15, rows >> 4], axis=2).reshape(len(rows), DIM) - 8
    return rows * table["token_scales"].astype(np.float64)[:, None]


def expected(text: str, table: dict[str, np.ndarray], limit: int = 16) -> np.ndarray:
    ids = [4, *(WORDS.index(word) if word in WORDS else 0 for word in text.split()), 5]
    ids = ids if len(ids) <= limit else [*ids[: limit - 1], 5]
    start = unit(embeddings(table)[ids].sum(0))
    inner = table["inner"] * table["inner_scales"].astype(np.float64)[:, None]
    outer = table["outer"] * table["outer_scales"].astype(np.float64)[:, None]
    return unit(start + outer @ np.maximum(0, inner @ start + table["inner_bias"]) + table["outer_bias"])


def make(folder: Path, table: dict[str, np.ndarray], golden: np.ndarray) -> Path:
    files = {"tokenizer.json": TOKENIZER, "golden.json": {"texts": TEXTS}}
    return bundle.write(
        folder,
        bundle.Content(
            name="hand",
            max_tokens=16,
            geometry="ab" * 16,
            codec=random_codec(),
            kind="static",
            graphs={},
            tensors={"static.bin": table, "golden.bin": {"golden.teacher": golden, "golden.own": golden}},
            files={name: json.dumps(content).encode() for name, content in files.items()},
            about={},
        ),
    ).path


def golden(table: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([expected(text, table) for text in TEXTS]).astype(np.float32)


@pytest.fixture(params=["0", "1"], ids=["native", "numpy"])
def without_native(request, monkeypatch) -> bool:
    """Each build in turn; where there is no kernel, both are NumPy's."""
    monkeypatch.setenv("EDGERET_NO_NATIVE", request.param)
    return request.param == "1" or not NATIVE


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_is_what_the_format_says(tmp_path, kind, without_native):
    table = tensors(kind)
    encoder = Encoder.load(make(tmp_path / "hand", table, golden(table)))
    assert encoder.backend == "static"
    texts = [*TEXTS, " ".join(["cat", "sleeps"] * 20)]
    found = encoder.encode(texts)
    farthest = 1e-6 if without_native else 1e-4
    np.testing.assert_allclose(found, [expected(text, table) for text in texts], atol=farthest)
    assert found.tobytes() == b"".join(encoder.encode([text]).tobytes() for text in texts)
    assert encoder.planned_bytes["head"] == (4 if without_native else 1) * 2 * HIDDEN * DIM


def test_a_table_of_zeros_is_refused_without_a_division(tmp_path):
    table = tensors("8 bits")
    zeros = {name: np.zeros_like(table[name]) for name in ("tokens", "inner", "outer", "outer_bias")}
    path = make(tmp_path / "zero", table | zeros, golden(table))
    with pytest.raises(BackendError, match=r"golden vector .*found -"):
        Encoder.load(path).encode(["cat"])


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("inner", np.zeros((HIDDEN, DIM + 1), np.int8)),
        ("inner", np.zeros((HIDDEN, DIM), np.uint8)),
        ("outer", np.zeros((DIM, HIDDEN + 1), np.int8)),
        ("outer_bias", np.zeros(DIM - 1, np.float32)),
        ("inner_scales", np.zeros(HIDDEN, np.float64)),
        ("tokens", np.zeros((len(WORDS), DIM), np.uint8)),
        ("tokens", np.zeros((len(WORDS), DIM // 2), np.int8)),
        ("token_scales", np.zeros(len(WORDS) - 1, np.float32)),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(tmp_path, name, array):
    table = tensors("8 bits")
    path = make(tmp_path / "hand", table | {name: array}, golden(table))
    with pytest.raises(BundleError, match=f"expected .*{name}.* as"):
        Encoder.load(path).encode(["cat"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_without_an_embedding_is_refused(tmp_path, without_native, kind):
    """A tokenizer that knows more words than the table."""
    whole = tensors(kind)
    table = whole | {name: whole[name][:5] for name in {"tokens", "token_scales"} & whole.keys()}
    with pytest.raises(BundleError, match="expected token ids below 5, got 5: install"):
        Encoder.load(make(tmp_path / "hand", table, golden(whole))).encode(["cat"])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_table_stay_in_its_file(tmp_path, monkeypatch, kind, without_native):
    """What is planned grows with the texts' tokens, not with the vocabulary; and a file that is cut is an error."""
    table = tensors(kind)
    made = make(tmp_path / "hand", table, golden(table))
    held = Encoder.load(made).encode(TEXTS)
    for module in (tokens, static):
        monkeypatch.setattr(module, "_KEPT", 2)
    encoder = Encoder.load(made)
    assert encoder.encode(TEXTS).tobytes() == held.tobytes()
    beside, width = 4 * DIM * 256 if kind == "codes" else 4 * len(WORDS), table["tokens"].shape[1]
    kept = 2 * (width + tokens._KEPT_BYTES)
    if kind == "4 bits" and not without_native:
        kept = 2 * width + 8 * len(WORDS)
    assert encoder.planned_bytes["token table"] == beside + kept
    (made / "static.bin").write_bytes(b"")
    with pytest.raises(BundleError, match=r"static\.bin as long as it was, found less: install"):
        encoder.encode(["red cat sleeps"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_read_any_more_is_named(tmp_path, monkeypatch, kind, without_native):
    table = tensors(kind)
    encoder = Encoder.load(make(tmp_path / "hand", table, golden(table)))
    encoder.encode(["red"])

    def fail(*_: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(BundleError, match=r"static\.bin to be readable, found Input/output error: install"):
        encoder.encode(["cat sleeps"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_encoder_holds_ends_with_it(tmp_path, kind, without_native):
    """Without the collector, which a process may have turned off."""
    table = tensors(kind)
    made = make(tmp_path / "hand", table, golden(table))
    gc.collect()
    gc.disable()
    try:
        before = len([*Path("/dev/fd").iterdir()])
        for _ in range(3):
            Encoder.load(made).encode(TEXTS)
        assert len([*Path("/dev/fd").iterdir()]) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", [(-1,), (2, 3, -1)])
def test_rows_of_no_one_length_are_refused_where_memory_is_planned(tmp_path, shape):
    table = tensors("8 bits")
    made = make(tmp_path / "hand", table | {"tokens": table["tokens"].reshape(shape)}, golden(table))
    encoder = Encoder.load(made)
    with pytest.raises(BundleError, match="expected 'tokens' as rows of one length, found"):
        encoder.planned_bytes  # noqa: B018


# -- the kernel


def table_of(rng: np.random.Generator, vocabulary: int, dim: int) -> SimpleNamespace:
    rows = rng.integers(0, 256, (vocabulary, dim // 2), np.uint8)
    scales = rng.uniform(0.01, 1, vocabulary).astype(np.float32)

    def take(ids: list[int]) -> np.ndarray:
        entries = np.stack([rows[ids] & 15, rows[ids] >> 4], axis=2).reshape(len(ids), dim)
        return (entries.astype(np.float32) - 8) * scales[ids][:, None]

    return SimpleNamespace(rows=rows, scales=scales, take=take, read=lambda id: rows[id].tobytes())


def layer_of(rng: np.random.Generator, outputs: int, inputs: int) -> Layer:
    weights = rng.integers(-128, 128, (outputs, inputs), np.int8)
    scales = rng.uniform(0.001, 0.02, outputs).astype(np.float32)
    return Layer(weights, scales, rng.normal(0, 0.1, outputs).astype(np.float32))


native_only = pytest.mark.skipif(not NATIVE, reason="this edgeret is built without its native kernels")


@native_only
@given(
    half=st.one_of(st.integers(1, 40), st.sampled_from([32, 64, 192, 193, 256, 288, 300])),
    hidden=st.one_of(st.integers(0, 40), st.sampled_from([64, 66, 255, 256, 511, 512, 513, 1025])),
    count=st.sampled_from([1, 2, 7, 8, 9, 15, 256]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=tries(150), deadline=None)
def test_both_builds_give_nearly_the_same_vector(half, hidden, count, seed):
    rng = np.random.default_rng(seed)
    table, dim = table_of(rng, 50, 2 * half), 2 * half
    layers = layer_of(rng, hidden, dim), layer_of(rng, dim, hidden)
    ids = rng.integers(0, 50, count).tolist()
    expected = static.reference(table, *layers)(ids)
    found = {isa: static.native(table, *layers, isa)(ids) for isa in NATIVE}
    assert len({vector.tobytes() for vector in found.values()}) == 1
    vector = found[NATIVE[0]].astype(np.float64)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert 1 - vector @ expected < FARTHEST


@native_only
@given(
    dim=st.one_of(st.integers(1, 80), st.sampled_from([384, 385, 600])),
    hidden=st.one_of(st.integers(0, 40), st.sampled_from([255, 512, 513])),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=tries(100), deadline=None)
def test_the_kernel_corrects_a_sum_of_any_table(dim, hidden, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(50, dim)).astype(np.float32)
    table = SimpleNamespace(take=rows.__getitem__)
    layers = layer_of(rng, hidden, dim), layer_of(rng, dim, hidden)
    ids = rng.integers(0, 50, 9).tolist()
    expected = static.reference(table, *layers)(ids)
    found = {isa: static.native_head(table, *layers, isa)(ids) for isa in NATIVE}
    assert len({vector.tobytes() for vector in found.values()}) == 1
    vector = found[NATIVE[0]].astype(np.float64)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert 1 - vector @ expected < FARTHEST


@native_only
def test_threads_share_one_student():
    rng = np.random.default_rng(0)
    encode = static.native(table_of(rng, 50, 384), layer_of(rng, 512, 384), layer_of(rng, 384, 512))
    texts = [rng.integers(0, 50, 1 + i % 30).tolist() for i in range(200)]
    with ThreadPoolExecutor(4) as pool:
        together = [vector.tobytes() for vector in pool.map(encode, texts)]
    assert together == [encode(ids).tobytes() for ids in texts]


def arguments() -> list[object]:
    """Those of `_static.student`: vocabulary 5, dim 6, hidden 3, and 2 rows that are kept."""
    rng = np.random.default_rng(0)
    table = table_of(rng, 5, 6)
    return [table.read, 2, table.scales, *layer_of(rng, 3, 6), *layer_of(rng, 6, 3), "plain"]


@native_only
@pytest.mark.parametrize("number", range(3, 9))
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array[..., :-1].copy(),
        lambda array: array[:-1],
        lambda array: array[None],
        lambda array: array.astype(np.int16),
        lambda array: array.astype(array.dtype.newbyteorder(">")) if array.itemsize > 1 else array.view("?"),
        lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
        lambda array: array.tolist(),
        lambda array: array[:0],
        lambda array: np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype),
        lambda array: None,
    ],
    ids=["narrow", "short", "deep", "wide", "swapped", "strided", "list", "empty", "shifted", "none"],
)
def test_tensors_that_do_not_fit_are_refused(number, change):
    given = arguments()
    given[number] = change(given[number])
    with pytest.raises(BundleError, match=r"^expected .*: (pass|install) "):
        static._static.student(*given)
    with pytest.raises(BundleError, match=r"^expected .*: (pass|install) "):
        static._static.head(*given[3:])


@native_only
@pytest.mark.parametrize(
    "scales", [np.ones((5, 1), np.float32), np.ones(5), np.ones(5, ">f4"), [1.0] * 5, None]
)
def test_scales_that_do_not_fit_are_refused(scales):
    given = arguments()
    given[2] = scales
    with pytest.raises(BundleError, match=r"^expected token_scales as float32 .*: pass "):
        static._static.student(*given)


@native_only
@pytest.mark.parametrize("most", [0, 1, 3, 300, 10**9])
def test_rows_are_read_once_as_far_as_they_are_kept(most, monkeypatch):
    rng = np.random.default_rng(0)
    table, layers = table_of(rng, 700, 6), (layer_of(rng, 3, 6), layer_of(rng, 6, 3))
    read, expected = [], static.native(table, *layers)
    monkeypatch.setattr(static, "_KEPT", most)
    counted = SimpleNamespace(scales=table.scales, read=lambda id: read.append(id) or table.read(id))
    encode = static.native(counted, *layers)
    ids = [*range(600), 5, 5, 599]
    for _ in range(2):
        assert encode(ids).tobytes() == expected(ids).tobytes()
    kept = min(most, 600)
    assert len(read) == kept + 2 * (600 - kept + sum(id >= kept for id in (5, 5, 599)))


@native_only
@pytest.mark.parametrize("row", [b"", b"xx", b"xxxx", None, "xxx", 3, np.zeros(3, np.uint8)])
def test_what_is_no_row_is_refused(row):
    student = static._static.student(lambda id: row, *arguments()[1:])
    with pytest.raises(BundleError, match="expected 3 bytes of token 4, got something else: pass"):
        static._static.encode(student, [4])


@native_only
def test_what_reading_a_row_raises_ends_the_encoding_and_it_may_be_read_again():
    given = arguments()
    failing = [True]

    def read(id: int) -> bytes:
        if failing.pop():
            raise OSError("no such sector")
        return given[0](id)

    student = static._static.student(read, *given[1:])
    with pytest.raises(OSError, match="sector"):
        static._static.encode(student, [1, 2])
    failing += [False] * 2
    found = static._static.encode(student, [1, 2])
    assert found == static._static.encode(static._static.student(*given), [1, 2])


@native_only
def test_reading_a_row_may_encode_and_change_the_list():
    """As a signal's handler may, which runs where the reader does."""
    given, ids = arguments(), [1, 2, 3]

    def read(id: int) -> bytes:
        if id == 2:
            static._static.encode(student, [2, 3] if len(ids) == 3 and ids.pop() else [3])
        return given[0](id)

    student = static._static.student(read, *given[1:])
    with pytest.raises(IndexError):
        static._static.encode(student, ids)
    expected = static._static.encode(static._static.student(*given), [1, 2])
    assert static._static.encode(student, ids) == expected


@native_only
def test_a_row_that_is_read_twice_at_once_is_kept_once():
    given, read, depth = arguments(), [], []

    def nested(id: int) -> bytes:
        read.append(id)
        if not depth:
            depth.append(id)
            static._static.encode(student, [id])
        return given[0](id)

    student = static._static.student(nested, *given[1:])
    for ids in ([1], [2], [1, 2]):
        static._static.encode(student, ids)
    # There is room for two.
    assert read == [1, 1, 2]


@native_only
@pytest.mark.parametrize(("dim", "hidden"), [(65_538, 1), (2, 65_537)])
def test_sizes_beyond_any_model_are_refused(dim, hidden):
    rng = np.random.default_rng(0)
    layers = [*layer_of(rng, hidden, dim), *layer_of(rng, dim, hidden)]
    with pytest.raises(BundleError, match=f"a dim of 1 to 65536, .*, got {dim} and {hidden}: pass"):
        static._static.student(*arguments()[:3], *layers, "plain")


@native_only
@pytest.mark.parametrize("read", [None, b"xxx", np.zeros((5, 3), np.uint8)])
def test_a_reader_that_cannot_be_called_is_refused(read):
    with pytest.raises(BundleError, match="expected what reads a row, got no callable: pass"):
        static._static.student(read, *arguments()[1:])


@native_only
def test_an_odd_dim_has_no_table_of_halves():
    rng = np.random.default_rng(0)
    with pytest.raises(BundleError, match="even beside a table, and no larger hidden, got 5 and 3: pass"):
        static._static.student(*arguments()[:3], *layer_of(rng, 3, 5), *layer_of(rng, 5, 3), "plain")


@native_only
def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(BundleError, match="'mmx': pass one of isas"):
        static._static.student(*arguments()[:-1], "mmx")


@native_only
@pytest.mark.parametrize(
    "total",
    [
        np.ones(5, np.float32), np.ones(7, np.float32), np.ones((1, 6), np.float32), np.ones(6),
        np.ones(12, np.float32)[::2], np.ones(6, ">f4"), np.ones(6, np.int32), [1.0] * 6, None, b"x" * 24,
    ],
)  # fmt: skip
def test_a_sum_that_does_not_fit_is_refused(total):
    head = static._static.head(*arguments()[3:])
    with pytest.raises(BundleError, match=r"^expected a sum as float32 .*: pass "):
        static._static.correct(head, total)


@native_only
def test_a_head_is_no_student():
    head, student = static._static.head(*arguments()[3:]), static._static.student(*arguments())
    with pytest.raises(ValueError, match="PyCapsule"):
        static._static.encode(head, [0])
    with pytest.raises(ValueError, match="PyCapsule"):
        static._static.correct(student, np.ones(6, np.float32))


@native_only
@pytest.mark.parametrize("ids", [[5], [0, -1], [2**70], [None], [1.0], [0, "0"]])
def test_ids_that_are_none_are_refused(ids):
    with pytest.raises(BundleError, match=r"expected token ids below 5, got .*: install"):
        static._static.encode(static._static.student(*arguments()), ids)


@pytest.mark.parametrize("number", [0, 2, 3, 5, 6])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("isa", [None, *NATIVE])
@pytest.mark.parametrize("build", ["native", "native_head"])
@pytest.mark.parametrize("dim", [6, 128])
def test_a_vector_that_is_not_finite_is_refused(number, value, isa, build, dim):
    rng = np.random.default_rng(0)
    table = table_of(rng, 5, dim)
    floats = [table.scales, *layer_of(rng, 64, dim), *layer_of(rng, dim, 64)]
    floats[number][:] = value
    layers = table, Layer(*floats[1:4]), Layer(*floats[4:])
    with pytest.raises(BundleError, match="finite"), np.errstate(all="ignore"):
        (getattr(static, build)(*layers, isa) if isa else static.reference(*layers))([0, 1])


ANYTHING = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=3),
    st.binary(max_size=40),
    st.lists(st.one_of(st.none(), st.integers(-1, 6))),
    st.builds(
        lambda shape, dtype: np.zeros(shape, dtype),
        st.lists(st.integers(0, 6), max_size=3),
        st.sampled_from(["u1", "i1", "f4", ">f4", "f8", "?", "S1"]),
    ),
)


@native_only
@given(changes=st.dictionaries(st.integers(0, 9), ANYTHING, max_size=2), ids=ANYTHING, other=st.booleans())
@settings(max_examples=tries(300), deadline=None)
def test_the_kernel_refuses_or_answers_anything(changes, ids, other):
    given = [changes.get(number, argument) for number, argument in enumerate(arguments())]
    with contextlib.suppress(TypeError, ValueError, BundleError):
        student = static._static.student(*given)
        assert len(static._static.encode(ids if other else student, ids)) == 4 * 6
    with contextlib.suppress(TypeError, ValueError, BundleError):
        head = static._static.head(*given[3:])
        assert len(static._static.correct(head, ids)) == 4 * 6
