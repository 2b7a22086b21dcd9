"""The lexicon in its file: after any history it finds what a fresh one finds, and damage is named."""

from __future__ import annotations

import contextlib
import gzip
import json
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from counts import CI, tries
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret import blocks, bm25, postings, words
from edgeret.blocks import BLOCK_ROWS
from edgeret.errors import CorruptIndexError, InvalidQueryError
from edgeret.storage import lexicon, terms
from edgeret.storage.checksum import checksum
from edgeret.storage.lexicon import Lexicon
from edgeret.words import Wanted

ROOT = Path(__file__).parent.parent
COLLECTIONS = ROOT.parent / "shared" / "collections"


@pytest.fixture(params=["native", "numpy"])
def build(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
    elif postings._postings is None:
        pytest.skip("this edgeret is built without its native postings")


def made() -> Lexicon:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    lexicon.create(connection)
    return Lexicon(connection)


@pytest.fixture
def opened() -> Iterator[Lexicon]:
    found = made()
    yield found
    found.connection.close()


@pytest.fixture
def small(monkeypatch):
    """So small that few rows make segments, pages, lists outside of pages and steps."""
    make_small(monkeypatch)


def make_small(patch) -> None:
    patch.setattr(lexicon, "TAIL_ROWS", 3)
    patch.setattr(lexicon, "STEP_OCTETS", 300)
    patch.setattr(lexicon, "_PENDING_ROWS", 9)
    patch.setattr(terms, "_PAGE_OCTETS", 110)
    patch.setattr(terms, "_INLINE_OCTETS", 24)
    patch.setattr(terms, "_LIST_OCTETS", 60)
    patch.setattr(terms, "_PAGES_AT_ONCE", (6, 6))
    patch.setattr(terms, "_PIECE", 10)


def mask_of(rows) -> dict[int, np.ndarray]:
    mask: dict[int, np.ndarray] = {}
    for row in rows:
        blocks.choose(mask.setdefault(row // BLOCK_ROWS, blocks.empty()), np.array([row % BLOCK_ROWS]))
    return mask


def wanted(text: str) -> list[Wanted]:
    return [Wanted(word.removesuffix("*"), word.endswith("*")) for word in text.split()]


def fill(target: Lexicon, texts: dict[int, str]) -> None:
    for row, text in texts.items():
        target.add(row, text.split())
    target.flush()


TEXTS = {3: "a lamp turns red", 5: "the red lamp", 9: "the wifi button", 20: "red red red paint"}


def test_rows_are_found_best_first(build, opened):
    fill(opened, TEXTS)
    found = opened.search(wanted("red lamp"), 10)
    assert found.rows.tolist() == [5, 3, 20]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert [(word.term, word.rows) for word in found.words] == [("red", 3), ("lamp", 2)]
    assert found.most == bm25.IMPACT * max(bm25.weight(2, 4) + bm25.weight(3, 4), bm25.least(4))
    assert 0 < found.scores[0] < found.most


def test_scores_are_bm25(build, opened):
    """In floats, by the book: k1 = 1.2, b = .75."""
    fill(opened, TEXTS)
    split = {row: text.split() for row, text in TEXTS.items()}
    average = sum(map(len, split.values())) / len(split)
    query = ["red", "lamp", "paint", "absent"]

    def score(own: list[str]) -> float:
        total = 0.0
        for word in query:
            rows = sum(word in other for other in split.values())
            idf = np.log(1 + (len(split) - rows + 0.5) / (rows + 0.5))
            count = own.count(word)
            total += idf * count / (count + 1.2 * (0.25 + 0.75 * len(own) / average))
        return total

    found = opened.search(wanted(" ".join(query)), 10)
    assert found.rows.tolist() == sorted(
        (row for row in split if score(split[row]) > 0), key=lambda row: -score(split[row])
    )
    for row, own in zip(found.rows.tolist(), found.scores.tolist(), strict=True):
        assert own / bm25.WEIGHT / bm25.IMPACT == pytest.approx(score(split[row]), rel=0.01)


def test_words_in_many_rows_do_not_count_while_others_do(opened, monkeypatch):
    monkeypatch.setattr(lexicon, "COMMON_ROWS", 12)
    fill(opened, {row: "the lamp" if row % 4 else "the red lamp" for row in range(40)})
    found = opened.search(wanted("the red lamp"), 40)
    assert found.rows.tolist() == list(range(0, 40, 4))
    assert [word.weight > 0 for word in found.words] == [False, True, False]
    assert len(opened.search(wanted("the lamp absent"), 40).rows) == 40
    monkeypatch.setattr(lexicon, "COMMON_ROWS", 40)
    assert len(opened.search(wanted("the red lamp"), 40).rows) == 40


def test_a_word_that_is_too_common_is_read_no_further(opened, monkeypatch):
    monkeypatch.setattr(lexicon, "COMMON_ROWS", 12)
    texts = {row: f"the w{row % 50}" for row in range(130)}
    for first, end in ((0, 100), (100, 120), (120, 130)):
        fill(opened, {row: texts[row] for row in range(first, end)})
        if end < 130:
            opened.flush(seal=True)
    opened.remove(7, texts.pop(7).split())
    opened.flush()
    live, found = mask_of(texts), opened.search(wanted("the w3"), 200, mask_of(texts))
    assert [(word.rows, word.weight > 0) for word in found.words] == [(99, False), (3, True)]
    assert found.reads.runs == opened.search(wanted("w3"), 200, live).reads.runs + 1 == 3
    alone = opened.search(wanted("the absent"), 200, live)
    assert [word.rows for word in alone.words] == [129, 0]
    assert alone.rows.tolist() == sorted(texts)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_left_out_changes_no_score(small, opened, monkeypatch, seed):
    monkeypatch.setattr(lexicon, "COMMON_ROWS", 3)
    monkeypatch.setattr(lexicon, "COMMON", 0.3)
    rng = np.random.default_rng(seed)
    texts = {row: [f"w{number}" for number in (9 * rng.random(5) ** 3).astype(int)] for row in range(200)}
    for row, own in list(texts.items()):
        opened.add(row, own)
        if rng.random() < 0.02 * seed:
            gone = int(rng.choice(sorted(texts)))
            if gone <= row:
                opened.remove(gone, texts.pop(gone))
        if row % 25 == 24 or row == 190:
            opened.flush(seal=True)
    queries = [wanted(" ".join(f"w{number}" for number in rng.integers(0, 9, 4))) for _ in range(20)]
    live, order = mask_of(texts), np.array(sorted(texts))
    before = [opened.search(query, 30, live, order) for query in queries]
    opened.rewrite(live)
    for query, mine in zip(queries, before, strict=True):
        its = opened.search(query, 30, live, order)
        assert mine.rows.tolist() == its.rows.tolist()
        assert mine.must_scores.tolist() == its.must_scores.tolist()
        assert (mine.most, mine.evidence) == (its.most, its.evidence)
        assert [(word.term, word.weight) for word in mine.words] == [
            (word.term, word.weight) for word in its.words
        ]
        assert all(
            one.rows == other.rows or (one.rows <= other.rows and not one.weight)
            for one, other in zip(mine.words, its.words, strict=True)
        )


def test_only_the_rarest_words_count(opened):
    fill(opened, {row: " ".join(f"w{number}" for number in range(row, 40)) for row in range(100)})
    found = opened.search(wanted(" ".join(f"w{number}" for number in range(40))), 3)
    counted = [word.term for word in found.words if word.weight]
    assert counted == [f"w{number}" for number in range(lexicon.MAX_WORDS)]


def test_a_word_that_a_query_repeats_counts_again(build, opened):
    fill(opened, TEXTS)
    once = opened.search(wanted("red lamp"), 10)
    twice = opened.search(wanted("red lamp red"), 10)
    (lone,) = opened.search(wanted("red"), 1, must_rows=once.rows).must_scores[None]
    assert twice.words[0].weight == 2 * once.words[0].weight
    assert twice.words[1] == once.words[1]
    assert twice.must_scores.tolist() == []
    assert dict(zip(twice.rows.tolist(), twice.scores.tolist(), strict=True)) == {
        row: score + own
        for row, score, own in zip(once.rows.tolist(), once.scores.tolist(), lone.tolist(), strict=True)
    }
    assert twice.scores[0] <= twice.most
    many = opened.search(wanted("red " * 2000), 10)
    assert many.words[0].weight == lexicon.MAX_TIMES * once.words[0].weight


def test_rows_that_must_be_scored_are(build, opened):
    fill(opened, TEXTS)
    everything = opened.search(wanted("red lamp"), 10)
    scores = dict(zip(everything.rows.tolist(), everything.scores.tolist(), strict=True))
    found = opened.search(wanted("red lamp"), 1, {}, np.array([20, 9, 3, 3, 77]))
    assert found.rows.tolist() == []
    assert found.must_scores.tolist() == [scores[20], 0, scores[3], scores[3], 0]


def test_a_prefix_finds_what_begins_with_it(build, small, opened):
    fill(opened, {row: f"word{row % 70:02d} wo{row % 3}" for row in range(300)})
    fill(opened, {300: "work", 301: "worm work"})
    found = opened.search(wanted("wor*"), 400)
    # Of 72 terms, the 64 that most rows have.
    assert found.words[0].rows == len(found.rows) == 20 * 5 + 44 * 4
    assert not {300, 301} & set(found.rows.tolist())
    assert opened.search(wanted("work*"), 9).rows.tolist() == [300, 301]
    assert opened.search(wanted("worx*"), 9).rows.tolist() == []
    both = opened.search(wanted("wor* wo1"), 400)
    assert both.scores.max() <= both.most


def test_of_many_prefixes_the_last_are_looked_for(build, opened, monkeypatch):
    """Each is a scan of its own: a query of a thousand single Han characters took seconds, and megabytes."""
    fill(opened, {row: f"a{row:02d}x" for row in range(60)})
    looked = []
    real = lexicon._Reading._expanded
    monkeypatch.setattr(
        lexicon._Reading, "_expanded", lambda self, wanted: looked.append(wanted) or real(self, wanted)
    )
    found = opened.search(wanted(" ".join(f"a{row:02d}*" for row in range(60))), 100)
    assert len(looked) == lexicon.MAX_WORDS
    assert found.rows.tolist() == [*range(60 - lexicon.MAX_WORDS, 60)]


def test_a_row_with_several_expansions_counts_the_best_of_them(build, opened):
    fill(opened, {0: "lamp lamps", 1: "lamp other", 2: "none here"})
    scores = opened.search(wanted("lamp*"), 3).scores.tolist()
    assert scores[0] == scores[1]


def test_rows_must_ascend(opened):
    fill(opened, TEXTS)
    opened.add(20, ["x"])
    with pytest.raises(InvalidQueryError, match="ascend"):
        opened.flush()


def test_a_commit_of_one_row_writes_little(opened):
    fill(opened, {row: f"some words of row {row}" for row in range(1000)})
    opened.add(1000, ["one", "more", "row"])
    assert opened.flush() < 60
    assert opened.summary().tail == 1


def test_a_million_small_commits_would_end_in_few_segments(opened):
    most = 0
    for row in range(3000):
        opened.add(row, [f"w{row % 50}", "common", f"x{row % 7}"])
        opened.flush()
        opened.merge(None)
        most = max(most, opened.summary().segments)
    assert most <= 4
    opened.verify(lambda: ((row, [f"w{row % 50}", "common", f"x{row % 7}"]) for row in range(3000)))


def test_no_more_than_three_segments_stay(opened):
    for first, end in pairwise([0, 3000, 3500, 3580, 3592]):
        for row in range(first, end):
            opened.add(row, [f"w{row}", f"x{row}"])
        opened.flush(seal=True)
    assert [segment.first_row for segment in opened._segments()] == [0, 3000, 3500, 3580]
    assert not opened.is_due(fewest=3)
    opened.merge(None, 1 << 20)
    assert [segment.first_row for segment in opened._segments()] == [0, 3000, 3500]


@pytest.mark.parametrize("rows", [1000, 1500, 1700, 2000, 4000])
def test_the_longest_term_fits_a_page_with_its_list(opened, rows):
    term = "\U00020000" * 64
    for row in range(0, 4 * rows, 4):
        opened.add(row, [term, "\U00020001" * 64, f"w{row}"])
    opened.flush(seal=True)
    for first, entries in opened.connection.execute("SELECT first, entries FROM lexicon_terms"):
        assert len(first) + len(entries) <= 4000
    assert opened.search(wanted(term), 3).words[0].rows == rows
    opened.verify(lambda: ((row, [term, "\U00020001" * 64, f"w{row}"]) for row in range(0, 4 * rows, 4)))


def test_a_step_of_merging_is_bounded(small, opened):
    rng = np.random.default_rng(0)
    texts = {row: [f"w{number}" for number in rng.integers(0, 200, 6)] for row in range(400)}
    for row, own in texts.items():
        opened.add(row, own)
        if row % 40 == 39:
            opened.flush(seal=True)
    steps = 1
    before = opened.connection.total_changes
    while opened.merge(None, 300):
        steps += 1
        changed = opened.connection.total_changes - before
        assert changed < 200
        if CI or steps % 8 == 0:
            opened.verify(texts.items)
        before = opened.connection.total_changes
    assert steps > 5
    assert opened.summary().segments == 1
    opened.verify(texts.items)


@pytest.mark.parametrize("moved", [200, 600, 1200])
def test_a_rewrite_takes_over_a_merge_that_is_under_way(small, opened, moved):
    """Of its segments more terms may have moved than the first step of the rewrite takes."""
    rng = np.random.default_rng(moved)
    texts = {row: [f"w{number}" for number in rng.integers(0, 200, 6)] for row in range(400)}
    for row, own in texts.items():
        opened.add(row, own)
        if row % 40 == 39:
            opened.flush(seal=True)
    assert opened.merge(None, moved)
    opened.rewrite(None)
    opened.verify(texts.items)
    assert opened.summary().segments == 1


def test_what_is_removed_leaves_the_file_when_it_is_rewritten(tmp_path, small):
    path = tmp_path / "lexicon"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA secure_delete = ON")
    lexicon.create(connection)
    found = Lexicon(connection)
    fill(found, {row: f"kept{row % 5} all" for row in range(30)})
    fill(found, {30: "secret all"})
    found.flush(seal=True)
    found.remove(30, ["secret", "all"])
    found.flush()
    assert b"secret" in path.read_bytes()
    assert found.search(wanted("all"), 99).words[0].rows == 30
    found.rewrite(mask_of(range(30)))
    # What SQLite moved within a page may leave a trace there, as everywhere in the file: an erasure ends with this.
    connection.execute("VACUUM")
    assert b"secret" not in path.read_bytes()
    assert found.summary().segments == 1
    found.verify(lambda: ((row, [f"kept{row % 5}", "all"]) for row in range(30)))
    connection.close()


def test_what_is_read_is_counted(opened):
    fill(opened, {row: f"word{row % 9} of many" for row in range(500)})
    opened.flush(seal=True)
    fill(opened, {500: "word1 again"})
    query = wanted("word1 absent")
    first, again = opened.search(query, 9).reads, opened.search(query, 9).reads
    assert again.runs == 1
    assert first.runs == again.runs + 1
    assert 4000 > again.octets > 500 / 9
    assert first.octets > again.octets


def test_a_cached_tail_is_not_that_of_another_history(opened):
    fill(opened, TEXTS)
    opened.connection.execute("BEGIN")
    fill(opened, {30: "blue lamp"})
    assert opened.search(wanted("blue"), 9).rows.tolist() == [30]
    opened.connection.execute("ROLLBACK")
    opened.forget()
    assert opened.search(wanted("blue"), 9).rows.tolist() == []
    fill(opened, {30: "green lamp"})
    assert opened.search(wanted("blue"), 9).rows.tolist() == []
    assert opened.search(wanted("green"), 9).rows.tolist() == [30]


# -- any history


WORDS = st.lists(st.sampled_from(["a", "b", "c", "cc", "ccc", "rare", "d1", "d2", "ü", "e"]), max_size=9)
QUERIES = [wanted(text) for text in ("a", "a b c", "rare e ü", "c* a", "zz d*", "ü cc a b")]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(WORDS, min_size=1, max_size=12), st.sampled_from([1, 1, 1, 5000])),
        st.tuples(st.just("delete"), st.integers(0, 99), st.integers(1, 9)),
        st.tuples(st.just("replace"), st.integers(0, 99), WORDS),
        st.tuples(st.just("merge"), st.integers(1, 300), st.booleans(), st.sampled_from([2, 2, 4])),
        st.tuples(st.sampled_from(["seal", "rewrite", "move", "reopen", "roll back", "clear"])),
    ),
    max_size=25,
)


