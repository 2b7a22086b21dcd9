"""Words in an index: after any history they are those of a fresh index of the same documents."""

import random
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from counts import CI, long, tries
from crash import workload
from damage import describe
from fake import DIM, FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeret
from edgeret import Document, Index
from edgeret.errors import CorruptIndexError
from edgeret.storage import lexicon, vocabulary
from edgeret.storage.lexicon import Lexicon
from edgeret.storage.store import Store

COMMON = ["red", "blue", "cat", "dog", "runs", "sleeps"]
QUERIES = ["red cat", "w3 w17 w40 dogs", "runs running run", "東京 w5", "nothing", "京", "Sentence w9", "a"]


@pytest.fixture
def small(monkeypatch):
    """Blocks of 64 rows, tails of 12, and merges of a few pages at a time."""
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    monkeypatch.setattr(lexicon, "TAIL_ROWS", 12)
    monkeypatch.setattr(vocabulary, "_STEP_OCTETS", 500)
    monkeypatch.setattr(vocabulary, "PENDING_BYTES", 9000)


def documents(seed: int, count: int) -> list[Document]:
    """Documents of which some are there already, some long, some mute."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        words = [*rng.choices(COMMON, k=rng.randint(0, 6)), *(f"w{rng.randint(0, 60)}" for _ in range(3))]
        if rng.random() < 0.1:
            words.append("東京タワー")
        text = " ".join(rng.sample(words, len(words)))
        if rng.random() < 0.1:
            text = " ".join(
                f"Sentence {part} of {text} is long enough." for part in range(rng.randint(2, 40))
            )
        vector = np.random.default_rng(seed).normal(size=DIM) if rng.random() < 0.2 else None
        made.append(Document(f"d{rng.randint(0, 150)}", text, {"n": rng.randint(0, 5)}, vector))
    return made


def scores(path: Path) -> list[object]:
    """For each query the integer score of every passage that has a word of it, and what counts."""
    found: list[object] = []
    with closing(Store(path, readonly=True)) as store, store.reading():
        held = Lexicon(store.connection).summary()
        found.append((held.rows, held.length))
        passages = {passage.row: passage for passage in store.rows.each()}
        every = np.array(sorted(passages), np.int64)
        for query in QUERIES:
            match = store.lexicon.search(query, 10**6, must_rows=every)
            named = {}
            for row, score in zip(match.rows, match.scores, strict=True):
                passage = passages[row]
                named[store.rows.document(passage.doc).id, passage.start, passage.end] = score
            assert [score for score in match.must_scores if score] == [
                score for _, score in sorted(zip(match.rows, match.scores, strict=True)) if score
            ]
            found.append(named)
    return found


class History:
    """An index to which things happen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "index"
        self.encoder = FakeEncoder()
        self.held: dict[str, Document] = {}
        Index.create(self.path, self.encoder, bits=96, filters=["n"]).close()

    def step(self, verb: str, seed: int) -> None:
        """Do one thing."""
        rng = random.Random(seed)
        if verb in ("recode", "reencode", "update", "repair", "upgrade", "seal"):
            getattr(self, f"_{verb}")(seed)
            return
        with Index.open(self.path, self.encoder) as index:
            if verb == "add":
                made = documents(seed, rng.choice([1, 3, 30, 120]))
                index.add(made, commit_every=rng.choice([None, 1, 7]) if len(made) < 120 else None)
                self.held |= {document.id: document for document in made}
            elif verb == "compact":
                index.compact()
            elif verb == "metadata":
                changed = rng.sample(sorted(self.held), len(self.held) // 2)
                assert index.update_many((id, {"n": seed}) for id in changed) == len(changed)
            else:
                gone = rng.sample(sorted(self.held), min(len(self.held), rng.choice([1, 5, 40])))
                index.delete(gone, erase=verb == "erase")
                for identity in gone:
                    del self.held[identity]

    def _recode(self, seed: int) -> None:
        edgeret.recode(self.path, self.encoder, bits=[64, 96][seed % 2])

    def _reencode(self, seed: int) -> None:
        other = FakeEncoder()
        other.name = f"fake-{seed}"
        edgeret.reencode(self.path, other)

    def _update(self, seed: int) -> None:
        """As a device that gets the changes of another."""
        other, update = self.folder / "other", self.folder / "update"
        shutil.copy(self.path, other)
        here, self.path = self.path, other
        self.step("add", seed)
        self.step("delete", seed + 1)
        self.path = here
        with update.open("wb") as file:
            edgeret.diff(here, other, file)
        edgeret.apply(here, update, self.encoder)
        other.unlink()

    def _seal(self, seed: int) -> None:
        with Index.open(self.path, self.encoder) as index:
            index.seal(self.folder / "sealed")
        self.path.unlink()
        (self.folder / "sealed").rename(self.path)

    def _repair(self, seed: int) -> None:
        if not self.held:
            return
        edgeret.repair(self.path, self.folder / "repaired", self.encoder)
        self.path.unlink()
        (self.folder / "repaired").rename(self.path)

    def _upgrade(self, seed: int) -> None:
        describe(self.path, tokenizer="0")
        edgeret.upgrade(self.path)

    def compare(self) -> None:
        """With a fresh index, and with itself."""
        with Index.open(self.path, self.encoder) as index:
            assert index.check().documents == len(self.held)
            fresh = self.folder / "fresh"
            with Index.create(fresh, self.encoder, bits=index.info().bits, filters=["n"]) as other:
                other.add([index.get(identity) for identity in self.held])
        assert scores(self.path) == scores(fresh)
        fresh.unlink()


VERBS = (
    "add",
    "add",
    "add",
    "delete",
    "erase",
    "compact",
    "metadata",
    "recode",
    "reencode",
    "update",
    "seal",
    "repair",
    "upgrade",
)


@settings(max_examples=tries(12))
@given(st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 10**6)), min_size=1, max_size=7))
def test_after_any_history_scores_are_those_of_a_fresh_index(tmp_path_factory, steps):
    with pytest.MonkeyPatch.context() as patch:
        for change in workload.shrink_blocks():
            patch.setattr(*change)
        patch.setattr(lexicon, "TAIL_ROWS", 12)
        patch.setattr(vocabulary, "_STEP_OCTETS", 500)
        patch.setattr(vocabulary, "PENDING_BYTES", 9000)
        history = History(tmp_path_factory.mktemp("history"))
        for verb, seed in steps:
            history.step(verb, seed)
        history.compare()


