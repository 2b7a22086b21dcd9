"""Arguments: the grammar of the shell's verbs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from edgeret import __version__, stems
from edgeret.door import DUPLICATES
from edgeret.encode.bundle import DEFAULT_MODEL
from edgeret.search.stages import MODES
from edgeret.shell import demo, show
from edgeret.storage.file import WAIT_S

NO_STEMS: Final = "none"
"""In the place of a language: words are found as they are."""

_FILES: Final = ("PATH", "INPUT", "TARGET", "OLD", "NEW", "UPDATE", "PEM")
"""Arguments that are completed by the names of files."""

_EXIT_CODES: Final = """\
exit codes:
  0    done; a search that finds nothing is done too
  1    it cannot be done: one line on standard error says why, and what to do
  2    wrong usage
  130  interrupted
"""


class _Completion(argparse.Action):
    """Writes what a shell reads to complete verbs, options and paths."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: object, shell: Any, option_string: str | None = None
    ) -> None:
        try:
            import shtab
        except ImportError:
            parser.error(f"{option_string} needs the package shtab: run pip install 'edgeret[completion]'")
        for taken in _actions(parser):
            if taken.metavar in _FILES:
                taken.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(shtab.complete(parser, shell))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All that a parser and those of its verbs take."""
    for action in parser._actions:
        yield action
        if isinstance(action.choices, Mapping):
            for inner in action.choices.values():
                yield from _actions(inner)


class _Parser(argparse.ArgumentParser):
    """Quotes what was typed without what could steer a terminal, and says which verb may have been meant."""

    verbs: Collection[str] = ()

    def parse_args(self, *args: Any, **options: Any) -> Any:
        words = args[0] if args and args[0] is not None else sys.argv[1:]
        verb = next((word for word in words if not word.startswith("-")), "")
        meant = get_close_matches(verb, self.verbs, n=1)
        if verb not in self.verbs and meant:
            self.error(f"no verb {verb!r}: did you mean {meant[0]!r}?")
        found = super().parse_args(*args, **options)
        # Some releases of argparse take a lone -- for an argument of no word.
        if [] in vars(found).values():
            self.error("expected an argument, got --: write ./-- for a file of this name")
        if getattr(found, "query", "") is None and (sys.stdin is None or not sys.stdin.isatty()):
            self.error("expected a query, got none: name one; on a terminal it is asked for")
        return found

    def error(self, message: str) -> NoReturn:
        super().error(show.message(message))


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs; it sets `verb`."""
    whole = _Parser(
        prog="edgeret",
        description="Semantic search in one file, without a network.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    shell: argparse.ArgumentParser = whole
    shell.add_argument(
        "--version", action="version", version=f"edgeret {__version__}", help="show the version and exit"
    )
    shell.add_argument(
        "--print-completion", action=_Completion, choices=("bash", "zsh", "tcsh"),
        help="write what this shell reads to complete what is typed, and exit",
    )  # fmt: skip
    verbs = shell.add_subparsers(title="verbs", required=True, metavar="VERB")
    bounded, waiting, shaping, answering = _bounded(), _waiting(), _shaping(), _answering()
    making = _making(shaping)
    meeting, reading, ranking = _meeting(), _reading(), _ranking()
    opening = _opening(bounded)
    path, signed = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    path.add_argument("path", metavar="PATH", help="the index file")
    signed.add_argument("path", metavar="PATH", help="a sealed index, an update, or a model's folder")

    def verb(name: str, summary: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name, help=summary, description=f"{summary}.", parents=parents, allow_abbrev=False,
            epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        added.set_defaults(verb=name)
        return added

    index = verb(
        "index", "add documents to an index, made if missing",
        path, opening, waiting, making, reading, answering,
    )  # fmt: skip
    index.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="+",
        help="folder, file, .jsonl (id, text, any other key is metadata), or - for JSON Lines on standard input",
    )
    sync = verb(
        "sync", "bring an index, made if missing, in step with the files of folders",
        path, opening, waiting, making, reading, answering,
    )  # fmt: skip
    sync.add_argument("folders", metavar="FOLDER", nargs="+", help="folder; ids begin with its name")
    sync.add_argument(
        "--watch", action="store_true", help="go on until it is interrupted: sync whenever a file changes"
    )

    search = verb(
        "search", "find the documents nearest to a query", path, opening, meeting, ranking, answering
    )
    search.add_argument(
        "query", metavar="QUERY", nargs="?", help="(default: on a terminal, asks for one after the other)"
    )
    search.add_argument("--mode", choices=MODES, help="(default: hybrid)")
    search.add_argument("--prefix", action="store_true", help="the last word is a beginning of words")
    search.add_argument("--rerank", metavar="BUNDLE", help="reranker that orders the first documents anew")
    search.add_argument("--rerank-k", type=int, default=20, metavar="N", help="so many of them (default: 20)")
    similar = verb(
        "similar", "find the documents most like one of the index",
        path, opening, meeting, ranking, answering,
    )  # fmt: skip
    similar.add_argument("id", metavar="ID")

    get = verb("get", "show a document", path, answering)
    get.add_argument("id", metavar="ID")

    listing = verb("list", "list the ids of documents, in their order", path, meeting, answering)
    listing.add_argument("--after", metavar="ID", help="only ids greater than this one")
    listing.add_argument("--limit", type=int, metavar="N", help="most ids to list (default: all)")
    count = verb("count", "count documents, or those of each value of a key", path, meeting, answering)
    count.add_argument("--by", metavar="KEY", help="count the documents of each value of this metadata key")
    count.add_argument("--limit", type=int, metavar="N", help="most values to show (default: all)")
    verb("export", "write documents as JSON Lines, which 'edgeret index' reads back whole", path, meeting)
    update = verb("update", "change metadata; nothing is encoded", path, meeting, waiting, answering)
    update.add_argument(
        "metadata", metavar="JSON", type=_json_object, help="metadata keys and their new values"
    )
    update.add_argument(
        "ids", metavar="ID", nargs="*", default=(), help="of documents; unknown ones are no error"
    )
    update.add_argument("--replace", action="store_true", help="drop all other keys (default: keep them)")

    delete = verb("delete", "remove documents", path, meeting, waiting, answering)
    delete.add_argument(
        "ids", metavar="ID", nargs="*", default=(), help="of documents; unknown ones are no error"
    )
    delete.add_argument(
        "--erase", action="store_true", help="also rewrite the file, so that nothing of them remains in it"
    )

    verb("info", "show what an index is and how large", path, opening, answering)
    check = verb(
        "check", "verify every part of an index against every other", path, opening, waiting, answering
    )
    check.add_argument("--quick", action="store_true", help="only SQLite's structures and the counters")
    check.add_argument(
        "--repair", metavar="TARGET", help="write what can be saved to a new index, and check that"
    )
    verb("compact", "rewrite the file without what was deleted", path, waiting, answering)
    recode = verb(
        "recode", "make new codes from the stored vectors, for another codec or length",
        path, bounded, waiting, answering,
    )  # fmt: skip
    recode.add_argument(
        "--model", help="the model whose codec is used; the index's model from then on (default: its own)"
    )
    recode.add_argument("--bits", type=int, help="length of a code (default: as it is)")
    reencode = verb(
        "reencode", "encode all stored texts with another model, while the index is in use",
        path, bounded, waiting, answering,
    )  # fmt: skip
    reencode.add_argument(
        "--model", required=True, help="a model's name or folder, the index's model from then on"
    )
    reencode.add_argument("--bits", type=int, help="length of a code (default: as it is)")
    verb(
        "upgrade", "bring an index to the format of today; its words are made anew",
        path, bounded, waiting, answering,
    )  # fmt: skip
    verb(
        "optimize",
        "write partitions beside an index, so that a search scans a share of its codes",
        path,
        answering,
    )
    backup = verb("backup", "copy an index, also while it is in use", path, answering)
    backup.add_argument("target", metavar="TARGET", help="the new file")
    seal = verb("seal", "write an index to one compact file to ship", path, answering)
    seal.add_argument("target", metavar="TARGET", help="the new file")
    diff = verb("diff", "write the update from one index to another to standard output")
    diff.add_argument("old", metavar="OLD", help="an index file")
    diff.add_argument("new", metavar="NEW", help="another, of the same model")
    apply = verb("apply", "apply an update to an index, all of it or nothing", path, waiting, answering)
    apply.add_argument("update", metavar="UPDATE", help="a file that 'edgeret diff' wrote")
    apply.add_argument("--model", help="a model of the index's space (default: the index's own)")
    sign = verb("sign", "sign a sealed index, an update or a model", signed, answering)
    sign.add_argument("--key", required=True, metavar="PEM", help="your private Ed25519 key")
    verify = verb(
        "verify", "check that a sealed index, an update or a model is what was signed", signed, answering
    )
    verify.add_argument("--public-key", required=True, metavar="PEM", help="the signer's public Ed25519 key")
    verb("models", "list the installed models", answering)
    modeled = argparse.ArgumentParser(add_help=False)
    modeled.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"a model's name or folder (default: {DEFAULT_MODEL})"
    )
    plan = verb(
        "plan",
        "show what an index will take in memory and on disk, and what is reduced to fit the budget",
        modeled,
        answering,
    )
    plan.add_argument("--docs", type=int, required=True, metavar="N", help="documents")
    plan.add_argument("--words", type=int, default=100, help="words of a document, on average (default: 100)")
    plan.add_argument("--budget", metavar="SIZE", help="most memory to take, such as 112MB")
    plan.add_argument("--bits", type=int, help="length of a code (default: enough for so many)")
    plan.add_argument("--rerank", metavar="BUNDLE", help="a reranker that searches take")
    plan.add_argument("--backend", help="what runs the model (default: as installed)")
    plan.add_argument("--threads", type=int, default=1, help="texts encoded at once (default: 1)")

    bench = verb("bench", "measure this machine with the demo's documents", modeled, answering)
    bench.add_argument(
        "--docs", type=int, default=demo.ENTRIES, metavar="N", help=f"documents (default: {demo.ENTRIES})"
    )

    mcp = verb("mcp", "serve indexes to a model's tools over standard input and output", opening)
    mcp.add_argument("paths", metavar="INDEX", nargs="+", help="an index file")
    serve = verb("serve", "serve an index over HTTP, to programs of this machine", path, opening)
    serve.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen at; any but a loopback address lets other machines in (default: 127.0.0.1)",
    )  # fmt: skip
    serve.add_argument("--port", type=int, default=8765, help="(default: 8765; 0 takes a free one)")
    for one in (mcp, serve):
        one.add_argument(
            "--write", action="store_true", help="let documents be added; an index that is missing is made"
        )

    shown = verb("demo", "search the docstrings of Python's own standard library", opening, waiting, shaping)
    shown.add_argument(
        "path", metavar="PATH", nargs="?", help="keep the index here (default: a temporary file)"
    )
    shown.add_argument("--all", action="store_true", help=f"all docstrings instead of {demo.ENTRIES}")
    shown.add_argument(
        "--language", choices=(stems.ENGLISH, *demo.LANGUAGES), default=stems.ENGLISH, metavar="CODE",
        help="search manual pages of this machine in another language, or short texts where they are few, by a model "
        f"of edgeret[world]: {', '.join(demo.LANGUAGES)}",
    )  # fmt: skip
    whole.verbs = verbs.choices
    return whole


