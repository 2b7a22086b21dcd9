"""Plan: bytes for each part of an index in use and for a document, and what a memory budget allows. Arithmetic only."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edgeret import blocks
from edgeret.codec import words
from edgeret.door import checked
from edgeret.door import parse_bytes as parse_bytes
from edgeret.errors import BudgetError

_TEXTS: Final = "longest texts"
"""The encoder's part that shrinks with the longest text."""

# Growth of the peak RSS on x86-64; `python -m benchmarks memory` is the judge.
_INDEX_BYTES: Final = 4_200_000
_WRITING_BYTES: Final = 5_800_000
_RECODING_BYTES: Final = 2_900_000
_UPGRADING_BYTES: Final = 16_000_000
# What SQLite collects for a filter or an order, before it spills; writing, which takes more, has it too.
_SORTING_BYTES: Final = 4_000_000
_MOST_WRITING_CACHE_BYTES: Final = 2_000_000
_LEAST_CACHE_BYTES: Final = 250_000
_CANDIDATE_BYTES: Final = 700
# Of a document, which the other parts have room for.
_DOCUMENT_BYTES: Final = 3_000_000
# Ten documents, four times as many: in files of format 1 "hybrid" takes these from each list.
_USUAL_K: Final = 40
KEPT_BYTES: Final = 8_000_000
"""Of passages that stay in memory where nothing bounds it, if they are so few that all of them may."""
KEPT_HEAD_BYTES: Final = 33
"""Of each of them, beside its vector: four numbers, and whether it is there."""

_VECTOR_BYTES: Final = 384
"""Of a stored vector, of the models of the package."""

_LEAST_CANDIDATES: Final = 400
# Many threads that take turns: their stacks, and what the allocator keeps for each. Fewer pages are cached for that.
_THREADS_BYTES: Final = 1_000_000

COPIES: Final = 10
"""Of a byte that is stored: Python's, those bound to a statement, SQLite's rows, and what JSON's parser makes of it."""
# A value in metadata: what JSON's encoder collects.
_VALUE_BYTES: Final = 140

# The words of texts, which repeat themselves: fitted to lexicons of 1,000 to 60,000 passages of 50 to 500 characters.
_VOCABULARY_BYTES: Final = 2600

_CHARACTERS_AT_ONCE: Final = 1 << 16

# What gives way, step by step: (whether all codes stay in RAM, SQLite's page cache in bytes, the longest text's
# divisor). The first cache holds all inner pages of a million rows: a candidate then costs one read.
_STEPS: Final = (
    (True, 4_000_000, 1),
    (True, 2_000_000, 1),
    (False, 2_000_000, 1),
    (False, _LEAST_CACHE_BYTES, 1),
    (False, _LEAST_CACHE_BYTES, 2),
    (False, _LEAST_CACHE_BYTES, 4),
)

# Candidates that hold recall10 near .9, near .8 with 64 bits, in multiples of k: in many rows, and the rows at which
# 1 / sqrt(2) of it serves. Fitted to `python -m benchmarks oversampling` from 100 to 200,000 rows.
_OVERSAMPLING: Final = {64: (55.0, 12_000), 128: (12.0, 300), 256: (4.0, 0)}
LEAST_OVERSAMPLING: Final = 4
"""Candidates by code, in multiples of k, that even few passages with long codes get."""

_BEARABLE_OVERSAMPLING: Final = 11
"""Each candidate is a read of the file, and a little file stays in memory, whatever its candidates."""


def oversampling(rows: int, bits: int) -> int:
    """How many candidates by code, in multiples of k, `rows` passages need.

    Short codes collide, and the more rows, the more candidates are false, up to as many as a code confuses.
    """
    width = max((known for known in _OVERSAMPLING if known <= bits), default=min(_OVERSAMPLING))
    limit, half = _OVERSAMPLING[width]
    return max(LEAST_OVERSAMPLING, math.ceil(limit * math.sqrt(rows / max(1, rows + half))))


def enough_bits(rows: int, widths: Sequence[int]) -> int:
    """The shortest code, of the `widths` there are, that finds the best of `rows` passages among few candidates."""
    fitting = [bits for bits in widths if oversampling(rows, bits) <= _BEARABLE_OVERSAMPLING]
    return min(fitting, default=max(widths))


def file_parts(documents: int, passages: int, characters: int, bits: int, dim: int) -> dict[str, int]:
    """Bytes of an index file, part by part, for documents of `characters` characters of English on average."""
    letters = documents * characters
    return {
        "vectors": passages * (dim + 28) + 14 * (passages - documents),
        "codes": passages * words(bits) * 8,
        "documents": documents * (characters + 85),
        "words": passages * 20 + letters // 4 + round(_VOCABULARY_BYTES * letters**0.25),
    }


