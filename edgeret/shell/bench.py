"""A row of figures from this machine: `edgeret bench --json`, with what is installed and nothing else.

Documents and questions are those of the demo; the search runs in a process of its own, so that its memory is its own.
It prints nothing private: no paths, no names of users or hosts.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from edgeret import blocks, scan, smoke
from edgeret.codec import PLANES
from edgeret.documents import Document
from edgeret.encode.encoder import Encoder
from edgeret.errors import BackendError, InvalidDocumentError
from edgeret.index import Index
from edgeret.shell import demo

Row = dict[str, Any]

ROUNDS: Final = 60
"""Searches that are timed unless others are asked for."""

CHANGES: Final = 5
SCAN_ROWS: Final = 1_000_000
_BITS: Final = 256
_SCANS: Final = 9


def measure(model: str, documents: int = demo.ENTRIES, rounds: int = ROUNDS) -> Row:
    """Make an index of so many docstrings, change it, search it; times in ms, sizes in bytes.

    model: a bundle's name or folder. Times are medians but for `p95_ms`. `p50_ms` and `p95_ms` are of dense search:
    `encode_ms` is the query's encoding alone, `search_ms` the rest; `hybrid_ms` is all of a hybrid search; `scan_ms` a
    scan of `scan_rows` random codes. `rss_over_import_bytes`: the peak of a process that opens and searches, less that
    after `import edgeret`; None where the system does not tell.

    Raises InvalidDocumentError for less than one document, BundleError, BackendError, StorageError.
    """
    if documents < 1:
        raise InvalidDocumentError(f"expected at least 1 document, got {documents}: leave --docs out")
    encoder = Encoder.load(model)
    corpus = demo.corpus(documents)
    with TemporaryDirectory(prefix="edgeret-") as folder:
        path = Path(folder, "bench.edgeret")
        with Index.create(path, model=encoder) as index:
            begun = time.perf_counter()
            index.add(corpus)
            made = {
                "documents": len(corpus),
                "docs_per_s": round(len(corpus) / (time.perf_counter() - begun), 1),
            }
            made |= _changed(index)
            info = index.info()
        asked = _in_a_process_of_its_own(str(path), str(model), rounds)
    return {
        **smoke.versions(),
        **smoke.machine(),
        "model": encoder.bundle.name,
        "space": encoder.space,
        "backend": encoder.backend,
        "scan": info.scan,
        "bits": info.bits,
        **made,
        "bytes_per_doc": round(info.bytes_per_doc, 1),
        **asked,
        "scan_rows": SCAN_ROWS,
        "scan_ms": _scan_ms(),
    }


def _changed(index: Index) -> Row:
    """Single documents, each safe on the disk when the call returns."""
    texts = [f"{question}? ({number})" for number, question in enumerate(demo.QUESTIONS[:CHANGES])]
    added = [_ms(partial(index.add, [Document(text, text)])) for text in texts]
    deleted = [_ms(partial(index.delete, [text])) for text in texts]
    return {"add_ms": _median(added), "delete_ms": _median(deleted)}


def _in_a_process_of_its_own(path: str, model: str, rounds: int) -> Row:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(there, path, model, rounds))
    process.start()
    there.close()
    try:
        found: Row = here.recv()
    except EOFError:
        process.join()
        raise BackendError(
            f"expected a search to end, found that its process ended with {process.exitcode}: "
            "run python -m edgeret.smoke, which names the step"
        ) from None
    process.join()
    return found


def _ask(answer: Any, path: str, model: str, rounds: int) -> None:
    imported = smoke.peak_rss_bytes()
    begun = time.perf_counter()
    encoder = Encoder.load(model)
    index = Index.open(path, model=encoder, readonly=True)
    opened = time.perf_counter()
    index.search(demo.QUESTIONS[0])
    answered = time.perf_counter()
    encoding, searching, fusing, cpu = [], [], [], time.process_time()
    for number in range(rounds):
        start = time.perf_counter()
        vector = encoder.encode_queries([demo.QUESTIONS[number % len(demo.QUESTIONS)]])[0]
        encoded = time.perf_counter()
        index.search(vector)
        searching.append((time.perf_counter() - encoded) * 1e3)
        encoding.append((encoded - start) * 1e3)
    cpu = time.process_time() - cpu
    for number in range(rounds):
        question = demo.QUESTIONS[number % len(demo.QUESTIONS)]
        fusing.append(_ms(partial(index.search, question, mode="hybrid")))
    whole = np.add(encoding, searching)
    peak = smoke.peak_rss_bytes()
    answer.send(
        {
            "open_ms": round((opened - begun) * 1e3, 3),
            "first_query_ms": round((answered - opened) * 1e3, 3),
            "p50_ms": round(float(np.percentile(whole, 50)), 3),
            "p95_ms": round(float(np.percentile(whole, 95)), 3),
            "encode_ms": _median(encoding),
            "search_ms": _median(searching),
            "hybrid_ms": _median(fusing),
            "cpu_s_per_1000": round(cpu / rounds * 1e3, 3),
            "rounds": rounds,
            "peak_rss_bytes": peak,
            "rss_over_import_bytes": None if peak is None or imported is None else peak - imported,
        }
    )


def _scan_ms() -> float:
    """Of random codes: their time is that of real ones."""
    random = np.random.default_rng(0)
    codes = [
        scan.Block(
            first,
            random.integers(0, 2**64, (_BITS // 64, min(blocks.BLOCK_ROWS, SCAN_ROWS - first)), np.uint64),
        )
        for first in range(0, SCAN_ROWS, blocks.BLOCK_ROWS)
    ]
    planes = random.integers(0, 2**64, (1, PLANES, _BITS // 64), np.uint64)
    scan.top_k(codes, planes, 40)
    return _median([_ms(lambda: scan.top_k(codes, planes, 40)) for _ in range(_SCANS)])


def _ms(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 3)