def _bounded() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--memory-budget", metavar="SIZE", help="most memory to take, such as 112MB")
    return options


def _opening(bounded: argparse.ArgumentParser) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, parents=[bounded])
    options.add_argument(
        "--model",
        help=f"a model's name or folder (default: the index's own; for a new index {DEFAULT_MODEL})",
    )
    return options


def _meeting() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--where", type=_json_object, metavar="JSON", help="condition on the metadata")
    return options


def _ranking() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("-k", type=int, default=10, help="documents to find (default: 10)")
    options.add_argument(
        "--offset", type=int, metavar="N", help="better documents to leave out; 0 for a first page"
    )
    for how in ("like", "unlike"):
        options.add_argument(
            f"--{how}", metavar="ID", action="append",
            help=f"a document that the answer should be {how}; may be repeated",
        )  # fmt: skip
    options.add_argument(
        "--per-document", type=_number_or_all, default=1, metavar="N",
        help="passages to show of one document, or 'all' (default: 1)",
    )  # fmt: skip
    options.add_argument(
        "--diversity", type=float, metavar="SHARE", help="0 to 1, what it counts that hits differ"
    )
    options.add_argument(
        "--boost", nargs=2, metavar=("KEY", "HALFLIFE"),
        help="prefer what is new by the dates of this metadata key, such as: date 30d",
    )  # fmt: skip
    options.add_argument("--group-by", metavar="KEY", help="show the best of each value of this metadata key")
    options.add_argument("--per-group", type=int, default=1, metavar="N", help="so many of each (default: 1)")
    options.add_argument("--min-score", type=float, metavar="SCORE", help="leave out hits below it")
    options.add_argument(
        "--oversample",
        type=int,
        metavar="N",
        help="candidates to rescore, as a multiple of k (default: by the size of the index)",
    )
    return options


