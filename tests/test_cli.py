from __future__ import annotations

import argparse
import errno
import io
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
from counts import CI
from fake import FakeEncoder
from oddities import alarm

import edgeret
from edgeret.documents import Document
from edgeret.encode.encoder import Encoder
from edgeret.errors import BundleError
from edgeret.index import Index
from edgeret.shell import cli, demo
from edgeret.shell.arguments import parser
from edgeret.shell.cli import _VERBS, main

LOAD = Encoder.load
ROOT = Path(__file__).resolve().parent.parent
FAKED = """\
import sys
from fake import FakeEncoder
from edgeret.encode.encoder import Encoder
Encoder.load = staticmethod(lambda *_: FakeEncoder())
from edgeret.shell.arguments import parser
from edgeret.shell.cli import _VERBS, main
sys.exit(main())
"""
DOCUMENTS = [
    {"id": "wifi", "text": "Hold the button to reset the wireless.", "lang": "en", "year": 2024},
    {"id": "tea", "text": "Brew green tea for two minutes.", "lang": "en", "year": 2020},
    {"id": "tee", "text": "Der Tee zieht zwei Minuten.", "lang": "de", "year": 2020},
]


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: FakeEncoder()))
    monkeypatch.chdir(tmp_path)
    Path("docs.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in DOCUMENTS))


@pytest.fixture
def index(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["index", "x.edgeret", "docs.jsonl", "--bits", "64", "--filter", "lang"]) == 0
    capsys.readouterr()
    return "x.edgeret"


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> object:
    assert main([*argv, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def failure(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"edgeret: [^\n]+\n", captured.err)
    return captured.err


def spawn(argv: Sequence[str], faked: bool = True, **streams: int | IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    program = ["-c", FAKED] if faked else ["-m", "edgeret"]
    return subprocess.Popen([sys.executable, *program, *argv], env=environment, **streams)


def test_index_creates_and_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(
        capsys, "index", "x.edgeret", "docs.jsonl", "--bits", "64", "--filter", "lang", "--filter", "year"
    )
    assert isinstance(found, dict)
    assert (found["added"], found["documents"]) == (3, 3)
    info = answer(capsys, "info", "x.edgeret")
    assert isinstance(info, dict)
    assert (info["bits"], info["filters"], info["documents"]) == (64, ["lang", "year"], 3)
    again = answer(capsys, "index", "x.edgeret", "docs.jsonl")
    assert isinstance(again, dict)
    assert again["documents"] == 3


def test_index_refuses_other_settings_of_an_index_that_exists(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "leave --bits, --filter and --language out" in failure(
        capsys, "index", index, "docs.jsonl", "--bits", "96"
    )
    assert "leave --bits, --filter and --language out" in failure(
        capsys, "index", index, "docs.jsonl", "--filter", "year"
    )
    assert main(["index", index, "docs.jsonl", "--bits", "64", "--filter", "lang"]) == 0


def test_index_makes_nothing_of_a_missing_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no file or folder at 'gone'" in failure(capsys, "index", "new.edgeret", "docs.jsonl", "gone")
    assert not Path("new.edgeret").exists()


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["gone"], "is not there"),
        (["notes", "docs.jsonl"], "is a regular file"),
        (["notes", "/"], "with a name"),
        (["notes", "other/notes"], "of different names"),
        (["notes", ""], "expected a path, got ''"),
        (["notes", "a\0b"], "expected a path, got"),
        (["\udcff"], "in UTF-8"),
    ],
)
def test_sync_makes_nothing_of_what_is_no_folder(
    folders: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes").mkdir()
    assert expected in failure(capsys, "sync", "new.edgeret", *folders)
    assert not Path("new.edgeret").exists()


def test_index_reads_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'{"text": "one"}\n{"text": "two"}\n'))
    )
    found = answer(capsys, "index", "x.edgeret", "-", "--bits", "64")
    assert isinstance(found, dict)
    assert found["documents"] == 2


def test_index_says_how_many_are_safe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edgeret.shell.cli.COMMIT_EVERY", 2)
    with Path("docs.jsonl").open("a") as stream:
        stream.write('{"text": "four"}\n{"text": "five"}\n')
    real, encoded = FakeEncoder.encode, []

    def full(encoder: FakeEncoder, texts: Sequence[str]) -> object:
        encoded.extend(texts)
        if len(encoded) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(encoder, texts)

    monkeypatch.setattr(FakeEncoder, "encode", full)
    message = failure(capsys, "index", "x.edgeret", "docs.jsonl", "--bits", "64")
    assert "No space left" in message
    assert message.endswith("; 4 documents of this run are safe: run it again to go on\n")
    with Index.open("x.edgeret") as found:
        assert len(found) == 4


