"""Installed size: what pip puts on the disk for edgeret with each backend, and for others that encode text.

Each set goes into an empty folder, with its dependencies and their compiled byte code. The sets hold no model and
not edgeret's own code: bundles are counted apart, and the others download theirs at run time.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.systems import STACKS, packages_of

ROOT: Final = Path(__file__).parent.parent
_RUNTIME: Final = ("numpy", "tqdm")
SETS: Final[dict[str, tuple[str, ...]]] = {
    "edgeret, static": _RUNTIME,
    "edgeret, onnx": (*_RUNTIME, "onnxruntime"),
    "edgeret, tflite": (*_RUNTIME, "ai-edge-litert"),
    "fastembed": ("fastembed",),
    # The pinned torch is the one whose CPU build is small; the default one brings several GB of CUDA.
    "sentence-transformers": ("sentence-transformers", "torch==2.13.0"),
} | {" ".join(found): found for found in map(packages_of, STACKS) if found}
"""By name; those of the stacks of `compare` are named by their packages."""


def main(argv: list[str]) -> int:
    """Install each set and print a JSON line for it and for each bundle; return the exit code."""
    options = _parse(argv)
    try:
        for name in options.sets or SETS:
            print(json.dumps(measure(name)), flush=True)
    except subprocess.CalledProcessError as error:
        print(f"sizes: expected pip to install {name}, found exit code {error.returncode}", file=sys.stderr)
        return 1
    for bundle in sorted(ROOT.glob("models/*/manifest.json")):
        print(json.dumps({"bundle": bundle.parent.name, "bytes": size(bundle.parent)}))
    return 0


def measure(name: str) -> dict[str, object]:
    """Install a set; its size in bytes, and the packages that it came to."""
    with TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, *SETS[name]]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        versions = sorted(path.name.removesuffix(".dist-info") for path in Path(folder).glob("*.dist-info"))
        total = size(Path(folder))
    return {
        "set": name,
        "requires": sorted(SETS[name]),
        "bytes": total,
        "packages": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks sizes", description=__doc__)
    parser.add_argument("--set", dest="sets", action="append", choices=[*SETS], help="(default: all)")
    return parser.parse_args(argv)
