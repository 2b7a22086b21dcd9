"""Ranking quality: nDCG@10 at each stage of a search, beside the fp32 teacher's exact float search."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import datasets, metrics
from benchmarks.metrics import Scores
from benchmarks.teacher import read_teacher
from benchmarks.vectors import CachedEncoder, load_encoder
from edgeret import scan
from edgeret.codec import quantize
from edgeret.documents import Document
from edgeret.encode import passages
from edgeret.encode.records import TextEncoder
from edgeret.errors import EdgeretError
from edgeret.index import Index
from edgeret.stems import ENGLISH

Float32 = NDArray[np.float32]
UInt64 = NDArray[np.uint64]
Rows = NDArray[np.int64]
Columns = dict[str, Scores]

TEACHER = "ndcg10_teacher"
FLOAT = "ndcg10_float"
SEARCH = "ndcg10"
RECALL = "recall10_at_40"
CANDIDATES = 40
COLUMNS = (TEACHER, FLOAT, "ndcg10_code", "ndcg10_hamming", SEARCH, "ndcg10_lexical", "ndcg10_hybrid", RECALL)

_BLOCK = 16_384
_CHUNK = 32


@dataclass(frozen=True)
class Passages:
    """What every column ranks. owners: the document id of each passage, in row order."""

    texts: list[str]
    owners: list[str]

    def documents(self, rows: Rows) -> list[str]:
        """Rows, best first -> the ten documents met first: a document's score is its best passage's."""
        met: dict[str, None] = {}
        for row in rows:
            met.setdefault(self.owners[row])
            if len(met) == metrics.DEPTH:
                break
        return list(met)


def split(documents: dict[str, str], encoder: TextEncoder) -> Passages:
    """Cut each document as an index of this encoder cuts it."""
    texts, owners = [], []
    for document, text in documents.items():
        for start, end in passages.split(text, encoder.token_spans(text), encoder.passage_tokens):
            texts.append(text[start:end])
            owners.append(document)
    return Passages(texts, owners)


def measure(
    collection: datasets.Collection,
    encoder: TextEncoder,
    query_encoder: TextEncoder,
    teacher: Any,
    bits: int,
    rescore: int,
    stems: str = ENGLISH,
) -> Columns:
    """Each column's values, float64 [queries]; the teacher's are left out where `teacher` is None.

    A teacher has encode() and encode_queries(). stems: the index's language.
    """
    cut = split(collection.documents, encoder)
    texts = list(collection.queries.values())
    vectors, queries = encoder.encode(cut.texts), query_encoder.encode_queries(texts)

    def judge(ranking: Iterable[list[str]]) -> Scores:
        return metrics.ndcg10(collection.qrels, dict(zip(collection.queries, ranking, strict=True)))

    exact = rank_float(vectors, queries)
    codec = encoder.codec
    codes = codec.encode(quantize(vectors), bits)
    coded = rank_codes(codes, [codec.encode_query(query, bits) for query in queries])
    hamming = rank_codes(codes, [codec.encode_symmetric(query, bits) for query in queries])
    columns: Columns = {
        FLOAT: judge(map(cut.documents, exact)),
        "ndcg10_code": judge(map(cut.documents, coded)),
        "ndcg10_hamming": judge(map(cut.documents, hamming)),
        RECALL: np.array([recall(rows, found) for rows, found in zip(exact, coded, strict=True)]),
    }
    if teacher is not None:
        columns[TEACHER] = judge(
            map(cut.documents, rank_float(teacher.encode(cut.texts), teacher.encode_queries(texts)))
        )
    answers = search_all(collection, encoder, query_encoder, bits, rescore, stems)
    return columns | {column: judge(ranking) for column, ranking in answers.items()}


def rank_float(vectors: Float32, queries: Float32) -> list[Rows]:
    """All rows for each query, by exact cosine, ties by row."""
    return [np.argsort(-(vectors @ query), kind="stable") for query in queries]


def rank_codes(codes: UInt64, queries: Sequence[UInt64]) -> list[Rows]:
    """All rows for each query, uint64 [planes, words], by the distance of their codes alone, ties by row."""
    blocks = [
        scan.Block(start, np.ascontiguousarray(codes[start : start + _BLOCK].T), None)
        for start in range(0, len(codes), _BLOCK)
    ]
    ranked: list[Rows] = []
    for start in range(0, len(queries), _CHUNK):
        planes = np.stack(queries[start : start + _CHUNK])
        ranked += list(scan.top_k(blocks, planes, len(codes))[0])
    return ranked


def recall(exact: Rows, found: Rows) -> float:
    """Share of the float top ten that is among the first 40 candidates."""
    best = exact[: metrics.DEPTH]
    return float(np.isin(best, found[:CANDIDATES]).mean())


def search_all(
    collection: datasets.Collection,
    encoder: TextEncoder,
    query_encoder: TextEncoder,
    bits: int,
    rescore: int,
    stems: str = ENGLISH,
) -> dict[str, list[list[str]]]:
    """Answer each query by Index.search(), in each mode."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "quality.edgeret"
        with Index.create(path, model=encoder, bits=bits, language=stems) as index:
            index.add(Document(id=_id, text=text) for _id, text in collection.documents.items() if text)
        with Index.open(path, model=query_encoder) as index:

            def ask(mode: str) -> list[list[str]]:
                oversample = rescore // metrics.DEPTH
                queries = collection.queries.values()
                answers = [
                    index.search(text, metrics.DEPTH, mode=mode, oversample=oversample) for text in queries
                ]
                return [[hit.id for hit in hits] for hits in answers]

            return {SEARCH: ask("dense"), "ndcg10_lexical": ask("lexical"), "ndcg10_hybrid": ask("hybrid")}