class History:
    """A lexicon to which things happen, and what it should hold: row -> words."""

    def __init__(self) -> None:
        self.lexicon = made()
        self.texts: dict[int, list[str]] = {}
        self.next_row = BLOCK_ROWS - 20

    def commit(self, seal: bool = False) -> None:
        self.lexicon.flush(seal)

    def add(self, texts: list[list[str]], gap: int) -> None:
        for own in texts:
            self.lexicon.add(self.next_row, own)
            self.texts[self.next_row] = own
            self.next_row += 1
        self.commit()
        self.next_row += gap - 1

    def delete(self, which: int, count: int) -> None:
        for row in list(self.texts)[which % (len(self.texts) + 1) :][:count]:
            self.lexicon.remove(row, self.texts.pop(row))
        self.commit()

    def replace(self, which: int, own: list[str]) -> None:
        rows = list(self.texts)
        if rows:
            # Twice: the second one takes out what is not written yet.
            old = rows[which % len(rows)]
            self.lexicon.remove(old, self.texts.pop(old))
            self.lexicon.add(self.next_row, ["passing", *own])
            self.lexicon.remove(self.next_row, ["passing", *own])
            self.next_row += 1
        self.add([own], 1)

    def merge(self, octets: int, keeps_dead: bool = False, fewest: int = 2) -> None:
        self.lexicon.merge(None if keeps_dead else mask_of(self.texts), octets, fewest)

    def seal(self) -> None:
        self.commit(seal=True)

    def rewrite(self) -> None:
        self.lexicon.rewrite(mask_of(self.texts))
        assert self.lexicon.summary().segments <= 1
        pages = self.lexicon.connection.execute("SELECT entries FROM lexicon_terms").fetchall()
        named = {
            name.decode()
            for (page,) in pages
            for name in terms.parse(page, AssertionError).names.split(b"\n")
        }
        assert named == {word for own in self.texts.values() for word in own}

    def move(self) -> None:
        """As `compact` does with sparse blocks."""
        moved = [(row, self.texts[row]) for row in list(self.texts)[::2]]
        for row, own in moved:
            self.lexicon.remove(row, own)
            del self.texts[row]
        self.add([own for _, own in moved], 1)

    def reopen(self) -> None:
        self.lexicon = Lexicon(self.lexicon.connection)

    def roll_back(self) -> None:
        connection = self.lexicon.connection
        connection.execute("BEGIN")
        self.lexicon.add(self.next_row, ["a", "rare"])
        if self.texts:
            row = next(iter(self.texts))
            self.lexicon.remove(row, self.texts[row])
        self.lexicon.flush(seal=True)
        self.lexicon.merge(None, 100)
        connection.execute("ROLLBACK")
        self.lexicon.forget()

    def clear(self) -> None:
        self.lexicon.clear()
        self.texts = {}

    def check(self) -> None:
        fresh = made()
        order = sorted(self.texts)
        for number, row in enumerate(order):
            fresh.add(number, self.texts[row])
        fresh.flush()
        numbers = {row: number for number, row in enumerate(order)}
        live = mask_of(order)
        for query in QUERIES:
            for k in (2, 1000):
                mine = self.lexicon.search(query, k, live, np.array(order, np.int64))
                its = fresh.search(query, k, None, np.arange(len(order)))
                assert [numbers[row] for row in mine.rows.tolist()] == its.rows.tolist()
                assert mine.scores.tolist() == its.scores.tolist()
                assert mine.must_scores.tolist() == its.must_scores.tolist()
                assert (mine.most, mine.words) == (its.most, its.words)
        self.lexicon.verify(lambda: ((row, self.texts[row]) for row in order))
        fresh.connection.close()


