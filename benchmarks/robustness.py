"""Robustness: what typos, casing and length cost a bundle, beside the fp32 teacher.

    python -m benchmarks robustness --model M [--query-model Q] DIR...
    python -m benchmarks robustness

The first stores a JSON line for each collection and one for their mean; both print the stored means as a table in
Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import disturbances, ledger, metrics, quality
from benchmarks.datasets import Collection
from benchmarks.disturbances import Change
from benchmarks.ledger import Line
from benchmarks.quality import SEARCH, TEACHER, Columns
from benchmarks.teacher import read_teacher
from benchmarks.vectors import CachedEncoder, load_encoder
from edgeret.encode.records import TextEncoder
from edgeret.errors import EdgeretError
from export import ranking, verify

PATH: Final = ledger.PATH.with_name("robustness.jsonl")
MEAN: Final = "mean"
BITS: Final = 256
RESCORE: Final = 40
LENGTHS: Final = (0, 16, 32, 64, 128, 256)
"""Bounds of the buckets, in tokens, with the two special ones."""

_SPECIAL: Final = 2
# Each has a nearest one then.
_LEAST_TEXTS: Final = 2
_PACKAGES: Final = ("onnxruntime", "tokenizers", "numpy")


def ask(
    collection: Collection,
    encoder: TextEncoder,
    query_encoder: TextEncoder,
    teacher: Any,
    changes: dict[str, Change],
) -> dict[str, Columns]:
    """The columns of `quality` for each change of the queries. A teacher has encode()."""
    asked = Collection(
        name=collection.name,
        documents=collection.documents,
        queries={
            f"{name} {query}": change(text)
            for name, change in changes.items()
            for query, text in collection.queries.items()
        },
        qrels={f"{name} {query}": grades for name in changes for query, grades in collection.qrels.items()},
    )
    columns = quality.measure(asked, encoder, query_encoder, teacher, BITS, RESCORE)
    parts = {column: np.split(values, len(changes)) for column, values in columns.items()}
    return {
        name: {column: values[row] for column, values in parts.items()} for row, name in enumerate(changes)
    }


def shares(measured: Sequence[dict[str, Columns]]) -> Line:
    """What the queries of each change keep: of the clean ones' nDCG@10, and of the teacher's with the same change.

    One element a collection; the first change leaves the queries alone. Each with its interval, but for what the
    teacher and BM25 keep of their own clean queries.
    """
    clean = next(iter(measured[0]))

    def of(column: str, change: str) -> list[metrics.Scores]:
        return [found[change][column] for found in measured]

    line: Line = {}
    for change in measured[0]:
        part = line[change] = {"ndcg10": round(float(np.mean([v.mean() for v in of(SEARCH, change)])), 4)}
        part |= _share("of_teacher", of(SEARCH, change), of(TEACHER, change))
        if change != clean:
            part |= _share("of_clean", of(SEARCH, change), of(SEARCH, clean))
            for name, column in (("teacher", TEACHER), ("lexical", "ndcg10_lexical")):
                part[f"{name}_of_clean"] = round(metrics.share(of(column, change), of(column, clean)), 4)
    return line


def _share(name: str, values: list[metrics.Scores], reference: list[metrics.Scores]) -> Line:
    interval = metrics.share_interval(values, reference)
    return {
        name: round(metrics.share(values, reference), 4),
        f"{name}_interval": [round(bound, 4) for bound in interval],
    }


def long_texts(collection: Collection, encoder: TextEncoder, count: int, seed: int) -> list[str]:
    """At most `count` texts of as many tokens as a passage has: documents in drawn order, joined, then cut."""
    documents = [text for text in collection.documents.values() if text]
    made: list[str] = []
    joined = ""
    for row in np.random.default_rng(seed).permutation(len(documents)):
        if len(made) == count:
            break
        joined = f"{joined} {documents[row]}".strip()
        spans = encoder.token_spans(joined)
        if len(spans) >= encoder.passage_tokens:
            made.append(joined[: spans[encoder.passage_tokens - 1][1]])
            joined = ""
    return made


def beginnings(texts: Sequence[str], encoder: TextEncoder, seed: int) -> dict[str, list[str]]:
    """The first tokens of the same texts, for each bucket of LENGTHS; how many is drawn evenly within it."""
    draw = np.random.default_rng(seed)
    found: dict[str, list[str]] = {}
    for shorter, longest in pairwise(LENGTHS):
        least, most = max(1, shorter + 1 - _SPECIAL), longest - _SPECIAL
        cut = found[f"{shorter + 1}-{longest}"] = []
        for text in texts:
            spans = encoder.token_spans(text)
            cut.append(text[: spans[min(int(draw.integers(least, most + 1)), len(spans)) - 1][1]])
    return found


def nearness(texts: dict[str, list[str]], encoder: TextEncoder, teacher: Any) -> Line:
    """By bucket, the mean cosine to the teacher's vectors, and the share of the ten nearest that both agree on."""
    line: Line = {}
    for bucket, part in texts.items():
        vectors, expected = encoder.encode(part), teacher.encode(part)
        line[bucket] = {
            "cosine": round(float(verify.cosines(vectors, expected).mean()), 4),
            "overlap": round(verify.overlap(vectors, expected), 4),
        }
    return line


