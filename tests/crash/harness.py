"""What runs under the shim, in a process of its own: python -m crash.harness record|fail|die ..."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from crash import workload
from crash.medium import MARKS
from crash.shim import Shim
from crash.workload import STEPS, WITH_LARGE, Contents, backup_of, damaged_of, examine, look, reopen
from fake import FakeEncoder

from edgeret import Document, EdgeretError, Index
from edgeret.errors import NeedsRecoveryError, ReadOnlyError, StorageError

DISTURBANCES = ((errno.EIO, False), (errno.EIO, True), (errno.ENOSPC, True))
LARGE, LARGE_STRIDE = 500, 20
"""Of a step with more changes than `LARGE`, one in `LARGE_STRIDE` is disturbed."""
LATER = Document("later", "a blue cat that came later")


class Scene:
    """The files as they are before each step of the workload, and what they hold before and after it."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.path = self.work / "test.edgeret"
        self._folder = folder
        reference = folder / "reference"
        reference.mkdir()
        self.expected = workload.expected(reference / "test.edgeret", WITH_LARGE)
        self.made = workload.made(self.expected)
        self.work.mkdir()
        workload.run(
            self.path, WITH_LARGE, lambda number: shutil.copytree(self.work, folder / f"base-{number}")
        )
        self.shim = Shim(self.work)
        self.changes = [self._count(number) for number in range(len(WITH_LARGE))]

    def begin(self, number: int) -> Index | None:
        """Lay out the files before a step; returns the index if the step needs it open."""
        shutil.rmtree(self.work)
        shutil.copytree(self._folder / f"base-{number}", self.work)
        if WITH_LARGE[number].name in ("create", "recode", "reencode", "old", "upgrade", "open"):
            return None
        index = Index.open(self.path, FakeEncoder())
        workload.spill(self.path, index)
        return index

    def check_made(self, step: str, where: str, done: bool) -> None:
        """The file that a step writes is whole if that is done, else whole or none; what it repairs is as before."""
        name, contents = self.made[step]
        # Of an interrupted backup less may be left, and says so when it is opened.
        if done or step != "backup":
            assert look(self.work / name) in ((contents,) if done else (contents, None)), where
        if step == "repair":
            source = self._folder / f"base-{len(WITH_LARGE)}" / damaged_of(self.path).name
            assert damaged_of(self.path).read_bytes() == source.read_bytes(), where

    def _count(self, number: int) -> int:
        index = self.begin(number)
        self.shim.fail(0)
        index = WITH_LARGE[number].act(self.path, index)
        changes = self.shim.count
        if index is not None:
            index.close()
        return changes

    def points(self, stride: int) -> list[tuple[int, int]]:
        """(step, change within it), each `stride`-th of them all."""
        every = [
            (number, at)
            for number, changes in enumerate(self.changes)
            if WITH_LARGE[number].name not in ("damage", "old")
            for at in range(1, changes + 1, LARGE_STRIDE if changes > LARGE else 1)
        ]
        return every[::stride]


def record(folder: Path, log: Path) -> None:
    """Run the workload once and log every change."""
    Shim(folder, log)
    marks = os.open(folder / MARKS, os.O_WRONLY | os.O_CREAT)
    workload.run(folder / "test.edgeret", STEPS, lambda number: os.write(marks, str(number).encode()))


def fail(folder: Path, stride: int) -> None:
    """Let changes fail, once or from then on, each `stride`-th of them."""
    scene = Scene(folder)
    counts: Counter[str] = Counter()
    for number, at in scene.points(stride):
        for code, lasting in DISTURBANCES:
            counts[_disturb(scene, number, at, code, lasting)] += 1
            counts["points"] += 1
    print(json.dumps(counts))


def _disturb(scene: Scene, number: int, at: int, code: int, lasting: bool) -> str:
    step, states = WITH_LARGE[number], scene.expected[number]
    where = f"{step.name} (step {number}), change {at}: {os.strerror(code)}{', lasting' if lasting else ''}"
    index = scene.begin(number)
    scene.shim.fail(at, code, lasting)
    outcome = "done"
    try:
        index = step.act(scene.path, index)
    except StorageError:
        outcome = "refused"
    except (EdgeretError, sqlite3.Error, OSError) as error:
        raise AssertionError(f"{where}: expected StorageError") from error
    if lasting and index is not None:
        index.close()
    scene.shim.fail(0)
    allowed = states[-1:] if outcome == "done" else states
    # `create` and `erase` go on after their commit. Where the sync of a commit fails, and so does every attempt to
    # overwrite what was not synced, the next recovery may find the commit whole.
    if outcome == "refused" and not lasting and len(step.parts) == 1 and step.name not in ("create", "erase"):
        allowed = states[:1]
    if index is not None and not lasting and step.name != "close":
        allowed = [_carry_on(index, allowed, where)]
    found = reopen(scene.path)
    assert found in allowed, f"{where}: {outcome}, and neither the old state nor the new one"
    if step.name in scene.made:
        scene.check_made(step.name, where, outcome == "done")
        if outcome == "refused" and not lasting:
            assert not (scene.work / scene.made[step.name][0]).exists(), where
    return outcome


