"""Exact: whether what few letters tell apart is found: identifiers of eight kinds, and Chinese words of two characters.

    python -m benchmarks exact [--rows N] [--model M] [--modes MODES]

One JSON line a kind and mode. Identifiers: 80 of a kind, each in a sentence of its own that says the same of all, lie
among real passages of ../shared/text; each is asked alone, and `first` counts those whose sentence is the first hit.
Chinese: 200 words of two characters, each in at most ten of so many passages of ../shared/text_multi, each of another
passage; `first` and `among_ten` count those whose passage is there.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import edgeret
from benchmarks.scan import TEXTS
from benchmarks.words import distinct, passages
from edgeret.encode.encoder import Encoder

ASKED: Final = 80
WORDS: Final = 200
MOST: Final = 10
"""Passages that may have a word of two characters, so that all of them can be among ten hits."""

_HAN: Final = re.compile("[\u4e00-\u9fff]+")

_KINDS: Final[dict[str, Callable[[random.Random], str]]] = {
    "address": lambda rng: ".".join(str(rng.choice((10, 20, 30, 40, 110))) for _ in range(4)),
    "version": lambda rng: ".".join(str(rng.randint(1, 13)) for _ in range(3)),
    "date": lambda rng: f"20{rng.randint(20, 26)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
    "time": lambda rng: f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}",
    "part": lambda rng: f"PIO-{rng.randint(10, 30)}-{rng.randint(10, 99)}",
    "phone": lambda rng: f"+49 30 {rng.randint(9010, 9030)} {rng.randint(100, 120)}",
    "error": lambda rng: f"0x8007{rng.randint(0, 0x400):04x}",
    "path": lambda rng: "/".join(["", "srv", *rng.choices(("a", "b", "lib", "log", "main"), k=3), "run.py"]),
}


def main(argv: list[str]) -> int:
    """Print one JSON line for each kind and mode."""
    parser = argparse.ArgumentParser("python -m benchmarks exact", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--model", default="small")
    parser.add_argument("--modes", nargs="+", choices=("lexical", "hybrid"), default=("lexical", "hybrid"))
    options = parser.parse_args(argv)
    encoder = Encoder.load(options.model)
    sentences = {kind: identifiers(kind) for kind in _KINDS}
    texts = distinct(options.rows) + [text for of_kind in sentences.values() for text in of_kind.values()]
    random.Random(0).shuffle(texts)
    for line in measure(texts, sentences, encoder, options.modes):
        print(json.dumps(line | {"rows": options.rows, "model": options.model}), flush=True)
    chinese = passages(TEXTS.with_name("text_multi"), options.rows, "*-zh.txt.gz")
    asked = {"chinese": two_characters(chinese)}
    for line in measure(chinese, asked, encoder, options.modes):
        print(json.dumps(line | {"rows": len(chinese), "model": options.model}), flush=True)
    return 0


def identifiers(kind: str) -> dict[str, str]:
    """Identifiers of a kind, all different, and the sentence of each."""
    rng = random.Random(kind)
    found: dict[str, str] = {}
    while len(found) < ASKED:
        made = _KINDS[kind](rng)
        found[made] = f"The unit in hall {rng.randint(1, 9)} is known as {made} since the last inspection."
    return found


def two_characters(texts: list[str]) -> dict[str, str]:
    """Words of two characters, each of another passage, that at most `MOST` passages have; and the passage of each."""
    having: dict[str, set[int]] = defaultdict(set)
    for number, text in enumerate(texts):
        for run in _HAN.findall(text):
            for one, other in pairwise(run):
                having[one + other].add(number)
    rare = sorted(word for word, numbers in having.items() if 1 < len(numbers) <= MOST)
    random.Random(0).shuffle(rare)
    taken: dict[int, str] = {}
    for word in rare:
        taken.setdefault(min(having[word]), word)
    return {word: texts[number] for number, word in list(taken.items())[:WORDS]}


def measure(
    texts: list[str],
    asked: dict[str, dict[str, str]],
    encoder: Encoder,
    modes: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Of each kind and mode, how many of the queries have their text first, and among ten."""
    ids = {text: str(number) for number, text in enumerate(texts)}
    with (
        TemporaryDirectory() as folder,
        edgeret.Index.create(Path(folder, "exact.edgeret"), encoder) as index,
    ):
        index.add(edgeret.Document(identity, text) for text, identity in ids.items())
        for mode in modes:
            for kind, queries in asked.items():
                places: Counter[str] = Counter()
                for query, text in queries.items():
                    found = [hit.id for hit in index.search(query, mode=mode)]
                    places["first"] += found[:1] == [ids[text]]
                    places["among_ten"] += ids[text] in found
                yield {"kind": kind, "mode": mode, "asked": len(queries), **places}