def row(columns: Columns) -> dict[str, float | None]:
    """One collection's line: the mean of each column, None for one that is left out."""
    return {name: round(float(columns[name].mean()), 4) if name in columns else None for name in COLUMNS}


def mean_row(measured: Sequence[Columns]) -> dict[str, Any]:
    """Make the last line: each column's share of the teacher, and of search() its share of the float search.

    Recall is no share of anything: its plain mean stands there.
    """
    line: dict[str, Any] = {}
    for column in COLUMNS[:-1]:
        line |= _share(column, measured, column, TEACHER)
    line |= _share("ndcg10_of_float", measured, SEARCH, FLOAT)
    line[RECALL] = round(float(np.mean([columns[RECALL].mean() for columns in measured])), 4)
    return line


def _share(
    name: str, measured: Sequence[Columns], column: str, reference: str
) -> dict[str, float | list[float] | None]:
    if any(reference not in columns for columns in measured):
        return {name: None, f"{name}_interval": None}
    values = [columns[column] for columns in measured]
    base = [columns[reference] for columns in measured]
    interval = metrics.share_interval(values, base)
    return {
        name: round(metrics.share(values, base), 4),
        f"{name}_interval": [round(bound, 4) for bound in interval],
    }


def main(argv: list[str]) -> int:
    """Measure the collections named on the command line; return the exit code."""
    options = _parse(argv)
    try:
        _run(options)
    except (EdgeretError, ValueError, OSError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks quality", description=__doc__)
    parser.add_argument(
        "collections", nargs="+", type=Path, metavar="DIR", help="a collection in BEIR layout"
    )
    parser.add_argument("--model", required=True, help="the documents' bundle")
    parser.add_argument("--query-model", help="the queries' bundle (default: the documents')")
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument(
        "--rescore", type=int, default=40, help="candidates that are rescored, a multiple of 10"
    )
    parser.add_argument("--max-queries", type=int, default=1000, help="queries drawn from a collection")
    parser.add_argument(
        "--documents",
        type=int,
        help="drawn too, those that are judged for the queries among them (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of these draws")
    parser.add_argument(
        "--language", help="of the queries, which are in queries_LANGUAGE then (default: the documents')"
    )
    parser.add_argument(
        "--stems",
        metavar="LANGUAGE",
        default=ENGLISH,
        help="of the index, for its words (default: English, en)",
    )
    parser.add_argument(
        "--teacher", type=Path, help="the teacher's folder (default: the installed package's)"
    )
    options = parser.parse_args(argv)
    if options.rescore < metrics.DEPTH or options.rescore % metrics.DEPTH:
        parser.error(f"expected --rescore to be a multiple of {metrics.DEPTH}, got {options.rescore}")
    if options.max_queries < 1:
        parser.error(f"expected --max-queries of at least 1, got {options.max_queries}")
    return options


def _run(options: argparse.Namespace) -> None:
    encoder = load_encoder(options.model)
    query_encoder = load_encoder(options.query_model) if options.query_model else encoder
    reference = read_teacher(options.teacher)
    teacher = None if reference is None else CachedEncoder(reference, reference.geometry)
    settings = {
        "model": encoder.name,
        "query_model": query_encoder.name,
        "bits": options.bits,
        "rescore": options.rescore,
    }
    asked = "queries"
    if options.language:
        asked, settings["language"] = f"queries_{options.language}", options.language
    if options.stems != ENGLISH:
        settings["stems"] = options.stems
    measured = []
    for directory in options.collections:
        collection = datasets.read(directory, asked)
        collection = datasets.draw(collection, options.max_queries, options.documents or None, options.seed)
        measured.append(
            measure(collection, encoder, query_encoder, teacher, options.bits, options.rescore, options.stems)
        )
        print(json.dumps({"collection": collection.name} | settings | row(measured[-1])), flush=True)
    line = mean_row(measured)
    print(json.dumps({"collection": "mean"} | settings | line))
    if teacher is None:
        nulls = ", ".join(name for name, value in line.items() if value is None)
        print(f"quality: no teacher found, so null: {nulls}; name its folder with --teacher", file=sys.stderr)
