"""What a query has between double quotes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import phrases

TEXT = "The Red Cat of 10.20.30.40 runs; e-mail to getFoo, in C++. Größe: 东京塔很高"


@pytest.mark.parametrize(
    ("quoted", "is_said"),
    [
        ("red cat", True),
        ("RED CAT", True),
        ("cat red", False),
        ("red", True),
        ("cats", False),
        ("run", False),
        ("cat of 10.20.30.40", True),
        ("20.10", False),
        ("e-mail to getfoo", True),
        ("grosse", True),
        ("东京塔", True),
        ("京塔很", True),
        ("塔", True),
        ("东塔", False),
        ("红", False),
        ("c++", True),
        ("cat runs", False),
    ],
)
def test_a_phrase_is_said_word_by_word(quoted, is_said):
    for query in (f'"{quoted}"', f"and “{quoted}” too"):
        assert phrases.said(phrases.of(query), TEXT) == is_said


@pytest.mark.parametrize(
    "query", ['an "open quote', '""', '" "', '"!?"', "red cat", '"', '""""', "“red cat", "'red cat'"]
)
def test_what_is_no_phrase_is_none(query):
    assert phrases.of(query) == []


def test_all_phrases_are_to_be_said():
    assert phrases.said(phrases.of('"red cat" "in C++"'), TEXT)
    assert not phrases.said(phrases.of('"red cat" "blue dog"'), TEXT)
    assert len(phrases.of('"a" ' * 100)) == phrases.MOST


@given(
    st.lists(
        st.sampled_from(["red", "cat", "10.2", "e-mail", "getFoo", "东京塔", "C++", "é"]),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_any_part_of_a_text_is_said(parts, data):
    first = data.draw(st.integers(0, len(parts) - 1))
    last = data.draw(st.integers(first, len(parts) - 1))
    quoted = " ".join(parts[first : last + 1])
    assert phrases.said(phrases.of(f'"{quoted}"'), " ".join(parts))


@given(st.text(max_size=80))
def test_nothing_that_is_typed_raises(query):
    phrases.said(phrases.of(query), query)
