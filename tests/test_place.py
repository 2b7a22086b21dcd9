"""A file is its device and inode, not its path: replaced, renamed, deleted, reached otherwise; who may see it."""

import io
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nobody
import pytest
from counts import FULL
from fake import FakeEncoder

import edgeret
from edgeret import Document, EdgeretError, Index, ReplacedError, storage
from edgeret.errors import (
    ClosedError,
    IndexExistsError,
    LockedError,
    NotAnIndexError,
    ReadOnlyError,
    SpaceMismatchError,
    StorageError,
)
from edgeret.storage import place, schema
from edgeret.storage.drafts import Drafts
from edgeret.storage.place import Place
from edgeret.storage.store import Store

REPLACED = 200 if FULL else 3

CALLS: dict[str, Callable[[Index], object]] = {
    "search": lambda index: index.search("apple"),
    "words": lambda index: index.search("apple", mode="lexical"),
    "get": lambda index: index.get("old0"),
    "len": len,
    "info": lambda index: index.info(),
    "check": lambda index: index.check(),
    "backup": lambda index: index.backup(index._path.with_name("copy")),
    "seal": lambda index: index.seal(index._path.with_name("sealed")),
    "add": lambda index: index.add([Document("late", "a late apple")]),
    "delete": lambda index: index.delete(["old0"]),
    "erase": lambda index: index.delete(["old0"], erase=True),
    "compact": lambda index: index.compact(),
}
CHANGES = ("add", "delete", "erase", "compact")


def make(path: Path, tag: str, count: int) -> Path:
    with Index.create(path, FakeEncoder(), bits=64) as index:
        index.add(Document(f"{tag}{number}", f"{tag} apple {number}") for number in range(count))
    return path