@settings(max_examples=tries(150))
@given(STEPS)
def test_after_any_history_scores_are_those_of_a_fresh_lexicon(steps):
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        history = History()
        for name, *arguments in steps:
            getattr(history, name.replace(" ", "_"))(*arguments)
        history.check()
        history.lexicon.connection.close()


def test_the_twin_makes_the_same_tables(monkeypatch, small):
    if postings._postings is None:
        pytest.skip("this edgeret is built without its native postings")
    dumps = []
    for without in ("0", "1"):
        monkeypatch.setenv("EDGERET_NO_NATIVE", without)
        history = History()
        rng = np.random.default_rng(1)
        for _ in range(8):
            history.add([[f"w{number}" for number in rng.integers(0, 30, 7)] for _ in range(11)], 3000)
            history.delete(5, 3)
            history.merge(200)
        history.check()
        dumps.append(list(history.lexicon.connection.iterdump()))
        history.lexicon.connection.close()
    assert dumps[0] == dumps[1]


# -- damage


@pytest.fixture
def filled(small, opened) -> Lexicon:
    rng = np.random.default_rng(2)
    for row in range(120):
        opened.add(row, texts_of(rng))
    opened.flush(seal=True)
    for row in range(120, 180):
        opened.add(row, texts_of(rng))
    opened.flush(seal=True)
    opened.add(180, ["tail", "words"])
    opened.flush()
    return opened


