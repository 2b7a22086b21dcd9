from __future__ import annotations

import io
import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeret.documents import Document
from edgeret.errors import InvalidDocumentError, StorageError
from edgeret.inputs import count, read


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
        "z.rst",
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
                "n": st.integers() | st.none() | st.booleans(),
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
        (b"[" * 100_000, "nest|recursion"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"caf\xe9", "expected UTF-8, got byte 0xe9 at 3"), (b" \n", "is empty"), (b"a\0b", "holds a NUL")],
)
def test_a_bad_text_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InvalidDocumentError, match=message) as error:
        list(read([str(tmp_path)]))
    assert "bad.txt" in str(error.value)


def test_bad_inputs_are_refused_before_the_first_document(tmp_path: Path) -> None:
    good = lines(tmp_path / "a.jsonl", {"text": "x"})
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("none", "no file or folder at"),
        ("a.pdf", "expected a folder, .jsonl"),
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


def test_a_pipe_is_not_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert count([str(tmp_path / "a.jsonl")]) is None


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
