"""Every kind of change to an index, step by step, and how an index is examined afterwards."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document, Index
from edgeret.errors import IndexMissingError, NotAnIndexError, StorageError
from edgeret.storage import schema
from edgeret.storage.description import OLD_KEYS, meta_checksum
from edgeret.storage.store import Store

SMALL_BLOCK = 64
BITS = 96

Contents = dict[str, tuple[str, str, tuple[tuple[int, int, bytes], ...], tuple[str, str]]]
"""id -> text, metadata, passages (start, stop, stored vector), space and bits of their codes."""

Act = Callable[[Path, Index | None], Index | None]
"""Takes the path and the open index; returns the index to go on with."""


@dataclass(frozen=True)
class Step:
    """One call. parts: the same as calls of one commit each."""

    name: str
    act: Act
    parts: tuple[Act, ...]


def shrink_blocks(rows: int = SMALL_BLOCK) -> list[tuple[object, str, object]]:
    """(module, attribute, value) to set so that blocks are sealed, and drafts committed, after a few rows."""
    changes: list[tuple[object, str, object]] = [(sys.modules["edgeret.blocks"], "BLOCK_ROWS", rows)]
    changes += [
        (sys.modules[f"edgeret.upkeep.{name}"], "_BATCH_ROWS", rows // 2) for name in ("check", "recode")
    ]
    # A second passes for each look at the clock.
    changes.append((sys.modules["edgeret.storage.drafts"], "monotonic", count().__next__))
    changes.append((sys.modules["edgeret.storage.drafts"], "_COMMIT_S", rows / 4))
    return changes


def documents(first: int, count: int, version: str = "first") -> list[Document]:
    """Documents of one passage, of several, and with a vector of their own."""
    made = []
    for number in range(first, first + count):
        text = f"{version} red cat number{number}"
        if number % 10 == 3:
            text = " ".join(
                f"Sentence {part} of {version} number{number} is long enough." for part in range(9)
            )
        vector = np.random.default_rng(number).normal(size=DIM) if number % 3 == 0 else None
        made.append(Document(f"d{number}", text, {"year": number % 7}, vector))
    return made


def contents(index: Index) -> Contents:
    """All that the user gave, as it is stored."""
    found: dict[str, tuple[str, str, list[tuple[int, int, bytes]]]] = {}
    for identity, text, metadata, *passage in index._store.connection.execute(
        "SELECT id, text, metadata, start, stop, vector FROM documents JOIN passages USING (doc) ORDER BY id, start"
    ):
        found.setdefault(identity, (text, metadata, []))[2].append(tuple(passage))
    meta = dict(index._store.connection.execute("SELECT key, value FROM meta"))
    coding = (meta["space"], meta["bits"])
    return {
        identity: (text, metadata, tuple(parts), coding)
        for identity, (text, metadata, parts) in found.items()
    }


def examine(index: Index) -> Contents:
    """Check an open index, search it in both ways, and return what is in it."""
    index.check()
    found = contents(index)
    query = np.random.default_rng(0).normal(size=DIM)
    assert {hit.id for hit in index.search(query, k=len(found) + 1)} == set(found)
    by_words = {identity for identity, (text, *_) in found.items() if "cat" in text}
    assert {hit.id for hit in index.search("cat", k=len(found) + 1, mode="lexical")} == by_words
    return found


def reopen(path: Path) -> Contents | None:
    """Open what a crash has left, recover it and examine it; None if no index is there yet."""
    try:
        index = Index.open(path, FakeEncoder())
    except (IndexMissingError, NotAnIndexError):
        create(path, None).close()
        return None
    with index:
        return examine(index)


def create(path: Path, _: Index | None) -> Index:
    return Index.create(path, FakeEncoder(), BITS, filters=["year"], exist_ok=True)


def _open(path: Path, _: Index | None) -> Index:
    return Index.open(path, FakeEncoder())


def _on(call: Callable[[Path, Index], object]) -> Act:
    def act(path: Path, index: Index | None) -> Index:
        assert index is not None
        call(path, index)
        return index

    return act


def _add(made: Sequence[Document], commit_every: int | None = None) -> Act:
    return _on(lambda _, index: index.add(made, commit_every))


def _add_large(_: Path, index: Index) -> None:
    """More than SQLite's caches hold: staged documents go to its temporary file."""
    vector = np.ones(DIM)
    index.add([Document(f"large{letter}", letter * 900_000, {}, vector) for letter in "xyz"])


