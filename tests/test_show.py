"""What a person reads of hits on a terminal: harmless, the best sentence in bold, unless NO_COLOR forbids it."""

import io
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
