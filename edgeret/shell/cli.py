"""The shell: the API's verbs, words and defaults."""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from edgeret import door, signing, stems
from edgeret.documents import Document, Hit
from edgeret.encode.bundle import DEFAULT_MODEL, Bundle, available
from edgeret.encode.encoder import Encoder
from edgeret.encode.reranker import KIND as RERANKER
from edgeret.encode.reranker import Reranker
from edgeret.errors import (
    ArgumentError,
    EdgeretError,
    IndexExistsError,
    InvalidDocumentError,
    InvalidQueryError,
    LockedError,
    NotAnIndexError,
    StemmerError,
    StorageError,
)
from edgeret.fleet import shipping
from edgeret.index import Index, room
from edgeret.plan import parse_bytes
from edgeret.reports import Added, RecodeSummary, ReencodeSummary, SyncSummary
from edgeret.search.options import Nearness
from edgeret.shell import demo, inputs, show, watch
from edgeret.shell.arguments import NO_STEMS, language_of, parser
from edgeret.shell.forecast import Forecast
from edgeret.shell.show import as_json, bar, document_as_json, harmless, lines, message, one_line, ranked
from edgeret.shell.tally import Tally
from edgeret.sources import structure
from edgeret.sources.formats import Keys
from edgeret.space import Unloaded
from edgeret.storage.filters import keys_of
from edgeret.upkeep.duplicates import KEEP
from edgeret.upkeep.optimize import optimize
from edgeret.upkeep.recode import recode
from edgeret.upkeep.reencode import reencode
from edgeret.upkeep.repair import repair
from edgeret.upkeep.sync import check_folder, named
from edgeret.upkeep.upgrade import upgrade

_INDEXES: Final = ("path", "target", "old", "new", "repair")
_PATHS: Final = (*_INDEXES, "update", "key", "public_key", "model", "folders")

COMMIT_EVERY: Final = 1000
"""Documents in one commit of `edgeret index`."""

