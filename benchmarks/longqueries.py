"""Queries longer than the model reads: questions behind a preamble, or before it, encoded in several ways.

`python -m benchmarks longqueries FOLDER... [--model M] [--queries N] [--documents N]`
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import datasets, metrics
from benchmarks.quality import Passages, split
from edgeret.encode import passages
from edgeret.encode.encoder import Encoder

PREAMBLE = " ".join(
    ["I recently moved into the house on the hill and have been very busy unpacking all my boxes."] * 16
)


def measure(collection: datasets.Collection, encoder: Encoder, before: bool) -> dict[str, float]:
    """nDCG@10 of exact float search: the question alone, cut, and in passages by their mean or the best of them."""
    cut: Passages = split(collection.documents, encoder)
    vectors = encoder.encode(cut.texts)
    rankings: dict[str, dict[str, list[str]]] = {}
    for name, question in collection.queries.items():
        text = f"{PREAMBLE} {question}" if before else f"{question} {PREAMBLE}"
        scores = {
            "question alone": vectors @ encoder.encode_queries([question])[0],
            "cut": vectors @ encoder.encode_queries([text])[0],
            "shipped": (vectors @ encoder.encode_query(text).vectors.T).max(axis=1),
        }
        for tokens in (encoder.passage_tokens, 128, 64, 32):
            spans = passages.split(text, encoder.token_spans(text), tokens)
            found = vectors @ encoder.encode_queries([text[slice(*span)] for span in spans]).T
            scores[f"mean of {tokens}"] = found.mean(axis=1)
            scores[f"best of {tokens}"] = found.max(axis=1)
        for way, values in scores.items():
            rankings.setdefault(way, {})[name] = cut.documents(np.argsort(-values, kind="stable"))
    return {way: float(metrics.ndcg10(collection.qrels, found).mean()) for way, found in rankings.items()}


def fewer(collection: datasets.Collection, documents: int) -> datasets.Collection:
    """Keep the judged documents, and of the others as many as there is room for."""
    judged = {document for grades in collection.qrels.values() for document in grades}
    others = [document for document in collection.documents if document not in judged]
    drawn: NDArray[np.int64] = np.random.default_rng(0).permutation(len(others))
    kept = judged | {others[number] for number in drawn[: max(0, documents - len(judged))]}
    texts = {document: text for document, text in collection.documents.items() if document in kept}
    return datasets.Collection(collection.name, texts, collection.queries, collection.qrels)


def main(argv: Sequence[str]) -> int:
    """Measure each collection."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks longqueries")
    parser.add_argument("folder", nargs="+", type=Path)
    parser.add_argument("--model", default="small")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--documents", type=int, default=500)
    options = parser.parse_args(argv)
    encoder = Encoder.load(options.model)
    for folder in options.folder:
        collection = datasets.sample(datasets.read(folder), options.queries, seed=0)
        collection = fewer(collection, options.documents)
        for before in (True, False):
            found = measure(collection, encoder, before)
            rounded = {way: round(value, 3) for way, value in found.items()}
            line = {
                "collection": collection.name,
                "model": options.model,
                "preamble_first": before,
                **rounded,
            }
            print(json.dumps(line), flush=True)
    return 0
