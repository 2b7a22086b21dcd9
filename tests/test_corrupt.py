import hashlib
import json
import os
import queue
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from counts import FULL
from damage import alter, describe, lie
from fake import FakeEncoder

from edgeret import Document, EdgeretError, Index
from edgeret.documents import Record
from edgeret.errors import (
    CorruptIndexError,
    FormatVersionError,
    IndexMissingError,
    NotAnIndexError,
    SpaceMismatchError,
)
from edgeret.storage.checksum import checksum
from edgeret.storage.rows import Passage, passage_checksum
from edgeret.storage.schema import APPLICATION_ID, FORMAT_VERSION

FILES = 100_000 if FULL else 200
BATCH = 250
# Of processor time, so that a busy machine is not taken for an endless loop; and by the clock, for a child that waits.
BATCH_SECONDS = 300
WAITING_SECONDS = 3600

TESTS = Path(__file__).parent


# -- damaged files: hundreds, or with EDGERET_TEST_FULL=1 a hundred thousand


def judge(first: int, last: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Judge files in a child, which a crash or an endless loop may cost: (counts, what was wrong)."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS.parent),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, str(TESTS / "judge.py"), *map(str, (folder, first, last, BATCH_SECONDS))]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=WAITING_SECONDS, env=environment
        )
        output, ended, why = child.stdout, child.returncode == 0, f"{child.returncode}, {child.stderr}"
    except subprocess.TimeoutExpired as expired:
        output, ended, why = bytes(expired.stdout or b"").decode(), False, "it did not end"
    lines = [line.partition(" ")[::2] for line in output.splitlines()]
    wrong = [json.loads(rest) for word, rest in lines if word == "wrong"]
    counts = Counter(next((json.loads(rest) for word, rest in lines if word == "counts"), {}))
    if not ended:
        at = next((rest for word, rest in reversed(lines) if word == "file"), "none")
        wrong.append(f"the interpreter died at file {at}: {why}")
    return counts, wrong


def test_no_damaged_file_crashes_or_lies(tmp_path, trust):
    batches: queue.SimpleQueue[int] = queue.SimpleQueue()
    for first in range(0, FILES, BATCH):
        batches.put(first)
    counts, wrong = Counter(), []

    def work() -> None:
        while not batches.empty():
            first = batches.get()
            found, complaints = judge(first, min(first + BATCH, FILES), tmp_path)
            counts.update(found)
            wrong.extend(complaints)

    workers = [threading.Thread(target=work) for _ in range(min(os.cpu_count() or 1, 4))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trust(damaged_files=FILES, wrong=len(wrong), **counts)
    assert wrong == []
    assert counts["refused"] + counts["found"] + counts["harmless"] == FILES
    # The damage is real, and repair is worth its name.
    assert counts["harmless"] < FILES / 4
    assert counts["documents_saved"] > 0.8 * counts["documents_before"]


def test_a_flipped_bit_in_the_index_of_ids_finds_no_other_document(sound, encoder):
    """`get` returned another document once."""
    image = sound.read_bytes()
    # An entry: the id, then the document's number in a byte.
    assert image.count(b"d6\x06") == 1
    sound.write_bytes(image.replace(b"d6\x06", b"d6\x07"))
    with Index.open(sound, model=encoder) as index:
        for call in (lambda: index.get("d6"), lambda: index.delete(["d6"]), index.check):
            with pytest.raises(CorruptIndexError):
                call()
        assert index.get("d7").text == "red cat number7"


def test_a_flipped_bit_in_the_index_of_a_filter_finds_no_other_document(sound, encoder):
    with Index.open(sound, model=encoder) as index:
        index.add([Document("last", "red cat", {"year": 98})])
    image = sound.read_bytes()
    # An entry: its header, the year, the document's number.
    assert image.count(b"\3\1\1\x62\x14") == 1
    sound.write_bytes(image.replace(b"\3\1\1\x62\x14", b"\3\1\1\x63\x14"))
    with Index.open(sound, model=encoder) as index:
        assert index.search("red cat", where={"year": 99}) == []
        assert index.search("red cat", where={"year": 18})[0].id == "d18"
        with pytest.raises(CorruptIndexError, match="missing from index"):
            index.check()


# -- what is no index


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"SQLite format 3\0",
        b"SQLite format 3\0" + bytes(4080),
        b"# notes\n" * 1000,
        bytes(100_000),
    ],
    ids=["empty", "one byte", "magic alone", "magic and zeros", "text", "zeros"],
)
@pytest.mark.parametrize("readonly", [False, True])
def test_another_kind_of_file_is_no_index(path, encoder, content, readonly):
    path.write_bytes(content)
    with pytest.raises((NotAnIndexError, CorruptIndexError)):
        Index.open(path, model=encoder, readonly=readonly)
    with pytest.raises(NotAnIndexError):
        Index.repair(path, path.with_name("repaired"), model=encoder)
    assert path.read_bytes() == content
    assert not path.with_name("repaired").exists()


