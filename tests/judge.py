"""The judge of damaged index files: every answer is right, or a named error.

Run as a program it is the child process of test_corrupt: `python tests/judge.py FOLDER FIRST LAST SECONDS`. It
prints the number of each file before it touches it, so that a crash of the interpreter names the file; so does an
endless loop, which the system ends after SECONDS of processor time.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from damage import QUERIES, Truth, damaged, described, documents_in, make, small_blocks
from fake import FakeEncoder, NarrowEncoder

from edgeret import Document, EdgeretError, Hit, Index

PROBES = ("d3", "d77", "long", "vector", "d150", "absent")

MEMORY_BYTES = 2_000_000_000
"""Address space of the child: an allocation of what a damaged number says would end it."""


class WrongAnswerError(AssertionError):
    """An answer that is neither right nor a named error."""


class Questions:
    """What a damaged file answers. Raises WrongAnswerError at the first answer that nobody ever wrote."""

    def __init__(self, index: Index, truth: Truth, kind: str) -> None:
        self.index = index
        self.truth = truth
        self.kind = kind
        self.complaints: list[str] = []
        """Named errors, and answers with something missing: `check` must find why."""

    def ask(self) -> None:
        for number in range(len(QUERIES)):
            self._try(self._search, number)
        for identity in PROBES:
            self._try(self._get, identity)
        self._try(self._info)

    def _try(self, ask: Callable[..., None], *arguments: object) -> None:
        try:
            ask(*arguments)
        except EdgeretError as error:
            self.complaints.append(f"{arguments}: {error}")

    def _search(self, number: int) -> None:
        hits = self.index.search(**QUERIES[number])
        for hit in hits:
            self._judge(number, hit)
        if len({hit.id for hit in hits}) < len(hits):
            raise WrongAnswerError(f"{QUERIES[number]} finds a document twice")
        if hits != self.truth.answers[number]:
            self.complaints.append(f"{QUERIES[number]} finds other hits")

    def _judge(self, number: int, hit: Hit) -> None:
        query = QUERIES[number]
        written = any(
            (document := known.get(hit.id))
            and (hit.text, hit.metadata) == (document.text[hit.start : hit.end], document.metadata)
            for known in self.truth.documents
        )
        year, where = hit.metadata.get("year"), query.get("where", {})
        years = [3] if where.get("year") == 3 else range(5, 10) if "year" in where else [year]
        sound = hit.cosine is None or (number, hit.id, hit.start, hit.cosine) in self.truth.cosines
        has_word = query.get("mode") != "lexical" or any(word in hit.text for word in query["query"].split())
        if not (written and year in years and sound and has_word):
            raise WrongAnswerError(f"{query} finds {hit}")

    def _get(self, identity: str) -> None:
        document = self.index.get(identity)
        if document and document not in [known.get(identity) for known in self.truth.documents]:
            raise WrongAnswerError(f"{identity} is {document}")
        if document != self.truth.documents[0].get(identity):
            self.complaints.append(f"{identity} is missing, or an older one")

    def _info(self) -> None:
        found = described(self.index)
        if found != self.truth.info:
            self.complaints.append(f"info is {found}")
            # Sound counters of an older commit: only counting everything tells.
            if self.kind != "lose_a_write":
                raise WrongAnswerError(self.complaints[-1])


def judge(path: Path, truth: Truth, kind: str, encoder: FakeEncoder, writes: bool) -> str:
    """Ask a damaged file everything; "refused", "found" or "harmless", else raise WrongAnswerError."""
    try:
        index = Index.open(path, model=encoder)
    except EdgeretError:
        return "refused"
    with index:
        questions = Questions(index, truth, kind)
        questions.ask()
        try:
            index.check()
            found = False
        except EdgeretError:
            found = True
        if questions.complaints and not found:
            raise WrongAnswerError(f"check finds nothing, and yet: {questions.complaints}")
        if writes:
            _write(index)
    return "found" if found else "harmless"


def _write(index: Index) -> None:
    for step in (
        lambda: index.delete(["d5", "d120", "long"]),
        lambda: index.add([Document("d9", "a new text", {"year": 1}), "another red cat"]),
        lambda: index.delete(["d30"], erase=True),
        index.compact,
        lambda: Index.recode(index._path, FakeEncoder(codec=1), bits=64),
        lambda: Index.reencode(index._path, NarrowEncoder(), bits=64),
    ):
        with contextlib.suppress(EdgeretError):
            step()


def judge_repair(path: Path, truth: Truth, encoder: FakeEncoder) -> tuple[int, int]:
    """Repair a damaged file; (documents saved, ids named as lost). What is saved must have been written."""
    target = path.with_name("repaired.edgeret")
    target.unlink(missing_ok=True)
    try:
        summary = Index.repair(path, target, model=encoder)
    except EdgeretError:
        return 0, 0
    with Index.open(target, model=encoder, readonly=True) as index:
        questions = Questions(index, truth, "lose_a_write")
        questions.ask()
        if any("damaged" in complaint for complaint in questions.complaints):
            raise WrongAnswerError(f"a repaired index is damaged: {questions.complaints}")
    known = set().union(*truth.documents)
    if len(index_ids := set(documents_in(target))) != summary.documents or not index_ids <= known:
        raise WrongAnswerError(f"repair invents documents: {summary}")
    return summary.documents, len(summary.lost_ids)


def run(folder: Path, first: int, last: int) -> None:
    """Judge the files of these numbers; print each number, then each wrong one, then the counts."""
    truth, encoder = make(folder), FakeEncoder()
    counts: Counter[str] = Counter()
    path = folder / "damaged.edgeret"
    for number in range(first, last):
        print("file", number, flush=True)
        kind, image = damaged(number, truth)
        for left in folder.glob("damaged.edgeret*"):
            left.unlink()
        path.write_bytes(image)
        try:
            if number % 25 == 24:
                saved, _ = judge_repair(path, truth, encoder)
                counts.update(repaired=1, documents_saved=saved, documents_before=len(truth.documents[0]))
                path.write_bytes(image)
            counts[judge(path, truth, kind, encoder, writes=number % 8 == 0)] += 1
        # Whatever escapes is what this looks for.
        except Exception as error:
            print("wrong", json.dumps(f"file {number}, {kind}: {type(error).__name__}: {error}"), flush=True)
            if "-v" in sys.argv:
                raise
    print("counts", json.dumps(counts), flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    small_blocks()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seconds = int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as scratch:
        run(Path(scratch), int(sys.argv[2]), int(sys.argv[3]))