def _waiting() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"seconds to wait for another writer (default: {WAIT_S:g})",
    )
    return options


def _shaping() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--bits", type=int, help="length of a code in a new index (default: the model's longest up to 256)"
    )
    options.add_argument(
        "--filter",
        action="append",
        metavar="KEY",
        help="metadata key often asked by --where; may be repeated",
    )
    return options


def add_language(parser: argparse.ArgumentParser) -> None:
    """The flag that says how words are found in a new index; `language_of` tells what it means."""
    parser.add_argument(
        "--language",
        choices=(stems.ENGLISH, *stems.ALGORITHMS, NO_STEMS),
        metavar="CODE",
        help=f"by whose stems words are found in a new index (default: {stems.ENGLISH}); {NO_STEMS}: as they are",
    )


def language_of(given: str | None) -> str | None:
    """What was given, as `Index.create` takes it."""
    return None if given == NO_STEMS else given or stems.ENGLISH


def _making(shaping: argparse.ArgumentParser) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False, parents=[shaping])
    add_language(options)
    return options


def _reading() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--follow-links", action="store_true",
        help="also read what links in a folder lead to outside of it (default: each such link is named and left out)",
    )  # fmt: skip
    for what in ("text", "id"):
        options.add_argument(
            f"--{what}-key", metavar="KEY",
            help=f"column of tables, or key of JSON, that has the {what} (default: {what})",
        )  # fmt: skip
    options.add_argument(
        "--duplicates", choices=DUPLICATES, default=DUPLICATES[0],
        help="what becomes of new documents that say nearly what another one says: 'skip' leaves them out, 'report' "
        "adds them; both name them (default: keep)",
    )  # fmt: skip
    return options


def _answering() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", help="answer with one JSON value")
    return options


def _number_or_all(text: str) -> int | None:
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or 'all', got {text!r}") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"expected JSON, got {text!r} ({error})") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'expected a JSON object such as {{"lang": "en"}}, got {text!r}')
    return value
