"""Fusion of meaning and words: what either ranks, what words should count, and what a score says of relevance.

    python -m benchmarks fusion COLLECTION ... --model small [--query-model nano] [--documents N] [--others N] [--write]

Collections are in BEIR layout. A query's pool is the best rows of either side, exactly scored by the stored vectors and
by our lexicon; a document scores as its best passage. What is chosen for a collection, the weight of words or the
coefficients of relevance, is chosen on the others. One JSON line a collection, and one of all. The teacher's own
nDCG@10 is read from benchmarks/results; with --documents, which draws from each, shares are of what the bundle finds by
meaning alone. --others puts so many passages of ../shared/text, which answer nothing, among
each collection's: what is said of relevance there is said by coefficients fitted without them. --write puts the
coefficients fitted on all collections into the package.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import datasets, metrics
from benchmarks.quality import TEACHER, split
from benchmarks.vectors import CachedEncoder, load_encoder
from benchmarks.words import distinct
from edgeret import words
from edgeret.codec import quantize
from edgeret.search import fusion
from edgeret.search.ranking import best_per_document, fuse
from edgeret.storage import lexicon
from edgeret.storage.lexicon import Lexicon

Float = NDArray[np.float64]
Rows = NDArray[np.int64]

TEACHERS: Final = Path(__file__).parent / "results" / "students.jsonl"
COEFFICIENTS: Final = Path(fusion.__file__).parent / "relevance.json"
SPREADS: Final = (5.0, 6.0, 7.0, 8.0, 8.8, 9.0, 10.0, 12.0, 15.0)
MOST_BELOW: Final = 0.015
"""A weight is not chosen by which a collection falls so far below its better half."""

LISTED: Final = 40
"""Documents of each list that the fusion of two lists takes."""

FOREIGN: Final = 200
JUDGED: Final = 300
"""Queries of another collection, and of its own, that relevance is measured on."""

HITS: Final = 3
BINS: Final = 10


class Pool(NamedTuple):
    """The rows of a query that are scored by both. documents: the number of each row's."""

    documents: Rows
    cosine: Float
    lexical: Float
    evidence: float

    def ranked(self, weight: float) -> tuple[list[int], list[float], list[float]]:
        """Documents, best first, by their best passages; of each the cosine and the score."""
        fused = self.cosine + weight * self.lexical
        best = best_per_document(np.arange(len(fused)), self.documents, fused)
        return self.documents[best].tolist(), self.cosine[best].tolist(), fused[best].tolist()

    def listed(self, scores: Float) -> dict[int, float]:
        """The documents that one side finds."""
        best = best_per_document(np.arange(len(scores)), self.documents, scores)[:LISTED]
        found = zip(self.documents[best].tolist(), scores[best].tolist(), strict=True)
        return {document: score for document, score in found if score > 0}

    def lists(self) -> list[int]:
        """The documents that two lists give, scaled and added, as files of format 1 do it."""
        by_words = self.listed(self.lexical)
        both = self.listed(self.cosine).keys() | by_words.keys()
        by_meaning = {document: float(self.cosine[self.documents == document].max()) for document in both}
        return [document for document, _ in fuse(list(by_meaning.items()), list(by_words.items()), 10)]


@dataclass(frozen=True)
class Asked:
    """A collection's queries.

    own: the pool of each. without: with its relevant documents taken out. foreign: of another's queries. relevant: for
    each query the numbers of its relevant documents. teacher: its nDCG@10, None where it was not asked of these.
    """

    collection: datasets.Collection
    teacher: float | None
    own: list[Pool]
    without: list[Pool]
    foreign: list[Pool]
    relevant: list[set[int]]

    def judge(self, rankings: Sequence[Sequence[int]]) -> float:
        """Mean nDCG@10 of documents, best first, for each query."""
        ids = dict(enumerate(self.collection.documents))
        named = (
            [ids.get(number, f"other {number}") for number in ranking[: metrics.DEPTH]]
            for ranking in rankings
        )
        run = dict(zip(self.collection.queries, named, strict=True))
        return float(metrics.ndcg10(self.collection.qrels, run).mean())

    def fused(self, spreads: float, spread: float) -> float:
        """The same of our fusion, where words count so many spreads."""
        return self.judge([pool.ranked(weigh(pool, spreads, spread))[0] for pool in self.own])


