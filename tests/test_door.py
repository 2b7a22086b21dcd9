"""No call takes what it cannot have: every public call, each of its parameters, beside values of every wrong kind."""

import copy
import inspect
import io
import math
import os
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake import DIM, FakeEncoder, random_codec

import edgeret
from edgeret import (
    ArgumentError,
    BudgetError,
    CorruptIndexError,
    Document,
    EdgeretError,
    Encoder,
    EngineError,
    FunctionEncoder,
    Hit,
    Index,
    Plan,
    Reranker,
    door,
    errors,
    signing,
)
from edgeret.documents import MOST_LEVELS
from edgeret.storage.file import translated

NOT_STRINGS: list[Any] = [
    5, 5.5, True, 2**70, b"a", bytearray(b"a"), ["a"], ("a",), {"a": 1}, {"a"}, object(), np.array(["a"]), str,
]  # fmt: skip
NOT_INTEGERS: list[Any] = [
    2.0, 2.5, "two", b"2", True, np.True_, np.float32(2), [2], {2: 2}, object(), math.nan, math.inf, 2j,
    np.array([2, 3]),
]  # fmt: skip
NOT_BOOLEANS: list[Any] = [0, 1, "no", "", b"", 0.0, [], {}, object(), np.int64(1), np.array([True, False])]
NOT_VECTORS: list[Any] = [
    np.ones(DIM, dtype=complex), np.full(DIM, np.nan), np.full(DIM, np.inf), np.zeros(DIM), np.ones((2, DIM)),
    np.ones(DIM + 1), np.ones(DIM, dtype=object), np.ones(DIM, dtype=bool), np.full(DIM, "1"), np.array(1.0),
    [[1, 2], [3]], ["x"], [None] * DIM, [], [10**400] * DIM, {1.0, 2.0}, (n for n in [1.0]),
]  # fmt: skip
NOT_PATHS: list[Any] = [
    "",
    "a\0b",
    "caf\udce9",
    b"a",
    5,
    2.5,
    True,
    ["a"],
    {"a": 1},
    object(),
    "/",
    "x" * 300,
]
NOT_SEVERAL: list[Any] = [
    "abc",
    b"abc",
    bytearray(b"abc"),
    {"a": "b"},
    5,
    True,
    object(),
    Document("a", "a"),
    str,
]
NOT_MODELS: list[Any] = [
    5,
    True,
    b"small",
    ["small"],
    {"a": 1},
    object(),
    Encoder,
    FakeEncoder,
    "",
    "a\0b",
    "caf\udce9",
]