def sealed(path: Path, tag: str, count: int) -> Path:
    with Index.open(make(path.with_suffix(".whole"), tag, count), FakeEncoder(), readonly=True) as index:
        index.seal(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def state(path: Path) -> tuple[int, set[str]]:
    """How many documents a sound file has, and their tags."""
    with Index.open(path, FakeEncoder()) as index:
        index.check()
        hits = index.search("apple", k=1000)
        assert len(hits) == len(index)
        return len(index), {hit.id.rstrip("0123456789") for hit in hits}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make(tmp_path / "live", "old", 5)


# -- another file, or none, at the path


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("new", [make, sealed], ids=["closed", "sealed"])
def test_another_file_in_its_place_is_named_and_stays_as_it_is(old, tmp_path, call, new):
    index = Index.open(old, FakeEncoder())
    index.search("apple")
    index.add([Document("old9", "one more old apple")])
    new(tmp_path / "next", "new", 9).replace(old)
    for _ in range(2):
        with pytest.raises(ReplacedError, match=r"another file was put .* Index\.reopen"):
            call(index)
    index.close()
    assert [name for name in names(tmp_path) if name.startswith("live")] == ["live"]
    assert state(old) == (9, {"new"})


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_was_acknowledged_goes_with_the_file_to_its_new_name(old, tmp_path, call):
    index = Index.open(old, FakeEncoder())
    index.search("apple")
    index.add([Document("old9", "one more old apple")])
    old.rename(tmp_path / "moved")
    with pytest.raises(ReplacedError, match="deleted or renamed"):
        call(index)
    index.close()
    assert names(tmp_path) == ["moved"]
    assert state(tmp_path / "moved") == (6, {"old"})


@pytest.mark.parametrize("change", [CALLS[name] for name in CHANGES], ids=CHANGES)
def test_a_refused_change_has_merged_the_log_already(old, tmp_path, change):
    index = Index.open(old, FakeEncoder())
    index.add([Document("old9", "one more old apple")])
    old.rename(tmp_path / "moved")
    with pytest.raises(ReplacedError):
        change(index)
    assert state(tmp_path / "moved") == (6, {"old"})
    # And back: it is the same file.
    (tmp_path / "moved").rename(old)
    index.add([Document("old10", "and one more")])
    index.close()
    assert state(old) == (7, {"old"})


def test_one_that_moves_in_the_middle_of_a_change_is_not_changed(old, tmp_path):
    def documents():
        yield Document("old5", "an apple")
        old.rename(tmp_path / "moved")
        yield Document("old6", "an apple")

    with Index.open(old, FakeEncoder()) as index, pytest.raises(ReplacedError):
        index.add(documents())
    assert state(tmp_path / "moved") == (5, {"old"})

    def change(index: Index) -> None:
        with index._store.writing():
            index._store.connection.execute("DELETE FROM documents")
            (tmp_path / "moved").rename(old)

    with Index.open(tmp_path / "moved", FakeEncoder()) as index, pytest.raises(ReplacedError):
        change(index)
    assert state(old) == (5, {"old"})


def test_a_deleted_file_takes_no_change_and_a_new_one_keeps_its_own(old):
    index = Index.open(old, FakeEncoder())
    index.add([Document("old9", "one more old apple")])
    old.unlink()
    for call in CALLS.values():
        with pytest.raises(ReplacedError):
            call(index)
    make(old, "new", 3)
    with Index.open(old, FakeEncoder()) as other:
        other.add([Document("new9", "one more new apple")])
        index.close()
        other.add([Document("new10", "one more new apple")])
    assert state(old) == (5, {"new"})


def test_a_log_that_is_deleted_is_named(old):
    for readonly in (False, True):
        with Index.open(old, FakeEncoder(), readonly=readonly) as index:
            index.search("apple")
            old.with_name("live-wal").unlink()
            for call in (CALLS["search"], CALLS["add"]):
                with pytest.raises(ReadOnlyError if readonly and call is CALLS["add"] else ReplacedError):
                    call(index)
        assert state(old) == (5, {"old"})


def test_the_log_that_a_killed_writer_left_is_not_merged_into_another_file(old, tmp_path):
    with Index.open(old, FakeEncoder()) as index:
        index.add([Document("old9", "one more old apple")])
        shutil.copy(tmp_path / "live-wal", tmp_path / "left")
    for new in (make, sealed):
        new(tmp_path / f"{new.__name__}-next", "new", 9).replace(old)
        shutil.copy(tmp_path / "left", tmp_path / "live-wal")
        before = old.read_bytes()
        for readonly in (False, True):
            with pytest.raises(ReplacedError, match=r"log of .*live.* lay there before"):
                Index.open(old, FakeEncoder(), readonly=readonly)
        with pytest.raises(ReplacedError):
            Index.create(old, FakeEncoder(), bits=64, exist_ok=True)
        assert old.read_bytes() == before
        Index.repair(old, tmp_path / f"{new.__name__}-repaired", FakeEncoder())
        assert state(tmp_path / f"{new.__name__}-repaired") == (9, {"new"})
        for name in ("live-wal", "live-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        assert state(old) == (9, {"new"})


def test_a_log_survives_whatever_sqlite_counts(old, tmp_path):
    """Writing the file anew counts one schema more: in the log, and not yet in the file."""
    copied = tmp_path / "copied"
    copied.mkdir()
    with Index.open(old, FakeEncoder()) as index:
        index._store.connection.execute("PRAGMA wal_autocheckpoint = 0")
        for number in range(3):
            index.add([Document(f"old1{number}", "one more old apple")])
            index._store.connection.execute("VACUUM")
        for suffix in ("", "-wal"):
            shutil.copy(f"{old}{suffix}", copied)
    assert state(copied / "live") == (8, {"old"})


def test_many_threads_open_files_at_once(old):
    """Each looks whether another one has its file by another name, while others come and go."""
    interval = sys.getswitchinterval()
    held = [Place(old) for _ in range(50)]
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: Place(old).leave(), range(2000)))
    finally:
        sys.setswitchinterval(interval)
        for one in held:
            one.leave()


