"""Words of other languages than English: by their stems, in an index made for them."""

import io
import json
import sys

import pytest
from damage import describe
from fake import FakeEncoder

import edgeret
from edgeret import Document, Index, stems, words
from edgeret.errors import (
    ArgumentError,
    FormatVersionError,
    IndexExistsError,
    NeedsUpgradeError,
    StemmerError,
    UpdateMismatchError,
)
from edgeret.shell.cli import main

pytest.importorskip("Stemmer", reason="'languages' brings the stemmers")

TEXTS = {
    "de": ["Im Wald stehen alte Häuser", "Die Katze schläft"],
    "fr": ["Les élèves mangeaient ensemble", "Le chat dort"],
    "ru": ["Там в лесу старые дома", "Кошка спит"],
}
QUERIES = {"de": "Haus", "fr": "élève", "ru": "домов"}


@pytest.fixture
def german(path, encoder):
    with Index.create(path, encoder, bits=64, language="de") as index:
        index.add([Document(f"d{number}", text) for number, text in enumerate(TEXTS["de"])])
        yield index


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "Stemmer", None)


@pytest.mark.parametrize("language", stems.ALGORITHMS)
def test_every_language_has_its_stemmer(language):
    assert stems.version(language) >= 30_000
    assert words.terms("2024 getFoo 东京塔", language)[0] == "2024"


@pytest.mark.parametrize("language", TEXTS)
def test_words_are_found_by_their_stems(path, encoder, language):
    with Index.create(path, encoder, bits=64, language=language) as index:
        index.add(TEXTS[language])
        assert [hit.text for hit in index.search(QUERIES[language], mode="lexical")] == TEXTS[language][:1]
        assert index.check().lexicon == "verified"
        assert index.info().language == language


@pytest.mark.parametrize(
    "written", ["Häuser", "Ha\u0308user", "Hä\u00aduser", "HÄUSER", "\uff28äuser", "hauser"]
)
def test_a_stem_does_not_depend_on_how_its_word_is_written(written):
    assert words.terms(written, "de") == ["haus"]


def test_what_is_no_word_of_letters_stays():
    assert words.terms("10.20.30 foo_bar C++ 🍕 東京", "de") == words.terms(
        "10.20.30 foo_bar C++ 🍕 東京", None
    )


def test_both_builds_give_the_same_stems(monkeypatch):
    for language, texts in TEXTS.items():
        expected = [words.split(text, language) for text in texts]
        with monkeypatch.context() as patch:
            patch.setenv("EDGERET_NO_NATIVE", "1")
            patch.setattr(words, "_words", None)
            assert [words.split(text, language) for text in texts] == expected


def test_without_a_language_words_are_as_they_are(path, encoder):
    with Index.create(path, encoder, bits=64, language=None) as index:
        index.add(["running dogs"])
        assert index.search("run", mode="lexical") == []
        assert len(index.search("running", mode="lexical")) == 1
        assert index.info().language is None


@pytest.mark.parametrize("language", ["xx", "german", "DE", ""])
def test_a_language_without_a_stemmer_is_refused_by_name(path, encoder, language):
    with pytest.raises(ArgumentError, match="expected one of en, ar, "):
        Index.create(path, encoder, language=language)
    assert not path.exists()


def test_a_missing_package_is_named_before_there_is_a_file(path, encoder, without_package):
    with pytest.raises(StemmerError, match=r"PyStemmer.*pip install 'edgeret\[languages\]'"):
        Index.create(path, encoder, language="de")
    assert not path.exists()


def test_an_index_whose_package_is_missing_is_not_opened(german, path, encoder, monkeypatch):
    german.close()
    monkeypatch.setitem(sys.modules, "Stemmer", None)
    for readonly in (True, False):
        with pytest.raises(StemmerError, match="PyStemmer"):
            Index.open(path, encoder, readonly=readonly)


def test_another_version_of_the_package_is_no_other_answer(german, path, encoder):
    german.close()
    describe(path, stemmer="20000")
    with pytest.raises(NeedsUpgradeError, match=r"has 1 and 20000: run 'edgeret upgrade.*PyStemmer"):
        Index.open(path, encoder)
    assert edgeret.upgrade(path).passages == 2
    with Index.open(path, encoder) as index:
        assert index.search("Haus", mode="lexical")[0].id == "d0"
        assert index.check().lexicon == "verified"
    describe(path, language='"xx"')
    with pytest.raises(FormatVersionError, match=r"'xx'.*upgrade edgeret"):
        Index.open(path, encoder)


def test_the_language_stays(german, path, encoder, tmp_path):
    german.compact()
    german.close()
    edgeret.recode(path, encoder, bits=96)
    edgeret.reencode(path, FakeEncoder(seed=1))
    edgeret.repair(path, tmp_path / "repaired", FakeEncoder(seed=1))
    for file in (path, tmp_path / "repaired"):
        with Index.open(file, FakeEncoder(seed=1)) as index:
            assert index.info().language == "de"
            assert index.search("Haus", mode="lexical")[0].id == "d0"
            assert index.check().lexicon == "verified"


def test_an_update_is_of_one_language(german, path, encoder, tmp_path):
    german.close()
    english = tmp_path / "english"
    with Index.create(english, encoder, bits=64) as index:
        index.add(["a cat"])
    with pytest.raises(UpdateMismatchError, match="language"):
        edgeret.diff(english, path, io.BytesIO())


def test_an_index_that_exists_has_its_language(german, path, encoder):
    with pytest.raises(IndexExistsError, match="in the language 'de'"):
        Index.create(path, encoder, exist_ok=True, language="fr")
    for language in ("de", "en"):
        with Index.create(path, encoder, exist_ok=True, language=language) as index:
            assert index.info().language == "de"


def test_the_command_makes_an_index_in_a_language(tmp_path, capsys):
    path, folder = tmp_path / "german.edgeret", tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXTS["de"][0])
    assert main(["index", str(path), str(folder), "--model", "nano", "--language", "de"]) == 0
    assert main(["index", str(path), str(folder), "--language", "fr"]) == 1
    assert "in the language de" in capsys.readouterr().err
    assert main(["search", str(path), "Haus", "--mode", "lexical", "--json"]) == 0
    assert [hit["text"] for hit in json.loads(capsys.readouterr().out)] == TEXTS["de"][:1]