def test_an_sqlite_file_of_another_program_is_no_index(path, encoder):
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE notes (text); INSERT INTO notes VALUES ('private')")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotAnIndexError, match="another program"):
        Index.open(path, model=encoder)
    assert path.read_bytes() == before


def test_a_folder_and_a_missing_file_are_named(tmp_path, encoder):
    with pytest.raises(NotAnIndexError):
        Index.open(tmp_path, model=encoder)
    with pytest.raises(IndexMissingError):
        Index.open(tmp_path / "none", model=encoder)


# -- damage that is sound SQLite, with sound checksums: what a hostile author would write


def count(path: Path, **counters: int) -> None:
    """Change the counters, and their checksum with them."""
    connection = sqlite3.connect(path)
    names = ("generation", "next_row", "tail_changed", "documents", "passages")
    state = dict(
        zip(names, connection.execute(f"SELECT {', '.join(names)} FROM state").fetchone(), strict=True)
    )
    state |= counters
    with connection:
        connection.execute(
            "UPDATE state SET generation = ?, next_row = ?, tail_changed = ?, documents = ?, passages = ?, crc = ?",
            (*state.values(), checksum(*state.values())),
        )
    connection.close()


def ask_everything(path: Path, encoder: FakeEncoder) -> None:
    """Every question is answered rightly or refused by name; check refuses, if opening does not."""
    try:
        opened = Index.open(path, model=encoder)
    except CorruptIndexError:
        return
    with opened as index:
        for mode in ("dense", "lexical", "hybrid"):
            for where in (None, {"year": {"$gte": 0}}):
                try:
                    hits = index.search("red cat", k=30, mode=mode, where=where)
                except EdgeretError:
                    continue
                assert {hit.text for hit in hits} <= {f"red cat number{i}" for i in range(20)}
        for identity in ("d3", "d4"):
            try:
                document = index.get(identity)
            except EdgeretError:
                continue
            assert document is None or document.text == f"red cat number{identity[1:]}"
        with pytest.raises(CorruptIndexError):
            index.check()


def test_a_newer_format_is_refused_with_the_remedy(sound, encoder):
    alter(sound, f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    for use in (Index.open, lambda path, model: Index.repair(path, f"{path}.new", model)):
        with pytest.raises(FormatVersionError, match="upgrade edgeret"):
            use(sound, model=encoder)


@pytest.mark.parametrize(
    "entries",
    [
        {"bits": str(10**9)},
        {"bits": "-64"},
        {"bits": "9" * 5000},
        {"bits": "1e400"},
        {"bits": "[" * 100_000},
        {"dim": "-1"},
        {"dim": str(2**60)},
        {"dim": "null"},
        {"filters": '"year"'},
        {"filters": "[1]"},
        {"filters": "[]"},
        {"filters": json.dumps(["year"] * 2000)},
        {"filters": "{}"},
        {"space": "0" * 32},
    ],
    ids=str,
)
def test_a_hostile_description_is_refused(sound, encoder, entries):
    describe(sound, **entries)
    with pytest.raises((CorruptIndexError, SpaceMismatchError)):
        Index.open(sound, model=encoder)


@pytest.mark.parametrize("model", ["/nowhere", "x" * 5000, "", "..", "a\0b"])
def test_a_model_that_is_not_there_is_named(sound, model):
    describe(sound, model=model)
    with pytest.raises(EdgeretError, match=r"damaged|expected the name of a bundle|manifest"):
        Index.open(sound)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER hostile AFTER INSERT ON documents BEGIN DELETE FROM passages; END",
        "CREATE VIEW hostile AS SELECT 1",
        "CREATE TABLE hostile (x)",
        "DROP INDEX passages_by_doc",
        "ALTER TABLE documents ADD COLUMN surplus",
        "ALTER TABLE tail RENAME TO head",
    ],
)
def test_another_schema_is_refused(sound, encoder, statement):
    alter(sound, statement)
    with pytest.raises(CorruptIndexError):
        Index.open(sound, model=encoder)