def mean_nearness(lines: Sequence[Line]) -> Line:
    """The mean over collections."""
    return {
        bucket: {name: round(float(np.mean([line[bucket][name] for line in lines])), 4) for name in values}
        for bucket, values in lines[0].items()
    }


def table(lines: Sequence[Line]) -> str:
    """Markdown of the stored lines: a column for each pair of bundles. Raises ValueError where nothing is stored."""
    pairs: dict[str, dict[str, Line]] = {}
    for line in lines:
        asked = "" if line["query_model"] == line["model"] else f", queries `{line['query_model']}`"
        pairs.setdefault(f"`{line['model']}`{asked}", {})[line["collection"]] = line
    columns = {title: _cells(found) for title, found in pairs.items() if MEAN in found}
    if not columns:
        raise ValueError("expected stored means, found none: name a model and collections")
    labels = dict.fromkeys(label for column in columns.values() for label in column)
    rows = [["", *columns], ["---"] * (1 + len(columns))]
    rows += [[label, *(column.get(label, "-") for column in columns.values())] for label in labels]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(found: dict[str, Line]) -> dict[str, str]:
    """What the table says of a pair of bundles. found: its lines by collection."""

    def shown(part: Line, name: str) -> str:
        low, high = part[f"{name}_interval"]
        return f"{part[name]:.3f} ({low:.3f}-{high:.3f})"

    mean = found[MEAN]
    cells = {
        f"{name}, of the teacher": shown(found[name]["queries"]["clean"], "of_teacher")
        for name in mean["collections"]
    }
    for change, part in mean["queries"].items():
        for name, words in (("of_clean", "of its own clean queries"), ("of_teacher", "of the teacher")):
            # What nothing has changed is left out.
            if name in part and not (name == "of_teacher" and part.get("of_clean") == 1):
                cells[f"{change}, {words}"] = shown(part, name)
    # Documents' alone.
    lengths = mean["lengths"] if mean["model"] == mean["query_model"] else {}
    for bucket, part in lengths.items():
        cells[f"{bucket} tokens, cosine / ten nearest"] = f"{part['cosine']:.3f} / {part['overlap']:.3f}"
    return cells


def main(argv: list[str]) -> int:
    """Measure the collections named on the command line, print the table; return the exit code."""
    options = _parse(argv)
    try:
        if options.collections:
            _run(options)
        print(table(ledger.read(options.results)))
    except (EdgeretError, ValueError, OSError) as error:
        print(f"robustness: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks robustness", description=__doc__)
    parser.add_argument(
        "collections", nargs="*", type=Path, metavar="DIR", help="a collection in BEIR layout"
    )
    parser.add_argument("--model", help="the documents' bundle")
    parser.add_argument("--query-model", help="the queries' bundle (default: the documents')")
    parser.add_argument("--max-queries", type=int, default=300, help="queries drawn from a collection")
    parser.add_argument("--documents", type=int, default=1000, help="drawn, those that are judged included")
    parser.add_argument("--texts", type=int, default=100, help="long texts made of a collection")
    parser.add_argument("--typos", type=float, default=0.3, help="share of the words that get one")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument(
        "--teacher", type=Path, help="the teacher's folder (default: the installed package's)"
    )
    parser.add_argument("--results", type=Path, default=PATH, help="where lines are stored")
    options = parser.parse_args(argv)
    if options.collections and options.model is None:
        parser.error("expected --model with collections, got none")
    if not 0 <= options.typos <= 1:
        parser.error(f"expected --typos from 0 to 1, got {options.typos}")
    return options


def _run(options: argparse.Namespace) -> None:
    reference = read_teacher(options.teacher)
    if reference is None:
        raise ValueError("expected a teacher, found none: name its folder with --teacher")
    teacher = CachedEncoder(reference, reference.geometry)
    encoder = load_encoder(options.model)
    query_encoder = load_encoder(options.query_model) if options.query_model else encoder
    changes = disturbances.changes(options.typos, options.seed)
    settings = {
        "kind": "robustness",
        "model": encoder.name,
        "query_model": query_encoder.name,
        "machine": ledger.machine(),
        "bits": BITS,
        "rescore": RESCORE,
        "typos": options.typos,
    }

    def store(collection: str, measured: list[dict[str, Columns]], lengths: Line, **line: Any) -> None:
        line |= {"queries": shares(measured), "lengths": lengths}
        ledger.append({"collection": collection, **settings, **line}, _PACKAGES, options.results)

    measured, lengths = [], []
    for folder in options.collections:
        drawn = ranking.draw(folder, options.max_queries, options.documents, options.seed)
        measured.append(ask(drawn, encoder, query_encoder, teacher, changes))
        texts = long_texts(drawn, encoder, options.texts, options.seed)
        if len(texts) < _LEAST_TEXTS:
            raise ValueError(
                f"expected {_LEAST_TEXTS} long texts of {drawn.name} at least, found {len(texts)}: "
                "draw more --documents or --texts"
            )
        lengths.append(nearness(beginnings(texts, encoder, options.seed), encoder, teacher))
        store(drawn.name, measured[-1:], lengths[-1], documents=len(drawn.documents), texts=len(texts))
    names = [folder.resolve().name for folder in options.collections]
    store(MEAN, measured, mean_nearness(lengths), collections=names)
