"""Many readers and one writer: in threads, in processes, after a kill, after a fork, from a read-only medium."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nobody
import numpy as np
import pytest
from counts import CI, FULL
from crash import shim, workload
from crash.company import EVERY, Reader, pair, pairs
from fake import DIM, FakeEncoder

from edgeret import Document, Index
from edgeret.errors import LockedError, NeedsRecoveryError, ReadOnlyError, SpaceMismatchError
from edgeret.storage.vocabulary import Vocabulary

SECONDS = 60 if FULL else 3 if CI else 1
READERS = 4 if FULL else 2
THREADS = 2
KEPT = 40
"""Pairs that are in the index at the same time."""


@pytest.fixture
def shared(path: Path, encoder: FakeEncoder) -> Path:
    """A closed index with the first pair."""
    with Index.create(path, encoder, bits=64) as index:
        index.add(pair(0))
    return path


@contextmanager
def companion(verb: str, path: Path, *numbers: int) -> Iterator["subprocess.Popen[str]"]:
    """A process of `crash.company` that has said that it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "crash.company", verb, str(path), *map(str, numbers)],
        env=shim.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready, process.stderr and process.stderr.read()
            yield process
        finally:
            process.kill()


def write(path: Path, seconds: float) -> dict[str, int]:
    """Add pairs and delete old ones; now and then compact, and open the index again."""
    until = time.monotonic() + seconds
    index = Index.open(path, FakeEncoder())
    number, busy = 0, 0
    while time.monotonic() < until:
        number += 1
        index.add(pair(number))
        if number >= KEPT:
            index.delete([document.id for document in pair(number - KEPT)])
        if number % 10 == 0:
            try:
                index.compact()
            except LockedError:
                busy += 1
        if number % 15 == 0:
            index.close()
            index = Index.open(path, FakeEncoder())
    index.check()
    index.close()
    return {"commits": number, "compactions_kept_from_the_log": busy}


def test_readers_in_processes_see_whole_commits_in_order_while_one_writes(shared, trust):
    with ExitStack() as stack:
        readers = [stack.enter_context(companion("read", shared, THREADS)) for _ in range(READERS)]
        counts = write(shared, SECONDS)
        searches = 0
        for reader in readers:
            answer, trouble = reader.communicate("stop\n")
            assert reader.returncode == 0, trouble
            seen = json.loads(answer)
            assert seen["commits"] > 1
            searches += seen["searches"]
    assert list(shared.parent.iterdir()) == [shared]
    trust(**counts, searches=searches, readers=READERS, threads=THREADS, seconds_of_company=SECONDS)


def test_readers_in_threads_see_whole_commits_in_order_while_one_writes(shared, trust):
    reader = Reader(shared, THREADS)
    counts: dict[str, int] = {}
    reader.read(lambda: counts.update(write(shared, SECONDS / 4)))
    assert len(reader.commits) > 1
    trust(**counts, searches=reader.searches, threads=THREADS, seconds_of_company=SECONDS / 4)


def test_readers_answer_rightly_or_are_told_while_codes_change(path, trust):
    vectors = np.random.default_rng(0).normal(size=(300, DIM))
    encoders = [FakeEncoder(), FakeEncoder(codec=1)]
    with Index.create(path, encoders[0], bits=96) as index:
        index.add(Document(str(number), "", {}, vector) for number, vector in enumerate(vectors))
    done = threading.Event()

    def read(seed: int) -> tuple[int, int]:
        rng, answers, told = np.random.default_rng(seed), 0, 0
        while not done.is_set():
            try:
                with Index.open(path, encoders[told % 2], readonly=True) as index:
                    while not done.is_set():
                        number = int(rng.integers(300))
                        # Planes of one codec find nothing of use among codes of the other.
                        assert [hit.id for hit in index.search(vectors[number], k=1)] == [str(number)]
                        answers += 1
            except SpaceMismatchError:
                told += 1
        return answers, told

    recodes, end = 0, time.monotonic() + max(SECONDS / 8, 1)
    with ThreadPoolExecutor(THREADS) as pool:
        readers = [pool.submit(read, seed) for seed in range(THREADS)]
        try:
            while time.monotonic() < end or recodes < 4:
                recodes += 1
                Index.recode(path, encoders[recodes % 2], bits=(96, 64)[recodes % 2], wait=10)
        finally:
            done.set()
        answers, told = np.sum([reader.result() for reader in readers], axis=0).tolist()
    assert min(answers, told) > 0
    trust(recodes=recodes, searches=answers, told=told, threads=THREADS)


