"""What pip installs: which dependencies on which machine, and which bundles."""

import json
import re
import runpy
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edgeret
from edgeret.encode.bundle import WORLD

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = PROJECT["project"]["dependencies"]
MOST_BUNDLED_BYTES = 25_000_000
MOST_WORLD_BYTES = {"world-base": 60_000_000, "world-nano": 21_000_000, "world-small": 28_000_000}
NETWORK = re.compile(
    r"^\s*(import|from)\s+(socket|ssl|http|urllib\.request|urllib3|requests|httpx|aiohttp|asyncio|slack_sdk)\b",
    re.M,
)


def asked_for(machine: str, requirements: list[str]) -> set[str]:
    environment = {"platform_machine": machine, "extra": ""}
    parsed = map(Requirement, requirements)
    return {
        canonicalize_name(one.name) for one in parsed if not one.marker or one.marker.evaluate(environment)
    }


def asked_for_in_all(machine: str) -> set[str]:
    """Dependencies of dependencies too, by what the packages that are installed here say."""
    found, waiting = set(), asked_for(machine, DEPENDENCIES)
    while waiting:
        found |= waiting
        below = [asked_for(machine, metadata.requires(name) or []) for name in waiting]
        waiting = set().union(*below) - found
    return found


def is_pure(name: str) -> bool:
    """Whether the installed package has nothing compiled."""
    return "Root-Is-Purelib: true" in (metadata.distribution(name).read_text("WHEEL") or "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "AMD64", "arm64", "ARM64"])
def test_a_runtime_comes_along_where_it_has_a_wheel(machine):
    assert asked_for(machine, DEPENDENCIES) == {"numpy", "tqdm", "onnxruntime"}


@pytest.mark.parametrize("machine", ["armv6l", "armv7l", "armv8l", "i686", "riscv64", "ppc64le"])
def test_no_runtime_is_asked_for_elsewhere(machine):
    assert asked_for(machine, DEPENDENCIES) == {"numpy", "tqdm"}


def test_what_is_compiled_can_be_had_on_32_bit_arm():
    """NumPy is the system's."""
    assert not is_pure("onnxruntime")
    assert {name for name in asked_for_in_all("armv7l") if not is_pure(name)} == {"numpy"}


def test_nothing_that_comes_along_is_made_for_a_network():
    requirements = metadata.requires("edgeret") or []
    assert asked_for("x86_64", requirements) == asked_for("x86_64", DEPENDENCIES), "install edgeret again"
    found = asked_for_in_all("x86_64")
    # Older releases of onnxruntime bring more.
    assert found <= {"numpy", "tqdm", "onnxruntime"} | {
        "flatbuffers", "protobuf", "packaging", "coloredlogs", "humanfriendly", "sympy", "mpmath"
    }  # fmt: skip
    named = {
        f"{name}: {path}"
        for name in found
        for path in metadata.distribution(name).files or []
        if path.suffix == ".py" and "tests" not in path.parts and NETWORK.search(path.read_text("utf-8"))
    }
    # Tools that edgeret never imports; tests/test_isolation.py proves what runs.
    assert named <= {
        "numpy: numpy/lib/_datasource.py",
        "onnxruntime: onnxruntime/transformers/convert_tf_models_to_pytorch.py",
        "tqdm: tqdm/asyncio.py",
        "tqdm: tqdm/contrib/discord.py",
        "tqdm: tqdm/contrib/slack.py",
        "tqdm: tqdm/contrib/telegram.py",
    }


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


def test_every_room_is_in_the_wheel():
    rooms = {f"edgeret.{path.parent.name}" for path in (ROOT / "edgeret").glob("*/__init__.py")}
    assert rooms
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"edgeret", "edgeret.models"} | rooms


def test_the_version_is_the_same_wherever_it_stands():
    """Set in one place; what users and machines read beside it follows."""
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "edgeret.__version__"}
    assert metadata.version("edgeret") == edgeret.__version__, "install edgeret again"
    assert f"\nversion: {edgeret.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    released = re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0] == edgeret.__version__


def test_the_page_of_a_release_links_to_files_of_the_repository(monkeypatch):
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    monkeypatch.setenv("EDGERET_HOME", "https://example.org/edgeret/")
    runpy.run_path(str(ROOT / "setup.py"))
    home = "https://example.org/edgeret"
    targets = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", given["long_description"])
    assert len(targets) > 20
    for image, target in targets:
        assert target.startswith(("https:", "http:"))
        if target.startswith(f"{home}/"):
            kind, _, path = target.removeprefix(f"{home}/").partition("/main/")
            assert kind == ("raw" if image else "blob")
            assert (ROOT / path.partition("#")[0]).exists()
    assert all(url.startswith(home) for url in given["project_urls"].values())
    # Without an address of the repository it is the README.
    monkeypatch.delenv("EDGERET_HOME")
    runpy.run_path(str(ROOT / "setup.py"))
    assert given["long_description"] == (ROOT / "README.md").read_text()
    assert given["project_urls"] == {}


def test_the_package_of_many_languages_is_of_this_release_whole_and_small():
    world = tomllib.loads((ROOT / "world" / "pyproject.toml").read_text())
    assert world["project"]["version"] == edgeret.__version__
    assert PROJECT["project"]["optional-dependencies"]["world"] == [f"edgeret-world=={edgeret.__version__}"]
    names = [
        pattern.removesuffix("/*") for pattern in world["tool"]["setuptools"]["package-data"]["edgeret_world"]
    ]
    assert tuple(names) == WORLD
    for name in names:
        folder = ROOT / "world" / "edgeret_world" / name
        table = json.loads((folder / "manifest.json").read_text())
        whole = {file: entry["bytes"] for file, entry in table["files"].items() if not entry.get("optional")}
        assert whole == {
            path.name: path.stat().st_size for path in folder.iterdir() if path.name != "manifest.json"
        }
        assert sum(whole.values()) <= MOST_WORLD_BYTES[name]
