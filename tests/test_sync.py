"""An index follows folders: what is new, changed and gone, and nothing else is read or encoded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from counts import tries
from fake import FakeEncoder
from oddities import alarm, laid

from edgeret import ArgumentError, Document, FunctionEncoder, Index, InvalidDocumentError, LockedError
from edgeret.shell import inputs, watch
from edgeret.shell.cli import main
from edgeret.sources import encodings, folder
from edgeret.upkeep import sync


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of two texts and a file of two records."""
    return lay(
        tmp_path / "notes",
        {
            "a.md": "red cat",
            "sub/b.txt": "blue dog",
            "c.jsonl": '{"text": "one"}\n{"text": "two", "id": "x"}\n',
        },
    )


def lay(path: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def counts(found: object) -> tuple[int, ...]:
    return tuple(getattr(found, name) for name in ("added", "changed", "unchanged", "removed"))


def test_a_folder_is_followed(index: Index, notes: Path, encoder: FakeEncoder) -> None:
    index.add([Document("notes/mine", "of the user", {"path": "notes/mine"}), Document("notesx", "other")])
    assert counts(index.sync(notes)) == (3, 0, 0, 0)
    mine = ["notes/mine", "notesx"]
    assert sorted(index.ids()) == [
        "notes/a.md",
        "notes/c.jsonl#1",
        "notes/c.jsonl#x",
        *mine[:1],
        "notes/sub/b.txt",
        mine[1],
    ]
    told = index.get("notes/a.md").metadata
    assert told["path"] == "notes/a.md"
    assert told["bytes"] == 7
    assert index.count({"mtime": {"$gt": "2020-01-01"}}) == 4
    (notes / "a.md").write_text("red cats and more")
    (notes / "sub/b.txt").unlink()
    (notes / "d.md").write_text("green bird")
    encoder.encoded.clear()
    assert counts(index.sync([notes])) == (1, 1, 1, 1)
    assert sorted(encoder.encoded) == ["a\nred cats and more", "d\ngreen bird"]
    assert "notes/sub/b.txt" not in index
    assert set(mine) < set(index.ids())
    index.check()


def test_what_is_unchanged_is_not_read_and_what_is_touched_not_encoded(
    index: Index, notes: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(notes)
    encoder.encoded.clear()
    os.utime(notes / "a.md", (1, 1))
    os.utime(notes / "c.jsonl", (1, 1))
    assert counts(index.sync(notes)) == (0, 0, 3, 0)
    assert encoder.encoded == []
    assert index.get("notes/a.md").metadata["mtime"] == "1970-01-01T00:00:01.000000Z"
    generation = index.info().generation
    monkeypatch.setattr(folder, "content", None)
    monkeypatch.setattr(folder, "lines", None)
    assert counts(index.sync(notes)) == (0, 0, 3, 0)
    assert index.info().generation == generation


def test_two_folders_may_have_one_readme(index: Index, tmp_path: Path) -> None:
    for name in ("a", "b", "other/a"):
        lay(tmp_path / name, {"README.md": f"of {name}"})
    assert index.sync([tmp_path / "a", tmp_path / "b"]).added == 2
    assert list(index.ids()) == ["a/README.md", "b/README.md"]
    # One of them alone leaves the other as it is.
    assert counts(index.sync(tmp_path / "b")) == (0, 0, 1, 0)
    assert len(index) == 2
    with pytest.raises(ArgumentError, match="folders of different names"):
        index.sync([tmp_path / "a", tmp_path / "other/a"])
    with pytest.raises(InvalidDocumentError, match="is not there"):
        index.sync(tmp_path / "none")
    with pytest.raises(InvalidDocumentError, match="is a regular file"):
        index.sync(tmp_path / "a/README.md")


def test_records_that_are_gone_go_and_those_that_stay_are_not_encoded(
    index: Index, notes: Path, encoder: FakeEncoder
) -> None:
    index.sync(notes)
    encoder.encoded.clear()
    (notes / "c.jsonl").write_text('{"text": "new", "id": "y"}\n{"text": "two", "id": "x"}\n')
    assert counts(index.sync(notes)) == (0, 1, 2, 0)
    assert encoder.encoded == ["new"]
    assert list(index.ids({"path": "notes/c.jsonl"})) == ["notes/c.jsonl#x", "notes/c.jsonl#y"]
    # A record that somebody deletes comes back, and a line that is none is named each time.
    index.delete(["notes/c.jsonl#x"])
    (notes / "c.jsonl").write_text(
        '{"text": "new", "id": "y"}\n{"text": "new", "id": "y"}\n[]\n{"text": "3"}\n'
    )
    for _ in range(2):
        found = index.sync(notes)
        assert set(found.refused) == {"notes/c.jsonl#2", "notes/c.jsonl#3"}
        assert "the id 'y' stands twice" in found.refused["notes/c.jsonl#2"]
    assert list(index.ids({"path": "notes/c.jsonl"})) == ["notes/c.jsonl#4", "notes/c.jsonl#y"]


def test_a_file_that_was_one_document_and_has_many_leaves_none_behind(index: Index, tmp_path: Path) -> None:
    notes = lay(tmp_path / "n", {"x.json": "[]"})
    index.add([Document("n/x.json#mine", "of the user", {"path": "n/x.json"})])
    for content, ids in (
        ("[]", ["n/x.json"]),
        ('[{"text": "one"}, {"text": "two"}]', ["n/x.json#1", "n/x.json#2"]),
        ('{"name": "a setting"}', ["n/x.json"]),
    ):
        (notes / "x.json").write_text(content)
        index.sync(notes)
        assert sorted(index.ids()) == sorted([*ids, "n/x.json#mine"])
        assert counts(index.sync(notes)) == (0, 0, 1, 0)


def test_an_index_in_the_folder_that_it_follows_keeps_its_locks(tmp_path: Path) -> None:
    """Whoever opens and closes a file takes away all locks that his process has on it."""
    folder = lay(tmp_path / "n", {"a.md": "red cat"})
    with Index.create(folder / "kb", FakeEncoder()) as index:
        index.add(["blue dog"])
        found = index.sync(folder)
        assert sorted(found.skipped) == ["n/kb", "n/kb-shm", "n/kb-wal"]
        assert "it is an index that is open here" in found.skipped["n/kb"]
        assert [document.id for document in inputs.read([str(folder)])] == ["a.md"]
        other = "import sys, edgeret, fake; edgeret.Index.open(sys.argv[1], fake.FakeEncoder()).close()"
        everywhere = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", other, folder / "kb"], check=True, env=everywhere)
        index.add(["green bird"])
        assert len(index) == 3


def test_a_document_that_came_under_a_larger_budget_stops_no_other(tmp_path: Path) -> None:
    folder = lay(tmp_path / "n", {"large.txt": "x" * 3_000_000, "a.txt": "red cat", "z.txt": "blue dog"})
    with Index.create(tmp_path / "x.edgeret", FakeEncoder()) as index:
        assert counts(index.sync(folder)) == (3, 0, 0, 0)
    with Index.open(tmp_path / "x.edgeret", FakeEncoder(), memory_budget="20MB") as index:
        for number, content in enumerate(("x" * 3_000_001, "small now")):
            lay(folder, {"large.txt": content, "z.txt": f"blue dog {number}"})
            found = index.sync(folder)
            assert counts(found) == (0, 1, 1, 0)
            assert "raise the" in found.refused["n/large.txt"]
        (folder / "large.txt").unlink()
        (folder / "z.txt").unlink()
        found = index.sync(folder)
        assert counts(found) == (0, 0, 1, 1)
        assert "raise the budget" in found.refused["n/large.txt"]
    with Index.open(tmp_path / "x.edgeret", FakeEncoder()) as index:
        assert counts(index.sync(folder)) == (0, 0, 1, 1)


def test_a_table_with_a_column_of_that_name_is_known_again(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = lay(tmp_path / "n", {"a.csv": "text,records\none,7\ntwo,\nthree,x\n"})
    assert counts(index.sync(notes)) == (1, 0, 0, 0)
    monkeypatch.setattr(folder, "content", None)
    assert counts(index.sync(notes)) == (0, 0, 1, 0)


@pytest.mark.parametrize("characters", [1, 1 << 20])
def test_one_text_that_cannot_be_encoded_takes_no_other_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, characters: int
) -> None:
    """Several are encoded together, unless each is committed by itself."""
    monkeypatch.setattr(sync, "_COMMIT_CHARACTERS", characters)

    def encode(texts: list[str]) -> list[list[float]]:
        return [[0.0] * 32 if "bad" in text else [1.0, *map(float, range(31))] for text in texts]

    texts = {f"{number:02}.txt": f"{'bad' if number in (3, 14) else 'fine'} {number}" for number in range(20)}
    folder = lay(tmp_path / "n", texts)
    with Index.create(tmp_path / "x.edgeret", FunctionEncoder(encode, 32, "zeros 1")) as index:
        for added in (18, 0):
            found = index.sync(folder)
            assert set(found.refused) == {"n/03.txt", "n/14.txt"}
            assert "n/03.txt: expected a direction" in found.refused["n/03.txt"]
            assert (found.added, len(index)) == (added, 18)


def test_a_file_of_many_records_that_was_cut_short_is_read_to_its_end(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: FakeEncoder
) -> None:
    monkeypatch.setattr(sync, "_COMMIT_DOCUMENTS", 3)
    lay(tmp_path / "n", {"a.jsonl": "".join(f'{{"text": "text {n}"}}\n' for n in range(10))})
    real, calls = Index.add, []

    def add(self: Index, documents: Iterator[Document], **options: object) -> list[str]:
        calls.append(1)
        if len(calls) == 3:
            raise LockedError("busy")
        return real(self, documents, **options)

    monkeypatch.setattr(Index, "add", add)
    with pytest.raises(LockedError) as error:
        index.sync(tmp_path / "n")
    assert error.value.__notes__ == ["0 files of this run are safe: run it again to go on"]
    assert len(index) == 6
    encoder.encoded.clear()
    assert counts(index.sync(tmp_path / "n")) == (0, 1, 0, 0)
    assert sorted(encoder.encoded) == [f"text {n}" for n in (6, 7, 8, 9)]
    assert counts(index.sync(tmp_path / "n")) == (0, 0, 1, 0)


def test_a_kill_at_any_moment_loses_nothing_that_was_said_to_be_safe(tmp_path: Path) -> None:
    names = [f"{number:03}.md" for number in range(40)]
    lay(tmp_path / "n", {name: f"text of {name}" for name in names})
    octets = len(f"text of {names[0]}")
    calls = _killed_sync(tmp_path / "whole.edgeret", tmp_path / "n", None)
    survived = []
    for turn in range(tries(16, 100)):
        path = tmp_path / f"{turn}.edgeret"
        safe = _killed_sync(path, tmp_path / "n", random.Random(turn).randrange(calls)) // octets
        survived.append(safe)
        with Index.open(path, model=FakeEncoder()) as index:
            assert [f"n/{name}" for name in names[:safe]] == list(index.ids(limit=safe))
            assert index.sync(tmp_path / "n").unchanged >= safe
            assert len(index) == len(names)
            index.check()
    assert len(set(survived)) > 1


def _killed_sync(path: Path, folder: Path, last: int | None) -> int:
    """Sync in a process that is killed at a call of a function, by its number; the bytes that it said are safe.

    last: None lets it end, and returns how many calls there are.
    """
    Index.create(path, model=FakeEncoder(), bits=64).close()
    here, there = os.pipe()
    child = os.fork()
    if not child:
        try:
            calls = 0

            def count(*_: object) -> None:
                nonlocal calls
                calls += 1
                if calls == last:
                    os.kill(os.getpid(), signal.SIGKILL)

            sync._COMMIT_DOCUMENTS = 5
            with Index.open(path, model=FakeEncoder()) as index:
                sys.setprofile(count)
                index.sync(folder, progress=lambda done, _: os.write(there, b"%d\n" % done))
                sys.setprofile(None)
            if last is None:
                os.write(there, b"%d\n" % calls)
        finally:
            os._exit(0)
    os.close(there)
    os.waitpid(child, 0)
    with os.fdopen(here) as told:
        return int(([*told] or ["0"])[-1])


def test_a_folder_full_of_trouble(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sound file is found, every other one named."""
    sound = {f"good{n}.md": f"sound{n} text" for n in range(5)} | {
        "mark.txt": b"\xef\xbb\xbfmarked", "wide.txt": "sixteen".encode("utf-16"),
        "wide-be.txt": "big".encode("utf-16-be"),
        "latin.txt": "größe".encode("latin-1"), "quotes.txt": "\u201cquoted\u201d text".encode("cp1252"),
        "old mac.txt": b"one\rtwo", "UPPER.TXT": "upper", "a b\tc.md": "blank", "new\nline.md": "newline",
        "é.md": "composed", "\u202egnp.md": "turned", "deep/" * 40 + "x.md": "deep", "x" * 251 + ".md": "long name",
        "-rf.md": "option", "%s{}.md": "format", "long.txt": "x" * 300_000, "emoji.md": "🙂", "#1.md": "hash",
        "c.jsonl": '{"text": "record"}\r\n\r\n',
    }  # fmt: skip
    skipped = {"empty.md": "", "blank.txt": " \n\t", "only mark.md": b"\xef\xbb\xbf", "picture.png": b"\x89PNG",
               "empty.jsonl": "", "archive.zip": b"PK", "no ending": b"\0\1"}  # fmt: skip
    refused = {"nul.md": b"a\0b\0\0\0c", "noise.txt": random.Random(1).randbytes(4000), "giant.log": b"x" * 500_000,
               "lines.jsonl": '{"text": "fine"}\n{"text": 5}\n', "broken.jsonl": "{\n"}  # fmt: skip
    monkeypatch.setattr(folder, "LARGEST_BYTES", 400_000)
    path = lay(tmp_path / "n", {**sound, **skipped, **refused})
    lay(tmp_path / "outside", {"o.md": "secret"})
    (path / ".hidden.md").write_text("hidden")
    (path / "folder.md").mkdir()
    for name, target in {
        "nowhere.md": "gone",
        "circle.md": "circle.md",
        "up.md": "../outside/o.md",
        "loop": ".",
    }.items():
        (path / name).symlink_to(target)
    (Path(os.fsdecode(os.fsencode(path) + b"/caf\xe9.md"))).write_text("name of another encoding")
    with ExitStack() as stack:
        for kind in ("pipe", "socket"):
            stack.enter_context(laid(path / f"{kind}.md", kind))
        stack.enter_context(alarm())
        found = index.sync(path)
    others = {"nowhere.md", "circle.md", "up.md", "pipe.md", "socket.md"}
    assert set(found.skipped) == {f"n/{name}" for name in {*skipped, *others}}
    assert {name.partition("#")[0] for name in found.refused} == {
        f"n/{name}" for name in {*refused, "caf\udce9.md"}
    }
    assert set(index.ids()) == {f"n/{name}" for name in sound if name != "c.jsonl"} | {
        "n/c.jsonl#1",
        "n/lines.jsonl#1",
    }
    for text in ("sound3", "größe", "marked", "sixteen", "big", "deep", "record"):
        assert index.search(text, k=1)[0].text.startswith(text)
    assert not any("secret" in document.text for document in index.documents())


def test_what_cannot_be_read_now_stays_and_what_has_no_text_goes(
    index: Index, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(notes)
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    (notes / "a.md").write_bytes(b"red \0 cat")
    (notes / "c.jsonl").write_text("")
    found = index.sync(notes)
    assert set(found.refused) == {"notes/sub", "notes/a.md"}
    assert list(index.ids()) == ["notes/a.md", "notes/sub/b.txt"]
    assert index.get("notes/a.md").text == "red cat"
    assert found.removed == 1


def test_the_shell_names_what_is_wrong_and_says_so_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lay(tmp_path / "n", {"a.md": "red cat", "b.png": "x", "c.png": "x", "d.md": " "})
    assert main(["sync", "x.edgeret", "n", "--model", "nano"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[:2] == ["added: 1", "changed: 0"]
    assert "left out: 2 files with .png" in shown.err
    assert "n/d.md: expected a text, it is empty" in shown.err
    (tmp_path / "n/e.md").write_bytes(b"a\0b")
    assert main(["sync", "x.edgeret", "n", "--json"]) == 1
    shown = capsys.readouterr()
    assert '"unchanged": 1' in shown.out
    assert "holds a NUL" in shown.err
    assert "1 files or records were refused" in shown.err


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("café", "cp1252"),
        ("Привет мир, как дела сегодня", "cp1251"),
        ("hello", "utf-16"),
        ("hello", "utf-16-be"),
    ],
)
def test_encodings_are_told(text: str, encoding: str) -> None:
    pytest.importorskip("charset_normalizer")
    found, told = encodings.decode("x", text.encode(encoding))
    assert (found, told.replace("_", "-")) == (text, encoding)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(InvalidDocumentError, match=r"got byte 0xe9 at 3.*edgeret\[files\]"):
        encodings.decode("x", b"caf\xe9")


def test_a_change_is_found_while_it_is_watched(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    folder, path = lay(tmp_path / "n", {"a.md": "red cat"}), tmp_path / "x.edgeret"
    command = [
        sys.executable,
        "-m",
        "edgeret",
        "sync",
        str(path),
        str(folder),
        "--watch",
        "--json",
        "--model",
        "nano",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["added"] == 1
            (folder / ".hidden.md").write_text("hidden")
            (folder / "b.md").write_text("blue dog")
            assert json.loads(process.stdout.readline())["added"] == 1
            with Index.open(path, readonly=True) as index:
                assert index.search("blue", mode="lexical")[0].id == "n/b.md"
            (folder / "a.md").unlink()
            assert json.loads(process.stdout.readline())["removed"] == 1
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_a_folder_is_watched_by_its_name(tmp_path: Path) -> None:
    """Where its name begins with the index's, and after another one was put in its place."""
    pytest.importorskip("watchfiles")
    folder, path = lay(tmp_path / "kb-files", {"a.md": "red cat"}), tmp_path / "kb"
    seen = watch.changes([str(folder)], str(path))
    assert next(seen)
    (folder / "b.md").write_text("blue dog")
    assert any(islice(seen, 20))
    for number in range(2):
        folder.rename(tmp_path / f"old{number}")
        lay(folder, {"a.md": "another cat"})
        assert any(islice(seen, 20))
        while next(seen):
            pass
        (folder / "c.md").write_text("green bird")
        assert any(islice(seen, 20))
    while next(seen):
        pass
    seen = watch.changes([str(tmp_path)], str(path))
    assert next(seen)
    for name in ("kb", "kb-wal", "kb-reencode-journal", "kb.sig", "kb-partitions", ".hidden"):
        (tmp_path / name).write_text("of the index")
    assert not any(islice(seen, 3))


def test_metadata_that_somebody_added_stay_as_long_as_the_text_does(
    index: Index, notes: Path, encoder: FakeEncoder
) -> None:
    (notes / "a.md").write_text("---\ntag: one\n---\nred cat")
    index.sync(notes)
    for name in ("notes/a.md", "notes/c.jsonl#x"):
        index.update(name, {"rating": 5})
    encoder.encoded.clear()
    for file in notes.iterdir():
        os.utime(file, (1, 1))
    index.sync(notes)
    assert encoder.encoded == []
    assert [index.get(name).metadata["rating"] for name in ("notes/a.md", "notes/c.jsonl#x")] == [5, 5]
    (notes / "a.md").write_text("---\ntag: two\n---\nred cat")
    assert index.sync(notes).changed == 1
    assert [index.get("notes/a.md").metadata[key] for key in ("tag", "rating")] == ["two", 5]
    (notes / "a.md").write_text("---\ntag: two\n---\nred cow")
    index.sync(notes)
    assert "rating" not in index.get("notes/a.md").metadata


def lines_with(folder: Path, **vectors: list[float]) -> Path:
    texts = [
        {"id": name, "text": "text", "metadata": {}, "vector": vector} for name, vector in vectors.items()
    ]
    return lay(folder, {"a.jsonl": "\n".join(map(json.dumps, texts))})


def test_another_vector_of_a_record_is_taken(index: Index, tmp_path: Path) -> None:
    one, other = [1.0] + [0.0] * 95, [0.0] * 95 + [1.0]
    for vector in (one, other):
        index.sync(lines_with(tmp_path / "j", x=vector))
        assert index.get("j/a.jsonl#x").vector @ vector > 0.99
    os.utime(tmp_path / "j" / "a.jsonl", (1, 1))
    index.sync(tmp_path / "j")
    assert index.get("j/a.jsonl#x").vector @ other > 0.99


def test_of_a_record_that_is_refused_the_index_keeps_what_it_has(index: Index, tmp_path: Path) -> None:
    fine, wrong = [1.0] * 96, [1.0] * 5
    index.sync(lines_with(tmp_path / "j", x=fine, y=fine, z=fine))
    for _ in range(2):
        found = index.sync(lines_with(tmp_path / "j", x=fine, y=wrong))
        assert set(found.refused) == {"j/a.jsonl#y"}
        assert sorted(index.ids()) == [f"j/a.jsonl#{name}" for name in "xyz"]
    index.sync(lines_with(tmp_path / "j", x=fine, y=fine))
    assert sorted(index.ids()) == ["j/a.jsonl#x", "j/a.jsonl#y"]
