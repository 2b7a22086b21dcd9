"""Processes that keep an index company: python -m crash.company read|hold|fork ..."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from crash import workload
from fake import DIM, FakeEncoder

from edgeret import Document, Index
from edgeret.errors import EdgeretError, ForkedError, LockedError, SpaceMismatchError

EVERY = np.ones(DIM)
"""A query that all documents answer when as many are asked for."""


def pair(number: int) -> list[Document]:
    """Two documents that are added, and deleted, in one commit only."""
    return [Document(f"{side}{number}", f"red cat number{number} side{side}") for side in "ab"]


def pairs(ids: list[str]) -> set[int]:
    """The numbers of the pairs among ids; raises AssertionError for half a pair."""
    left, right = ({int(identity[1:]) for identity in ids if identity[0] == side} for side in "ab")
    assert left == right, f"half of a commit: {sorted(left ^ right)}"
    assert len(ids) == 2 * len(left)
    return left


class Reader:
    """Searches in threads until told to stop; every answer must be one commit's, and none older than the last."""

    def __init__(self, path: Path, threads: int) -> None:
        self._path = path
        self.searches = 0
        self.commits: set[int] = set()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self._index = Index.open(path, FakeEncoder(), readonly=True)

    def read(self, until: Callable[[], object]) -> None:
        """Search until `until` returns; raises what any thread has met."""
        for thread in self._threads:
            thread.start()
        until()
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._index.close()
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        seen: set[int] = set()
        try:
            while not self._stop.is_set():
                seen = self._look(self._index, seen)
                if self.searches % 20 == 0:
                    with Index.open(self._path, FakeEncoder(), readonly=True) as fresh:
                        seen = self._look(fresh, seen)
        except (EdgeretError, AssertionError, OSError, ValueError) as failure:
            self._failures.append(failure)
            self._stop.set()

    def _look(self, index: Index, before: set[int]) -> set[int]:
        for mode in ("dense", "lexical", "hybrid"):
            query = EVERY if mode == "dense" else "cat"
            now = pairs([hit.id for hit in index.search(query, k=1000, mode=mode)])
            # Pairs come and go in the order of their numbers.
            assert not now or sorted(now) == list(range(min(now), max(now) + 1)), "a commit is missing"
            assert max(now, default=0) >= max(before, default=0), "an older commit came back"
            before = now
        assert len(index) % 2 == 0
        self.searches += 3
        self.commits |= before
        return before


def read(path: Path, threads: int) -> None:
    """Search until a line comes in; say what was seen."""
    reader = Reader(path, threads)
    print("open", flush=True)
    reader.read(sys.stdin.readline)
    print(json.dumps({"searches": reader.searches, "commits": len(reader.commits)}))


def change(path: Path) -> None:
    """Change the index in every way, once at least and until a line comes in; say how often each was done."""
    ended, done, number = threading.Event(), Counter[str](), 0
    print("open", flush=True)
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set())).start()
    while not ended.is_set() or "recode" not in done:
        number += 1
        try:
            with Index.open(path, FakeEncoder(), wait=10) as index:
                for turn in range(6):
                    index.add([*pair(number * 10 + turn), *workload.documents(number % 50, 9, str(number))])
                    index.delete([f"a{number * 10 + turn - 5}", f"b{number * 10 + turn - 5}"])
                    index.update_many((id, {"turn": turn}) for id in index.ids(limit=50))
                    done.update(add=1, delete=1, update=1)
                for call in ("erase", "compact"):
                    with suppress(LockedError):  # A reader may keep the log from being cut.
                        index.compact() if call == "compact" else index.delete(
                            [f"d{number % 50}"], erase=True
                        )
                        done[call] += 1
            Index.recode(path, FakeEncoder(), bits=(64, 96)[number % 2], wait=10)
            done["recode"] += 1
        except SpaceMismatchError:
            continue
    print(json.dumps(done))


def hold(path: Path) -> None:
    """Be in the middle of a change until killed."""
    index = Index.open(path, FakeEncoder())
    with index._store.writing():
        index._store.connection.execute("DELETE FROM passages")
        print("held", flush=True)
        time.sleep(600)


def fork(path: Path) -> None:
    """Fork while another thread is in the middle of a change: the child is refused, its end disturbs nothing."""
    index = Index.open(path, FakeEncoder())
    index.add(pair(1))
    begun, forked = threading.Event(), threading.Event()

    def change() -> None:
        with index._staging.changing() as change:
            for identity in ("a0", "b0", "a1"):
                change.remove(identity)
            begun.set()
            forked.wait()
            change.remove("b1")

    thread = threading.Thread(target=change)
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        refused = _count_refused(index, path)
        index.close()
        del index
        gc.collect()
        sys.exit(refused)
    _, status = os.waitpid(child, 0)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 9, "not every call was refused in the child"
    index.add(pair(2))
    assert set(workload.examine(index)) == {"a2", "b2"}
    with Index.open(path, FakeEncoder(), readonly=True) as other:
        assert len(other) == 2
    index.close()
    with Index.open(path, FakeEncoder()) as index:
        assert set(workload.examine(index)) == {"a2", "b2"}


def _count_refused(index: Index, path: Path) -> int:
    refused = 0
    for call in (
        lambda: index.search("cat"),
        lambda: index.get("a1"),
        lambda: index.add(["x"]),
        lambda: index.delete(["a1"]),
        index.compact,
        lambda: index.backup(path.with_name("copy.edgeret")),
        index.check,
        index.info,
        lambda: len(index),
    ):
        try:
            call()
        except ForkedError:
            refused += 1
    return refused


if __name__ == "__main__":
    verb, name, *numbers = sys.argv[1:]
    {"read": read, "change": change, "hold": hold, "fork": fork}[verb](Path(name), *map(int, numbers))
