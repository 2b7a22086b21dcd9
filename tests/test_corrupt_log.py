"""A damaged write-ahead log: up to the damage it holds commits, each whole; what came after is as if never made."""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from counts import FULL
from crash import workload
from fake import FakeEncoder

from edgeret import EdgeretError, Index, ReplacedError
from edgeret.errors import CorruptIndexError
from edgeret.storage import log

FILES = 7_000 if FULL else 70
HEADER, FRAME = 32, 24 + 4096
"""Bytes of the log's header, and of a frame: a header of its own and a page."""


class Left(NamedTuple):
    """What a power failure leaves of an open index: the file, its log, and what it held after each commit."""

    file: bytes
    log: bytes
    states: list[workload.Contents]


def leave(path: Path, version: str) -> Left:
    with Index.create(path, FakeEncoder(), workload.BITS, filters=["year"]) as index:
        index.add(workload.documents(0, 60, version))
    with Index.open(path, FakeEncoder()) as index:
        states = [workload.contents(index)]
        for change in (
            lambda: index.add(workload.documents(60, 12, version)),
            lambda: index.delete([f"d{number}" for number in range(20, 40)]),
            lambda: index.add(workload.documents(0, 9, f"{version} new")),
            lambda: index.add(workload.documents(100, 5, version)),
        ):
            change()
            states.append(workload.contents(index))
        return Left(path.read_bytes(), log_of(path).read_bytes(), states)


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    with pytest.MonkeyPatch.context() as patch:
        for change in workload.shrink_blocks():
            patch.setattr(*change)
        return leave(tmp_path_factory.mktemp("left") / "x.edgeret", "first")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)


def put(folder: Path, file: bytes, log: bytes) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / "x.edgeret"
    path.write_bytes(file)
    log_of(path).write_bytes(log)
    return path


def damage(log: bytes, number: int) -> bytes:
    """Cut, zeroed, flipped, with frames that changed places or came twice."""
    rng = np.random.default_rng(number)
    at = int(rng.integers(0, len(log)))
    one, other = (HEADER + FRAME * int(frame) for frame in rng.integers(0, (len(log) - HEADER) // FRAME, 2))
    image = bytearray(log)
    match number % 7:
        case 0:
            del image[at:]
        case 1:
            image[at : at + 512] = bytes(len(image[at : at + 512]))
        case 2:
            image[at] ^= 1 << int(rng.integers(8))
        case 3:
            image[int(rng.integers(HEADER))] ^= int(rng.integers(1, 256))
        case 4:
            image[one + int(rng.integers(24))] ^= int(rng.integers(1, 256))
        case 5:
            image[one : one + FRAME] = log[other : other + FRAME]
        case _:
            image += log[one : one + FRAME] + rng.bytes(FRAME)
    return bytes(image)


def test_a_damaged_log_leaves_a_whole_commit(tmp_path, left, trust):
    assert len({str(state) for state in left.states}) == 5
    found: list[int] = []
    for number in range(FILES):
        path = put(tmp_path / "work", left.file, damage(left.log, number))
        state = workload.reopen(path)
        assert state in left.states, f"log {number} gives what no commit was"
        found.append(left.states.index(state))
    trust(damaged_logs=FILES, nothing_lost=found.count(4), all_lost=found.count(0))
    # The damage is real, and hits everywhere.
    assert set(found) == set(range(5))


@pytest.mark.parametrize("readonly", [False, True])
def test_a_shared_memory_that_lies_is_made_anew(tmp_path, left, readonly):
    path = put(tmp_path / "work", left.file, left.log)
    for content in (b"", bytes(32768), b"\xff" * 32768, np.random.default_rng(0).bytes(32768)):
        path.with_name(f"{path.name}-shm").write_bytes(content)
        with Index.open(path, FakeEncoder(), readonly=readonly) as index:
            assert workload.examine(index) == left.states[-1]
        path = put(tmp_path / "work", left.file, left.log)


def test_the_log_of_another_index_is_refused_and_neither_is_changed(tmp_path, left):
    stranger = leave(tmp_path / "stranger.edgeret", "strange")
    path = put(tmp_path / "work", left.file, stranger.log)
    for readonly in (False, True):
        with pytest.raises(ReplacedError, match="of another file which lay there before: close"):
            Index.open(path, FakeEncoder(), readonly=readonly)
    assert (path.read_bytes(), log_of(path).read_bytes()) == (left.file, stranger.log)
    log_of(path).unlink()
    with Index.open(path, FakeEncoder()) as index:
        assert workload.examine(index) == left.states[0]


def test_the_log_of_another_index_invents_nothing(tmp_path, left, monkeypatch):
    """SQLite merges whatever log lies beside a file that older releases made: half of a copy, half of another one."""
    monkeypatch.setattr(log, "check", lambda place: None)
    stranger = leave(tmp_path / "stranger.edgeret", "strange")
    written = {
        identity: {state[identity][:2] for state in left.states + stranger.states if identity in state}
        for identity in set().union(*left.states, *stranger.states)
    }
    path = put(tmp_path / "work", left.file, stranger.log)
    with Index.open(path, FakeEncoder()) as index:
        for query in ("cat", "number7"):
            for mode in ("dense", "lexical", "hybrid"):
                try:
                    hits = index.search(query, k=200, mode=mode)
                except EdgeretError:
                    continue
                for hit in hits:
                    assert any(hit.text in text for text, _ in written[hit.id])
        with pytest.raises(CorruptIndexError):
            index.check()
