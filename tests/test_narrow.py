"""Inner layers with fewer entries."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the packages of the extra 'export': torch is missing")
pytest.importorskip("onnx", reason="export needs the packages of the extra 'export': onnx is missing")
pytest.importorskip("scipy", reason="export needs the packages of the extra 'export': scipy is missing")

import torch
from test_export import make_teacher, passages

from export import narrow, training
from export.network import Network
from export.teacher import Teacher
from export.training import Tokens

WIDE, OUT = "intermediate.dense", "output.dense"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Teacher:
    return Teacher.read(make_teacher(tmp_path_factory.mktemp("teacher") / "tiny"))


@pytest.fixture(scope="module")
def tokens(teacher) -> Tokens:
    return Tokens.of(passages(300, 1), teacher.tokenizer)


def doubled(teacher: Teacher, rng: np.random.Generator) -> Teacher:
    """A teacher that gives the same, with each entry twice, in any order."""
    weights = dict(teacher.weights)
    for layer in range(teacher.shape.layers):
        prefix = f"encoder.layer.{layer}."
        order = rng.permutation(2 * len(weights[f"{prefix}{WIDE}.weight"])) // 2
        for part in ("weight", "bias"):
            weights[f"{prefix}{WIDE}.{part}"] = weights[f"{prefix}{WIDE}.{part}"][order]
        weights[f"{prefix}{OUT}.weight"] = weights[f"{prefix}{OUT}.weight"][:, order] / 2
    return replace(teacher, weights=weights)


def vectors(student: Network, tokens: Tokens) -> np.ndarray:
    return training.encode(student.eval(), tokens)


def test_what_stands_twice_is_left_out_once(teacher, tokens):
    inner = len(teacher.weights[f"encoder.layer.0.{WIDE}.weight"])
    student = Network(doubled(teacher, np.random.default_rng(0)))
    before = vectors(student, tokens)
    narrow.narrow(student, tokens, inner, 0)
    assert narrow.inner_of(student.state_dict()) == inner
    assert student.watch is None
    cosines = (before * vectors(student, tokens)).sum(1)
    assert cosines.min() > 0.999


def test_the_others_make_up_for_what_is_left_out(teacher, tokens):
    kept = len(teacher.weights[f"encoder.layer.0.{WIDE}.weight"]) * 3 // 4
    wide, chosen, first = (Network(teacher) for _ in range(3))
    narrow.narrow(chosen, tokens, kept, 0)
    narrow.cut(first, kept)
    apart = Tokens.of(passages(100, 2), teacher.tokenizer)
    known = vectors(wide, apart)
    by_choice, by_place = ((known * vectors(student, apart)).sum(1).mean() for student in (chosen, first))
    assert by_choice > 0.99
    assert by_choice > by_place


def test_a_narrow_student_learns_and_a_wide_state_becomes_one(teacher, tokens):
    chosen, again = Network(teacher), Network(teacher)
    narrow.narrow(chosen, tokens, 8, 0)
    narrow.cut(again, narrow.inner_of(chosen.state_dict()))
    again.load_state_dict(chosen.state_dict())
    assert vectors(again, tokens).tobytes() == vectors(chosen, tokens).tobytes()
    again.train()(torch.tensor([[2, 4, 5, 3]]), torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert all(value.grad is not None for name, value in again.named.items() if "/output/dense/" in name)


def test_more_than_there_are_leaves_all(teacher, tokens):
    student = Network(teacher)
    before = vectors(student, tokens)
    narrow.narrow(student, tokens, 10**6, 0)
    np.testing.assert_allclose(vectors(student, tokens), before, atol=1e-5)
