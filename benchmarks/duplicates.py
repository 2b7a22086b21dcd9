"""Duplicates: how many edited copies of real texts are found, how many other texts are taken for copies, at what cost.

    python -m benchmarks duplicates [--model M] [--texts N]
    python -m benchmarks duplicates --index PATH [--texts N]

One JSON line for each kind of edit, and one for texts that are no copies: the share that `duplicates="report"` says is
a copy, and what two others say that decide alone, the distance between codes and MinHash. The second form says what it
costs to add texts to a copy of an index, with and without, in milliseconds of the processor.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.scan import TEXTS
from edgeret import Document, Encoder, Index, scan, words
from edgeret.documents import Record
from edgeret.encode.records import encode

_FILES: Final = ("openstax_cc_by", "python_peps", "owasp_cheatsheets", "powershell_docs", "tldr_descriptions")
_SENTENCE: Final = re.compile(r"(?<=[.!?]) ")
_HEAD: Final = (
    "Home Products Support Sign in. We use cookies to improve your visit: read our privacy policy. "
)
_FOOT: Final = (
    " All rights reserved. Terms of use. Contact us. Subscribe to our weekly newsletter and never miss news."
)
_LONG: Final = 800
"""Characters from which a text is long."""
_SHORT: Final = 150

_DISTANCES: Final = (32, 48)
"""Bits of 256 below which codes alone might say that texts are copies."""
_BINS: Final = 128
_LEAST: Final = 0.7
_ROUNDS: Final = 5

Numbers = NDArray[np.uint64]
Edit = Callable[[str], str]


def main(argv: list[str]) -> int:
    """Print JSON lines."""
    parser = argparse.ArgumentParser("python -m benchmarks duplicates", description=__doc__)
    parser.add_argument("--model", default="small", help="name or folder of a bundle (default: small)")
    parser.add_argument("--texts", type=int, default=3000, help="that are no copies, indexed (default: 3000)")
    parser.add_argument("--index", type=Path, help="measure the cost of adding texts to a copy of this index")
    options = parser.parse_args(argv)
    rng = random.Random(0)
    texts = drawn(2 * options.texts, rng)
    if options.index is not None:
        print(json.dumps(cost(options.index, texts[: options.texts])))
        return 0
    there, others = texts[: options.texts], texts[options.texts :]
    with TemporaryDirectory() as place:
        judges = Judges(Path(place, "texts.edgeret"), options.model, there)
        for kind, edit in edits(there, rng).items():
            for size, chosen in sizes(there).items():
                pairs = [(number, edit(there[number])) for number in chosen]
                pairs = [pair for pair in pairs if pair[1] != there[pair[0]]][:300]
                if pairs:
                    report(options.model, f"{kind}, {size}", judges.found(pairs), len(pairs))
        report(options.model, "other texts", judges.found([(-1, text) for text in others]), len(others))
        framed = [(-1, f"{_HEAD}{text}{_FOOT}") for text in others if len(text) >= _SHORT][:300]
        judges.add([f"{_HEAD}{text}{_FOOT}" for text in there if len(text) >= _SHORT][:300])
        report(options.model, "other texts, all framed alike", judges.found(framed), len(framed))
        foreign = translated()
        judges.add([text for text, _ in foreign])
        told = [(judges.documents - len(foreign) + number, text) for number, (_, text) in enumerate(foreign)]
        report(options.model, "translated", judges.found(told), len(told))
    return 0


def report(model: str, kind: str, found: dict[str, int], count: int) -> None:
    """One JSON line."""
    shares = {name: round(number / count, 4) for name, number in found.items()}
    print(json.dumps({"model": model, "kind": kind, "texts": count, **shares}), flush=True)


def drawn(count: int, rng: random.Random) -> list[str]:
    """Distinct texts, as many of each file."""
    found: list[str] = []
    for name in _FILES:
        with gzip.open(TEXTS / f"{name}.txt.gz", "rt", encoding="utf-8") as lines:
            distinct = list(dict.fromkeys(line.strip() for line in lines if len(line) > 30))
        found += rng.sample(distinct, count // len(_FILES))
    return rng.sample(found, len(found))


def sizes(texts: Sequence[str]) -> dict[str, list[int]]:
    """Numbers of texts by their length."""
    found: dict[str, list[int]] = {"short": [], "medium": [], "long": []}
    for number, text in enumerate(texts):
        found["long" if len(text) >= _LONG else "medium" if len(text) >= _SHORT else "short"].append(number)
    return found


def edits(texts: Sequence[str], rng: random.Random) -> dict[str, Edit]:
    """What becomes of a text that is copied, by name."""

    def word(text: str) -> str:
        parts = text.split(" ")
        parts[rng.randrange(len(parts))] = rng.choice(rng.choice(texts).split(" "))
        return " ".join(parts)

    def sentence(text: str) -> str:
        parts = _SENTENCE.split(text)
        if len(parts) < 3:
            return text
        parts[rng.randrange(len(parts))] = rng.choice(_SENTENCE.split(rng.choice(texts)))
        return " ".join(parts)

    return {
        "case and white space": lambda text: f"  {text.upper()}\n".replace(" ", "  "),
        "a word": word,
        "a sentence": sentence,
        "head and foot of a page": lambda text: f"{_HEAD}{text}{_FOOT}",
    }


def translated() -> list[tuple[str, str]]:
    """Paragraphs with their German translations."""
    found = []
    for file in sorted((TEXTS.parent / "parallel").glob("*-en-de.tsv.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            pairs = [line.rstrip("\n").split("\t") for line in lines]
        found += [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and len(pair[0]) > _SHORT]
    return found[:300]


class Judges:
    """Three that say which text is a copy: an index, the codes alone, and MinHash."""

    def __init__(self, path: Path, model: str, texts: Sequence[str]) -> None:
        self._encoder = Encoder.load(model)
        self._index = Index.create(path, self._encoder)
        self._codes = np.empty((0, 4), np.uint64)
        self._owners = np.empty(0, np.int64)
        self._signed = np.empty((0, _BINS), np.uint64)
        self.documents = 0
        self.add(texts)

    def add(self, texts: Sequence[str]) -> None:
        """Texts that others may be copies of."""
        self._index.add(Document(str(self.documents + number), text) for number, text in enumerate(texts))
        codes = self._coded(texts)
        numbers = np.arange(self.documents, self.documents + len(texts))
        self._codes = np.concatenate([self._codes, *codes])
        self._owners = np.concatenate([self._owners, np.repeat(numbers, [len(own) for own in codes])])
        self._signed = np.concatenate([self._signed, np.stack([signature(text) for text in texts])])
        self.documents += len(texts)

    def found(self, pairs: Sequence[tuple[int, str]]) -> dict[str, int]:
        """How many texts each takes for a copy of the one of this number; -1: of any."""
        added = self._index.add(
            (Document(f"copy {number}", text) for number, (_, text) in enumerate(pairs)), duplicates="report"
        )
        told = {copy.id: copy.of for copy in added.copies}
        self._index.delete(added)
        found = {
            "edgeret": sum(
                f"copy {number}" in told and of in (-1, int(told[f"copy {number}"].removeprefix("copy ")))
                for number, (of, _) in enumerate(pairs)
            )
        }
        nearest = list(self._nearest([text for _, text in pairs]))
        for most in _DISTANCES:
            found[f"codes {most}"] = sum(
                distance <= most and of in (-1, owner)
                for (of, _), (distance, owner) in zip(pairs, nearest, strict=True)
            )
        found["minhash"] = 0
        for of, text in pairs:
            alike = (self._signed == signature(text)).mean(axis=1)
            best = int(alike.argmax())
            found["minhash"] += bool(alike[best] >= _LEAST and of in (-1, best))
        return found

    def _coded(self, texts: Sequence[str]) -> list[Numbers]:
        parts = (texts[first : first + 64] for first in range(0, len(texts), 64))
        return [
            one.codes
            for part in parts
            for one in encode([Record.of(text) for text in part], self._encoder, 256)
        ]

    def _nearest(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        block = scan.Block(0, np.ascontiguousarray(self._codes.T))
        for codes in self._coded(texts):
            rows, distances = scan.top_k([block], np.ascontiguousarray(codes[:, None, :]), 1)
            best = int(distances[:, 0].argmin())
            yield int(distances[best, 0]), int(self._owners[rows[best, 0]])


def signature(text: str) -> Numbers:
    """MinHash of a text's sequences of three words by one permutation, uint64 [bins], empty bins filled.

    Each empty bin takes the value of another one, by a second hash (Shrivastava, Optimal densification, ICML 2017).
    """
    terms = words.terms(text)
    several = list(zip(*(terms[place:] for place in range(3)), strict=False)) or [tuple(terms)]
    hashed = np.unique(np.fromiter((hash(one) & (2**64 - 1) for one in several), np.uint64))
    hashed = mixed(hashed)
    bins = (hashed % np.uint64(_BINS)).astype(np.int64)
    found = np.full(_BINS, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(found, bins, hashed)
    full = np.zeros(_BINS, np.bool_)
    full[bins] = True
    empty = np.flatnonzero(~full).astype(np.uint64)
    attempt = 0
    while len(empty):
        others = (mixed(empty * np.uint64(2**20) + np.uint64(attempt)) % np.uint64(_BINS)).astype(np.int64)
        filled = full[others]
        found[empty[filled].astype(np.int64)] = found[others[filled]]
        empty, attempt = empty[~filled], attempt + 1
    return found


def mixed(numbers: Numbers) -> Numbers:
    """Numbers as good as random (SplitMix64's last step)."""
    with np.errstate(over="ignore"):
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def cost(path: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Milliseconds for each text that is added to a copy of an index, and what looking for copies adds."""
    with TemporaryDirectory() as place:
        copy = Path(place, "copy.edgeret")
        with Index.open(path, readonly=True) as index:
            index.backup(copy)
        with Index.open(copy) as index:
            rows, model = index.info().passages, index.info().model
            took: dict[str, list[float]] = {"keep": [], "report": []}
            share = len(texts) // _ROUNDS
            for turn in range(_ROUNDS):
                for how, times in took.items():
                    part = texts[turn * share : (turn + 1) * share]
                    given = [Document(f"new {number}", text) for number, text in enumerate(part)]
                    begun = time.process_time()
                    added = index.add(given, duplicates=how)
                    times.append(1000 * (time.process_time() - begun) / share)
                    index.delete(added)
    begun = time.process_time()
    for text in texts:
        signature(text)
    hashed = 1000 * (time.process_time() - begun) / len(texts)
    figures = {"add_ms": median(took["keep"]), "report_ms": median(took["report"]), "minhash_ms": hashed}
    shown = {name: round(figure, 3) for name, figure in figures.items()}
    return {"model": model, "passages": rows, "texts": len(texts), **shown}