def weigh(pool: Pool, spreads: float, spread: float) -> float:
    """As `fusion.words_weight`, for other spreads."""
    return fusion.words_weight(spread, pool.evidence) * spreads / fusion.SPREADS


class Passages:
    """The passages of a collection, to be asked by both sides."""

    def __init__(
        self,
        collection: datasets.Collection,
        encoder: CachedEncoder,
        asking: CachedEncoder,
        others: Mapping[str, str],
    ) -> None:
        documents = {**collection.documents, **others}
        cut = split(documents, encoder)
        numbers = {document: number for number, document in enumerate(documents)}
        self._asking = asking
        self._owners = np.array([numbers[owner] for owner in cut.owners])
        self._rows = quantize(encoder.encode(cut.texts)).astype(np.float32)
        self._rows /= np.linalg.norm(self._rows, axis=1, keepdims=True)
        file = sqlite3.connect(":memory:")
        lexicon.create(file)
        self._lexicon = Lexicon(file)
        for row, text in enumerate(cut.texts):
            self._lexicon.add(row, words.terms(text))
        self._lexicon.flush(seal=True)

    def ask(self, queries: Sequence[str], hidden: Sequence[set[int]]) -> tuple[list[Pool], list[Pool]]:
        """The pools of queries, and those without the documents that are hidden from each."""
        every, rows = np.arange(len(self._rows)), self._rows
        whole, part = [], []
        for query, vector, documents in zip(
            queries, self._asking.encode_queries(queries), hidden, strict=True
        ):
            asked = words.asked(query)
            found = self._lexicon.search(asked, 1, must_rows=every)
            cosine, lexical = (rows @ vector).astype(float), found.must_scores / found.most
            whole.append(self._pool(every, cosine, lexical, found.evidence))
            left = np.flatnonzero(~np.isin(self._owners, list(documents)))
            part.append(self._pool(left, cosine, lexical, found.evidence))
        return whole, part

    def _pool(self, rows: Rows, cosine: Float, lexical: Float, evidence: float) -> Pool:
        near = rows[np.argsort(-cosine[rows], kind="stable")[: fusion.POOL]]
        alike = rows[np.argsort(-lexical[rows], kind="stable")[: fusion.POOL]]
        chosen = np.sort(fusion.pool([near.tolist(), alike[lexical[alike] > 0].tolist()], fusion.POOL))
        return Pool(self._owners[chosen], cosine[chosen], lexical[chosen], evidence)


def ask(
    collection: datasets.Collection,
    foreign: Sequence[str],
    encoder: CachedEncoder,
    asking: CachedEncoder,
    teacher: float | None,
    others: Mapping[str, str] = MappingProxyType({}),
) -> Asked:
    """Ask a collection, with other documents among its own, its own queries, and some of another."""
    passages = Passages(collection, encoder, asking, others)
    numbers = {document: number for number, document in enumerate(collection.documents)}
    relevant = [
        {numbers[document] for document, grade in grades.items() if grade > 0 and document in numbers}
        for grades in collection.qrels.values()
    ]
    own, without = passages.ask(list(collection.queries.values()), relevant)
    others, _ = passages.ask(foreign, [set()] * len(foreign))
    return Asked(collection, teacher, own, without, others, relevant)


def teacher_of(name: str) -> float:
    """The fp32 teacher's nDCG@10 of a collection."""
    lines = map(json.loads, TEACHERS.read_text(encoding="utf-8").splitlines())
    return next(line[TEACHER] for line in lines if line.get("collection") == name and TEACHER in line)


# -- how much words count