@pytest.mark.parametrize("readonly", [False, True])
def test_check_beside_writers_of_every_kind_calls_no_sound_file_damaged(shared, trust, readonly):
    checks, told, end = 0, 0, time.monotonic() + SECONDS / 2
    with companion("change", shared) as writer:
        while time.monotonic() < end or not checks:
            try:
                with Index.open(shared, FakeEncoder(), readonly=readonly) as index:
                    while time.monotonic() < end or not checks:
                        assert index.check().lexicon == "verified"
                        checks += 1
            except SpaceMismatchError:
                told += 1
        answer, trouble = writer.communicate("stop\n")
        assert writer.returncode == 0, trouble
    done = json.loads(answer)
    assert {"add", "delete", "recode"} <= done.keys()
    with Index.open(shared, FakeEncoder()) as index:
        index.compact()
        index.check()
    trust(checks=checks, told=told, **done)


def test_check_takes_no_lock_from_a_writer(shared, encoder, monkeypatch):
    real = Vocabulary.verify

    def meanwhile(lexicon):
        with Index.open(shared, FakeEncoder()) as other:
            other.add(["added meanwhile"])
        real(lexicon)

    for readonly in (False, True):
        with Index.open(shared, encoder, readonly=readonly) as index, monkeypatch.context() as patch:
            patch.setattr(Vocabulary, "verify", meanwhile)
            before = len(index)
            assert index.check().documents == before
            if not readonly:
                index.add([f"written after {before}"])


def test_a_backup_of_a_live_file_is_one_commit_of_it(shared, trust):
    backups = []

    def copy() -> None:
        with Index.open(shared, FakeEncoder(), readonly=True) as index:
            while not done.is_set():
                backups.append(shared.with_name(f"copy-{len(backups)}.edgeret"))
                index.backup(backups[-1])

    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy)
        write(shared, SECONDS / 8)
        done.set()
        copying.result()
    assert backups
    for path in backups:
        with Index.open(path, FakeEncoder(), readonly=True) as index:
            numbers = pairs(list(workload.examine(index)))
        assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1))
    trust(backups=len(backups))


def test_a_second_writer_is_refused_at_once_and_a_killed_one_leaves_no_lock(shared):
    with Index.open(shared, FakeEncoder(), wait=0) as index:
        for _ in range(3):
            with companion("hold", shared) as holder:
                start = time.monotonic()
                for change in (lambda: index.add(["x"]), lambda: index.delete(["a0"]), index.compact):
                    with pytest.raises(LockedError):
                        change()
                assert time.monotonic() - start < 1
                assert len(index.search(EVERY)) == 2
                with Index.open(shared, FakeEncoder()) as other:
                    assert len(other) == 2
                holder.send_signal(signal.SIGKILL)
                holder.wait()
                index.add(["x"])
                index.delete(index.add(["y"]))
                index.delete([hit.id for hit in index.search("x", mode="lexical")])
        assert set(workload.examine(index)) == {"a0", "b0"}


def test_a_fork_in_the_middle_of_a_change_disturbs_nothing(shared):
    shim.child("crash.company", "fork", shared)


# -- media that cannot be written


@pytest.fixture
def medium() -> Iterator[Path]:
    """A folder that `lock` makes read-only. Not in the folders of pytest, which are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "medium")
        Path(folder).chmod(0o755)
        made.mkdir()
        yield made
        made.chmod(0o700)


def lock(folder: Path) -> None:
    nobody.give(folder)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o500 if path.is_dir() else 0o400)


def test_a_file_on_a_readonly_medium_opens_and_searches(shared, medium):
    copied = Path(shutil.copy(shared, medium))
    lock(medium)

    def work() -> None:
        assert not os.access(medium, os.W_OK)
        with Index.open(copied, FakeEncoder(), readonly=True) as index:
            assert set(workload.examine(index)) == {"a0", "b0"}
        with pytest.raises(ReadOnlyError, match="readonly=True"):
            Index.open(copied, FakeEncoder())
        assert list(medium.iterdir()) == [copied]

    nobody.run(work)


def test_an_unmerged_log_on_a_readonly_medium_is_said(shared, medium):
    with Index.open(shared, FakeEncoder()) as index:
        index.add(pair(1))
        for name in (shared.name, f"{shared.name}-wal"):
            shutil.copy(shared.parent / name, medium)
    lock(medium)

    def work() -> None:
        with pytest.raises(NeedsRecoveryError, match="edgeret backup"):
            Index.open(medium / shared.name, FakeEncoder(), readonly=True)

    nobody.run(work)