@pytest.mark.parametrize("readonly", [True, False])
def test_threads_get_one_file_or_an_error_while_files_come_and_go(tmp_path, readonly, trust):
    live = make(tmp_path / "live", "v0-", 3)
    versions = [
        (make if number % 2 else sealed)(tmp_path / f"next{number}", f"v{number}-", 3 + number % 3)
        for number in range(1, REPLACED + 1)
    ]
    index = Index.open(live, FakeEncoder(), readonly=readonly)
    seen: list[str] = []
    failures: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                (tags,) = {tuple(sorted({hit.id.split("-")[0] for hit in index.search("apple", k=9)}))}
                assert len(tags) == 1, tags
                seen.extend(tags)
            except EdgeretError as error:
                seen.append(type(error).__name__)
            except (AssertionError, ValueError) as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number, version in enumerate(versions, 1):
        if not readonly:
            index.add([Document(f"v{number - 1}-9", "one more apple")])
        version.replace(live)
        with pytest.raises(ReplacedError):
            index.search("apple")
        index.reopen()
        assert {hit.id.split("-")[0] for hit in index.search("apple")} == {f"v{number}"}
    done.set()
    for thread in threads:
        thread.join()
    index.close()
    assert not failures
    assert set(seen) <= {f"v{number}" for number in range(REPLACED + 1)} | {"ReplacedError", "ClosedError"}
    assert state(live)[1] == {f"v{REPLACED}-"}
    trust(replaced_files=REPLACED, searches=len(seen), told=seen.count("ReplacedError"))


def test_reopen_takes_what_lies_there_and_says_what_it_cannot(old, tmp_path):
    with Index.open(old, FakeEncoder()) as index:
        make(tmp_path / "next", "new", 9).replace(old)
        index.reopen()
        assert len(index) == 9
        index.add([Document("new9", "a new apple")])
        index.reopen()
        assert len(index) == 10
        old.rename(tmp_path / "moved")
        with pytest.raises(EdgeretError, match="no index"):
            index.reopen()
        Index.create(old, FakeEncoder(seed=1), bits=64).close()
        with pytest.raises(SpaceMismatchError):
            index.reopen()
        (tmp_path / "moved").replace(old)
        index.reopen()
        assert len(index) == 10
    assert state(old) == (10, {"new"})


# -- other ways to a file


def test_relative_paths_are_those_of_the_folder_where_the_index_was_opened(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).mkdir()
    make(tmp_path / "b" / "x", "foreign", 2)
    (tmp_path / "b" / "x-partitions").write_text("of b")
    monkeypatch.chdir(tmp_path / "a")
    index = Index.create("x", FakeEncoder(), bits=64)
    index.add([Document("mine0", "apple")])
    for folder in ("b", "c"):
        monkeypatch.chdir(tmp_path / folder)
        assert index.get("mine0") is not None
        index.add([Document("mine1", f"apple {folder}"), Document("mine2", "apple")])
        assert {hit.id for hit in index.search("apple")} == {"mine0", "mine1", "mine2"}
        index.delete(["mine2"], erase=True)
        index.compact()
        assert index.info().path == str(tmp_path / "a" / "x")
        index.reopen()
    index.close()
    assert (tmp_path / "b" / "x-partitions").read_text() == "of b"
    assert names(tmp_path / "b") == ["x", "x-partitions"]
    assert names(tmp_path / "c") == []
    assert state(tmp_path / "a" / "x")[0] == 2


def test_a_folder_change_in_the_middle_of_long_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("x"), "old", 3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(edgeret.upkeep.reencode, "_BATCH", 1)
    Index.reencode("x", FakeEncoder(seed=2), progress=lambda done, total: os.chdir("/"))
    assert names(tmp_path) == ["elsewhere", "x"]


