"""The shell: the API's verbs, words and defaults."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Final

from edgeret import demo, inputs
from edgeret.bundle import Bundle, available
from edgeret.documents import Document, Hit
from edgeret.errors import EdgeretError, IndexExistsError, InvalidQueryError
from edgeret.index import DEFAULT_MODEL, Index
from edgeret.search import MODES

COMMIT_EVERY: Final = 1000
"""Documents in one commit of `edgeret index`."""

DEFAULT_BITS: Final = 256

_SNIPPET: Final = 100
_EXIT_CODES: Final = """\
exit codes:
  0    done; a search that finds nothing is done too
  1    it cannot be done: one line on standard error says why and how to mend it
  2    wrong usage
  130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Raises SystemExit for wrong usage, --help and --version."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone: the interpreter must not try to flush it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as interrupt:
        return _fail("interrupted", interrupt, 130)
    except (EdgeretError, OSError) as error:
        return _fail(str(error), error, 1)
    return 0


def _fail(message: str, error: BaseException, code: int) -> int:
    print(_one_line("; ".join([f"edgeret: {message}", *getattr(error, "__notes__", ())])), file=sys.stderr)
    return code


# -- verbs


def _index(arguments: argparse.Namespace) -> None:
    documents = inputs.read(arguments.inputs)
    total = inputs.count(arguments.inputs) if sys.stderr.isatty() else None
    begun = time.perf_counter()
    with _open_or_create(arguments) as index:
        added = _add(index, documents, total)
        summary = {"added": added, "documents": len(index), "seconds": time.perf_counter() - begun}
    _answer(arguments, summary)


