"""Passages of a small index stay in memory: they are read once, and answers are those of the file."""

import numpy as np
import pytest
from fake import FakeEncoder, NarrowEncoder

import edgeret
from edgeret.plan import Plan
from edgeret.storage import kept
from edgeret.storage.rows import Rows

TEXTS = [f"text number {number}" for number in range(60)]


@pytest.fixture
def reads(monkeypatch):
    """How many passages each statement was asked for."""
    counts = []
    read = Rows._read
    monkeypatch.setattr(Rows, "_read", lambda rows, wanted: counts.append(len(wanted)) or read(rows, wanted))
    return counts


def answers(index):
    return [(hit.id, hit.score) for query in TEXTS[::7] for hit in index.search(query, mode="dense")]


def test_what_was_read_is_not_read_again(tmp_path, reads):
    with edgeret.Index.create(tmp_path / "a", FakeEncoder()) as index:
        index.add(edgeret.Document(text, text) for text in TEXTS)
        first, asked = answers(index), sum(reads)
        assert 40 <= asked <= len(TEXTS)
        assert answers(index) == first
        index.add([edgeret.Document(TEXTS[0], "another text")])
        index.delete([TEXTS[1]])
        changed = answers(index)
        assert sum(reads) <= asked + 30
    with edgeret.Index.open(tmp_path / "a", FakeEncoder()) as index:
        assert answers(index) == changed != first


@pytest.mark.parametrize("bound", ["budget", "room"])
def test_where_memory_is_bounded_nothing_stays(tmp_path, reads, monkeypatch, bound):
    if bound == "room":
        monkeypatch.setattr(kept, "KEPT_BYTES", 1000)
    budget = "1GB" if bound == "budget" else None
    with edgeret.Index.create(tmp_path / "a", FakeEncoder(), memory_budget=budget) as index:
        index.add(edgeret.Document(text, text) for text in TEXTS)
        first, asked = answers(index), sum(reads)
        assert answers(index) == first
        assert sum(reads) == 2 * asked > 0


@pytest.mark.parametrize("encoder", [FakeEncoder(), NarrowEncoder()], ids=lambda encoder: str(encoder.dim))
def test_what_stays_is_planned_by_the_bytes_of_the_index_s_own_vectors(tmp_path, encoder):
    with edgeret.Index.create(tmp_path / "a", encoder, bits=64) as index:
        index.add(edgeret.Document(text, text) for text in TEXTS)
    taken = len(TEXTS) * (encoder.dim + kept.KEPT_HEAD_BYTES)
    with edgeret.Index.open(tmp_path / "a", encoder) as index:
        assert index._plan.parts["passages"] == taken
    # Where they are too many, none stays, and none is planned.
    most = kept.Kept(encoder.dim).rows
    for rows in (most, most + 1):
        assert ("passages" in Plan.of(rows, 64, {}, None, vector_bytes=encoder.dim).parts) == (rows == most)


def test_lines_come_in_the_order_asked():
    lines = kept.Kept(4)
    wrote = kept.Lines(np.arange(40).reshape(10, 4), np.arange(40, dtype=np.int8).reshape(10, 4))
    asked = []
    for rows in ([3, 1], [1, 2, 3], []):
        rows = np.array(rows, np.int64)
        found = lines.lines(
            rows,
            lambda missing: asked.append(missing.tolist()) or kept.Lines(*(part[missing] for part in wrote)),
        )
        assert (found.heads == wrote.heads[rows]).all()
        assert (found.vectors == wrote.vectors[rows]).all()
    assert asked == [[3, 1], [2]]
