"""MCP: indexes as tools of a Model Context Protocol server over stdio. Needs the package mcp, the extra `mcp`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from itertools import islice
from typing import Any, Final, ParamSpec, TypeVar

from edgeret.documents import Document, Hit
from edgeret.encode.encoder import Encoder
from edgeret.errors import EdgeretError, ExtraMissingError, InvalidQueryError
from edgeret.index import Index, search_indexes
from edgeret.service.served import Served

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise ExtraMissingError(
        "expected the package mcp, version 2 or newer, it cannot be imported: pip install 'edgeret[mcp]'"
    ) from error

_LISTED: Final = 100
"""Ids that `list` returns if nothing is said."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def serve(paths: Sequence[str], model: str | None, memory_budget: str | None, write: bool) -> None:
    """Serve the indexes of files over standard input and output, until that ends.

    Args:
        paths: The files, one or more.
        model: A model of all of them. None takes each index's own.
        memory_budget: Bound for each index. None sets none.
        write: Whether `add` is a tool; a file that is missing is made then.

    Raises:
        EdgeretError: What `Index.open` and `Index.create` raise.
    """
    encoder = None if model is None else Encoder.load(model)
    with ExitStack() as stack:
        indexes = {}
        for path in dict.fromkeys(paths):
            if write:
                index = Index.create(path, encoder, memory_budget=memory_budget, exist_ok=True)
            else:
                index = Index.open(path, encoder, memory_budget, readonly=True)
            indexes[path] = stack.enter_context(index)
        server(indexes, write).run("stdio")


def server(indexes: Mapping[str, Index], write: bool) -> MCPServer[Any]:
    """A server over open indexes, by their names. write: whether `add` is a tool."""
    made: MCPServer[Any] = MCPServer(
        "edgeret",
        instructions=f"Semantic search in documents of the user. Indexes: {', '.join(indexes)}.",
        # Of what tools are asked and answer nothing is logged.
        log_level="ERROR",
    )
    tools = _Tools(indexes)
    made.add_tool(_told(tools.search))
    made.add_tool(_told(tools.get))
    made.add_tool(_told(tools.ids), "list")
    if write:
        made.add_tool(_told(tools.add))
    return made


def _told(tool: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """A tool whose errors reach whoever calls it with their own words, which say what to do."""

    @wraps(tool)
    def call(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            return tool(*args, **kwargs)
        except EdgeretError as error:
            raise ToolError("; ".join([str(error), *getattr(error, "__notes__", ())])) from error

    return call


class _Tools:
    """The tools. Their docstrings are what a model reads."""

    def __init__(self, indexes: Mapping[str, Index]) -> None:
        self._served = {name: Served(index) for name, index in indexes.items()}

    def search(
        self,
        query: str,
        k: int = 10,
        index: str | None = None,
        where: dict[str, Any] | None = None,
        min_score: float | None = None,
    ) -> list[dict[str, Any]]:
        """Find the documents that answer a question best, by meaning and by words.

        query: the question, in plain words; of what stands in double quotes only texts that say it word by word are
            found, if any does.
        k: how many documents to find.
        index: one of the indexes; all of them if left out.
        where: condition on the metadata, such as {"lang": "en", "year": {"$gte": 2020}}.
        min_score: leave out documents with a lower score.

        Returns the best passage of each document, best first. `get` returns a whole document.
        """
        asked = self._some(index)
        if len(asked) == 1:
            ((name, one),) = asked.items()
            return [_shown(name, hit) for hit in one.search(query, k, where, min_score=min_score)]
        names = {id(one): name for name, one in asked.items()}
        found = search_indexes(asked.values(), query, k, where, min_score=min_score)
        return [_shown(names[id(one)], hit) for one, hit in found]

    def get(self, id: str, index: str | None = None) -> list[dict[str, Any]]:
        """Return whole documents by their id.

        id: as `search` and `list` return it.
        index: one of the indexes; all of them if left out.
        """
        several = [(name, one.get(id)) for name, one in self._some(index).items()]
        found = [_whole(name, document) for name, document in several if document is not None]
        if not found:
            raise InvalidQueryError(f"no document {id!r:.80}: check the id with list or search")
        return found

    def ids(
        self,
        index: str | None = None,
        where: dict[str, Any] | None = None,
        after: str | None = None,
        limit: int = _LISTED,
    ) -> list[dict[str, Any]]:
        """List the ids of documents, in their order, and count them.

        index: one of the indexes; all of them if left out.
        where: condition on the metadata, as of `search`.
        after: an id; only greater ones are listed, which gives the next page.
        limit: the most ids to list of an index.
        """
        return [
            {"index": name, "documents": one.count(where), "ids": [*one.ids(where, after, limit)]}
            for name, one in self._some(index).items()
        ]

    def add(self, documents: list[dict[str, Any]], index: str | None = None) -> list[str]:
        """Add documents, or replace those that have the same ids. Returns their ids.

        documents: objects with `text` and, if wanted, `id` (else made from the text) and `metadata` (an object).
        index: one of the indexes; may be left out if there is one only.
        """
        asked = self._some(index)
        if len(asked) > 1:
            raise InvalidQueryError(f"expected the name of an index to add to: use {self._names()}")
        return next(iter(asked.values())).add(documents)

    def _some(self, name: str | None) -> Mapping[str, Index]:
        if name is not None and name not in self._served:
            raise InvalidQueryError(f"expected the name of an index, got {name!r:.80}: use {self._names()}")
        asked = self._served if name is None else {name: self._served[name]}
        for served in asked.values():
            # A search asks several at once: each is renewed before.
            served.ask(len)
        return {name: served.index for name, served in asked.items()}

    def _names(self) -> str:
        return " or ".join(map(repr, islice(self._served, 20)))


def _shown(name: str, hit: Hit) -> dict[str, Any]:
    return {"index": name, "id": hit.id, "score": hit.score, "text": hit.text, "metadata": hit.metadata}


def _whole(name: str, document: Document) -> dict[str, Any]:
    return {"index": name, "id": document.id, "text": document.text, "metadata": dict(document.metadata)}
