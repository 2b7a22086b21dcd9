"""Files of every release and format are read for ever; make.py and release.py in tests/formats/ wrote them."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counts import long
from formats.make import Reader, make_bundle, make_index

from edgeret import Document, Encoder, Hit, Index
from edgeret.encode import manifest
from edgeret.encode.bundle import Bundle
from edgeret.storage import schema

FORMATS = Path(__file__).parent / "formats"
# Half a step of float32 below 1: the first edgeret rounded a cosine once more.
ULP = 2**-24
INDEXES = sorted(FORMATS.glob("index-*"))
RELEASES = sorted(FORMATS.glob("release-*"))
# Of floats that are summed in another order: on another processor, or in C, where `nano` has its head now.
CLOSE = 5e-5


def test_every_format_has_its_files():
    assert [folder.name for folder in INDEXES] == [f"index-{n}" for n in range(1, schema.FORMAT_VERSION + 1)]
    assert sorted(folder.name for folder in FORMATS.glob("bundle-*")) == [
        f"bundle-{n}" for n in range(1, manifest.FORMAT + 1)
    ]


def folder_format(folder: Path) -> int:
    """The format of the file in a folder."""
    return int(folder.name.rpartition("-")[2])


def unpack(folder: Path, target: Path) -> tuple[Path, dict[str, Any], Reader]:
    path = target / "index.edgeret"
    path.write_bytes(gzip.decompress((folder / "index.edgeret.gz").read_bytes()))
    return path, json.loads((folder / "expected.json").read_text()), Reader(FORMATS / "bundle-1")


@pytest.mark.parametrize("folder", INDEXES, ids=lambda folder: folder.name)
@pytest.mark.parametrize("readonly", [True, False])
def test_an_old_index_says_what_it_said(folder, tmp_path, readonly):
    path, expected, encoder = unpack(folder, tmp_path)
    with Index.open(path, model=encoder, readonly=readonly) as index:
        summary = index.check()
        assert (summary.documents, summary.blocks) == (len(expected["documents"]), 1)
        assert summary.lexicon == "verified"
        info = index.info()
        assert {key: getattr(info, key) for key in expected["info"] if key != "format"} == {
            key: value for key, value in expected["info"].items() if key != "format"
        }
        assert info.format == (folder_format(folder) if readonly else schema.FORMAT_VERSION)
        for identity, (text, metadata) in expected["documents"].items():
            found = index.get(identity)
            assert replace(found, vector=None) == Document(identity, text, metadata)
        for answer in expected["answers"]:
            query = {"mode": "dense"} | answer["query"]
            if query["mode"] != "dense" and info.format > folder_format(folder):
                # Other words, and scores, than those of FTS5; each rule of docs/words.md has a test.
                assert {hit.id for hit in index.search(**query)} >= {answer["hits"][0]["id"]}
                continue
            others = dict.fromkeys(("cosine", "lexical", "relevance"))
            hits = [
                Hit(**{**hit, "score": pytest.approx(hit["score"], rel=0, abs=ULP), **others})
                for hit in answer["hits"]
            ]
            assert [replace(hit, **others) for hit in index.search(**query)] == hits
            assert hits


def test_migration_leaves_answers_by_meaning_as_they_were_bit_for_bit(first_format):
    path, encoder = first_format
    queries = ["cat number7", "Übung", "something else", encoder.encode(["red cat"])[0]]

    def answers(index: Index) -> list[list[Hit]]:
        return [index.search(query, k=45, mode="dense") for query in queries]

    with Index.open(path, model=encoder, readonly=True) as index:
        before, old = answers(index), index.info().format
    with Index.open(path, model=encoder) as index:
        assert (old, index.info().format) == (1, schema.FORMAT_VERSION)
        assert answers(index) == before
    assert all(len(hits) == 45 for hits in before)


@pytest.mark.parametrize("folder", INDEXES, ids=lambda folder: folder.name)
def test_an_old_index_can_be_changed(folder, tmp_path):
    path, expected, encoder = unpack(folder, tmp_path)
    with Index.open(path, model=encoder) as index:
        index.add([Document("new", "something new"), Document("long", "short now")])
        index.delete(["d0", "d12"], erase=True)
        index.check()
        index.compact()
        assert index.check().documents == len(expected["documents"]) - 1
        assert [hit.id for hit in index.search("something", mode="lexical")] == ["new"]


def test_the_first_index_holds_what_stands_here(tmp_path):
    """A few literals, should the expectations beside the file ever be made anew."""
    path, expected, encoder = unpack(FORMATS / "index-1", tmp_path)
    content = path.read_bytes()
    assert content[:16] == b"SQLite format 3\0"
    assert (content[68:72], content[60:64]) == (b"EdGe", b"\0\0\0\1")
    assert (len(expected["documents"]), len(expected["answers"])) == (45, 5)
    with Index.open(path, model=encoder, readonly=True) as index:
        assert replace(index.get("d3"), vector=None) == Document("d3", "replaced", {"year": "text"})
        assert index.get("d7") is None
        assert index.get("long").metadata == {"deep": {"er": [1.5, True, "é"]}, "year": None}
        assert (
            index.get("d16385").text
            == "Le café est prêt; naïve Übung, 東京 and 🦊 are words too. number16385"
        )


def test_the_first_bundle_holds_what_stands_here():
    opened = Bundle.open(FORMATS / "bundle-1")
    assert (opened.name, opened.dim, opened.max_tokens) == ("bundle-1", 16, 16)
    assert opened.geometry == "0123456789abcdef0123456789abcdef"
    assert opened.codec().widths == (32, 64)
    assert opened.file("card.md").read_text() == "# For ever, für immer\n"
    assert opened.tensor("token_scales").tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


# -- files of a release, with a model of its wheel


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def release(request, tmp_path) -> tuple[Path, dict[str, Any], Encoder]:
    """An index of a release, what it answered, and the encoder of the bundle as that release had it."""
    folder, bundle = request.param, tmp_path / "nano"
    bundle.mkdir()
    for file in [*(folder / "nano").iterdir(), *Bundle.open("nano").path.iterdir()]:
        if not (bundle / file.name).exists():
            (bundle / file.name).write_bytes(file.read_bytes())
    for file in {path.name for path in bundle.iterdir()} - {"manifest.json", *manifest.read(bundle).files}:
        (bundle / file).unlink()
    if not (bundle / "tokenizer.bin").exists():
        pytest.importorskip("tokenizers", reason="needs the package tokenizers, as bundles of 0.1.0 do")
    path = tmp_path / "index.edgeret"
    path.write_bytes(gzip.decompress((folder / "index.edgeret.gz").read_bytes()))
    return path, json.loads((folder / "expected.json").read_text()), Encoder.load(bundle)


def test_the_first_release_has_files():
    assert RELEASES[0].name == "release-0.1.0"


def test_a_bundle_of_an_old_release_gives_the_vectors_that_it_gave(release):
    _, _, old = release
    golden, today = old.bundle.golden(), Encoder.load("nano")
    assert (old.space, old.geometry) == (today.space, today.geometry)
    assert np.abs(old.encode(golden.texts) - golden.own).max() < 2 * CLOSE
    assert np.array_equal(old.encode(golden.texts), today.encode(golden.texts))


def test_an_index_of_an_old_release_answers_as_it_did(release):
    path, expected, old = release
    for model in (old, None):
        with Index.open(path, model=model, readonly=True) as index:
            assert (len(index), index.check().passages) == (expected["documents"], expected["passages"])
            for answer in expected["answers"]:
                hits = index.search(**answer["query"])
                assert [hit.score for hit in hits] == pytest.approx(
                    [hit["score"] for hit in answer["hits"]], rel=0, abs=CLOSE
                )
                for hit, told in zip(hits, answer["hits"], strict=True):
                    assert all(getattr(hit, name) == told[name] for name in told.keys() - {"score"})


def test_an_index_of_an_old_release_is_migrated_and_means_what_it_meant(release):
    path, expected, old = release
    for model in (old, None):
        with Index.open(path, model=model) as index:
            assert index.info().format == schema.FORMAT_VERSION
            assert (len(index), index.check().passages) == (expected["documents"], expected["passages"])
            for answer in expected["answers"]:
                hits, told = index.search(**answer["query"]), answer["hits"]
                if answer["query"]["mode"] == "dense":
                    assert [hit.id for hit in hits] == [hit["id"] for hit in told]
                    assert [hit.score for hit in hits] == pytest.approx(
                        [hit["score"] for hit in told], rel=0, abs=CLOSE
                    )
                # Words are split, and scored, by other rules: what was best is still found.
                assert told[0]["id"] in {hit.id for hit in hits}
    with Index.open(path) as index:
        index.add([Document("new", "Turn the valve to the left.")])
        assert index.search("Turn the valve to the left.", k=1)[0].id == "new"


@long
def test_what_is_written_today_says_the_same(tmp_path):
    """As long as the format is that of the files: then nothing has changed in what it means."""
    make_bundle(tmp_path / "bundle")
    newest = FORMATS / f"index-{schema.FORMAT_VERSION}"
    assert Bundle.open(tmp_path / "bundle").space == Bundle.open(FORMATS / f"bundle-{manifest.FORMAT}").space
    made = json.loads(json.dumps(make_index(tmp_path / "x.edgeret", tmp_path / "bundle")))
    expected = json.loads((newest / "expected.json").read_text())
    assert made["documents"] == expected["documents"]
    assert made["info"] == expected["info"]
    assert [[hit["id"] for hit in answer["hits"]] for answer in made["answers"]] == [
        [hit["id"] for hit in answer["hits"]] for answer in expected["answers"]
    ]
