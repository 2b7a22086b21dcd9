"""What a query has between double quotes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index, phrases
from edgeret.storage.rows import Rows
from edgeret.words import MOST_ASKED

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


def test_a_phrase_may_be_longer_than_what_is_looked_up():
    text = " ".join(f"word{number}" for number in range(3 * MOST_ASKED))
    assert phrases.said(phrases.of(f'"{text}"'), f"before {text} behind")
    assert not phrases.said(phrases.of(f'"{text} end"'), f"before {text} behind")


def test_all_phrases_are_to_be_said():
    assert phrases.said(phrases.of('"red cat" "in C++"'), TEXT)
    assert not phrases.said(phrases.of('"red cat" "blue dog"'), TEXT)
    assert len(phrases.of('"a" ' * 100)) == phrases.MOST


def test_of_very_many_phrases_only_those_that_count_are_made(monkeypatch):
    made, one = [], phrases._phrase
    monkeypatch.setattr(phrases, "_phrase", lambda text: made.append(text) or one(text))
    assert len(phrases.of('"!" "a" ' * 10_000)) == phrases.MOST
    assert len(made) == 2 * phrases.MOST


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


TEXTS = {
    "order": "The red cat sleeps",
    "reverse": "A cat, red and round",
    "near": "A red and tired cat",
    "both": "Cats run. The red cat of the blue house",
    "stem": "Red cats",
}


@pytest.fixture
def filled(index):
    index.add(Document(name, text, {"year": number}) for number, (name, text) in enumerate(TEXTS.items()))
    return index


@pytest.mark.parametrize("mode", ["lexical", "hybrid", None])
def test_only_what_says_a_phrase_is_found(filled, mode):
    def found(query, **more):
        return {hit.id for hit in filled.search(query, mode=mode, **more)}

    assert found('"red cat"') == {"order", "both"}
    assert found('sleeping "Red Cat"') == {"order", "both"}
    assert found('"red cat" "blue house"') == {"both"}
    assert found('"red cat"', where={"year": {"$lt": 2}}) == {"order"}
    assert found('"cat red"') == {"reverse"}
    assert found('"green cat"') == (set() if mode == "lexical" else {*TEXTS})
    assert filled.explain('"green cat"', mode=mode).phrases_said is False
    assert filled.explain('"red cat"', mode=mode).phrases_said is True
    assert filled.explain("green cat", mode=mode).phrases_said is True
    assert "reverse" in found('red "cat')
    assert filled.explain('"red cat"', mode=mode).phrases_read == len(TEXTS)
    assert filled.explain("red cat", mode=mode).phrases_read == 0


def test_where_nothing_says_a_phrase_meaning_answers_as_if_nothing_were_quoted(filled):
    quoted, plain = ('where is the "green" "red blue cat"?', "where is the green red blue cat?")
    assert [hit.id for hit in filled.search(quoted)] == [hit.id for hit in filled.search(plain)]
    # Where one is left by a filter, and where none is.
    assert {hit.id for hit in filled.search('"red cat"', where={"year": {"$lt": 2}})} == {"order"}
    assert len(filled.search('"red cat"', where={"year": {"$gt": 3}})) > 0
    assert filled.search('"red cat"', where={"year": 99}) == []


@pytest.mark.parametrize("options", [{}, {"offset": 0}, {"per_document": None}, {"group_by": "year"}])
@pytest.mark.parametrize("mode", ["lexical", "hybrid", None])
def test_where_one_of_several_indexes_says_a_phrase_the_others_are_silent(
    filled, encoder, tmp_path, mode, options
):
    with Index.create(tmp_path / "other.edgeret", encoder) as other:
        other.add(["A cat, round and red", "Red cats and red dogs"])

        def found(query):
            hits = edgeret.search_indexes([other, filled], query, mode=mode, **options)
            return {(index, hit.id) for index, hit in hits}

        assert found('"red cat"') == {(filled, "order"), (filled, "both")}
        assert {index for index, _ in found('"red dogs" cat')} == {other}
        # Where none of them does, all are asked as if nothing were quoted.
        assert {index for index, _ in found('"green cat"')} == (
            set() if mode == "lexical" else {other, filled}
        )
        assert {index for index, _ in found("red cat")} == {other, filled}


def test_by_meaning_alone_quotes_mean_nothing(filled):
    assert len(filled.search('"red cat"', mode="dense")) == len(TEXTS)


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_many_queries_have_each_its_phrases(filled, mode):
    queries = ['"red cat"', "red cat", '"cat red" house', "blue"]
    assert filled.search_many(queries, mode=mode) == [filled.search(query, mode=mode) for query in queries]


def test_a_vector_among_texts_has_none(filled, encoder):
    queries = ['"red cat"', encoder.encode(["blue house"])[0]]
    assert [len(hits) for hits in filled.search_many(queries)] == [2, len(TEXTS)]


def test_so_many_passages_are_read_and_no_more(index, monkeypatch):
    monkeypatch.setattr(phrases, "READ", 5)
    index.add(["cat red " * number for number in range(1, 30)])
    index.add(["the red cat"])
    explained = index.explain('"red cat"')
    assert explained.phrases_read == 5


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_few_vectors_are_in_memory_however_many_passages_are_read(index, monkeypatch, mode):
    index.add(Document(str(number), f"a red cat {number}") for number in range(450))
    read, together = Rows._lines, []
    monkeypatch.setattr(Rows, "_lines", lambda self, rows: together.append(len(rows)) or read(self, rows))
    with Index.open(index._path, index.encoder, memory_budget="30MB", readonly=True) as bounded:
        explained = bounded.explain('"red cat"', k=3, mode=mode)
        assert (explained.phrases_read, len(explained.hits)) == (450, 3)
        assert len(bounded.search("red cat", k=400, mode="lexical")) == 400
    assert sum(together) > 850
    assert max(together) <= 128


def test_in_a_file_of_format_1_quoted_words_are_words(first_format):
    path, reader = first_format
    with Index.open(path, reader, readonly=True) as index:
        word = index.get(index.search("the", k=1)[0].id).text.split()[0]
        for mode in ("lexical", "hybrid"):
            explained = index.explain(f'"{word} {word} {word}"', mode=mode)
            assert explained.hits
            assert explained.phrases_read == 0


@pytest.mark.parametrize(
    "text", ["A YouTube channel about birds", "a youtube channel", "the e-mail of YouTube channels"]
)
def test_a_word_of_several_is_one_in_a_phrase(text):
    asked = phrases.of('"youtube channel"' if "channels" not in text else '"youtube channels"')
    assert phrases.said(asked, text)
    assert not phrases.said(phrases.of('"you channel"'), text)
