"""Measure: what a process of its own does for one cell of the comparison; it imports little: its memory is measured."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import systems
from benchmarks.asking import read_calls
from benchmarks.systems import Batch, Hit, Question, Store, UnsupportedError

Found = dict[str, Any]
Bundles = dict[str, str]

CHANGES = 10
LONGEST_CHANGES_S = 60.0
ENCODED = 64


def build(index: str, folder: str, rows: int, bundles: Bundles) -> Found:
    """Fill a store with vectors that were made before, on one core."""
    _limit(1)
    from benchmarks.collection import Collection
    from benchmarks.systems import encoders

    name, encoder_name = systems.parts_of(index)
    # First: onnxruntime 1.31 crashes where it is imported after usearch 2.26.
    encoder = encoders.load(encoder_name, bundles)
    collection = Collection.load(rows, encoder if encoder_name in systems.OWN_SPACES else None)
    encoder.encode(["start"])
    unfinished = Path(f"{folder}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    store = systems.open_store(name, unfinished, encoder)
    begun = time.perf_counter()
    store.build(collection.batches())
    seconds = time.perf_counter() - begun
    store.close()
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return {"docs_per_s": round(rows / seconds, 1)}


def ask(
    stack: str, folder: str, threads: int | None, bundles: Bundles, queries: list[str]
) -> Iterator[Found]:
    """Open and answer the first query; then, for each line of numbers on standard input, those queries; milliseconds.

    after_pause_ms: of the first query of each line.
    """
    _limit(threads)
    begun = time.perf_counter()
    encoder, store = _open(stack, Path(folder), bundles)
    opened = time.perf_counter()
    _answer(encoder, store, queries[0])
    answered = time.perf_counter()
    yield {"open_ms": _ms(opened - begun), "first_query_ms": _ms(answered - opened)}
    encoding, searching, after_pause, cpu, answers = [], [], [], 0.0, {}
    reads, itself = read_calls(), systems.encodes_itself(stack)
    gc.disable()
    for line in sys.stdin:
        if not line.strip():
            break
        taken = []
        for number in map(int, line.split()):
            worked, begun = time.process_time(), time.perf_counter()
            vector = _asked(encoder, [queries[number]])[0] if encoder and not itself else None
            encoded = time.perf_counter()
            hits = store.search(Question(queries[number], vector))
            done = time.perf_counter()
            cpu += time.process_time() - worked
            answers[number] = [hit.row for hit in hits]
            encoding.append(encoded - begun)
            searching.append(done - encoded)
            taken.append((done - begun) * 1e3)
        after_pause.append(taken[0])
        yield {"ms": taken}
    count = len(encoding)
    totals = np.add(encoding, searching)
    return {
        "p50_ms": _ms(np.percentile(totals, 50)),
        "p95_ms": _ms(np.percentile(totals, 95)),
        "after_pause_ms": round(float(np.median(after_pause)), 3),
        "encode_ms": _ms(np.median(encoding)),
        "search_ms": _ms(np.median(searching)),
        "cpu_s_per_1000": round(cpu / count * 1e3, 3),
        "pages_per_query": round((read_calls() - reads) / count, 1),
        "queries": count,
        "answers": [answers.get(number) for number in range(len(queries))],
    }


def start(stack: str, folder: str, bundles: Bundles, query: str) -> Found:
    """From before the open to after the first answer, on one core."""
    _limit(1)
    begun = time.perf_counter()
    encoder, store = _open(stack, Path(folder), bundles)
    _answer(encoder, store, query)
    return {"ms": _ms(time.perf_counter() - begun)}


def change(stack: str, folder: str, rows: int, bundles: Bundles) -> Found:
    """Add and delete single documents in a copy, each safe on the disk; then whether a new open knows of it."""
    from benchmarks.collection import queries

    with TemporaryDirectory(dir=Path(folder).parent) as copied:
        path = Path(shutil.copytree(folder, Path(copied, "copy")))
        encoder, store = _open(stack, path, bundles)
        texts = [f"{text} {number}" for number, text in enumerate(queries(CHANGES))]
        vectors = encoder.encode(texts) if encoder else None
        found: Found = {"add_ms": None, "delete_ms": None, "cannot": []}
        batches = [
            Batch([rows + i], [text], None if vectors is None else vectors[i : i + 1])
            for i, text in enumerate(texts)
        ]
        for name, work in (
            ("add", [lambda batch=batch: store.add(batch) for batch in batches]),
            ("delete", [lambda row=row: store.delete(row) for row in range(rows, rows + CHANGES)]),
        ):
            try:
                found[f"{name}_ms"] = _median_ms(work)
            except UnsupportedError as error:
                found["cannot"].append(f"{name}: {error}")
        last = texts[0]
        if not found["cannot"]:
            # The last change of all, to be found by a new open.
            store.add(Batch([rows + CHANGES], [last], None if vectors is None else vectors[:1]))
        store.close()
        begun = time.perf_counter()
        store = systems.open_store(systems.store_of(stack), path, encoder)
        found["reopen_ms"] = _ms(time.perf_counter() - begun)
        if not found["cannot"]:
            hits = _answer(encoder, store, last)
            met = {hit.row for hit in hits}
            found["kept"] = rows + CHANGES in met and rows not in met
        store.close()
    return found


def rank(stack: str, directory: str, bundles: Bundles, max_queries: int) -> Found:
    """nDCG@10 of a collection; vectors of texts met before are kept in .cache/vectors."""
    from benchmarks import datasets, metrics
    from benchmarks.systems import encoders

    collection = datasets.sample(datasets.read(Path(directory)), max_queries, seed=0)
    ids = [_id for _id, text in collection.documents.items() if text]
    texts = [collection.documents[_id] for _id in ids]
    name, store_name = systems.encoder_of(stack), systems.store_of(stack)
    encoder = encoders.cached(name, bundles) if name else None
    asked = list(collection.queries.values())
    # edgeret cuts long texts into passages; for the others a text is cut where its encoder ends.
    passages = systems.is_ours(store_name)
    vectors = encoder.encode(texts) if encoder and not passages else None
    query_vectors = _asked(encoder, asked) if encoder else [None] * len(asked)
    with TemporaryDirectory() as folder:
        store = systems.open_store(store_name, Path(folder), encoder)
        store.build(iter([Batch(range(len(ids)), texts, vectors)]))
        store.close()
        store = systems.open_store(store_name, Path(folder), encoder)
        answers = [
            store.search(Question(text, vector)) for text, vector in zip(asked, query_vectors, strict=True)
        ]
        store.close()
    ranking = {
        query: [ids[hit.row] for hit in hits] for query, hits in zip(collection.queries, answers, strict=True)
    }
    scores = metrics.ndcg10(collection.qrels, ranking)
    return {"ndcg10": round(float(scores.mean()), 4), "queries": len(scores), "documents": len(ids)}


def encode(name: str, bundles: Bundles, texts: list[str]) -> Found:
    """Documents a second of an encoder by itself, one text at a time, on one core."""
    _limit(1)
    from benchmarks.systems import encoders

    encoder = encoders.load(name, bundles)
    encoder.encode(texts[:1])
    begun = time.perf_counter()
    for text in texts:
        encoder.encode([text])
    return {"docs_per_s": round(len(texts) / (time.perf_counter() - begun), 1)}


def _limit(threads: int | None) -> None:
    """One core where one thread is asked for: some libraries start threads of their own all the same."""
    if threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _open(stack: str, folder: Path, bundles: Bundles) -> tuple[Any, Store]:
    from benchmarks.systems import encoders

    name = systems.encoder_of(stack)
    encoder = encoders.load(name, bundles) if name else None
    if encoder:
        # Started before the store: onnxruntime 1.31 crashes where it is imported after usearch 2.26.
        encoder.encode(["start"])
    return encoder, systems.open_store(systems.store_of(stack), folder, encoder)


def _answer(encoder: Any, store: Store, query: str) -> list[Hit]:
    return store.search(Question(query, _asked(encoder, [query])[0] if encoder else None))


def _asked(encoder: Any, texts: list[str]) -> systems.Vectors:
    """Vectors of queries, which some encoders tell from documents."""
    vectors: systems.Vectors = getattr(encoder, "encode_queries", encoder.encode)(texts)
    return vectors


def _median_ms(works: list[Any]) -> float:
    """All of them are done, but for those after LONGEST_CHANGES_S seconds."""
    times: list[float] = []
    for work in works:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
        if sum(times) > LONGEST_CHANGES_S:
            break
    return _ms(float(np.median(times)))


def _ms(seconds: float) -> float:
    return round(float(seconds) * 1e3, 3)
