"""Passages respect what a text is made of, and what stands above them is encoded and searched with them."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from fake import FakeEncoder, NarrowEncoder

from edgeret import ArgumentError, Document, Index, InvalidDocumentError, Section, reencode
from edgeret.encode.passages import split_windows
from edgeret.sources.formats import Whole
from edgeret.sources.structure import sections
from edgeret.storage.store import Store

MANUAL = """Before any heading.

# Pump

Clean the filter.

## Spare parts

| part | price |
|------|-------|
| seal | 3     |

```sh
# no heading
run --now
```

Setext
------

Under it.

# Call us

By phone.
"""


def cut(name: str, text: str, **metadata: object) -> list[tuple[str | None, str]]:
    return [
        (part.context, text[part.start : part.end].strip().partition("\n")[0])
        for part in sections(Whole(name, text, metadata))
    ]


def test_markdown_is_cut_at_its_headings() -> None:
    assert cut("notes/house_manual-2.md", MANUAL) == [
        ("house manual 2", "Before any heading."),
        ("house manual 2 > Pump", "# Pump"),
        ("house manual 2 > Pump > Spare parts", "## Spare parts"),
        ("house manual 2 > Pump > Setext", "Setext"),
        ("house manual 2 > Call us", "# Call us"),
    ]
    blocks = [MANUAL[slice(*block)] for part in sections(Whole("a.md", MANUAL)) for block in part.blocks]
    assert [block.partition("\n")[0] for block in blocks] == ["| part | price |", "```sh"]
    assert blocks[1].endswith("run --now\n```\n")
    assert cut("a.md", "# A\n\ntext\n", title="a") == [("a", "# A")]


def test_other_kinds_are_cut_where_they_may_be() -> None:
    rst = (
        "=====\nTitle\n=====\n\nIntro::\n\n    ===\n    x\n    ===\n\nPart\n----\n\n=== ===\na   b\n=== ===\n\n"
        "End\n----\n"
    )
    assert cut("a.rst", rst) == [
        ("a > Title", "====="),
        ("a > Title > Part", "Part"),
        ("a > Title > End", "End"),
    ]
    code = (
        "import os\n\n# how\n@cache\ndef one(a):\n    return a\n\n"
        "class Two:\n    x = 1\n\n    def three(self):\n        pass\n"
    )
    assert cut("a.py", code) == [
        ("a", "import os"),
        ("a > one", "# how"),
        ("a > Two", "class Two:"),
        ("a > Two > three", "def three(self):"),
    ]
    assert all(part.blocks for part in sections(Whole("a.py", code)))
    assert cut("a.yaml", "type: object\nclass: x\n") == [("a", "type: object")]
    c = "#include <a.h>\n\nstatic int add(int a,\n               int b) {\n  return a;\n}\n"
    assert [heading for heading, _ in cut("a.c", c)][-1] == "a > add"
    assert cut("a.pdf", "one\ftwo") == [("a > page 1", "one"), ("a > page 2", "two")]
    assert cut("a.txt", "# one\n\ntwo") == [("a", "# one")]
    # Of no file, and a record of one.
    assert sections(Document("a.md", MANUAL)) == [Section(0, len(MANUAL))]


def test_a_block_is_one_piece_where_it_fits_and_cut_between_lines_where_not() -> None:
    def pieces(text: str, block: tuple[int, int], limit: int) -> list[str]:
        tokens = FakeEncoder().token_spans(text)
        return [text[slice(*span)] for span in split_windows(text, [tokens[:7], tokens[7:]], limit, [block])]

    text = "one two three four. five\n\na b c. d\n\ne f g h\nlast words"
    start, end = text.index("a b"), text.index("last")
    assert pieces(text, (start, end), 10) == ["one two three four. five", "a b c. d\n\ne f g h", "last words"]
    assert pieces(text, (start, end), 6) == ["one two three four. five", "a b c. d", "e f g h\nlast words"]


@pytest.fixture
def manual(index: Index, tmp_path: Path) -> Document:
    folder = tmp_path / "notes"
    folder.mkdir()
    long = MANUAL.replace("Under it.", " ".join(f"word{n} filler." for n in range(40)))
    (folder / "zeppelin.md").write_text(long)
    index.sync(folder)
    return index.get("notes/zeppelin.md")


def test_headings_and_the_name_of_the_file_are_encoded_and_searched(
    index: Index, manual: Document, encoder: FakeEncoder
) -> None:
    assert any(text.startswith("zeppelin > Pump > Setext\n") and "word35" in text for text in encoder.encoded)
    for query in ("zeppelin", "setext word39"):
        for mode in ("lexical", "dense", "hybrid"):
            (hit,) = index.search(query, mode=mode)
            assert hit.text == manual.text[hit.start : hit.end]
    assert "word39" in hit.text
    assert "Setext" not in hit.text
    assert index.search('"spare parts"', mode="lexical")[0].id == manual.id
    index.check()
    index.add([Document(manual.id, "another text")])
    assert index.search("zeppelin", mode="lexical") == []
    index.check()
    index.compact()
    index.check()


def test_another_model_and_a_repair_keep_the_parts(
    path: Path, index: Index, manual: Document, tmp_path: Path
) -> None:
    def parts(at: Path) -> list[Section]:
        store = Store(at, readonly=True)
        try:
            with store.reading():
                return store.rows.sections(store.rows.document_of(manual.id).doc)
        finally:
            store.close()

    known = parts(path)
    assert [part.context for part in known][1:3] == ["zeppelin > Pump", "zeppelin > Pump > Spare parts"]
    index.close()
    target = tmp_path / "repaired.edgeret"
    assert Index.repair(path, target, FakeEncoder()).vectors_encoded == 0
    assert parts(target) == known
    # A passage whose vector is lost is made again with what stood before it.
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE passages SET vector = zeroblob(96) WHERE row = 2")
    connection.close()
    encoder = FakeEncoder()
    again = tmp_path / "again.edgeret"
    assert Index.repair(path, again, encoder).vectors_encoded == 1
    assert encoder.encoded == [text for text in encoder.encoded if text.startswith("zeppelin > ")]
    assert [part.context for part in parts(again)] == [part.context for part in known]
    reencode(target, NarrowEncoder(), bits=64)
    assert [part.context for part in parts(target)] == [part.context for part in known]
    with Index.open(target, NarrowEncoder()) as narrow:
        narrow.check()
        assert narrow.search("zeppelin", mode="lexical")[0].id == manual.id


class _Lines(FakeEncoder):
    """To byte pairs the end of a line is a token."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [token.span() for token in re.finditer(r"\w+|[^\w ]", text)]


