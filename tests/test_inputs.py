from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import tracemalloc
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oddities import alarm, laid

from edgeret.codec import normalize, quantize
from edgeret.documents import Document
from edgeret.errors import InvalidDocumentError, StorageError
from edgeret.shell.inputs import count, read
from edgeret.shell.show import document_as_json


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    stream = io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
    return stream


def lines(path: Path, *entries: object) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)


def test_a_folder_gives_its_texts_sorted(tmp_path: Path) -> None:
    for name in (
        "b.md",
        "a.txt",
        "sub/c.markdown",
        "sub/D.TXT",
        "z.zip",
        ".hidden.md",
        ".git/x.md",
        "sub/.y.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text of {name}")
    found = list(read([str(tmp_path)]))
    assert found == [
        Document(id=name, text=f"text of {name}") for name in ("a.txt", "b.md", "sub/D.TXT", "sub/c.markdown")
    ]
    assert count([str(tmp_path)]) == 4


def test_a_text_file_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\ntwo")
    assert list(read([str(path)])) == [Document(id="note.md", text="one\r\n\r\ntwo")]


def test_lines_bring_id_text_and_metadata(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", {"id": "x", "text": "one", "lang": "en", "tags": ["a"]}, {"text": "two"}
    )
    assert list(read([path])) == [
        Document(id="x", text="one", metadata={"lang": "en", "tags": ["a"]}),
        Document(id=None, text="two"),
    ]
    assert count([path]) == 2


def test_blank_lines_and_a_bom_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n  \n{"text": "two"}')
    assert [document.text for document in read([str(path)])] == ["one", "two"]
    assert count([str(path)]) == 2


def test_standard_input(stdin: io.BytesIO) -> None:
    stdin.write('{"text": "é\u2028x"}\n'.encode())
    stdin.seek(0)
    assert count(["-"]) is None
    assert [document.text for document in read(["-"])] == ["é\u2028x"]
    assert not stdin.closed


def test_a_file_of_the_name_of_standard_input_is_a_file(
    stdin: io.BytesIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin.write(b'{"text": "typed"}\n')
    stdin.seek(0)
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("in a file")
    for name in (".", "./-", str(tmp_path)):
        assert [(document.id, document.text) for document in read([name])] == [("-", "in a file")]
        assert count([name]) == 1
    assert [document.text for document in read(["-", "./-"])] == ["typed", "in a file"]


def test_inputs_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("text")
    path = lines(tmp_path / "a.jsonl", {"text": "line"})
    assert [document.text for document in read([path, str(tmp_path / "t.txt")])] == ["line", "text"]
    assert count([path, str(tmp_path / "t.txt")]) == 2


encodable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": st.text(encodable).filter(str.strip)},
            optional={
                "id": st.text("abc/é\n", min_size=1),
                "n": st.integers(-(2**63), 2**63 - 1) | st.none() | st.booleans(),
                "t": st.lists(st.text("xyz\"\\\u2028")),
            },
        )
    )
)  # fmt: skip
def test_lines_round_trip(tmp_path: Path, entries: list[dict[str, object]]) -> None:
    for ascii_only in (True, False):
        path = tmp_path / "r.jsonl"
        path.write_text(
            "".join(json.dumps(e, ensure_ascii=ascii_only) + "\n" for e in entries), encoding="utf-8"
        )
        found = [
            {"text": d.text, **({} if d.id is None else {"id": d.id}), **d.metadata}
            for d in read([str(path)])
        ]
        assert found == entries


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "x"', "expected a JSON object, got expecting ',' delimiter in column 13"),
        (b"[1]", "expected a JSON object with a key 'text'"),
        (b'"x"', "expected a JSON object with a key 'text'"),
        (b'{"id": "x"}', "expected a JSON object with a key 'text'"),
        (b'{"text": 3}', "expected the text to be a string, got int"),
        (b'{"text": null}', "expected the text to be a string, got NoneType"),
        (b'{"text": "x", "id": 3}', "expected the id to be a string, got int"),
        (b'{"text": " "}', "is empty"),
        (b'{"text": "x", "n": NaN}', "expected metadata that JSON can hold"),
        (b'{"text": "a\\u0000b"}', "holds a NUL"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b'{"text": "\xff"}', "expected UTF-8, got byte 0xff at 10"),
        (b"[" * 100_000, "nest|recursion|overflow"),
        (b'{"text": "x", "n": ' + b"1" * 5000 + b"}", "expected a JSON object, got "),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    documents = read([str(path)])
    assert next(documents).text == "fine"
    with pytest.raises(InvalidDocumentError, match=message) as error:
        next(documents)
    assert str(error.value).startswith(f"{path}, line 3: ")