def _carry_on(index: Index, allowed: list[Contents | None], where: str) -> Contents:
    """Go on with an index that met an error: nothing of the refused call may come up later."""
    found = examine(index)
    assert found in allowed, f"{where}: neither the old state nor the new one, before closing"
    index.add([LATER])
    assert set(examine(index)) == {*found, "later"}, f"{where}: a refused change came up later"
    index.delete(["later"])
    assert examine(index) == found, where
    index.close()
    return found


def die(folder: Path, stride: int) -> None:
    """End a process instead of a change, each `stride`-th of them."""
    scene = Scene(folder)
    points = scene.points(stride)
    for number, at in points:
        child = os.fork()
        if child == 0:
            index = scene.begin(number)
            scene.shim.die(at)
            WITH_LARGE[number].act(scene.path, index)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        where = f"{WITH_LARGE[number].name} (step {number}), change {at}: death"
        assert os.waitstatus_to_exitcode(status) == 70, where
        assert reopen(scene.path) in scene.expected[number], where
        if WITH_LARGE[number].name in scene.made:
            scene.check_made(WITH_LARGE[number].name, where, done=False)
    print(json.dumps({"points": len(points)}))


def refuse(folder: Path, code: int) -> None:
    """Let the medium be read-only from the beginning, and let it become so."""
    scene = Scene(folder)
    names = [step.name for step in WITH_LARGE]
    merged, unmerged = names.index("open"), names.index("late")
    scene.begin(merged)
    before = sorted(scene.work.iterdir())
    scene.shim.read_only(code)
    with Index.open(scene.path, FakeEncoder(), readonly=True) as index:
        assert examine(index) == scene.expected[merged][0]
        _expect(StorageError, lambda: index.backup(backup_of(scene.path)))
        _expect(ReadOnlyError, lambda: index.add([LATER]))
    _expect(ReadOnlyError, lambda: Index.open(scene.path, FakeEncoder()))
    _expect(StorageError, lambda: Index.create(scene.work / "new.edgeret", FakeEncoder(), workload.BITS))
    assert sorted(scene.work.iterdir()) == before
    scene.shim.read_only(0)

    opened = scene.begin(unmerged)
    assert opened is not None
    opened.add([LATER])
    now = examine(opened)
    scene.shim.read_only(code)
    for call in (lambda: opened.add([LATER, "more"]), lambda: opened.delete(["later"]), opened.compact):
        _expect((ReadOnlyError, StorageError), call)
        assert {hit.id for hit in opened.search("cat", k=len(now), mode="lexical")} >= {"later"}
        assert len(opened) == len(now)
    scene.shim.read_only(0)
    assert examine(opened) == now
    left = folder / "left"
    shutil.copytree(scene.work, left)
    opened.close()

    # The process was killed and the card is read where it cannot be written.
    for with_shared_memory in (True, False):
        shutil.rmtree(scene.work)
        shutil.copytree(left, scene.work)
        if not with_shared_memory:
            scene.path.with_name("test.edgeret-shm").unlink()
        scene.shim.read_only(code)
        if with_shared_memory:
            with Index.open(scene.path, FakeEncoder(), readonly=True) as index:
                assert examine(index) == now
        else:
            _expect(NeedsRecoveryError, lambda: Index.open(scene.path, FakeEncoder(), readonly=True))
        _expect(ReadOnlyError, lambda: Index.open(scene.path, FakeEncoder()))
        scene.shim.read_only(0)
    assert reopen(scene.path) == now


def _expect(kind: type[EdgeretError] | tuple[type[EdgeretError], ...], call: Callable[[], object]) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"expected {kind}")


if __name__ == "__main__":
    for change in workload.shrink_blocks():
        setattr(*change)
    verb, *arguments = sys.argv[1:]
    if verb == "record":
        record(*map(Path, arguments))
    else:
        {"fail": fail, "die": die, "refuse": refuse}[verb](Path(arguments[0]), int(arguments[1]))
