"""What is fuzzed: functions of arbitrary bytes, which raise only where edgeret is wrong.

Errors that edgeret raises by name are answers. What escapes is a find: any other exception, a crash of
the interpreter, or two builds of one function that disagree.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS / "fuzz")]

from fake import DIM, FakeEncoder, random_codec  # noqa: E402
from source import Source  # noqa: E402

from edgeret import Document, Index  # noqa: E402
from edgeret.encode import static  # noqa: E402
from edgeret.encode.bundle import Bundle, Content, write  # noqa: E402
from edgeret.errors import (  # noqa: E402
    BundleError,
    FilterError,
    FormatVersionError,
    InvalidDocumentError,
    InvalidQueryError,
)
from edgeret.scan import Block, top_k  # noqa: E402
from edgeret.shell import inputs  # noqa: E402
from edgeret.storage.filters import compile_where  # noqa: E402
from edgeret.storage.pages import Pages  # noqa: E402

KEYS = ["year", "tag", 'a"b', "", "$and", "$or", "$eq", "$nothing", "ключ", "a.b", "a\0b", "\ud800"]
OPERATORS = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$contains",
    "$exists",
    "$what",
    "",
    "year",
]
STRANGE = [
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "text",
    b"x",
    [],
    {},
    [[1]],
    1j,
]


@cache
def folder() -> Path:
    """A folder that goes away with the process."""
    made = tempfile.TemporaryDirectory(prefix="edgeret-fuzz-")
    _KEPT.append(made)
    return Path(made.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


# -- the scan


def scan(content: bytes) -> None:
    """Blocks, planes and numbers of any shape, dtype and range: both builds answer alike, or both refuse."""
    source = Source(content)
    width = source.number(1, 17)
    planes = _array(source, np.uint64, [source.number(0, 3), source.number(0, 5), width])
    k = source.choice([1, 2, 7, 100, 0, -1, 2**31 - 1, 2**31, 2**63, 2**70])
    blocks: list[Any] = []
    first_row = 0
    for _ in range(source.number(0, 4)):
        rows = source.number(0, 40)
        codes = _array(source, np.uint64, [width, rows])
        live = _array(source, np.uint8, [-(-rows // 8)]) if source.number(0, 1) else None
        start = source.choice([first_row] * 8 + [-1, 2**62, 2**63 - 1, 2**63, -(2**70), "0", None, 1.5])
        block: Any = Block(start, codes, live)
        others = [None, (), (1, 2), (start, codes), list(block), (start, live, codes)]
        blocks.append(source.choice([block] * 12 + others))
        first_row += rows
    native = _answer(lambda: top_k(blocks, planes, k), native=True)
    reference = _answer(lambda: top_k(blocks, planes, k), native=False)
    streamed = _answer(lambda: top_k(iter(blocks), planes, k), native=True)
    # The kernel takes buffers of any kind, the reference only arrays.
    foreign = any(isinstance(part, bytes | memoryview) for block in blocks for part in block or ())
    if (reference != native and not foreign) or (reference not in ("refused", streamed)):
        raise AssertionError(f"native and numpy differ: {native}, {streamed}, {reference}")


def _array(source: Source, dtype: type, shape: list[int]) -> Any:
    """Mostly an array of this dtype and shape; sometimes another one, or none."""
    kind = source.number(0, 40)
    if kind == 40:
        return source.choice([None, b"bytes", [1, 2], memoryview(b"12345678"), np.float64(3)])
    if kind == 39:
        shape = [*shape[:-1], source.number(0, 50)]
    if kind == 38:
        shape = shape[:-1]
    dtype = source.choice([np.float64, np.int64, np.uint8, object, ">u8"]) if kind == 37 else dtype
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = (
        np.zeros(shape, dtype)
        if dtype is object
        else np.frombuffer(source.octets(size), dtype).reshape(shape)
    )
    if kind == 36:
        array = np.asfortranarray(array)
    if kind == 35 and array.ndim and array.dtype != object:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    if kind == 34 and size:
        array = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(shape)
    return array


def _answer(ask: Callable[[], Any], native: bool) -> Any:
    os.environ["EDGERET_NO_NATIVE"] = "0" if native else "1"
    try:
        rows, distances = ask()
    except InvalidQueryError:
        return "refused"
    finally:
        del os.environ["EDGERET_NO_NATIVE"]
    return rows.tolist(), distances.tolist()


# -- static bundles


def student(content: bytes) -> None:
    """Tensors and ids of any shape, dtype and value: the kernel answers as double precision does, or refuses."""
    if static._static is None:
        return
    source = Source(content)
    vocabulary, half, hidden = source.number(1, 9), source.number(0, 40), source.number(0, 40)
    dim = 2 * half
    tensors = [_array(source, np.uint8, [vocabulary, half]), _floats(source, vocabulary)]
    for outputs, width in ((hidden, dim), (dim, hidden)):
        tensors += [
            _array(source, np.int8, [outputs, width]),
            _floats(source, outputs),
            _floats(source, outputs),
        ]
    ids = [
        source.choice([*range(vocabulary)] * 9 + [-1, vocabulary, 2**70]) for _ in range(source.number(0, 20))
    ]
    try:
        answers = {
            bytes(static._static.encode(static._static.student(*tensors, isa), ids))
            for isa in static._static.isas()
        }
    except BundleError:
        return
    (answer,) = answers
    expected, is_sound = _in_doubles(ids, *tensors)
    if is_sound and not np.frombuffer(answer, np.float32) @ expected > (1 - 1e-5) * np.linalg.norm(expected):
        raise AssertionError(f"{np.frombuffer(answer, np.float32)} is not {expected}")


def _floats(source: Source, count: int) -> Any:
    """Mostly some between -2 and 2; sometimes any bits, or none."""
    if source.number(0, 20) == 20:
        return _array(source, np.float32, [count])
    array = _array(source, np.int8, [count])
    return np.divide(array, 64, dtype=np.float32) if getattr(array, "dtype", None) == np.int8 else array


def _in_doubles(ids: list[int], *tensors: Any) -> tuple[Any, bool]:
    """The vector, and whether rounding can hardly turn it: not if most of what is added cancels out."""
    rows, scales, *layers = (np.asarray(tensor).astype(np.float64) for tensor in tensors)
    rows = rows[np.array(ids, np.int64)]
    entries = np.stack([rows % 16, rows // 16], axis=2).reshape(len(rows), 2 * rows.shape[1]) - 8
    with np.errstate(all="ignore"):
        parts = entries * scales[ids][:, None]
        start = parts.sum(axis=0)
        is_sound = np.linalg.norm(start) > 0.01 * np.linalg.norm(np.abs(parts).sum(axis=0))
        start /= np.linalg.norm(start)
        inner, outer = layers[0] * layers[1][:, None], layers[3] * layers[4][:, None]
        change = outer @ np.maximum(0, inner @ start + layers[2]) + layers[5]
        most = np.abs(outer) @ (np.abs(inner) @ np.abs(start) + np.abs(layers[2])) + np.abs(layers[5])
        vector, size = start + change, np.linalg.norm(np.abs(start) + most)
        is_sound &= 0.01 * size < np.linalg.norm(vector) < 1e6
        return vector, bool(is_sound)


# -- filters


def where(content: bytes) -> None:
    """Any `where` is refused by name or is SQL that runs."""
    source = Source(content)
    condition = _condition(source, 4) if source.number(0, 20) else source.choice(STRANGE)
    with contextlib.suppress(FilterError):
        sql, parameters = compile_where(condition, {"year": "filter_0"})
        _table().execute(f"SELECT count(*) FROM documents d WHERE {sql or 1}", parameters).fetchone()


def _condition(source: Source, depth: int) -> Any:
    return {
        source.choice(KEYS): _operand(source, depth) if source.number(0, 1) else _scalar(source)
        for _ in range(source.number(0, 3))
    }


def _operand(source: Source, depth: int) -> Any:
    if depth and source.number(0, 1):
        return [_condition(source, depth - 1) for _ in range(source.number(0, 3))]
    return {source.choice(OPERATORS): _scalar(source) for _ in range(source.number(0, 3))}


def _scalar(source: Source) -> Any:
    match source.number(0, 4):
        case 0:
            return source.choice(STRANGE)
        case 1:
            return source.text(20)
        case 2:
            return [_scalar(source) for _ in range(source.number(0, 3))]
        case 3:
            return float(np.frombuffer(source.octets(8), "<f8")[0])
    return source.number(-(2**70), 2**70)


@cache
def _table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE documents (doc INTEGER PRIMARY KEY, metadata TEXT, filter_0)")
    for metadata in (
        {"year": 3},
        {"year": [1, "x"]},
        {"tag": "x", 'a"b': None},
        {"year": 1e308, "ключ": {"a": 1}},
        {},
    ):
        connection.execute(
            "INSERT INTO documents VALUES (NULL, ?1, json_extract(?1, '$.\"year\"'))",
            (json.dumps(metadata, ensure_ascii=False),),
        )
    return connection


# -- queries


def query(content: bytes) -> None:
    """Any text is searched for, or refused by name, in a sound index; so is any id."""
    source = Source(content)
    mode = source.choice(["lexical", "hybrid", "dense"])
    identity = source.text(20)
    # The encoder refuses what is not Unicode; words are looked for as they are.
    text = source.rest().decode("utf-8", "surrogateescape" if mode == "lexical" else "replace")
    index = _index()
    with contextlib.suppress(InvalidQueryError):
        hits = index.search(text, k=source.choice([1, 3, 1000]), mode=mode)
        if {hit.id for hit in hits} - {"a", "b", "c"}:
            raise AssertionError(f"unknown documents: {hits}")
    index.get(identity)


@cache
def _index() -> Index:
    index = Index.create(folder() / "queries.edgeret", model=FakeEncoder(), bits=64)
    index.add(
        [Document("a", "red cat AND NOT"), Document("b", "naïve café"), Document("c", "コーヒー NEAR 3")]
    )
    return index


# -- files


def lines(content: bytes) -> None:
    """Any JSON Lines file gives documents that can be indexed, or is refused by name."""
    path = folder() / "lines.jsonl"
    path.write_bytes(content)
    with contextlib.suppress(InvalidDocumentError):
        for document in inputs.read([str(path)]):
            document.text.encode()


def bundle(content: bytes) -> None:
    """A sound bundle whose manifest was rewritten is opened whole or refused by name."""
    source = Source(content)
    folder, sound = _bundle()
    path = folder / "manifest.json"
    if source.number(0, 3):
        manifest = json.loads(sound)
        # Else it would end every look at what was rewritten.
        del manifest["checksum"]
        for _ in range(source.number(1, 3)):
            _rewrite(source, manifest)
        path.write_text(json.dumps(manifest))
    else:
        path.write_bytes(source.rest())
    with contextlib.suppress(BundleError, FormatVersionError):
        opened = Bundle.open(folder)
        opened.codec().encode(np.ones((1, opened.dim), np.int8), 64)
        opened.token_table()


def _rewrite(source: Source, value: Any) -> None:
    """Walk down to some entry and put something else there."""
    while isinstance(value, dict | list) and value:
        key = source.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
        if not isinstance(value[key], dict | list) or not value[key] or not source.number(0, 3):
            value[key] = source.choice(
                [None, True, -1, 0, 1, 2**40, 2**60, 1.5, "", "../x", "codec.bin", "a" * 64, [], [0], [2**40], {},
                 "float32", source.text(10), source.number(0, 10**6)]
            )  # fmt: skip
            return
        value = value[key]


@cache
def _bundle() -> tuple[Path, str]:
    path = folder() / "tiny"
    content = Content(
        name="tiny", max_tokens=16, geometry="ab" * 16, codec=random_codec(), kind="static", graphs={},
        tensors={"tokens.bin": {"tokens": np.ones((5, DIM), np.int8), "token_scales": np.ones(5, np.float32)}},
        files={"card.md": b"# tiny\n"}, about={"license": "Apache-2.0"},
    )  # fmt: skip
    write(path, content)
    return path, (path / "manifest.json").read_text()


def pages(content: bytes) -> None:
    """Any bytes are pages, of which some records can be read."""
    source = Source(content)
    image = bytearray(_image())
    for _ in range(source.number(1, 8)):
        at = source.number(0, len(image) - 1)
        octets = source.octets(source.number(1, 8))
        image[at : at + len(octets)] = octets
    read = Pages(io.BytesIO(bytes(image)))
    for cell, record in read.records():
        if cell.page == 5 and read.record(cell) != record:
            raise AssertionError(f"the record at {cell} is not read twice alike")


@cache
def _image() -> bytes:
    path = folder() / "pages.edgeret"
    with Index.create(path, model=FakeEncoder(), bits=64) as index:
        index.add([Document("long", "red cat. " * 900), *(f"text {i}" for i in range(5))])
    return path.read_bytes()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "scan": scan,
    "student": student,
    "where": where,
    "query": query,
    "lines": lines,
    "bundle": bundle,
    "pages": pages,
}
