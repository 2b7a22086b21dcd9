"""Web: an index over HTTP, for programs of this machine. Needs starlette and uvicorn, the extra `serve`."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, Final

from edgeret.codec import Float32
from edgeret.documents import Document
from edgeret.errors import (
    ArgumentError,
    BudgetError,
    EdgeretError,
    ExtraMissingError,
    InvalidQueryError,
    LockedError,
    StorageError,
)
from edgeret.index import Index
from edgeret.service.served import Served

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ImportError as error:
    raise ExtraMissingError(
        "expected the packages starlette and uvicorn, they cannot be imported: pip install 'edgeret[serve]'"
    ) from error

MOST_BYTES: Final = 64 * 2**20
"""Of the body of a request."""

_STATUS: Final = {ArgumentError: 400, BudgetError: 413, LockedError: 503}
_ASKED: Final = ("query", "k", "where", "mode", "min_score", "offset")


def serve(index: Index, host: str, port: int, write: bool, ready: Callable[[str], object]) -> None:
    """Serve an open index until the process is told to end.

    Args:
        index: The index. It is closed at the end.
        host: Address to listen at. Only a loopback address keeps other machines out.
        port: Port to listen at; 0 takes a free one.
        write: Whether documents may be added.
        ready: Called with the URL when it listens, after the first search has been paid for.

    Raises:
        StorageError: The address cannot be had.
    """
    wide = ":" in host
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if wide else socket.AF_INET)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        raise StorageError(
            f"cannot listen at {host!r} port {port} ({error}): choose another address or port"
        ) from None
    with listening:
        index.warm_up()
        ready(f"http://{f'[{host}]' if wide else host}:{listening.getsockname()[1]}")
        config = uvicorn.Config(application(index, host, write), log_level="critical", access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


def application(index: Index, host: str, write: bool) -> Starlette:
    """The routes over an open index, which is closed when the application ends.

    host: at which it will listen. At a loopback address only requests that name one are answered: a page in a browser
    reaches such an address by a name of its own.
    """
    service = _Service(index, write)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        index.close()

    return Starlette(
        routes=[
            Route("/health", service.health),
            Route("/search", service.search, methods=["POST"]),
            Route("/documents/{id:path}", service.get),
            Route("/documents", service.add, methods=["POST"]),
            Route("/v1/embeddings", service.embed, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_names(host))],
        exception_handlers={EdgeretError: _refused, HTTPException: _failed},
        lifespan=lifespan,
    )


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only. A name other than localhost counts as no such address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _names(host: str) -> list[str]:
    return ["localhost", "127.0.0.1", "[::1]", host] if is_loopback(host) else ["*"]


class _Service:
    """What answers. Work on the index goes to a thread, so that others are answered meanwhile."""

    def __init__(self, index: Index, write: bool) -> None:
        self._write = write
        self._served = Served(index)

    async def _asked(self, work: Callable[[Index], Any]) -> Any:
        """What the index answers; where another file has taken the place of its own, that one does."""
        return await run_in_threadpool(self._served.ask, work)

    async def health(self, _: Request) -> JSONResponse:
        """How many documents there are, and which model."""
        info = await self._asked(lambda index: index.info())
        return JSONResponse({"documents": info.documents, "model": info.model, "write": self._write})

    async def search(self, request: Request) -> JSONResponse:
        """The keywords of `Index.search` -> hits."""
        asked = await _body(request, _ASKED)
        hits = await self._asked(lambda index: index.search(**{"query": None, **asked}))
        return JSONResponse({"hits": [asdict(hit) for hit in hits]})

    async def get(self, request: Request) -> JSONResponse:
        """One document, whole."""
        id = request.path_params["id"]
        found: Document | None = await self._asked(lambda index: index.get(id))
        if found is None:
            raise HTTPException(404, f"no document {id!r:.80}: check the id")
        return JSONResponse({"id": found.id, "text": found.text, "metadata": dict(found.metadata)})

    async def add(self, request: Request) -> JSONResponse:
        """`documents`, as `Index.add` takes them -> `ids`."""
        if not self._write:
            raise HTTPException(403, "this service only reads: start it with --write")
        asked = await _body(request, ("documents",))
        documents: Any = asked.get("documents")
        ids = await self._asked(lambda index: list(index.add(documents)))
        return JSONResponse({"ids": ids})

    async def embed(self, request: Request) -> JSONResponse:
        """As OpenAI's /v1/embeddings. With `input_type` "query" as queries, for models that tell the two apart."""
        asked = await _body(
            request, ("input", "model", "encoding_format", "dimensions", "user", "input_type")
        )
        encoder = self._served.index.encoder
        if asked.get("model", encoder.name) != encoder.name:
            raise HTTPException(404, f"no model {asked['model']!r:.80}: this service has {encoder.name!r}")
        if asked.get("dimensions", encoder.dim) != encoder.dim:
            raise InvalidQueryError(f"expected {encoder.dim} dimensions, got others: leave them out")
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise InvalidQueryError("expected input to be a text or a list of texts: tokens are not taken")
        side = "encode_queries" if asked.get("input_type") == "query" else "encode"
        encode: Callable[[list[str]], Float32] = getattr(encoder, side, encoder.encode)

        def encoded() -> tuple[Float32, int]:
            return encode(texts), sum(len(encoder.token_spans(text)) for text in texts)

        vectors, tokens = await run_in_threadpool(encoded)
        packed = asked.get("encoding_format") == "base64"
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": number,
                        "embedding": _base64(vector) if packed else vector.tolist(),
                    }
                    for number, vector in enumerate(vectors)
                ],
                "model": encoder.name,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )


def _base64(vector: Float32) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


async def _body(request: Request, keys: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object of a request, without keys that are null."""
    # A page in a browser cannot send this type to another origin unasked.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "expected JSON: send the header Content-Type: application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"expected at most {MOST_BYTES} bytes: send less at once")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise ArgumentError("expected JSON, got something else: send an object") from None
    if not isinstance(found, dict) or (unknown := next((key for key in found if key not in keys), None)):
        what = f"the key {unknown!r:.60}" if isinstance(found, dict) else "something else"
        raise ArgumentError(f"expected a JSON object of {', '.join(keys)}, got {what}: leave it out")
    return {key: value for key, value in found.items() if value is not None}


def _error(status: int, text: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": text, "type": kind}}, status)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    return _error(status, str(error), type(error).__name__)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    found: Mapping[str, Any] = vars(error)
    return _error(found["status_code"], found["detail"], "HTTPException")
