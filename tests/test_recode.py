"""Recode: other codes from the stored vectors, in one transaction; nothing else changes."""

import gzip
import json
import os
import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from crash import workload
from damage import alter
from fake import DIM, WIDTHS, FakeEncoder, random_codec
from formats.make import Reader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeret import Document, Encoder, Index
from edgeret.errors import (
    CorruptIndexError,
    IndexMissingError,
    InvalidQueryError,
    LockedError,
    ReadOnlyError,
    SpaceMismatchError,
)
from edgeret.shell.cli import main
from edgeret.storage.store import Store
from edgeret.upkeep import recode

FORMATS = Path(__file__).parent / "formats"
OTHER = FakeEncoder(codec=1)
"""Of the same geometry as the encoder that the fixtures give."""
EVERY = np.ones(DIM)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)


@pytest.fixture
def large(path: Path, encoder: FakeEncoder) -> Path:
    """Two sealed blocks with deleted rows in them, and a tail with a hole."""
    with Index.create(path, model=encoder, bits=96, filters=["year"]) as index:
        index.add(workload.documents(0, 140))
        index.delete([f"d{number}" for number in (1, 2, 40, 90, 135)])
        assert index.check().blocks == 2
    return path


def codes(path: Path, encoder: FakeEncoder) -> dict[str, list[tuple[object, ...]]]:
    """All lines of the tables that hold codes, without the generations."""
    with Index.open(path, model=encoder, readonly=True) as index:
        read = index._store.connection.execute
        return {
            "columns": read("SELECT block, word, codes FROM columns ORDER BY block, word").fetchall(),
            "tail": read("SELECT row, code FROM tail ORDER BY row").fetchall(),
        }


# -- what changes and what does not


def test_an_index_of_another_codec_is_recoded_without_encoding_a_text(large, encoder):
    with Index.open(large, model=encoder) as index:
        before, generation = workload.contents(index), index.info().generation
        expected = [index.search("red cat", k=150, mode=mode) for mode in ("lexical", "dense", "hybrid")]
    with pytest.raises(SpaceMismatchError, match=r"another codec.*'edgeret recode'"):
        Index.open(large, model=OTHER)
    OTHER.encoded.clear()
    summary = Index.recode(large, OTHER)
    assert OTHER.encoded == []
    with Index.open(large, model=OTHER) as index:
        # It computes every code anew.
        checked = index.check()
        assert (summary.passages, summary.space, summary.bits) == (checked.passages, OTHER.space, 96)
        assert index.info().generation == generation + 1
        assert (index.info().space, index.info().filters) == (OTHER.space, ["year"])
        assert workload.contents(index) == {
            identity: (*kept, (OTHER.space, "96")) for identity, (*kept, _) in before.items()
        }
        assert [
            index.search("red cat", k=150, mode=mode) for mode in ("lexical", "dense", "hybrid")
        ] == expected
        index.add(["a new red cat"])
        index.delete(["d3"], erase=True)
        index.compact()
        index.check()
    with pytest.raises(SpaceMismatchError, match="another codec"):
        Index.open(large, model=encoder)


@pytest.mark.parametrize("bits", [64, 96])
def test_other_bits_are_those_of_an_index_made_with_them(large, tmp_path, encoder, bits):
    made = tmp_path / "made.edgeret"
    with Index.create(made, model=encoder, bits=bits, filters=["year"]) as index:
        index.add(workload.documents(0, 140))
        index.delete([f"d{number}" for number in (1, 2, 40, 90, 135)], erase=True)
    summary = Index.recode(large, encoder, bits=bits)
    assert summary.bits == bits
    assert summary.passages == (0 if bits == 96 else 153)
    with Index.open(large, model=encoder) as index:
        index.delete([], erase=True)
    assert codes(large, encoder) == codes(made, encoder)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 150),
    deleted=st.sets(st.integers(0, 149)),
    way=st.lists(st.tuples(st.sampled_from([None, 1, 2]), st.sampled_from(WIDTHS)), min_size=1, max_size=4),
)
def test_every_way_to_a_codec_ends_in_the_same_codes(tmp_path_factory, count, deleted, way):
    path = tmp_path_factory.mktemp("way") / "test.edgeret"
    with Index.create(path, model=FakeEncoder(), bits=64) as index:
        vectors = np.random.default_rng(0).normal(size=(count, DIM))
        index.add(Document(str(number), "", {}, vector) for number, vector in enumerate(vectors))
        index.delete(map(str, deleted))
    Index.recode(path, OTHER, bits=96)
    expected = codes(path, OTHER)
    for codec, bits in way:
        encoder = FakeEncoder(codec=codec)
        Index.recode(path, encoder, bits)
        with Index.open(path, model=encoder) as index:
            index.check()
    Index.recode(path, OTHER, bits=96)
    assert codes(path, OTHER) == expected


