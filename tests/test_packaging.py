"""What pip installs: which dependencies on which machine, and which bundles."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_BUNDLED_BYTES = 25_000_000


def asked_for(machine: str) -> set[str]:
    environment = {"platform_machine": machine, "extra": ""}
    requirements = map(Requirement, PROJECT["project"]["dependencies"])
    return {one.name for one in requirements if not one.marker or one.marker.evaluate(environment)}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "AMD64", "arm64", "ARM64"])
def test_a_runtime_comes_along_where_it_has_a_wheel(machine):
    assert asked_for(machine) == {"numpy", "tokenizers", "tqdm", "onnxruntime"}


@pytest.mark.parametrize("machine", ["armv6l", "armv7l", "armv8l", "i686", "riscv64", "ppc64le"])
def test_no_runtime_is_asked_for_elsewhere(machine):
    assert asked_for(machine) == {"numpy", "tokenizers", "tqdm"}


def test_the_bundles_of_the_wheel_are_whole_and_small():
    setuptools = PROJECT["tool"]["setuptools"]
    folders = [
        ROOT / "models" / pattern.removesuffix("/*")
        for pattern in setuptools["package-data"]["edgeret.models"]
    ]
    left_out = setuptools["exclude-package-data"]["edgeret.models"]
    assert folders
    assert all((folder / "manifest.json").is_file() for folder in folders)
    files = [path for folder in folders for path in folder.iterdir() if not any(map(path.match, left_out))]
    assert sum(path.stat().st_size for path in files) <= MOST_BUNDLED_BYTES
