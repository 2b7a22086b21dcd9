"""Few documents of many passages: a search finds all of them, and each is read once, whatever is done with it."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from counts import long
from crash import workload
from damage import lie
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document
from edgeret.errors import BudgetError, CorruptIndexError
from edgeret.storage.rows import Rows

MODES = ("dense", "lexical", "hybrid")
PASSAGES = 20_000
WORDS = [f"word{number}" for number in range(300)]


def book(name: str, passages: int, about: str = "lamp") -> Document:
    """A text of so many passages of four words, each with `about`."""
    rng = np.random.default_rng(len(name))
    lines = [f"{about} {name} {WORDS[a]} {WORDS[b]}" for a, b in rng.integers(len(WORDS), size=(passages, 2))]
    return Document(name, "\n".join(lines), {"kind": "book", "name": name})


def encoder() -> FakeEncoder:
    return FakeEncoder(passage_tokens=4)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    path = tmp_path_factory.mktemp("few") / "one.edgeret"
    with edgeret.Index.create(path, model=encoder(), bits=96) as index:
        index.add([book("atlas", PASSAGES)])
    return path


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three books, then a few notes about something else."""
    path = tmp_path_factory.mktemp("few") / "three.edgeret"
    with edgeret.Index.create(path, model=encoder(), bits=96, filters=["kind"]) as index:
        index.add([book("atlas", 9000), book("bible", 6000), book("comic", 3000)])
        index.add(
            [Document(f"n{number}", f"a note of {WORDS[number]}", {"kind": "note"}) for number in range(5)]
        )
    return path


@pytest.fixture
def reads(monkeypatch):
    """The documents that are read, and the rows, each as often as it is."""
    found: dict[str, list[int]] = {"documents": [], "rows": []}
    document, sources, lines = Rows.document, Rows.sources, Rows.lines

    def noted(self, doc):
        found["documents"].append(doc)
        return document(self, doc)

    def noted_sources(self, docs):
        found["documents"].extend(docs)
        return sources(self, docs)

    def noted_rows(self, rows):
        found["rows"].extend(rows.tolist())
        return lines(self, rows)

    monkeypatch.setattr(Rows, "document", noted)
    monkeypatch.setattr(Rows, "sources", noted_sources)
    monkeypatch.setattr(Rows, "lines", noted_rows)
    return found


def small_budget(path) -> int:
    """Megabytes: the least that the index opens with, and room for the largest book."""
    with pytest.raises(BudgetError) as refusal:
        edgeret.Index.open(path, encoder(), memory_budget=1000, readonly=True)
    found = re.search(r"at least (\d+)MB", str(refusal.value))
    assert found
    return int(found[1]) + 6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [1, 10, 1000])
def test_one_book_is_found_by_the_first_candidates(one, reads, mode, k):
    with edgeret.Index.open(one, encoder(), memory_budget=f"{small_budget(one)}MB", readonly=True) as index:
        found = index.explain("lamp word7", k=k, mode=mode)
    assert [hit.id for hit in found.hits] == ["atlas"]
    assert found.candidates < 1000
    assert len(reads["documents"]) == 1
    assert len(set(reads["rows"])) < 1000


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", ["exact", "partitions"])
def test_all_of_a_few_books_are_found_and_no_row_is_rescored_twice(three, reads, mode, way, tmp_path):
    path = tmp_path / "copy.edgeret"
    path.hardlink_to(three)
    if way == "partitions":
        edgeret.optimize(path)
        reads["rows"].clear()
    with edgeret.Index.open(path, encoder(), memory_budget=f"{small_budget(path)}MB", readonly=True) as index:
        # By words, one that most passages have does not count beside a rarer one.
        hits = index.search("lamp" if mode == "lexical" else "lamp atlas", mode=mode)
        assert len(reads["documents"]) == len(hits)
        if mode != "hybrid":
            # Partitions are not believed: codes of what is shown are compared with the vectors.
            again = len(hits) if way == "partitions" else 0
            assert len(reads["rows"]) - again <= len(set(reads["rows"])) < 1000
        others = index.search("lamp", mode=mode, where={"kind": "book"})
        alone = index.explain("lamp", mode=mode, where={"name": "bible"})
        none = index.search("lamp", mode=mode, where={"kind": "film"})
    # The notes have none of the words.
    assert len(hits) == (3 if mode == "lexical" else 8)
    assert {"atlas", "bible", "comic"} <= {hit.id for hit in hits}
    assert {hit.id for hit in others} == {"atlas", "bible", "comic"}
    assert [hit.id for hit in alone.hits] == ["bible"]
    assert alone.eligible == 6000
    assert none == []
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_many_queries_read_a_book_once(one, reads):
    with edgeret.Index.open(one, encoder(), readonly=True) as index:
        answers = index.search_many([f"lamp {word}" for word in WORDS[:20]])
        assert len(reads["documents"]) == 1
        assert [[hit.id] for (hit,) in answers] == [["atlas"]] * 20
        answers[0][0].metadata["name"] = "changed"
        assert answers[1][0].metadata["name"] == "atlas"
        assert index.search(f"lamp {WORDS[3]}")[0].text == answers[3][0].text