def test_index_names_and_counts_what_it_refuses_and_keeps_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with Path("docs.jsonl").open("a") as stream:
        stream.write('oops\n{"text": "five"}\n{"text": "x", "metadata": {}, "vector": [1, 2]}\n')
    Path("notes").mkdir()
    for name, content in (
        ("a.md", b"good"),
        ("b.md", b""),
        ("caf\udce9.md", b"coffee"),
        ("\x1b[31m.md", b"\xff"),
    ):
        Path("notes", name).write_bytes(content)
    for _ in range(2):
        assert main(["index", "x.edgeret", "docs.jsonl", "notes", "--bits", "64", "--json"]) == 1
        captured = capsys.readouterr()
        summary = json.loads(captured.out)
        assert (summary["added"], summary["refused"], summary["documents"]) == (5, 5, 5)
        *named, last = captured.err.splitlines()
        for line, message in zip(
            named,
            (
                "docs.jsonl, line 4: expected a JSON object",
                "document 'x': expected a vector of dim 96, got 2",
                r"notes/ [31m.md: expected UTF-8, got byte 0xff at 0",
                "notes/b.md: expected a text",
                r"notes/caf\xe9.md: expected a name in UTF-8",
            ),
            strict=True,
        ):
            assert line.startswith(f"edgeret: {message}")
        assert last.startswith("edgeret: 5 of 10 documents were refused")
        assert all(line.isprintable() for line in named)


def test_index_refuses_what_is_too_large_for_its_budget_and_keeps_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("large.txt").write_text("x" * 3_000_000)
    assert main(["index", "x.edgeret", "large.txt", "docs.jsonl", "--memory-budget", "20MB", "--json"]) == 1
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert (summary["added"], summary["refused"], summary["documents"]) == (3, 1, 3)
    assert "'large.txt' takes 30.0MB or more: split it, or raise the memory budget" in captured.err
    assert "1 of 4 documents were refused" in captured.err