def _delete(numbers: Sequence[int], erase: bool = False) -> Act:
    return _on(lambda _, index: index.delete([f"d{number}" for number in numbers], erase))


def spill(_: Path, index: Index) -> None:
    """From here on pages leave the cache before the commit, and the log is merged after few commits."""
    index._store.connection.execute("PRAGMA cache_size = 8")
    index._store.connection.execute("PRAGMA wal_autocheckpoint = 40")


def backup_of(path: Path) -> Path:
    """Where the workload copies the index to."""
    return path.with_name("backup.edgeret")


def sealed_of(path: Path) -> Path:
    """Where the workload seals the index to."""
    return path.with_name("sealed.edgeret")


def damaged_of(path: Path) -> Path:
    """A copy of the backup in which one document is not what was written."""
    return path.with_name("damaged.edgeret")


def repaired_of(path: Path) -> Path:
    """Where the workload writes what is left of the damaged copy."""
    return path.with_name("repaired.edgeret")


DAMAGED_ID = "d31"


def _sync(file: BinaryIO) -> None:
    """Keep a file, and its name, whatever happens from here on."""
    file.flush()
    os.fsync(file.fileno())
    folder = os.open(Path(file.name).parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def damage(path: Path, _: Index) -> None:
    content = backup_of(path).read_bytes()
    text = b"first red cat number31"
    assert text in content
    with damaged_of(path).open("wb") as file:
        file.write(content.replace(text, text.upper()))
        _sync(file)


def _repair(path: Path, _: Index) -> None:
    summary = Index.repair(damaged_of(path), repaired_of(path), FakeEncoder())
    assert summary.lost_ids == [DAMAGED_ID]


def _recode(path: Path, _: Index | None) -> None:
    with closing(Store(path, readonly=True)) as store:
        assert store.codes.block_numbers()
        assert len(store.codes.tail()[0])
    Index.recode(path, FakeEncoder(), bits=64)


def _reencode(path: Path, _: Index | None) -> None:
    other = FakeEncoder()
    # Of the same space, and each word has another direction.
    other.name = "fake-other"
    Index.reencode(path, other)


def downgrade(path: Path) -> None:
    """Make a file of format 1 of one of format 2: as an older edgeret wrote it, in one transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        for table in (
            "contexts",
            *(f"lexicon_{part}" for part in ("state", "tail", "segments", "terms", "lists")),
        ):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DROP INDEX passages_by_doc")
        meta = {
            key: value for key, value in connection.execute("SELECT key, value FROM meta") if key in OLD_KEYS
        }
        meta["crc"] = meta_checksum(meta)
        connection.execute("DELETE FROM meta")
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        filters = len(json.loads(meta["filters"]))
        known = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
        for statement in schema.statements(filters, format=1):
            if statement not in known:
                connection.execute(statement)
        connection.execute("INSERT INTO lexicon (rowid, text) SELECT row, text FROM passage_texts")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("COMMIT")


def _old(path: Path, _: Index | None) -> None:
    downgrade(path)


def _upgrade(path: Path, _: Index | None) -> None:
    edgeret.upgrade(path)


def update_of(path: Path) -> Path:
    """What leads from the index to its backup."""
    return path.with_name("update")


def _diff(path: Path, _: Index) -> None:
    try:
        with update_of(path).open("wb") as file:
            edgeret.diff(path, backup_of(path), file)
            _sync(file)
    except OSError as error:
        # The file is the caller's, and so are its errors.
        raise StorageError(str(error)) from error


def _apply(path: Path, _: Index | None) -> None:
    edgeret.apply(path, update_of(path), FakeEncoder())


def made(states: Sequence[Sequence[Contents | None]]) -> dict[str, tuple[Path, Contents]]:
    """The steps that write a new file: its name, and what is in it; `states` are those of `expected`."""
    after = {step.name: known[-1] for step, known in zip(STEPS, states, strict=False)}
    copied, sealed = after["backup"], after["seal"]
    assert copied is not None
    assert sealed is not None
    left = {identity: kept for identity, kept in copied.items() if identity != DAMAGED_ID}
    here = Path("test.edgeret")
    return {
        "backup": (backup_of(here), copied),
        "seal": (sealed_of(here), sealed),
        "repair": (repaired_of(here), left),
    }


def look(path: Path) -> Contents | None:
    """What a file that a step has made holds; None if it is not there, or empty."""
    try:
        with Index.open(path, FakeEncoder()) as index:
            return examine(index)
    except (IndexMissingError, NotAnIndexError):
        return None


def _step(name: str, act: Act, *parts: Act) -> Step:
    return Step(name, act, parts or (act,))


STEPS = [
    _step("create", create),
    _step("add", _add(documents(0, 12))),
    _step("block", _add(documents(12, 25))),
    _step("replace", _add(documents(4, 5, "second"))),
    _step("delete", _delete(range(8, 16))),
    _step("erase", _delete([1, 20, 33], erase=True)),
    _step(
        "update", _on(lambda _, index: index.update_many((id, {"seen": id}) for id in index.ids({"year": 2})))
    ),
    _step("delete where", _on(lambda _, index: index.delete(where={"year": 6, "seen": {"$exists": False}}))),
    _step("spill", _on(spill)),
    _step(
        "load",
        _add(documents(40, 18), commit_every=6),
        *(_add(documents(first, 6)) for first in (40, 46, 52)),
    ),
    _step("close", _on(lambda _, index: index.close())),
    _step("recode", _recode),
    _step("reencode", _reencode),
    _step("old", _old),
    _step("upgrade", _upgrade),
    _step("open", _open),
    _step("spill", _on(spill)),
    _step("backup", _on(lambda path, index: index.backup(backup_of(path)))),
    _step("thin", _delete([*range(16, 30), *range(40, 50)])),
    _step("compact", _on(lambda _, index: index.compact())),
    _step("seal", _on(lambda path, index: index.seal(sealed_of(path)))),
    _step("damage", _on(damage)),
    _step("repair", _on(_repair)),
    _step("close", _on(lambda _, index: index.close())),
    _step("open", _open),
    _step("late", _add(documents(70, 3))),
    _step("diff", _on(_diff)),
    _step("close", _on(lambda _, index: index.close())),
    _step("apply", _apply),
    _step("open", _open),
    _step("last", _add(documents(80, 3))),
    _step("close", _on(lambda _, index: index.close())),
]

WITH_LARGE = [*STEPS[:-1], _step("large", _on(_add_large)), STEPS[-1]]
"""Too many writes to look at the medium after each of them."""


def expected(path: Path, steps: Sequence[Step]) -> list[list[Contents | None]]:
    """For each step the contents before it, after each of its commits, and so after it: from a run undisturbed."""
    states: list[list[Contents | None]] = []
    index: Index | None = None
    last: Contents | None = None
    for step in steps:
        known = [last]
        for part in step.parts:
            index = part(path, index)
            if step.name in ("recode", "reencode", "old", "upgrade", "apply"):
                last = reopen(path)
            elif step.name != "close":
                assert index is not None
                last = examine(index)
            known.append(last)
        states.append(known)
    return states


def run(path: Path, steps: Sequence[Step], mark: Callable[[int], object]) -> None:
    """All steps, each announced by its number before it begins; the count of steps at the end."""
    index: Index | None = None
    for number, step in enumerate(steps):
        mark(number)
        index = step.act(path, index)
    mark(len(steps))
