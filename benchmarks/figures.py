"""Figures: the ledger's lines as the report asks for them: by stack, size and threads; who is ahead; what is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from statistics import mean
from typing import Final, NamedTuple

from benchmarks import systems
from benchmarks.ledger import Line, key

DISTINCT_ROWS: Final = 200_000
QUERIES: Final = 64
TURN: Final = 8
PASSES: Final = 3
SIZES: Final = (10_000, 100_000, 1_000_000)
AGREEMENT: Final = 0.15
OURS: Final = (
    "nano/edgeret-hybrid",
    "small/edgeret-hybrid",
    "nano/edgeret",
    "small/edgeret",
    "base/edgeret",
)
SENTENCE_TRANSFORMERS: Final = "torch/faiss-flat"
# Of nDCG's share and of recall: who is that much below counts as equal.
_SLACK: Final = 0.005


class Loss(NamedTuple):
    """A measure in which others are ahead of the best of ours that answers as well.

    rows: None where they do not matter. ahead: stacks and their values, best first.
    """

    rows: int | None
    measure: str
    best: str
    value: float
    ahead: list[tuple[str, float]]


class Promise(NamedTuple):
    """kept: None where it has not been measured."""

    text: str
    wanted: str
    found: str | None
    kept: bool | None


class Pair(NamedTuple):
    """A ratio in two runs."""

    system: str
    rows: int
    one: float
    other: float

    @property
    def difference(self) -> float:
        """Of the larger to the smaller."""
        return max(self.one, self.other) / min(self.one, self.other) - 1


@dataclass(frozen=True)
class Figures:
    """machine: the one with most lines; those of others are left out. sizes: bytes of a set of packages.

    lines: of its first run; others: of its later ones.
    """

    machine: str
    lines: list[Line]
    others: list[Line]
    sizes: dict[tuple[str, ...], int]

    @classmethod
    def choose(cls, lines: Iterable[Line], sizes: Iterable[Line]) -> Figures:
        """Of several trainings of a bundle the last one that was measured counts."""
        every = list(lines)
        machine = Counter(line["machine"] for line in every).most_common(1)[0][0]
        here = [line for line in every if line["machine"] == machine]
        first = here[0]["run"]
        latest = {systems.encoder_of(line["system"]): line["model"] for line in here}
        kept = [line for line in here if line["model"] == latest[systems.encoder_of(line["system"])]]
        return cls(
            machine,
            [line for line in kept if line["run"] == first],
            [line for line in kept if line["run"] != first],
            {tuple(line["requires"]): line["bytes"] for line in sizes if "requires" in line},
        )

    @property
    def rows(self) -> list[int]:
        """Sizes that were measured, ascending."""
        return sorted({line["rows"] for line in self.lines if line["kind"] == "ask"})

    @cached_property
    def collections(self) -> list[str]:
        """Collections on which the baseline was judged."""
        return [name for name in self._judged if self._ndcg10(systems.BASELINE, name)]

    @property
    def languages(self) -> list[str]:
        """Collections on which it was not: those in other languages than its own."""
        return [name for name in self._judged if self._ndcg10(systems.BASELINE, name) is None]

    @property
    def _judged(self) -> list[str]:
        return list(dict.fromkeys(line["collection"] for line in self.lines if line["kind"] == "quality"))

    def cell(self, kind: str, stack: str, rows: int, threads: int | str | None = None) -> Line | None:
        """A cell's line."""
        return self._known.get((kind, stack, rows, threads, None))

    def index(self, kind: str, index: str, rows: int) -> Line | None:
        """The line of a store, by whichever stack it was measured."""
        return next(
            (
                line
                for line in self.lines
                if line["kind"] == kind and line["rows"] == rows and systems.index_of(line["system"]) == index
            ),
            None,
        )

    def judged(self, stack: str, collection: str) -> Line | None:
        """The line of a stack's quality."""
        return self._known.get(("quality", stack, None, None, collection))

    def encoding(self, encoder: str) -> Line | None:
        """The line of an encoder by itself."""
        return next(
            (
                line
                for line in self.lines
                if line["kind"] == "encode" and systems.encoder_of(line["system"]) == encoder
            ),
            None,
        )

    def installed(self, stack: str) -> int | None:
        """Bytes of a stack's packages."""
        return self.sizes.get(systems.packages_of(stack))

    def quality(self, stack: str) -> float | None:
        """nDCG@10 as a share of the baseline's, the mean over its collections; None if one is missing."""
        shares = []
        for collection in self.collections:
            own, base = self._ndcg10(stack, collection), self._ndcg10(systems.BASELINE, collection)
            if own is None or base is None:
                return None
            shares.append(own / base)
        return mean(shares) if shares else None

    def value(self, kind: str, field: str, stack: str, rows: int) -> float | None:
        """A figure on one core; None where it was not measured."""
        if kind in ("build", "change"):
            line = self.index(kind, systems.index_of(stack), rows)
        else:
            line = self.cell(kind, stack, rows, 1)
        return None if line is None else line.get(field)

    def memory_line(self, stack: str) -> tuple[float, float] | None:
        """(bytes without rows, bytes a row), through the smallest and the largest size; None with fewer."""
        points = [
            (rows, taken)
            for rows in self.rows
            if (taken := self.value("ask", "rss_over_import_bytes", stack, rows)) is not None
        ]
        if len(points) < 2:
            return None
        (few, least), (many, most) = points[0], points[-1]
        slope = max((most - least) / (many - few), 0.0)
        return least - slope * few, slope

    def losses(self) -> list[Loss]:
        """Every measure in which a rival beats the best of ours that answers as well as it."""
        found = [loss for rows in self.rows for loss in self._losses_at(rows)]
        found += self._beaten(None, "nDCG@10, share", self.quality, higher=True)
        found += self._beaten(None, "installed bytes", self.installed, higher=False)
        return found

    def promises(self) -> list[Promise]:
        """What small and nano are to reach beside the same weights in fp32, with FAISS: in both runtimes."""
        made = []
        for rows in SIZES[1:]:
            for stack, least in (("small/edgeret", 6.0), ("nano/edgeret", 20.0)):
                for rival in (SENTENCE_TRANSFORMERS, systems.BASELINE):
                    text = f"{stack} is faster than {rival} at {rows:,} rows"
                    made.append(_promise(text, least, self._times(stack, rival, rows), "times"))
            made.append(
                _promise(
                    f"small/edgeret takes less memory for {rows:,} rows", 10.0, self._thrift(rows), "times"
                )
            )
        made.append(
            _promise("small/edgeret answers as well", 0.95, self.quality("small/edgeret"), "of nDCG@10")
        )
        return made

    def agreement(self) -> list[Pair]:
        """Each ratio of p50s above 1 ms that was measured in the first run and in another."""
        asked = {key(line)[:4]: line for line in self.lines if "times_faster" in line}
        return [
            Pair(line["system"], line["rows"], asked[key(line)[:4]]["times_faster"], line["times_faster"])
            for line in self.others
            if "times_faster" in line
            and key(line)[:4] in asked
            and min(line["p50_ms"], asked[key(line)[:4]]["p50_ms"]) > 1
        ]

    @cached_property
    def _known(self) -> dict[tuple[object, ...], Line]:
        """The first line of each cell."""
        names = ("kind", "system", "rows", "threads", "collection")
        return {tuple(line[name] for name in names): line for line in reversed(self.lines)}

    def _ndcg10(self, stack: str, collection: str) -> float | None:
        line = self.judged(stack, collection)
        return None if line is None else line.get("ndcg10")

    def _losses_at(self, rows: int) -> Iterator[Loss]:
        for measure, kind, field, higher in MEASURES:

            def value(stack: str, kind: str = kind, field: str = field) -> float | None:
                return self.value(kind, field, stack, rows)

            yield from self._beaten(rows, measure, value, higher)

    def _beaten(
        self, rows: int | None, measure: str, value: Callable[[str], float | None], higher: bool
    ) -> Iterator[Loss]:
        sign = -1 if higher else 1
        ahead = []
        for rival in systems.STACKS:
            taken = value(rival)
            peers = [(sign * own, stack) for stack in self._peers(rival) if (own := value(stack)) is not None]
            if rival in _EVERY_OF_OURS or taken is None or not peers or sign * taken >= min(peers)[0]:
                continue
            ahead.append((min(peers)[1], rival, taken))
        for best, group in groupby(sorted(ahead), key=lambda item: item[0]):
            rivals = sorted(((rival, taken) for _, rival, taken in group), key=lambda item: sign * item[1])
            yield Loss(rows, measure, best, value(best) or 0.0, rivals)

    def _peers(self, rival: str) -> list[str]:
        """Those of ours whose answers are as good as a rival's; all of them where none is or nobody knows."""
        quality = self.quality(rival)
        if quality is None:
            return list(OURS)
        good = [stack for stack in OURS if (self.quality(stack) or 0.0) >= quality - _SLACK]
        return good or list(OURS)

    def _times(self, stack: str, rival: str, rows: int) -> float | None:
        """How many times faster than a rival; both took turns with the baseline."""
        own, other = (self.value("ask", "times_faster", name, rows) for name in (stack, rival))
        return None if own is None or other is None else own / other

    def _thrift(self, rows: int) -> float | None:
        """Memory that the baseline's rows take, over ours: growth since the smallest size, a megabyte at least."""
        grown = []
        for stack in (systems.BASELINE, "small/edgeret"):
            least = self.value("ask", "rss_over_import_bytes", stack, self.rows[0])
            taken = self.value("ask", "rss_over_import_bytes", stack, rows)
            if least is None or taken is None or rows == self.rows[0]:
                return None
            grown.append(taken - least)
        return grown[0] / max(grown[1], 1e6)


