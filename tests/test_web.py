"""`edgeret serve`, asked over HTTP, and whom it keeps out."""

import base64
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fake import FakeEncoder
from test_mcp import DOCUMENTS, SCRIPT

import edgeret

pytest.importorskip("uvicorn", reason="the extra 'serve' is missing")
import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request

from edgeret.service import web

JSON = {"Content-Type": "application/json"}


def start(*arguments):
    """A process that serves, and its port."""
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "serve", *map(str, arguments), "--port", "0"],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    found = re.search(r"http://127\.0\.0\.1:(\d+)\n", process.stderr.readline())
    assert found
    return process, int(found[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The path and the port of an index that may be written."""
    path = tmp_path_factory.mktemp("web") / "x.edgeret"
    process, port = start(path, "--write", "--model", "fake")
    yield path, port
    process.send_signal(signal.SIGTERM)
    process.stderr.close()
    assert process.wait(30) == -signal.SIGTERM
    # The last one that closes leaves one file.
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.fixture
def ask(served):
    _, port = served

    def send(method, target, body=None, headers=JSON):
        content = json.dumps(body) if body is not None and not isinstance(body, bytes) else body
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request(method, target, content, headers)
            answer = connection.getresponse()
            told = answer.read()
            return answer.status, json.loads(told) if "json" in answer.headers["content-type"] else told

    return send


@pytest.fixture
def filled(ask):
    assert ask("POST", "/documents", {"documents": DOCUMENTS}) == (200, {"ids": ["cat", "dog"]})


def test_documents_are_added_found_and_read(ask, filled, served):
    status, found = ask("POST", "/search", {"query": "red cat", "k": 1, "mode": None})
    assert status == 200
    with edgeret.Index.open(served[0], FakeEncoder(), readonly=True) as index:
        (hit,) = index.search("red cat", k=1)
        expected = {"id": "cat", "score": hit.score, "text": hit.text, "metadata": {"year": 2020}}
        assert found["hits"][0].items() >= expected.items()
        assert ask("GET", "/health") == (200, {"documents": 2, "model": "fake-0", "write": True})
    _, newer = ask("POST", "/search", {"query": "cat", "where": {"year": {"$gt": 2022}}})
    assert [hit["id"] for hit in newer["hits"]] == ["dog"]
    assert ask("GET", "/documents/dog") == (200, DOCUMENTS[1])


def test_embeddings_are_as_openai_gives_them(ask):
    status, found = ask("POST", "/v1/embeddings", {"input": ["red cat", "blue dog"], "model": "fake-0"})
    vectors = FakeEncoder().encode(["red cat", "blue dog"])
    assert status == 200
    assert (found["object"], found["model"], found["usage"]) == (
        "list", "fake-0", {"prompt_tokens": 4, "total_tokens": 4}
    )  # fmt: skip
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    np.testing.assert_array_equal([entry["embedding"] for entry in found["data"]], vectors)
    # What OpenAI's own client asks for.
    _, packed = ask(
        "POST", "/v1/embeddings", {"input": "red cat", "encoding_format": "base64", "input_type": "query"}
    )
    first = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(first, vectors[0])


@pytest.mark.parametrize(
    ("target", "body", "status", "told"),
    [
        ("/search", {"query": ""}, 400, "empty text"),
        ("/search", {}, 400, "expected query"),
        ("/search", {"query": "cat", "k": "many"}, 400, "expected k"),
        ("/search", {"query": "cat", "where": {"year": {"$like": 2}}}, 400, r"\$like"),
        ("/search", {"query": "cat", "min_score": 10**400}, 400, "expected min_score"),
        ("/search", {"query": "cat", "top": 3}, 400, "the key 'top'"),
        ("/search", ["cat"], 400, "a JSON object"),
        ("/search", b"cat", 400, "expected JSON"),
        ("/documents", {"documents": [{"id": "x", "text": ""}]}, 400, "'x' is empty"),
        ("/documents", {}, 400, "documents"),
        ("/v1/embeddings", {"input": [1, 2]}, 400, "a list of texts"),
        ("/v1/embeddings", {"input": "cat", "model": "gpt"}, 404, "'fake-0'"),
        ("/v1/embeddings", {"input": "cat", "dimensions": 8}, 400, "96 dimensions"),
        ("/nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ask, target, body, status, told):
    found, answer = ask("POST", target, body)
    assert found == status
    assert re.search(told, answer["error"]["message"])
    assert answer["error"]["type"]


def test_a_document_that_is_not_there_is_named(ask):
    status, answer = ask("GET", "/documents/bird")
    assert (status, answer["error"]["message"]) == (404, "no document 'bird': check the id")


def test_nobody_else_gets_in(ask, served):
    _, port = served
    # Another address of this machine, which a listener at all addresses would answer.
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", port))
    # A page in a browser, under a name of its own that leads here, or by a form.
    assert ask("GET", "/health", headers={"Host": "evil.example"})[0] == 400
    assert ask("POST", "/documents", {"documents": []}, {"Content-Type": "text/plain"})[0] == 415
    assert web.is_loopback("::1")
    assert not web.is_loopback("0.0.0.0")
    assert not web.is_loopback("example.org")


def test_a_service_that_reads_takes_nothing_and_a_taken_port_is_named(served, path):
    with (
        edgeret.Index.create(path, FakeEncoder()) as index,
        pytest.raises(edgeret.StorageError, match="in use"),
    ):
        web.serve(index, "127.0.0.1", served[1], False, print)
    process, port = start(path)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/documents", '{"documents": []}', JSON)
        assert connection.getresponse().status == 403
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.stderr.close()


def test_a_body_is_read_no_farther_than_it_may_be_long(monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 8)
    parts = [{"type": "http.request", "body": b"12345", "more_body": True}] * 3

    async def receive():
        return parts.pop()

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with pytest.raises(HTTPException) as refused:
        anyio.run(web._body, request, ())
    assert (refused.value.status_code, len(parts)) == (413, 1)


def test_texts_are_neither_encoded_nor_counted_where_others_wait(path):
    seen = []

    class Watched(FakeEncoder):
        def encode(self, texts):
            seen.append(threading.current_thread())
            return super().encode(texts)

        def token_spans(self, text):
            seen.append(threading.current_thread())
            return super().token_spans(text)

    async def receive():
        return {"type": "http.request", "body": b'{"input": ["red cat", "dog"]}', "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]}, receive)
    with edgeret.Index.create(path, Watched()) as index:
        answer = anyio.run(web._Service(index, write=False).embed, request)
    assert json.loads(answer.body)["usage"]["total_tokens"] == 3
    assert len(seen) == 3
    assert threading.current_thread() not in seen


def test_a_document_beyond_the_budget_is_too_large(tmp_path):
    with edgeret.Index.create(tmp_path / "x.edgeret", FakeEncoder(), memory_budget="24MB") as index:
        service = web._Service(index, write=True)

        async def add():
            try:
                await service.add(request({"documents": ["word " * 1_000_000]}))
            except edgeret.EdgeretError as error:
                return await web._refused(None, error)

        answer = anyio.run(add)
    assert answer.status_code == 413
    assert json.loads(answer.body)["error"]["type"] == "BudgetError"


def request(body):
    """A request with a body of JSON."""
    octets = json.dumps(body).encode()

    async def receive():
        return {"type": "http.request", "body": octets, "more_body": False}

    headers = [(b"content-type", b"application/json")]
    return Request({"type": "http", "method": "POST", "headers": headers, "path_params": {}}, receive)


def test_a_file_that_takes_the_place_of_the_served_one_answers(tmp_path):
    for name, text in (("live", "old"), ("next", "new")):
        edgeret.Index.create(tmp_path / name, FakeEncoder()).close()
        with edgeret.Index.open(tmp_path / name, FakeEncoder()) as index:
            index.add([edgeret.Document("only", text)])
    with edgeret.Index.open(tmp_path / "live", FakeEncoder(), readonly=True) as index:
        service = web._Service(index, write=False)

        async def found():
            (hit,) = json.loads((await service.search(request({"query": "text", "k": 1}))).body)["hits"]
            return hit["text"]

        assert anyio.run(found) == "old"
        (tmp_path / "next").replace(tmp_path / "live")
        assert anyio.run(found) == "new"
        assert json.loads(anyio.run(service.health, None).body)["documents"] == 1