def test_a_history_of_every_verb(tmp_path, small):
    history = History(tmp_path)
    for seed, verb in enumerate([*VERBS, *reversed(VERBS), *VERBS[3:]]):
        history.step(verb, seed)
        if CI or seed % 4 == 0:
            history.compare()
    history.compare()


def test_a_reader_sees_the_words_of_its_own_commit(tmp_path, small):
    history = History(tmp_path)
    history.step("add", 1)

    def asked(store: Store) -> list[object]:
        return [[part.tolist() for part in store.lexicon.search(query, 50)[:2]] for query in QUERIES]

    with Index.open(history.path, history.encoder, readonly=True) as reader:
        for seed in range(2, 20):
            with closing(Store(history.path, readonly=True)) as store, store.reading():
                before = asked(store)
                # A reader that goes on prevents `erase`.
                history.step(("add", "delete")[seed % 2], seed)
                assert asked(store) == before
            for query in QUERIES:
                # Connections that have seen earlier commits, and one that has not.
                live = {hit.id for hit in reader.search(query, k=200, mode="lexical")}
                with Index.open(history.path, history.encoder, readonly=True) as other:
                    assert {hit.id for hit in other.search(query, k=200, mode="lexical")} == live
                assert live <= set(history.held)


def test_filters_and_hidden_documents_are_masks(tmp_path, small):
    history = History(tmp_path)
    for seed in range(4):
        history.step("add", seed)
    with Index.open(history.path, history.encoder) as index:
        every = {hit.id: hit for hit in index.search("red cat", k=200, mode="lexical")}
        for year in range(6):
            expected = {i: hit.score for i, hit in every.items() if hit.metadata["n"] == year}
            found = index.search("red cat", k=200, mode="lexical", where={"n": year})
            assert {hit.id: hit.score for hit in found} == expected


@long
def test_a_commit_writes_no_more_than_its_share(tmp_path, monkeypatch):
    """Of the lexicon 4 times its own bytes and 8 MB at most, here a small part of those; yet segments stay few."""
    written = [0]
    merged, flushed = Lexicon._step, Lexicon.flush

    def step(*arguments):
        written[-1] += (octets := merged(*arguments))
        return octets

    def flush(*arguments, **more):
        written[-1] += (octets := flushed(*arguments, **more))
        return octets

    monkeypatch.setattr(Lexicon, "_step", step)
    monkeypatch.setattr(Lexicon, "flush", flush)
    vector, rng = np.ones(DIM), random.Random(0)
    with Index.create(tmp_path / "index", FakeEncoder(), bits=64) as index:
        for count in [1500] * 6 + [1] * 150:
            made = [
                Document(
                    None, " ".join(f"w{int(rng.paretovariate(0.4)) % 20_000}" for _ in range(20)), {}, vector
                )
                for _ in range(count)
            ]
            written.append(0)
            index.add(made)
            own = sum(len(document.text) + DIM for document in made)
            assert written[-1] <= 4 * own + 1_200_000
            # What makes most of all there is leaves one.
            assert len(written) > 2 or index._store.lexicon.summary().segments == 1
        assert index._store.lexicon.summary().segments <= 5
        assert index.check().lexicon == "verified"
    assert sum(written) < 12 * written[1] * 6


def test_words_that_stand_elsewhere_are_damage(tmp_path):
    history = History(tmp_path)
    history.step("add", 1)
    with Index.open(history.path, history.encoder) as index:
        index._store.connection.execute("UPDATE lexicon_segments SET octets = octets + 1")
        index._store.connection.execute("UPDATE lexicon_state SET rows = rows + 1")
        with pytest.raises(CorruptIndexError, match="its lexicon: its counters are not what was written"):
            index.check()
        with pytest.raises(CorruptIndexError, match="its lexicon"):
            index.search("red", mode="lexical")
        assert index.search("red", mode="dense")
