"""Every measured figure that README.md and docs/ show can be traced: a command, or a file of results, stands by it."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
# Times, rates, sizes that are no round limits, shares of three digits, ratios.
FIGURE = re.compile(
    r"(?<![\w.,])(?:\d[\d,]*(?:\.\d+)?(?=\s?(?:ms|µs|docs/s)\b)|\d+\.\d+(?=\s?[kMG]B\b)|[01]?\.\d{3}\b"
    r"|\d+(?:\.\d+)?(?= times (?:as|faster|slower|less|more)\b))"
)
SOURCE = re.compile(
    r"python -m (?P<module>(?:benchmarks|export)(?:[ .]\w+)?)|(?P<file>benchmarks/results/(?:[\w-]+\.jsonl)?)"
    r"|edgeret bench|make (?:test-full|bench-full|test-arm64)|(?P<test>tests/test_\w+\.py)"
)


def sections(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(heading, text, texts that stand for it): its own, those of the headings above, sections that it links to."""
    parts = re.split(r"^(#+) (.*)$", FENCE.sub(_commands, page.read_text()), flags=re.M)
    found = [
        (len(level), title, text)
        for level, title, text in zip(*(parts[i::3] for i in (1, 2, 3)), strict=True)
    ]
    anchors = {title.lower().replace(" ", "-"): text for _, title, text in found}
    above: list[tuple[int, str]] = []
    for level, title, text in found:
        above = [*((depth, other) for depth, other in above if depth < level), (level, text)]
        linked = [anchors.get(target, "") for target in re.findall(r"\]\(#([\w-]+)\)", text)]
        yield title, text, [*(other for _, other in above), *linked]


def _commands(fence: re.Match[str]) -> str:
    """What a block shows was printed and is compared by other tests; commands in it count."""
    return "\n".join(line for line in fence[0].splitlines() if "python -m" in line)


def shown(page: Path) -> str:
    """What blocks of a page print."""
    return "".join(FENCE.findall(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_figure_has_a_source(page):
    printed = shown(page)
    without = {
        title: figures
        for title, text, sources in sections(page)
        if (figures := [figure for figure in FIGURE.findall(text) if figure not in printed])
        and not any(map(SOURCE.search, sources))
    }
    assert without == {}, (
        "name the command that measures it, or its file in benchmarks/results, in the section"
    )


def test_sources_exist():
    found = [match for page in PAGES for match in SOURCE.finditer(page.read_text())]
    modules = {match["module"].replace(" ", ".") for match in found if match["module"]}
    files = {match["file"] or match["test"] for match in found if match["file"] or match["test"]}
    assert len(modules) > 20
    assert [name for name in modules if not _is_command(name)] == []
    assert [name for name in files if not (ROOT / name).exists()] == []


def _is_command(name: str) -> bool:
    """Whether it is a module, or a verb of its package's command line."""
    package, _, verb = name.partition(".")
    return (
        not verb or find_spec(name) is not None or f'"{verb}"' in (ROOT / package / "__main__.py").read_text()
    )


def test_the_readme_repeats_figures_of_its_table_or_of_a_page():
    """Its claims are those of the table that `benchmarks report` writes, or stand in a section that has a source."""
    text = FENCE.sub("", README.read_text())
    before, _, rest = text.partition("<!-- written by")
    table, _, after = rest.partition("<!-- end")
    known = {_plain(number) for number in re.findall(r"[\d.,]*\d", table)}
    known |= {
        _plain(number)
        for page in PAGES[1:]
        for _, body, sources in sections(page)
        if any(map(SOURCE.search, sources))
        for number in re.findall(r"(?<![\w.])\d*\.\d+\b", body)
    }
    figures = re.findall(r"(?<![\w.])\d*\.\d+\b", before + after)
    assert len(figures) > 10
    assert [figure for figure in figures if _plain(figure) not in known] == []


def _plain(number: str) -> str:
    return number.strip(",.").replace(",", "") if not number.startswith(".") else f"0{number}"
