"""The demo's corpus: the docstrings of the running Python's own standard library, read and never imported."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from edgeret.documents import Document
from edgeret.errors import InvalidDocumentError

ENTRIES: Final = 2000
"""Entries of the corpus unless all are asked for."""

QUESTIONS: Final = (
    "how do I compress a file",
    "make a folder that is deleted afterwards",
    "run a command and capture its output",
    "count how often each item occurs",
    "how do I parse command line options",
)

_MAX_CHARACTERS: Final = 800
_LEFT_OUT: Final = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data"}
_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def corpus(limit: int | None = ENTRIES, folder: Path | None = None) -> list[Document]:
    """Return the public modules, classes and functions that have a docstring, sorted by their dotted name.

    With a `limit` those of few dots go first (modules, then what stands at their top, then methods), and the
    level that no longer fits is thinned out evenly: the same choice each time. The id is the dotted name,
    the metadata hold the `module` and the `kind` ("module", "class", "function"); a long docstring is cut
    at a paragraph. `folder`: where the sources lie, by default those of the running Python.

    Raises InvalidDocumentError if there are no sources.
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    entries: dict[str, Document] = {}
    for path in _sources(folder):
        for document in _entries(path, path.relative_to(folder)):
            entries.setdefault(str(document.id), document)
    if not entries:
        raise InvalidDocumentError(
            f"expected the sources of the standard library in '{folder}', found none: "
            "run the demo with a Python that ships them"
        )
    found = sorted(entries.values(), key=lambda document: str(document.id))
    return found if limit is None else _spread(found, limit)


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.py")):
        names = path.relative_to(folder).with_suffix("").parts
        if names[-1] == "__init__":
            names = names[:-1]
        if names and not _LEFT_OUT.intersection(names) and all(map(_is_public, names)):
            yield path


def _entries(path: Path, relative: Path) -> Iterator[Document]:
    names = relative.with_suffix("").parts
    module = ".".join(names[:-1] if names[-1] == "__init__" else names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes(), filename=str(path))
    for name, node in [(module, tree), *_definitions(module, tree.body)]:
        docstring = ast.get_docstring(node)
        if docstring and docstring.strip() and "\0" not in docstring:
            kind = {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")
            yield Document(
                id=name, text=f"{name}: {_shortened(docstring)}", metadata={"module": module, "kind": kind}
            )


def _definitions(scope: str, body: Sequence[ast.stmt]) -> Iterator[tuple[str, _Scope]]:
    """Yield what a module or class defines with its dotted name; bodies of functions are left alone."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _is_public(node.name):
            name = f"{scope}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(name, node.body)
        elif isinstance(node, ast.If | ast.Try):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            for branch in (node.body, node.orelse, *(handler.body for handler in handlers)):
                yield from _definitions(scope, branch)


def _is_public(name: str) -> bool:
    return name.isidentifier() and not name.startswith("_")


def _shortened(docstring: str) -> str:
    if len(docstring) <= _MAX_CHARACTERS:
        return docstring
    end = docstring.rfind("\n\n", 0, _MAX_CHARACTERS)
    return docstring[: end if end > 0 else _MAX_CHARACTERS].rstrip()


def _spread(documents: list[Document], limit: int) -> list[Document]:
    chosen: list[Document] = []
    dots = [(str(document.id).count("."), document) for document in documents]
    for _, level in groupby(sorted(dots, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
        members = [document for _, document in level]
        room = min(limit - len(chosen), len(members))
        chosen += [members[number * len(members) // room] for number in range(room)]
    return sorted(chosen, key=lambda document: str(document.id))