def test_a_broken_line_of_standard_input_is_named(stdin: io.BytesIO) -> None:
    stdin.write(b"oops\n")
    stdin.seek(0)
    with pytest.raises(InvalidDocumentError, match=r"^standard input, line 1: "):
        list(read(["-"]))


def test_bad_lines_stop_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "1"}\noops\n\n{"text": "4"}\n{"text": ""}\n\xff\n[]\n{"text": "8"}')
    found, said = refusing([str(path)])
    assert [document.text for document in found] == ["1", "4", "8"]
    assert [message.partition(":")[0] for message in said] == [f"{path}, line {n}" for n in (2, 5, 6, 7)]
    assert count([str(path)]) == len(found) + len(said)


def test_what_is_too_large_is_named_and_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse giants take all memory."""
    monkeypatch.setattr("edgeret.sources.folder.LARGEST_BYTES", 100_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.md").write_text("good")
    with (folder / "giant.md").open("wb") as stream:
        stream.truncate(1 << 40)
    path = tmp_path / "a.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"text": "1"}\n' + b"x" * 30_000_000 + b'\n{"text": "3"}\n' + b" " * 100_001)
    tracemalloc.start()
    try:
        found, said = refusing([str(folder), str(path)])
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert [document.text for document in found] == ["good", "1", "3"]
    places = [message.partition(":")[0] for message in said]
    assert places == [str(folder / "giant.md"), f"{path}, line 2", f"{path}, line 4"]
    assert all("expected at most 100,000 bytes" in message for message in said)


def test_a_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(StorageError, match=r"standard input \(it is closed"):
        list(read(["-"]))


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    for name, message in (
        ("", "empty name"),
        ("a\0b", "null (byte|character)"),
        ("x" * 300, "too long"),
        ("\ud800", "surrogates"),
    ):
        with pytest.raises((InvalidDocumentError, StorageError), match=message):
            read([name])


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(encodable),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(encodable), inner, max_size=3),
    max_leaves=8,
)
keys = st.text(encodable) | st.sampled_from(["id", "text", "metadata", "vector"])
vectors = st.lists(st.integers(-127, 127), min_size=64, max_size=64).filter(any)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(encodable, min_size=1),
    st.text(encodable).filter(str.strip),
    st.dictionaries(keys, values, max_size=4),
    st.none() | vectors,
)
def test_what_get_prints_is_read_back_as_it_was(
    tmp_path: Path, identity: str, text: str, metadata: dict[str, object], vector: list[int] | None
) -> None:
    """Whatever the metadata hold: a key "metadata" that holds an object, "id", "text"."""
    own = None if vector is None else normalize(np.array([vector], dtype=np.float64), 64)[0]
    path = tmp_path / "d.jsonl"
    path.write_text(document_as_json(Document(identity, text, metadata, own)) + "\n")
    (found,) = read([str(path)])
    assert (found.id, found.text, found.metadata) == (identity, text, metadata)
    assert json.dumps(found.metadata) == json.dumps(metadata)
    if own is None:
        assert found.vector is None
    else:
        assert quantize(found.vector[None]).tobytes() == quantize(own[None]).tobytes()


@pytest.mark.parametrize(
    ("line", "metadata"),
    [
        # The keys of a document and no others, `metadata` being an object: it is the metadata.
        ({"text": "x", "metadata": {}}, {}),
        ({"text": "x", "metadata": {"a": 1}}, {"a": 1}),
        ({"id": "i", "text": "x", "metadata": {"metadata": {"a": 1}}}, {"metadata": {"a": 1}}),
        ({"text": "x", "metadata": {"id": 1, "text": 2}}, {"id": 1, "text": 2}),
        # Any other line: every other key is metadata.
        ({"text": "x", "metadata": "a"}, {"metadata": "a"}),
        ({"text": "x", "metadata": None}, {"metadata": None}),
        ({"text": "x", "metadata": [{}]}, {"metadata": [{}]}),
        ({"text": "x", "metadata": {"a": 1}, "lang": "en"}, {"metadata": {"a": 1}, "lang": "en"}),
        ({"text": "x", "vector": [1, 2]}, {"vector": [1, 2]}),
    ],
)  # fmt: skip
def test_what_is_metadata_is_defined(
    tmp_path: Path, line: dict[str, object], metadata: dict[str, object]
) -> None:
    (found,) = read([lines(tmp_path / "a.jsonl", line)])
    assert found.metadata == metadata
    assert found.vector is None


@pytest.mark.parametrize(
    "vector", ["x", [], [0, 0], ["1"], [[1]], [True], {"a": 1}, [10**400], [float("inf")], 5]
)
def test_a_line_with_a_vector_that_is_none_is_refused(tmp_path: Path, vector: object) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "x", "metadata": {}, "vector": vector}, {"text": "y"})
    found, said = refusing([path])
    assert [document.text for document in found] == ["y"]
    assert said[0].startswith(f"{path}, line 1: expected ")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"caf\xe9", "expected UTF-8, got byte 0xe9 at 3"), (b" \n", "is empty"), (b"a\0b", "holds a NUL")],
)
def test_a_bad_text_file_is_named(
    tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InvalidDocumentError, match=message) as error:
        list(read([str(tmp_path)]))
    assert "bad.txt" in str(error.value)


def test_bad_inputs_are_refused_before_the_first_document(tmp_path: Path) -> None:
    good = lines(tmp_path / "a.jsonl", {"text": "x"})
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("none", "no file or folder at"),
        ("a.zip", "expected a folder, -"),
        ("empty", "found none"),
    ]:
        with pytest.raises(InvalidDocumentError, match=message):
            read([good, str(tmp_path / name)])


def test_two_files_for_one_id_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "README.md").write_text(folder)
    with pytest.raises(InvalidDocumentError, match=r"expected one file for the id 'README\.md'"):
        read([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [d.id for d in read([str(tmp_path)])] == ["a/README.md", "b/README.md"]
    assert len(list(read([str(tmp_path / "a"), str(tmp_path / "a")]))) == 2


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    path.write_text("x")
    documents = read([str(path), lines(tmp_path / "gone.jsonl", {"text": "x"})])
    path.unlink()
    with pytest.raises(StorageError, match=r"cannot read '.*gone\.txt' \(No such file"):
        next(documents)
    documents = read([str(tmp_path / "gone.jsonl")])
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(StorageError, match=r"cannot read '.*gone\.jsonl'"):
        next(documents)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    for name in ("odd.jsonl", "odd.md"):
        with laid(tmp_path / name, kind), alarm():
            for call in (read, count):
                with pytest.raises(InvalidDocumentError, match=f"'.*{name}' is a {kind}: give its lines on"):
                    call([str(tmp_path / name)])


def refusing(inputs: Sequence[str], **options: bool) -> tuple[list[Document], list[str]]:
    """The documents, and what was said of the others."""
    said: list[str] = []
    found = list(read(inputs, lambda error: said.append(str(error)), **options))
    return found, said


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "bom": (b"\xef\xbb\xbf", "is empty"),
    "latin": ("Größe".encode("latin-1"), "expected UTF-8, got byte 0xf6 at 2"),
    "cut": ("Größe".encode()[:3], "expected UTF-8, got byte 0xc3 at 2"),
    "surrogate": (b"\xed\xa0\x80", "expected UTF-8, got byte 0xed at 0"),
    "nul": (b"a\0b", "holds a NUL"),
}


@pytest.mark.parametrize("kind", [*BAD_FILES, "dangling", "loop", "pipe", "device", "socket", "folder"])
def test_one_bad_file_stops_no_other(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package that tells other encodings.
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    for name in ("a", "c", "d/e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.md").write_text(f"text of {name}")
    bad = tmp_path / "b.md"
    with ExitStack() as stack:
        if kind in BAD_FILES:
            bad.write_bytes(BAD_FILES[kind][0])
        elif kind == "folder":
            bad.mkdir()
        elif kind in ("dangling", "loop"):
            bad.symlink_to("nowhere" if kind == "dangling" else "b.md")
        else:
            stack.enter_context(laid(bad, kind))
        stack.enter_context(alarm())
        assert count([str(tmp_path)]) == (3 if kind == "folder" else 4)
        found, said = refusing([str(tmp_path)])
    assert [document.id for document in found] == ["a.md", "c.md", "d/e.md"]
    if kind == "folder":
        assert said == []
        return
    (message,) = said
    assert "b.md" in message
    expected = {"dangling": "No such file", "loop": "symbolic links", "device": "is a link out of the folder"}
    assert re.search(BAD_FILES[kind][1] if kind in BAD_FILES else expected.get(kind, f"is a {kind}"), message)


def test_a_name_that_is_no_utf_8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("good")
    for name in (b"caf\xe9.md", b"d\xe9/x.md"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_text("coffee")
    found, said = refusing([str(tmp_path)])
    assert [document.id for document in found] == ["good.md"]
    assert len(said) == 2
    assert all("expected a name in UTF-8" in message and "rename it" in message for message in said)
    lined = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    lined.write_text('{"text": "its name is no id"}\n')
    assert [document.text for document in read([str(lined)])] == ["its name is no id"]


def test_an_unreadable_subfolder_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good/a.md", "locked/b.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    found, said = refusing([str(tmp_path)])
    assert [document.id for document in found] == ["good/a.md"]
    assert len(said) == 1
    assert "locked' (Permission denied)" in said[0]
    with pytest.raises(StorageError, match="Permission denied"):
        read([str(tmp_path / "locked")])


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with links of each kind; what they lead to outside of it is beside it."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    for path in (
        folder / "sub" / "deep.md",
        folder / ".hidden" / "h.md",
        outside / "o.md",
        outside / "in" / "p.md",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {path.name}")
    (folder / "a.md").write_text("text of a.md")
    for name, target in {
        "same.md": "a.md",
        "z-same": "sub",
        "a-shown": ".hidden",
        "sub/loop": "..",
        "sub/self": ".",
        "out.md": outside / "o.md",
        "sub/up.md": "../../outside/o.md",
        "twice.md": "out.md",
        "out": outside,
        "again": outside,
        "root": tmp_path,
    }.items():
        (folder / name).symlink_to(target)
    (outside / "back").symlink_to(folder)
    return folder


INSIDE = ["a-shown/h.md", "a.md", "same.md", "sub/deep.md"]


def test_links_out_of_a_folder_are_named_and_not_followed(linked: Path) -> None:
    with alarm():
        found, said = refusing([str(linked)])
        assert count([str(linked)]) == len(found) + len(said)
    assert [document.id for document in found] == INSIDE
    assert not any("outside" in document.text or "o.md" in document.text for document in found)
    named = sorted(
        re.sub(r"^'.*?/folder/(.*)' is a link out of the folder: pass --follow-links.*", r"\1", x)
        for x in said
    )
    assert named == ["again", "out", "out.md", "root", "sub/up.md", "twice.md"]


def test_links_are_followed_when_asked_and_loops_are_safe(linked: Path) -> None:
    with alarm():
        found, said = refusing([str(linked)], follow_links=True)
        assert count([str(linked)], follow_links=True) == len(found)
    assert said == []
    # A folder is read once, under its first name.
    assert [document.id for document in found] == sorted(
        [*INSIDE, "again/in/p.md", "again/o.md", "out.md", "sub/up.md", "twice.md"]
    )


def test_a_folder_that_is_a_link_itself_and_a_file_that_is_one_are_what_was_asked_for(linked: Path) -> None:
    found, said = refusing([str(linked / "out"), str(linked / "out.md")])
    assert [document.id for document in found] == ["in/p.md", "o.md", "out.md"]
    assert [message.partition(" is")[0][-6:] for message in said] == ["/back'"]


def test_a_link_that_is_laid_after_the_look_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside.md").write_text("secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.md").write_text("fine")
    real = os.path.realpath

    def swapped(path: str | Path) -> str:
        found = real(path)
        if Path(path).name == "a.md":
            Path(path).unlink(missing_ok=True)
            Path(path).symlink_to(tmp_path / "outside.md")
        return found

    monkeypatch.setattr("os.path.realpath", swapped)
    found, said = refusing([str(tmp_path / "folder")])
    assert found == []
    assert len(said) == 1


def test_lines_are_streamed(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    with path.open("w") as stream:
        for number in range(2000):
            stream.write(json.dumps({"id": str(number), "text": "x" * 10_000}) + "\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in read([str(path)])) == 2000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_a_number_that_is_another_record_s_id_is_refused(tmp_path):
    """The second one took the place of the first."""
    folder = tmp_path / "n"
    folder.mkdir()
    (folder / "a.csv").write_text("id,text\n2,first\n,second\n,third\n")
    refused = []
    found = [document.text for document in read([str(folder)], refused.append)]
    assert found == ["first", "third"]
    assert "the id '2' stands twice: give each its own" in str(refused[0])
