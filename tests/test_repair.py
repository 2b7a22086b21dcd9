import json
from pathlib import Path

import numpy as np
import pytest
from damage import alter
from fake import DIM, FakeEncoder

from edgeret import Document, Index
from edgeret.encode.encoder import Encoder
from edgeret.errors import CorruptIndexError, IndexExistsError, SpaceMismatchError, StorageError
from edgeret.shell.cli import main


def test_repair_keeps_everything_of_a_sound_file(sound, encoder, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, DIM))
    with Index.open(sound, model=encoder) as index:
        index.add([Document("long", " ".join(f"Sentence {i} tells something." for i in range(900)))])
        index.add([Document(f"v{i}", "", {}, vector) for i, vector in enumerate(vectors)])
        index.delete(["d7"])
        expected = [index.search(query, k=30) for query in ("red cat", "sentence 17", vectors[1])]
        passages = index.info().passages
    encoder.encoded.clear()
    summary = Index.repair(sound, tmp_path / "new", model=encoder)
    assert encoder.encoded == []
    assert (summary.documents, summary.documents_expected, summary.described) == (23, 23, True)
    assert (summary.vectors_kept, summary.vectors_encoded, summary.lost_ids) == (passages, 0, [])
    with Index.open(tmp_path / "new", model=encoder) as index:
        assert [index.search(query, k=30) for query in ("red cat", "sentence 17", vectors[1])] == expected
        assert index.info().filters == ["year"]
        assert index.get("d7") is None


def test_repair_encodes_texts_whose_vectors_are_lost_and_names_lost_documents(sound, encoder, tmp_path):
    with Index.open(sound, model=encoder) as index:
        index.add([Document("mute", "", {}, np.ones(DIM)), Document("told", "blue bird", {}, np.ones(DIM))])
        found = index.search("red cat", k=30, mode="dense")
    alter(
        sound,
        "UPDATE documents SET text = 'other' WHERE id = 'd3'",
        "UPDATE passages SET vector = zeroblob(96) WHERE row IN (5, 6, 20, 21)",
        "DELETE FROM lexicon_tail",
        "DELETE FROM state",
        "DELETE FROM tail",
    )
    encoder.encoded.clear()
    summary = Index.repair(sound, tmp_path / "new", model=encoder)
    assert sorted(encoder.encoded) == ["blue bird", "red cat number5", "red cat number6"]
    assert (summary.documents, summary.documents_expected) == (20, None)
    assert (sorted(summary.lost_ids), summary.own_vectors_lost) == (["d3", "mute"], ["told"])
    with Index.open(tmp_path / "new", model=encoder) as index:
        assert [hit for hit in index.search("red cat", k=30, mode="dense") if hit.id != "told"] == [
            hit for hit in found if hit.id not in ("d3", "told", "mute")
        ]


def test_repair_reads_what_the_log_holds_and_leaves_what_was_deleted(sound, encoder, tmp_path):
    with Index.open(sound, model=encoder) as index:
        index.add([Document("fresh", "green dog")])
        index.delete(["d1"])
        Index.repair(sound, tmp_path / "new", model=encoder)
    with Index.open(tmp_path / "new", model=encoder) as index:
        assert index.get("fresh").text == "green dog"
        assert index.get("d1") is None


def test_repair_leaves_the_file_and_its_log_as_they_are(sound, encoder, tmp_path):
    """As a power failure leaves them: nobody else has the index open, and SQLite would merge them."""
    with Index.open(sound, model=encoder) as index:
        index.add([Document("fresh", "green dog")])
        left = {"x.edgeret": sound.read_bytes(), "x.edgeret-wal": Path(f"{sound}-wal").read_bytes()}
    folder = tmp_path / "left"
    folder.mkdir()
    for name, content in left.items():
        (folder / name).write_bytes(content)
    assert Index.repair(folder / "x.edgeret", tmp_path / "new", model=encoder).documents == 21
    assert {name: (folder / name).read_bytes() for name in left} == left


def test_repair_without_any_tree(sound, encoder, tmp_path):
    """The first page, which names every table, is gone."""
    image = bytearray(sound.read_bytes())
    image[:4096] = bytes(4096)
    sound.write_bytes(image)
    summary = Index.repair(sound, tmp_path / "new", model=encoder)
    assert (summary.documents, summary.vectors_kept, summary.described) == (20, 20, True)