def test_index_names_what_it_does_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes").mkdir()
    for name, content in (("a.md", "good"), ("b.csv", "text,year"), ("c.org", "mode"), ("d.org", "modes")):
        Path("notes", name).write_text(content)
    assert main(["index", "x.edgeret", "notes", "--bits", "64", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["skipped"] == 3
    assert "notes/b.csv: it is empty of records" in captured.err
    assert "left out: 2 files with .org" in captured.err


def test_links_out_of_a_folder_are_followed_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("secret.md").write_text("tea")
    Path("notes").mkdir()
    Path("notes/good.md").write_text("good")
    Path("notes/link.md").symlink_to("../secret.md")
    assert main(["index", "x.edgeret", "notes", "--bits", "64"]) == 1
    assert "'notes/link.md' is a link out of the folder: pass --follow-links" in capsys.readouterr().err
    assert "no document 'link.md'" in failure(capsys, "get", "x.edgeret", "link.md")
    found = answer(capsys, "index", "x.edgeret", "notes", "--follow-links")
    assert isinstance(found, dict)
    assert (found["added"], found["refused"], found["documents"]) == (2, 0, 2)


def test_index_says_how_many_texts_without_an_id_are_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also those of another commit; one with an id is a document of its own."""
    monkeypatch.setattr("edgeret.shell.cli.COMMIT_EVERY", 2)
    texts = ["one", "two", "one", "three", "one", "two"]
    Path("same.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts) + '{"id": "own", "text": "one"}\n'
    )
    for _ in range(2):
        assert main(["index", "x.edgeret", "same.jsonl", "--bits", "64", "--json"]) == 0
        captured = capsys.readouterr()
        summary = json.loads(captured.out)
        assert (summary["added"], summary["repeated"], summary["documents"]) == (7, 3, 4)
        assert captured.err == "edgeret: 3 texts without an id are the same as another: each is kept once\n"


def test_search_prints_rank_score_id_and_snippet(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", index, "reset the wireless", "-k", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  1   1\.\d{3}  wifi  Hold the button to reset the wireless\.", first)
    assert second.startswith("  2  ")


def test_search_answers_as_the_api(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    for options, arguments in [
        ([], {}),
        (["-k", "1", "--mode", "lexical"], {"k": 1, "mode": "lexical"}),
        (["--min-score", "0.9"], {"min_score": 0.9}),
        (["--mode", "hybrid", "--oversample", "2"], {"mode": "hybrid", "oversample": 2}),
        (
            ["--where", '{"year": {"$lt": 2024}, "lang": "en"}'],
            {"where": {"year": {"$lt": 2024}, "lang": "en"}},
        ),
    ]:
        found = answer(capsys, "search", index, "two minutes", *options)
        with Index.open(index, readonly=True) as opened:
            hits = opened.search("two minutes", **arguments)
        assert found == [
            {
                "id": h.id,
                "score": h.score,
                "text": h.text,
                "start": h.start,
                "end": h.end,
                "metadata": h.metadata,
                "cosine": h.cosine,
                "lexical": h.lexical,
                "relevance": h.relevance,
            }
            for h in hits
        ]
    assert [hit["id"] for hit in found] == ["tea"]


def test_search_without_hits_succeeds(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", index, "tea", "--where", '{"lang": "fr"}']) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "nothing found\n")
    assert answer(capsys, "search", index, "tea", "--where", '{"lang": "fr"}') == []


def test_a_snippet_is_one_short_line_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.jsonl").write_text(
        json.dumps({"id": "a\nb", "text": "tea \x1b[31m\n\n\u202e" + "x" * 300}) + "\n"
    )
    main(["index", "x.edgeret", "odd.jsonl", "--bits", "64"])
    capsys.readouterr()
    assert main(["search", "x.edgeret", "tea", "-k", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.search(r"  a b  tea \[31m x+…$", line)
    assert len(line) < 130


ESCAPES = "\x1b[2J\x1b]0;title\x07 \x9b31m\x7f\x08\r\u202e\u2066"


def test_no_escape_reaches_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"id": f"a{ESCAPES}", "text": f"one\n\ttea {ESCAPES}\r\nعربي 👩‍👩‍👧 end", "title": ESCAPES}
    Path("odd.jsonl").write_text(json.dumps(entry) + "\n")
    path = f"x{ESCAPES}.edgeret"
    runs = [
        (0, ["index", path, "odd.jsonl", "--bits", "64"]),
        (0, ["get", path, entry["id"]]),
        (0, ["search", path, "tea"]),
        (1, ["search", path, "tea", "--where", json.dumps({ESCAPES: {f"${ESCAPES}": 1}})]),
        (0, ["info", path]),
        (0, ["check", path]),
        (0, ["backup", path, f"copy{ESCAPES}"]),
        (1, ["backup", path, f"copy{ESCAPES}"]),
        (1, ["get", path, ESCAPES]),
        (1, ["info", ESCAPES]),
        (1, ["index", path, ESCAPES]),
        (2, ["search", path, "tea", ESCAPES]),
        (2, ["search", path, "tea", "-k", ESCAPES]),
        (2, ["search", path, "tea", "--where", ESCAPES]),
        (2, ["search", path, "tea", "--mode", ESCAPES]),
        (2, [ESCAPES]),
    ]
    for code, argv in runs:
        assert outcome(argv) == code, argv
        captured = capsys.readouterr()
        shown = captured.out + captured.err
        assert not [character for character in shown if character in set(ESCAPES) - set("[2J]0;title 31m")], (
            argv
        )
        if argv[0] == "get" and not code:
            assert shown.startswith("one\n\ttea \ufffd[2J\ufffd]0;title\ufffd \ufffd31m")
            assert shown.endswith("\nعربي 👩‍👩‍👧 end\n")
    found = answer(capsys, "get", path, entry["id"])
    assert found == {"id": entry["id"], "text": entry["text"], "metadata": {"title": ESCAPES}}


def outcome(argv: Sequence[str]) -> object:
    """The exit code."""
    try:
        return main(argv)
    except SystemExit as stop:
        return stop.code


def test_what_get_prints_index_takes_back(capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        {"id": "plain", "text": "one\r\n two\u2028", "metadata": {"lang": "en", "year": 2020}},
        {"id": "none", "text": "two", "metadata": {}},
        {
            "id": "nested",
            "text": "three",
            "metadata": {"metadata": {"metadata": {"a": [1, 2.5, None]}}, "text": "t"},
        },
    ]
    Path("in.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for target, source in (("x.edgeret", "in.jsonl"), ("y.edgeret", "out.jsonl")):
        assert main(["index", target, source, "--bits", "64"]) == 0
        capsys.readouterr()
        printed = ""
        for entry in entries:
            assert main(["get", target, str(entry["id"]), "--json"]) == 0
            printed += capsys.readouterr().out
        Path("out.jsonl").write_text(printed)
        for entry, line in zip(entries, printed.splitlines(), strict=True):
            assert json.loads(line) == entry
    # Given back to the index that has them, nothing changes.
    generation = generation_of("x.edgeret")
    assert main(["index", "x.edgeret", "out.jsonl"]) == 0
    assert generation_of("x.edgeret") == generation
    assert edgeret.diff("x.edgeret", "y.edgeret", io.BytesIO()).added == 0


def generation_of(path: str) -> int:
    with Index.open(path, readonly=True) as index:
        return index.info().generation


def test_get_and_delete(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "get", index, "tea") == {
        "id": "tea", "text": "Brew green tea for two minutes.", "metadata": {"lang": "en", "year": 2020},
    }  # fmt: skip
    assert main(["get", index, "tea"]) == 0
    assert capsys.readouterr().out == "Brew green tea for two minutes.\n"
    assert answer(capsys, "delete", index, "tea", "none") == {"deleted": 1, "documents": 2}
    assert answer(capsys, "delete", index, "tee", "--erase") == {"deleted": 1, "documents": 1}
    assert "no document 'tea'" in failure(capsys, "get", index, "tea")


def test_pages_of_a_search(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = answer(capsys, "search", index, "two minutes of tea")
    pages = [
        answer(capsys, "search", index, "two minutes of tea", "-k", "1", f"--offset={n}") for n in range(4)
    ]
    assert isinstance(whole, list)
    assert pages == [whole[n : n + 1] for n in range(4)]
    assert "at least 0" in failure(capsys, "search", index, "tea", "--offset=-1")


def test_similar_answers_as_the_api(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Index.open(index, readonly=True) as opened:
        id = next(opened.ids())
        expected = [asdict(hit) for hit in opened.similar(id, 2, diversity=0.4, offset=1)]
    assert main(["similar", index, id, "-k", "2", "--diversity", "0.4", "--offset", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected != []
    assert main(["similar", index, "nobody"]) == 1
    assert "no document 'nobody'" in capsys.readouterr().err


def test_feedback_of_a_search(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "search", index, "minutes", "--like", "wifi", "--unlike", "tea", "--unlike", "tee")
    with Index.open(index, FakeEncoder()) as opened:
        expected = [asdict(hit) for hit in opened.search("minutes", feedback=(["wifi"], ["tea", "tee"]))]
    assert found == expected
    assert "no document 'none'" in failure(capsys, "search", index, "tea", "--like", "none")


def test_list_and_count(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "list", index) == ["tea", "tee", "wifi"]
    assert answer(capsys, "list", index, "--after", "tea", "--limit", "1") == ["tee"]
    assert answer(capsys, "list", index, "--where", '{"lang": "fr"}') == []
    assert main(["list", index, "--where", '{"lang": "en"}']) == 0
    assert capsys.readouterr().out == "tea\nwifi\n"
    assert answer(capsys, "count", index, "--where", '{"year": 2020}') == {"documents": 2}
    assert answer(capsys, "count", index, "--by", "lang") == [["en", 2], ["de", 1]]
    assert main(["count", index, "--by", "lang", "--limit", "1"]) == 0
    assert capsys.readouterr().out == '        2  "en"\n'
    assert main(["count", index, "--by", "none"]) == 0
    assert capsys.readouterr().out == ""
    assert "at least 0" in failure(capsys, "list", index, "--limit", "-1")


def test_a_key_that_no_document_has_is_said(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    typo = ["--where", '{"$or": [{"langu": "en"}, {"lang": "fr"}], "$id": {"$ne": "x"}}']
    for verb in (
        ["search", index, "tea"],
        ["list", index],
        ["count", index],
        ["update", index, "{}"],
        ["delete", index],
    ):
        for more in ([], ["--json"]):
            assert main([*verb, *typo, *more]) == 0
            said = capsys.readouterr().err
            assert "no document has the metadata key 'langu': check how it is written\n" in said
            assert "'lang'" not in said
    assert main(["count", index, "--by", "langu"]) == 0
    assert "no document of these has a value of the metadata key 'langu'" in capsys.readouterr().err
    with Index.open(index, FakeEncoder()) as opened:
        found = opened.explain("tea", where={"langu.x": 1, "lang": {"$ne": "fr"}, "$not": {"yea": 1}})
        assert found.unknown_keys == ["langu.x", "yea"]
        assert (
            opened.explain("tea").unknown_keys == opened.explain("tea", where={"year": 1}).unknown_keys == []
        )


def test_what_export_prints_index_takes_back(capsys: pytest.CaptureFixture[str]) -> None:
    """Metadata under any key, and vectors that documents came with, are those of the exported index."""
    vector = np.random.default_rng(0).normal(size=FakeEncoder().dim)
    entries = [
        {
            "id": "nested",
            "text": "red",
            "metadata": {"metadata": {"a": 1}, "vector": [1], "text": "x", "id": None},
        },
        {"id": "own", "text": "", "metadata": {}, "vector": vector.tolist()},
        {"id": "lines", "text": "a\nb\u2028c\x1b", "metadata": {"k": "\u2028\n"}},
    ]
    Path("in.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert main(["index", "x.edgeret", "in.jsonl", "docs.jsonl", "--bits", "64"]) == 0
    capsys.readouterr()
    assert main(["export", "x.edgeret"]) == 0
    Path("out.jsonl").write_text(capsys.readouterr().out)
    assert main(["index", "y.edgeret", "out.jsonl", "--bits", "64"]) == 0
    assert edgeret.diff("x.edgeret", "y.edgeret", io.BytesIO()).added == 0
    capsys.readouterr()
    assert main(["export", "x.edgeret", "--where", '{"lang": "de"}']) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["tee"]


def test_update_and_delete_by_ids_or_by_a_condition(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "update", index, '{"seen": true}', "tea", "none") == {"updated": 1, "documents": 3}
    assert answer(capsys, "update", index, '{"n": 1}', "--where", '{"lang": "en"}') == {
        "updated": 2,
        "documents": 3,
    }
    assert answer(capsys, "get", index, "tea") == {
        "id": "tea", "text": "Brew green tea for two minutes.",
        "metadata": {"lang": "en", "n": 1, "seen": True, "year": 2020},
    }  # fmt: skip
    assert answer(capsys, "update", index, '{"x": 1}', "tea", "--replace") == {"updated": 1, "documents": 3}
    assert answer(capsys, "list", index, "--where", '{"x": 1, "lang": {"$exists": false}}') == ["tea"]
    for verb in (["update", index, "{}"], ["delete", index]):
        for more in ([], ["--where", "{}"], ["tea", "--where", '{"n": 1}']):
            assert "either ids or a --where" in failure(capsys, *verb, *more)
    assert answer(capsys, "delete", index, "--where", '{"n": {"$exists": true}}') == {
        "deleted": 1,
        "documents": 2,
    }
    assert answer(capsys, "list", index) == ["tea", "tee"]


def test_info_check_compact_backup(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["info"], ["check"], ["check", "--quick"], ["compact"]):
        assert isinstance(answer(capsys, verb[0], index, *verb[1:]), dict)
        assert main([verb[0], index, *verb[1:]]) == 0
        assert re.match(r"(\w+: .*\n)+$", capsys.readouterr().out)
    copied = answer(capsys, "backup", index, "copy.edgeret")
    assert copied == {"path": "copy.edgeret", "file_bytes": Path("copy.edgeret").stat().st_size}
    assert answer(capsys, "search", "copy.edgeret", "tea") == answer(capsys, "search", index, "tea")
    assert "copy.edgeret" in failure(capsys, "backup", index, "copy.edgeret")


def test_a_damaged_index_fails_the_check(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(Path(index).read_bytes())
    position = content.index(b"Brew green")
    content[position : position + 4] = b"Brow"
    Path(index).write_bytes(content)
    assert "damaged" in failure(capsys, "check", index)


def test_errors_are_one_line_with_exit_code_1(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.db").write_bytes(b"something else" * 100)
    Path("two\nlines").write_text("x")
    for argv, message in [
        (["search", "gone.edgeret", "tea"], r"no index at '.*/gone.edgeret'"),
        (["search", "other.db", "tea"], "not an edgeret index|expected an edgeret index"),
        (["info", "two\nlines"], "two lines"),
        (["search", index, " "], "expected a query, got an empty text"),
        (["search", index, "tea", "-k", "0"], "expected k to be an integer of at least 1, got 0"),
        (["search", index, "tea", "--where", '{"a": {"$regex": "x"}}'], "unknown operator"),
        (["search", index, "tea", "--memory-budget", "lots"], "expected a memory budget"),
        (["index", "new.edgeret", "docs.jsonl", "--bits", "7"], "expected bits to be one of 64, 96"),
        (["index", index, "other.db"], "expected a folder, - or one of .csv"),
        (["index", "no/such/folder/x.edgeret", "docs.jsonl", "--bits", "64"], "cannot write .*x.edgeret"),
    ]:
        assert re.search(message, failure(capsys, *argv))


ODD = (
    "", " ", "-", "--", ".", "..", "none/x", "pipe", "folder", "x" * 300, "\udcff", "\ud800", "a\0b", "a\n\x1b[31m",
    "é", "0", "-1", "1e999", "nan", "9" * 30, "{}", '{"$and": ' * 200 + "[]" + "}" * 200, "[", "other.db", "base",
)  # fmt: skip
USUAL = {
    "path": "x.edgeret", "inputs": "docs.jsonl", "folders": "folder",
    "query": "tea", "id": "tea", "ids": "tea", "target": "made",
    "metadata": "{}", "old": "x.edgeret", "new": "x.edgeret", "update": "other.db", "--key": "other.db",
    "--public-key": "other.db", "--docs": "10", "--model": "nano", "paths": "x.edgeret",
}  # fmt: skip


def sweep(verb: str) -> Iterator[list[str]]:
    """Each argument of a verb missing, and odd while the others are as usual."""
    (verbs,) = (action for action in parser()._actions if isinstance(action.choices, dict))
    actions = [action for action in verbs.choices[verb]._actions if action.nargs != 0]
    needed = [action for action in actions if action.required]

    def filled(replaced: argparse.Action | None, value: str) -> list[str]:
        words = [verb]
        for action in actions:
            if action is replaced or action in needed:
                name = max(action.option_strings, key=len, default="")
                shown = value if action is replaced else USUAL[name or action.dest]
                words += [f"{name}={shown}" if name.startswith("--") else shown]
        return words

    yield [verb]
    for action in actions:
        yield [word for word in filled(None, "") if word != USUAL.get(action.dest)]
        yield from (filled(action, value) for value in ODD[:: 1 if CI else 3])
    for flag in ("--json", "--all", "--quick", "--erase", "--follow-links", "--help"):
        yield [*filled(None, ""), flag]
        yield [*filled(None, ""), flag, "--json=x"]


@pytest.mark.parametrize("verb", sorted(set(_VERBS) - {"bench", "mcp", "serve"}))
@pytest.mark.usefixtures("_small_demo")
def test_odd_arguments_are_named(
    verb: str, index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every verb, with every argument missing or odd: one line says what is wrong, no traceback."""
    # Made once: that takes four fifths of a call.
    monkeypatch.setattr(cli, "parser", cache(parser))
    Path("other.db").write_bytes(b"something else" * 100)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    if verb == "plan":
        # It asks a bundle what the fake has not.
        monkeypatch.setattr(Encoder, "load", LOAD)
    for argv in sweep(verb):
        with alarm(30):
            code = outcome(argv)
        errors = capsys.readouterr().err
        assert code in (0, 1, 2), argv
        if code == 1:
            assert re.fullmatch(r"(edgeret: [^\n]+\n)+", errors), argv
            assert all(len(line) <= 1010 for line in errors.splitlines()), argv
            assert "[Errno" not in errors, argv
        if not Path(index).exists():
            assert main(["index", index, "docs.jsonl"]) == 0


def test_a_number_that_is_none_is_refused_in_words(index: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["search", index, "tea", "--per-document", "several"])
    assert "--per-document: expected a number or 'all', got 'several'" in capsys.readouterr().err


@pytest.mark.parametrize("bits", ["0", "-1", "7", "9" * 30])
def test_bits_that_a_codec_lacks_make_no_index(bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "bits" in failure(capsys, "index", "new.edgeret", "docs.jsonl", f"--bits={bits}")
    assert not Path("new.edgeret").exists()


def test_a_model_is_asked_for_only_where_it_is_used(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what encodes nothing needs none: not every machine has that of each index."""

    def missing(name: str) -> None:
        raise BundleError(f"no bundle {name!r}")

    monkeypatch.setattr(Encoder, "load", staticmethod(missing))
    for argv in (
        ["get", index, "tea"],
        ["list", index],
        ["count", index, "--by", "lang"],
        ["export", index],
        ["update", index, '{"seen": true}', "tea"],
        ["backup", index, "copy.edgeret"],
        ["seal", index, "sealed.edgeret"],
        ["delete", index, "tea", "--erase"],
        ["compact", index],
    ):
        for option in ("--model", "--memory-budget"):
            assert outcome([*argv, option, "1GB"]) == 2
        capsys.readouterr()
        assert main(argv) == 0, capsys.readouterr().err
    for argv in (["search", index, "tea"], ["info", index], ["index", index, "docs.jsonl"], ["check", index]):
        capsys.readouterr()
        assert "'fake-0'" in failure(capsys, *argv)
        assert "no bundle 'other'" in failure(capsys, *argv, "--model", "other")


@pytest.mark.parametrize(
    "argv",
    [
        [], ["sea"], ["search", "x"], ["search", "x", "q", "--where", "{"], ["search", "x", "q", "--where", "[1]"],
        ["search", "x", "q", "--mode", "sparse"], ["search", "x", "q", "-k", "many"], ["index", "x"],
        ["search", "x", "q", "--over", "4"], ["info", "x", "--erase"],
    ],
)  # fmt: skip
def test_wrong_usage_has_exit_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert capsys.readouterr().out == ""


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["search", "--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 0
        assert "  130  interrupted" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert re.fullmatch(r"edgeret \S.*\n", capsys.readouterr().out)


def test_an_interrupt_has_exit_code_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FakeEncoder, "encode", interrupted)
    assert main(["index", "x.edgeret", "docs.jsonl", "--bits", "64"]) == 130
    message = "edgeret: interrupted; 0 documents of this run are safe: run it again to go on\n"
    assert capsys.readouterr().err == message


def test_ctrl_c_while_indexing_leaves_what_is_committed(index: str) -> None:
    with (
        closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as watched,
        spawn(["index", index, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        try:
            assert process.stdin
            process.stdin.writelines(b'{"text": "document %d"}\n' % number for number in range(1000))
            process.stdin.flush()
            deadline = time.monotonic() + 30
            while watched.execute("SELECT count(*) FROM documents").fetchone() == (len(DOCUMENTS),):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    # An interrupt in the instant between commit and count reports the commit before.
    assert re.fullmatch(rb"edgeret: interrupted; 1?0+ documents of this run are safe: [^\n]+\n", errors)
    with Index.open(index) as found:
        assert len(found) == 1000 + len(DOCUMENTS)


def test_a_reader_that_goes_away_is_no_error(index: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with spawn(["search", index, "tea"], stdout=write_end, stderr=subprocess.PIPE) as process:
        os.close(write_end)
        _, errors = process.communicate(timeout=30)
    assert errors == b""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_takes_nothing_is_one_line(index: str) -> None:
    for argv in (
        ["info", index],
        ["get", index, "tea"],
        ["diff", index, index],
        ["search", index, "tea", "--json"],
    ):
        with (
            Path("/dev/full").open("wb") as full,
            spawn(argv, stdout=full, stderr=subprocess.PIPE) as process,
        ):
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 1
        assert re.fullmatch(rb"edgeret: [^\n]*No space left[^\n]*\n", errors)


def test_closed_streams_are_no_traceback(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, argv, message in (
        ("stdout", ["info", index], "standard output is closed"),
        ("stdin", ["index", index, "-"], r"cannot read standard input \(it is closed\)"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(sys, name, None)
            assert main(argv) == 1
        assert re.search(message, capsys.readouterr().err)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["index", index, "docs.jsonl"]) == 0
    assert main(["info", "gone"]) == 1


def test_the_module_runs(tmp_path: Path) -> None:
    with spawn(["info", "gone"], faked=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, b"")
    assert re.fullmatch(rb"edgeret: no index at '.*/gone'[^\n]*\n", errors)


def test_an_output_without_unicode_still_gets_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("odd.jsonl").write_text('{"id": "é", "text": "caf\\u00e9 \\ud83d\\ude00"}\n')
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    main(["index", "x.edgeret", "odd.jsonl", "--bits", "64"])
    with spawn(["search", "x.edgeret", "tea"], stdout=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.endswith(b"  ?  caf? ?\n")


def test_a_bar_on_a_terminal_and_none_in_a_pipe() -> None:
    argv = ["index", "x.edgeret", "docs.jsonl", "--bits", "64"]
    with spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.communicate(timeout=30)[1] == b""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    with spawn(argv, stdout=subprocess.DEVNULL, stderr=follower) as process:
        assert process.wait(timeout=30) == 0
    os.close(follower)
    assert b"3/3" in os.read(leader, 65536)
    os.close(leader)


def test_models_lists_bundles(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def opened(name: str) -> SimpleNamespace:
        manifest = SimpleNamespace(kind="reranker" if name == "judge" else "transformer")
        return SimpleNamespace(
            name=name, dim=384, max_tokens=256, space="ab" * 16, manifest=manifest, file_bytes=2300
        )

    monkeypatch.setattr("edgeret.shell.cli.available", lambda: ["base", "judge"])
    monkeypatch.setattr("edgeret.shell.cli.Bundle.open", opened)
    found = answer(capsys, "models")
    assert isinstance(found, list)
    assert [(entry["name"], entry["file_bytes"]) for entry in found] == [("base", 2300), ("judge", 2300)]
    assert [entry["kind"] for entry in found] == ["transformer", "reranker"]
    assert main(["models"]) == 0
    base, judge = capsys.readouterr().out.splitlines()
    assert base.startswith("base  2,300 bytes, dim 384, space abab")
    assert judge == "judge  2,300 bytes, reranks"


def test_what_no_terminal_writes_is_asked_all_the_same(index: str) -> None:
    leader, follower = pty.openpty()
    with spawn(["search", index], stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.write(leader, b"green te\xe9\nwireless\n\n")
        output, errors = process.communicate(timeout=30)
    os.close(follower)
    os.close(leader)
    assert (process.returncode, errors) == (0, b"")
    assert re.findall(rb"  1 +\S+ +(\w+)", output) == [b"tea", b"wifi"]


def test_a_model_that_is_damaged_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("broken", "torn"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
    monkeypatch.setenv("EDGERET_MODELS", str(tmp_path))
    assert main(["models"]) == 1
    output, errors = capsys.readouterr()
    assert {"base", "nano", "small"} <= {line.split()[0] for line in output.splitlines()}
    assert re.fullmatch(r"edgeret: bundle .*broken: [^\n]+\nedgeret: bundle .*torn: [^\n]+\n", errors)
    assert main(["models", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["name"] == "base"


@pytest.fixture
def _small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(id=f"module_{number}", text=f"Compress number {number}.") for number in range(20)]
    monkeypatch.setattr("edgeret.shell.demo.corpus", lambda limit: documents[: limit or 10])


@pytest.mark.usefixtures("_small_demo")
def test_demo_answers_its_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bits", "64"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("20 docstrings of Python ")
    for question in demo.QUESTIONS:
        assert f"\n? {question}\n  1  " in output
    assert len(re.findall(r"^  \d+\.\d ms$", output, re.MULTILINE)) == len(demo.QUESTIONS)
    assert not list(Path().glob("*.edgeret"))


@pytest.mark.usefixtures("_small_demo")
def test_demo_takes_questions_from_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter(["compress", "", "never read"])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    assert main(["demo", "kept.edgeret", "--bits", "64", "--all"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("10 docstrings")
    assert output.count(" ms\n") == len(demo.QUESTIONS) + 1
    assert next(typed) == "never read"
    with Index.open("kept.edgeret") as kept:
        assert len(kept) == 10


@pytest.mark.usefixtures("_small_demo")
def test_demo_ends_with_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", ended)
    assert main(["demo", "--bits", "64"]) == 0


def test_a_command_waits_for_a_writer_as_long_as_asked(
    index: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Index.open(index) as other, other._store.writing():
        begun = time.monotonic()
        assert "being written" in failure(capsys, "delete", index, "wifi", "--wait", "0.3")
        assert time.monotonic() - begun > 0.25
        assert "0 seconds or more" in failure(capsys, "delete", index, "wifi", "--wait", "-1")
    assert main(["delete", index, "wifi", "--wait", "0.3"]) == 0
