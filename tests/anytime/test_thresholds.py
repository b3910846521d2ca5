"""Thresholds against brute force: every combination tried, image by image."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.rules import NEVER, exits_taken, outcome
from keras_quant.anytime.thresholds import cheapest, front, judge, most_accurate
from keras_quant.errors import BudgetError

SUM_ROUNDING = 1e-9
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, exits: int, images: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sure = rng.integers(0, 5, (exits, images)) / 5
    correct = rng.random((exits, images)) < np.linspace(0.4, 0.9, exits)[:, None]
    return sure, correct, np.cumsum(rng.integers(1, 9, exits)).astype(float)


def tried(sure: np.ndarray, correct: np.ndarray, costs: np.ndarray) -> list[tuple[float, float]]:
    """Accuracy and cost of every combination of thresholds that tells images apart."""
    values = [[*np.unique(row), NEVER] for row in sure[:-1]]
    found = [outcome(correct, exits_taken(sure, t), costs) for t in itertools.product(*values)]
    return [(one.accuracy, one.mean_cost) for one in found]


@given(seed=SEEDS, exits=st.integers(2, 4))
def test_the_table_holds_what_each_combination_comes_to(seed: int, exits: int) -> None:
    sure, correct, costs = drawn(seed, exits)
    choices = judge(sure, correct, costs)
    for place in range(choices.cost.size):
        wanted = outcome(correct, exits_taken(sure, choices.thresholds(place)), costs)
        assert choices.accuracy.flat[place] == pytest.approx(wanted.accuracy, abs=SUM_ROUNDING)
        assert choices.cost.flat[place] == pytest.approx(wanted.mean_cost, abs=SUM_ROUNDING)


@given(seed=SEEDS, exits=st.integers(2, 4), target=st.floats(0.3, 0.8))
def test_no_combination_is_cheaper_at_an_accuracy(seed: int, exits: int, target: float) -> None:
    sure, correct, costs = drawn(seed, exits)
    enough = [cost for accuracy, cost in tried(sure, correct, costs) if accuracy >= target]
    if not enough:
        with pytest.raises(BudgetError, match="at most"):
            cheapest(judge(sure, correct, costs), target)
        return
    chosen = cheapest(judge(sure, correct, costs), target)
    assert chosen.cost == pytest.approx(min(enough), abs=SUM_ROUNDING)
    again = outcome(correct, exits_taken(sure, chosen.thresholds), costs)
    assert (again.accuracy, again.mean_cost) == pytest.approx((chosen.accuracy, chosen.cost))


@given(seed=SEEDS, exits=st.integers(2, 4), share=st.floats(0, 1))
def test_no_combination_is_better_within_a_budget(seed: int, exits: int, share: float) -> None:
    sure, correct, costs = drawn(seed, exits)
    budget = costs[0] + share * (costs[-1] - costs[0])
    chosen = most_accurate(judge(sure, correct, costs), budget)
    found = [acc for acc, cost in tried(sure, correct, costs) if cost <= budget + SUM_ROUNDING]
    assert chosen.accuracy == pytest.approx(max(found), abs=SUM_ROUNDING)


@given(seed=SEEDS, exits=st.integers(2, 4))
def test_nothing_beats_the_front(seed: int, exits: int) -> None:
    sure, correct, costs = drawn(seed, exits)
    best = front(judge(sure, correct, costs))
    for accuracy, cost in tried(sure, correct, costs):
        assert any(
            one.accuracy >= accuracy - SUM_ROUNDING and one.cost <= cost + SUM_ROUNDING
            for one in best
        )
    assert all(a.cost < b.cost and a.accuracy < b.accuracy for a, b in itertools.pairwise(best))


def test_a_front_of_many_keeps_its_ends() -> None:
    sure, correct, costs = drawn(0, 3, images=300)
    whole, few = (front(judge(sure, correct, costs), most=most) for most in (10**6, 3))
    assert len(few) == 3 < len(whole)
    assert (few[0], few[-1]) == (whole[0], whole[-1])


def test_as_many_combinations_as_asked_for_are_judged() -> None:
    sure = np.random.default_rng(0).random((4, 500))
    choices = judge(sure, sure > 0.5, np.arange(1.0, 5.0), most=1000)
    assert choices.cost.shape == (10, 10, 10)
    assert all(values[-1] == NEVER for values in choices.candidates)
    assert [values[0] for values in choices.candidates] == sure[:3].min(axis=1).tolist()


def test_a_budget_below_the_first_exit_says_what_is_possible() -> None:
    sure, correct, costs = drawn(0, 3)
    with pytest.raises(BudgetError, match=f"the first exit it is {costs[0]:g} already"):
        most_accurate(judge(sure, correct, costs), costs[0] / 2)
