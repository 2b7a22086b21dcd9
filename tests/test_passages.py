# ruff: noqa: RUF001 - the letters are meant
from __future__ import annotations

import re
import time
import unicodedata
from itertools import pairwise

import pytest
from counts import tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode.passages import split, split_windows
from edgeret.encode.sentences import _ANYWHERE, sentences

Spans = list[tuple[int, int]]


def tokenize(text: str) -> Spans:
    """Words cut into pieces of four characters, and punctuation: the shape of word pieces."""
    return [match.span() for match in re.finditer(r"\w{1,4}|[^\w\s\u200b]", text)]


def cut(text: str, limit: int) -> list[str]:
    return [text[start:end] for start, end in split(text, tokenize(text), limit)]


def tokens_within(spans: Spans, start: int, end: int) -> int:
    return sum(start <= low and high <= end for low, high in spans)


pieces = st.sampled_from(
    ["a", "word", "longer", "extraordinarily", ".", "!", "?", ",", " ", "  ", "\n", "\n\n", " \n \n",
     "\n\t          \n", '."',
     "Z", "é", "\U0001f600", "中文。", "\u200b", "\t", "e.g. ", "3.14", ". A", "？！", "」", "।", "॥ ", "؟", "۔ ",
     "։", "። ", "།", " ", "．", "5", ";", "ά", "ไทย", "ไทย ลาว ", "ๆ"]
)  # fmt: skip
texts = st.lists(pieces, max_size=60).map("".join) | st.text(max_size=80)


@settings(max_examples=tries(500), deadline=None)
@given(texts, st.integers(1, 12))
def test_passages_cover_the_text_in_order_within_the_limit(text: str, limit: int) -> None:
    spans = tokenize(text)
    passages = split(text, spans, limit)
    position = 0
    for start, end in passages:
        assert position <= start < end
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip()
        position = end
    assert not text[position:].strip()
    counts = [tokens_within(spans, start, end) for start, end in passages]
    assert all(count <= limit for count in counts)
    assert sum(counts) == len(spans)


@given(texts)
def test_a_short_text_is_one_passage(text: str) -> None:
    start = len(text) - len(text.lstrip())
    expected = [(start, len(text.rstrip()))] if text.strip() else []
    assert split(text, tokenize(text), max(1, len(tokenize(text)))) == expected


@settings(deadline=None)
@given(texts, st.integers(1, 12))
def test_a_passage_splits_into_itself(text: str, limit: int) -> None:
    for passage in cut(text, limit):
        if len(tokenize(passage)) <= limit:
            assert cut(passage, limit) == [passage]


@settings(max_examples=tries(300), deadline=None)
@given(texts, st.integers(1, 12), st.sampled_from(["words", "blanks before words", "blanks too"]), st.data())
def test_passages_are_the_same_whatever_windows_their_tokens_come_in(
    text: str, limit: int, kind: str, data: st.DataObject
) -> None:
    spans = {
        "words": tokenize(text),
        "blanks before words": [match.span() for match in re.finditer(r"\s?\w{1,4}|\s?[^\w\s]", text)],
        "blanks too": [match.span() for match in re.finditer(r"\s{1,3}|\w{1,4}|[^\w\s]", text)],
    }[kind]
    edges = sorted(data.draw(st.lists(st.integers(0, len(spans)), max_size=6)))
    windows = [spans[first:last] for first, last in pairwise([0, *edges, len(spans)])]
    assert split_windows(text, windows, limit) == split(text, spans, limit)


def test_an_empty_line_of_many_blanks_ends_a_paragraph_in_whatever_window() -> None:
    text = f"one two three\n{' ' * 30}\n{'word ' * 20}"
    spans = [match.span() for match in re.finditer(r" {3}| |\n|\w+", text)]
    for edge in range(len(spans)):
        found = split_windows(text, [spans[:edge], spans[edge:]], 24)
        assert text[slice(*found[0])] == "one two three"


@pytest.mark.parametrize("text", ["", " ", "\n\n\t "])
def test_whitespace_has_no_passage(text: str) -> None:
    assert split(text, [], 8) == []


