"""Measures of diversity against values that were counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.anytime.diversity import (
    MEASURES,
    any_right,
    disagreement,
    double_fault,
    kappa,
    q_statistic,
)

# Two members, ten images: both right on 4, only the first on 3, only the second on 1, none on 2.
RIGHT = np.array([[1, 1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 1, 0, 0]], bool)


def test_disagreement_is_the_mean_over_pairs() -> None:
    labels = np.array([[0, 1, 2, 2], [0, 1, 2, 1], [0, 0, 0, 2]])
    assert disagreement(labels) == pytest.approx((1 / 4 + 2 / 4 + 3 / 4) / 3)
    assert any_right(labels, np.array([0, 0, 1, 1])) == 0.75


def test_measures_are_those_of_their_formulas() -> None:
    assert q_statistic(RIGHT) == pytest.approx((4 * 2 - 3 * 1) / (4 * 2 + 3 * 1))
    assert double_fault(RIGHT) == 0.2
    # 12 of 20 answers are right; on 4 images one of the two members is.
    assert kappa(RIGHT) == pytest.approx(1 - (4 / 10) / 2 / (0.6 * 0.4))


def test_pairs_are_averaged() -> None:
    three = np.concatenate([RIGHT, RIGHT[:1]])  # pairs: the two above twice, and one of equals
    assert q_statistic(three) == pytest.approx((2 * 5 / 11 + 1) / 3)
    assert double_fault(three) == pytest.approx((0.2 + 0.3 + 0.2) / 3)


def test_members_that_are_alike_differ_least_and_opposite_ones_most() -> None:
    same, other = np.stack([RIGHT[0]] * 2), np.stack([RIGHT[0], ~RIGHT[0]])
    assert (q_statistic(same), kappa(same)) == (1, pytest.approx(1))
    assert (q_statistic(other), kappa(other), double_fault(other)) == (-1, pytest.approx(-1), 0)


def test_independent_errors_come_to_zero() -> None:
    right = np.random.default_rng(0).random((2, 100_000)) < 0.7
    assert q_statistic(right) == pytest.approx(0, abs=0.03)
    assert kappa(right) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [True, False])
def test_members_that_are_all_right_or_all_wrong_divide_nothing(name: str, value: bool) -> None:
    assert MEASURES[name](np.full((3, 5), value)) in (None, 0.0, 1.0)