def footprint(text: str, metadata: Mapping[str, Any], enough: int | None = None) -> int:
    """Bytes that a document takes while it is added; what is more than `enough` is not counted to its end."""
    found = COPIES * _utf8_bytes(text)
    left: list[Any] = [iter([metadata])]
    while left and (enough is None or found <= enough):
        value = next(left[-1], left)
        if value is left:
            left.pop()
            continue
        found += _VALUE_BYTES
        if isinstance(value, str):
            found += COPIES * _utf8_bytes(value)
        elif isinstance(value, Mapping):
            left += [iter(value.values()), iter(value)]
        elif isinstance(value, list | tuple):
            left.append(iter(value))
    return found


@dataclass(frozen=True, slots=True)
class Plan:
    """The memory that an index in use takes beyond `import edgeret`.

    Attributes:
        parts: Bytes of each part, by its name.
        blocks: Blocks of codes, of 16,384 passages each, planned for.
        code_blocks: Blocks that may stay in memory; the others are read from the file block by block. None: all.
        cache_bytes: SQLite's page cache of a connection that reads, in bytes.
        text_divisor: The longest text is that of the encoder divided by this.
        budget: The bound in bytes. None if there is none.
    """

    parts: Mapping[str, int]
    blocks: int
    code_blocks: int | None
    cache_bytes: int
    text_divisor: int
    budget: int | None

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def holds_all_codes(self) -> bool:
        """Whether all codes stay in RAM, those of the passages that were planned for."""
        return self.code_blocks is None or self.code_blocks >= self.blocks

    @property
    def writing_cache_bytes(self) -> int:
        """SQLite's page cache of the connection that writes: it keeps what changes, and spills the rest."""
        return _writing_cache(self.cache_bytes)

    @property
    def spare(self) -> int | None:
        """Bytes of the budget that no part takes; None without a budget."""
        return None if self.budget is None else self.budget - self.total

    @classmethod
    @checked
    def of(
        cls,
        rows: int,
        bits: int,
        encoder: Mapping[str, int],
        budget: int | None,
        writing: bool = True,
        shortens: bool = False,
        partitions: int = 0,
        vector_bytes: int = _VECTOR_BYTES,
    ) -> Plan:
        """Plan for an index and an encoder.

        To meet the budget these give way, in this order: half of SQLite's page cache; codes in memory, block by block;
        most of the cache; the longest text.

        Args:
            rows: Passages.
            bits: Length of a code in bits.
            encoder: The encoder's parts and their bytes, `Encoder.planned_bytes`.
            budget: The bound in bytes. None sets none.
            writing: Whether documents are added too.
            shortens: Whether the encoder's longest text may give way.
            partitions: Bytes that the partitions beside the index take; with them no codes stay in memory. 0: there are
                none.
            vector_bytes: Bytes of a stored vector, one for each of the encoder's dims.

        Returns:
            The plan.

        Raises:
            BudgetError: The budget is too small; the message names the smallest that works and its largest part.
        """
        block = words(bits) * 8 * blocks.BLOCK_ROWS
        sealed = -(-rows // blocks.BLOCK_ROWS)
        for whole, cache, divisor in _STEPS[: None if shortens else -2]:
            parts = _parts(rows, bits, encoder, cache, divisor, writing, vector_bytes)
            if partitions:
                parts["partitions"], whole = partitions, False
            left = None if budget is None else budget - sum(parts.values())
            resident_blocks = None if left is None else left // block
            if left is None or left >= (sealed * block + _THREADS_BYTES if whole else 0):
                if partitions:
                    resident_blocks = 0
                parts["codes"] = block * (sealed if resident_blocks is None else min(sealed, resident_blocks))
                kept = rows * (vector_bytes + KEPT_HEAD_BYTES)
                if budget is None and kept <= KEPT_BYTES:
                    parts["passages"] = kept
                return cls(parts, sealed, resident_blocks, cache, divisor, budget)
        raise _refusal(parts, budget, "choose a lighter model")

    @classmethod
    @checked
    def of_recode(cls, bits: int, codec_bytes: int, budget: int | None) -> Plan:
        """Plan for `recode`. Only SQLite's page cache gives way.

        Args:
            bits: Length of the new codes in bits.
            codec_bytes: What the codec takes, `Codec.planned_bytes`.
            budget: The bound in bytes. None sets none.

        Returns:
            The plan.

        Raises:
            BudgetError: The budget is too small; the message names the smallest that works and its largest part.
        """
        fixed = {
            "codec": codec_bytes,
            "index": _RECODING_BYTES,
            "block in flight": 2 * words(bits) * 8 * blocks.BLOCK_ROWS,
        }
        return cls._of_change(fixed, budget, "choose fewer bits")

    @classmethod
    @checked
    def of_upgrade(cls, budget: int | None) -> Plan:
        """Plan for `upgrade`. Only SQLite's page cache gives way.

        Args:
            budget: The bound in bytes. None sets none.

        Returns:
            The plan.

        Raises:
            BudgetError: The budget is too small; the message names the smallest that works and its largest part.
        """
        return cls._of_change({"words": _UPGRADING_BYTES}, budget, "upgrade it on another machine")

    @classmethod
    def _of_change(cls, fixed: dict[str, int], budget: int | None, remedy: str) -> Plan:
        for cache in (_MOST_WRITING_CACHE_BYTES, _LEAST_CACHE_BYTES):
            parts = fixed | {"page cache": cache}
            if budget is None or sum(parts.values()) <= budget:
                return cls(parts, 0, 0, cache, 1, budget)
        raise _refusal(parts, budget, remedy)

    @checked
    def beside(self, part: str, size: int) -> Plan:
        """Return the plan with one more part, to which codes in memory give way, block by block.

        Args:
            part: Its name.
            size: What it takes, in bytes.

        Returns:
            The plan.

        Raises:
            BudgetError: The budget does not have so much to spare, even with all codes streamed.
        """
        parts = {**self.parts, part: size}
        if self.budget is None or self.code_blocks is None:
            return replace(self, parts=parts)
        block = self.parts["block in flight"] // 2
        others = sum(parts.values()) - self.parts["codes"]
        if others > self.budget:
            raise BudgetError(
                f"expected a memory budget of at least {-(-others // 10**6)}MB for the {part}, got "
                f"{self.budget / 10**6:g}MB: raise the budget, or choose a lighter one"
            )
        held = min(self.code_blocks, (self.budget - others) // block)
        return replace(self, parts=parts | {"codes": block * min(self.blocks, held)}, code_blocks=held)

    @property
    def document_bytes(self) -> int | None:
        """Bytes that one document may take while it is written, as `footprint` counts, or read. None for any."""
        return None if self.spare is None else self.spare + _DOCUMENT_BYTES

    @checked
    def answers(self, count: int) -> int:
        """Return how many queries fit that find so many documents each.

        Args:
            count: Documents of an answer.

        Returns:
            1 at least.
        """
        if self.spare is None:
            return sys.maxsize
        return max(1, (self.parts["candidates"] + self.spare) // (count * _CANDIDATE_BYTES))

    @checked
    def admit(self, count: int) -> None:
        """Raise BudgetError if so many candidates of a search do not fit.

        Args:
            count: Candidates, each of which Python objects stand for.

        Raises:
            BudgetError: They do not fit.
        """
        needed = count * _CANDIDATE_BYTES
        if self.spare is not None and needed > self.parts["candidates"] + self.spare:
            raise BudgetError(
                f"expected a memory budget of at least {-(-(self.total + needed) // 10**6)}MB for {count} candidates, "
                f"got {(self.budget or 0) / 10**6:g}MB: ask for a smaller k, or raise the budget"
            )


def _parts(
    rows: int,
    bits: int,
    encoder: Mapping[str, int],
    cache: int,
    divisor: int,
    writing: bool,
    vector_bytes: int,
) -> dict[str, int]:
    """The parts that codes kept in RAM come on top of."""
    reading = min(cache, sum(file_parts(rows, rows, 500, bits, vector_bytes).values()))
    return {
        **{name: size // (divisor if name == _TEXTS else 1) for name, size in encoder.items()},
        "index": _INDEX_BYTES,
        "block in flight": 2 * words(bits) * 8 * blocks.BLOCK_ROWS,
        "candidates": _CANDIDATE_BYTES * max(_LEAST_CANDIDATES, _USUAL_K * oversampling(rows, bits)),
        "page cache": cache if writing else reading,
        **({"writing": _WRITING_BYTES + _writing_cache(cache)} if writing else {"sorting": _SORTING_BYTES}),
        "codes": 0,
    }


def _refusal(parts: Mapping[str, int], budget: int | None, way: str) -> BudgetError:
    largest = max(parts, key=lambda part: parts[part])
    return BudgetError(
        f"expected a memory budget of at least {-(-sum(parts.values()) // 10**6)}MB, got {(budget or 0) / 10**6:g}MB; "
        f"the largest part is the {largest} with {parts[largest] / 10**6:.1f}MB: raise the budget or {way}"
    )


def _writing_cache(cache: int) -> int:
    return min(cache, _MOST_WRITING_CACHE_BYTES)


def _utf8_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    parts = (text[first : first + _CHARACTERS_AT_ONCE] for first in range(0, len(text), _CHARACTERS_AT_ONCE))
    return sum(len(part.encode(errors="surrogatepass")) for part in parts)
