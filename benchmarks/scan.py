"""The scan beside its rivals: time and recall of top-k over codes, one thread each.

    python -m benchmarks scan [--rows N] [--bits B] [--k K] [--real]

Each round asks every system the same query, in turn; ratios are medians over rounds of the ratio
within a round, so that a machine that slows down slows down all. Slow systems sit out most rounds.
Without --real, vectors are Gaussian noise: right for time, meaningless for recall.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scan_systems import BASELINE, BLOCK_ROWS, BUILDERS, CACHE, Data, System, blocks_of, coded
from edgeret import scan
from edgeret.codec import Codec, normalize, quantize

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT.parent / "shared" / "text"
REAL_ROWS = 200_000
QUERIES = 512
SEED = 0
SLOW_ROUNDS = 5

Call = Callable[[int], object]
Calls = dict[str, Call]


def main(argv: list[str]) -> int:
    """Print one JSON line for each system."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scan", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="1000000, or with --real at least 200000 passages (as many)")
    parser.add_argument("--bits", type=int, default=256)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--real", action="store_true", help="encode passages of shared/text; report recall")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the time of the processor: others are at work too",
    )
    parser.add_argument("--systems", help="comma-separated names (all); the baseline always runs")
    options = parser.parse_args(argv)
    import faiss

    faiss.omp_set_num_threads(1)
    compiled = faiss.get_compile_options().strip()
    print(f"faiss {faiss.__version__}: {compiled}; edgeret: {scan.backend()}", file=sys.stderr)
    rows = options.rows or (REAL_ROWS if options.real else 1_000_000)
    data = real(rows, options.bits) if options.real else noise(rows, options.bits)
    wanted = set(options.systems.split(",")) | {BASELINE} if options.systems else None
    codes = np.concatenate([data.codec.encode(quantize(chunk), data.bits) for chunk in data.chunks()])
    systems = [
        build(data, codes, options.k) for name, build in BUILDERS.items() if wanted is None or name in wanted
    ]
    report(systems, data, codes, options, compiled)
    return 0


# ---- data ----


def noise(rows: int, bits: int) -> Data:
    """Gaussian vectors whose codes are their signs."""
    limit = 2**15 - 1
    identity, none = np.eye(bits, dtype=np.float32), np.zeros(bits)
    codec = Codec((identity * limit).astype(np.int16), none, identity, none.astype(np.float32), (bits,))

    def chunks() -> Iterator[NDArray[np.float32]]:
        for first in range(0, rows, BLOCK_ROWS):
            rng = np.random.default_rng([SEED, first])
            vectors = rng.standard_normal((min(BLOCK_ROWS, rows - first), bits), dtype=np.float32)
            yield vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    queries = np.random.default_rng(SEED).standard_normal((QUERIES, bits))
    return Data(rows, bits, codec, normalize(queries, bits), chunks)


def real(rows: int, bits: int) -> Data:
    """Passages of shared/text encoded with `base`; the queries are other passages of the same text."""
    from edgeret.encode.encoder import Encoder

    encoder = Encoder.load("base")
    texts = passages(rows + QUERIES)
    vectors = encoded(encoder, texts)
    queries, stored = vectors[:QUERIES], vectors[QUERIES:]

    def chunks() -> Iterator[NDArray[np.float32]]:
        for first in range(0, rows, BLOCK_ROWS):
            yield stored[first : first + BLOCK_ROWS]

    return Data(rows, bits, encoder.codec, queries, chunks)


def passages(count: int) -> list[str]:
    """Sample distinct passages over all files of shared/text, the same each time."""
    files = sorted(TEXTS.glob("*.txt.gz"))
    if not files:
        raise SystemExit(f"expected text files in {TEXTS}, found none: run without --real")
    distinct: dict[str, None] = {}
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            distinct.update((line.strip(), None) for line in lines if 20 <= len(line.strip()) <= 400)
    found = list(distinct)
    if len(found) < count:
        raise SystemExit(f"expected {count} passages in {TEXTS}, found {len(found)}: ask for fewer rows")
    chosen = np.random.default_rng(SEED).permutation(len(found))[:count]
    return [found[i] for i in chosen]


def encoded(encoder: Any, texts: list[str]) -> NDArray[np.float32]:
    """float32 [n, dim], kept in .cache/ chunk by chunk, so that an interrupted run goes on where it was."""
    CACHE.mkdir(parents=True, exist_ok=True)
    parts = []
    for first in range(0, len(texts), 1024):
        part = texts[first : first + 1024]
        key = hashlib.blake2b(json.dumps([encoder.name, encoder.space, part]).encode(), digest_size=16)
        path = CACHE / f"{key.hexdigest()}.npy"
        if not path.exists():
            print(f"\rencoding {first} of {len(texts)}", end="", file=sys.stderr, flush=True)
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, encoder.encode(part))
            unfinished.replace(path)
        parts.append(np.load(path))
    return np.concatenate(parts)


