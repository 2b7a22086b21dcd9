import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import Document
from edgeret.documents import Record
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
        (7, "expected a Document or a string, got int"),
    ],
)
def test_bad_documents_are_refused_by_name(document, message):
    with pytest.raises(InvalidDocumentError, match=message):
        Record.of(document)


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
