import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret.errors import BudgetError
from edgeret.plan import Plan, parse_bytes


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


def test_codes_are_streamed_when_they_do_not_fit():
    encoder = {"session": 20_000_000}
    assert Plan.of(1_000_000, 256, encoder, None).resident
    assert Plan.of(1_000_000, 256, encoder, 80_000_000).resident
    assert not Plan.of(1_000_000, 256, encoder, 40_000_000).resident


def test_what_cannot_be_met_is_refused_with_the_smallest_that_can():
    encoder = {"session": 20_000_000}
    with pytest.raises(
        BudgetError, match=r"at least (\d+)MB, got 12MB; the largest part is the session"
    ) as refusal:
        Plan.of(1_000_000, 256, encoder, 12_000_000)
    smallest = int(str(refusal.value).split("at least ")[1].split("MB")[0])
    assert Plan.of(1_000_000, 256, encoder, smallest * 10**6).total <= smallest * 10**6
    with pytest.raises(BudgetError):
        Plan.of(1_000_000, 256, encoder, (smallest - 1) * 10**6)


@given(st.integers(0, 10**8), st.sampled_from([64, 128, 256, 384]), st.integers(30_000_000, 10**9))
def test_a_plan_never_exceeds_its_budget(rows, bits, budget):
    assert Plan.of(rows, bits, {"session": 20_000_000}, budget).total <= budget