def test_found_passages_are_the_best_ones_of_their_documents(tmp_path):
    """Beside an exact search over all vectors: with enough candidates, masking changes nothing."""
    rng = np.random.default_rng(2)
    fake = encoder()
    documents = [book(f"d{number}", int(count)) for number, count in enumerate(rng.integers(1, 400, size=12))]
    with edgeret.Index.create(tmp_path / "a.edgeret", model=fake, bits=96) as index:
        index.add(documents)
        for query in ("lamp d3 word1 word2", "word5 word6", "d11"):
            vector = fake.encode([query])[0]
            exact = {}
            for document in documents:
                scores = fake.encode(document.text.split("\n")) @ vector
                exact[document.id] = scores.max()
            hits = index.search(query, k=12, mode="dense", oversample=20)
            assert {hit.id for hit in hits} == exact.keys()
            for hit in hits[:3]:
                assert hit.score == pytest.approx(exact[hit.id], abs=0.02)


def test_a_book_is_read_once_when_it_is_replaced_deleted_and_moved(path, reads, monkeypatch):
    for change in workload.shrink_blocks():
        monkeypatch.setattr(*change)
    block = workload.SMALL_BLOCK
    with edgeret.Index.create(path, model=encoder(), bits=96) as index:
        index.add([book("gone", 10 * block - 9), book("atlas", 6 * block), book("bible", block)])
        index.add([Document("gone", "lamp gone", {})])
        index.check()
        index.delete(["gone"])
        reads["documents"].clear()
        # Of the block where it begins nine rows are left: they move.
        index.compact()
        assert len(reads["documents"]) == 1
        index.check()
        assert {hit.id for hit in index.search("lamp word1")} == {"atlas", "bible"}
        assert len(index.search("atlas bible", mode="lexical")) == 2
        assert index.delete(["atlas", "bible"]) == 2
        assert index.search("lamp word1") == []
        index.check()


@long
def test_a_check_of_one_book_takes_no_longer_than_its_passages(one, tmp_path):
    def seconds(path: Path) -> float:
        with edgeret.Index.open(path, encoder()) as index:
            begun = time.process_time()
            index.check()
            return time.process_time() - begun

    quarter = tmp_path / "quarter.edgeret"
    with edgeret.Index.create(quarter, model=encoder(), bits=96) as index:
        index.add([book("atlas", PASSAGES // 4)])
    # A text read once for each passage: thirteen times as long.
    assert seconds(one) < 9 * seconds(quarter)


@pytest.mark.parametrize("passages", [3, 40])
def test_a_word_that_no_passage_of_a_book_has_is_damage(path, passages):
    with edgeret.Index.create(path, model=encoder(), bits=96) as index:
        index.add([book("atlas", passages), book("note", 1)])
        index.check()
        lie(index._store.connection, 2, "lamp atlas word1 strange")
        with pytest.raises(CorruptIndexError):
            index.check()


def test_an_index_of_passages_that_lacks_some_is_told(three, tmp_path, monkeypatch):
    with edgeret.Index.open(three, encoder(), readonly=True) as index:
        monkeypatch.setattr(Rows, "rows_of", lambda self, docs: {})
        with pytest.raises(CorruptIndexError, match="lacks some"):
            index.search("lamp atlas")


def test_a_vector_is_no_text(one):
    with edgeret.Index.open(one, encoder(), readonly=True) as index:
        assert [hit.id for hit in index.search(np.ones(DIM, dtype=np.float32))] == ["atlas"]