def _search(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        hits = index.search(
            arguments.query, arguments.k, arguments.where, arguments.mode, arguments.oversample
        )
    if arguments.json:
        _print_json([asdict(hit) for hit in hits])
    elif hits:
        _print_hits(hits)
    else:
        print("nothing found", file=sys.stderr)


def _get(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        document = index.get(arguments.id)
    if document is None:
        raise InvalidQueryError(f"no document {arguments.id!r} in '{arguments.path}': check the id")
    if arguments.json:
        _print_json({"id": document.id, "text": document.text, "metadata": document.metadata})
    else:
        print(document.text)


def _delete(arguments: argparse.Namespace) -> None:
    with _open(arguments) as index:
        deleted = index.delete(arguments.ids, erase=arguments.erase)
        _answer(arguments, {"deleted": deleted, "documents": len(index)})


def _info(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        _answer(arguments, asdict(index.info()))


def _check(arguments: argparse.Namespace) -> None:
    # The lexicon can be verified only where it may be written.
    with _open(arguments, readonly=not os.access(arguments.path, os.W_OK)) as index:
        _answer(arguments, asdict(index.check(quick=arguments.quick)))


def _compact(arguments: argparse.Namespace) -> None:
    with _open(arguments) as index:
        before = index.info().file_bytes
        index.compact()
        _answer(arguments, {"file_bytes_before": before, "file_bytes": index.info().file_bytes})


def _backup(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        index.backup(arguments.target)
    _answer(arguments, {"path": arguments.target, "file_bytes": Path(arguments.target).stat().st_size})


def _models(arguments: argparse.Namespace) -> None:
    bundles = [Bundle.open(name) for name in available()]
    described = [
        {
            "name": bundle.name,
            "dim": bundle.dim,
            "max_tokens": bundle.max_tokens,
            "space": bundle.space,
            "file_bytes": sum(file.nbytes for file in bundle.manifest.files.values()),
        }
        for bundle in bundles
    ]
    if arguments.json:
        _print_json(described)
        return
    for entry in described:
        print(f"{entry['name']}  {entry['file_bytes']:,} bytes, dim {entry['dim']}, space {entry['space']}")


def _demo(arguments: argparse.Namespace) -> None:
    documents = demo.corpus(None if arguments.all else demo.ENTRIES)
    with tempfile.TemporaryDirectory(prefix="edgeret-") as folder:
        arguments.path = arguments.path or str(Path(folder, "demo.edgeret"))
        begun = time.perf_counter()
        with _open_or_create(arguments) as index:
            added = _add(index, documents, len(documents))
            seconds = time.perf_counter() - begun
            print(f"{added} docstrings of Python {platform.python_version()}'s own library, {seconds:.1f} s")
            for question in demo.QUESTIONS:
                print(f"\n? {question}")
                _reply(index, question)
            if sys.stdin.isatty():
                _converse(index)


def _converse(index: Index) -> None:
    print("\nask your own; an empty line ends")
    while True:
        try:
            question = input("? ").strip()
        except EOFError:
            print()
            return
        if not question:
            return
        _reply(index, question)


def _reply(index: Index, question: str) -> None:
    begun = time.perf_counter()
    hits = index.search(question, k=3)
    elapsed_ms = (time.perf_counter() - begun) * 1000
    _print_hits(hits)
    print(f"  {elapsed_ms:.1f} ms")


# -- parts of verbs


def _open(arguments: argparse.Namespace, readonly: bool = False) -> Index:
    return Index.open(arguments.path, arguments.model, arguments.memory_budget, readonly)


def _open_or_create(arguments: argparse.Namespace) -> Index:
    path = Path(arguments.path)
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return Index.create(
            path,
            model=arguments.model or DEFAULT_MODEL,
            bits=arguments.bits or DEFAULT_BITS,
            filters=arguments.filter or (),
            memory_budget=arguments.memory_budget,
        )
    index = _open(arguments)
    found = index.info()
    if arguments.bits not in (None, found.bits) or arguments.filter not in (None, list(found.filters)):
        index.close()
        raise IndexExistsError(
            f"'{path}' exists with {found.bits} bits and the filters {list(found.filters)}: "
            "leave --bits and --filter out, or choose another path"
        )
    return index


def _add(index: Index, documents: Iterable[Document], total: int | None) -> int:
    """Add documents, commit by commit; an error notes how many are safe, never too many."""
    from tqdm import tqdm

    safe = 0
    try:
        # Without a terminal on standard error, `None` makes the bar silent.
        with tqdm(documents, total=total, unit="doc", disable=None) as shown:
            remaining = iter(shown)
            while ids := index.add(islice(remaining, COMMIT_EVERY)):
                safe += len(ids)
    except (EdgeretError, OSError, KeyboardInterrupt) as error:
        error.add_note(f"{safe} documents of this run are safe: run it again to go on")
        raise
    return safe


def _answer(arguments: argparse.Namespace, summary: dict[str, Any]) -> None:
    if arguments.json:
        _print_json(summary)
        return
    for key, value in summary.items():
        shown = (
            f"{value:.1f}"
            if isinstance(value, float)
            else ", ".join(value)
            if isinstance(value, list)
            else value
        )
        print(f"{key}: {shown}")


def _print_json(value: Any) -> None:
    print(json.dumps(value))


def _print_hits(hits: Sequence[Hit]) -> None:
    for rank, hit in enumerate(hits, start=1):
        passage = _one_line(hit.text)
        snippet = passage if len(passage) <= _SNIPPET else passage[: _SNIPPET - 1] + "…"
        print(f"{rank:>3}  {hit.score:6.3f}  {_one_line(hit.id)}  {snippet}")


def _one_line(text: str) -> str:
    """All whitespace as one space, and so what could steer a terminal."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


# -- arguments


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        try:
            print(f"edgeret {metadata.version('edgeret')}")
        except metadata.PackageNotFoundError:
            print("edgeret (not installed)")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeret",
        description="Semantic search in one file, without a network.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    opening, making, answering = _opening(), _making(), _answering()
    path = argparse.ArgumentParser(add_help=False)
    path.add_argument("path", metavar="PATH", help="the index file")

    def verb(
        name: str, run: Callable[[argparse.Namespace], None], summary: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name, help=summary, description=f"{summary}.", parents=parents, allow_abbrev=False,
            epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        added.set_defaults(run=run)
        return added

    index = verb(
        "index", _index, "add documents to an index, made if missing", path, opening, making, answering
    )
    index.add_argument(
        "inputs", metavar="INPUT", nargs="+",
        help="folder of text or Markdown, text file, .jsonl (id, text, any other key is metadata), or - for "
        "JSON Lines on standard input",
    )  # fmt: skip

    search = verb("search", _search, "find the documents nearest to a query", path, opening, answering)
    search.add_argument("query", metavar="QUERY")
    search.add_argument("-k", type=int, default=10, help="documents to find (default: 10)")
    search.add_argument("--where", type=_json_object, metavar="JSON", help="condition on the metadata")
    search.add_argument("--mode", choices=MODES, default="dense", help="(default: dense)")
    search.add_argument(
        "--oversample", type=int, default=4, metavar="N", help="candidates for each of k (default: 4)"
    )

    get = verb("get", _get, "show a document", path, opening, answering)
    get.add_argument("id", metavar="ID")

    delete = verb("delete", _delete, "remove documents; unknown ids are no error", path, opening, answering)
    delete.add_argument("ids", metavar="ID", nargs="+")
    delete.add_argument(
        "--erase", action="store_true", help="also overwrite what remains of them in the file"
    )

    verb("info", _info, "show what an index is and how large", path, opening, answering)
    check = verb("check", _check, "compare every part of an index with every other", path, opening, answering)
    check.add_argument("--quick", action="store_true", help="only SQLite's structures and the counters")
    verb("compact", _compact, "give the space of deleted documents back", path, opening, answering)
    backup = verb("backup", _backup, "copy an index, also while it is in use", path, opening, answering)
    backup.add_argument("target", metavar="TARGET", help="the new file")
    verb("models", _models, "list the installed models", answering)

    shown = verb("demo", _demo, "search the docstrings of Python's own standard library", opening, making)
    shown.add_argument(
        "path", metavar="PATH", nargs="?", help="keep the index here (default: a temporary file)"
    )
    shown.add_argument("--all", action="store_true", help=f"all docstrings instead of {demo.ENTRIES}")
    return parser


def _opening() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--model",
        help=f"a model's name or folder (default: the index's own; for a new index {DEFAULT_MODEL})",
    )
    options.add_argument("--memory-budget", metavar="SIZE", help="bound on the memory taken, such as 112MB")
    return options


def _making() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--bits", type=int, help=f"length of a code in a new index (default: {DEFAULT_BITS})"
    )
    options.add_argument(
        "--filter",
        action="append",
        metavar="KEY",
        help="metadata key often asked by --where; may be repeated",
    )
    return options


def _answering() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", help="answer with one JSON value")
    return options


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"expected JSON, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"lang": "en"}}, got {text!r}')
    return value