def compare(asked: Sequence[Asked], spread: float) -> list[dict[str, Any]]:
    """Each collection's nDCG@10: of either half, of two lists fused, and of our fusion as the others choose it."""
    lines = []
    curves = [{spreads: one.fused(spreads, spread) for spreads in SPREADS} for one in asked]
    for one in asked:
        dense = one.judge([list(pool.listed(pool.cosine)) for pool in one.own])
        lexical = one.judge([list(pool.listed(pool.lexical)) for pool in one.own])
        lists = one.judge([pool.lists() for pool in one.own])
        shipped = one.fused(fusion.SPREADS, spread)
        lines.append({"dense": dense, "lexical": lexical, "two_lists": lists, "hybrid": shipped})
    for number, line in enumerate(lines):
        others = [other for other in range(len(asked)) if other != number]

        def gain(spreads: float, others: list[int] = others) -> tuple[bool, float]:
            shares = [curves[other][spreads] / whole(asked[other], lines[other]) for other in others]
            halves = [max(lines[other]["dense"], lines[other]["lexical"]) for other in others]
            below = max(half - curves[other][spreads] for other, half in zip(others, halves, strict=True))
            return below <= MOST_BELOW, float(np.mean(shares))

        chosen = max(SPREADS, key=gain)
        line |= {"spreads_of_others": chosen, "hybrid_by_others": curves[number][chosen]}
    return lines


def whole(one: Asked, line: Mapping[str, float]) -> float:
    """What the shares of a collection are of."""
    return one.teacher or line["dense"]


# -- relevance


class Samples(NamedTuple):
    """Hits of a collection.

    features: [n, 3]. weights: each kind of query counts the same. kinds: 0 own, 1 without what is relevant, 2 foreign.
    firsts: which are the first of their query.
    """

    features: Float
    answers: NDArray[np.bool_]
    weights: Float
    kinds: Rows
    firsts: NDArray[np.bool_]


def cosine_apart(asked: Sequence[Asked]) -> float:
    """The median cosine of questions with documents of another collection."""
    return float(np.median(np.concatenate([pool.cosine for one in asked for pool in one.foreign])))


def sample(one: Asked, spread: float, unrelated: float) -> Samples:
    """The first hits of a collection's queries."""
    features, answers, kinds, firsts = [], [], [], []
    chosen = np.random.default_rng(0).permutation(len(one.own))[:JUDGED]
    asked = [(0, one.own[number], one.relevant[number]) for number in chosen]
    asked += [(1, one.without[number], set()) for number in chosen]
    asked += [(2, pool, set()) for pool in one.foreign]
    for kind, pool, relevant in asked:
        ranked, cosines, scores = pool.ranked(fusion.words_weight(spread, pool.evidence))
        for number, document in enumerate(ranked[:HITS]):
            features.append(fusion.features(cosines[number], scores, number, unrelated))
            answers.append(document in relevant)
            kinds.append(kind)
            firsts.append(number == 0)
    known = np.array(kinds)
    weights = 1 / np.bincount(known, minlength=3)[known]
    return Samples(np.array(features), np.array(answers), weights, known, np.array(firsts))


def fit(samples: Sequence[Samples]) -> fusion.Relevance:
    """The logistic that makes what was seen most likely, by Newton's method."""
    inputs = np.concatenate([part.features for part in samples])
    inputs = np.hstack([np.ones((len(inputs), 1)), inputs])
    answers = np.concatenate([part.answers for part in samples]).astype(float)
    weights = np.concatenate([part.weights for part in samples])
    found = np.zeros(inputs.shape[1])
    for _ in range(30):
        told = 1 / (1 + np.exp(-inputs @ found))
        slope = inputs.T @ (weights * (answers - told))
        bend = (inputs * (weights * told * (1 - told))[:, None]).T @ inputs
        found += np.linalg.solve(bend + 1e-6 * np.eye(len(found)), slope)
    return fusion.Relevance(*(round(float(value), 4) for value in found))


def assess(fitted: fusion.Relevance, own: Samples) -> dict[str, float]:
    """How well a probability tells a collection's own questions from others, and how true it is."""
    told = np.array([fitted.probability(*values) for values in own.features.tolist()])[own.firsts]
    kinds, answers, weights = own.kinds[own.firsts], own.answers[own.firsts], own.weights[own.firsts]
    bins = np.minimum((told * BINS).astype(int), BINS - 1)
    error = sum(abs(float((weights * (told - answers))[bins == number].sum())) for number in range(BINS))
    return {
        "auroc_foreign": auroc(told[kinds == 0], told[kinds == 2]),
        "auroc_without": auroc(told[kinds == 0], told[kinds == 1]),
        "calibration_error": error / float(weights.sum()),
    }