def test_repair_of_another_geometry_is_refused_and_nothing_is_written(sound, tmp_path):
    with pytest.raises(SpaceMismatchError):
        Index.repair(sound, tmp_path / "new", model=FakeEncoder(seed=1))
    assert list(tmp_path.iterdir()) == [sound]


def test_repair_trusts_no_vector_where_the_geometry_is_lost(sound, encoder, tmp_path):
    alter(sound, "DELETE FROM meta WHERE key IN ('geometry', 'bits')")
    encoder.encoded.clear()
    summary = Index.repair(sound, tmp_path / "new", model=encoder)
    assert (summary.documents, summary.vectors_kept, len(encoder.encoded), summary.described) == (
        20,
        0,
        20,
        False,
    )


def test_repair_with_a_bundle_of_another_codec_keeps_the_vectors(sound, encoder, tmp_path):
    other = FakeEncoder(codec=1)
    summary = Index.repair(sound, tmp_path / "new", model=other)
    assert (summary.vectors_kept, other.encoded) == (20, [])
    with Index.open(tmp_path / "new", model=other) as index:
        assert index.check().documents == 20


def test_repair_of_values_of_other_types_and_of_lost_filters(sound, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgeret.upkeep.repair.COMMIT_EVERY", 5)
    alter(
        sound,
        "UPDATE documents SET digest = 'text' WHERE id = 'd3'",
        "UPDATE passages SET doc = 'text' WHERE row = 5",
        "UPDATE meta SET value = '[' WHERE key = 'filters'",
    )
    encoder.encoded.clear()
    summary = Index.repair(sound, tmp_path / "new", model=encoder)
    assert (summary.documents, summary.lost_ids, encoder.encoded) == (19, ["d3"], ["red cat number5"])
    with Index.open(tmp_path / "new", model=encoder) as index:
        assert (index.info().filters, index.info().documents) == ([], 19)


@pytest.mark.parametrize(
    ("language", "told", "found"),
    [("de", None, "de"), (None, None, None), ("en", None, "en"), ("de", '["de"]', "en"), (None, "nul", "en")],
)
def test_repair_keeps_the_language_where_another_line_of_the_settings_is_lost(
    path, tmp_path, encoder, language, told, found
):
    pytest.importorskip("Stemmer")
    with Index.create(path, model=encoder, language=language) as index:
        index.add(["Katzen"])
    alter(path, "UPDATE meta SET value = '[' WHERE key = 'filters'")
    if told is not None:
        alter(path, f"UPDATE meta SET value = '{told}' WHERE key = 'language'")
    assert not Index.repair(path, tmp_path / "new", model=encoder).described
    with Index.open(tmp_path / "new", model=encoder) as index:
        assert index.info().language == found


def test_repair_overwrites_nothing_and_leaves_nothing_when_it_fails(sound, encoder, tmp_path, monkeypatch):
    target = tmp_path / "new"
    target.write_text("mine")
    with pytest.raises(IndexExistsError, match="choose another name"):
        Index.repair(sound, target, model=encoder)
    assert target.read_text() == "mine"
    target.unlink()
    with pytest.raises(StorageError, match="No such file"):
        Index.repair(sound, tmp_path / "missing" / "new", model=encoder)

    def wrong(*_: object, **__: object) -> None:
        raise CorruptIndexError("wrong")

    monkeypatch.setattr("edgeret.upkeep.repair.check", wrong)
    with pytest.raises(CorruptIndexError, match="wrong"):
        Index.repair(sound, target, model=encoder)
    assert list(tmp_path.iterdir()) == [sound]


def test_the_shell_repairs(sound, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: FakeEncoder()))
    alter(sound, "UPDATE documents SET text = 'other' WHERE id = 'd3'")
    target = tmp_path / "new.edgeret"
    assert main(["check", str(sound)]) == 1
    assert "'d3' is not what was written" in capsys.readouterr().err
    assert main(["check", str(sound), "--repair", str(target), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["documents_expected"], summary["lost_ids"]) == (19, 20, ["d3"])
    assert main(["check", str(sound), "--repair", str(target)]) == 1
    assert "exists" in capsys.readouterr().err
