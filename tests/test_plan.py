import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret import words
from edgeret.errors import BudgetError
from edgeret.plan import Plan, enough_bits, file_parts, oversampling, parse_bytes
from edgeret.storage import lexicon

ENCODER = {"session": 20_000_000, "longest texts": 8_000_000}
WIDTHS = (64, 128, 256, 384)


@pytest.mark.parametrize(
    ("budget", "size"),
    [
        ("112MB", 112_000_000),
        ("96MiB", 96 * 2**20),
        (" 1.5 gb ", 1_500_000_000),
        (4096, 4096),
        ("4096", 4096),
    ],
)
def test_budgets_are_read(budget, size):
    assert parse_bytes(budget) == size


@pytest.mark.parametrize("budget", ["", "MB", "12 parsecs", "-1MB", 0, -5, "0", True])
def test_other_budgets_are_refused(budget):
    with pytest.raises(BudgetError, match="expected a memory budget such as '112MB'"):
        parse_bytes(budget)


def test_what_gives_way_first():
    with pytest.raises(BudgetError) as refusal:
        Plan.of(1_000_000, 256, ENCODER, 1, False, True)
    least = int(str(refusal.value).split("at least ")[1].split("MB")[0]) * 10**6
    budgets = [*range(80_000_000, least, -250_000), least]
    plans = [Plan.of(1_000_000, 256, ENCODER, budget, False, True) for budget in budgets]
    gave = dict.fromkeys((plan.holds_all_codes, plan.cache_bytes, plan.text_divisor) for plan in plans)
    assert list(gave) == [
        (True, 4_000_000, 1),
        (True, 2_000_000, 1),
        (False, 2_000_000, 1),
        (False, 250_000, 1),
        (False, 250_000, 2),
        (False, 250_000, 4),
    ]
    streamed = [
        plan.parts["codes"] for plan in plans if plan.text_divisor == 1 and plan.cache_bytes == 2_000_000
    ]
    assert streamed == sorted(streamed, reverse=True)
    assert len(set(streamed)) > 50


def test_without_a_budget_all_codes_stay_in_memory_whatever_is_added():
    plan = Plan.of(0, 256, ENCODER, None)
    assert plan.code_blocks is None
    assert plan.holds_all_codes


def test_texts_are_cut_only_where_they_may_be():
    whole = Plan.of(1000, 256, ENCODER, None).parts
    tight = sum(whole.values()) - 9_000_000
    assert Plan.of(1000, 256, ENCODER, tight, shortens=True).parts["longest texts"] < 8_000_000
    with pytest.raises(BudgetError):
        Plan.of(1000, 256, ENCODER, tight - 6_000_000)


def test_what_cannot_be_met_is_refused_with_the_smallest_that_can():
    with pytest.raises(
        BudgetError, match=r"at least (\d+)MB, got 12MB; the largest part is the session"
    ) as refusal:
        Plan.of(1_000_000, 256, ENCODER, 12_000_000)
    smallest = int(str(refusal.value).split("at least ")[1].split("MB")[0])
    assert Plan.of(1_000_000, 256, ENCODER, smallest * 10**6).total <= smallest * 10**6
    with pytest.raises(BudgetError):
        Plan.of(1_000_000, 256, ENCODER, (smallest - 1) * 10**6)


def test_more_candidates_than_the_budget_holds_are_refused():
    plan = Plan.of(1_000_000, 256, ENCODER, 80_000_000)
    plan.admit(400)
    with pytest.raises(BudgetError, match="ask for a smaller k"):
        plan.admit(1_000_000)
    Plan.of(1_000_000, 256, ENCODER, None).admit(1_000_000)


@given(st.integers(0, 10**8), st.sampled_from(WIDTHS), st.integers(60_000_000, 10**9), st.booleans())
def test_a_plan_never_exceeds_its_budget(rows, bits, budget, writing):
    assert Plan.of(rows, bits, ENCODER, budget, writing).total <= budget


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.sampled_from(WIDTHS))
def test_more_passages_need_more_candidates_and_longer_codes(one, other, bits):
    few, many = sorted((one, other))
    assert 4 <= oversampling(few, bits) <= oversampling(many, bits)
    assert enough_bits(few, WIDTHS) <= enough_bits(many, WIDTHS)


def test_long_codes_need_no_more_candidates_for_a_million_rows():
    assert oversampling(1_000_000, 256) == oversampling(10, 256) == 4
    assert enough_bits(1_000_000, WIDTHS) == 256
    assert enough_bits(1_000_000, (64, 128)) == 128


def test_a_file_grows_with_every_part():
    small = file_parts(1000, 1000, 400, 256, 384)
    assert small["codes"] == 1000 * 32
    for larger in (file_parts(1000, 2000, 400, 256, 384), file_parts(1000, 1000, 800, 256, 384)):
        assert sum(larger.values()) > sum(small.values())


def test_the_words_of_a_file_take_what_is_planned(tmp_path):
    pages = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
    texts = [line for page in pages for line in page.read_text(encoding="utf-8").splitlines() if line[40:]]
    with closing(sqlite3.connect(tmp_path / "words", isolation_level=None)) as connection:
        lexicon.create(connection)
        held = lexicon.Lexicon(connection)
        for row, text in enumerate(texts):
            held.add(row, words.stream(text))
        held.rewrite(None)
        connection.execute("VACUUM")
    characters = sum(map(len, texts)) // len(texts)
    planned = file_parts(len(texts), len(texts), characters, 256, 384)["words"]
    assert (tmp_path / "words").stat().st_size == pytest.approx(planned, rel=0.25)
