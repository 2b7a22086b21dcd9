"""What lies beside an index: who erases a document finds all of it, whoever was interrupted or is at work."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from crash import workload
from fake import FakeEncoder, NarrowEncoder

import edgeret
from edgeret import Document, Index
from edgeret.errors import LockedError, StorageError
from edgeret.search import partitions
from edgeret.storage import drafts, sides

SECRET = "zqxsecretword diagnosis"
TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    monkeypatch.setattr(drafts, "_COMMIT_S", 0.0)


@pytest.fixture
def full(path: Path, encoder: FakeEncoder) -> Path:
    """Three sealed blocks and a tail, one document that has to go."""
    with Index.create(path, encoder, bits=96) as index:
        index.add([Document("secret-id", SECRET), *workload.documents(0, 200)])
        assert index.check().blocks >= 2
    return path


def code_of(path: Path) -> bytes:
    """The first word of the secret document's code."""
    return FakeEncoder().codec.encode(vector_of(FakeEncoder()), 96)[0, :1].tobytes()


def vector_of(encoder: FakeEncoder) -> np.ndarray:
    return edgeret.codec.quantize(encoder.encode([SECRET]))


def holding(folder: Path, *needles: bytes) -> list[str]:
    return [
        str(file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and any(needle in file.read_bytes() for needle in needles)
    ]


def interrupt(path: Path, number: int) -> None:
    def stop(done: int, _: int) -> None:
        if done == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.reencode(path, NarrowEncoder(), 64, progress=stop)


# -- erasing


@pytest.mark.parametrize("call", ["erase", "compact", "replace"])
def test_drafts_forget_what_is_erased_and_keep_the_others(full, encoder, call):
    interrupt(full, 150)
    needle = vector_of(NarrowEncoder()).tobytes()
    assert holding(full.parent, needle) == [sides.drafts_of(full).name]
    with Index.open(full, encoder) as index:
        if call == "replace":
            index.add([Document("secret-id", "harmless")])
        else:
            index.delete(["secret-id"], erase=call == "erase")
        index.compact()
    assert holding(full.parent, needle, b"zqxsecretword") == []
    assert Index.reencode(full, NarrowEncoder(), 64).encoded <= 201 - 148


def test_while_a_reencode_is_at_work_erasing_is_refused_before_anything_is_done(full, encoder):
    def look(done: int, _: int) -> None:
        if done == 20:
            with Index.open(full, encoder) as index:
                for call in (lambda: index.delete(["secret-id"], erase=True), index.compact):
                    with pytest.raises(LockedError, match="-reencode' is being written by a reencode"):
                        call()
                assert index.get("secret-id")

    Index.reencode(full, NarrowEncoder(), 64, progress=look)


def test_a_file_in_the_place_of_drafts_is_told_before_anything_is_done(full, encoder):
    beside = sides.drafts_of(full)
    target = full.with_name("target")
    target.write_bytes(b"")
    with Index.open(full, encoder) as index:
        for lay in (
            lambda: beside.write_bytes(b"x" * 5000),
            lambda: os.mkfifo(beside),
            lambda: beside.mkdir(),
            lambda: beside.symlink_to(target),
            lambda: beside.symlink_to("nowhere"),
        ):
            lay()
            with pytest.raises(StorageError, match=r"-reencode"):
                index.delete(["secret-id"], erase=True)
            assert index.get("secret-id")
            with pytest.raises(StorageError, match=r"-reencode"):
                Index.reencode(full, NarrowEncoder(), 64)
            beside.rmdir() if beside.is_dir() and not beside.is_symlink() else beside.unlink()
    assert target.read_bytes() == b""


@pytest.mark.parametrize("moment", ["written", "checked"])
def test_optimize_writes_nothing_back_that_was_erased_meanwhile(full, encoder, monkeypatch, moment):
    """moment: after the file is written, or just before it is compared with the index."""
    calls = []

    def erase(real):
        def erased(parts, *arguments):
            if moment == "written":
                real(parts, *arguments)
            if not calls:
                calls.append(1)
                with Index.open(full, encoder) as index:
                    index.delete(["secret-id"], erase=True)
            return None if moment == "written" else real(parts, *arguments)

        return erased

    monkeypatch.setattr(partitions.Parts, "write", erase(partitions.Parts.write))
    summary = edgeret.optimize(full)
    assert calls
    assert summary.rows
    assert holding(full.parent, code_of(full)) == []
    with Index.open(full, encoder) as index:
        assert index.info().covered == summary.rows


def test_optimize_gives_up_by_name_where_codes_are_always_erased(full, encoder, monkeypatch):
    real, ids = partitions.Parts.write, iter(range(200))

    def write(parts, copy):
        with Index.open(full, encoder) as index:
            index.delete([f"d{next(ids)}"], erase=True)
        real(parts, copy)

    monkeypatch.setattr(partitions.Parts, "write", write)
    with pytest.raises(LockedError, match="try again"):
        edgeret.optimize(full)
    assert [file.name for file in full.parent.iterdir()] == [full.name]


def test_what_is_added_meanwhile_keeps_no_partitions_from_being_made(full, encoder, monkeypatch):
    real = partitions.Parts.write

    def write(parts, copy):
        with Index.open(full, encoder) as index:
            index.add(workload.documents(500, 90, "more"))
            index.delete(["d7"])
        real(parts, copy)

    monkeypatch.setattr(partitions.Parts, "write", write)
    assert edgeret.optimize(full).rows
    with Index.open(full, encoder) as index:
        explained = index.explain("first red cat number9")
    assert (explained.search, explained.fallback) == ("partitions", "")


def test_through_a_link_the_same_files_are_meant(full, encoder):
    edgeret.optimize(full)
    link = full.with_name("link.edgeret")
    link.symlink_to(full.name)
    assert sides.partitions_of(link) == sides.partitions_of(full)
    with Index.open(link, encoder) as index:
        assert index.info().covered
        index.delete(["secret-id"], erase=True)
    assert not sides.partitions_of(full).exists()


# -- what killed calls leave

KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from crash import workload
from pathlib import Path
from fake import FakeEncoder
import edgeret
for owner, name, value in workload.shrink_blocks():
    setattr(owner, name, value)
def die(*_):
    os.kill(os.getpid(), 9)
path, call = Path(sys.argv[1]), sys.argv[2]
Path.replace = die
if call == "optimize":
    edgeret.optimize(path)
elif call == "repair":
    edgeret.Index.repair(path, path.with_name("mended"), FakeEncoder())
else:
    with edgeret.Index.open(path, FakeEncoder(), readonly=True) as index:
        getattr(index, call)(path.with_name("other name"))
"""


def kill(path: Path, call: str) -> Path:
    """Let a call be killed before its file has its name; the folder that it leaves."""
    code = KILLED.format(tests=str(TESTS))
    ended = subprocess.run([sys.executable, "-c", code, path, call], check=False)
    assert ended.returncode == -signal.SIGKILL
    (left,) = path.parent.glob(".*-????????")
    return left


@pytest.mark.parametrize("call", ["seal", "backup", "optimize", "repair"])
def test_what_a_killed_call_left_is_erased_too(full, encoder, call):
    left = kill(full, call)
    assert (left / "copy").stat().st_size
    with Index.open(full, encoder) as index:
        index.delete(["secret-id"], erase=True)
    assert not left.exists()
    assert holding(full.parent, b"zqxsecretword", b"secret-id", vector_of(encoder).tobytes()) == []


def test_what_a_killed_call_left_goes_with_the_next_new_file(full, encoder):
    left = kill(full, "seal")
    with Index.open(full, encoder) as index:
        index.seal(full.with_name("third"))
    assert not left.exists()


def test_what_is_at_work_or_somebody_elses_stays(full, encoder):
    target = full.with_name("busy")
    foreign = full.with_name(".notes-abcdefgh")
    foreign.mkdir()
    (foreign / "copy").write_text("mine")
    half = full.with_name(".half-abcdefgh")
    half.mkdir()
    (half / "lock").write_text("1")
    (half / "letter").write_text("mine too")
    with sides.workshop(target) as folder:
        (folder / "copy").write_text("x")
        with Index.open(full, encoder) as index:
            index.delete(["secret-id"], erase=True)
        assert (folder / "copy").read_text() == "x"
    assert not folder.exists()
    assert (foreign / "copy").read_text() == "mine"
    assert (half / "letter").read_text() == "mine too"


def test_what_cannot_be_deleted_is_told_with_what_is_done(full, encoder, monkeypatch):
    left = kill(full, "seal")
    real = Path.unlink

    def unlink(path, missing_ok=False):
        if path.parent == left:
            raise PermissionError(1, "Operation not permitted")
        real(path, missing_ok)

    with Index.open(full, encoder) as index:
        with monkeypatch.context() as refusing:
            refusing.setattr(Path, "unlink", unlink)
            with pytest.raises(
                StorageError, match=rf"is found no more, but its bytes.*{left.name}.*delete it"
            ):
                index.delete(["secret-id"], erase=True)
        assert index.get("secret-id") is None
        index.delete(["secret-id"], erase=True)
    assert not left.exists()


def test_a_backup_that_fails_leaves_nothing(full, encoder, monkeypatch):
    """What SQLite says of a full disk names the copy, and neither it nor its journal stays."""

    class Full:
        def backup(self, copy, pages, progress):
            copy.execute("CREATE TABLE half (x)")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    with pytest.raises(StorageError, match=r"no space left for a copy of .*which is as it was"):
        edgeret.storage.file.backup(Full(), full, full.with_name("copy"))
    assert [file.name for file in full.parent.iterdir()] == [full.name]


def test_a_full_disk_after_the_deletion_is_told_as_such(full, encoder, monkeypatch):
    with Index.open(full, encoder) as index:
        edgeret.optimize(full)
        with monkeypatch.context() as filled:
            filled.setattr(index._store, "truncate_log", lambda: _full(full))
            with pytest.raises(
                StorageError, match=r"is found no more, but its bytes are still in .*no space left"
            ):
                index.delete(["secret-id"], erase=True)
        assert index.get("secret-id") is None
        assert index.delete(["secret-id"], erase=True) == 0
    assert holding(full.parent, b"zqxsecretword", code_of(full)) == []


def _full(path: Path) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with edgeret.storage.file.translated(path):
        raise error


SEEK = """
import os, pathlib, sys
# Folders come and go too, beside which `walk` goes on.
for folder, _, names in os.walk(sys.argv[1]):
    for file in (pathlib.Path(folder, name) for name in names):
        try:
            if bytes.fromhex(sys.argv[2]) in file.read_bytes():
                print(file)
        except FileNotFoundError:
            continue
"""


def test_erasing_beside_optimize_in_another_process_leaves_no_code(full, encoder):
    code = (
        KILLED.format(tests=str(TESTS))
        .replace("Path.replace = die", "")
        .replace("    edgeret.optimize(path)", "    while True: edgeret.optimize(path)")
    )
    child = subprocess.Popen([sys.executable, "-c", code, full, "optimize"])
    try:
        while not sides.partitions_of(full).exists():
            time.sleep(0.01)
        with Index.open(full, encoder, wait=5) as index:
            for number in range(8):
                identity = f"victim {number}"
                index.add(
                    [Document(identity, f"{SECRET} {number}"), *workload.documents(1000 * number, 70, "x")]
                )
                needle = (
                    FakeEncoder()
                    .codec.encode(edgeret.codec.quantize(encoder.encode([f"{SECRET} {number}"])), 96)[0, :1]
                    .tobytes()
                )
                for _ in range(100):
                    try:
                        index.delete([identity], erase=True)
                        break
                    except LockedError:
                        time.sleep(0.05)
                # By another process: to close a file that is open here too would drop SQLite's locks.
                found = subprocess.run(
                    [sys.executable, "-c", SEEK, full.parent, needle.hex()],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                assert found.stdout == ""
    finally:
        child.kill()
        child.wait()
    with Index.open(full, encoder) as index:
        index.compact()
        index.check()
    assert [file.name for file in full.parent.iterdir()] == [full.name]
