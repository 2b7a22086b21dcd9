"""A real query in this installation, and what it ran on: `python -m edgeret.smoke`, to paste into a bug report.

The query runs in a process of its own, so that a runtime that crashes is reported too, with the step in
which it did. It prints nothing private: no paths, no names of users or hosts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from edgeret import scan
from edgeret.documents import Document
from edgeret.encode.bundle import DEFAULT_MODEL, likeness
from edgeret.encode.encoder import Encoder
from edgeret.errors import BackendError
from edgeret.index import Index

Report = dict[str, str | int | float | list[str] | None]

LEAST_LIKENESS: Final = 0.985
"""Mean over golden texts of a bundle, between their vectors here and those that the bundle came with."""

_PACKAGES: Final = ("edgeret", "numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime")
# What the scan or a runtime has a faster path for.
_CPU_FEATURES: Final = frozenset(
    [
        "avx2",
        "avx_vnni",
        "avx512bw",
        "avx512_vnni",
        "avx512_vpopcntdq",
        "asimd",
        "asimddp",
        "i8mm",
        "sve",
        "sve2",
    ]
)
_NOTES: Final = {
    "wifi": "Hold the button for five seconds to reset the Wi-Fi.",
    "lamp": "The lamp turns red when its battery is low.",
    "oven": "Preheat the oven to 200 degrees before baking.",
    "door": "The door opens with the card or with the code.",
}
_QUESTION: Final = "my wireless is broken"
_ANSWER: Final = "wifi"
_ROUNDS: Final = 10
_GOLDEN_TEXTS: Final = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Run the query and print the report; return 1 if a step failed. Raises SystemExit for wrong usage."""
    parser = argparse.ArgumentParser("python -m edgeret.smoke", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="a bundle's name or folder (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    report = run(arguments.model)
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    return 0 if report["failed"] is None else 1


def run(model: str) -> Report:
    """Describe the installation, then try it; `failed` names the step that failed and why, or is None."""
    report = versions() | machine()
    with TemporaryDirectory(prefix="edgeret-") as folder:
        has_fork = "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork") if has_fork else multiprocessing.get_context("spawn")
        process = context.Process(target=_attempt, args=(model, Path(folder)))
        process.start()
        process.join()
        for line in Path(folder, "report").read_text().splitlines():
            report |= json.loads(line)
        reason = _without_paths(_reason(process.exitcode or 0, Path(folder, "stderr")), model, folder)
    step = report.pop("step")
    return report | {"failed": f"{step}: {reason}" if process.exitcode else None}


def _attempt(model: str, folder: Path) -> None:
    """Run the trial; it tells what it finds in the file `report`, and its last words in `stderr`."""
    with Path(folder, "stderr").open("w") as errors, Path(folder, "report").open("w") as report:
        os.dup2(errors.fileno(), 2)
        for findings in _trial(model, folder):
            print(json.dumps(findings), file=report, flush=True)


def _trial(model: str, folder: Path) -> Iterator[Report]:
    yield {"step": "load", "scan": scan.backend(), "instruction_sets": list(scan.instruction_sets())}
    begun = time.perf_counter()
    encoder = Encoder.load(model)
    yield {
        "bundle": encoder.bundle.name,
        "space": encoder.space,
        "backend": encoder.backend,
        "load_ms": _ms_since(begun),
        "step": "encode",
    }
    begun = time.perf_counter()
    encoder.encode([_QUESTION])
    yield {"first_encode_ms": _ms_since(begun)}
    yield {"encode_ms": _median_ms(lambda: encoder.encode([_QUESTION])), "step": "golden vectors"}
    golden = encoder.bundle.golden()
    texts = golden.texts[:_GOLDEN_TEXTS]
    sides = [(encoder.encode, golden.own), (encoder.encode_queries, golden.asked_own)]
    likenesses = np.concatenate([likeness(encode(texts), own) for encode, own in sides if own is not None])
    yield {
        "golden_likeness_mean": round(float(likenesses.mean()), 6),
        "golden_likeness_worst": round(float(likenesses.min()), 6),
    }
    if not likenesses.mean() >= LEAST_LIKENESS:
        raise BackendError(
            f"expected the golden vectors with a mean likeness of at least {LEAST_LIKENESS}, "
            f"found {likenesses.mean():.4f}: install another release of the runtime"
        )
    yield {"step": "index"}
    begun = time.perf_counter()
    with Index.create(Path(folder, "smoke.edgeret"), model=encoder) as index:
        index.add([Document(name, text) for name, text in _NOTES.items()])
        yield {"index_ms": _ms_since(begun), "step": "search"}
        # By meaning alone: that is what a runtime can spoil.
        found = [hit.id for hit in index.search(_QUESTION, k=2, mode="dense")]
        if found[:1] != [_ANSWER]:
            raise BackendError(
                f"expected {_ANSWER!r} first, found {found}: install another release of the runtime"
            )
        yield {"search_ms": _median_ms(lambda: index.search(_QUESTION, k=2)), "step": "check"}
        index.check()
    yield {"peak_rss_bytes": peak_rss_bytes(), "step": "close"}


def _reason(status: int, errors: Path) -> str:
    """Last words of a process and, if a signal ended it, which."""
    words = errors.read_text(errors="replace").strip() if errors.exists() else ""
    last = words.rpartition("\n")[2]
    if status >= 0:
        return last
    ended = signal.strsignal(-status) or f"signal {-status}"
    return f"{ended}; {last}" if last else ended


def _without_paths(text: str, model: str, folder: str) -> str:
    hidden = {
        folder: "(temporary)",
        str(Path(__file__).parent.parent): "(installed)",
        sys.prefix: "(python)",
        str(Path(model).resolve().parent): "(models)",
        str(Path(model).parent): "(models)",
        str(Path.home()): "~",
    }
    for path, name in hidden.items():
        if len(path) > 1:
            text = text.replace(path, name)
    return text


def versions() -> Report:
    """Releases of what matters here; None for what is not installed."""
    report: Report = {}
    for package in _PACKAGES:
        report[package] = None
        with suppress(metadata.PackageNotFoundError):
            report[package] = metadata.version(package)
    return report | {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
    }


def machine() -> Report:
    """Processor, memory and system; nothing that identifies a person."""
    cpu = _cpu()
    flags = cpu.get("flags") or cpu.get("Features") or ""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "board": _first_line("/sys/firmware/devicetree/base/model"),
        "cpu": cpu.get("model name")
        or f"implementer {cpu.get('CPU implementer')} part {cpu.get('CPU part')}",
        "cpu_features": sorted(_CPU_FEATURES & set(flags.split())),
        "cpus": os.cpu_count(),
        "page_bytes": os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None,
        "memory_bytes": _bytes_of("/proc/meminfo", "MemTotal"),
    }


def _cpu() -> dict[str, str]:
    """What Linux tells of the processor; of several kinds of core, the last."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return {}


def _first_line(path: str) -> str | None:
    with suppress(OSError):
        return Path(path).read_text(errors="replace").strip("\0\n")
    return None


def peak_rss_bytes() -> int | None:
    """The largest resident set of this process so far; None where the system does not tell."""
    return _bytes_of("/proc/self/status", "VmHWM")


def _bytes_of(path: str, name: str) -> int | None:
    """An entry in kB of one of Linux's tables."""
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def _median_ms(action: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        action()
        times.append(_ms_since(begun))
    return round(median(times), 3)


def _ms_since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 3)


if __name__ == "__main__":
    sys.exit(main())
