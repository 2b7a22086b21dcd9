"""Every Python snippet and every shell line that README.md and docs/ show is run, and its output compared."""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from counts import long

import edgeret
from edgeret.shell.cli import main
from edgeret.shell.forecast import Forecast

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return FENCE.findall(page.read_text())


def write_notes(folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "wifi.md").write_text("Hold the button for five seconds to reset the Wi-Fi.")
    (folder / "notes" / "lamp.md").write_text("The lamp turns red when its battery is low.")


def snippets(language: str) -> list[tuple[str, str, str]]:
    """(name, source, what a `text` block right behind it shows)."""
    found = []
    for page in PAGES:
        fences = [*blocks(page), ("", "")]
        for number, (kind, source) in enumerate(fences[:-1]):
            # `make frameworks` runs those of the page that needs them.
            if kind == language and page.stem != "frameworks":
                following = fences[number + 1]
                found.append(
                    (f"{page.name}-{number}", source, following[1] if following[0] == "text" else "")
                )
    return found


def pasted() -> list[tuple[str, str, str]]:
    """Blocks for a shell that show what they print, of the pages that are not run as a whole."""
    return [
        found
        for found in snippets("sh")
        if found[2] and not found[0].startswith(("fleet.md", "trust.md", "tutorial.md"))
    ]


def same(shown: str, printed: str) -> bool:
    """Equal but for times, and the last digit of other numbers: INT8 kernels differ between processors."""
    shown, printed = (re.sub(r'(seconds"?: )[\d.]+', r"\1-", text) for text in (shown, printed))
    numbers = re.compile(r"-?\d+\.\d+")
    if numbers.sub("#", shown).split() != numbers.sub("#", printed).split():
        return False
    pairs = zip(numbers.findall(shown), numbers.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) < 0.03 for one, other in pairs)


@pytest.mark.parametrize(("name", "source", "shown"), snippets("python"), ids=lambda value: value[:24])
def test_python_snippets_print_what_the_page_shows(name, source, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, name, "exec"), {"__name__": name})
    assert same(shown, printed.getvalue()), printed.getvalue()


@pytest.mark.parametrize(("name", "source", "shown"), snippets("console"), ids=lambda value: value[:24])
def test_console_lines_print_what_the_page_shows(name, source, shown, tmp_path):
    """`$ command` lines, each followed by its output; `make` is tested by whoever runs these tests."""
    write_notes(tmp_path)
    for entry in re.split(r"^\$ ", source, flags=re.MULTILINE)[1:]:
        command, _, expected = entry.partition("\n")
        words = shlex.split(command)
        assert words[0] == "edgeret", f"{name}: only the edgeret command can be run here, not {words[0]}"
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert same(expected, done.stdout + done.stderr), done.stdout + done.stderr


@long
@pytest.mark.parametrize(("name", "source", "shown"), pasted(), ids=lambda value: value[:24])
def test_shell_blocks_run_as_pasted(name, source, shown, tmp_path):
    """In an empty folder, and pasted again."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "edgeret").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgeret "$@"\n')
    (folder / "edgeret").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-eu", "-c", source],
            cwd=tmp_path / "empty",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert same(shown, done.stdout + done.stderr), done.stdout + done.stderr


def run_line(line: str) -> str:
    """A shell line in this process if it is edgeret's, as that is faster; what it printed."""
    words = shlex.split(line)
    if words[0] != "edgeret":
        subprocess.run(["sh", "-c", line], check=True, capture_output=True)
        return ""
    command, target = (words[1:-2], words[-1]) if words[-2] == ">" else (words[1:], None)
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(printed):
        assert main(command) == 0, line
    content = printed.detach().getvalue()
    if target is not None:
        Path(target).write_bytes(content)
        return ""
    return content.decode()


