# ruff: noqa: RUF001 - the letters are meant
"""What a person reads of hits on a terminal: harmless, the best sentence in bold, unless NO_COLOR forbids it."""

import io
import re
import sys

import pytest

from edgeret import Document, Index
from edgeret.shell import cli, show
from edgeret.shell.arguments import parser

TEXT = "Zebras graze.\nA red cat\x1b[2J sleeps, and CATS purr!  The end."


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def pets(index) -> Index:
    index.add([Document("a", TEXT, {"title": "Pets\x07"}), Document("b", "A dog barks.", {"title": 5})])
    return index


def test_a_hit_is_a_title_and_its_best_sentence_in_bold(pets):
    hits = pets.search("red cats")
    first, second, *others = show.told(hits, styled=True).splitlines()
    assert first == f"  1  {hits[0].score:6.3f}  Pets"
    assert second == (
        "     Zebras graze. \033[1mA \033[4mred\033[24m \033[4mcat\033[24m [2J sleeps, and "
        "\033[4mCATS\033[24m purr!\033[0m The end."
    )
    assert others == [f"  2  {hits[1].score:6.3f}  b", "     \033[1mA dog barks.\033[0m"]
    plain = show.told(hits, styled=False)
    assert "\033" not in plain
    assert "Zebras graze. A red cat [2J sleeps, and CATS purr! The end." in plain


ARABIC, PERSIAN, HEBREW = "يغادر القطار في الثامنة", "می\u200cخواهم", "הרכבת יוצאת"


@pytest.mark.parametrize("text", [ARABIC, PERSIAN, HEBREW])
def test_what_is_written_from_right_to_left_is_set_apart(index, text):
    index.add([Document(text, f"{text} 123. \u202eabc\u2069 end", {"title": f"{text} (1)"})])
    hits = index.search(text)
    clean = f"{text} 123. abc end"
    rank, shown = show.told(hits, styled=False).splitlines()
    assert rank == f"  1  {hits[0].score:6.3f}  \u2068{text} (1)\u2069"
    assert shown == f"     \u2068{clean}\u2069"
    bold = show.told(hits, styled=True).splitlines()[1]
    assert bold.startswith("     \u2068\033[1m")
    assert bold.endswith("\u2069")
    assert (bold.count("\u2068"), bold.count("\u2069"), bold.count("\u202e")) == (1, 1, 0)
    beginning = f"  1  {hits[0].score:6.3f}  "
    assert show.ranked(hits, isolated=True) == f"{beginning}\u2068{text}\u2069  \u2068{clean}\u2069"
    assert show.ranked(hits) == f"{beginning}{text}  {clean}"


def test_only_a_terminal_gets_isolates(index, monkeypatch, capsys):
    index.add([Document("a", ARABIC, {"title": ARABIC})])
    monkeypatch.setattr(cli, "_open", lambda *_, **__: index)
    monkeypatch.setattr(cli, "_open_bare", lambda *_, **__: index)
    monkeypatch.setattr(index, "close", lambda: None)
    for argv in (["search", "x", "القطار"], ["count", "x", "--by", "title"]):
        for is_terminal, more in ((True, []), (False, []), (True, ["--json"])):
            monkeypatch.setattr(sys.stdout, "isatty", lambda found=is_terminal: found)
            cli._VERBS[argv[0]](parser().parse_args([*argv, *more]))
            assert ("\u2068" in capsys.readouterr().out) is (is_terminal and not more)


def test_what_is_written_from_left_to_right_gets_no_isolates(index):
    texts = ["A red cat.", "Красная кошка.", "赤い猫。", "लाल बिल्ली क्\u200dष।", "แมวแดง", "١٢٣"]
    index.add([Document(f"id {number}", text) for number, text in enumerate(texts)])
    hits = index.search("cat", mode="dense")
    assert len(hits) == len(texts)
    assert not set("\u2068\u2069") & set(show.told(hits, styled=False) + show.ranked(hits, isolated=True))
    assert texts[3] in show.ranked(hits)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Die Donau\xaddampf\xadschiff\xadfahrt.", "Die Donaudampfschifffahrt."),
        ("ខ្ញុំ\u200bចូលចិត្ត\u200bសៀវភៅ។", "ខ្ញុំចូលចិត្តសៀវភៅ។"),
        ("\ufeffThe \u200fend\u200e.", "The end."),
        ("one\xad two\u200b\tthree", "one two three"),
    ],
)
def test_what_shows_nothing_parts_no_words(index, written, read):
    index.add([Document(written.replace("\t", " "), written)])
    hits = index.search(written)
    assert show.ranked(hits).endswith(f"{read}  {read}")
    assert show.told(hits, styled=False).splitlines()[1] == f"     {read}"
    bold = show.told(hits, styled=True).splitlines()[1]
    assert re.sub("\033\\[[0-9]+m", "", bold) == f"     {read}"


@pytest.mark.parametrize(
    ("stream", "environment", "styled"),
    [
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ],
)
def test_letters_are_bold_where_a_person_wants_them(monkeypatch, stream, environment, styled):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert show.is_styled(stream) is styled


def test_without_a_query_a_terminal_asks_for_one_after_the_other(pets, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal())
    arguments = parser().parse_args(["search", "x", "-k", "1"])
    monkeypatch.setattr(cli, "_open", lambda *_, **__: pets)
    questions = iter(["red cat", "barks", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(questions))
    cli._search(arguments)
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["a", "b"]


@pytest.mark.parametrize(("typed", "meant"), [("serch", "search"), ("idnex", "index"), ("exprot", "export")])
def test_a_verb_that_is_misspelled_is_guessed(capsys, typed, meant):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args([typed, "x"])
    assert f"no verb '{typed}': did you mean '{meant}'?" in capsys.readouterr().err


def test_shells_complete_verbs_and_files(capsys):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        with pytest.raises(SystemExit, match="0"):
            parser().parse_args(["--print-completion", shell])
        written = capsys.readouterr().out
        assert "reencode" in written
        assert ("--per-document" in written) is (shell != "tcsh")


def test_completion_without_its_package_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["--print-completion", "bash"])
    assert "pip install 'edgeret[completion]'" in capsys.readouterr().err