# ---- report ----


def variants(name: str, data: Data, codes: NDArray[np.uint64], k: int) -> Calls:
    """Return what else is asked of edgeret's native systems in each round."""
    planes = np.stack(coded(data, "-symmetric" in name))
    live = np.random.default_rng(SEED).random((-(-len(codes) // BLOCK_ROWS), BLOCK_ROWS)) < 0.01
    # Copies of their own, so that none finds its bytes in the cache because of another.
    shared = blocks_of(codes)
    masked = [
        block._replace(live=np.packbits(live[i, : block.codes.shape[1]], bitorder="little"))
        for i, block in enumerate(blocks_of(codes))
    ]
    return {
        "masked_1_percent": lambda query: scan.top_k(masked, planes[query : query + 1], k),
        "batch_32": lambda query: scan.top_k(shared, planes[query % (QUERIES - 32) :][:32], k),
    }


def timed(call: Call, query: int, clock: Callable[[], float]) -> float:
    """Milliseconds."""
    start = clock()
    call(query)
    return (clock() - start) * 1e3


def measure(
    calls: Calls, slow: set[str], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, NDArray[Any]]:
    """Milliseconds by name, float64 [rounds]; NaN where a slow system sat out."""
    times = {name: np.full(rounds, np.nan) for name in calls}
    names = list(calls)
    for call in calls.values():
        call(0)
    gc.disable()
    for i in range(rounds):
        # Each round starts with another system: nobody always runs after the same neighbor.
        for name in names[i % len(names) :] + names[: i % len(names)]:
            if name not in slow or i % max(rounds // SLOW_ROUNDS, 1) == 0:
                times[name][i] = timed(calls[name], i % QUERIES, clock)
    gc.enable()
    return times


def report(
    systems: list[System], data: Data, codes: NDArray[np.uint64], options: argparse.Namespace, compiled: str
) -> None:
    """Time all systems together and print a line for each."""
    calls: Calls = {system.name: system.search for system in systems}
    if scan.backend() != "numpy":
        copied = codes.copy()
        calls["read"] = lambda query: np.bitwise_xor.reduce(copied, axis=None)
        for name in calls.keys() & {"edgeret-symmetric", "edgeret-asymmetric"}:
            calls.update(
                {f"{name}/{key}": call for key, call in variants(name, data, codes, options.k).items()}
            )
    clock = time.thread_time if options.processor_time else time.perf_counter
    times = measure(calls, {system.name for system in systems if system.is_slow}, options.rounds, clock)
    truth = exact(data) if options.real else None

    def ratio(name: str, other: str) -> float | None:
        return round(float(np.nanmedian(times[name] / times[other])), 3) if other in times else None

    for system in systems:
        line: dict[str, Any] = {
            "system": system.name,
            "rows": len(codes),
            "bits": options.bits,
            "k": options.k,
            "threads": 1,
            "bytes_per_row": round(system.bytes_per_row, 1),
            "p50_ms": round(float(np.nanmedian(times[system.name])), 3),
            "ratio_to_faiss_binary_flat": ratio(system.name, BASELINE),
            "ratio_to_read": ratio(system.name, "read"),
            "rounds": int(np.isfinite(times[system.name]).sum()),
            "clock": "processor" if options.processor_time else "wall",
        }
        if f"{system.name}/batch_32" in times:
            line["masked_1_percent_ratio"] = ratio(f"{system.name}/masked_1_percent", system.name)
            line["batch_32_ratio_per_query"] = round(ratio(f"{system.name}/batch_32", system.name) / 32, 3)
        if truth is not None:
            line["recall10_at_100"] = round(recall(system, truth), 4)
        if system.name.startswith("faiss"):
            line["faiss_compile_options"] = compiled
        if system.name.startswith("edgeret"):
            line["backend"] = "numpy" if system.name.endswith("-numpy") else scan.backend()
        print(json.dumps(line), flush=True)


def exact(data: Data) -> NDArray[np.int64]:
    """Return the 10 nearest rows of each query by exact float search: int64 [QUERIES, 10]."""
    scores = np.concatenate([data.queries @ chunk.T for chunk in data.chunks()], axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :10]


def recall(system: System, truth: NDArray[np.int64]) -> float:
    """Share of the exact 10 nearest among a system's first 100 (its k)."""
    asked = range(0, len(truth), 8 if system.is_slow else 1)
    return float(np.mean([np.isin(truth[query], system.search(query)).mean() for query in asked]))