def test_the_page_on_fleets_works_from_top_to_bottom(tmp_path, monkeypatch):
    """Maker and device in one folder; each command of the page, in its order."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is missing")
    write_notes(tmp_path)
    monkeypatch.chdir(tmp_path)
    printed = []
    for kind, source in blocks(ROOT / "docs" / "fleet.md"):
        if kind == "sh":
            printed.append("".join(run_line(line) for line in source.splitlines()))
        else:
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                exec(compile(source, "fleet.md", "exec"), {})
            printed.append(shown.getvalue())
    _, _, shipped, _, updated, python, back, _, reopened = printed
    assert "wifi.md" in shipped
    assert "deleted: 1\nadded: 1\n" in updated
    assert python.split()[2:] == ["0", "0"]
    assert "deleted: 1\nadded: 1\n" in back
    assert reopened == "wifi.md\n"
    with edgeret.Index.open("device.edgeret", readonly=True) as index:
        # What was rolled back came again, as a whole file.
        assert (index.get("lamp.md") is None, index.get("clock.md") is None) == (True, False)


def test_the_tutorial_works_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fences = re.findall(
        r"^```(\w+)[^\n]*\n(.*?)^```$", (ROOT / "docs" / "tutorial.md").read_text(), re.M | re.S
    )
    printed = ""
    for kind, source in fences:
        if kind == "sh":
            printed = "".join(run_line(line) for line in source.splitlines())
        elif kind == "text":
            assert same(source, printed), printed
        elif "sys.stdin" in source:
            Path("ask.py").write_text(source)
            asked = subprocess.run(
                [sys.executable, "ask.py", "notes"],
                input="my wireless is broken\n\n",
                capture_output=True,
                text=True,
                check=True,
            )
            assert "3 documents. Ask:" in asked.stdout
            assert "notes/wifi.md: Hold the button" in asked.stdout.splitlines()[1]
        else:
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                exec(compile(source, "tutorial.md", "exec"), {})
            assert shown.getvalue()
    with edgeret.Index.open("ship.edgeret", readonly=True) as index:
        assert len(index) == 4


def test_there_are_snippets():
    assert snippets("python")
    assert snippets("console")
    assert [name for name, _, _ in pasted() if name.startswith("README")]


def test_every_verb_is_on_the_page_of_the_shell():
    help_text = subprocess.run(
        [sys.executable, "-m", "edgeret", "--help"], capture_output=True, text=True, check=True
    ).stdout
    verbs = re.findall(r"^    (\w+)  ", help_text, re.MULTILINE)
    page = (ROOT / "docs" / "shell.md").read_text()
    assert len(verbs) >= 10
    assert [verb for verb in verbs if f"`edgeret {verb}`" not in page] == []


def test_models_take_the_memory_that_the_page_says():
    section = (ROOT / "docs" / "models.md").read_text().partition("## Which one\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `([\w-]+)` \|[^|]*\|[^|]*\| (\d+) \|", section, re.MULTILINE)
    folders = {
        path.name: path for place in ("models", "world/edgeret_world") for path in (ROOT / place).iterdir()
    }
    planned = {name: Forecast.of(edgeret.Encoder.load(folders[name]), 100_000, 100, None) for name, _ in told}
    assert len(told) == 6
    assert {name: int(mb) for name, mb in told} == {
        name: round(found.search.total / 1e6) for name, found in planned.items()
    }


def test_files_that_contributing_names_exist():
    named = re.findall(
        r"`((?:edgeret|export|tests|docs|models|benchmarks)/[\w./]*)`", (ROOT / "CONTRIBUTING.md").read_text()
    )
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def packed(project: Path, package: str) -> list[Path]:
    """The folders of the bundles that a package carries."""
    table = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = project / table.get("package-dir", {}).get(package, package)
    return [folder / pattern.partition("/")[0] for pattern in table["package-data"][package]]


@pytest.mark.parametrize(
    ("project", "package"), [(ROOT, "edgeret.models"), (ROOT / "world", "edgeret_world")]
)
def test_notice_names_what_the_wheel_carries(project, package):
    notice = (project / "NOTICE").read_text()
    for bundle in packed(project, package):
        assert bundle.name in notice
        card = (bundle / "card.md").read_text()
        teacher = re.search(r"Teacher: (?:[\w-]+, made of )?([\w./-]+)", card)
        assert teacher
        assert teacher[1] in notice
        learned = re.findall(r"^\| \w+ \|(.*)\|(.*)\|$", card.partition("| text |")[2], re.MULTILINE)
        sources = [(license.strip(), by.strip()) for license, by in learned]
        assert len(sources) > 10 or "A student of" not in card
        assert [by for license, by in sources if not by or f"  {by} ({license}" not in notice] == []
        assert any(license.startswith("CC BY") for license, _ in sources) or "A student of" not in card


def test_the_readme_makes_its_claims_first_from_its_own_table():
    page = (ROOT / "README.md").read_text()
    claims, _, rest = page.partition("![")
    assert "English" in claims.splitlines()[2]
    assert len(claims.splitlines()) < 20
    measured = re.findall(r"\d+\.\d+(?= (?:ms|MB|of the))|\d+(?= (?:bytes|MB))", claims)
    assert len(measured) >= 6
    cells = set(re.findall(r"[\d.,]+", rest.partition("<!-- written by")[2].partition("<!-- end")[0]))
    assert [figure for figure in measured if figure not in cells] == []


def test_every_page_is_on_the_index():
    listed = set((ROOT / "docs" / "index.md").read_text().split())
    assert [page.stem for page in PAGES[1:] if page.stem not in listed | {"index"}] == []


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page ends with."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    found = 0
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name}: {target}"
            assert not heading or heading in anchors(there), f"{page.name}: {target}#{heading}"
            found += 1
    assert found > 150