def test_text_without_tokens_is_kept() -> None:
    assert split(" \u200b ", [], 8) == [(1, 2)]


def test_sentences_are_packed_whole() -> None:
    text = "One two. Six ten? Now then! End it."
    assert cut(text, 6) == ["One two. Six ten?", "Now then! End it."]
    assert cut(text, 5) == ["One two.", "Six ten?", "Now then!", "End it."]
    assert cut(text, 100) == [text]


def test_quotes_stay_with_their_sentence() -> None:
    assert cut('He said "go." Then left.', 7) == ['He said "go."', "Then left."]
    assert cut("\u4f60\u597d\u3002\u518d\u89c1\u3002", 2) == ["\u4f60\u597d\u3002", "\u518d\u89c1\u3002"]


SENTENCES = {
    "Arabic": ["هل وصل القطار؟", "نعم وصل قبل ساعة.", "«اجلس هنا!»"],
    "Urdu": ["گاڑی آٹھ بجے چلتی ہے۔", "کیا تم تیار ہو؟", "میں گھر پر ہوں۔"],
    "Hindi": ["ट्रेन आठ बजे चलती है।", "क्या तुम तैयार हो?", "श्लोक समाप्त॥"],
    "Bengali": ["ট্রেন আটটায় ছাড়ে।", "তুমি কি তৈরি?", "আমি বাড়িতে আছি।"],
    "Amharic": ["ባቡሩ በስምንት ሰዓት ይሄዳል።", "ዝግጁ ነህ፧", "ቤት ነኝ።"],
    "Armenian": ["Գնացքը մեկնում է ութին։", "Ես տանն եմ։", "Դուռը բաց է։"],
    "Khmer": ["រថភ្លើងចេញម៉ោងប្រាំបី។", "ខ្ញុំនៅផ្ទះ។", "ទ្វារបើក។"],
    "Burmese": ["ရထားက ရှစ်နာရီမှာ ထွက်တယ်။", "ကျွန်တော် အိမ်မှာ၊ သူ ဈေးမှာ။", "တံခါး ပွင့်နေတယ်။"],
    "Tibetan": ["མེ་འཁོར་ཆུ་ཚོད་བརྒྱད་པར་འགྲོ།", "ང་ནང་ལ་ཡོད།", "སྒོ་ཕྱེ་འདུག །།"],
    "Chinese": ["火车八点开。", "你准备好了吗？！", "（我在家。）"],
    "Japanese": ["列車は８．５時に出ます．", "「準備はいい？」", "家にいます｡"],
    "Russian": ["Поезд уходит в восемь, и т. д. и т. п.", "Ты готов?", "Я дома…"],
    "Greek": ["Το τρένο φεύγει στις οκτώ.", "Είσαι έτοιμος;", "Είμαι σπίτι."],
    "German": ["Der Zug fährt z.B. über Köln.", "Er fragte: „Bist du bereit?“", "»Ich bin da.«"],
    "Spanish": ["El tren sale a las ocho.", "¿Estás listo?", "¡Estoy en casa!"],
    "Mongolian": ["ᠭᠠᠯᠲᠤ ᠲᠡᠷᠭᠡ ᠶᠠᠪᠤᠨᠠ᠃", "ᠪᠢ ᠭᠡᠷ ᠲᠦ ᠪᠠᠢᠨᠠ᠃", "ᠡᠭᠦᠳᠡ ᠨᠡᠭᠡᠭᠡᠲᠡᠢ᠃"],
}
UNSPACED = ("Chinese", "Japanese", "Tibetan")


@pytest.mark.parametrize("script", SENTENCES)
def test_sentences_end_in_every_script(script: str) -> None:
    blank = "" if script in UNSPACED else " "
    text = blank.join(SENTENCES[script] * 40)
    assert [text[start:end] for start, end in sentences(text)] == SENTENCES[script] * 40
    passages = cut(text, 50)
    assert len(passages) > 3
    for passage in passages:
        assert passage.endswith(tuple(SENTENCES[script]))
        assert passage.startswith(tuple(SENTENCES[script]))


