"""Golden texts: what every bundle carries the vectors of, so that a device can tell whether it encodes as it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def texts() -> list[str]:
    """Those of golden.txt, the empty text, blanks, and texts past the longest input."""
    lines = Path(__file__).with_name("golden.txt").read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line]
    return [*lines, "", " \t ", " ".join(lines), "all work and no play " * 100]


def listed(texts: Sequence[str]) -> bytes:
    """The content of a bundle's golden.json."""
    return (json.dumps({"texts": list(texts)}, ensure_ascii=False, indent=1) + "\n").encode()
