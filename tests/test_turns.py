"""Whose turn it is: calls within calls of one thread, and writers that wait for each other."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash import shim
from fake import FakeEncoder

from edgeret import Document, EdgeretError, Index
from edgeret.errors import ClosedError, InvalidQueryError, LockedError, ReentrantError
from edgeret.storage.store import Store

CHANGES: dict[str, Callable[[Index], object]] = {
    "add": lambda index: index.add(["x"]),
    "delete": lambda index: index.delete(["a"]),
    "erase": lambda index: index.delete(["a"], erase=True),
    "update": lambda index: index.update("a", {"year": 1}),
    "delete where": lambda index: index.delete(where={"year": 1}),
    "compact": lambda index: index.compact(),
    "check": lambda index: index.check(),
}
READS: dict[str, Callable[[Index], object]] = {
    "search": lambda index: [hit.id for hit in index.search("apple", k=1)],
    "words": lambda index: [hit.id for hit in index.search("apple", mode="lexical")],
    "get": lambda index: index.get("a"),
    "len": len,
    "ids": lambda index: list(index.ids()),
    "documents": lambda index: list(index.documents()),
    "count": lambda index: index.count({"year": {"$exists": False}}),
    "facets": lambda index: index.facets("year"),
    "vectors": lambda index: index.vectors("a").tolist(),
    "in": lambda index: "a" in index,
    "info": lambda index: index.info(),
}


def documents(*ids: str) -> list[Document]:
    return [Document(identity, f"apple number {identity}") for identity in ids]


@pytest.fixture(params=[None, "200MB"], ids=["free", "budget"])
def small(request, path, encoder) -> Iterator[Index]:
    """An index of one document, without a budget and with one."""
    with Index.create(path, encoder, bits=64, memory_budget=request.param) as index:
        index.add(documents("a"))
        yield index


def holding(call: Callable[[], object]) -> Callable[[], object]:
    """What `call` would do in another thread, which it must end."""

    def run() -> object:
        outcome: list[object] = []

        def target() -> None:
            try:
                outcome.append(call())
            except EdgeretError as error:
                outcome.append(error)

        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        thread.join(30)
        assert outcome, "it hangs"
        return outcome[0]

    return run


# -- calls within calls


@pytest.mark.parametrize("inner", [*CHANGES, *READS, "close"])
@pytest.mark.parametrize("outer", ["add", "delete"])
def test_a_generator_that_calls_its_index_is_answered_or_refused(small, outer, inner):
    expected = READS[inner](small) if inner in READS else None
    seen = []

    def given() -> Iterator[str]:
        yield "b"
        if inner == "close":
            small.close()
        else:
            seen.append((CHANGES | READS)[inner](small))
        yield "c"

    found = holding(lambda: getattr(small, outer)(given()))()
    if inner in CHANGES:
        assert isinstance(found, ReentrantError)
    elif inner == "close":
        assert isinstance(found, ClosedError)
        assert holding(lambda: len(small))().__class__ is ClosedError
    else:
        assert not isinstance(found, Exception)
        assert seen == [expected]
    with Index.open(small._path, FakeEncoder(), wait=0) as again:
        assert len(again) == (3 if outer == "add" and inner in READS else 1)
        again.add(documents("z"))
        again.check()


def test_other_threads_go_on_after_a_call_within_a_call(small):
    with pytest.raises(ReentrantError, match="within"):
        small.add(str(small.delete(["a"])) for _ in range(2))
    assert holding(lambda: small.add(documents("b")))() == ["b"]
    assert holding(lambda: small.delete(["a"]))() == 1


def test_an_encoder_that_searches_within_its_budget_is_refused(path):
    class Curious(FakeEncoder):
        def encode(self, texts):
            if self.encoded:
                index.search("apple")
            return super().encode(texts)

    with Index.create(path, Curious(), bits=64, memory_budget="200MB") as index:
        index.add(documents("a"))
        with pytest.raises(ReentrantError, match="memory budget"):
            index.add(documents("b", "c"))
        assert len(index) == 1


@pytest.mark.parametrize("inner", [*CHANGES, *READS, "close"])
@pytest.mark.parametrize("outer", ["add", "search"])
def test_a_handler_that_calls_its_index_is_answered_or_refused(small, outer, inner):
    """A handler runs between two instructions of the main thread: here, within the encoder."""
    expected = READS[inner](small) if inner in READS else None
    seen: list[object] = []

    def handle(*_: object) -> None:
        try:
            seen.append(small.close() if inner == "close" else (CHANGES | READS)[inner](small))
        except EdgeretError as error:
            seen.append(error)

    class Interrupted(FakeEncoder):
        def encode(self, texts):
            if not seen:
                seen.append("called")
                signal.raise_signal(signal.SIGALRM)
            return FakeEncoder().encode(texts)

    budgeted = small._memory_lock.__class__.__name__ == "Turn"
    small._encoder = small._searcher._encoder = Interrupted()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        if outer == "add" and inner == "close":
            with pytest.raises(ClosedError):
                small.add(documents("b"))
        elif outer == "search" and inner == "close":
            with pytest.raises(ClosedError):
                small.search("apple")
        else:
            small.add(documents("b")) if outer == "add" else small.search("apple")
    finally:
        signal.signal(signal.SIGALRM, before)
        small._encoder = small._searcher._encoder = FakeEncoder()
    encodes = inner in ("search", "words", "add")
    if inner == "close":
        assert seen[1] is None
    elif (outer == "add" and inner in CHANGES) or (budgeted and encodes):
        assert isinstance(seen[1], ReentrantError)
    elif inner in READS:
        assert seen[1] == expected
    else:
        assert not isinstance(seen[1], Exception)
    with Index.open(small._path, FakeEncoder(), wait=0) as again:
        again.add(documents("z"))
        again.check()


SERVICE = """
import signal, sys, threading, edgeret
from fake import FakeEncoder