def rows_within(budget_bytes: float, empty: float, each: float, most: float) -> float:
    """How many rows of `each` bytes fit beside the `empty` bytes that are there before the first; `most` at most."""
    room = budget_bytes - empty
    if room <= 0:
        return 0.0
    return min(room / each, most) if each else most


MEASURES: Final = (
    ("p50 ms", "ask", "p50_ms", False),
    ("after a pause, ms", "ask", "after_pause_ms", False),
    ("search ms", "ask", "search_ms", False),
    ("CPU s / 1,000", "ask", "cpu_s_per_1000", False),
    ("recall@10", "ask", "recall10", True),
    ("memory, bytes", "ask", "rss_over_import_bytes", False),
    ("bytes / doc", "ask", "bytes_per_doc", False),
    ("start ms", "start", "warm_ms", False),
    ("cold start ms", "start", "cold_ms", False),
    ("build docs/s", "build", "docs_per_s", True),
    ("add one ms", "change", "add_ms", False),
    ("delete one ms", "change", "delete_ms", False),
)
_EVERY_OF_OURS: Final = frozenset(stack for stack in systems.STACKS if systems.is_ours(stack))


def _promise(text: str, least: float, found: float | None, unit: str) -> Promise:
    shown = None if found is None else f"{found:.3g} {unit}"
    return Promise(text, f"{least:g} {unit}", shown, None if found is None else found >= least)
