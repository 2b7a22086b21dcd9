"""A codec for one domain, on made vectors and a tiny teacher."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")

from hypothesis import given
from hypothesis import strategies as st
from test_export import make_teacher, passages
from test_hash_training import DIM, WIDTHS, vectors

from edgeret.codec import Codec
from edgeret.encode.bundle import Bundle
from export import base, domain
from export.__main__ import main
from export.teacher import Teacher


def narrow(count: int, seed: int) -> np.ndarray:
    """Vectors of one topic, away from the others' center: they differ in few directions of their own."""
    rng, topic = np.random.default_rng(seed), np.random.default_rng(98)
    directions = topic.normal(size=(40, DIM)) * np.linspace(0.3, 2, DIM)
    rows = rng.normal(size=(count, 40)) @ directions * 0.2 + 4 * topic.normal(size=DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def codec_of(rows: np.ndarray) -> Codec:
    return Codec.fit(rows, 0, WIDTHS)


def test_a_codec_of_the_domain_finds_more_there():
    general, own = codec_of(vectors(3000, 0)), codec_of(np.concatenate([vectors(1500, 0), narrow(1500, 1)]))
    documents, answers = narrow(1000, 3), list(range(200))
    noise = np.random.default_rng(4).normal(size=(200, DIM)) * 0.01
    queries = (documents[:200] + noise).astype(np.float32)
    rows = domain.compare(general, own, queries, answers, documents, 0)
    assert [row.bits for row in rows] == list(WIDTHS)
    for row in rows:
        low, high = row.interval
        assert low <= row.after - row.before <= high
        assert 0 <= row.before <= 1
    assert rows[0].interval[0] > 0


def test_a_codec_does_not_differ_from_itself():
    same, documents = codec_of(vectors(2000, 0)), vectors(500, 2)
    for row in domain.compare(same, same, documents[:50], range(50), documents, 0):
        assert row.before == row.after
        assert row.exact == 1
        assert row.interval == (0, 0)


@given(st.lists(st.text(max_size=80), min_size=1, max_size=6), st.integers(0, 12), st.integers(0, 3))
def test_pseudo_queries_are_words_of_their_passages(texts, count, seed):
    found = domain.pseudo_queries(texts, count, seed)
    assert len(found) == count
    assert found == domain.pseudo_queries(texts, count, seed)
    for query, row in found:
        assert {*query.split()} <= {*domain._WORD.findall(texts[row])}


def test_adapt_writes_bundles_with_one_codec(tmp_path, capsys):
    folder = make_teacher(tmp_path / "teacher")
    general, own = tmp_path / "general.txt", tmp_path / "own.txt"
    general.write_text("\n".join(passages(900)))
    own.write_text("\n".join(passages(200, seed=9)))
    first = base.make(Teacher.read(folder), [general], tmp_path / "first", 300, 0, tmp_path / "cache")
    second = base.make(Teacher.read(folder), [general], tmp_path / "second", 300, 0, tmp_path / "cache")
    command = ["adapt", "--text", str(own), "--general", str(general), "--bundle", str(first.path)]
    command += [str(second.path), "--out", str(tmp_path / "mine"), "--queries", "20"]
    assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
    lines = capsys.readouterr().out.splitlines()
    made = [Bundle.open(tmp_path / "mine" / name) for name in ("first", "second")]
    assert len({bundle.space for bundle in made}) == 1
    assert made[0].geometry == first.geometry
    assert made[0].codec_id != first.codec_id
    assert {json.loads(line)["bits"] for line in lines[:-2]} == {*first.codec().widths}
