"""Test collections in BEIR layout: corpus.jsonl, queries.jsonl (either also as .gz) and qrels.tsv."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np


@dataclass(frozen=True)
class Collection:
    """A test collection.

    documents: id -> title, a space, text. queries: id -> text, only those with a relevant document.
    qrels: query id -> document id -> grade.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


class Pair(NamedTuple):
    """Two sentences, and how alike people find them: the larger, the more."""

    grade: float
    one: str
    other: str


def pairs(path: Path, most: int, seed: int) -> list[Pair]:
    """Draw at most so many pairs of an sts.tsv: score, s1, s2. Raises ValueError (which line)."""
    found = []
    with _open(path) as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            try:
                grade, one, other = line.rstrip("\n").split("\t")
                found.append(Pair(float(grade), one, other))
            except ValueError as error:
                raise ValueError(
                    f"{path}:{number}: expected a score and two sentences between tabs: mend the line"
                ) from error
    drawn = np.random.default_rng(seed).permutation(len(found))[:most]
    return [found[row] for row in sorted(drawn.tolist())]


def read(folder: Path, asked: str = "queries") -> Collection:
    """Read a collection; raises FileNotFoundError or ValueError (which file, which line).

    asked: the file of its queries, without .jsonl: some have the same ones in other languages.
    """
    qrels = _read_qrels(folder / "qrels.tsv")
    judged = {query for query, grades in qrels.items() if max(grades.values()) > 0}
    queries = {_id: record["text"] for _id, record in _read_records(folder, asked) if _id in judged}
    if not queries:
        raise ValueError(
            f"expected queries with a relevant document in {folder}, found none: mend its qrels.tsv"
        )
    return Collection(
        name=folder.resolve().name,
        documents={
            _id: f"{record.get('title', '')} {record['text']}".strip()
            for _id, record in _read_records(folder, "corpus")
        },
        queries=queries,
        qrels={query: qrels[query] for query in queries},
    )


def sample(collection: Collection, max_queries: int, seed: int) -> Collection:
    """Keep at most `max_queries` queries, drawn without replacement, in the collection's own order."""
    ids = list(collection.queries)
    if len(ids) <= max_queries:
        return collection
    drawn = np.random.default_rng(seed).choice(len(ids), max_queries, replace=False)
    kept = [ids[number] for number in sorted(drawn)]
    return Collection(
        name=collection.name,
        documents=collection.documents,
        queries={query: collection.queries[query] for query in kept},
        qrels={query: collection.qrels[query] for query in kept},
    )


def draw(collection: Collection, queries: int, documents: int | None, seed: int) -> Collection:
    """Draw at most so many queries, with the documents that are judged for them and random others up to `documents`.

    None keeps all documents.
    """
    drawn = sample(collection, queries, seed)
    if documents is None:
        return drawn
    judged = {document for grades in drawn.qrels.values() for document in grades}
    others = [document for document in drawn.documents if document not in judged]
    count = min(len(others), max(0, documents - len(judged)))
    kept = judged | {
        others[row] for row in np.random.default_rng(seed).choice(len(others), count, replace=False)
    }
    return replace(drawn, documents={name: text for name, text in drawn.documents.items() if name in kept})


def _read_records(folder: Path, stem: str) -> Iterator[tuple[str, dict[str, Any]]]:
    plain, packed = folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz"
    path = plain if plain.exists() or not packed.exists() else packed
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                yield str(record["_id"]), {**record, "text": str(record["text"])}
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}:{number}: expected a JSON object with _id and text ({error!r}): mend the line"
                ) from error


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    with _open(path) as lines:
        next(lines, None)
        for number, line in enumerate(lines, 2):
            try:
                query, document, grade = line.rstrip("\n").split("\t")
                qrels.setdefault(query, {})[document] = int(grade)
            except ValueError as error:
                raise ValueError(
                    f"{path}:{number}: expected query-id, corpus-id and score between tabs: mend the line"
                ) from error
    return qrels


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")