@pytest.mark.parametrize(
    ("table", "definition"),
    [
        ("lexicon_config", "(k PRIMARY KEY, x, v AS (hex(zeroblob(400000000)))) WITHOUT ROWID"),
        ("lexicon_config", "(k PRIMARY KEY, v COLLATE NOCASE) WITHOUT ROWID"),
        (
            "lexicon_idx",
            "(segid, term, x, pgno AS (length(hex(zeroblob(9)))), PRIMARY KEY(segid, term)) WITHOUT ROWID",
        ),
        ("lexicon_data", "(id INTEGER PRIMARY KEY, block BLOB DEFAULT (zeroblob(9)))"),
        ("lexicon_docsize", "('id INTEGER' PRIMARY KEY, sz BLOB)"),
        ("lexicon_docsize", "(id INTEGER PRIMARY KEY, sz BLOB, more)"),
    ],
)
def test_a_shadow_table_of_somebody_elses_is_refused(first_format, table, definition):
    path, encoder = first_format
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(
        "UPDATE sqlite_schema SET sql = ? WHERE name = ?", (f"CREATE TABLE '{table}'{definition}", table)
    )
    connection.close()
    for readonly in (False, True):
        with pytest.raises(CorruptIndexError, match="its schema is not an index's"):
            Index.open(path, model=encoder, readonly=readonly)


@pytest.mark.parametrize(("mine", "told"), [(1, 2), (2, 1)])
def test_a_file_of_one_format_that_calls_itself_another_is_refused(sound, encoder, first_format, mine, told):
    path, opener = first_format if mine == 1 else (sound, encoder)
    alter(path, f"PRAGMA user_version = {told}")
    with pytest.raises(CorruptIndexError, match=f"it is of format {told} and describes one of format {mine}"):
        Index.open(path, model=opener)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO lexicon_config VALUES ('rank', 'bm25(0.0)')",
        "INSERT INTO lexicon_config VALUES ('hashsize', 1000000000)",
        "INSERT INTO lexicon_config VALUES ('pgsz', 65000)",
        "UPDATE lexicon_config SET v = 5",
        "UPDATE lexicon_config SET v = zeroblob(4)",
        "DELETE FROM lexicon_config",
    ],
)
def test_a_lexicon_with_settings_of_its_own_is_refused(first_format, statement):
    path, encoder = first_format
    alter(path, statement)
    with pytest.raises(CorruptIndexError, match="its lexicon has settings of its own"):
        Index.open(path, model=encoder, readonly=True)