def test_a_link_that_leads_elsewhere_is_another_file(old, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(old)
    index = Index.open(link, FakeEncoder())
    index.add([Document("old9", "one more apple")])
    make(tmp_path / "other", "new", 2)
    link.unlink()
    link.symlink_to(tmp_path / "other")
    with pytest.raises(ReplacedError):
        index.search("apple")
    index.close()
    assert state(old) == (6, {"old"})
    assert state(tmp_path / "other") == (2, {"new"})


def test_one_process_opens_a_file_under_one_name(old, tmp_path):
    with Index.open(old, FakeEncoder()) as index:
        (tmp_path / "hard").hardlink_to(old)
        with pytest.raises(StorageError, match="is open in this process as"):
            Index.open(tmp_path / "hard", FakeEncoder())
        (tmp_path / "soft").symlink_to(old)
        with Index.open(tmp_path / "soft", FakeEncoder()) as other:
            other.add([Document("old9", "one more apple")])
        assert len(index) == 6
    assert state(tmp_path / "hard") == (6, {"old"})


def test_a_reader_who_looks_late_does_not_forget_what_a_writer_noted(old, tmp_path, monkeypatch):
    """Else the log would stay beside the file that is put in the place of this one."""
    with Index.open(old, FakeEncoder()) as index:
        index.add(["one more apple"])
        # With a connection that is open already, it looks once.
        assert len(index) == 6
        real, armed = place.status, [True]

        def late(path):
            found = real(path)
            if armed and path.name.endswith("-wal"):
                armed.clear()
                index.add(["another apple"])
            return found

        with monkeypatch.context() as patch:
            patch.setattr(place, "status", late)
            assert len(index) == 7
        make(tmp_path / "next", "new", 2).replace(old)
        with pytest.raises(ReplacedError):
            index.search("apple")
        index.reopen()
        assert len(index) == 2


def test_a_reader_whose_index_is_closed_as_it_looks_for_the_log_is_told_so(old, monkeypatch):
    index = Index.open(old, FakeEncoder())
    index.add(["one more apple"])
    real, armed = place.status, [True]

    def late(path):
        found = real(path)
        if armed and path.name.endswith("-wal"):
            armed.clear()
            thread = threading.Thread(target=index.close)
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr(place, "status", late)
    with pytest.raises(ClosedError):
        index.search("apple")
    assert names(old.parent) == ["live"]


def test_a_file_that_an_interrupt_closed_by_half_is_not_open(old, tmp_path, monkeypatch):
    """A new file may have its device and inode, as a hard link has here."""
    store = Store(old, readonly=True)
    with monkeypatch.context() as patch:
        patch.setattr(Place, "leave", lambda place: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.close()
        # What the frame of the constructor holds stays.
        with pytest.raises(KeyboardInterrupt) as kept:
            Store(old, readonly=True, wait=-1)
    (tmp_path / "hard").hardlink_to(old)
    old.unlink()
    assert state(tmp_path / "hard") == (5, {"old"})
    assert kept.tb
    assert store.path == old


def test_folders_pipes_and_long_names_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for path in (".", "..", "pipe", "/dev/zero"):
        with pytest.raises(NotAnIndexError, match=r"an index is one file|is empty"):
            Index.open(path, FakeEncoder(), readonly=True)
        with pytest.raises(EdgeretError):
            Index.create(path, FakeEncoder(), bits=64, exist_ok=True)
    for name in ("x" * 300, "x" * 250, "/".join(["x" * 100] * 60)):
        for use, arguments in ((Index.open, [FakeEncoder()]), (Index.create, [FakeEncoder(), 64])):
            with pytest.raises(EdgeretError):
                use(name, *arguments)
    deep = Path(*["y" * 100] * 6)
    deep.mkdir(parents=True)
    with pytest.raises(StorageError):
        Index.create(deep / "x", FakeEncoder(), bits=64)
    assert not any(files for _, _, files in os.walk(tmp_path) if files != ["pipe"])


@pytest.mark.parametrize("size", [1, 2, 100, 512])
def test_a_file_of_few_bytes_is_of_another_kind(tmp_path, size):
    path = tmp_path / "bytes"
    path.write_bytes(b"x" * size)
    with pytest.raises(NotAnIndexError, match="another kind of file: choose another path"):
        Index.open(path, FakeEncoder())
    assert path.read_bytes() == b"x" * size


def test_a_name_may_hold_what_a_uri_escapes(tmp_path):
    path = tmp_path / "caf\xe9 ?mode=rw&%00%#.edgeret"
    with Index.create(path, FakeEncoder(), bits=64) as index:
        index.add([Document("a0", "apple")])
        index.backup(f"{path}.copy")
    assert state(path) == state(Path(f"{path}.copy")) == (1, {"a"})
    assert edgeret.diff(path, f"{path}.copy", io.BytesIO()).added == 0


# -- who may see it


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_empty_file_gets_its_owners_mode_before_use(tmp_path, monkeypatch):
    path = tmp_path / "touched"
    path.touch()
    path.chmod(0o666)
    configure = storage.file._configure

    def seen(connection, *rest):
        assert mode(path) == 0o600
        configure(connection, *rest)

    monkeypatch.setattr(storage.file, "_configure", seen)
    with Index.create(path, FakeEncoder(), bits=64) as index:
        index.add(["secret"])
        assert {mode(file) for file in tmp_path.iterdir()} == {0o600}


def test_drafts_get_their_owners_mode(old, tmp_path):
    drafts = tmp_path / "live-reencode"
    drafts.touch()
    drafts.chmod(0o666)
    modes = []
    Index.reencode(old, FakeEncoder(seed=2), progress=lambda done, total: modes.append(mode(drafts)))
    assert set(modes) == {0o600}
    with Drafts(old, b"key"):
        drafts.chmod(0o644)
    with Drafts(old, b"key"):
        assert mode(drafts) == 0o600


def test_nothing_is_made_through_a_link(old, tmp_path):
    target = tmp_path / "target"
    for there in (True, False):
        target.unlink(missing_ok=True)
        if there:
            target.touch()
            target.chmod(0o644)
        for name in ("new", "live-reencode"):
            link = tmp_path / name
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        with pytest.raises(StorageError, match="found a symbolic link"):
            Index.create(tmp_path / "new", FakeEncoder(), bits=64, exist_ok=True)
        with pytest.raises(StorageError, match="found a symbolic link"):
            Index.reencode(old, FakeEncoder(seed=2))
        assert target.exists() == there
        assert not there or (mode(target), target.stat().st_size) == (0o644, 0)
    (tmp_path / "new").unlink()
    (tmp_path / "new").symlink_to(old)
    with Index.create(tmp_path / "new", FakeEncoder(), bits=64, exist_ok=True) as index:
        assert len(index) == 5


def test_the_file_of_another_user_is_not_taken(old, tmp_path):
    if os.getuid():
        pytest.skip("only root can give a file to another user")
    for name in ("new", "live-reencode"):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, 65534, 65534)
    with pytest.raises(StorageError, match="belongs to another user, 65534"):
        Index.create(tmp_path / "new", FakeEncoder(), bits=64)
    with pytest.raises(StorageError, match="belongs to another user, 65534"):
        Index.reencode(old, FakeEncoder(seed=2))
    assert (tmp_path / "new").stat().st_size == 0


# -- making one


@pytest.mark.parametrize("there", [False, True], ids=["nothing", "empty"])
def test_a_failed_create_leaves_no_file(tmp_path, monkeypatch, there):
    path = tmp_path / "x"

    def fail(*_, **settings):
        raise KeyboardInterrupt

    def create(**settings):
        return Index.create(path, settings.pop("model", FakeEncoder()), **{"bits": 64, **settings})

    if there:
        path.touch()
    left = ["x"] if there else []
    for settings in (
        {"wait": -1}, {"bits": 65}, {"bits": 10**30}, {"filters": ["a", "a"]}, {"memory_budget": "1MB"},
        {"model": "no-such-model"}, {"filters": [f"f{number}" for number in range(3000)]},
    ):  # fmt: skip
        with pytest.raises(EdgeretError):
            create(**settings)
        assert names(tmp_path) == left, settings
    for module, name in (
        (storage.file, "_configure"), (schema, "fill"), (schema, "statements"), (schema, "mark"),
        (storage.file, "connect"),
        (Index, "_take"),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(KeyboardInterrupt):
                create()
        assert not there or name in ("connect", "_take") or names(tmp_path) == left, name
        if not there:
            assert names(tmp_path) == [], name
    create(exist_ok=True).close()
    with pytest.raises(IndexExistsError):
        create()


def test_a_create_that_fails_late_takes_no_other_index_away(tmp_path, monkeypatch):
    path, taken = tmp_path / "x", Index._take

    def others(index):
        monkeypatch.setattr(Index, "_take", taken)
        with Index.open(path, FakeEncoder()) as other:
            other.add([Document("a0", "apple")])
        raise StorageError("the medium has gone")

    monkeypatch.setattr(Index, "_take", others)
    with pytest.raises(StorageError, match="has gone"):
        Index.create(path, FakeEncoder(), bits=64)
    assert state(path) == (1, {"a"})


CREATOR = """
import sys
from fake import FakeEncoder
from edgeret import Index
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    with Index.create(f"{sys.argv[1]}-{number}", FakeEncoder(), bits=64, exist_ok=True, wait=60) as index:
        index.add([sys.argv[3]])
"""


def test_several_that_create_at_once_all_have_it(tmp_path, trust):
    rounds, creators = (100 if FULL else 3), 4
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, tmp_path / "x", str(rounds), f"apple {number}"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(creators)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    # Of two that close at the same moment each may leave the log to the other: who comes next takes it.
    for number in range(rounds):
        assert state(tmp_path / f"x-{number}")[0] == creators
    assert names(tmp_path) == sorted(f"x-{number}" for number in range(rounds))
    trust(created=rounds, processes=creators)


# -- without permission to write


@pytest.fixture
def public() -> Iterator[Path]:
    """An index that every user may read, in a folder that they may not write."""
    # Not in the folders of pytest: they are closed to others.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = make(Path(folder, "x"), "old", 20)
        path.chmod(0o644)
        yield path


@pytest.mark.parametrize("work", ["closed", "open", "sealed"])
def test_a_reader_without_permission_sees_whole_new_commits(public, work, trust):
    if work == "sealed":
        with Index.open(public, FakeEncoder(), readonly=True) as index:
            index.seal(public.with_name("sealed"))
        public.with_name("sealed").replace(public)
        public.chmod(0o644)
    turns = 200 if FULL else 10
    to_reader, to_writer = Step(), Step()

    def read() -> None:
        to_writer.send()
        to_reader.receive()
        index = Index.open(public, FakeEncoder(), readonly=True)
        assert len(index) == 20
        with pytest.raises(ReadOnlyError):
            Index.open(public, FakeEncoder())
        for turn in range(1, turns + 1):
            to_writer.send()
            to_reader.receive()
            assert len(index) == 20, turn
            assert index.get(f"old{turn - 1}") is None
            assert {hit.id for hit in index.search("apple", k=30)} == {
                f"old{n}" for n in range(turn, turn + 20)
            }
            assert index.check().documents == 20
        index.close()
        to_writer.send()

    def write() -> None:
        def change(turn: int, index: Index) -> None:
            index.delete([f"old{turn - 1}"], erase=turn % 2 == 0 and work != "open")
            index.add([Document(f"old{turn + 19}", "one more apple")])

        # Not before the reader is a process: SQLite's locks that a thread has meanwhile would stay locked there.
        to_writer.receive()
        held = Index.open(public, FakeEncoder()) if work == "open" else None
        to_reader.send()
        for turn in range(1, turns + 1):
            to_writer.receive()
            if held is not None:
                change(turn, held)
            else:
                with Index.open(public, FakeEncoder()) as index:
                    change(turn, index)
            to_reader.send()
        to_writer.receive()
        if held is not None:
            held.close()

    writing = threading.Thread(target=write)
    writing.daemon = True
    writing.start()
    nobody.run(read)
    writing.join(60)
    assert not writing.is_alive()
    trust(commits=2 * turns)


class Step:
    """A pipe that says when it is the other's turn."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def send(self) -> None:
        os.write(self._writer, b"x")

    def receive(self) -> None:
        assert os.read(self._reader, 1) == b"x"


def test_a_change_in_the_middle_of_a_reading_without_locks_is_named(public, monkeypatch):
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    index = Index.open(public, FakeEncoder(), readonly=True)

    def change(*_: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", access)
            with Index.open(public, FakeEncoder()) as writer:
                writer.delete(["old0"], erase=True)

    with pytest.raises(LockedError, match="without permission to write"):
        index._connections.read(change)
    assert len(index) == 19
    assert index.get("old0") is None
    index.close()


# -- files that cannot be opened

EXHAUSTED = """
import resource, sys
from fake import FakeEncoder
from edgeret import Document, EdgeretError, Index
path, limit = sys.argv[1], int(sys.argv[2])
encoder = FakeEncoder()
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
opened, names = [], set()
for number in range(40):
    try:
        opened.append(Index.create(f"{path}-{number % 7}", encoder, bits=64, exist_ok=True))
        opened[-1].search("apple")
        opened[-1].add([Document(f"{number}", "an apple")])
    except EdgeretError as error:
        names.add(f"{type(error).__name__}: {'no more files' in str(error) or 'Too many open' in str(error)}")
for index in opened:
    index.close()
for number in range(7):
    try:
        with Index.open(f"{path}-{number}", encoder) as index:
            index.check()
    except EdgeretError as error:
        assert type(error).__name__ == "IndexMissingError", error
print(*names, sep=",")
"""


def test_a_limit_of_open_files_is_named(tmp_path):
    for limit in (13, 22, 31):
        done = subprocess.run(
            [sys.executable, "-c", EXHAUSTED, tmp_path / f"{limit}", str(limit)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == "StorageError: True\n"