# What a parameter never takes. None is added where it is not the default.
BAD: dict[str, list[Any]] = {
    **dict.fromkeys(("path", "target", "old", "new", "index", "update", "private_key", "public_key"), NOT_PATHS),
    "into": ["out", b"out", 5, [], io.BytesIO],
    "model": NOT_MODELS,
    "name_or_path": [*NOT_MODELS, FakeEncoder()],
    "vectors": [*NOT_VECTORS, np.ones((2, DIM)), np.ones((40, 31)), np.ones((40, 32))],
    "seed": [*NOT_INTEGERS, -1, 2**70],
    "widths": [*NOT_SEVERAL, [], [64, 32], [64, 64], ["64"], [0], [2**20]],
    "dim": [*NOT_INTEGERS, 0, 31, 10**6],
    "backend": [*NOT_STRINGS, "no backend"],
    "bits": [*NOT_INTEGERS, 0, -64, 2**62, 10**5000],
    "filters": [*NOT_SEVERAL, [1], [b"a"], [""], ["a", "a"], [None], [["a"]], [f"k{n}" for n in range(2100)]],
    "language": [*NOT_STRINGS, "xx", "\ud800"],
    "memory_budget": [*NOT_INTEGERS, 0, -1, "", "12 parsecs", "9" * 400, "-1MB", "1e3MB", "\u0661MB", 10**5000],
    "wait": ["1", b"1", True, [1], {}, object(), -1, -0.5, math.nan, np.float32(-1), 1j, np.array([1, 2])],
    "threads": [*NOT_INTEGERS, 0, -1, 10**6, 2**62],
    "progress": ["bar", 5, True, [print]],
    "documents": [*NOT_SEVERAL, [5], [{"id": "a"}], [{"text": "a", "lang": "b"}], [b"a"], [None], [["a"]], [""],
        ["a\0"], [Hit]],
    "commit_every": [*NOT_INTEGERS, "2", 0, -1],
    "id": NOT_STRINGS,
    "changes": [*NOT_SEVERAL, [5], ["ab"], [("a",)], [("a", 5)], [(5, {})], {"a": 5}, {5: {}}, [("a", {"b": 2**70})]],
    "metadata": [*NOT_STRINGS[:7], "a", [("a", 1)], {"a": object()}, {1: 2}, {"a": 2**70}],
    "chunk": ["lines", 5, True, [print]],
    "duplicates": [*NOT_STRINGS, "drop", "", "SKIP"],
    "folders": [b"a", 5, True, object(), str, "", "a\0b", "caf\udce9", "/", [], [5], [b"a"], [None], [["a"]]],
    **{key: [*NOT_STRINGS, "\ud800"] for key in ("text_key", "id_key")},
    "ids": [*NOT_SEVERAL, [5], [b"a"], [None], [["a"]], [2**70], ["\udce9"]],
    **dict.fromkeys(("exist_ok", "readonly", "erase", "merge", "prefix", "quick", "writing", "shortens"), NOT_BOOLEANS),
    "follow_links": NOT_BOOLEANS,
    "query": [*NOT_STRINGS, *NOT_VECTORS, "", " \n", "\ud800", Document("a", "a")],
    "queries": [*NOT_SEVERAL, *([value] for value in NOT_VECTORS), ["a", ""], [5], [b"a"], {"a"}, np.ones(DIM)],
    "k": [*NOT_INTEGERS, "2", 0, -1, -(2**70)],
    "where": [*NOT_STRINGS[:8], "year", object(), [{"year": 1}]],
    "key": [*NOT_STRINGS, "\ud800", "a" + ".a" * 16],
    "after": [*NOT_STRINGS, "\ud800"],
    "limit": [*NOT_INTEGERS, "2", -1],
    "mode": [*NOT_STRINGS, "magic", ""],
    "feedback": [*NOT_SEVERAL, ["0"], (["0"], "0"), (["0"], [5]), (["none"], []), ([], ["none"]), ([], [], [])],
    "per_document": [*NOT_INTEGERS, "2", 0, -1],
    "per_group": [*NOT_INTEGERS, "2", 0, -1, 2],
    "diversity": ["0.5", True, [0.5], {}, math.nan, -0.1, 1.1, 1j, np.array([0, 1])],
    "boost": [*NOT_STRINGS[:7], {"key": "year"}, {"halflife": "1d"}, {"key": "year", "halflife": "30"},
        *({"key": "year", "halflife": "1d", **more}
          for more in ({"weight": 2}, {"now": "x"}, {"now": 10**400}, {"a": 1}, {"key": 5})),
        *({"key": "year", "halflife": halflife} for halflife in (30, "0d", "d", "1 parsec", "9" * 400 + "y"))],
    "group_by": [*NOT_STRINGS, "\ud800", "a" + ".a" * 16],
    "offset": [*NOT_INTEGERS, "2", -1, 2**63],
    "indexes": [*NOT_SEVERAL, [], [5], ["a"], [None], [FakeEncoder()], {"a"}],
    "rerank": [*NOT_PATHS[:9], str],
    "rerank_k": [*NOT_INTEGERS, "20", 0, -1],
    "oversample": [*NOT_INTEGERS, 0, -1],
    "min_score": ["0.5", b"1", True, [0.5], {}, object(), math.nan, 1j, np.array([1, 2]), 10**400, -(10**400)],
    "text": [*NOT_STRINGS, "\ud800"],
    "texts": [*NOT_SEVERAL, [5], [b"a"], [None], ["a", "\ud800"], [["a"]]],
    "stored": [None, "x", [[1] * DIM], np.ones((2, DIM)), np.ones(DIM, np.int8), np.ones((2, DIM + 1), np.int8)],
    "vector": [None, "x", [1.0] * DIM, np.ones(DIM), np.ones((1, DIM), np.float32), np.ones(DIM, complex)],
    "budget": [*NOT_INTEGERS, 0, -1, "112MB"],
    "encoder": [None, "small", 5, [("a", 1)], {"a": "1"}, {1: 1}, {"a": -1}, {"a": 1.5}],
    "part": NOT_STRINGS,
    "size": [*NOT_INTEGERS, -1],
    "divisor": [*NOT_INTEGERS, 0, -2],
    **{
        name: [*NOT_INTEGERS, -1] for name in ("rows", "count", "partitions", "codec_bytes", "vector_bytes")
    },
}  # fmt: skip

