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
from edgeret.encode import bpe, pieces, static, tables, unigram  # noqa: E402
from edgeret.encode.bundle import Bundle, Content, write  # noqa: E402
from edgeret.encode.manifest import Roles  # noqa: E402
from edgeret.encode.tokens import TokenTable  # noqa: E402
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
    table, kept = tensors[0], source.number(0, 9)
    is_table = isinstance(table, np.ndarray) and (table.dtype, table.shape) == (np.uint8, (vocabulary, half))
    read = (lambda id: table[id].tobytes() if id < vocabulary else b"") if is_table else table
    ids = [
        source.choice([*range(vocabulary)] * 9 + [-1, vocabulary, 2**70]) for _ in range(source.number(0, 20))
    ]
    try:
        answers = {
            bytes(static._static.encode(static._static.student(read, kept, *tensors[1:], isa), ids))
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


# -- tokenizers

LETTERS = [*" abest'1\r\n\té\u0301\u0323\u0344가\u1161中🍕"]
STRINGS = ["a", "b", "ab", "ba", " a", "abab", "é", "e\u0301", "[a]", "中", "\u2581a", "\u2581"]
FORM = "a\u0301\u0323b"


def tokens(content: bytes) -> None:
    """Any text, in tables of each kind: C and Python find the same tokens; in damaged ones, some that stand in it."""
    source = Source(content)
    module, image = source.choice([_word_pieces, _unigram, _byte_pairs])(source)
    is_damaged = source.number(0, 3) == 3
    for _ in range(source.number(1, 9) if is_damaged else 0):
        image[source.number(48, len(image) - 1)] = source.number(0, 255)
    part = [source.number(0, 3)] if module is bpe else []
    text = "".join(source.choice([*LETTERS, *STRINGS, FORM]) for _ in range(source.number(0, 30)))
    text += source.rest().decode("utf-8", "ignore")
    try:
        kept = _read(module, image)
    except ValueError:
        return
    makes = [module.native, module.reference] if tables.runs_native() else [module.reference]
    found = [make(*kept)(text, bool(len(content) % 2), *part) for make in makes]
    if not is_damaged and found[0] != found[-1]:
        raise AssertionError(f"native and reference differ over {text!r}: {found}")
    for ids, spans, words in found:
        if not len(ids) == len(spans) == len(words) or any(
            not 0 <= start <= stop <= len(text) for start, stop in spans
        ):
            raise AssertionError(f"{spans} in {len(text)} characters")


def _read(module: Any, image: bytearray) -> tuple[Any, ...]:
    if module is pieces:
        return module.read(bytes(image))[1:]
    path = folder() / "tokenizer.bin"
    path.write_bytes(image)
    kept = tables.Source(os.open(path, os.O_RDONLY), path.name)
    return (*module.read(kept, len(image))[1:], kept)


@cache
def _small_pieces() -> bytes:
    return Bundle.open("nano").read(tables.FILE)


def _word_pieces(source: Source) -> tuple[Any, bytearray]:
    return pieces, bytearray(_small_pieces())


def _unigram(source: Source) -> tuple[Any, bytearray]:
    units, count = _units(source, [tables.ADDED, tables.MAPS])
    entries, sequences = _entries(source, unigram.MAPPED_VALUE, unigram.MAPPED)
    octets = np.arange(256) % count if source.number(0, 1) else np.arange(0)
    head = unigram.Head(
        tables.UNIGRAM, source.number(0, count - 1), source.number(0, 31), 0, 1, 1, 1, len(sequences),
        len(octets), len(units), count,
    )  # fmt: skip
    arrays = unigram.Tables(
        entries, sequences, np.zeros(2, np.uint32), octets, np.zeros(tables.PAGES, np.uint16)
    )
    scores = np.array([-source.number(0, 5) - 0.1 for _ in range(count)])
    return unigram, bytearray(unigram.write(bytes(32), head, arrays, units, scores))


def _byte_pairs(source: Source) -> tuple[Any, bytearray]:
    units, _ = _units(source, [tables.ADDED, tables.MAPS])
    entries, sequences = _entries(source, bpe.PARTS, 0)
    made = [
        (source.number(0, 255 + rank), source.number(0, 255 + rank)) for rank in range(source.number(0, 20))
    ]
    if source.number(0, 1):
        made = [(ord("a"), ord("b")), (256, 256), (257, ord("a")), (ord(" "), 256), *made]
    known = {pair: (rank, 256 + rank) for rank, pair in enumerate(made)}
    merges = np.array(sorted((*pair, *found) for pair, found in known.items()), np.uint32).reshape(-1, 4)
    count = 256 + len(made)
    starts = np.searchsorted(merges[:, 0], np.arange(count + 1)).astype(np.uint32)
    pairs = sorted({(ord("a"), 0x301): 0xE1, (0xE1, 0x323): 0xE2, (ord("a"), ord("b")): 0x4E2D}.items())
    flags = source.number(0, 63) | source.number(0, 3) << bpe.NUMBERS
    head = bpe.Head(
        tables.BYTE_PAIRS,
        tables.NOWHERE,
        flags,
        len(merges),
        1,
        1,
        1,
        len(sequences),
        len(pairs),
        len(units),
        count,
    )
    arrays = bpe.Tables(
        entries,
        sequences,
        np.zeros(2, np.uint32),
        np.arange(256, dtype=np.uint32),
        np.array([[*pair, one] for pair, one in pairs], np.uint32),
        np.zeros(tables.PAGES, np.uint16),
    )
    numbers = np.concatenate([units, starts, merges[:, 1:].ravel()])
    return bpe, bytearray(bpe.write(bytes(32), head, arrays, numbers))


def _units(source: Source, labels: list[int]) -> tuple[Any, int]:
    """A trie of some strings, plain and behind labels, and a number above theirs."""
    from export import trie

    chosen = [string for string in STRINGS if source.number(0, 1)] or ["a"]
    keys = {string.encode(): number for number, string in enumerate(chosen)}
    for label in labels:
        # A number of parts for one, an id and whether it takes blanks for the other.
        found = source.choice(["", *chosen])
        if found:
            keys[bytes([label]) + found.encode()] = 0 if label == tables.MAPS else source.number(0, 3)
    return trie.build(keys), len(chosen) + 4


def _entries(source: Source, shift: int, flag: int) -> tuple[Any, Any]:
    """Of 256 code points, which stand for all others; and some sequences, the first of them at 1."""
    sequences = np.array([1, 97, 2, 97, 0x301, 3, 98, 0x323, 0x301, 0], np.uint32)
    places = [0, 2, 5, 9]
    entries = np.array([source.number(0, (1 << shift) - 1) for _ in range(32)] * 8, np.uint32)
    for code in range(256):
        place = source.choice(places) if source.number(0, 3) == 3 else 0
        entries[code] |= place << shift if place and (not flag or entries[code] & flag) else 0
    # Sequences of no code points would leave tokens nowhere.
    entries[(entries >> shift) == 9] &= (1 << shift) - 1
    return entries.reshape(1, 256), sequences


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
    folder, sound = _bundle(source.choice(["token_scales", "token_centroids"]))
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
        TokenTable(opened).take([0, 1])


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
def _bundle(beside: str) -> tuple[Path, str]:
    """A bundle whose table has these beside its rows; that of codes has roles."""
    path = folder() / beside
    table = {"tokens": np.ones((5, DIM), np.int8), "token_scales": np.ones(5, np.float32)}
    if beside == "token_centroids":
        table = {"tokens": np.ones((5, 8), np.uint8), beside: np.ones((8, 256, DIM // 8), np.float16)}
    content = Content(
        name="tiny", max_tokens=16, geometry="ab" * 16, codec=random_codec(), kind="static", graphs={},
        tensors={"tokens.bin": table}, files={"card.md": b"# tiny\n"}, about={"license": "Apache-2.0"},
        roles=None if beside == "token_scales" else Roles(0, 1),
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
    "tokens": tokens,
    "where": where,
    "query": query,
    "lines": lines,
    "bundle": bundle,
    "pages": pages,
}
