"""Sureness by hand-computed answers; exits by a loop over images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.anytime.rules import NEVER, RULES, exits_taken, outcome, sureness

EXACT = 1e-12


def logits(*probabilities: float) -> np.ndarray:
    return np.log(np.array([probabilities]))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("max", 0.7),
        ("margin", 0.5),
        ("entropy", 1 + (0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)) / np.log(3)),
    ],
)
def test_sureness_is_what_its_formula_says(rule: str, expected: float) -> None:
    assert sureness(logits(0.2, 0.7, 0.1), rule) == pytest.approx([expected], abs=EXACT)


@pytest.mark.parametrize("rule", RULES)
def test_sureness_reaches_from_equal_shares_to_certainty(rule: str) -> None:
    answers = np.array([[3.0, 3.0, 3.0], [1e4, 0.0, -1e4]])
    low, high = sureness(answers, rule)
    assert low == pytest.approx(1 / 3 if rule == "max" else 0, abs=EXACT)
    assert high == 1


@pytest.mark.parametrize("rule", RULES)
def test_an_answer_that_is_no_number_is_not_sure(rule: str) -> None:
    assert sureness(np.array([[np.nan, 1.0]]), rule) == [0]


@pytest.mark.parametrize("rule", RULES)
def test_no_answer_is_as_sure_as_never(rule: str) -> None:
    assert (sureness(np.array([[0.0, 1e30]]), rule) < NEVER).all()


@given(seed=st.integers(0, 2**32 - 1), exits=st.integers(2, 5))
def test_an_image_ends_at_the_first_exit_that_is_sure(seed: int, exits: int) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.integers(0, 5, (exits, 20)) / 4
    thresholds = rng.choice([0.25, 0.5, 1.0, NEVER], exits - 1)
    wanted = [
        next((k for k in range(exits - 1) if sure[k, i] >= thresholds[k]), exits - 1)
        for i in range(20)
    ]
    np.testing.assert_array_equal(exits_taken(sure, thresholds), wanted)


def test_an_outcome_is_the_mean_over_images() -> None:
    correct = np.array([[True, False, True, False], [True, True, False, True]])
    found = outcome(correct, np.array([0, 0, 1, 1]), np.array([1.0, 3.0]))
    assert (found.images, found.accuracy, found.mean_cost) == (4, 0.5, 2.0)
    assert found.exit_shares == (0.5, 0.5)
