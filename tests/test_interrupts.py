"""Ctrl-C, handlers that raise, asynchronous exceptions: at any instruction of any call, and nothing is left behind."""

import ctypes
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from counts import tries
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document, Index

# An interrupt that comes where Python frees an object can only be printed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SIGNALS = tries(20, 2000)
"""Interrupted calls of each kind."""

KEPT = {f"kept{number}" for number in range(30)}
QUERY = np.ones(DIM)


class Interrupt(BaseException):
    """What a handler, or another thread, raises."""


def document(identity: str) -> Document:
    return Document(identity, f"red cat {identity}", {"year": len(identity)})


class Interrupter:
    """Sends a real signal after a random time; its handler raises, once for each call."""

    def __init__(self) -> None:
        self.armed = False
        self.sent = 0

    def __call__(self, *_: object) -> None:
        if self.armed:
            self.armed = False
            self.sent += 1
            raise Interrupt

    def run(self, call: Callable[[], object], delay: float) -> BaseException | None:
        """The exception that has ended `call`, if one has."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, delay)
            call()
            self.armed = False
        except Interrupt as error:
            return error
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return None


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    made = Interrupter()
    before = signal.signal(signal.SIGALRM, made)
    yield made
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[None, "200MB"], ids=["free", "budget"])
def busy(request, path, encoder) -> Iterator[Index]:
    with Index.create(path, encoder, 96, ["year"], request.param) as index:
        index.add(map(document, sorted(KEPT)))
        yield index


class Calls:
    """Every kind of call, and what must hold after it, whether it has ended or not."""

    def __init__(self, index: Index, folder: Path) -> None:
        self._index, self._folder = index, folder
        self._number = 0
        self._certain: set[str] = set()
        self._uncertain: set[str] = set()
        self.kinds: dict[str, Callable[[], object]] = {
            "get": lambda: index.get("kept5"),
            "len": lambda: len(index),
            "list": lambda: [list(index.ids({"year": 5})), list(index.documents(limit=5))],
            "count": lambda: [index.count({"other": 5}), index.facets("year"), "kept5" in index],
            "info": index.info,
            "dense": lambda: index.search("red cat"),
            "vector": lambda: index.search(QUERY, where={"year": 5}),
            "lexical": lambda: index.search("red cat", mode="lexical"),
            "hybrid": lambda: index.search("red cat", mode="hybrid"),
            "filter": lambda: index.search(
                "red cat", where={"year": {"$gte": 1}, "other": {"$exists": False}}
            ),
            "changed": self._search_what_changed,
            "add": self._add,
            "parts": self._add_in_parts,
            "replace": lambda: index.add([Document("kept1", f"red cat {self._next()}")]),
            "update": lambda: index.update_many((id, {"n": self._next()}) for id in index.ids(limit=5)),
            "delete": self._delete,
            "erase": lambda: self._delete(erase=True),
            "compact": index.compact,
            "check": index.check,
            "quick": lambda: index.check(quick=True),
            "backup": lambda: index.backup(folder / f"backup{self._next()}"),
            "seal": lambda: index.seal(folder / f"seal{self._next()}"),
        }

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _search_what_changed(self) -> None:
        self._index.add(["red bird"])
        self._index.search("bird")

    def _add(self) -> None:
        ids = {f"new{self._next()}" for _ in range(3)}
        self._uncertain |= ids
        self._index.add(map(document, sorted(ids)))
        self._certain |= ids

    def _add_in_parts(self) -> None:
        ids = [f"new{self._next()}" for _ in range(6)]
        self._uncertain |= set(ids)
        self._index.add(map(document, ids), commit_every=2)
        self._certain |= set(ids)

    def _delete(self, erase: bool = False) -> None:
        gone = sorted(self._certain)[:2]
        self._certain -= set(gone)
        self._uncertain |= set(gone)
        self._index.delete(gone, erase)

    def examine(self, thorough: bool) -> None:
        """The same index answers, others can write at once, nothing that was acknowledged is lost."""
        index = self._index
        assert index.get("kept5").text == "red cat kept5"
        with closing(sqlite3.connect(index._path, isolation_level=None, timeout=0)) as rival:
            rival.execute("BEGIN IMMEDIATE")
            rival.execute("ROLLBACK")
            # Nobody reads an old state either.
            assert rival.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        for turn in (index._memory_lock, index._changing, index._searcher._loading):
            assert turn._lock.acquire(blocking=False)
            turn._lock.release()
            assert not turn.mine
        if thorough:
            in_another_thread(self._thorough)

    def _thorough(self) -> None:
        index = self._index
        hits = index.search("red cat", k=2000, mode="lexical")
        assert hits == index.search("red cat", k=2000, mode="lexical")
        found = {hit.id for hit in hits} | {hit.id for hit in index.search(QUERY, k=2000)}
        assert found >= KEPT | self._certain
        assert {name for name in found if name.startswith("new")} <= self._certain | self._uncertain
        assert len(index) == len(found)
        index.check()
        index.delete(index.add(["a passing blue bird"]))
        index.delete([name for name in found if name not in KEPT])
        self._certain.clear()
        self._uncertain.clear()
        for path in self._folder.iterdir():
            if path.is_file() and path.stat().st_size:
                with Index.open(path, FakeEncoder(), readonly=True) as copy:
                    copy.check()
                path.unlink()


def in_another_thread(call: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive(), "another thread hangs"
    if failures:
        raise failures[0]


def seconds(call: Callable[[], object]) -> float:
    """How long it takes, usually."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return sorted(times)[1]