NULLABLE = {"budget", "language", "per_document"}
"""Parameters that take None, though it is not their default."""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public call: those of the exported classes, the exported functions, and the signing module's.

    Not those of `TextEncoder`, which users write.
    """
    functions = {name: getattr(edgeret, name) for name in edgeret.__all__}
    functions |= {"sign": signing.sign, "verify": signing.verify}
    for name, found in functions.items():
        if inspect.isfunction(found):
            yield name, found
        elif not issubclass(found, EdgeretError) and name not in (
            "Document",
            "Hit",
            "Section",
            "TextEncoder",
        ):
            for method, kind in vars(found).items():
                if (
                    not method.startswith("_")
                    and not isinstance(kind, property)
                    and callable(getattr(found, method))
                ):
                    yield f"{name}.{method}", getattr(found, method)


CALLS = dict(public())
PARAMETERS = [
    (name, parameter)
    for name, call in CALLS.items()
    for parameter in inspect.signature(call).parameters.values()
    if parameter.name != "self"
]


@pytest.fixture
def bound(index, tmp_path, encoder) -> Callable[[str], Callable[..., Any]]:
    """A public call of an object, and arguments with which it would be answered."""
    index.add([Document(str(n), f"text {n} about cats", {"year": n}) for n in range(5)])
    nano, codec = Encoder.load("nano"), random_codec()
    plan = Plan.of(10, 64, {}, None)
    unit = np.full(DIM, DIM**-0.5, np.float32)
    good: dict[str, Any] = {
        "path": tmp_path / "other.edgeret",
        **{name: tmp_path / name for name in ("target", "old", "new", "index", "update", "private_key", "public_key")},
        "into": io.BytesIO(), "model": encoder, "name_or_path": "nano", "documents": ["a"], "ids": ["0"], "id": "0",
        "changes": {"0": {"year": 1}}, "metadata": {"year": 1}, "key": "year", "indexes": [index],
        "query": "cats", "queries": ["cats"], "text": "cats", "texts": ["cats"], "bits": 64, "rows": 10, "count": 3,
        "stored": np.full((2, DIM), 127, np.int8), "vector": unit, "encoder": {}, "budget": None, "divisor": 2,
        "codec_bytes": 10, "vector_bytes": DIM, "part": "reranker", "size": 10, "dim": DIM,
        "vectors": np.random.default_rng(0).normal(size=(64, 32)), "folders": tmp_path,
    }  # fmt: skip
    function = FunctionEncoder(encoder.encode, DIM, "of the tests")
    # What is refused at the door never comes to a model.
    judge = Reranker(SimpleNamespace(manifest=SimpleNamespace(kind="reranker"), name="judge"), "onnx")
    owners = {"Index": index, "Encoder": nano, "Codec": codec, "Plan": plan, "FunctionEncoder": function}
    owners["Reranker"] = judge

    def call(name: str, **arguments: Any) -> Any:
        owner, _, method = name.partition(".")
        found = getattr(owners[owner], method) if method else CALLS[name]
        parameters = inspect.signature(found).parameters.values()
        required = {p.name: good[p.name] for p in parameters if p.default is p.empty}
        if name in ("Index.open", "Index.recode", "Index.reencode", "recode", "reencode"):
            required["path"] = index._path
        return found(**{**required, **arguments})

    return call


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=[f"{n}-{p.name}" for n, p in PARAMETERS])
def test_what_a_parameter_cannot_be_is_refused_by_name_and_changes_nothing(
    bound, index, tmp_path, name, parameter
):
    values = list(BAD[parameter.name])
    if parameter.default is not None and parameter.name not in NULLABLE:
        values.append(None)
    before, files = index.info(), sorted(tmp_path.iterdir())
    for value in values:
        with pytest.raises(EdgeretError) as refusal:
            bound(name, **{parameter.name: value})
        told = f"{name}({parameter.name}={door.shown(value)}): {refusal.type.__name__}: {refusal.value}"
        # Words of longer standing: a budget that is none, a backend that is not there, a path too long for the system.
        kinds = ArgumentError, BudgetError, errors.BackendError, errors.StorageError
        assert isinstance(refusal.value, kinds), told
        assert "damaged" not in str(refusal.value), told
        assert len(str(refusal.value)) < 700, told
    assert index.info() == before
    assert sorted(tmp_path.iterdir()) == files
    index.check()


def test_no_public_call_is_forgotten():
    assert {
        "Index.add",
        "Index.search_many",
        "Index.close",
        "Encoder.encode",
        "Codec.encode",
        "Plan.of",
        "diff",
    } < set(CALLS)
    for name, call in CALLS.items():
        parameters = set(inspect.signature(call).parameters) - {"self"}
        # A codec is asked for each text: it checks its arrays itself.
        if parameters and not parameters & {"stored", "vector"}:
            assert hasattr(inspect.unwrap(call, stop=lambda f: hasattr(f, "__wrapped__")), "__wrapped__"), (
                name
            )
            assert parameters <= set(door.CHECKS), name
    assert set(BAD) >= {parameter.name for _, parameter in PARAMETERS}


def test_every_error_is_importable_from_the_package():
    found = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert found <= set(edgeret.__all__)
    assert all(getattr(edgeret, name) is getattr(errors, name) for name in found)
    caller = {name for name in found if issubclass(getattr(errors, name), ArgumentError)}
    assert caller >= {"InvalidQueryError", "FilterError", "InvalidDocumentError", "InvalidVectorError"}


def test_wrong_names_and_numbers_of_arguments_are_pythons_own_error(index):
    with pytest.raises(TypeError, match="unexpected keyword"):
        index.search("cats", limit=5)
    with pytest.raises(TypeError, match="positional"):
        index.search("cats", 5, None, "dense", None, None, 7, ([], []), False, 7)
    with pytest.raises(TypeError, match="missing"):
        index.search()
    assert str(inspect.signature(Index.search)).startswith("(self, query: ")


# -- what is welcome


def test_numbers_and_texts_of_numpy_are_welcome(path, encoder):
    with Index.create(
        path, model=encoder, bits=np.int64(64), filters=np.array(["year"]), wait=np.float32(0)
    ) as index:
        assert index.add(np.array(["red cat", "blue dog"]), commit_every=np.uint8(1))[0]
        hits = index.search(np.str_("red cat"), k=np.int32(1), oversample=np.int16(4))
        assert index.search("red cat", k=np.array(1)) == hits
        assert len(hits) == 1
        assert index.delete({hit.id for hit in hits}, erase=np.False_) == 1
    assert Index.open(path, model=encoder, memory_budget=np.int64(10**9), readonly=np.True_).info().bits == 64


def test_queries_may_be_an_array_or_a_generator(index):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(5, DIM))
    index.add([Document(f"v{n}", "", {}, vector) for n, vector in enumerate(vectors)])
    expected = [index.search(vector, k=2) for vector in vectors]
    assert index.search_many(vectors, k=2) == expected
    assert index.search_many((vector for vector in vectors), k=2) == expected
    assert index.search_many([vector.tolist() for vector in vectors], k=2) == expected
    assert index.search_many(np.empty((0, DIM)), k=2) == index.search_many(iter(()), k=2) == []
    assert index.search_many(iter(["a", vectors[0]]), k=2)[1] == expected[0]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("number", [10**6, 2**31, 2**62, 2**63, 2**64, 10**30])
def test_any_k_finds_what_there_is(index, mode, number):
    assert index.search("cats", k=number, oversample=number, mode=mode) == []
    index.add([f"text {n} about cats" for n in range(30)])
    for arguments in ({"k": number}, {"k": number, "oversample": number}):
        assert len(index.search("cats", mode=mode, **arguments)) == 30
    assert len(index.search("cats", k=3, mode=mode, oversample=number)) == 3


def test_many_filters_are_an_index_that_works(path, encoder):
    keys = [f"k{n}" for n in range(door.MOST_FILTERS)]
    with Index.create(path, model=encoder, bits=64, filters=keys) as index:
        index.add([Document("a", "red cat", {"k999": 5}), Document("b", "red cat", {"k0": 5})])
        assert [hit.id for hit in index.search("red", where={"k999": 5})] == ["a"]
        index.check()


# -- an index as an object


def test_settings_that_a_file_does_not_have_are_refused(path, encoder, tmp_path):
    with Index.create(path, model=encoder, bits=64, filters=["year", "lang"]) as index:
        index.add(["red cat"])
    for arguments in (
        {},
        {"bits": 64},
        {"filters": ["lang", "year"]},
        {"bits": np.int8(64), "filters": iter(["year", "lang"])},
    ):
        with Index.create(path, model=encoder, exist_ok=True, **arguments) as index:
            assert len(index) == 1
    for arguments in (
        {"bits": 96},
        {"filters": []},
        {"filters": ["year"]},
        {"bits": 96, "filters": ["year", "lang"]},
    ):
        with pytest.raises(errors.IndexExistsError, match="exists with 64 bits and the filters"):
            Index.create(path, model=encoder, exist_ok=True, **arguments)
    with pytest.raises(errors.SpaceMismatchError):
        Index.create(path, model=FakeEncoder(seed=3), exist_ok=True)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_empty_index_is_true(index):
    assert index
    assert len(index) == 0
    index.close()
    assert index


@pytest.mark.parametrize(
    "take", [copy.copy, copy.deepcopy, pickle.dumps, lambda index: pickle.dumps({"held": [index]}, 2)]
)
def test_an_index_is_not_copied_but_opened_again(index, take):
    with pytest.raises(ArgumentError, match=r"neither copied nor pickled: open '.*test\.edgeret' again"):
        take(index)
    assert index.add(["it goes on"])


# -- SQLite's errors


def test_only_what_sqlite_calls_damage_is_damage(tmp_path):
    codes = {
        name: code
        for name, code in vars(sqlite3).items()
        if name.startswith("SQLITE_")
        and isinstance(code, int)
        and 0 < code & 0xFF < 27
        and code not in (100, 101)
    }
    kinds = set()
    for base in range(1, 27):
        for code in {base, *(code for code in codes.values() if code & 0xFF == base)}:
            error = sqlite3.DatabaseError("some words")
            error.sqlite_errorcode = code
            with pytest.raises(EdgeretError) as found, translated(tmp_path / "a"):
                raise error
            assert (found.type is CorruptIndexError) == (base == sqlite3.SQLITE_CORRUPT)
            kinds.add(found.type)
    assert kinds > {EngineError, ArgumentError, BudgetError, errors.LockedError, errors.StorageError}


@pytest.mark.parametrize("code", ["CANTINIT", "CANTLOCK", "DBMOVED", "RECOVERY"])
def test_a_file_that_another_opens_or_removes_just_now_is_locked(tmp_path, code):
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_READONLY_{code}")
    with pytest.raises(errors.LockedError, match="try again"), translated(tmp_path / "a"):
        raise error


def test_what_python_cannot_hand_to_sqlite_is_no_damage(index):
    connection = index._store.connection
    bad: list[tuple[object, type[EdgeretError]]] = [
        (2**70, ArgumentError), ("\ud800", ArgumentError), (["a"], EngineError), (object(), EngineError),
    ]  # fmt: skip
    for value, kind in bad:
        with pytest.raises(kind), translated(index._path):
            connection.execute("SELECT ?", (value,))
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100)
    with pytest.raises(ArgumentError, match="shorten it"), translated(index._path):
        connection.execute("SELECT ?", ("x" * 1000,))
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10**9)
    index.check()


def test_an_interrupted_check_is_no_damage(index):
    index.add([f"text {n}" for n in range(50)])
    index._store.connection.set_progress_handler(lambda: 1, 100)
    with pytest.raises(EngineError, match="interrupted"):
        index.check()
    # On a new connection: the one that was interrupted is in doubt.
    index.check()


# -- paths


def test_a_path_that_the_system_refuses_is_a_named_error(tmp_path, encoder):
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for found in ("x" * 250, "file/a.edgeret", "loop", "loop/a.edgeret", "missing/a.edgeret"):
        for call in (
            lambda p: Index.create(p, model=encoder, bits=64),
            lambda p: Index.open(p, model=encoder),
            edgeret.optimize,
        ):
            with pytest.raises(EdgeretError):
                call(tmp_path / found)
    with pytest.raises(errors.NotAnIndexError, match="is a folder"):
        Index.open(os.curdir, model=encoder)


def test_bytes_are_no_path(tmp_path):
    class Bytes:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "a")

    with pytest.raises(ArgumentError, match="as a string or a path"):
        Index.open(Bytes())


# -- depth


def nested(levels: int, kind: type = dict) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize("kind", [dict, list])
def test_metadata_are_as_deep_as_can_be_read_from_any_stack(index, kind):
    deepest = nested(MOST_LEVELS) if kind is dict else {"a": nested(MOST_LEVELS - 1, list)}
    index.add([Document("a", "red cat", deepest)])
    deeper = nested(MOST_LEVELS + 1) if kind is dict else {"a": nested(MOST_LEVELS, list)}
    for bad in (deeper, nested(2500), {"a": nested(100_000, kind)}):
        with pytest.raises(errors.InvalidDocumentError, match="32 levels"):
            index.add([Document("b", "x", bad)])
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    with pytest.raises(errors.InvalidDocumentError, match="32 levels"):
        index.add([Document("b", "x", loop)])
    assert index.get("a").metadata == deepest


def file_of_old(path: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index as older releases wrote it, with metadata as deep as their stack let them."""
    with monkeypatch.context() as patch, Index.create(path, model=encoder, bits=64, filters=["a"]) as index:
        patch.setattr("edgeret.documents.is_deep", lambda _: False)
        index.add(
            [Document(f"n{levels}", f"red cat {levels}", nested(levels)) for levels in (33, 100, 700, 900)]
        )


