"""What the demo searches: the docstrings of the running Python's own standard library, read and never imported.

In another language it is what the machine has of manual pages in it; where they are few, a sample that comes with us.
"""

from __future__ import annotations

import ast
import json
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from edgeret.documents import Document
from edgeret.encode.bundle import available
from edgeret.errors import InvalidDocumentError
from edgeret.shell import manual
from edgeret.stems import ENGLISH

ENTRIES: Final = 2000
"""Entries of the corpus unless all are asked for."""

QUESTIONS: Final = (
    "how do I compress a file",
    "make a folder that is deleted afterwards",
    "run a command and capture its output",
    "count how often each item occurs",
    "how do I parse command line options",
)

LANGUAGES: Final = (
    "ar", "de", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "vi", "zh"
)  # fmt: skip
"""Those of the sample, beside English."""

_FEWEST: Final = 20
"""Manual pages that are worth a search."""
_ASKED_IN_ENGLISH: Final = "how long may I keep a borrowed book"
_ASKED_OF_PAGES_IN_ENGLISH: Final = "how do I read the manual of a command"
_MAX_CHARACTERS: Final = 800
_LEFT_OUT: Final = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "pydoc_data"}
_Scope = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Shown(NamedTuple):
    """What a demo searches, what that is called, and what it asks."""

    documents: list[Document]
    kind: str
    questions: tuple[str, ...]


def shown(language: str = ENGLISH, limit: int | None = ENTRIES) -> Shown:
    """The texts of a language, English or one of LANGUAGES, with questions in it and a last one in English.

    Raises InvalidDocumentError if there are none.
    """
    if language == ENGLISH:
        return Shown(
            corpus(limit), f"docstrings of Python {platform.python_version()}'s own library", QUESTIONS
        )
    sample = json.loads(Path(__file__).with_name("sample.json").read_text(encoding="utf-8"))[language]
    pages = manual.pages(language)[:limit] if sample["of_manuals"] else []
    if len(pages) >= _FEWEST:
        questions = (*sample["of_manuals"], _ASKED_OF_PAGES_IN_ENGLISH)
        return Shown(pages, f"manual pages of this machine in the language {language!r}", questions)
    texts = [Document(id=name, text=text) for name, text in sample["texts"].items()]
    questions = (*sample["questions"], _ASKED_IN_ENGLISH)
    return Shown(texts, f"short texts in the language {language!r}", questions)


def world() -> str:
    """The model of many languages that is installed, the smaller of two that read whole sentences first."""
    preferred = ("world-small", "world-base", "world-nano")
    return next((name for name in preferred if name in available()), preferred[0])


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
