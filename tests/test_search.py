"""A search while the index changes under it."""

import sys
import unicodedata

import pytest
from crash import workload
from fake import FakeEncoder

from edgeret import Document, Index
from edgeret.errors import ClosedError, InvalidQueryError
from edgeret.storage.fts5 import count_matching, match_any
from edgeret.storage.rows import Rows

YEAR = {"year": 1}


@pytest.fixture
def meanwhile(monkeypatch):
    """Has a search do something else in the middle: once its view of the file is taken, before it looks at codes."""
    matching = Rows.matching

    def install(action) -> None:
        def interrupted(store, condition, parameters):
            monkeypatch.undo()
            action()
            return matching(store, condition, parameters)

        monkeypatch.setattr(Rows, "matching", interrupted)

    return install


def test_a_search_keeps_the_commit_that_it_began_with(index, meanwhile):
    index.add([Document(f"d{number}", f"red cat {number}", YEAR) for number in range(9)])
    seen_by_others = []

    def change() -> None:
        index.add([Document("late", "red cat", YEAR)])
        index.delete(["d3"])
        seen_by_others.extend(hit.id for hit in index.search("red cat", k=99))

    meanwhile(change)
    found = index.search("red cat", k=99, where=YEAR)
    every = {f"d{number}" for number in range(9)}
    assert {hit.id for hit in found} == every
    assert set(seen_by_others) == every - {"d3"} | {"late"}
    assert {hit.id for hit in index.search("red cat", k=99, where=YEAR)} == set(seen_by_others)


def test_a_search_ends_although_the_index_is_closed_meanwhile(path, meanwhile):
    index = Index.create(path, model=FakeEncoder(), bits=64, filters=["year"])
    index.add([Document("d", "red cat", YEAR)])
    meanwhile(index.close)
    assert [hit.id for hit in index.search("red cat", where=YEAR)] == ["d"]
    with pytest.raises(ClosedError):
        index.search("red cat")
    # Its connection was the last one, and merged the log.
    assert list(path.parent.iterdir()) == [path]


def test_a_filter_passes_over_blocks_in_which_nothing_matches(index, monkeypatch):
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    index.add(Document(f"d{number}", f"red cat {number}", {"year": number // 64}) for number in range(200))
    index.delete([f"d{number}" for number in range(64, 128)])
    assert index.check().blocks > 1
    for year, found in ((0, range(64)), (1, []), (2, range(128, 192)), (3, range(192, 200)), (4, [])):
        hits = index.search("red cat", k=200, where={"year": year})
        assert {hit.id for hit in hits} == {f"d{number}" for number in found}


def test_one_text_is_no_list_of_queries(index):
    with pytest.raises(InvalidQueryError, match="use search, or put it in a list"):
        index.search_many("red cat")


def spellings() -> list[str]:
    """Every letter that is one character or several."""
    every = (chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF)
    letters = [
        letter for letter in every if letter.isalpha() and unicodedata.normalize("NFD", letter) != letter
    ]
    return [letter for letter in letters if unicodedata.normalize("NFC", letter) == letter]


def test_composed_and_decomposed_letters_find_each_other():
    letters = spellings()
    assert len(letters) > 10_000
    letters = [letter for letter in letters if not "\uac00" < letter < "\ud7a4"] + ["\uac01", "\ud7a3"]
    for letter in letters:
        one = f"a{letter}b"
        other = unicodedata.normalize("NFD", one)
        for query in (one, other):
            assert count_matching(match_any(query), [one, other, "another"]) == 2, ascii(letter)


@pytest.mark.parametrize(
    "word",
    [
        "caf\u00e9",
        "\u041c\u043e\u0439",
        "\u039b\u03cc\u03b3\u03bf\u03c2",
        "\ud55c\uae00",
        "\u304c\u304e",
        "x\u0302y",
        "\u212bngstr\u00f6m",
    ],
)
def test_words_are_found_in_either_spelling(index, word):
    forms = {unicodedata.normalize(form, word) for form in ("NFC", "NFD")} | {word}
    documents = {f"{number}": f"before {form} behind" for number, form in enumerate(forms)}
    index.add(
        [Document(identity, text) for identity, text in documents.items()] + [Document("other", "nothing")]
    )
    for form in forms:
        for query in (form, form.upper(), f"{form}, or"):
            assert {hit.id for hit in index.search(query, mode="lexical")} == set(documents)


def test_a_word_that_has_one_spelling_is_asked_once():
    assert match_any("Red cat, red CAF\u00c9 cafe\u0301") == '"red" OR "cat" OR "caf\u00e9"'
    assert match_any("\u0301 \u200b -") == ""
