import json
import math
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import Document, Hit
from edgeret.documents import Record, _parse_deep, parse
from edgeret.errors import InvalidDocumentError


def test_a_string_is_named_by_its_hash():
    assert Record.of("hello").id == Record.of(Document(None, "hello")).id
    assert Record.of("hello").id == "46fb7408d4f285228f4af516ea25851b"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document("a", ""), "'a' is empty"),
        (Document("a", " \n"), "'a' is empty"),
        (Document("", "x"), "got an empty string"),
        (Document("a", "x\0y"), "holds a NUL"),
        (Document("a", "\ud800"), "lone surrogate"),
        (Document("a\0", "x"), "holds a NUL"),
        (Document(3, "x"), "the id to be a string, got int"),
        (Document("a", b"x"), "the text to be a string, got bytes"),
        (Document("a", "x", {"n": math.nan}), "JSON"),
        (Document("a", "x", {"n": object()}), "JSON"),
        (Document("a", "x", {1: "n"}), "key"),
        (Document("a", "x", ["n"]), "to be a mapping, got list"),
        (Document("a", "x", {"n": [{"m": "\0"}]}), "holds a NUL"),
        (Document("a", "x", {"n": {"m\0": 1}}), "holds a NUL"),
        (Document("a", "x", {"n": 10**400}), "integers of 64 bits"),
        (7, "expected a Document, a string or a mapping, got int"),
    ],
)
def test_bad_documents_are_refused_by_name(document, message):
    with pytest.raises(InvalidDocumentError, match=message):
        Record.of(document)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.int64(-5), "-5"),
        (np.uint64(2**63 - 1), str(2**63 - 1)),
        (np.float32(0.5), "0.5"),
        (np.float16(2), "2.0"),
        (np.bool_(True), "true"),
        ([np.int8(1), (np.bool_(False),)], "[1,[false]]"),
        (MappingProxyType({"b": MappingProxyType({"c": np.int16(1)})}), '{"b":{"c":1}}'),
    ],
)
def test_numbers_of_numpy_and_any_mapping_are_metadata(value, stored):
    assert Record.of(Document("a", "x", {"n": value})).metadata == f'{{"n":{stored}}}'


@pytest.mark.parametrize(
    "value",
    [
        np.uint64(2**63),
        np.float32("nan"),
        np.float64("inf"),
        np.complex64(1),
        np.datetime64("2020", "ns"),
        {1},
    ],
)
def test_values_of_numpy_that_json_lacks_are_refused(value):
    for metadata in ({"n": value}, {"n": [{"m": value}]}):
        with pytest.raises(InvalidDocumentError, match="document 'a'"):
            Record.of(Document("a", "x", metadata))


def test_an_empty_text_with_a_vector_is_a_document():
    assert Record.of(Document("a", "", {}, [1.0])).text == ""


parts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)


values = st.integers(-(2**63), 2**63 - 1) | parts | st.none() | st.booleans()


@given(parts, parts, st.dictionaries(parts, values, max_size=3))
def test_the_digest_tells_documents_apart(identity, text, metadata):
    record = Record.of(Document(identity, text, metadata))
    assert record.digest == Record.of(Document(identity, text, dict(reversed(metadata.items())))).digest
    others = (Document(identity + "x", text, metadata), Document(identity, "x" + text, metadata))
    assert all(Record.of(other).digest != record.digest for other in others)
    assert Record.of(Document(identity, text, {**metadata, "another": 1})).digest != record.digest


@pytest.mark.parametrize(
    "make",
    [
        lambda: Document("a", "x", {"n": [1, {"m": None}]}),
        lambda: Document("a", "x", {"n": [1, {"m": None}]}, np.arange(4.0)),
        lambda: Document(None, "x", MappingProxyType({"n": 1})),
        lambda: Hit("a", 0.5, "x", 0, 1, {"n": [1]}),
    ],
)
def test_equal_documents_and_hits_are_one_in_a_set(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert {make(), make()} == {make()}
    assert make() in [make()]
    assert make() != "a"


def test_whatever_differs_is_told_apart():
    vector = np.arange(4.0)
    documents = [
        Document("a", "x"),
        Document("b", "x"),
        Document("a", "y"),
        Document("a", "x", {"n": 1}),
        Document("a", "x", {"n": 2}),
        Document("a", "x", {}, vector),
        Document("a", "x", {}, vector + 1),
        Document("a", "x", {}, vector[:3]),
        Document("a", "x", {}, [[1, 2], [3]]),
        Document(None, "x"),
        # Two ids that differ in normalization alone.
        Document("caf\u00e9", "x"),
        Document("cafe\u0301", "x"),
    ]
    for document in documents:
        assert [other == document for other in documents].count(True) == 1
    assert Document("a", "x", {}, vector) == Document("a", "x", {}, [0, 1, 2, 3])
    assert Document("a", "x", {"m": 1, "n": 2}) == Document("a", "x", {"n": 2, "m": 1})
    hits = [Hit("a", 0.5, "x", 0, 1, {}), Hit("a", 0.5, "x", 0, 1, {"n": 1}), Hit("a", 0.4, "x", 0, 1, {})]
    assert len(set(hits)) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_metadata_are_parsed_alike_with_recursion_and_without(value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert _parse_deep(text) == json.loads(text)
    assert parse(text) == (value if isinstance(value, dict) else None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "]",
        "{]",
        '{"a"}',
        "[1",
        "1 2",
        "nul",
        '{"a":1}}',
        '"',
        "[[}",
        "{" * 5000,
        "[" * 10**5,
        '{"a":' * 5000,
    ],
)
def test_what_is_no_json_object_is_none_however_deep(text):
    assert parse(text) is None
    with pytest.raises(ValueError, match=r"."):
        _parse_deep(text)
