import json

import numpy as np
import pytest

from edgeret.encode.bundle import Bundle, Content, write
from edgeret.encode.encoder import Encoder
from edgeret.errors import ArgumentError, BudgetError, InvalidQueryError
from edgeret.shell import cli, forecast
from edgeret.shell.forecast import Forecast


def test_the_table_tells_memory_and_file_and_what_gives_way(capsys):
    assert cli.main(["plan", "--docs", "1000000", "--model", "base", "--budget", "112MB"]) == 0
    table = capsys.readouterr().out
    assert "1,000,000 documents, 1,000,000 passages, model base, 256 bits" in table
    assert "blocks of codes in memory, the others streamed from the file" in table
    rows = {line[:18].strip(): line[18:].split() for line in table.splitlines() if line[18:].split()}
    for column, bound in ((0, 112.0), (1, 112.0)):
        shown = [
            float(cells[column]) for name, cells in rows.items() if name != "total" and _number(cells, column)
        ]
        assert sum(shown) == pytest.approx(float(rows["total"][column]), abs=0.6)
        assert float(rows["total"][column]) <= bound


def _number(cells, column):
    return len(cells) == 3 and cells[column].replace(".", "").isdigit()


def test_the_same_as_json(capsys):
    assert cli.main(["plan", "--docs", "1500", "--model", "base", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bits"] == found["enough_bits"] == 128
    assert found["budget_bytes"] is None
    assert found["search"]["codes_resident"]
    for part in ("search", "add", "file"):
        assert sum(found[part]["parts"].values()) == found[part]["total"]
    assert found["search"]["total"] < found["add"]["total"]


def test_long_documents_have_several_passages():
    short, long = (Forecast.of(Encoder.load("base"), 1000, words, None) for words in (100, 1000))
    assert short.passages == 1000
    assert 4000 <= long.passages <= 7000
    # What is not a document's first passage is in an index too.
    assert long.file["vectors"] == short.file["vectors"] * long.passages / 1000 + 14 * (long.passages - 1000)


def test_a_budget_that_cannot_be_met_names_what_can(capsys):
    assert cli.main(["plan", "--docs", "1000", "--model", "base", "--budget", "12MB"]) == 1
    told = capsys.readouterr().err
    assert "expected a memory budget of at least" in told
    assert "the largest part is the runtime library" in told
    assert "fit" in told
    with pytest.raises(BudgetError) as refusal:
        Forecast.of(Encoder.load("base"), 1000, 100, 12_000_000)
    assert refusal.value.__notes__


def test_models_of_the_space_that_fit_are_named_others_not(tmp_path, monkeypatch):
    base = Bundle.open("base")
    lean = {
        geometry: write(
            tmp_path / geometry[:2],
            Content(
                name="lean",
                max_tokens=base.max_tokens,
                geometry=geometry,
                codec=base.codec(),
                kind="static",
                graphs={},
                tensors={
                    "tokens.bin": {
                        "tokens": np.zeros((9, base.dim), np.int8),
                        "token_scales": np.ones(9, np.float32),
                    },
                    "static.bin": {name: np.zeros((1, base.dim), np.int8) for name in ("inner", "outer")},
                },
                files={"tokenizer.json": b"{}"},
                about={},
            ),
        ).path
        for geometry in (base.geometry, "ab" * 16)
    }
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "manifest.json").write_text("{}")
    installed = ["base", str(tmp_path / "torn"), *map(str, lean.values())]
    monkeypatch.setattr(forecast, "available", lambda: installed)
    for budget, told in (
        (50_000_000, f"models that fit: {lean[base.geometry]}"),
        (1, "no installed model fits"),
    ):
        with pytest.raises(BudgetError) as refusal:
            Forecast.of(Encoder.load("base"), 1000, 100, budget)
        assert refusal.value.__notes__ == [told]


@pytest.mark.parametrize(("documents", "words", "threads"), [(-1, 100, 1), (10, 0, 1), (10, 100, 0)])
def test_impossible_numbers_are_refused(documents, words, threads):
    with pytest.raises(ArgumentError, match="an integer of at least"):
        Forecast.of(Encoder.load("base", threads=threads), documents, words, None)


def test_bits_that_the_codec_lacks_are_refused():
    with pytest.raises(InvalidQueryError, match="expected bits to be one of 64, 128"):
        Forecast.of(Encoder.load("base"), 10, 100, None, bits=100)