def test_an_older_file_with_deep_metadata_is_read_from_any_stack(path, tmp_path, encoder, monkeypatch):
    file_of_old(path, encoder, monkeypatch)

    def deeper(frames: int, call: Callable[[], Any]) -> Any:
        return deeper(frames - 1, call) if frames else call()

    with Index.open(path, model=encoder) as index:
        for frames in (0, 100, 300, 600):
            assert len(deeper(frames, lambda: index.search("red cat"))) == 4
            found = deeper(frames, lambda: index.get("n900")).metadata
            depth = 0
            while isinstance(found, dict):
                found, depth = found["a"], depth + 1
            assert depth == 900
            assert deeper(frames, index.check).documents == 4
            assert len(deeper(frames, lambda: index.search("red", where={"b": {"$exists": False}}))) == 4
        index.delete(["n900"])
        index.compact()
        assert len(index) == 3
    assert deeper(500, lambda: Index.repair(path, tmp_path / "repaired.edgeret", encoder)).documents == 3


# -- what is refused, whatever shape it comes in


@pytest.mark.parametrize("single", [np.array("a"), np.array(1.5), np.array(None), np.int64(1), np.str_("a")])
def test_an_array_of_no_dimension_is_one_thing(index, path, encoder, tmp_path, single):
    for call in (
        lambda: index.add(single),
        lambda: index.delete(single),
        lambda: index.search_many(single),
        lambda: index.search("cats", where={"$and": single}),
        lambda: index.search("cats", where={"$or": single}),
        lambda: index.search("cats", where={"a": {"$in": single}}),
        lambda: Encoder.load("nano").encode(single),
        lambda: Index.create(tmp_path / "other", model=encoder, bits=64, filters=single),
    ):
        with pytest.raises(ArgumentError):
            call()
    assert not (tmp_path / "other").exists()


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("no words for this")


@pytest.mark.parametrize(
    "odd", ["x" * 100_000, 10**5000, Unshown(), b"x"], ids=["long", "int", "unshown", "bytes"]
)
def test_what_is_refused_is_named_in_few_words(index, path, encoder, odd):
    calls = [
        lambda: index.search("cats", where={"a": {odd: 1}}),
        lambda: index.search("cats", where={odd: {}}),
        lambda: index.search("cats", where={"a": {"$gt": [odd]}}),
        lambda: index.search("cats", mode=odd),
        lambda: Encoder.load("nano", backend=odd),
        lambda: Index.open(odd, model=encoder),
        lambda: Index.create(odd, model=encoder),
        lambda: Plan.of(10, 64, {}, 10**9).admit(odd),
    ]
    for call in calls:
        with pytest.raises(EdgeretError) as refusal:
            call()
        assert len(str(refusal.value)) < 700


def test_an_update_goes_to_no_text_stream(index):
    with pytest.raises(ArgumentError, match="binary stream"):
        edgeret.diff(index._path, index._path, io.StringIO())