@pytest.mark.parametrize(
    ("pragma", "found"), [("page_size = 65536", "65536"), ("encoding = 'UTF-16'", "UTF-16")]
)
def test_another_page_size_or_encoding_is_refused(tmp_path, encoder, pragma, found):
    path = tmp_path / "other.edgeret"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in (pragma, f"application_id = {APPLICATION_ID}", f"user_version = {FORMAT_VERSION}"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    with pytest.raises(CorruptIndexError, match=found):
        Index.open(path, model=encoder)


@pytest.mark.parametrize(
    "counters",
    [
        {"next_row": 2**60},
        {"next_row": -(2**60)},
        {"next_row": 3},
        {"next_row": 0},
        {"passages": 2**60},
        {"passages": -1},
        {"documents": 2**62},
        {"documents": -1},
    ],
    ids=str,
)
def test_hostile_counters_take_no_memory_and_are_found(sound, encoder, counters):
    count(sound, **counters)
    ask_everything(sound, encoder)


def test_a_row_at_the_end_of_the_numbers_takes_no_memory(sound, encoder):
    """A file that agrees with itself, and whose last row is number 2**40: a bitmap of all rows would not fit."""
    row = 2**40
    connection = sqlite3.connect(sound)
    _, doc, start, stop, vector, _ = connection.execute("SELECT * FROM passages WHERE row = 3").fetchone()
    moved = (row, doc, start, stop, vector)
    with connection:
        connection.execute("DELETE FROM passages WHERE row = 3")
        connection.execute(
            "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", (*moved, passage_checksum(Passage(*moved)))
        )
        connection.execute("UPDATE tail SET row = ? WHERE row = 3", (row,))
    connection.close()
    count(sound, next_row=row + 1)
    ask_everything(sound, encoder)


@pytest.mark.parametrize("span", [(-5, 3), (3, 1), (0, 10**6), (2**62, 2**63 - 1)])
def test_hostile_spans_are_found(sound, encoder, span):
    connection = sqlite3.connect(sound)
    row, doc, _, _, vector, _ = connection.execute("SELECT * FROM passages WHERE row = 3").fetchone()
    moved = (row, doc, *span, vector)
    with connection:
        connection.execute(
            "REPLACE INTO passages VALUES (?, ?, ?, ?, ?, ?)", (*moved, passage_checksum(Passage(*moved)))
        )
    connection.close()
    with Index.open(sound, model=encoder) as index, pytest.raises(CorruptIndexError):
        index.check()
    with Index.open(sound, model=encoder) as index:
        try:
            found = {hit.id: hit for hit in index.search("red cat number3", k=30)}
        except CorruptIndexError:
            return
        assert found["d3"].text == "red cat number3"[slice(*span)] or "d3" not in found


@pytest.mark.parametrize("metadata", ["[]", "3", "null", "{", "[" * 100_000, '{"year": NaN}', '"' * 9])
def test_hostile_metadata_are_found(sound, encoder, metadata):
    digest = Record("d3", "red cat number3", metadata, None).digest
    alter(
        sound,
        (
            "UPDATE documents SET metadata = ?, digest = ?, crc = ? WHERE doc = 3",
            (metadata, digest, checksum(3, 0, content=digest)),
        ),
    )
    ask_everything(sound, encoder)


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE documents SET doc = -1 WHERE doc = 3", "UPDATE documents SET doc = 3 WHERE doc = 4",
         "UPDATE documents SET doc = 4 WHERE doc = -1"],
        ["UPDATE passages SET doc = 4 WHERE row = 3"],
        ["UPDATE passages SET row = -1 WHERE row = 3", "UPDATE passages SET row = 3 WHERE row = 4",
         "UPDATE passages SET row = 4 WHERE row = -1"],
        ["UPDATE documents SET filter_0 = 77 WHERE doc = 3"],
        ["UPDATE documents SET filter_0 = NULL"],
        ["DELETE FROM passages WHERE row = 3", "DELETE FROM documents WHERE doc = 4"],
        ["DELETE FROM tail WHERE row = 3"],
        ["UPDATE tail SET row = 1000000000000 WHERE row = 19"],
        ["UPDATE tail SET code = zeroblob(16), crc = 3971697493 WHERE row = 3"],
        ["INSERT INTO blocks VALUES (0, 0, 0, zeroblob(2048))"],
        ["INSERT INTO blocks VALUES (4000000000, 0, 0, zeroblob(2048))"],
        ["INSERT INTO blocks VALUES (-3, 0, 0, 'text')"],
        ["DELETE FROM lexicon_tail"],
        ["DELETE FROM lexicon_tail WHERE entry = 3"],
        ["UPDATE lexicon_tail SET entry = 30 WHERE entry = 3"],
        ["UPDATE lexicon_state SET stamp = 0"],
        ["INSERT INTO contexts VALUES (3, 0, 'x')"],
    ],
    ids=lambda statements: statements[0],
)  # fmt: skip
def test_rows_that_point_elsewhere_are_found(sound, encoder, statements):
    alter(sound, *statements)
    ask_everything(sound, encoder)


def test_passages_without_a_document_are_found(sound, encoder):
    alter(sound, "DELETE FROM documents WHERE doc = 3")
    count(sound, documents=19)
    with Index.open(sound, model=encoder) as index:
        assert len(index) == 19
        with pytest.raises(CorruptIndexError, match="1 passages belong to no document"):
            index.check()


def test_passages_that_have_changed_places_are_found(sound, encoder):
    """Checksums hold, counts too, and each document has a passage: that of another one."""
    with closing(sqlite3.connect(sound)) as connection, connection:
        for row, doc in ((3, 4), (4, 3)):
            _, _, *rest, _ = connection.execute("SELECT * FROM passages WHERE row = ?", (row,)).fetchone()
            moved = Passage(row, doc, *rest)
            connection.execute(
                "UPDATE passages SET doc = ?, crc = ? WHERE row = ?", (doc, passage_checksum(moved), row)
            )
    with (
        Index.open(sound, model=encoder) as index,
        pytest.raises(CorruptIndexError, match="2 passages have the"),
    ):
        index.check()


def test_a_lexicon_that_lies_is_found_by_search_and_by_check(sound, encoder):
    with closing(sqlite3.connect(sound, isolation_level=None)) as connection:
        lie(connection, 3, "xylophone number3")
    with Index.open(sound, model=encoder) as index:
        with pytest.raises(CorruptIndexError, match="finds words where they are not"):
            index.search("xylophone", mode="lexical")
        with pytest.raises(CorruptIndexError):
            index.check()
        assert index.search("number3", mode="lexical")[0].id == "d3"


def test_digests_are_for_ever():
    record = Record("a", "b", "{}", None)
    assert (
        record.digest
        == hashlib.blake2b(
            b"".join(len(part).to_bytes(8, "little") + part for part in (b"a", b"b", b"{}")), digest_size=16
        ).digest()
    )
    assert checksum(1, -1, content=b"x") == 817635395
