"""Copies among what is added: found by their codes, told by their words, and never a text that is nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from fake import DIM, FakeEncoder
from test_sync import counts, lay

from edgeret import ArgumentError, Document, Index, blocks
from edgeret.shell.cli import main
from edgeret.upkeep import duplicates

WORDS = 45


def text(seed: int, changed: int = 0) -> str:
    """Words of its own, of which some are others."""
    words = [f"w{seed}x{number}" for number in range(WORDS)]
    for number in range(changed):
        words[20 + number] = f"other{number}"
    return " ".join(words)


def told(added) -> dict[str, tuple[str, bool]]:
    return {copy.id: (copy.of, copy.is_exact) for copy in added.copies}


def test_copies_of_the_index_and_of_the_call_are_told_or_left_out(index: Index) -> None:
    index.add([Document("a", text(1)), Document("b", text(2), {"year": 1})])
    given = [
        Document("same", text(1), {"year": 2}),
        Document("near", text(2, changed=2)),
        Document("unlike", text(2, changed=20)),
        Document("new", text(3)),
        Document("again", text(3).replace(" ", ",\n")),
    ]
    copies = {"same": ("a", True), "near": ("b", False), "again": ("new", False)}
    reported = index.add(given, duplicates="report")
    assert list(reported) == [document.id for document in given]
    assert told(reported) == copies
    assert [copy.alike for copy in reported.copies] == [1, pytest.approx(39 / 47), 1]
    # What is there unchanged is not compared.
    assert index.add(given, duplicates="skip").copies == []
    index.delete(reported)
    skipped = index.add(given, duplicates="skip")
    assert list(skipped) == ["unlike", "new"]
    assert told(skipped) == copies
    assert skipped.copies_found == 3
    assert len(index) == 4
    assert index.add([Document("c", text(1))]).copies == []
    index.check()


def test_a_replacement_is_no_copy_and_a_text_that_moves_is_not_lost(index: Index) -> None:
    index.add([Document("a", text(1)), Document("b", text(2))])
    # The text of `a` goes to `c`, which comes first, and `b` becomes a copy.
    added = index.add(
        [Document("c", text(1)), Document("a", text(3)), Document("b", text(3))], duplicates="skip"
    )
    assert list(added) == ["c", "a", "b"]
    assert added.copies == []
    assert [document.text for document in index.documents()] == [text(3), text(3), text(1)]
    # Of several with one id the last one wins: what the first had is kept elsewhere.
    given = [Document("d", text(4)), Document("e", text(4)), Document("d", text(5))]
    assert list(index.add(given, duplicates="skip")) == ["d", "e", "d"]
    # What was deleted is no original.
    index.delete(["e"])
    assert list(index.add([Document("f", text(4))], duplicates="skip")) == ["f"]


def test_a_vector_of_ones_own_makes_no_copy_of_another_document(index: Index) -> None:
    vectors = np.random.default_rng(0).normal(size=(2, DIM))
    index.add([Document("a", "photo", {}, vectors[0])])
    given = [
        Document("other", "photo", {}, vectors[1]),
        Document("same", "photo", {}, 2 * vectors[0]),
        Document("text", "photo"),
    ]
    assert told(index.add(given, duplicates="report")) == {"same": ("a", True)}


def test_texts_without_words_are_copies_where_they_are_the_same(index: Index) -> None:
    index.add([Document("a", "!?!"), Document("b", "Yes, no")])
    given = [Document("c", "!?!"), Document("d", "?!?"), Document("e", "yes no"), Document("f", "no yes")]
    found = told(index.add(given, duplicates="report"))
    assert found == {"c": ("a", True), "e": ("b", False)}


def test_copies_are_found_across_full_blocks_and_commits(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 64)
    monkeypatch.setattr(duplicates, "_TOGETHER", 5)
    rng = random.Random(0)
    seeds = [rng.randrange(60) for _ in range(150)]
    first: dict[int, str] = {}
    expected = {}
    for number, seed in enumerate(seeds):
        if first.setdefault(seed, str(number)) != str(number):
            expected[str(number)] = first[seed], True
    given = [Document(str(number), text(seed)) for number, seed in enumerate(seeds)]
    added = index.add(given, commit_every=70, duplicates="skip")
    assert told(added) == expected
    assert set(added) == set(first.values()) == set(index.ids())
    assert index.info().passages > 100


def test_a_report_names_so_many_and_counts_all(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_COPIES", 2)
    added = index.add((Document(str(number), text(0)) for number in range(6)), duplicates="report")
    assert (len(added.copies), added.copies_found) == (2, 5)
    with pytest.raises(ArgumentError, match="'keep', 'skip', 'report'"):
        index.add([], duplicates="drop")


def test_a_synced_copy_stays_out_as_long_as_its_original_is_there(
    index: Index, tmp_path: Path, encoder: FakeEncoder
) -> None:
    folder = lay(tmp_path / "n", {"b.md": text(1), "c.md": text(1, changed=1), "d.md": text(2)})
    assert index.sync(folder, duplicates="report").copies[0].of == "n/b.md"
    index.delete(["n/c.md"])
    found = index.sync(folder, duplicates="skip")
    assert counts(found) == (0, 0, 2, 0)
    assert found.skipped == {"n/c.md": "n/c.md: it is a copy of 'n/b.md'"}
    # Its text moves to a name that is read before.
    (folder / "b.md").rename(folder / "a.md")
    found = index.sync(folder, duplicates="skip")
    assert counts(found) == (1, 0, 1, 1)
    assert list(index.ids()) == ["n/a.md", "n/d.md"]
    (folder / "a.md").write_text(text(3))
    assert counts(index.sync(folder, duplicates="skip")) == (1, 1, 1, 0)
    assert list(index.ids()) == ["n/a.md", "n/c.md", "n/d.md"]


def test_the_shell_names_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, lines = str(tmp_path / "a.edgeret"), tmp_path / "a.jsonl"
    lines.write_text(
        "".join(json.dumps({"id": f"d{n}", "text": "the same few words"}) + "\n" for n in range(13))
    )
    assert main(["index", path, str(lines), "--model", "nano", "--duplicates", "skip", "--json"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["added"], summary["copies"], summary["documents"]) == (1, 12, 1)
    assert "d1 is a copy of d0 (the same text)" in shown.err
    assert "2 other documents are copies too" in shown.err
