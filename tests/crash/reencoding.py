"""A process that reencodes an index until it is killed: python -m crash.reencoding FOLDER KILLS."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from crash import workload
from fake import FakeEncoder, NarrowEncoder

from edgeret import Index
from edgeret.storage import drafts
from edgeret.storage.store import Store

COUNT = 90
SLOWNESS_S = 0.0005
LIVE_S = 0.15
"""Longest life of a victim, about as long as it takes."""


class Slow(NarrowEncoder):
    """Leaves time to be killed while it encodes."""

    def encode(self, texts):
        time.sleep(SLOWNESS_S)
        return super().encode(texts)


def live(path: Path, target: FakeEncoder, journal: int) -> None:
    """One byte in the journal for each document that is encoded and safe, and one at the end."""
    Index.reencode(path, target, bits=64, progress=lambda *_: os.write(journal, b"."))
    os.write(journal, b"e")


def kept(path: Path) -> int:
    """How many documents the drafts beside an index are of."""
    beside = path.with_name(f"{path.name}-reencode")
    if not beside.exists():
        return 0
    with closing(sqlite3.connect(beside)) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        return connection.execute("SELECT count(*) FROM drafts").fetchone()[0] if tables else 0


def space(path: Path) -> str:
    with closing(Store(path, readonly=True)) as store:
        return store.description.space


def examine(index: Index) -> workload.Contents:
    index.check()
    return workload.contents(index)


def main(folder: Path, kills: int) -> None:
    """Kill victims that take one index to and fro between two encoders, and judge what each has left."""
    drafts._COMMIT_S = 0.0
    path = folder / "test.edgeret"
    encoders = {encoder.space: encoder for encoder in (FakeEncoder(), Slow())}
    first, second = encoders
    contents = {}
    with Index.create(path, encoders[first], bits=64, filters=["year"]) as index:
        index.add(document for document in workload.documents(0, COUNT) if document.vector is None)
        documents = len(index)
    for here in (second, first):
        Index.reencode(path, encoders[here], bits=64)
        with Index.open(path, encoders[here]) as index:
            contents[here] = examine(index)
    switched = resumed = 0
    here = first
    for victim in range(kills):
        there = second if here == first else first
        before = kept(path)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                live(path, encoders[there], theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        time.sleep(random.Random(victim).uniform(0, LIVE_S))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = b""
        while read := os.read(ours, 4096):
            told += read
        os.close(ours)
        now = space(path)
        with Index.open(path, encoders[now]) as index:
            assert examine(index) == contents[now], f"victim {victim}"
        if now == here:
            assert b"e" not in told, f"victim {victim} said that it was done"
            # Of another target, it begins anew once.
            assert kept(path) >= told.count(b"."), f"victim {victim} lost what it had encoded"
            resumed += before > 0
        else:
            switched += 1
        here = now
    Index.reencode(path, encoders[second], bits=64)
    with Index.open(path, encoders[second]) as index:
        assert examine(index) == contents[second]
    assert sorted(file.name for file in folder.iterdir()) == [path.name]
    print(json.dumps({"kills": kills, "switched": switched, "resumed": resumed, "documents": documents}))


if __name__ == "__main__":
    for change in workload.shrink_blocks():
        setattr(*change)
    main(Path(sys.argv[1]), int(sys.argv[2]))
