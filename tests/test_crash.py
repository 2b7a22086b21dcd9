"""What survives when the power fails, the disk refuses or the process is killed: the old state or the new one."""

import errno
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from counts import CI, FULL, long, tries
from crash import medium, shim, workload

from edgeret import EdgeretError

TORN = 12 if FULL else 1
"""Images with a random choice of unsynced sectors for each crash point."""
SYNCED, WRITTEN = (1, 1) if FULL else (3, 17) if CI else (7, 41)
"""What was synced is looked at after one change in so many; all that was written, after fewer."""
STRIDE = 1 if FULL else 193 if CI else 389
"""One in so many changes is made to fail, or to be the last one of a process."""
KILLS = tries(50, 1000)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shim.build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in RAM where there is one: thousands of images need no real sync."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


# -- power failures


def put(image: medium.Image, folder: Path) -> Path:
    """Lay an image out as files."""
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in image.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / "test.edgeret"


def left(disk: medium.Medium, number: int) -> list[medium.Image]:
    """What may lie on the medium when the power fails after a change, by its number."""
    images = [disk.lost(), disk.revived(), disk.unborn()] if number % SYNCED == 0 else []
    if number % WRITTEN == 0:
        images += [disk.kept(), *(disk.torn(random.Random(number * 1000 + turn)) for turn in range(TORN))]
    return images


def look(step: str, path: Path) -> workload.Contents | None:
    """What an interrupted step has made: nothing, or all of it; a backup may also say that it is damaged."""
    try:
        return workload.look(path)
    except EdgeretError:
        if step != "backup":
            raise
        return None


def test_a_power_failure_leaves_the_old_or_the_new_state(memory, library, small_blocks, trust):
    expected = workload.expected(memory / "reference.edgeret", workload.STEPS)
    live, work, log = memory / "live", memory / "work", memory / "log"
    live.mkdir()
    work.mkdir()
    shim.child("crash.harness", "record", live, log, library=library)
    seen: set[tuple[int, ...]] = set()
    made_seen: dict[tuple[object, ...], workload.Contents | None] = {}
    disk = medium.Medium()
    numbers = {step.name: number for number, step in enumerate(workload.STEPS)}
    made = workload.made(expected)
    damaged = b""
    step, points, examined = 0, 0, 0
    for number, change in enumerate(medium.read_log(log)):
        allowed = expected[step] if step < len(expected) else expected[-1][-1:]
        if change.name == medium.MARKS:
            if change.kind == "w":
                step = int(change.data)
                if step == numbers["repair"]:
                    damaged = disk.lost()["damaged.edgeret"]
                allowed = expected[step][:1] if step < len(expected) else expected[-1][-1:]
        else:
            disk.apply(change)
            points += 1
        for image in left(disk, number):
            key = (step, len(allowed), *sorted(hash(part) for part in image.items()))
            if key in seen:
                continue
            seen.add(key)
            examined += 1
            path = put(image, work)
            where = f"crash after change {number} ({change.kind} {change.name}), in step {step}"
            for name, (file, contents) in made.items():
                parts = tuple(sorted(part for part in image.items() if part[0].startswith(str(file))))
                if (name, parts) not in made_seen:
                    made_seen[name, parts] = look(name, work / file)
                found = made_seen[name, parts]
                assert found in (None, contents), f"{where}: {name}"
                assert found is not None or step <= numbers[name], f"{where}: {name}"
            if step >= numbers["repair"]:
                assert image["damaged.edgeret"] == damaged, where
            assert workload.reopen(path) in allowed, where
    assert step == len(workload.STEPS)
    trust(points=points, images=examined)


# -- a disk that refuses


def test_a_failing_write_is_a_named_error_and_leaves_the_index_as_it_was(memory, library, trust):
    work = memory / "work"
    (counts,) = shim.child("crash.harness", "fail", memory, STRIDE, library=library, temporary=work)
    counted = json.loads(counts)
    assert counted["refused"] > counted["points"] / 3
    trust(**counted)


@pytest.mark.parametrize(
    "code", [errno.EROFS, pytest.param(errno.EACCES, marks=long)], ids=["EROFS", "EACCES"]
)
def test_a_readonly_medium_is_searched_and_refuses_changes_by_name(memory, library, code):
    shim.child("crash.harness", "refuse", memory, code, library=library)


# -- a process that ends


def test_a_process_that_dies_at_any_change_leaves_the_old_or_the_new_state(memory, library, trust):
    (counts,) = shim.child("crash.harness", "die", memory, STRIDE, library=library)
    trust(**json.loads(counts))


def test_kill_9_loses_no_acknowledged_commit_and_leaves_no_lock(memory, trust):
    (counts,) = shim.child("crash.victim", memory, KILLS)
    trust(**json.loads(counts))
