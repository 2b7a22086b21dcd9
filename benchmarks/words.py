"""Our lexicon beside SQLite's FTS5, bm25s and tantivy: time, bytes and building of a lexical search, on one core.

    python -m benchmarks words [--rows N ...] [--queries N] [--k K] [--compact]

Rows are distinct passages of ../shared/text in random order, and of ../shared/text_multi where those do not suffice;
queries are the first 15 words of others that have so many. Each system splits a query into words by its own rules,
counts every word, and reads what it needs of its file with a cache of 2 MB (bm25s and tantivy map their files). Each
round asks every system the same query, in turn.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.scan import SEED, TEXTS
from edgeret import postings, words
from edgeret.storage import lexicon
from edgeret.storage.lexicon import Lexicon
from edgeret.storage.schema import TOKENIZER
from edgeret.words import Wanted

QUERY_WORDS = 15
SPARE = 10
"""Passages drawn for each query: a third of them are long enough."""
COMMIT = 1000
CACHE_KIB = 2000


class Ours:
    """Our lexicon, in a file of its own."""

    name = "edgeret"

    def __init__(self, folder: Path, compact: bool) -> None:
        self._log = folder / "edgeret-wal"
        self._file = _connect(folder / "edgeret")
        self._compact = compact
        lexicon.create(self._file)
        self._lexicon = Lexicon(self._file)
        self.octets: list[int] = []
        self.runs: list[int] = []
        self.counted: list[int] = []
        self.commits: list[float] = []
        self.written: list[int] = []

    def build(self, texts: list[str]) -> None:
        """Commit after each COMMIT rows."""
        for first in range(0, len(texts), COMMIT):
            self._change(partial(self._add, first, texts[first : first + COMMIT]))
        while self._lexicon.is_due():
            self._change(partial(self._lexicon.merge, None))
        if self._compact:
            self._change(partial(self._lexicon.rewrite, None))

    def _add(self, first: int, texts: list[str]) -> None:
        for row, text in enumerate(texts, first):
            self._lexicon.add(row, words.terms(text))
        self._lexicon.flush()
        # As a long load would: fewer merges, and the rest at its end.
        self._lexicon.merge(None, fewest=8)

    def _change(self, change: Callable[[], object]) -> None:
        begun = time.perf_counter()
        self._file.execute("BEGIN")
        change()
        self._file.execute("COMMIT")
        self.commits.append(time.perf_counter() - begun)
        self.written.append(self._log.stat().st_size)
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def search(self, query: str, k: int) -> list[int]:
        """The best rows."""
        found = self._lexicon.search([Wanted(term) for term in words.terms(query)], k)
        self.octets.append(found.reads.octets)
        self.runs.append(found.reads.runs)
        self.counted.append(found.added + found.skipped)
        rows: list[int] = found.rows.tolist()
        return rows

    def told(self) -> dict[str, Any]:
        """What only this one tells."""
        return {
            "octets_read_p50": int(np.percentile(self.octets, 50)),
            "octets_read_p95": int(np.percentile(self.octets, 95)),
            "runs_p50": int(np.percentile(self.runs, 50)),
            "runs_p95": int(np.percentile(self.runs, 95)),
            "postings_p50": int(np.percentile(self.counted, 50)),
            "segments": self._lexicon.summary().segments,
            "commit_p99_ms": round(float(np.percentile(self.commits, 99)) * 1e3, 1),
            "written_p99_mb": round(float(np.percentile(self.written, 99)) / 1e6, 2),
            "written_per_byte": round(sum(self.written) / self.file_bytes(), 1),
            "backend": "native" if postings.is_native() else "numpy",
        }

    def file_bytes(self) -> int:
        """Of pages in use."""
        return _used(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Fts5:
    """SQLite's own, as the index used it."""

    name = "fts5"

    def __init__(self, folder: Path, compact: bool) -> None:
        self._file = _connect(folder / "fts5")
        self._compact = compact
        self._file.execute(
            f"CREATE VIRTUAL TABLE found USING fts5 (text, content = '', tokenize = '{TOKENIZER}')"
        )

    def build(self, texts: list[str]) -> None:
        """Commit after each COMMIT rows."""
        for first in range(0, len(texts), COMMIT):
            self._file.execute("BEGIN")
            self._file.executemany(
                "INSERT INTO found (rowid, text) VALUES (?, ?)",
                enumerate(texts[first : first + COMMIT], first),
            )
            self._file.execute("COMMIT")
        if self._compact:
            self._file.execute("INSERT INTO found (found) VALUES ('optimize')")

    def search(self, query: str, k: int) -> list[int]:
        """The best rows."""
        match = " OR ".join(f'"{word}"' for word in dict.fromkeys(words.terms(query, None)))
        if not match:
            return []
        found = self._file.execute(
            "SELECT rowid FROM found WHERE found MATCH ? ORDER BY rank, rowid LIMIT ?", (match, k)
        ).fetchall()
        return [row for (row,) in found]

    def told(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def file_bytes(self) -> int:
        """Of pages in use."""
        return _used(self._file)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Bm25s:
    """Scores made beforehand in sparse matrices, mapped from files. It cannot be added to."""

    name = "bm25s"

    def __init__(self, folder: Path, compact: bool) -> None:
        import bm25s

        self._folder = folder / "bm25s"
        self._module = bm25s
        self._found: Any = None

    def build(self, texts: list[str]) -> None:
        """All at once."""
        found = self._module.BM25()
        # Stop words stay, as with the others.
        tokens = self._module.tokenize(texts, stopwords=None, show_progress=False)
        found.index(tokens, show_progress=False)
        found.save(self._folder, show_progress=False)
        self._found = self._module.BM25.load(self._folder, mmap=True, show_progress=False)

    def search(self, query: str, k: int) -> list[int]:
        """The best rows."""
        tokens = self._module.tokenize(query, stopwords=None, show_progress=False)
        found = self._found.retrieve(tokens, k=k, show_progress=False, n_threads=0)
        rows: list[int] = found.documents[0].tolist()
        return rows

    def told(self) -> dict[str, Any]:
        """Its version."""
        return {"version": self._module.__version__}

    def file_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def close(self) -> None:
        """Let go of the files."""
        self._found = None


class Tantivy:
    """A search library in Rust, by its Python package, which gives the text that is stored of a hit: here its row."""

    name = "tantivy"

    def __init__(self, folder: Path, compact: bool) -> None:
        import tantivy

        self._module, self._compact = tantivy, compact
        schema = tantivy.SchemaBuilder()
        schema.add_unsigned_field("row", stored=True)
        schema.add_text_field("text", tokenizer_name="en_stem", index_option="freq")
        self._folder = folder / "tantivy"
        self._folder.mkdir()
        self._index = tantivy.Index(schema.build(), path=str(self._folder))
        self._searcher: Any = None

    def build(self, texts: list[str]) -> None:
        """One commit, by one thread; its own merges are waited for."""
        writer = self._index.writer(heap_size=128_000_000, num_threads=1)
        for row, text in enumerate(texts):
            writer.add_document(self._module.Document(row=row, text=text))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    def search(self, query: str, k: int) -> list[int]:
        """The best rows."""
        terms = " ".join(words.terms(query, None))
        asked, _ = self._index.parse_query_lenient(terms, ["text"])
        found = self._searcher.search(asked, k)
        return [self._searcher.doc(address)["row"][0] for _, address in found.hits]

    def told(self) -> dict[str, Any]:
        """How many parts it is in."""
        return {"segments": self._searcher.num_segments}

    def file_bytes(self) -> int:
        """Of all its files."""
        return sum(path.stat().st_size for path in self._folder.iterdir())

    def close(self) -> None:
        """Let go of the files."""
        self._searcher = self._index = None


def main(argv: list[str]) -> int:
    """Print one JSON line for each system and number of rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks words", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument(
        "--compact", action="store_true", help="merge each into one segment before it is asked"
    )
    options = parser.parse_args(argv)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    texts, queries = drawn(max(options.rows), options.queries)
    for rows in options.rows:
        for line in measure(texts[:rows], queries, options.k, options.compact):
            print(json.dumps(line), flush=True)
    return 0


def drawn(rows: int, queries: int) -> tuple[list[str], list[str]]:
    """So many passages, and the first words of others that have enough of them."""
    texts = distinct(rows + SPARE * queries)
    asking = [number for number, text in enumerate(texts) if len(text.split()) >= QUERY_WORDS][:queries]
    if len(asking) < queries:
        raise ValueError(f"expected {queries} texts of {QUERY_WORDS} words, found {len(asking)}: ask fewer")
    chosen = set(asking)
    left = [text for number, text in enumerate(texts) if number not in chosen]
    return left[:rows], [" ".join(texts[number].split()[:QUERY_WORDS]) for number in asking]


def distinct(count: int) -> list[str]:
    """So many different passages of ../shared/text, in random order, the same ones each time.

    If it has too few, those of ../shared/text_multi follow, in an order of their own.
    """
    found: list[str] = []
    for folder in (TEXTS, TEXTS.with_name("text_multi")):
        if len(found) < count:
            found += passages(folder, count - len(found))
    if len(found) < count:
        raise ValueError(
            f"expected {count} different passages in {TEXTS}, found {len(found)}: ask for fewer rows"
        )
    order = np.random.default_rng(SEED).permutation(len(found))
    return [found[number] for number in order.tolist()]


def passages(folder: Path, most: int, names: str = "*.txt.gz") -> list[str]:
    """Different lines of the files of a folder with such names, so many at most, drawn at random."""
    found: dict[str, None] = {}
    for path in sorted(folder.glob(names)):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            found.update(dict.fromkeys(line.strip() for line in lines))
    found.pop("", None)
    texts = list(found)
    order = np.random.default_rng(SEED).permutation(len(texts))[:most]
    return [texts[number] for number in order.tolist()]


def measure(texts: list[str], queries: list[str], k: int, compact: bool) -> Iterator[dict[str, Any]]:
    """One line for each system."""
    with TemporaryDirectory() as folder:
        systems, building = [], {}
        for kind in (Ours, Fts5, Bm25s, Tantivy):
            try:
                system: Any = kind(Path(folder), compact)
            except ImportError:
                print(f"not measured, not installed: {kind.name}", file=sys.stderr)
                continue
            begun = time.process_time()
            system.build(texts)
            building[system.name] = time.process_time() - begun
            systems.append(system)
        times = _ask([(system.name, system.search) for system in systems], queries, k)
        for system in systems:
            yield {
                "rows": len(texts),
                "system": system.name,
                "p50_ms": round(float(np.percentile(times[system.name], 50)), 3),
                "p95_ms": round(float(np.percentile(times[system.name], 95)), 3),
                "ratio_p50": round(float(np.median(np.array(times[system.name]) / times["edgeret"])), 2),
                "bytes_per_row": round(system.file_bytes() / len(texts), 1),
                "build_us_per_row": round(building[system.name] / len(texts) * 1e6, 1),
                **system.told(),
            }
            system.close()


def _ask(
    systems: list[tuple[str, Callable[[str, int], list[int]]]], queries: list[str], k: int
) -> dict[str, list[float]]:
    """Milliseconds of each query, by system; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name, _ in systems}
    for _, search in systems:
        search(queries[0], k)
    gc.disable()
    for query in queries:
        for name, search in systems:
            begun = time.perf_counter()
            search(query, k)
            times[name].append((time.perf_counter() - begun) * 1e3)
    gc.enable()
    return times


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = OFF",
        "secure_delete = ON",
        f"cache_size = -{CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _used(connection: sqlite3.Connection) -> int:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    size: int = (pages - free) * connection.execute("PRAGMA page_size").fetchone()[0]
    return size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
