"""Plan: bytes for each part of an index in use, and what a memory budget allows. Arithmetic only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgeret.codec import words
from edgeret.errors import BudgetError

_UNITS: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

# Measured once as growth of the peak RSS; `python -m benchmarks memory` is the judge.
_BASE_BYTES: Final = 4_000_000
_LEAST_CACHE_BYTES: Final = 256_000
_CACHE_BYTES: Final = 2_000_000
_BLOCK_ROWS: Final = 16_384


def parse_bytes(budget: str | int) -> int:
    """Bytes of "112MB" (10**6), "96MiB" (2**20) or a plain number. Raises BudgetError for anything else."""
    if isinstance(budget, int) and not isinstance(budget, bool):
        number, unit = str(budget), "b"
    else:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(budget).lower())
        number, unit = found.groups() if found else ("", "")
    size = int(float(number) * _UNITS.get(unit or "b", 0)) if number else 0
    if size <= 0:
        raise BudgetError(
            f"expected a memory budget such as '112MB', '96MiB' or a number of bytes, got {budget!r}"
        )
    return size


@dataclass(frozen=True, slots=True)
class Plan:
    """What an index in use takes beyond `import edgeret`, in bytes, part by part.

    resident: whether all codes stay in RAM; else the scan streams them from the file, block by block.
    cache_bytes: SQLite's page cache. budget: None if there is none.
    """

    parts: Mapping[str, int]
    resident: bool
    cache_bytes: int
    budget: int | None

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @classmethod
    def of(cls, rows: int, bits: int, encoder: Mapping[str, int], budget: int | None) -> Plan:
        """Plan for `rows` passages of `bits` bits and an encoder whose parts take `encoder` bytes.

        What gives way first: codes in RAM, then SQLite's page cache. Raises BudgetError, naming the
        smallest budget that works and its largest part, if that is not enough.
        """
        block = words(bits) * 8 * _BLOCK_ROWS
        codes = -(-rows // _BLOCK_ROWS) * block
        for resident, cache in ((True, _CACHE_BYTES), (False, _CACHE_BYTES), (False, _LEAST_CACHE_BYTES)):
            parts = {
                "index": _BASE_BYTES,
                **encoder,
                "codes": codes if resident else 0,
                "block in flight": block,
                "page cache": cache,
            }
            plan = cls(parts, resident, cache, budget)
            if budget is None or plan.total <= budget:
                return plan
        largest = max(plan.parts, key=lambda part: plan.parts[part])
        raise BudgetError(
            f"expected a memory budget of at least {-(-plan.total // 10**6)}MB, got {(budget or 0) / 10**6:g}MB; "
            f"the largest part is the {largest} with {plan.parts[largest] / 10**6:.1f}MB: "
            "raise the budget or choose a lighter model"
        )
