from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_quant.errors import DataError
from keras_quant.proof.distance import LOGIT_TOLERANCE, Distance, furthest

EXPECTED = np.array([[10.0, 2.0], [0.5, 0.25], [1.0, 3.0]], np.float32)


def distance(found: np.ndarray, expected: np.ndarray = EXPECTED) -> Distance:
    made = Distance()
    made.add(found, expected)
    return made


def test_equal_answers_are_no_distance_apart() -> None:
    made = distance(EXPECTED)
    assert (made.images, made.near, made.ranked, made.top1) == (3, 3, 3, 3)
    assert (made.largest, made.scaled, made.relative, made.agreement) == (0, 0, 0, 1)


def test_a_difference_is_counted_in_units_of_an_images_largest_and_of_one_at_least() -> None:
    found = EXPECTED + np.array([[0.5, 0], [0, 0.25], [0, 0]], np.float32)
    made = distance(found)
    assert (made.largest, made.scaled, made.near) == (0.5, 0.25, 1)
    wanted = np.sqrt(np.square(found - EXPECTED).sum() / np.square(EXPECTED).sum())
    assert made.relative == pytest.approx(wanted)


def test_near_is_up_to_the_tolerance() -> None:
    step = np.zeros((2, 1, 1, 1))
    step[:, 0, 0, 0] = 0.99 * LOGIT_TOLERANCE, 1.01 * LOGIT_TOLERANCE
    assert distance(step, np.zeros((2, 1, 1, 1))).near == 1
    at = np.full((1, 1), LOGIT_TOLERANCE)
    assert distance(at, np.zeros((1, 1))).near == 1


def test_the_largest_value_is_asked_for_in_vectors_only() -> None:
    assert distance(EXPECTED[:, ::-1]).agreement == 0
    assert distance(np.ones((3, 2, 2, 3)), np.zeros((3, 2, 2, 3))).agreement is None
    assert distance(np.ones((3, 1)), np.zeros((3, 1))).agreement is None


def test_values_that_answers_this_near_may_rank_either_way_are_torn() -> None:
    expected = np.full((2, 2), 4.0)
    expected[:, 1] *= 1 - np.array([1.9, 2.1]) * LOGIT_TOLERANCE
    made = distance(expected[:, ::-1], expected)
    assert (made.ranked, made.top1, made.torn) == (2, 0, 1)


@given(
    arrays(np.float64, (3, 4), elements=st.floats(-9, 9)),
    arrays(np.float64, (3, 4), elements=st.floats(-1, 1)),
)
def test_what_is_near_is_ranked_alike_or_torn(expected: np.ndarray, move: np.ndarray) -> None:
    unit = np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    made = distance(expected + 0.999 * LOGIT_TOLERANCE * unit * move, expected)
    assert made.near == 3 == made.top1 + made.torn


def test_parts_add_up_to_the_whole() -> None:
    found = EXPECTED[:, ::-1]
    whole, parts = distance(found), distance(found[:1], EXPECTED[:1])
    parts.merge(distance(found[1:], EXPECTED[1:]))
    assert parts == whole


def test_nan_is_far_from_everything() -> None:
    found = EXPECTED.copy()
    found[1, 1] = np.nan
    made = distance(found)
    assert made.near == 2
    assert np.isnan([made.largest, made.scaled, made.relative]).all()
    made.merge(distance(EXPECTED))
    assert np.isnan([made.largest, made.scaled]).all()


def test_answers_to_nothing_are_infinitely_far_from_something() -> None:
    assert distance(EXPECTED, np.zeros_like(EXPECTED)).relative == np.inf


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(DataError, match=r"answers are \(3, 1\); \(3, 2\) is needed"):
        distance(EXPECTED[:, :1])


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_nothing_is_further_than_what_is_no_number(places: tuple[int, int]) -> None:
    both = [distance(EXPECTED * 1.5), distance(EXPECTED * np.nan)]
    assert np.isnan(furthest(both[place] for place in places))
    assert furthest([distance(EXPECTED), both[0]]) == both[0].relative