def test_what_stands_before_a_passage_leaves_room_for_its_last_token(tmp_path: Path) -> None:
    encoder = _Lines(passage_tokens=8)
    with Index.create(tmp_path / "lines.edgeret", encoder, bits=64) as index:
        text = " ".join(f"word{number}" for number in range(40))
        index.add([text], chunk=lambda document: [(0, len(document.text), "one two three")])
    assert encoder.encoded
    assert {len(encoder.token_spans(passage)) for passage in encoder.encoded[:-1]} == {8}


def test_a_function_of_the_users_cuts(index: Index, encoder: FakeEncoder) -> None:
    def lines(document: Document) -> list[tuple[int, int, str]]:
        first = document.text.index("\n")
        return [(0, first, "poem"), (first, len(document.text), None)]

    index.add([Document("a", "one two\nthree four")], chunk=lines)
    assert encoder.encoded[-2:] == ["poem\none two", "three four"]
    assert index.search("three", mode="lexical")[0].text == "three four"
    index.check()


@pytest.mark.parametrize(
    "given",
    [5, [], [5], [(0,)], [(0, 99)], [(-1, 2)], [(2, 1)], [(0, 2), (1, 3)], [(0, 2.0)], [(0, 3, 5)], [(0, 3, "a\0")],
     [(0, 3, "x" * 1001)], [(7, 8)], [(0, 3, None, [(0, 9)])], ["ab"]],
)  # fmt: skip
def test_parts_that_are_none_are_refused_by_name(index: Index, given: object) -> None:
    with pytest.raises(InvalidDocumentError, match="expected "):
        index.add(["one two  \n"[:8]], chunk=lambda document: given)
    assert len(index) == 0
    with pytest.raises(ArgumentError, match="pass one that takes a document"):
        index.add(["one"], chunk="lines")