index = edgeret.Index.create(sys.argv[1], FakeEncoder(), bits=64)
kept = index.add(["kept"])

def end(*_):
    index.close()
    if sys.argv[3] == "exit":
        sys.exit(0)

signal.signal(signal.SIGTERM, end)

def endless():
    for number in range(10**9):
        if number == 20:
            print("ready", flush=True)
        yield f"document {number}"

def work():
    if sys.argv[2] == "add":
        index.add(endless())
    elif sys.argv[2] == "add in parts":
        index.add(endless(), commit_every=3)
    elif sys.argv[2] == "thread":
        thread = threading.Thread(target=index.add, args=[endless()])
        thread.start()
        thread.join()
        index.get("x")
    else:
        print("ready", flush=True)
        while True:
            index.search("document")

try:
    work()
except edgeret.errors.ClosedError:
    sys.exit(3)
"""


@pytest.mark.parametrize("ends", ["exit", "go on"])
@pytest.mark.parametrize("work", ["add", "add in parts", "thread", "search"])
def test_sigterm_closes_and_ends_the_process(path, work, ends):
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, str(path), work, ends],
        env=shim.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == b"ready\n"
            service.send_signal(signal.SIGTERM)
            assert service.wait(60) == (0 if ends == "exit" else 3)
        finally:
            service.kill()
    assert list(path.parent.iterdir()) == [path]
    with Index.open(path, FakeEncoder(), wait=0) as index:
        index.check()
        assert len(index) == 1 or (work == "add in parts" and len(index) >= 19)


def test_closing_waits_for_some_passages_of_a_long_document_not_for_all(path):
    class Closed(FakeEncoder):
        def encode(self, texts):
            if not index._connections.closed:
                threads.append(threading.Thread(target=index.close))
                threads[0].start()
                while not index._connections.closed:
                    time.sleep(0.001)
            return super().encode(texts)

    encoder, threads = Closed(passage_tokens=4), []
    index = Index.create(path, encoder, bits=64)
    with pytest.raises(ClosedError):
        index.add([" ".join(f"word{number}." for number in range(1000))])
    threads[0].join(30)
    assert 0 < len(encoder.encoded) <= 64
    assert list(path.parent.iterdir()) == [path]


def test_closing_ends_a_change_in_another_thread(path, encoder):
    index = Index.create(path, encoder, bits=64)
    begun = threading.Event()

    def endless() -> Iterator[str]:
        for number in range(10**9):
            begun.set()
            yield f"apple {number}"

    outcome: list[object] = []
    thread = threading.Thread(target=lambda: outcome.append(holding(lambda: index.add(endless()))()))
    thread.start()
    begun.wait(30)
    index.close()
    thread.join(30)
    assert isinstance(outcome[0], ClosedError)
    assert list(path.parent.iterdir()) == [path]


# -- writers that wait


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another connection is in the middle of a change."""
    store = Store(path, readonly=False)
    try:
        with store.writing():
            yield
    finally:
        store.close()


@pytest.mark.parametrize("wait", [0, 0.5])
def test_a_lock_that_is_taken_costs_no_encoding(small, path, wait):
    encoder, asked = FakeEncoder(), []

    def given() -> Iterator[str]:
        for number in range(100):
            asked.append(number)
            yield f"pear {number}"

    with Index.open(path, encoder, wait=wait) as other, writing(path):
        begun = time.monotonic()
        for commit_every in (None, 1, 10):
            with pytest.raises(LockedError):
                other.add(given(), commit_every)
        assert 3 * wait <= time.monotonic() - begun < 3 * wait + 3
        assert encoder.encoded == []
        assert len(asked) == 3
        assert other.add(documents("a")) == ["a"]
    small.check()