def test_what_ends_sentences_is_no_letter() -> None:
    assert len(_ANYWHERE) == len(set(_ANYWHERE)) == 73
    assert {unicodedata.category(mark) for mark in _ANYWHERE} == {"Po"}


def test_thai_and_lao_end_phrases_with_blanks() -> None:
    """Where no sentence ends: better than within one, and better than an end that leaves a passage nearly empty."""
    phrases = ["แมวนอนบนเตียง", "เด็ก ๆ เล่น Python 3 กับ Windows 10 ทุกวัน", "เขากินข้าว"]
    text = " ".join(phrases * 20)
    assert [text[start:end] for start, end in sentences(text)] == phrases * 20
    assert all(passage.endswith(tuple(phrases)) for passage in cut(text, 25))
    assert cut("ໝາກິນ ແມວ abc ເຂົ້າ", 6)[0] == "ໝາກິນ"
    assert cut("นอน! ดอก ดอก ดอก ดอก ดอก ดอก", 6) == ["นอน! ดอก ดอก ดอก ดอก", "ดอก ดอก"]
    assert cut("ดอก ดอก ดอก นอน! ดอก ดอก ดอก", 6) == ["ดอก ดอก ดอก นอน!", "ดอก ดอก ดอก"]


def test_abbreviations_and_decimals_end_no_sentence() -> None:
    assert cut("Use e.g. tea now. Pi is 3.14 or so. Yes.", 12) == [
        "Use e.g. tea now.",
        "Pi is 3.14 or so. Yes.",
    ]


def test_a_paragraph_is_preferred_when_the_passage_is_half_full() -> None:
    text = "Aa bb cc dd. Ee ff.\n\nGg hh. Ii jj kk ll."
    assert cut(text, 11) == ["Aa bb cc dd. Ee ff.", "Gg hh. Ii jj kk ll."]
    assert cut("Aa.\n\nBb cc. Dd ee. Ff gg.", 10) == ["Aa.\n\nBb cc. Dd ee.", "Ff gg."]


def test_a_heading_ends_without_a_full_stop() -> None:
    assert cut("Heading here\n\nSome text that runs on and on", 6)[0] == "Heading here"


def test_a_long_sentence_is_cut_at_a_word() -> None:
    assert cut("alpha beta gamma delta", 3) == ["alpha beta", "gamma", "delta"]
    assert cut("a b c d e", 2) == ["a b", "c d", "e"]


def test_a_long_word_is_cut_between_tokens() -> None:
    assert cut("abcdefghijkl", 2) == ["abcdefgh", "ijkl"]


def test_tokens_of_one_character_stay_together() -> None:
    spans = [(0, 1), (0, 1), (0, 1), (1, 2), (2, 3)]
    assert split("\u00bdab", spans, 2) == [(0, 1), (1, 3)]
    assert split("\u00bd", spans[:3], 2) == [(0, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "." * 1_000_000,
        "\u4e2d" * 1_000_000,
        "." + " " * 1_000_000 + "x",
        "\n " * 500_000,
        ".\n" * 10,
    ],
    ids=["word", "dots", "chinese", "spaces", "lines", "short"],
)
def test_takes_linear_time(text: str) -> None:
    spans = [
        (position, position + 4) for position in range(0, len(text) - 3, 4) if not text[position].isspace()
    ]
    begun = time.process_time()
    passages = split(text, spans, 254)
    assert time.process_time() - begun < 5
    assert bool(passages) == bool(text.strip())
    if len(spans) > 254:
        assert len(passages) == -(-len(spans) // 254)


@settings(deadline=None)
@given(texts, st.integers(1, 12))
def test_tokens_that_begin_with_blanks_are_cut_where_others_are(text: str, limit: int) -> None:
    """As those of Unigram and BPE do: no word is cut that fits."""
    spans, taken = tokenize(text), [0]
    for _, end in spans:
        taken.append(end)
    blank = [
        (start - (start > before and text[start - 1].isspace()), end)
        for (start, end), before in zip(spans, taken, strict=False)
    ]
    assert split(text, blank, limit) == split(text, spans, limit)
