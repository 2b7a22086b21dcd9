"""Parity: what is compared, what is judged, where the figures land."""

import json

import numpy as np
import pytest

from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import Graph
from edgeret.errors import BundleError
from export import card, verify
from export.rewrite import rewrite


def test_verify_fails_by_name_when_a_gate_is_missed():
    assert verify.failures({"golden_own_cosine_mean": 1.0, "teacher_cosine_mean": 0.9951}) == []
    (missed,) = verify.failures({"golden_own_cosine_mean": 1.0, "teacher_cosine_mean": 0.98})
    assert missed == "expected teacher_cosine_mean of at least 0.99, found 0.9800"
    assert verify.failures({"golden_own_cosine_mean": float("nan")})
    (missed,) = verify.failures({"backends_ndcg10_gain": -0.006, "teacher_ndcg10_share": 0.996})
    assert missed.startswith("expected backends_ndcg10_gain of at least -0.005")


def test_a_student_is_measured_against_its_teacher_and_not_judged():
    figures = {"teacher_cosine_mean": 0.9, "teacher_ndcg10_share": 0.95}
    assert verify.failures(figures, student=True) == []
    assert len(verify.failures(figures)) == 2
    assert verify.failures(figures | {"golden_own_cosine_mean": 0.9}, student=True)


def test_two_encodings_are_compared_by_vectors_codes_and_neighbors():
    codec, rng = Bundle.open("base").codec(), np.random.default_rng(0)
    rows = rng.normal(size=(40, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    same = verify.compare(rows, rows, codec)
    assert same == {
        "cosine": pytest.approx(1),
        "cosine_worst": pytest.approx(1),
        "equal_bits": 1,
        "overlap": 1,
    }
    opposite = verify.compare(rows, -rows, codec)
    assert opposite["cosine"] == pytest.approx(-1)
    assert opposite["equal_bits"] < 0.2
    assert opposite["overlap"] == 1
    other = rng.normal(size=rows.shape).astype(np.float32)
    chance = verify.compare(rows, other / np.linalg.norm(other, axis=1, keepdims=True), codec)
    assert 0.4 < chance["equal_bits"] < 0.6
    assert chance["overlap"] == pytest.approx(10 / 39, abs=0.1)


class Answers:
    """An encoder that answers from a table."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts):
        return np.array([self.vectors[text] for text in texts], dtype=np.float32)

    encode_queries = encode


def test_ranking_is_judged_against_the_teacher_and_across_backends():
    pytest.importorskip(
        "ir_measures", reason="nDCG needs the packages of the extra 'bench': ir-measures is missing"
    )
    from benchmarks.datasets import Collection

    collection = Collection("pets", {"a": "cat", "b": "dog"}, {"q": "kitten"}, {"q": {"a": 1}})
    right = Answers({"cat": [1, 0], "dog": [0, 1], "kitten": [1, 0]})
    wrong = Answers({"cat": [1, 0], "dog": [0, 1], "kitten": [0, 1]})
    figures = verify.ranked(right, right, right, [collection])
    assert figures == {
        "pets_ndcg10": 1, "pets_ndcg10_teacher": 1, "teacher_ndcg10_share": 1, "backends_ndcg10_gain": 0,
    }  # fmt: skip
    figures = verify.ranked(wrong, None, right, [collection])
    assert figures["teacher_ndcg10_share"] == pytest.approx(0.63, abs=0.01)
    assert "backends_ndcg10_gain" not in figures
    assert verify.ranked(right, wrong, None, [collection])["backends_ndcg10_gain"] == pytest.approx(
        -0.37, abs=0.01
    )


def test_a_collection_is_drawn_with_what_is_judged(tmp_path):
    pytest.importorskip(
        "ir_measures", reason="nDCG needs the packages of the extra 'bench': ir-measures is missing"
    )
    from export import ranking

    lines = [json.dumps({"_id": f"d{i}", "text": f"text {i}"}) for i in range(100)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    queries = [json.dumps({"_id": f"q{i}", "text": f"query {i}"}) for i in range(20)]
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    judged = "".join(f"q{i}\td{i}\t1\nq{i}\td{99 - i}\t0\n" for i in range(20))
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    drawn = ranking.draw(tmp_path, 5, 30, seed=0)
    assert drawn == ranking.draw(tmp_path, 5, 30, seed=0) != ranking.draw(tmp_path, 5, 30, seed=1)
    assert (len(drawn.queries), len(drawn.documents)) == (5, 30)
    assert {document for grades in drawn.qrels.values() for document in grades} <= set(drawn.documents)
    assert len(ranking.draw(tmp_path, 5, 0, seed=0).documents) == 10


def test_a_section_of_a_card_replaces_the_older_one():
    text = "# base\n\nWords.\n"
    once = card.with_section(text, "Parity", "one")
    assert once == "# base\n\nWords.\n\n## Parity\n\none\n"
    both = card.with_section(once, "Ways", "| a |")
    assert (
        card.with_section(both, "Parity", "two")
        == "# base\n\nWords.\n\n## Parity\n\ntwo\n\n## Ways\n\n| a |\n"
    )


def test_a_bundle_written_again_keeps_what_is_not_replaced(tmp_path):
    origin = Bundle.open("base")
    graphs = dict(origin.manifest.graphs) | {"other": Graph("other.bin", "a", "b")}
    first = rewrite(
        origin, tmp_path / "base", graphs=graphs, files={"other.bin": b"x"}, optional=["other.bin"]
    )
    again = rewrite(first, first.path, files={"card.md": b"# card"})
    assert again.manifest.files["other.bin"].optional
    assert again.file("card.md").read_bytes() == b"# card"
    assert (again.space, again.manifest.graphs) == (origin.space, graphs)
    (again.path / "other.bin").unlink()
    lean = rewrite(Bundle.open(again.path), tmp_path / "lean" / "base")
    assert lean.manifest == again.manifest
    assert not (lean.path / "other.bin").exists()
    (lean.path / "other.bin").write_bytes(b"y")
    with pytest.raises(BundleError, match=r"other\.bin"):
        Bundle.open(lean.path)
    (lean.path / "other.bin").write_bytes(b"x")
    assert Bundle.open(lean.path).manifest == again.manifest
    gone = rewrite(lean, tmp_path / "gone" / "base", graphs=origin.manifest.graphs)
    assert gone.manifest.files.keys() == origin.manifest.files.keys()
    assert (lean.golden().own == origin.golden().own).all()
