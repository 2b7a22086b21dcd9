"""Golden texts: what every bundle carries the vectors of, so that a device can tell whether it encodes as it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeret.encode.bundle import Golden

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from edgeret.encode.manifest import Prompts


class Sides(Protocol):
    """What encodes documents and queries: an `Encoder`, or a teacher. Texts -> float32 unit vectors [n, dim]."""

    @property
    def prompts(self) -> Prompts:
        """What it reads before a document and before a query."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as documents."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Texts as queries."""


def texts() -> list[str]:
    """Those of golden.txt, the empty text, blanks, and texts past the longest input."""
    lines = Path(__file__).with_name("golden.txt").read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line]
    return [*lines, "", " \t ", " ".join(lines), "all work and no play " * 100]


def proof(texts: Sequence[str], teacher: Sides, own: Sides) -> Golden:
    """The golden vectors of a bundle, of both sides if the teacher has prompts. own: what encodes with the bundle."""
    if not any(teacher.prompts):
        return Golden(list(texts), teacher.encode(texts), own.encode(texts))
    sides = (who(texts) for who in (teacher.encode, own.encode, teacher.encode_queries, own.encode_queries))
    return Golden(list(texts), *sides)


def listed(texts: Sequence[str]) -> bytes:
    """The content of a bundle's golden.json."""
    return (json.dumps({"texts": list(texts)}, ensure_ascii=False, indent=1) + "\n").encode()