def test_codes_of_deleted_rows_do_not_outlive_a_recode(large):
    Index.recode(large, OTHER)
    with Index.open(large, model=OTHER) as index:
        for block, _, live in index._store.codes.blocks():
            alive = np.unpackbits(np.frombuffer(live, dtype=np.uint8), bitorder="little").astype(bool)
            dead = index._store.codes.columns(block)[:, ~alive]
            assert dead.size
            assert not dead.any()


def test_what_has_these_codes_already_is_left_alone(large, encoder):
    with Index.open(large, model=encoder) as index:
        before = large.read_bytes()
        assert Index.recode(large, encoder).passages == 0
        assert Index.recode(large, encoder, bits=96).passages == 0
        assert len(index) == 135
    assert large.read_bytes() == before


def test_an_index_of_an_old_format_with_blocks_of_full_size(tmp_path, monkeypatch):
    monkeypatch.undo()
    path = tmp_path / "index.edgeret"
    path.write_bytes(gzip.decompress((FORMATS / "index-1" / "index.edgeret.gz").read_bytes()))
    reader = Reader(FORMATS / "bundle-1")
    with Index.open(path, model=reader) as index:
        passages = index.check().passages
    assert Index.recode(path, reader, bits=32).passages == passages
    with Index.open(path, model=reader) as index:
        assert (index.check().blocks, index.info().bits) == (1, 32)


# -- company


def test_whoever_has_the_old_codes_is_told_and_answers_nothing(large, encoder):
    with (
        Index.open(large, model=encoder, readonly=True) as warm,
        Index.open(large, model=encoder, readonly=True) as cold,
        Index.open(large, model=encoder) as writer,
    ):
        warm.search("red cat")
        writer.add(["blue dog"])
        Index.recode(large, OTHER)
        Index.recode(large, OTHER, bits=64)
        for index in (warm, cold, writer):
            for call in (
                lambda index=index: index.search("red cat"),
                lambda index=index: index.search("red cat", mode="lexical"),
                lambda index=index: index.get("d0"),
                lambda index=index: len(index),
                index.info,
                index.check,
                lambda index=index: index.backup(large.with_name("copy")),
                lambda index=index: index.seal(large.with_name("copy")),
            ):
                with pytest.raises(SpaceMismatchError, match=r"96 bits.*by now has 64 bits.*open it again"):
                    call()
        for change in (lambda: writer.add(["x"]), lambda: writer.delete(["d0"]), writer.compact):
            with pytest.raises(SpaceMismatchError, match="open it again"):
                change()
    assert [file.name for file in large.parent.iterdir()] == [large.name]
    with Index.open(large, model=OTHER) as index:
        assert len(index) == 136
        index.check()


def test_until_the_commit_readers_have_the_old_codes_and_writers_wait(large, encoder):
    with Index.open(large, model=encoder, wait=0) as index, Index.open(large, encoder, readonly=True) as late:
        expected = index.search("red cat", k=50)
        seen: list[tuple[int, int]] = []

        def look(done: int, total: int) -> None:
            seen.append((done, total))
            assert index.search("red cat", k=50) == expected
            with pytest.raises(LockedError):
                index.add(["x"])
            if done == total:
                assert late.search("red cat", k=50) == expected

        passages = Index.recode(large, OTHER, progress=look).passages
        assert seen[-1] == (passages, passages)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})
        assert len(seen) > 3