def auroc(higher: Float, lower: Float) -> float:
    """How often one of `higher` is above one of `lower`."""
    above = np.sign(higher[:, None] - lower[None])
    return float((above.mean() + 1) / 2)


def main(argv: list[str]) -> int:
    """Print the lines."""
    parser = argparse.ArgumentParser("python -m benchmarks fusion", description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--model", required=True, help="the documents' bundle")
    parser.add_argument("--query-model", help="the queries' bundle (default: the documents')")
    parser.add_argument("--max-queries", type=int, default=1000)
    parser.add_argument(
        "--documents", type=int, help="drawn, those that are judged for the queries among them (default: all)"
    )
    parser.add_argument(
        "--others", type=int, default=0, help="passages of ../shared/text among each collection's"
    )
    parser.add_argument("--write", action="store_true", help="put the coefficients into the package")
    options = parser.parse_args(argv)
    if options.others and options.write:
        parser.error("expected coefficients to be fitted without others: leave out --others or --write")
    encoder = load_encoder(options.model)
    asking = load_encoder(options.query_model) if options.query_model else encoder
    spread = asking.bundle.manifest.spread
    read = [
        datasets.draw(datasets.read(folder), options.max_queries, options.documents or None, 0)
        for folder in options.collections
    ]
    teachers = [None if options.documents else teacher_of(one.name) for one in read]
    foreign = [list(other.queries.values())[:FOREIGN] for other in [*read[1:], read[0]]]
    asked = [
        ask(one, strange, encoder, asking, teacher)
        for one, strange, teacher in zip(read, foreign, teachers, strict=True)
    ]
    lines = compare(asked, spread)
    apart = round(cosine_apart(asked), 4)
    samples = [sample(one, spread, apart) for one in asked]
    among = samples
    if options.others:
        others = {f"other {number}": text for number, text in enumerate(distinct(options.others))}
        asked_among = (
            ask(one, strange, encoder, asking, teacher, others)
            for one, strange, teacher in zip(read, foreign, teachers, strict=True)
        )
        among = [sample(one, spread, apart) for one in asked_among]
    for number, line in enumerate(lines):
        line |= assess(fit(samples[:number] + samples[number + 1 :]), among[number])
    settings = {"model": encoder.name, "query_model": asking.name, "spread": spread, "others": options.others}
    if options.documents:
        settings |= {"documents": options.documents, "max_queries": options.max_queries}
    for one, line in zip(asked, lines, strict=True):
        rounded = {key: round(value, 4) for key, value in line.items()}
        print(json.dumps({"collection": one.collection.name, **settings, **rounded}), flush=True)
    shares = {
        key: np.mean([line[key] / whole(one, line) for one, line in zip(asked, lines, strict=True)])
        for key in ("dense", "lexical", "two_lists", "hybrid", "hybrid_by_others")
    }
    means = {
        key: np.mean([line[key] for line in lines])
        for key in ("auroc_foreign", "auroc_without", "calibration_error")
    }
    rounded = {key: round(float(value), 4) for key, value in (shares | means).items()}
    print(json.dumps({"collection": "mean", **settings, **rounded}))
    if options.write:
        write(encoder, asking, fit(samples), apart)
    return 0


def write(encoder: CachedEncoder, asking: CachedEncoder, fitted: fusion.Relevance, unrelated: float) -> None:
    """Put coefficients into the package, instead of others of the same bundles."""
    key = {
        "geometry": encoder.geometry,
        "query": asking.name,
        "documents": encoder.name,
        "words": words.VERSION,
    }
    known = json.loads(COEFFICIENTS.read_text(encoding="utf-8"))
    others = [entry for entry in known if {name: entry[name] for name in key} != key]
    own = {**key, "logistic": fitted[:4], "unrelated": unrelated}
    entries = sorted(json.dumps(entry) for entry in [*others, own])
    COEFFICIENTS.write_text("[\n " + ",\n ".join(entries) + "\n]\n", encoding="utf-8")