def test_what_was_encoded_is_kept_for_the_next_call(small, path):
    encoder = FakeEncoder()
    given = [Document(f"n{number}", f"pear {number}", {"year": number}) for number in range(20)]

    def overtaken() -> Iterator[Document]:
        yield from given
        rival.__enter__()

    with Index.open(path, encoder, wait=0) as index:
        rival = writing(path)
        with pytest.raises(LockedError, match="add the same documents again"):
            index.add(overtaken())
        assert len(encoder.encoded) == 20
        for _ in range(2):
            with pytest.raises(LockedError, match="add the same documents again"):
                index.add(given)
        with pytest.raises(LockedError):
            index.add([Document("new", "plum"), *given])
        rival.__exit__(None, None, None)
        assert len(index) == 1
        # The last one wins, wherever it waited.
        assert index.add([Document("n3", "cherry"), *given, Document("n4", "grape")])[0] == "n3"
        assert sorted(encoder.encoded[20:]) == ["cherry", "grape", "pear 3"]
        assert index.get("n3").text == "pear 3"
        assert index.get("n4").text == "grape"
        assert len(index) == 21
        index.check()


@pytest.mark.parametrize("change", ["add", "delete", "erase", "compact"])
def test_what_is_kept_for_the_next_call_is_in_no_other(small, path, change):
    def overtaken() -> Iterator[Document]:
        yield Document("lost", "pear")
        rival.__enter__()

    encoder = FakeEncoder()
    with Index.open(path, encoder, wait=0) as index:
        rival = writing(path)
        with pytest.raises(LockedError):
            index.add(overtaken())
        rival.__exit__(None, None, None)
        CHANGES[change](index)
        assert index.get("lost") is None
        encoder.encoded.clear()
        index.add([Document("lost", "pear")])
        assert encoder.encoded == ["pear"]


def test_a_part_that_was_refused_is_kept_too(small, path):
    encoder = FakeEncoder()
    given = [f"pear {number}" for number in range(25)]

    def overtaken() -> Iterator[str]:
        for number, text in enumerate(given):
            if number == 17:
                rival.__enter__()
            yield text

    with Index.open(path, encoder, wait=0) as index:
        rival = writing(path)
        with pytest.raises(LockedError):
            index.add(overtaken(), commit_every=10)
        assert len(index) == 11
        rival.__exit__(None, None, None)
        index.add(given, commit_every=7)
        assert len(index) == 26
        assert sorted(encoder.encoded) == sorted(given)
        index.check()


def test_ctrl_c_ends_a_long_wait(small, path, ctrl_c):
    ctrl_c(0.5)
    with Index.open(path, FakeEncoder(), wait=60) as index:
        with writing(path):
            begun = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                index.add(["pear"])
            assert time.monotonic() - begun < 10
        index.add(["pear"])
        assert len(index) == 2


CREATOR = """
import sys, edgeret
from fake import FakeEncoder

print("ready", flush=True)
sys.stdin.readline()
for path in sys.argv[2:]:
    with edgeret.Index.create(path, FakeEncoder(), bits=64, exist_ok=True, wait=60) as index:
        index.add([sys.argv[1]])
"""


def test_many_processes_create_one_index_at_once(tmp_path):
    paths = [tmp_path / f"{number}.edgeret" for number in range(10)]
    creators = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, f"apple {number}", *map(str, paths)],
            env=shim.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for creator in creators:
        assert creator.stdout is not None
        assert creator.stdout.readline() == "ready\n"
    for creator in creators:
        assert creator.stdin is not None
        creator.stdin.write("\n")
        creator.stdin.flush()
    for creator in creators:
        _, trouble = creator.communicate()
        assert creator.returncode == 0, trouble
    for path in paths:
        with Index.open(path, FakeEncoder(), readonly=True) as index:
            assert len(index) == 4


def test_create_waits_as_long_as_asked(path, encoder, ctrl_c):
    path.touch()
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    with pytest.raises(LockedError):
        Index.create(path, encoder, bits=64, wait=0.5)
    assert 0.5 <= time.monotonic() - begun < 5
    ctrl_c(0.3)
    with pytest.raises(KeyboardInterrupt):
        Index.create(path, encoder, bits=64, wait=60)
    rival.execute("ROLLBACK")
    rival.close()
    with pytest.raises(InvalidQueryError, match="0 seconds or more"):
        Index.create(path.with_name("other"), encoder, bits=64, wait=-1)
    with Index.create(path, encoder, bits=64) as index:
        assert len(index) == 0