_SILENCE_S: Final = 60.0
"""Between two lines of progress where there is no terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. Raises SystemExit for wrong usage, --help and --version."""
    if sys.stderr is None:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            return main(argv)
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        if sys.stdout is None:
            raise StorageError("standard output is closed: send it to /dev/null where nobody reads it")
        _check_paths(arguments)
        _VERBS[arguments.verb](arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone.
        _drop_output()
        return 1
    except KeyboardInterrupt as interrupt:
        return _fail("interrupted", interrupt, 130)
    except (EdgeretError, OSError) as error:
        return _fail(str(error), error, 1)
    return 0


def _check_paths(arguments: argparse.Namespace) -> None:
    """Refuse what can be no path, and what SQLite cannot open."""
    for name in _PATHS:
        given = getattr(arguments, name, None)
        for value in given if isinstance(given, list) else [given]:
            if value is None:
                continue
            if not value or "\0" in value:
                raise StorageError(f"expected a path, got {value!r}: name a file or folder")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise StorageError(
                    f"expected a path in UTF-8, got '{value}': rename it, or its folder"
                ) from None
            if not Path(value).name and name in _INDEXES and arguments.verb not in ("sign", "verify"):
                raise NotAnIndexError(f"'{value}' is a folder: an index is one file")


def _fail(text: str, error: BaseException, code: int) -> int:
    _say("; ".join([text, *getattr(error, "__notes__", ())]))
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_output()
    return code


def _say(text: str) -> None:
    """One line on standard error, also while a bar is shown there."""
    from tqdm import tqdm

    tqdm.write(message(f"edgeret: {text}"), file=sys.stderr)


def _drop_output() -> None:
    """Lose what nobody can take: the interpreter must not try to flush it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# -- verbs


def _index(arguments: argparse.Namespace) -> None:
    tally = Tally(_say)
    keys = Keys(arguments.text_key, arguments.id_key)
    documents = inputs.read(arguments.inputs, tally.refuse, arguments.follow_links, keys, tally.skip)
    total = inputs.count(arguments.inputs, arguments.follow_links) if sys.stderr.isatty() else None
    begun = time.perf_counter()
    with _open_or_create(arguments) as index:
        add = partial(index.add, chunk=structure.sections, duplicates=arguments.duplicates)
        seen = tally.seen(documents, index.info().dim, room(index))
        added = _add(lambda some: tally.noted(add(some)), seen, total)
        summary = {
            "added": added,
            "refused": tally.refused,
            "skipped": len(tally.skipped),
            "repeated": tally.repeated(),
            **({} if arguments.duplicates == KEEP else {"copies": tally.copies_found}),
            "documents": len(index),
            "seconds": time.perf_counter() - begun,
        }
    _answer(arguments, summary)
    for reason in show.skipped(tally.skipped):
        _say(reason)
    if summary["repeated"]:
        _say(f"{summary['repeated']} texts without an id are the same as another: each is kept once")
    for line in show.copies(tally.copies, tally.copies_found):
        _say(line)
    if tally.refused:
        sys.stdout.flush()
        raise InvalidDocumentError(
            f"{tally.refused} of {tally.refused + added} documents were refused, as said above, the others are in "
            "the index: fix these and run it again"
        )


def _sync(arguments: argparse.Namespace) -> None:
    # Before an index is made.
    for folder in named(arguments.folders).values():
        check_folder(folder)
    with _open_or_create(arguments) as index:
        if not arguments.watch:
            _report(arguments, _follow(index, arguments))
            return
        due = False
        for has_changed in watch.changes(arguments.folders, arguments.path):
            due |= has_changed
            if not due:
                continue
            try:
                _report(arguments, _follow(index, arguments))
                due = False
            except LockedError as error:
                # Another writer is at work: the next look comes soon.
                _say(str(error))
            except InvalidDocumentError as error:
                _say(str(error))
                due = False
            sys.stdout.flush()


def _follow(index: Index, arguments: argparse.Namespace) -> SyncSummary:
    with bar("B", every=_SILENCE_S) as progress:
        return index.sync(
            arguments.folders,
            arguments.text_key,
            arguments.id_key,
            arguments.follow_links,
            progress=progress,
            duplicates=arguments.duplicates,
        )


def _report(arguments: argparse.Namespace, summary: SyncSummary) -> None:
    """Say what a sync has done. Raises InvalidDocumentError if something should be read and cannot be."""
    for reason in summary.refused.values():
        _say(reason)
    if arguments.json:
        print(as_json(asdict(summary)))
    else:
        bounded = ("skipped", "refused", "copies")
        print(lines(asdict(summary) | {name: len(getattr(summary, name)) for name in bounded}))
        for reason in show.skipped(summary.skipped):
            _say(reason)
        for line in show.copies(summary.copies, len(summary.copies)):
            _say(line)
    if summary.refused:
        sys.stdout.flush()
        raise InvalidDocumentError(
            f"{len(summary.refused)} files or records were refused, as said above, the others are in the index: "
            "fix these and run it again"
        )


def _search(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        if arguments.query is None:
            _converse(lambda question: _find(index, arguments, question))
        else:
            _find(index, arguments, arguments.query)


def _find(index: Index, arguments: argparse.Namespace, query: str) -> None:
    hits = index.search(
        query,
        arguments.k,
        arguments.where,
        arguments.mode,
        prefix=arguments.prefix,
        rerank=arguments.rerank,
        rerank_k=arguments.rerank_k,
        **_ranking(arguments),
    )
    _tell(index, arguments, hits)


def _similar(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        hits = index.similar(arguments.id, arguments.k, arguments.where, **_ranking(arguments))
        _tell(index, arguments, hits)


def _ranking(arguments: argparse.Namespace) -> Nearness:
    feedback = (arguments.like or [], arguments.unlike or [])
    return Nearness(
        oversample=arguments.oversample,
        min_score=arguments.min_score,
        offset=arguments.offset,
        feedback=feedback if any(feedback) else None,
        per_document=arguments.per_document,
        diversity=arguments.diversity,
        boost=arguments.boost and dict(zip(("key", "halflife"), arguments.boost, strict=True)),
        group_by=arguments.group_by,
        per_group=arguments.per_group,
    )


def _tell(index: Index, arguments: argparse.Namespace, hits: list[Hit]) -> None:
    _warn(index, arguments.where, len(hits))
    if arguments.json:
        print(as_json([asdict(hit) for hit in hits]))
    elif not hits:
        print("nothing found", file=sys.stderr)
    elif sys.stdout.isatty():
        print(show.told(hits, show.is_styled(sys.stdout)))
    else:
        print(ranked(hits))


def _get(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        document = index.get(arguments.id)
    if document is None:
        raise InvalidQueryError(f"no document {arguments.id!r:.80} in '{arguments.path}': check the id")
    print(document_as_json(document) if arguments.json else harmless(document.text))


def _list(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        found = index.ids(arguments.where, arguments.after, arguments.limit)
        # Without ids, JSON has one part.
        listed = -1 if arguments.json else 0
        for part in show.listed(found, arguments.json):
            listed += 1
            sys.stdout.write(part)
        _warn(index, arguments.where, listed)


def _count(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        if arguments.by is None:
            documents = index.count(arguments.where)
            _answer(arguments, {"documents": documents})
            _warn(index, arguments.where, documents)
            return
        found = index.facets(arguments.by, arguments.where, arguments.limit)
    if arguments.json:
        print(as_json(found))
    elif found:
        print(show.counted(found, sys.stdout.isatty()))
    if not found and arguments.limit != 0:
        sys.stdout.flush()
        _say(
            f"no document of these has a value of the metadata key {arguments.by!r:.80}: check how it is written"
        )


def _export(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        for document in index.documents(arguments.where):
            print(document_as_json(document))


def _update(arguments: argparse.Namespace) -> None:
    where = _condition(arguments)
    with _open_bare(arguments) as index:
        ids: Iterable[str] = arguments.ids or index.ids(where)
        changes = ((id, arguments.metadata) for id in ids)
        updated = index.update_many(changes, merge=not arguments.replace)
        _answer(arguments, {"updated": updated, "documents": len(index)})
        _warn(index, where, updated)


def _warn(index: Index, where: dict[str, Any] | None, found: int) -> None:
    """If nothing was found, say which keys of a condition no document has."""
    for key in () if found else dict.fromkeys(keys_of(where or {})):
        if not index.count({key: {"$exists": True}}):
            sys.stdout.flush()
            _say(f"no document has the metadata key {key!r:.80}: check how it is written")


def _condition(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """`--where`, which stands in the place of ids."""
    where: dict[str, Any] | None = arguments.where
    if bool(arguments.ids) == bool(where):
        raise InvalidQueryError("expected either ids or a --where that is not empty: say which documents")
    return where


def _delete(arguments: argparse.Namespace) -> None:
    where = _condition(arguments)
    with _open_bare(arguments) as index:
        deleted = index.delete(arguments.ids or None, arguments.erase, where)
        _answer(arguments, {"deleted": deleted, "documents": len(index)})
        _warn(index, where, deleted)


def _info(arguments: argparse.Namespace) -> None:
    with _open(arguments, readonly=True) as index:
        _answer(arguments, asdict(index.info()))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.repair:
        _answer(arguments, asdict(repair(arguments.path, arguments.repair, arguments.model)))
        return
    # Whoever checks changes nothing, nor the format.
    with _open(arguments, readonly=True) as index:
        _answer(arguments, asdict(index.check(quick=arguments.quick)))


def _compact(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments) as index:
        before = index.info().file_bytes
        index.compact()
        _answer(arguments, {"file_bytes_before": before, "file_bytes": index.info().file_bytes})


def _recode(arguments: argparse.Namespace) -> None:
    _convert(arguments, recode, "passage")


def _reencode(arguments: argparse.Namespace) -> None:
    _convert(arguments, reencode, "doc")


def _convert(
    arguments: argparse.Namespace, convert: Callable[..., RecodeSummary | ReencodeSummary], unit: str
) -> None:
    with bar(unit) as progress:
        summary = convert(
            arguments.path,
            arguments.model,
            arguments.bits,
            arguments.memory_budget,
            arguments.wait,
            progress,
        )
    _answer(arguments, asdict(summary))


def _upgrade(arguments: argparse.Namespace) -> None:
    with bar("passage") as progress:
        summary = upgrade(arguments.path, arguments.memory_budget, arguments.wait, progress)
    _answer(arguments, asdict(summary))


def _optimize(arguments: argparse.Namespace) -> None:
    with bar("step") as progress:
        summary = optimize(arguments.path, progress)
    _answer(arguments, asdict(summary))


def _backup(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        index.backup(arguments.target)
    _answer(arguments, {"path": arguments.target, "file_bytes": Path(arguments.target).stat().st_size})


def _seal(arguments: argparse.Namespace) -> None:
    with _open_bare(arguments, readonly=True) as index:
        index.seal(arguments.target)
    _answer(arguments, {"path": arguments.target, "file_bytes": Path(arguments.target).stat().st_size})


def _diff(arguments: argparse.Namespace) -> None:
    if sys.stdout.isatty():
        raise InvalidQueryError(
            "expected a file for the update, standard output is a terminal: edgeret diff OLD NEW > UPDATE"
        )
    shipping.diff(arguments.old, arguments.new, sys.stdout.buffer)


def _apply(arguments: argparse.Namespace) -> None:
    _answer(
        arguments,
        asdict(shipping.apply(arguments.path, arguments.update, arguments.model, arguments.wait)),
    )


def _sign(arguments: argparse.Namespace) -> None:
    _answer(arguments, {"signature": str(signing.sign(arguments.path, arguments.key))})


def _verify(arguments: argparse.Namespace) -> None:
    signing.verify(arguments.path, arguments.public_key)
    _answer(arguments, {"verified": arguments.path})


def _models(arguments: argparse.Namespace) -> None:
    bundles, faults = list[Bundle](), list[EdgeretError]()
    for name in available():
        try:
            bundles.append(Bundle.open(name))
        except EdgeretError as error:
            faults.append(error)
    described = [
        {
            "name": bundle.name,
            "kind": bundle.manifest.kind,
            "dim": bundle.dim,
            "max_tokens": bundle.max_tokens,
            "space": bundle.space,
            "file_bytes": bundle.file_bytes,
        }
        for bundle in bundles
    ]
    if arguments.json:
        print(as_json(described))
    else:
        for entry in described:
            of = "reranks" if entry["kind"] == RERANKER else f"dim {entry['dim']}, space {entry['space']}"
            print(f"{one_line(str(entry['name']))}  {entry['file_bytes']:,} bytes, {of}")
    if faults:
        sys.stdout.flush()
        for fault in faults[:-1]:
            _say(str(fault))
        raise faults[-1]


def _plan(arguments: argparse.Namespace) -> None:
    budget = None if arguments.budget is None else parse_bytes(arguments.budget)
    encoder = Encoder.load(arguments.model, arguments.backend, arguments.threads)
    judge = None if arguments.rerank is None else Reranker.load(arguments.rerank)
    forecast = Forecast.of(encoder, arguments.docs, arguments.words, budget, arguments.bits, judge)
    if arguments.json:
        print(as_json(forecast.described()))
    else:
        print(harmless(forecast.table()))


def _bench(arguments: argparse.Namespace) -> None:
    # It brings what starts processes, which no other verb needs.
    from edgeret.shell import bench

    _answer(arguments, bench.measure(arguments.model, arguments.docs))


def _mcp(arguments: argparse.Namespace) -> None:
    from edgeret.service import mcp

    mcp.serve(arguments.paths, arguments.model, arguments.memory_budget, arguments.write)


def _serve(arguments: argparse.Namespace) -> None:
    from edgeret.service import web

    if arguments.write:
        index = Index.create(
            arguments.path, arguments.model, memory_budget=arguments.memory_budget, exist_ok=True
        )
    else:
        index = _open(arguments, readonly=True)
    with index:
        if not web.is_loopback(arguments.host):
            _say(f"other machines can reach {arguments.host}, and nobody is asked for a password")
        web.serve(index, arguments.host, arguments.port, arguments.write, _say)


def _demo(arguments: argparse.Namespace) -> None:
    shown = demo.shown(arguments.language, None if arguments.all else demo.ENTRIES)
    if arguments.language != stems.ENGLISH:
        arguments.model = arguments.model or demo.world()
        arguments.language = _stemmed(arguments.language)
    with tempfile.TemporaryDirectory(prefix="edgeret-") as folder:
        arguments.path = arguments.path or str(Path(folder, "demo.edgeret"))
        begun = time.perf_counter()
        with _open_or_create(arguments) as index:
            added = _add(index.add, shown.documents, len(shown.documents))
            seconds = time.perf_counter() - begun
            print(f"{added} {shown.kind}, {seconds:.1f} s")
            for question in shown.questions:
                print(f"\n? {question}")
                _reply(index, question)
            if sys.stdin.isatty():
                print("\nask your own; an empty line ends")
                _converse(lambda question: _reply(index, question))


def _stemmed(language: str) -> str:
    """The language by whose stems words can be found here: itself or none."""
    try:
        stems.version(language)
    except ArgumentError:
        _say(f"words are found as they are: there are no stems of {language!r}")
    except StemmerError as error:
        _say(f"words are found as they are: {error}")
    else:
        return language
    return NO_STEMS


def _converse(reply: Callable[[str], None]) -> None:
    """Ask for one question after the other, until a line is empty."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What is pasted may not be in the terminal's encoding.
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            question = input("? ").strip()
        except EOFError:
            print()
            return
        if not question:
            return
        reply(question)


def _reply(index: Index, question: str) -> None:
    begun = time.perf_counter()
    hits = index.search(question, k=3)
    elapsed_ms = (time.perf_counter() - begun) * 1000
    print(ranked(hits, sys.stdout.isatty()))
    print(f"  {elapsed_ms:.1f} ms")


# -- parts of verbs


def _open(arguments: argparse.Namespace, readonly: bool = False) -> Index:
    wait = 0.0 if readonly else arguments.wait
    return Index.open(arguments.path, arguments.model, arguments.memory_budget, readonly, wait)


def _open_bare(arguments: argparse.Namespace, readonly: bool = False) -> Index:
    """The index without its model, which may not be installed here: for what encodes nothing."""
    wait = 0.0 if readonly else arguments.wait
    return Index.open(arguments.path, Unloaded.of(arguments.path), readonly=readonly, wait=wait)


def _open_or_create(arguments: argparse.Namespace) -> Index:
    path = door.path("path", arguments.path)
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return Index.create(
            path,
            model=arguments.model or DEFAULT_MODEL,
            bits=arguments.bits,
            filters=arguments.filter or (),
            language=language_of(arguments.language),
            memory_budget=arguments.memory_budget,
            wait=arguments.wait,
        )
    index = _open(arguments)
    found = index.info()
    told = found.language or NO_STEMS
    if (
        arguments.bits not in (None, found.bits)
        or arguments.filter not in (None, list(found.filters))
        or arguments.language not in (None, told)
    ):
        index.close()
        raise IndexExistsError(
            f"'{path}' exists with {found.bits} bits and the filters {list(found.filters)}, in the language {told}: "
            "leave --bits, --filter and --language out, or choose another path"
        )
    return index


def _add(add: Callable[[Iterable[Document]], Added], documents: Iterable[Document], total: int | None) -> int:
    """Add documents, commit by commit; an error notes how many are safe, never too many."""
    from tqdm import tqdm

    safe = 0
    try:
        # Without a terminal on standard error, `None` makes the bar silent.
        with tqdm(documents, total=total, unit="doc", disable=None) as shown:
            remaining = iter(shown)
            while (added := add(islice(remaining, COMMIT_EVERY))) or added.copies_found:
                safe += len(added)
    except (EdgeretError, OSError, KeyboardInterrupt) as error:
        error.add_note(f"{safe} documents of this run are safe: run it again to go on")
        raise
    return safe


def _answer(arguments: argparse.Namespace, summary: dict[str, Any]) -> None:
    print(as_json(summary) if arguments.json else lines(summary))


_VERBS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "index": _index,
    "sync": _sync,
    "search": _search,
    "similar": _similar,
    "get": _get,
    "list": _list,
    "count": _count,
    "export": _export,
    "update": _update,
    "delete": _delete,
    "info": _info,
    "check": _check,
    "compact": _compact,
    "recode": _recode,
    "reencode": _reencode,
    "upgrade": _upgrade,
    "optimize": _optimize,
    "backup": _backup,
    "seal": _seal,
    "diff": _diff,
    "apply": _apply,
    "sign": _sign,
    "verify": _verify,
    "models": _models,
    "plan": _plan,
    "bench": _bench,
    "mcp": _mcp,
    "serve": _serve,
    "demo": _demo,
}
