"""Forecast: what an index of so many documents will take, in memory and on disk, before there is one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Final

from edgeret.door import integer
from edgeret.encode.bundle import Bundle, available
from edgeret.encode.encoder import Encoder
from edgeret.encode.records import plan_for
from edgeret.encode.reranker import Reranker, more_bytes
from edgeret.errors import BudgetError, EdgeretError, InvalidQueryError
from edgeret.plan import Plan, enough_bits, file_parts, oversampling
from edgeret.search import partitions

# English prose: what a word takes in characters, the space after it included, and in tokens.
_WORD_CHARACTERS: Final = 6
_WORD_TOKENS: Final = 1.35

RERANKED: Final = 20
"""Passages that a reranker reads, if nothing else is said."""
# The first starts it.
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class Forecast:
    """Sizes in bytes. search: the plan of an index opened read-only; add: of one that documents are added to.

    enough_bits: the shortest code that so many passages need; bits: those planned with. max_tokens: the longest
    text. oversample: candidates for each of k. file: the parts of the file. optimized: like search, with partitions;
    None where they do not pay. rerank_ms: what a reranker takes for `RERANKED` such passages on this machine.
    """

    model: str
    documents: int
    passages: int
    bits: int
    enough_bits: int
    oversample: int
    max_tokens: int
    search: Plan
    add: Plan
    file: Mapping[str, int]
    optimized: Plan | None
    rerank_ms: float | None

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        documents: int,
        words: int,
        budget: int | None,
        bits: int | None = None,
        reranker: Reranker | None = None,
    ) -> Forecast:
        """Plan for `documents` of `words` words each on average; bits: None takes what so many need.

        reranker: that searches take. It is started, and timed.

        Raises BudgetError, which names the models that would fit, and InvalidQueryError for numbers that cannot be.
        """
        for name, number, least in (("documents", documents, 0), ("words", words, 1)):
            integer(name, number, least, refusal=InvalidQueryError)
        passages = documents * max(1, round(words * _WORD_TOKENS / encoder.max_tokens))
        enough = enough_bits(passages, encoder.codec.widths)
        chosen = enough if bits is None else bits
        encoder.codec.check_bits(chosen)
        try:
            search, add = _plans(encoder, passages, chosen, budget)
        except BudgetError as refusal:
            refusal.add_note(_others(encoder, passages, chosen, budget))
            raise
        judge = None
        if reranker is not None:
            judge = f"reranker {reranker.name}", more_bytes(reranker, encoder)
            search = search.beside(*judge)
        return cls(
            model=encoder.name,
            documents=documents,
            passages=passages,
            bits=chosen,
            enough_bits=enough,
            oversample=oversampling(passages, chosen),
            max_tokens=encoder.max_tokens,
            search=search,
            add=add,
            file=file_parts(documents, passages, words * _WORD_CHARACTERS, chosen, encoder.dim),
            optimized=_optimized(encoder, passages, chosen, search, judge),
            rerank_ms=None if reranker is None else _milliseconds(reranker, min(words, encoder.max_tokens)),
        )

    def described(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "model": self.model,
            "documents": self.documents,
            "passages": self.passages,
            "bits": self.bits,
            "enough_bits": self.enough_bits,
            "oversample": self.oversample,
            "budget_bytes": self.search.budget,
            "search": _described(self.search, self.max_tokens),
            "add": _described(self.add, self.max_tokens),
            "optimized": self.optimized and _described(self.optimized, self.max_tokens),
            "rerank_ms": self.rerank_ms,
            "file": {"parts": dict(self.file), "total": sum(self.file.values())},
        }

    def table(self) -> str:
        """As a table of megabytes, and a line for what gives way."""
        names = list(dict.fromkeys((*self.search.parts, *self.add.parts, *self.file)))
        lines = [f"{'MB (10^6 bytes)':<18}{'search':>9}{'add':>9}{'file':>11}"]
        for name in names:
            sizes = [parts.get(name, 0) for parts in (self.search.parts, self.add.parts, self.file)]
            lines.append(_line(name, sizes))
        lines.append(_line("total", [self.search.total, self.add.total, sum(self.file.values())]))
        lines += [
            "",
            f"{self.documents:,} documents, {self.passages:,} passages, model {self.model}, {self.bits} bits "
            f"({self.enough_bits} are enough for so many)",
        ]
        lines += [
            f"{verb}: {_given_way(plan, self.max_tokens)}"
            for verb, plan in (("search", self.search), ("add", self.add))
        ]
        if self.rerank_ms is not None:
            lines.append(f"rerank: {self.rerank_ms:.0f} ms for {RERANKED} passages, on this machine")
        share = f"{partitions.share(self.passages):.0%} of the codes"
        if self.optimized is not None:
            lines.append(
                f"`edgeret optimize` pays: search then reads about {share} and takes "
                f"{self.optimized.total / 1e6:.1f} MB, {self.optimized.parts['partitions'] / 1e6:.1f} of them for that"
            )
        else:
            lines.append(
                f"`edgeret optimize` does not pay: search would read about {share}, in no less time; it pays from "
                f"{partitions.PAY_FROM:,} passages on, or where most codes are streamed"
            )
        return "\n".join(lines)


def _plans(encoder: Encoder, passages: int, bits: int, budget: int | None) -> tuple[Plan, Plan]:
    search = plan_for(encoder, passages, bits, budget, writing=False)
    return search, plan_for(encoder, passages, bits, budget)


def _milliseconds(reranker: Reranker, words: int) -> float:
    """For `RERANKED` texts of so many words, one after the other."""
    pairs = reranker.proof().pairs
    query, text = pairs[0][0], " ".join(islice(cycle(" ".join(text for _, text in pairs).split()), words))
    taken = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        reranker.score(query, [text])
        taken.append(time.perf_counter() - begun)
    return round(1000 * RERANKED * min(taken), 1)


def _optimized(
    encoder: Encoder, passages: int, bits: int, search: Plan, judge: tuple[str, int] | None
) -> Plan | None:
    streamed = 1 - (search.blocks if search.code_blocks is None else search.code_blocks) / max(
        search.blocks, 1
    )
    if passages < partitions.PAY_FROM and streamed <= partitions.share(passages):
        return None
    size = partitions.forecast(passages, bits, encoder.dim)
    try:
        plan = plan_for(encoder, passages, bits, search.budget, writing=False, partitions=size)
        return plan if judge is None else plan.beside(*judge)
    except BudgetError:
        return None


def _others(encoder: Encoder, passages: int, bits: int, budget: int | None) -> str:
    fitting = []
    for name in available():
        try:
            if Bundle.open(name).space != encoder.space:
                continue
            _plans(Encoder.load(name, threads=encoder.threads), passages, bits, budget)
        except EdgeretError:
            # The budget is too small for it; or it is damaged, or of a newer edgeret, which concerns nobody here.
            continue
        fitting.append(name)
    return f"models that fit: {', '.join(fitting)}" if fitting else "no installed model fits"


def _described(plan: Plan, max_tokens: int) -> dict[str, Any]:
    return {
        "parts": dict(plan.parts),
        "total": plan.total,
        "codes_resident": plan.holds_all_codes,
        "cache_bytes": plan.cache_bytes,
        "max_tokens": max_tokens // plan.text_divisor,
    }


def _given_way(plan: Plan, max_tokens: int) -> str:
    codes = "all codes in memory"
    if not plan.holds_all_codes:
        codes = f"{plan.code_blocks} of {plan.blocks} blocks of codes in memory, the others streamed from the file"
    texts = f"texts up to {max_tokens // plan.text_divisor} tokens"
    return f"{codes}; {texts}; a page cache of {plan.cache_bytes / 1e6:g} MB"


def _line(name: str, sizes: list[int]) -> str:
    return f"{name:<18}" + "".join(
        f"{size / 1e6:>{width}.1f}" if size else " " * (width - 1) + "-"
        for size, width in zip(sizes, (9, 9, 11), strict=True)
    )
