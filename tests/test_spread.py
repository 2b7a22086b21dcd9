"""How far cosines of unrelated texts lie apart: around each query's own mean, in each language by itself."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import MANIFEST
from edgeret.encode.records import deviation
from edgeret.errors import BundleError
from export import hash_head, spread
from export.__main__ import main
from tests.fake import DIM, FakeEncoder, direction


class Prompted(FakeEncoder):
    """Texts of a language, their first word, lie around its direction; and queries around one of their own."""

    sided = True

    def encode(self, texts):
        found = np.stack([self._vector(text) + 30 * direction(text.split()[0]) for text in texts])
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    def encode_queries(self, texts):
        found = self.encode(texts) + 0.5 * direction("query") / DIM**0.5
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_a_query_is_no_document_of_its_own_and_its_mean_does_not_count():
    vectors = np.eye(4, dtype=np.float32)
    cosines = np.array([[9, 0.1, 0.2, 0.3], [0.5, 9, 0.6, 0.7], [0, 0, 9, 0], [0.2, 0.2, 0.2, 9]])
    assert deviation(cosines.astype(np.float32), vectors) == pytest.approx(0.05)


def test_languages_that_lie_apart_do_not_widen_the_spread():
    encoder = Prompted()
    languages = [[f"{language} w{number}" for number in range(40)] for language in ("de", "en", "hi")]
    each = [spread.measure(encoder, [texts]) for texts in languages]
    together = spread.measure(encoder, languages)
    assert together == pytest.approx(np.mean(each), abs=1e-4)
    assert together < 0.2 * spread.measure(encoder, [[text for texts in languages for text in texts]])


def test_queries_are_encoded_as_queries():
    encoder = Prompted()
    texts = [f"de w{number}" for number in range(9)]
    expected = deviation(encoder.encode_queries(texts), encoder.encode(texts))
    assert (
        spread.measure(encoder, [texts])
        == round(expected, 4)
        != round(deviation(encoder.encode(texts), encoder.encode(texts)), 4)
    )


def test_a_language_of_too_few_texts_is_left_out_unless_all_are():
    encoder = Encoder.load("nano")
    three, two = ["the sea", "a tax form", "red bicycles"], ["wine", "a choir"]
    assert spread.measure(encoder, [three, two]) == spread.measure(encoder, [three])
    assert spread.measure(encoder, [two, three[:2]]) == spread.measure(encoder, [two + three[:2]])
    with pytest.raises(BundleError, match="expected 3 texts or more"):
        spread.measure(encoder, [two])


def test_a_sample_knows_its_languages(tmp_path):
    for name in ("a-de", "b-de.x-fr", "plain", "c-en"):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{name} {number}" for number in range(50)))
    files = sorted(tmp_path.iterdir())
    drawn = hash_head.sample_languages(files, 100, seed=3)
    assert {language: len(texts) for language, texts in drawn.items()} == {"de": 50, "": 25, "en": 25}
    assert sorted(text for texts in drawn.values() for text in texts) == sorted(
        hash_head.sample(files, 100, 3)
    )


def test_the_command_changes_nothing_but_the_manifest(tmp_path, capsys):
    made, text = tmp_path / "nano", tmp_path / "text-en.txt"
    shutil.copytree(Bundle.open("nano").path, made)
    text.write_text("\n".join(f"{word} of {other}" for word in ["tea", "law", "sea"] for other in "abcdef"))
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    table = json.loads((made / MANIFEST).read_text())
    assert main(["spread", str(made), "--text", str(text), "--count", "18"]) == 0
    measured = Bundle.open(made).manifest.spread
    assert f"spread {measured}" in capsys.readouterr().out
    assert measured != table["spread"]
    after = json.loads((made / MANIFEST).read_text())
    assert {key for key in table if table[key] != after[key]} == {"spread", "checksum"}
    assert {name for name in before if before[name] != (made / name).stat().st_mtime_ns} == {MANIFEST}
