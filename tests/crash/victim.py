"""A process that changes an index until it is killed: python -m crash.victim FOLDER KILLS."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from crash import workload
from fake import FakeEncoder

from edgeret import Document, Index

LIVE_MS = 60
"""Longest life of a victim, from when it has opened the index."""

IDS = 60

Texts = dict[str, str]


class Call:
    """Call number `number` of victim number `victim`: the victim makes it, its judge foretells what it does."""

    def __init__(self, victim: int, number: int) -> None:
        rng = random.Random(victim * 10_000 + number)
        self.kind = rng.choices(("add", "load", "delete", "erase", "compact", "reopen"), (6, 4, 4, 2, 2, 1))[
            0
        ]
        count = {"add": 5, "load": 8, "delete": 6, "erase": 3}.get(self.kind, 0)
        self.ids = [f"d{chosen}" for chosen in rng.sample(range(IDS), count)]
        self.text = f"cat of victim{victim} call{number}"

    def make(self, path: Path, index: Index) -> Index:
        """Change the index; returns it, or what it was opened as again."""
        made = [Document(identity, f"{self.text} {identity}") for identity in self.ids]
        if self.kind == "add":
            index.add(made)
        elif self.kind == "load":
            index.add(made, commit_every=3)
        elif self.kind in ("delete", "erase"):
            index.delete(self.ids, erase=self.kind == "erase")
        elif self.kind == "compact":
            index.compact()
        else:
            index.close()
            return Index.open(path, FakeEncoder())
        return index

    def states(self, texts: Texts) -> list[Texts]:
        """What the index may hold while the call is made: before it, and after each of its commits."""
        if self.kind in ("delete", "erase"):
            return [texts, {identity: text for identity, text in texts.items() if identity not in self.ids}]
        parts = {"add": [5], "load": [3, 6, 8]}.get(self.kind, [])
        return [texts] + [
            texts | {identity: f"{self.text} {identity}" for identity in self.ids[:part]} for part in parts
        ]


def live(path: Path, victim: int, journal: int) -> None:
    """Make calls for ever; one byte in the journal when open and after each call that has returned."""
    index = Index.open(path, FakeEncoder())
    os.write(journal, b"o")
    number = 0
    while True:
        index = Call(victim, number).make(path, index)
        os.write(journal, b".")
        number += 1


def judge(path: Path, victim: int, done: int, texts: Texts) -> Texts:
    """What the index holds after a kill: that of the calls that returned, or some of the next one, whole."""
    for number in range(done):
        texts = Call(victim, number).states(texts)[-1]
    found = workload.reopen(path)
    assert found is not None
    now = {identity: text for identity, (text, *_) in found.items()}
    last = Call(victim, done)
    assert now in last.states(texts), f"victim {victim}, killed in call {done}, {last.kind}"
    return now


def main(folder: Path, kills: int) -> None:
    """Kill victims of one index, one after the other, and judge what each has left."""
    path = folder / "test.edgeret"
    workload.create(path, None).close()
    texts: Texts = {}
    calls = 0
    for victim in range(kills):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                live(path, victim, theirs)
            finally:
                os._exit(1)
        os.close(theirs)
        assert os.read(ours, 1) == b"o", f"victim {victim} could not open what the last one left"
        time.sleep(random.Random(victim).uniform(0, LIVE_MS / 1000))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, f"victim {victim} died of itself"
        done = 0
        while read := os.read(ours, 4096):
            done += len(read)
        os.close(ours)
        texts = judge(path, victim, done, texts)
        calls += done
    print(json.dumps({"kills": kills, "calls": calls, "documents": len(texts)}))


if __name__ == "__main__":
    for change in workload.shrink_blocks():
        setattr(*change)
    main(Path(sys.argv[1]), int(sys.argv[2]))
