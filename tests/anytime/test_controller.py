"""The controller against brute force on few images, and against thresholds on two exits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.controller import (
    Controller,
    Options,
    Played,
    Rule,
    _best_thresholds,
    choose,
    controllers,
    fit,
    oracle,
    play,
)
from keras_quant.anytime.rules import NEVER, exits_taken, outcome
from keras_quant.anytime.thresholds import judge
from keras_quant.errors import BudgetError

SUM_ROUNDING = 1e-9
SEEDS = st.integers(0, 2**32 - 1)
CHAIN = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]], bool)
"""Two exits of one net, and another net."""
COSTS = np.array([1.0, 2.0, 5.0])


def drawn(seed: int, images: int = 12, pieces: np.ndarray = CHAIN) -> Options:
    rng = np.random.default_rng(seed)
    chances = np.linspace(0.4, 0.9, len(pieces))[:, None]
    return Options(
        names=tuple("abcdefgh"[: len(pieces)]),
        pieces=pieces,
        sure=rng.integers(0, 5, (len(pieces), images)) / 5,
        correct=rng.random((len(pieces), images)) < chances,
    )


@given(seed=SEEDS, rows=st.integers(1, 4))
def test_no_thresholds_come_to_more(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    sure, values = rng.integers(0, 5, 9) / 5, rng.normal(size=(rows, 9))

    def total(thresholds: tuple[float, ...]) -> float:
        rule = Rule(thresholds=thresholds, then=(None,) * rows)
        return float(values[rule.choose(sure), np.arange(9)].sum())

    every = itertools.combinations_with_replacement([NEVER, *np.unique(sure)[::-1]], rows - 1)
    chosen = _best_thresholds(sure, values)
    assert list(chosen) == sorted(chosen, reverse=True)
    assert total(chosen) == pytest.approx(max(map(total, every)), abs=SUM_ROUNDING)


@given(seed=SEEDS, price=st.floats(0.01, 1))
def test_of_two_exits_it_is_the_best_threshold(seed: int, price: float) -> None:
    options = drawn(seed, pieces=CHAIN[:2, :2])
    costs = COSTS[:2]
    found = play(fit(options, costs, price=price), options, costs)
    every = judge(options.sure, options.correct, np.array([1.0, 3.0]))
    # To run the second exit alone costs as much as behind the first.
    wanted = float((every.accuracy - price * every.cost).max())
    assert found.accuracy - price * found.mean_cost == pytest.approx(wanted, abs=SUM_ROUNDING)


def test_a_path_pays_each_piece_once() -> None:
    options = drawn(0)
    assert options.cost((0, 1), COSTS) == options.cost((1,), COSTS) == 3
    assert options.cost((0, 2), COSTS) == 6
    rules = {(0,): Rule(thresholds=(0.5,), then=(None, 1))}
    played = play(Controller(first=0, rules=rules), options, COSTS)
    taken = exits_taken(options.sure[:2], np.array([0.5]))
    wanted = outcome(options.correct[:2], taken, np.array([1.0, 3.0]))
    assert (played.accuracy, played.mean_cost) == (wanted.accuracy, wanted.mean_cost)
    assert played.shares[:2] == wanted.exit_shares


def test_what_was_run_before_is_paid_too() -> None:
    options = drawn(0)
    rules = {(0,): Rule(thresholds=(0.5,), then=(None, 2))}
    played = play(Controller(first=0, rules=rules), options, COSTS)
    going = float((options.sure[0] < 0.5).mean())
    assert played.mean_cost == pytest.approx(1 + 5 * going)


@given(seed=SEEDS, price=st.floats(0, 1), looks=st.integers(1, 3))
def test_no_option_alone_comes_to_more(seed: int, price: float, looks: int) -> None:
    options = drawn(seed)
    played = play(fit(options, COSTS, price=price, looks=looks), options, COSTS)
    alone = options.correct.mean(axis=1) - price * options.own_costs(COSTS)
    assert played.accuracy - price * played.mean_cost >= alone.max() - SUM_ROUNDING
    if looks == 1:
        assert played.mean_cost in options.own_costs(COSTS)


@given(seed=SEEDS, price=st.floats(0.01, 1))
def test_more_looks_never_come_to_less(seed: int, price: float) -> None:
    options = drawn(seed)
    worth = []
    for looks in (1, 2, 3):
        played = play(fit(options, COSTS, price=price, looks=looks), options, COSTS)
        worth.append(played.accuracy - price * played.mean_cost)
    assert worth[0] <= worth[1] + SUM_ROUNDING


@given(seed=SEEDS)
def test_nothing_is_cheaper_than_the_oracle(seed: int) -> None:
    options = drawn(seed, images=5)
    own = options.own_costs(COSTS)
    tried = [
        (float(own[list(taken)].mean()), float(options.correct[list(taken), range(5)].mean()))
        for taken in itertools.product(range(3), repeat=5)
    ]
    for cost, accuracy in zip(*oracle(options, COSTS), strict=True):
        wanted = min(paid for paid, reached in tried if reached >= accuracy)
        assert cost == pytest.approx(wanted, abs=SUM_ROUNDING)
    assert oracle(options, COSTS)[1][-1] == options.correct.any(axis=0).mean()


@given(seed=SEEDS)
def test_controllers_hold_each_option_alone_once(seed: int) -> None:
    options = drawn(seed)
    found = controllers(options, COSTS, prices=5)
    assert [one.first for one in found[:3]] == [0, 1, 2]
    assert len({repr(one) for one in found}) == len(found)
    best = max(play(one, options, COSTS).accuracy for one in found)
    assert best >= options.correct.mean(axis=1).max()


@pytest.mark.parametrize("second", [1.0, 1 + 1e-12, 1.00001])
def test_options_of_nearly_one_cost_leave_prices_for_the_dear_one(second: float) -> None:
    rng = np.random.default_rng(0)
    sure = rng.random((3, 200))
    correct = rng.random((3, 200)) < np.stack([sure[0], sure[1], np.ones(200)])
    options = Options(names=tuple("abc"), pieces=np.eye(3, dtype=bool), sure=sure, correct=correct)
    costs = np.array([1.0, second, 5.0])
    means = [play(one, options, costs).mean_cost for one in controllers(options, costs, prices=16)]
    assert sum(2 < mean < 5 for mean in means) >= 2


@pytest.mark.filterwarnings("error")
def test_what_costs_nothing_is_an_option_too() -> None:
    options = drawn(0, images=200, pieces=np.eye(3, dtype=bool))
    for costs in (np.array([0.0, 2.0, 5.0]), np.zeros(3)):
        done: list[int] = []
        found = controllers(options, costs, prices=16, on_price=done.append)
        best = max(play(one, options, costs).accuracy for one in found)
        assert best >= options.correct.mean(axis=1).max() and done == list(range(1, 17))


def test_what_is_asked_for_chooses_a_controller() -> None:
    known = [
        (Controller(first=place, rules={}), Played(accuracy=right, mean_cost=cost, shares=()))
        for place, (right, cost) in enumerate([(0.8, 1.0), (0.9, 2.0), (0.9, 3.0), (0.95, 5.0)])
    ]
    assert choose(known, accuracy=0.85)[0].first == 1
    assert choose(known, budget=3.5)[0].first == 1
    assert choose(known, budget=5.0)[0].first == 3
    with pytest.raises(BudgetError, match="reach 95.00% at most"):
        choose(known, accuracy=0.96)
    with pytest.raises(BudgetError, match="the cheapest option alone takes 1"):
        choose(known, budget=0.5)