def texts_of(rng) -> list[str]:
    return [f"w{int(number)}" for number in rng.zipf(1.3, 6) if number < 80] or ["w1"]


def contents(found: Lexicon) -> list[tuple[int, list[str]]]:
    rng = np.random.default_rng(2)
    return [*((row, texts_of(rng)) for row in range(180)), (180, ["tail", "words"])]


def test_a_sound_lexicon_is_verified(filled):
    filled.verify(lambda: contents(filled))


DAMAGE = {
    "counters": "UPDATE lexicon_state SET rows = rows + 1",
    "no counters": "DELETE FROM lexicon_state",
    "a page": "UPDATE lexicon_terms SET entries = zeroblob(length(entries)) WHERE page % 3 = 1",
    "a page's place": "UPDATE lexicon_terms SET page = page + 100 WHERE page % 3 = 1",
    "a page's first term": "UPDATE lexicon_terms SET first = x'00' WHERE page % 3 = 1",
    "no page": "DELETE FROM lexicon_terms WHERE page % 3 = 1",
    "a list": "UPDATE lexicon_lists SET rows = x'0005' WHERE list % 3 = 1",
    "no list": "DELETE FROM lexicon_lists WHERE list % 3 = 1",
    "a segment": "UPDATE lexicon_segments SET octets = 1",
    "no segment": "DELETE FROM lexicon_segments WHERE segment = 1",
    "a segment's type": "UPDATE lexicon_segments SET begins = 'text'",
    "the tail": "UPDATE lexicon_tail SET words = x'00'",
    "no tail": "DELETE FROM lexicon_tail",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(filled, statement):
    filled.connection.execute(statement)
    fresh = Lexicon(filled.connection)
    with pytest.raises(CorruptIndexError, match="the lexicon is damaged"):
        fresh.verify(lambda: contents(filled))
    with contextlib.suppress(CorruptIndexError):
        for number in range(80):
            fresh.search([Wanted(f"w{number}"), Wanted("w1", True), Wanted("tail")], 5)


FORGED = {
    "lexicon_terms": ("page", "entries"),
    "lexicon_lists": ("list", "rows"),
    "lexicon_tail": ("entry", "words"),
}


@pytest.mark.parametrize("table", FORGED)
@pytest.mark.parametrize("seed", range(tries(40)))
def test_content_that_somebody_forged_is_named_or_found(filled, table, seed):
    """With checksums that hold: nothing but CorruptIndexError comes of it, and nothing runs for ever."""
    rng = np.random.default_rng(seed)
    key, column = FORGED[table]
    rows = filled.connection.execute(f"SELECT {key}, {column} FROM {table}").fetchall()
    for number, content in rows:
        forged = bytearray(content)
        for _ in range(int(rng.integers(0, 4))):
            place = (
                int(rng.integers(len(forged)))
                if rng.random() < 0.7
                else int(rng.integers(min(9, len(forged))))
            )
            forged[place] = int(rng.integers(256))
        if rng.random() < 0.1:
            del forged[int(rng.integers(len(forged))) :]
        filled.connection.execute(
            f"UPDATE {table} SET {column} = ?, crc = ? WHERE {key} = ?",
            (bytes(forged), checksum(number, content=bytes(forged)), number),
        )
    fresh = Lexicon(filled.connection)

    def search() -> None:
        for number in range(80):
            fresh.search(
                [Wanted(f"w{number}"), Wanted("w1", True), Wanted("tail")], 5, None, np.array([3, 99])
            )

    for work in (search, lambda: fresh.verify(lambda: contents(filled)), lambda: fresh.rewrite(None)):
        with contextlib.suppress(CorruptIndexError):
            work()


@pytest.mark.parametrize("forged", [False, True])
def test_both_builds_find_the_same_in_a_page(filled, forged):
    if terms._terms is None:
        pytest.skip("this edgeret is built without its native terms")
    rng = np.random.default_rng(7)
    names = tuple(f"w{number}".encode() for number in range(80))
    for page, content in filled.connection.execute("SELECT page, entries FROM lexicon_terms").fetchall():
        octets = bytearray(content)
        if forged:
            octets[int(rng.integers(len(octets)))] ^= 1 << int(rng.integers(8))
        crc = checksum(page, content=bytes(octets))
        for number, name in enumerate(names):
            try:
                expected = [terms._find(bytes(octets), name, filled.damaged)]
            except CorruptIndexError:
                expected = None
            assert terms._terms.find([(number, page, crc, bytes(octets))], names) == expected
        assert terms._terms.find([(0, page, crc ^ 1, bytes(octets))], names) is None
        assert terms._terms.are_sound([(page, crc, bytes(octets))])
        assert not terms._terms.are_sound([(page, crc, bytes(octets[1:]))])


@pytest.mark.parametrize("change", ["more", "fewer", "other", "twice"])
def test_other_texts_are_told(filled, change):
    texts = contents(filled)
    if change == "more":
        texts.append((181, ["w1"]))
    elif change == "fewer":
        texts.pop(7)
    elif change == "other":
        texts[7] = (7, ["w79"] * len(texts[7][1]))
    else:
        texts.append(texts[7])
    with pytest.raises(CorruptIndexError):
        filled.verify(lambda: texts)


# -- against BM25 in floats


@pytest.mark.parametrize("name", ["cranfield", "npl_vaswani", "xquad_r_sent_en", "nl2bash"])
def test_integers_rank_as_floats_do(opened, name):
    if not (COLLECTIONS / name).exists():
        pytest.skip(f"{name} is not in ../shared/collections")
    texts = [words.terms(f"{line.get('title', '')} {line['text']}") for line in lines_of(name, "corpus")]
    asked = [words.terms(line["text"]) for line in lines_of(name, "queries")][:150]
    for row, own in enumerate(texts):
        opened.add(row, own)
    opened.flush()
    lengths = np.array([len(own) for own in texts])
    rows_of: dict[str, dict[int, int]] = {}
    for row, own in enumerate(texts):
        for word in own:
            found = rows_of.setdefault(word, {})
            found[row] = found.get(row, 0) + 1
    shares = []
    for query in asked:
        found = opened.search([Wanted(word) for word in query], 10)
        exact = np.zeros(len(texts))
        for used in found.words:
            if used.weight and used.rows:
                rows = np.array(list(rows_of[used.term]))
                counts = np.array(list(rows_of[used.term].values()))
                idf = np.log(1 + (len(texts) - used.rows + 0.5) / (used.rows + 0.5))
                idf *= min(query.count(used.term), lexicon.MAX_TIMES)
                exact[rows] += idf * counts / (counts + 1.2 * (0.25 + 0.75 * lengths[rows] / lengths.mean()))
        best = np.sort(exact)[::-1][: len(found.rows)]
        # Of equally good ones any will do.
        shares.append(np.minimum(exact[found.rows].sum() / max(best.sum(), 1e-9), 1))
    assert np.mean(shares) > 0.995


def lines_of(name: str, stem: str) -> list[dict[str, str]]:
    plain = COLLECTIONS / name / f"{stem}.jsonl"
    text = plain.read_text() if plain.exists() else gzip.decompress(Path(f"{plain}.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def test_more_may_be_typed_of_a_word_than_its_stem_has(build, opened):
    fill(opened, {0: "connect", 1: "connector", 2: "run", 3: "co"})
    found = {
        typed: opened.search(wanted(f"{typed}*"), 9).rows.tolist()
        for typed in ("connecti", "runni", "cot", "rune")
    }
    assert found == {"connecti": [0], "runni": [2], "cot": [], "rune": [2]}
