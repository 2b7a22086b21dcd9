# ruff: noqa: RUF001 - the letters are meant
"""Capitals: what is written in them is read in small letters, where letters have tokens of their own by their size."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgeret
from edgeret.encode.capitals import lowered
from edgeret.encode.encoder import Encoder

WORLD = Path(__file__).parent.parent / "world" / "edgeret_world" / "world-nano"
SHOUTED = "WHERE DO I RESET THE WIRELESS CONNECTION?"


@pytest.fixture(scope="module")
def cased() -> Encoder:
    return Encoder.load(WORLD)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (SHOUTED, SHOUTED.lower()),
        ("ГДЕ НАХОДИТСЯ КНОПКА", "где находится кнопка"),
        ("ΠΟΥ ΕΙΝΑΙ ΤΟ ΚΟΥΜΠΙ ΑΥΤΟΣ", "που ειναι το κουμπι αυτος"),
        ("COMPUTERIZED 電子計算", "computerized 電子計算"),
        ("İSTANBUL'DA HAVA NASIL", "İstanbul'da hava nasil"),
        ("CALLE MAYOR Nº 5, 2ª PLANTA", "calle mayor nº 5, 2ª planta"),
    ],
)
def test_what_is_written_in_capitals_is_read_in_small_letters(text, read):
    assert lowered(text) == read


@pytest.mark.parametrize(
    "text",
    [
        "", "IBM PC", "UNESCO", "Where is the button?", "WHERE IS the BUTTON", "1234 5678", "ﷺ مرحبا", "猫が窓辺で",
        "用電腦訓練語言模型的方法 GPU ABCDE",
    ],
)  # fmt: skip
def test_other_texts_are_read_as_they_are(text):
    assert lowered(text) is text


@given(st.text(st.characters(exclude_categories=("Cs",), max_codepoint=0x2FFFF)))
def test_characters_stay_where_they_are(text):
    for written in (text, text.upper()):
        read = lowered(written)
        assert len(read) == len(written)
        assert all(
            low in (letter, letter.lower()) or letter == "Σ"
            for letter, low in zip(written, read, strict=True)
        )


def test_a_question_in_capitals_finds_what_the_same_one_finds(cased, tmp_path):
    shouted, said = (cased.encode_query(text).vectors for text in (SHOUTED, SHOUTED.lower()))
    assert shouted.tobytes() == said.tobytes()
    assert cased.encode_queries([SHOUTED]).tobytes() == said.tobytes()
    assert cased.encode([SHOUTED]).tobytes() == cased.encode([SHOUTED.lower()]).tobytes()
    assert cased.encode_passages([SHOUTED]).tobytes() == cased.encode_passages([SHOUTED.lower()]).tobytes()
    with edgeret.Index.create(tmp_path / "capitals.edgeret", model=cased) as index:
        index.add([SHOUTED.lower(), "a fox crossed the river", "DER ZUG NACH HAMBURG FÄHRT UM ACHT"])
        hit = index.search("der zug nach hamburg fährt um acht", k=1, mode="dense")[0]
        assert hit.text == "DER ZUG NACH HAMBURG FÄHRT UM ACHT"
        assert hit.score > 0.9


def test_a_passage_that_is_longer_in_small_letters_is_read_to_its_end(cased):
    """It was cut by its tokens as it stands."""
    words = [word for word in ("NATO", "USA", "FIFA", "NASA", "BBC", "UEFA") if more(cased, word)]
    assert words
    room = cased.passage_tokens
    text = " ".join(words * room)
    text = text[: cased.token_spans(text)[room - 1][1]]
    assert more(cased, text)
    one, other = cased.encode([text, text.rsplit(" ", 1)[0]])
    assert not np.array_equal(one, other)
    assert cased.encode_query(text).windows == 1


def more(encoder: Encoder, text: str) -> bool:
    tokenizer = encoder._pipeline().tokenizer
    return len(tokenizer.ids(text.lower())) > len(tokenizer.ids(text))


def test_a_model_without_capitals_reads_every_text_as_it_is():
    assert not Encoder.load("nano")._pipeline().cased