KINDS = [
    *(
        "get",
        "len",
        "info",
        "dense",
        "vector",
        "lexical",
        "hybrid",
        "filter",
        "changed",
        "add",
        "parts",
        "replace",
    ),
    *("delete", "erase", "compact", "check", "quick", "backup", "seal"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_at_any_moment_leaves_nothing_behind(busy, interrupter, tmp_path_factory, trust, kind):
    rng = random.Random(kind)
    calls = Calls(busy, tmp_path_factory.mktemp("copies"))
    usual = seconds(calls.kinds[kind])
    kept, ended = [], 0
    for number in range(SIGNALS):
        error = interrupter.run(calls.kinds[kind], 1e-6 + rng.random() * usual)
        ended += error is not None
        # As a debugger does, or an interactive Python: what the frames of an interrupted call hold stays.
        kept = [*kept[-3:], error]
        calls.examine(thorough=number % 20 == 19)
    calls.examine(thorough=True)
    assert ended > SIGNALS / 10
    trust(signals=interrupter.sent, calls=SIGNALS)


def test_a_traceback_that_is_kept_keeps_no_lock(path, encoder, monkeypatch):
    """In the middle of a filter, whose statement has more to give."""
    with Index.create(path, encoder, bits=96) as index:
        index.add(Document(str(number), "", {"one": 1}, QUERY) for number in range(5000))
        real, armed = np.bitwise_or.at, [True]

        class Interrupting:
            at = staticmethod(lambda *arguments: real(*arguments) if not armed else stop())

        def stop() -> None:
            armed.clear()
            raise Interrupt

        monkeypatch.setattr(np, "bitwise_or", Interrupting)
        with pytest.raises(Interrupt) as kept:
            index.search(QUERY, where={"one": 1})
        index.delete(["1"], erase=True)
        assert len(index.search(QUERY, where={"one": 1})) == 10
        assert kept.tb


def test_an_asynchronous_exception_at_any_moment_leaves_nothing_behind(busy, tmp_path_factory, trust):
    """As `PyThreadState_SetAsyncExc` raises it in any thread."""
    rng = random.Random(0)
    calls = Calls(busy, tmp_path_factory.mktemp("copies"))
    usual = {kind: seconds(call) for kind, call in calls.kinds.items()}
    kept: list[BaseException] = []

    def run(kind: str) -> None:
        try:
            with suppress(edgeret.EdgeretError):
                ready.set()
                calls.kinds[kind]()
        except Interrupt as error:
            kept.append(error)

    rounds = 4 * SIGNALS
    for number in range(rounds):
        kind = rng.choice(KINDS)
        ready = threading.Event()
        thread = threading.Thread(target=run, args=[kind])
        thread.start()
        ready.wait()
        time.sleep(rng.random() * usual[kind])
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Interrupt)
        )
        thread.join(60)
        assert not thread.is_alive()
        del kept[:-3]
        calls.examine(thorough=number % 20 == 19)
    trust(exceptions=rounds)


def test_a_signal_while_an_index_is_made_opened_or_closed_leaves_nothing_behind(
    path, encoder, interrupter, trust
):
    rng = random.Random(1)

    def work() -> None:
        with Index.create(path, encoder, bits=96, exist_ok=True) as index:
            opened.append(index)
            index.add(["red cat"])

    opened: list[Index] = []
    usual = seconds(work)
    kept = []
    for number in range(3 * SIGNALS):
        if number % 3 == 0:
            path.unlink(missing_ok=True)
        opened.clear()
        kept = [*kept[-3:], interrupter.run(work, 1e-6 + rng.random() * 1.2 * usual)]
        for index in opened:
            index.close()
            index.close()
        del opened[:]
        with Index.create(path, encoder, bits=96, exist_ok=True, wait=0) as index:
            index.add(["blue bird"])
            index.check()
            assert 1 <= len(index) <= 2
    trust(signals=interrupter.sent)
