"""`edgeret mcp`, asked by the SDK's own client."""

import json
import sys
from pathlib import Path

import pytest
from fake import FakeEncoder

import edgeret

pytest.importorskip("mcp", reason="the extra 'mcp' is missing")
import anyio
from mcp import Client, StdioServerParameters

from edgeret.service.mcp import server

SCRIPT = """\
import sys
from fake import FakeEncoder
from edgeret.encode.encoder import Encoder
Encoder.load = staticmethod(lambda *_: FakeEncoder())
from edgeret.shell.cli import main
sys.exit(main())
"""
DOCUMENTS = [
    {"id": "cat", "text": "a red cat", "metadata": {"year": 2020}},
    {"id": "dog", "text": "a blue dog", "metadata": {"year": 2024}},
]


def ask(asked, *calls):
    """The answers of a server to some calls of its tools, each the value or the text of an error."""

    async def talk():
        async with Client(asked) as client:
            answers = [await client.call_tool(name, arguments) for name, arguments in calls]
            return [tool.name for tool in (await client.list_tools()).tools], answers

    names, answers = anyio.run(talk)
    return names, [
        answer.content[0].text if answer.is_error else answer.structured_content["result"]
        for answer in answers
    ]


def test_over_stdio_documents_are_added_found_listed_and_read(path, tmp_path):
    program = StdioServerParameters(
        command=sys.executable,
        args=["-c", SCRIPT, "mcp", str(path), "--write", "--model", "fake"],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"},
        cwd=tmp_path,
    )
    names, answers = ask(
        program,
        ("add", {"documents": DOCUMENTS}),
        ("search", {"query": "red cat", "k": 1}),
        ("search", {"query": "cat", "where": {"year": {"$gt": 2022}}, "min_score": -1}),
        ("get", {"id": "dog"}),
        ("list", {"after": "cat"}),
        ("get", {"id": "bird"}),
        ("search", {"query": "cat", "where": {"year": {"$like": 2}}}),
        ("add", {"documents": [{"id": "empty", "text": ""}]}),
    )
    added, best, newer, dog, listed, *errors = answers
    assert names == ["search", "get", "list", "add"]
    assert added == ["cat", "dog"]
    assert [(hit["id"], hit["text"], hit["metadata"]) for hit in best] == [
        ("cat", "a red cat", {"year": 2020})
    ]
    assert [hit["id"] for hit in newer] == ["dog"]
    assert dog == [{"index": str(path), **DOCUMENTS[1]}]
    assert listed == [{"index": str(path), "documents": 2, "ids": ["dog"]}]
    assert [word in error for word, error in zip(("'bird'", "$like", "'empty'"), errors, strict=True)] == [
        True
    ] * 3
    with edgeret.Index.open(path, FakeEncoder(), readonly=True) as index:
        assert len(index) == 2


def test_without_write_nothing_can_be_added_and_several_indexes_are_one(index, tmp_path, encoder):
    index.add(DOCUMENTS)
    with edgeret.Index.create(tmp_path / "other", encoder) as other:
        other.add([{"id": "cat", "text": "a green cat"}])
        both = {"here": index, "there": other}
        names, (found, cats, listed, one, unknown) = ask(
            server(both, write=False),
            ("search", {"query": "green cat", "k": 2}),
            ("get", {"id": "cat"}),
            ("list", {}),
            ("search", {"query": "green cat", "index": "here", "k": 1}),
            ("list", {"index": "nowhere"}),
        )
        assert "add" not in names
        assert [(hit["index"], hit["id"]) for hit in found] == [("there", "cat"), ("here", "cat")]
        assert [document["index"] for document in cats] == ["here", "there"]
        assert [entry["documents"] for entry in listed] == [2, 1]
        assert one[0]["text"] == "a red cat"
        assert "'here' or 'there'" in unknown
        _, (refused,) = ask(server(both, write=True), ("add", {"documents": DOCUMENTS}))
        assert "'here' or 'there'" in refused
    assert json.dumps(found)


def test_where_another_file_takes_the_place_of_the_index_that_one_answers(tmp_path):
    for name, text in (("live", "a red cat"), ("next", "a blue dog")):
        with edgeret.Index.create(tmp_path / name, FakeEncoder()) as index:
            index.add([text])
    with edgeret.Index.open(tmp_path / "live", FakeEncoder(), readonly=True) as index:
        served = server({"live": index}, write=False)
        _, (first,) = ask(served, ("search", {"query": "dog", "k": 1}))
        (tmp_path / "next").replace(tmp_path / "live")
        _, (second,) = ask(served, ("search", {"query": "dog", "k": 1}))
    assert [hit["text"] for hit in first + second] == ["a red cat", "a blue dog"]


def test_an_index_without_a_file_for_a_while_leaves_the_others_alone(tmp_path):
    for name in ("a", "b", "next"):
        with edgeret.Index.create(tmp_path / name, FakeEncoder()) as index:
            index.add([f"a dog of {name}"])

    def opened(name):
        return edgeret.Index.open(tmp_path / name, FakeEncoder(), readonly=True)

    def found(*names):
        _, answers = ask(served, *[("search", {"query": "dog", "k": 1, "index": name}) for name in names])
        return [answer if isinstance(answer, str) else answer[0]["text"] for answer in answers]

    with opened("b") as b, opened("a") as a:
        served = server({"b": b, "a": a}, write=False)
        (tmp_path / "b").rename(tmp_path / "away")
        (tmp_path / "next").replace(tmp_path / "a")
        gone, other = found("b", "a")
        assert "no index" in gone
        assert other == "a dog of next"
        (tmp_path / "away").rename(tmp_path / "b")
        assert found("b", "a") == ["a dog of b", "a dog of next"]
