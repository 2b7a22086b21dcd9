"""What a release has in it: `make fresh` builds it and runs this on the folder EDGERET_DIST."""

import io
import json
import os
import re
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import edgeret
from edgeret.encode.bundle import WORLD

ROOT = Path(__file__).parent.parent
DIST = Path(os.environ.get("EDGERET_DIST", "no-dist")).resolve()
pytestmark = pytest.mark.skipif(not DIST.is_dir(), reason="needs the files that make fresh builds")
WHEELS = sorted(DIST.glob("edgeret-*.whl"))
# The field e_machine of an ELF file.
MACHINES = {"x86_64": 62, "aarch64": 183}
LABELS = {"Repository", "Documentation", "Changelog", "Issues"}
CARRIED = re.compile(r"edgeret/([\w/]+\.(py|pyi|abi3\.so|bin|json)|py\.typed|models/\w+/[\w.]+)")

wheels = pytest.mark.parametrize("path", WHEELS, ids=lambda path: path.stem.rpartition("_")[0][-6:])


def read(path: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}


def facts(files: dict[str, bytes]) -> Message:
    """What an index of packages is told."""
    (told,) = (content for name, content in files.items() if name.endswith(".dist-info/METADATA"))
    return Parser().parse(io.StringIO(told.decode()))


def labels(told: Message) -> set[str]:
    """Of the links beside a package's page."""
    return {line.partition(",")[0] for line in told.get_all("Project-URL", [])}


def licenses(files: dict[str, bytes]) -> dict[str, str]:
    """What a wheel has of licenses, by its name."""
    return {
        name.rpartition("/")[2]: content.decode() for name, content in files.items() if "/licenses/" in name
    }


def sources(card: str) -> list[tuple[str, str]]:
    """(license, whose) of each text that a student learned from, as its card says."""
    learned = re.findall(r"^\| \w+ \|(.*)\|(.*)\|$", card.partition("| text |")[2], re.M)
    return [(license.strip(), by.strip()) for license, by in learned]


def test_a_release_has_a_wheel_for_each_machine_and_the_sources():
    version = edgeret.__version__
    found = {(path.name.split("-")[1], path.stem.rpartition("manylinux_2_17_")[2]) for path in WHEELS}
    assert found == {(version, machine) for machine in MACHINES}
    with tarfile.open(DIST / f"edgeret-{version}.tar.gz") as sources:
        names = {name.partition("/")[2] for name in sources.getnames()}
    assert names >= {"LICENSE", "NOTICE", "CHANGELOG.md", "native/scan.c", "docs/index.md", "pyproject.toml"}
    assert [
        name for name in names if name.startswith(("tests/", "build/", ".")) or name.endswith(".so")
    ] == []


@wheels
def test_a_wheel_holds_what_it_should_and_nothing_else(path):
    files = read(path)
    inside = {name for name in files if ".dist-info/" not in name}
    assert [name for name in inside if not CARRIED.fullmatch(name)] == []
    kernels = {name: content for name, content in files.items() if name.endswith(".so")}
    assert len(kernels) == len(list((ROOT / "native").glob("*.c")))
    machine = next(machine for machine in MACHINES if machine in path.name)
    assert {int.from_bytes(content[18:20], "little") for content in kernels.values()} == {MACHINES[machine]}
    assert not any(str(ROOT).encode() in content for content in files.values())
    # Nor does a kernel look for libraries where it was built.
    places = [f"{place}/lib".encode() for place in (sys.prefix, sys.base_prefix)]
    assert [name for name, content in kernels.items() if any(place in content for place in places)] == []


@wheels
def test_a_wheel_carries_the_license_of_every_model_and_source_in_it(path):
    files = read(path)
    carried = licenses(files)
    assert carried.keys() == {"LICENSE", "NOTICE"}
    bundles = {
        name.split("/")[2] for name in files if name.startswith("edgeret/models/") and name.endswith("json")
    }
    assert bundles == {"small", "nano"}
    for bundle in bundles:
        assert f"models/{bundle} " in carried["NOTICE"]
        card = files[f"edgeret/models/{bundle}/card.md"].decode()
        assert "License: Apache-2.0" in card
        assert re.search(r"Teacher: ([\w./-]+)", card)[1] in carried["NOTICE"]
        assert len(sources(card)) > 10
        assert [
            by for license, by in sources(card) if not by or f"  {by} ({license}" not in carried["NOTICE"]
        ] == []
    tables = {
        name for name in files if name.endswith((".bin", ".json")) and not name.startswith("edgeret/models/")
    }
    assert tables
    assert [name for name in tables if name not in carried["NOTICE"]] == []
    # What the licenses that are named want to be there.
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in carried["LICENSE"]
    assert "The above copyright notice and this permission notice shall be included" in carried["NOTICE"]
    assert "this copyright and permission notice appear with all copies\n" in carried["NOTICE"]


def test_the_bundles_for_many_languages_are_a_wheel_of_their_own():
    (path,) = DIST.glob("edgeret_world-*.whl")
    assert path.name == f"edgeret_world-{edgeret.__version__}-py3-none-any.whl"
    files = read(path)
    inside = {name for name in files if ".dist-info/" not in name}
    assert inside >= {"edgeret_world/__init__.py", *(f"edgeret_world/{name}/manifest.json" for name in WORLD)}
    carried = re.compile(r"edgeret_world/(__init__\.py|world-[a-z]+/[\w.]+)")
    assert [name for name in inside if not carried.fullmatch(name) or name.endswith("/tokenizer.json")] == []
    told = facts(files)
    assert (told["Version"], told["License-Expression"]) == (edgeret.__version__, "MIT")
    assert told["Requires-Python"] == ">=3.11"
    assert labels(told) == (LABELS if os.environ.get("EDGERET_HOME") else set())
    carried = licenses(files)
    assert carried.keys() == {"LICENSE", "NOTICE"}
    for name in WORLD:
        card = files[f"edgeret_world/{name}/card.md"].decode()
        assert "License: MIT" in card
        assert re.search(r"Teacher: [\w-]+, made of ([\w./-]+)", card)[1] in carried["NOTICE"]
        assert len(sources(card)) > 60 or name == "world-base"
        assert [
            by for license, by in sources(card) if not by or f"  {by} ({license}" not in carried["NOTICE"]
        ] == []


@wheels
def test_an_index_of_packages_is_told_what_it_shows(path):
    told = facts(read(path))
    assert told["Version"] == edgeret.__version__
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"
    assert told["Author"] == "the edgeret authors"
    classifiers = told.get_all("Classifier")
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= {*classifiers}
    if os.environ.get("EDGERET_HOME"):
        targets = re.findall(r"\]\(([^)\s]+)\)", told.get_payload())
        assert [target for target in targets if not target.startswith("https://")] == []
        assert labels(told) == LABELS


def test_the_list_of_what_comes_along_names_it_with_its_licenses():
    path = DIST / "edgeret.cdx.json"
    if not path.exists():
        pytest.skip("needs the list that make release writes beside what make fresh builds")
    listed = json.loads(path.read_text())
    subject = listed["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("edgeret", edgeret.__version__)
    found = {component["name"]: component for component in listed["components"]}
    assert found.keys() >= {"numpy", "onnxruntime", "tqdm"}
    assert [name for name, component in found.items() if not component.get("version")] == []
    # A wheel may lack what its project says elsewhere, as that of protobuf does.
    assert [name for name in ("numpy", "onnxruntime", "tqdm") if not found[name].get("licenses")] == []
