"""A text's tokens and passages, a window at a time, are those of the whole text."""

from itertools import chain

import pytest
from counts import tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import windows
from edgeret.encode.encoder import Encoder
from edgeret.encode.passages import split, split_windows
from edgeret.errors import InvalidDocumentError

PIECES = [
    "a", "word", "longer", "extraordinarily", ".", "!", "?", ",", " ", "  ", "\n", "\n\n", " \n \n", '."', "Z", "é",
    "🍕", "中文。", "\u200b", "\t", "e.g. ", "3.14", ". A", "[SEP]", "[UNK]", "각", "e\u0301", "\xad", "x" * 130,
    "ሰላም ", " " * 30, "Lorem ipsum dolor. Sit amet",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).flatmap(
    lambda pool: st.lists(st.sampled_from(pool), max_size=400).map("".join)
)

LONG = {
    "sentences": "The quick brown fox jumps over the lazy dog, number 17. Then it rests.\n\n" * 600,
    "one word": "x" * 40_000,
    "one line without spaces": "x.y" * 12_000,
    "a long word in sentences": "Hello there. " * 300 + "y" * 30_000 + " and on. " * 500,
    "spaces": "." + " " * 30_000 + "x",
    "spaces between words": (" " * 5_000).join(["The", "cat", "sat.", "On", "what?"]),
    "chinese": "中文很多。" * 6_000,
    "hangul": "각" * 20_000,
    "emoji": "🍕🍔" * 10_000,
    "amharic": "ሰላም " * 6_000,
    "decomposed": "e\u0301" * 10_000,
    "marks alone": "\u0301" * 20_000,
    "special tokens": "a[SEP]b" * 4_000,
    "lines": "word\n" * 8_000,
    "dots": "." * 20_000,
}


@pytest.fixture(scope="module")
def tokenizer():
    encoder = Encoder.load("nano")
    encoder.encode(["x"])
    return encoder._pipeline().tokenizer


def assert_as_whole(tokenizer, text: str, limits) -> None:
    whole = tokenizer.tokenize(text, special=False)
    parts = list(windows.windows(tokenizer, text))
    assert list(chain.from_iterable(part.ids for part in parts)) == whole.ids
    assert list(chain.from_iterable(part.spans for part in parts)) == whole.spans
    for limit in limits:
        expected = split(text, whole.spans, limit)
        assert split_windows(text, [part.spans for part in parts], limit) == expected


@pytest.mark.parametrize("text", LONG.values(), ids=LONG.keys())
def test_windows_are_the_whole(tokenizer, text):
    assert len(list(windows.windows(tokenizer, text))) <= len(text) / 2_000 + 1
    assert_as_whole(tokenizer, text, [7, 254])


@pytest.mark.parametrize(("characters", "overlap"), [(300, 120), (700, 256)])
def test_small_windows_are_the_whole(tokenizer, monkeypatch, characters, overlap):
    monkeypatch.setattr(windows, "CHARACTERS", characters)
    monkeypatch.setattr(windows, "_OVERLAP", overlap)

    @settings(max_examples=tries(150), deadline=None)
    @given(texts, st.integers(1, 40))
    def check(text, limit):
        assert_as_whole(tokenizer, text, [limit])

    check()


@pytest.mark.parametrize("where", [0, 5_000, 70_000])
def test_a_lone_surrogate_is_found_wherever_it_is(where):
    text = "a " * (where // 2) + "\ud800" + " b" * 100
    for call in (Encoder.load("nano").encode_query, Encoder.load("nano").token_spans):
        with pytest.raises(InvalidDocumentError, match=f"surrogate at {where}: decode"):
            call(text)


def test_a_long_texts_vector_is_that_of_its_beginning():
    encoder = Encoder.load("nano")
    text = LONG["sentences"]
    spans = encoder.token_spans(text)
    beginning = text[: spans[encoder.passage_tokens - 1][1]]
    assert encoder.encode([text]).tobytes() == encoder.encode([beginning]).tobytes()