def test_a_recode_that_has_waited_for_another_is_told(large):
    with closing(Store(large, readonly=False)) as store:
        Index.recode(large, OTHER)
        with pytest.raises(SpaceMismatchError, match="open it again"):
            recode._recode(store, OTHER, 64, None, None)
    with Index.open(large, model=OTHER) as index:
        index.check()


def test_what_is_interrupted_has_changed_nothing(large, encoder):
    before = codes(large, encoder)

    def stop(done: int, _: int) -> None:
        if done > 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.recode(large, OTHER, progress=stop)
    assert codes(large, encoder) == before
    with Index.open(large, model=encoder) as index:
        index.check()


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.edgeret"
        with Index.create(path, model=FakeEncoder(), bits=96) as index:
            vectors = np.random.default_rng(0).normal(size=(count, DIM))
            index.add(Document(str(number), "", {}, vector) for number, vector in enumerate(vectors))
        tracemalloc.start()
        try:
            Index.recode(path, OTHER, bits=64)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(70)
    assert peak(2000) < 1.2 * peak(200)


# -- refusals


def test_what_cannot_be_recoded_is_refused_with_the_remedy(large, encoder, monkeypatch):
    before = large.read_bytes()
    with pytest.raises(SpaceMismatchError, match=r"another geometry.*edgeret reencode"):
        Index.recode(large, FakeEncoder(seed=1))
    with pytest.raises(InvalidQueryError, match="one of 64, 96, got 128"):
        Index.recode(large, OTHER, bits=128)
    with pytest.raises(InvalidQueryError, match="0 seconds or more, got nan"):
        Index.recode(large, OTHER, wait=float("nan"))
    other = FakeEncoder(codec=1)
    other.dim = 64
    with pytest.raises(CorruptIndexError, match="vectors of dim 96 in a geometry of dim 64"):
        Index.recode(large, other)
    with pytest.raises(IndexMissingError):
        Index.recode(large.with_name("missing"), OTHER)
    with Index.open(large, model=encoder) as index, index._store.writing(), pytest.raises(LockedError):
        Index.recode(large, OTHER, wait=0)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ReadOnlyError):
        Index.recode(large, OTHER)
    assert large.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("UPDATE passages SET vector = zeroblob(96) WHERE row = 5", "row 5 is not what was written"),
        ("DELETE FROM passages WHERE row = 5", "the passages of block 0 are not those with a code"),
        ("UPDATE blocks SET live = zeroblob(8) WHERE block = 1", "the passages of block 1"),
        ("DELETE FROM passages WHERE row = 128", "the tail has codes of 1 rows without a passage"),
        ("DELETE FROM tail WHERE row = 128", "the tail lacks codes of 1 passages"),
        ("DELETE FROM blocks WHERE block = 0", "expected 153 passages with a code, found"),
    ],
)
def test_a_damaged_index_is_refused_and_stays_as_it_is(large, encoder, statement, complaint):
    alter(large, statement)
    before = large.read_bytes()
    with pytest.raises(CorruptIndexError, match=complaint):
        Index.recode(large, OTHER)
    assert large.read_bytes() == before


# -- the shell


def test_the_command_recodes(large, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda name: asked.append(name) or OTHER))
    assert main(["recode", str(large), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["passages"], summary["bits"], summary["space"]) == (153, 96, OTHER.space)
    assert main(["recode", str(large), "--model", "mine", "--bits", "64"]) == 0
    assert "bits: 64" in capsys.readouterr().out
    assert asked == ["fake-0", "mine"]
    assert main(["recode", str(large), "--bits", "65"]) == 1
    assert "expected bits to be one of 64, 96, got 65" in capsys.readouterr().err


def test_the_fake_codecs_differ():
    assert (random_codec(0).projection != random_codec(1).projection).any()
