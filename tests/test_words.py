# ruff: noqa: RUF001 - the letters are meant
"""Words: the rules of docs/words.md, both builds, and the table beside Python's own Unicode."""

import re
import sqlite3
import unicodedata
from pathlib import Path

import pytest
from counts import long
from hypothesis import given
from hypothesis import strategies as st

from edgeret import words
from export import unicode

ROOT = Path(__file__).parent.parent
RULES = {
    "The entry is 10.20.30.40.": ["the", "entri", "is", "10.20.30.40", "10", "20", "30", "40"],
    "2024-05-03 20:40": ["2024-05-03", "2024", "05", "03", "20:40", "20", "40"],
    "PIO-13-84": ["pio-13-84", "pio", "13", "84"],
    "1,000,000 one,two": ["1,000,000", "1", "000", "000", "on", "two"],
    "foo_bar getFoo HTTPServer iPhone": [
        "foo_bar", "foo", "bar", "getfoo", "get", "foo", "httpserver", "http", "server", "iphon", "phone",
    ],
    "C++ C# .NET file.txt C++11": ["c++", "c", "c#", "c", ".net", "net", "file.txt", "file", "txt", "c", "11"],
    "e-mail well-known x-2": ["email", "e", "mail", "wellknown", "well", "known", "x-2", "x", "2"],
    "user@host.org R&D": ["user@host.org", "user", "host", "org", "r&d", "r", "d"],
    "a/b/c.py": ["a/b/c.py", "a", "b", "c", "py"],
    "it's a--b end. Next": ["it", "s", "a", "b", "end", "next"],
    "İstanbul IŞIK ışık": ["istanbul", "isik", "isik"],
    "Straße STRASSE GRÖSSE": ["strass", "strass", "gross"],
    "oil \ufb01lter extin\u00adguisher pass\u200bword ＡＢＣ１": ["oil", "filter", "extinguish", "password", "abc1"],
    unicodedata.normalize("NFD", "Résumé São Nguyễn"): ["resum", "sao", "nguyen"],
    "Łódź Øre Đà æon": ["lodz", "or", "da", "aeon"],
    "दिल्ली में": ["दिल्ली", "में"],
    "东京塔 猫": ["东京", "京塔", "塔", "猫"],
    "iPhone手机7": ["iphon", "phone", "手机", "机", "7"],
    "か\u3099く ｶﾞ": ["か\u3099く", "く", "カ\u3099"],
    unicodedata.normalize("NFD", "한국어"): ["한국", "국어", "어"],
    "ไทย": ["ไท", "ทย", "ย"],
    "٣٫٥ १२": ["3", "5", "12"],
    "كِتَاب كتـاب": ["كتاب", "كتاب"],
    "🍕🍔 👩🏽\u200d💻 🇩🇪🇫🇷 ❤️": ["🍕", "🍔", "👩", "💻", "🇩🇪", "🇫🇷", "❤"],
    "": [],
    " — ()": [],
}  # fmt: skip


@pytest.fixture(params=["native", "python"])
def build(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
    elif words._words is None:
        pytest.skip("this edgeret is built without its native words")


@pytest.mark.parametrize("text", RULES)
def test_a_text_has_the_words_of_the_page(build, text):
    assert words.terms(text) == RULES[text]


def test_a_word_stands_where_it_was_found(build):
    text = "Der \ufb01lter, re\u0301sume\u0301 getFoo 3.11"
    found = {word.term: text[word.start : word.stop] for word in words.split(text, None)}
    assert found == {
        "der": "Der", "filter": "\ufb01lter", "resume": "re\u0301sume\u0301", "getfoo": "getFoo", "get": "get",
        "foo": "Foo", "3.11": "3.11", "3": "3", "11": "11",
    }  # fmt: skip


def test_long_words_are_cut_and_long_compounds_known_by_their_parts(build):
    assert words.terms("x" * 1000) == ["x" * 64]
    assert words.terms("-".join(["part"] * 20)) == ["part"] * 20


PIECES = st.sampled_from(
    [*"aZ9.-_,+# éßﬁ㈱İ东かｶﾞกद🍕🇩½Σ", "́", "\xad", "゙", "ᄒ", "ᅡ", "ᆫ", "่", "्", "\u200d", "running"]
)


@pytest.mark.skipif(words._words is None, reason="this edgeret is built without its native words")
@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=40), st.sampled_from(["en", None]))
def test_both_builds_give_the_same_words(text, language):
    stemmed = words.stem if language else words._as_it_is
    assert words.split(text, language) == list(words._split(text, stemmed))


@given(st.text(max_size=60))
def test_folding_is_the_same_for_composed_and_decomposed_texts(text):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert words.terms(forms[0]) == words.terms(forms[1])


@given(st.text(max_size=60))
def test_words_lie_in_the_text_in_order(text):
    found = words.split(text)
    assert all(0 <= word.start < word.stop <= len(text) for word in found)
    assert [word.start for word in found] == sorted(word.start for word in found) or len(found) > 1


def test_stems_are_those_of_fts5():
    texts = [path.read_text() for path in sorted(ROOT.glob("docs/*.md"))]
    known = sorted(set(re.findall(r"[a-z]{3,40}", " ".join(texts).lower())))
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE lexicon USING fts5 (text, tokenize = 'porter unicode61')")
    database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab (lexicon, instance)")
    database.executemany("INSERT INTO lexicon (rowid, text) VALUES (?, ?)", enumerate(known))
    found = dict(database.execute("SELECT doc, term FROM terms"))
    database.close()
    assert len(known) > 1000
    assert [found[row] for row in range(len(known))] == [words.stem(word) for word in known]


@long
def test_the_table_is_that_of_this_pythons_unicode_as_far_as_that_goes():
    """Decompositions never change; characters that are new, or were moved to another category, may differ."""
    table = words._table()
    different = []
    for code in range(0x110000):
        if unicodedata.category(chr(code)) == "Cn" or 0xD800 <= code < 0xE000:
            continue
        offset, length, *_ = table.record(code)
        pooled = "".join(map(chr, table.pool[offset : offset + length]))
        text = unicode.folded(code)
        dropped = table.record(code)[2] == words.Kind.IGNORED
        if (pooled or ("" if dropped else chr(code))) != text:
            different.append(code)
    assert len(different) <= 20, [f"{code:x}" for code in different]


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("塔", [("塔", True)]),
        ("东京塔", [("东京", False), ("京塔", False)]),
        ("塔 red", [("塔", True), ("red", False)]),
        ("ก็", [("ก็", True)]),
        ("a", [("a", False)]),
        ("1", [("1", False)]),
    ],
)
def test_a_single_character_of_a_script_without_spaces_is_asked_as_a_beginning(build, query, asked):
    assert words.asked(query) == asked


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("red batte", [("red", False), ("batt", True)]),
        ("batteries", [("batteri", True)]),
        ("happy", [("happ", True)]),
        ("running", [("run", True)]),
        ("red ", [("red", False)]),
        ("", []),
        ("c", [("c", True)]),
        ("PIO-1", [("pio-1", True), ("pio", False), ("1", True)]),
        ("东京塔", [("东京", False), ("京塔", True)]),
        ("塔", [("塔", True)]),
    ],
)
def test_the_word_that_is_being_typed_is_asked_as_a_beginning(build, query, asked):
    assert words.asked(query, prefix=True) == asked
