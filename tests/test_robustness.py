"""What is done to queries and texts, and what is made of the answers."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import disturbances, ledger, metrics, quality, robustness
from benchmarks.__main__ import main
from benchmarks.datasets import Collection
from tests.fake import FakeEncoder

LETTERS = st.characters(categories=("Lu", "Ll", "Lo"))
WORDS = st.text(LETTERS, min_size=5, max_size=12)


def places(word: str) -> range:
    return range(len(word))


def is_swap(word: str, made: str) -> bool:
    return made in [word[:at] + word[at : at + 2][::-1] + word[at + 2 :] for at in places(word)]


def is_drop(word: str, made: str) -> bool:
    return made in [word[:at] + word[at + 1 :] for at in places(word)]


def is_double(word: str, made: str) -> bool:
    return made in [word[: at + 1] + word[at:] for at in places(word)]


def is_key(word: str, made: str) -> bool:
    changed = [at for at in places(word) if made[at] != word[at]]
    rows = ["qwertyuiop", "asdfghjkl", "zxcvbnm"]
    pairs = {row[at : at + 2] for row in rows for at in range(len(row) - 1)}
    [(old, new)] = [(word[at], made[at]) for at in changed]
    in_a_row = {(old + new).lower(), (new + old).lower()} & pairs
    return len(made) == len(word) and bool(in_a_row) and old.isupper() == new.isupper()


KINDS = {"swap": is_swap, "drop": is_drop, "double": is_double, "key": is_key}


@given(WORDS)
def test_an_edit_is_what_its_kind_says(word):
    made = disturbances.edits(word)
    assert made.keys() == KINDS.keys()
    for kind, words in made.items():
        for other in words:
            assert other != word
            assert KINDS[kind](word, other), (kind, other)
    assert len(made["drop"]) == len(made["double"]) == len(word)


def test_the_edits_of_a_word_by_hand():
    assert disturbances.edits("abb") == {
        "swap": ["bab"],
        "drop": ["bb", "ab", "ab"],
        "double": ["aabb", "abbb", "abbb"],
        "key": ["sbb", "avb", "anb", "abv", "abn"],
    }
    assert disturbances.edits("Ré")["key"] == ["Eé", "Té"]


@given(st.text(max_size=80), st.floats(0, 1), st.integers(0, 9))
def test_typos_repeat(text, probability, seed):
    assert disturbances.typos(text, probability, seed) == disturbances.typos(text, probability, seed)
    assert disturbances.typos(text, 0, seed) == text


@given(st.lists(st.one_of(st.text(LETTERS, min_size=1, max_size=4), st.from_regex(r"\A[0-9_]{5,9}\Z"))))
def test_short_words_and_numbers_stay(words):
    text = " ".join(words)
    assert disturbances.typos(text, 1) == text


@given(st.lists(st.one_of(WORDS, st.sampled_from(["in", "of", "2024", "a_b", "(x)"])), max_size=8))
def test_each_long_word_is_edited_once_and_nothing_else(words):
    made = disturbances.typos(" ".join(words), 1).split(" ") if words else []
    for word, other in zip(words, made, strict=True):
        if len(word) < 5:
            assert other == word
        else:
            assert other in [made for kind in disturbances.edits(word).values() for made in kind]


def test_as_many_words_are_edited_as_was_said():
    words = [f"{first}{second}ethereal" for first in "abcdefghij" for second in "abcdefghijklmnopqrst"]
    made = disturbances.typos(" ".join(words), 0.3).split()
    edited = sum(word != other for word, other in zip(words, made, strict=True))
    assert 40 <= edited <= 80
    assert made != disturbances.typos(" ".join(words), 0.3, seed=1).split()


def test_the_changes_of_a_query():
    changes = disturbances.changes(1, seed=0)
    made = {name: change("List a Folder") for name, change in changes.items()}
    assert next(iter(made.items())) == ("clean", "List a Folder")
    assert made["upper"] == "LIST A FOLDER"
    assert made["lower"] == "list a folder"
    assert made["title"] == "List A Folder"
    assert made["typos"].startswith("List a ")
    assert made["typos"] != "List a Folder"


def collection(**queries: str) -> Collection:
    documents = {"bread": "salt oven flour", "river": "sea boat wave", "motor": "gear loud noise"}
    return Collection("tiny", documents, queries, {query: {query: 1} for query in queries})


def test_each_change_is_asked_by_itself(monkeypatch):
    monkeypatch.setattr(robustness, "BITS", 96)
    encoder = FakeEncoder()
    changes = disturbances.changes(0, 0) | {"nonsense": lambda text: "qqq www"}
    found = robustness.ask(
        collection(bread="SALT oven", motor="loud gear"), encoder, encoder, encoder, changes
    )
    assert list(found) == list(changes)
    for name, columns in found.items():
        assert columns.keys() == set(quality.COLUMNS)
        assert columns["ndcg10"].shape == (2,)
        assert columns["ndcg10"].tolist() == columns["ndcg10_teacher"].tolist()
        if name != "nonsense":
            assert columns["ndcg10"].tolist() == columns["ndcg10_lexical"].tolist() == [1, 1]
    assert found["nonsense"]["ndcg10_lexical"].tolist() == [0, 0]


def test_shares_by_hand():
    def columns(search, teacher, lexical):
        values = {"ndcg10": search, "ndcg10_teacher": teacher, "ndcg10_lexical": lexical}
        return {name: np.full(3, value) for name, value in values.items()}

    one = {"clean": columns(0.8, 1.0, 0.5), "typos": columns(0.6, 0.8, 0.1)}
    other = {"clean": columns(0.4, 0.8, 0.5), "typos": columns(0.2, 0.4, 0.2)}
    line = robustness.shares([one, other])
    assert line["clean"] == {"ndcg10": 0.6, "of_teacher": 0.65, "of_teacher_interval": [0.65, 0.65]}
    assert line["typos"] == {
        "ndcg10": 0.4,
        "of_teacher": 0.625,
        "of_teacher_interval": [0.625, 0.625],
        "of_clean": 0.625,
        "of_clean_interval": [0.625, 0.625],
        "teacher_of_clean": 0.65,
        "lexical_of_clean": 0.3,
    }


def test_long_texts_are_joined_and_cut_to_what_a_passage_holds():
    documents = {str(number): " ".join([f"w{number}"] * 5) for number in range(9)} | {"empty": ""}
    documents["long"] = " ".join(f"long{number}" for number in range(40))
    whole = Collection("many", documents, {}, {})
    encoder = FakeEncoder(passage_tokens=12)
    texts = robustness.long_texts(whole, encoder, 3, seed=0)
    assert [len(text.split()) for text in texts] == [12, 12, 12]
    assert texts == robustness.long_texts(whole, encoder, 3, seed=0)
    assert texts != robustness.long_texts(whole, encoder, 3, seed=1)
    assert len(robustness.long_texts(whole, encoder, 99, seed=0)) <= 85 // 12
    assert robustness.long_texts(whole, encoder, 0, seed=0) == []


def test_beginnings_have_as_many_tokens_as_their_bucket_says():
    encoder = FakeEncoder(passage_tokens=254)
    texts = [" ".join(f"{start}w{number}" for number in range(254)) for start in range(40)]
    made = robustness.beginnings(texts, encoder, seed=0)
    assert list(made) == ["1-16", "17-32", "33-64", "65-128", "129-256"]
    for bucket, part in made.items():
        least, most = map(int, bucket.split("-"))
        counts = [len(text.split()) + 2 for text in part]
        assert least <= min(counts) <= max(counts) <= most
        assert all(text.startswith(one) for text, one in zip(texts, part, strict=True))
        assert len(set(counts)) > 5


def test_nearness_to_the_same_and_to_another_encoder():
    texts = {"1-16": [f"word{number} and others" for number in range(30)]}
    same = robustness.nearness(texts, FakeEncoder(), FakeEncoder())
    assert same == {"1-16": {"cosine": 1, "overlap": 1}}
    other = robustness.nearness(texts, FakeEncoder(), FakeEncoder(seed=5))["1-16"]
    assert abs(other["cosine"]) < 0.3
    assert other["overlap"] < 0.8
    assert robustness.mean_nearness([same, {"1-16": {"cosine": 0, "overlap": 0.5}}]) == {
        "1-16": {"cosine": 0.5, "overlap": 0.75}
    }


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    words = [f"alpha{number} beta{number} gamma{number}" for number in range(12)]
    (path / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{number}", "text": text}) + "\n" for number, text in enumerate(words))
    )
    (path / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{number}", "text": text}) + "\n" for number, text in enumerate(words))
    )
    (path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{number}\td{number}\t1\n" for number in range(12))
    )
    return path


def student(name: str) -> FakeEncoder:
    """Another encoder of the same space."""
    encoder = FakeEncoder(passage_tokens=8)
    encoder.name = name
    return encoder


@pytest.fixture
def faked(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(robustness, "BITS", 96)
    monkeypatch.setattr(robustness, "read_teacher", lambda folder: FakeEncoder())
    monkeypatch.setattr(robustness, "load_encoder", student)
    monkeypatch.setattr(metrics, "share_interval", partial(metrics.share_interval, rounds=50))
    return tmp_path / "lines.jsonl"


def test_lines_are_stored_and_printed_as_a_table(folder, faked, capsys):
    argv = ["robustness", "--typos", "0.5", "--results", str(faked)]
    assert main([*argv, "--model", "fake-0", str(folder)]) == 0
    first, mean = ledger.read(faked)
    assert (first["collection"], first["model"], first["texts"]) == ("tiny", "fake-0", 4)
    assert (mean["collection"], mean["collections"]) == ("mean", ["tiny"])
    assert mean["queries"] == first["queries"]
    assert list(mean["queries"]) == ["clean", "typos", "upper", "lower", "title"]
    assert mean["queries"]["upper"]["of_clean"] == mean["queries"]["typos"]["of_teacher"] == 1
    assert mean["lengths"]["1-16"] == {"cosine": 1, "overlap": 1}
    printed = capsys.readouterr().out
    assert printed.startswith(
        "|  | `fake-0` |\n| --- | --- |\n| tiny, of the teacher | 1.000 (1.000-1.000) |\n"
    )
    assert "| upper, of its own clean queries | 1.000 (1.000-1.000) |\n" in printed
    assert "| 129-256 tokens, cosine / ten nearest | 1.000 / 1.000 |\n" in printed

    assert main([*argv, "--model", "fake-0", "--query-model", "fake-3", str(folder)]) == 0
    assert len(ledger.read(faked)) == 4
    assert capsys.readouterr().out.startswith("|  | `fake-0` | `fake-0`, queries `fake-3` |\n")
    assert main([*argv, "--model", "fake-0", str(folder)]) == 0
    assert len(ledger.read(faked)) == 4
    both = capsys.readouterr().out
    assert "| 1-16 tokens, cosine / ten nearest | 1.000 / 1.000 | - |\n" in both
    assert "upper, of the teacher" not in both
    assert main(argv) == 0
    assert capsys.readouterr().out == both


def test_robustness_refuses_in_one_line(folder, faked, monkeypatch, capsys):
    argv = ["robustness", "--model", "fake-0", "--results", str(faked)]
    for wrong, told in (
        ([], "expected stored means, found none"),
        ([str(folder), "--texts", "1"], "expected 2 long texts of tiny at least, found 1"),
        ([str(folder / "absent")], "absent"),
    ):
        assert main([*argv, *wrong]) == 1
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
    monkeypatch.setattr(robustness, "read_teacher", lambda folder: None)
    assert main([*argv, str(folder)]) == 1
    assert "--teacher" in capsys.readouterr().err
    for wrong in (["robustness", str(folder)], [*argv, "--typos", "3"]):
        with pytest.raises(SystemExit, match="2"):
            main(wrong)
    capsys.readouterr()
