"""What every way to make views one answer promises, over the table; and the layers of concat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_quant.anytime.views import AGGREGATIONS, Concat, Layer, aggregated
from keras_quant.errors import DataError

FLOAT32_ROUNDING = 1e-5
SCORES = arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("name", AGGREGATIONS)
@given(scores=SCORES)
def test_scores_lie_between_those_of_views_whatever_their_order(
    name: str, scores: np.ndarray
) -> None:
    one = aggregated(scores, name, exit_number=0)
    assert (one.dtype, one.shape) == (np.float32, (4,))
    slack = FLOAT32_ROUNDING * 100
    assert (scores.min(axis=0) - slack <= one).all() and (one <= scores.max(axis=0) + slack).all()
    np.testing.assert_allclose(aggregated(scores[::-1], name, exit_number=0), one, atol=slack)
    np.testing.assert_array_equal(aggregated(scores[:1], name, exit_number=0), scores[0])


def test_the_surest_view_decides_by_max_and_all_do_by_average() -> None:
    scores = np.array([[9, 0, 0], [0, 6, 0], [0, 6, 0]], np.float32)
    assert aggregated(scores, "max", exit_number=0).tolist() == [9, 6, 0]
    assert aggregated(scores, "average", exit_number=0).tolist() == [3, 4, 0]


@given(
    scores=arrays(np.float32, (2, 3), elements=ANY),
    weights=arrays(np.float32, (2, 3, 3), elements=ANY),
    bias=arrays(np.float32, (3,), elements=ANY),
)
def test_concat_rounds_as_floats_do_that_are_added_one_by_one(
    scores: np.ndarray, weights: np.ndarray, bias: np.ndarray
) -> None:
    largest = float(np.finfo(np.float32).max)
    wanted = []
    for to in range(3):
        total = float(bias[to])
        for view in range(2):
            for score in range(3):
                total += float(scores[view, score]) * float(weights[view, score, to])
        wanted.append(np.float32(min(max(total, -largest), largest)))
    found = Layer(weights=weights, bias=bias).answer(scores)
    assert found.dtype == np.float32
    assert found.tobytes() == np.array(wanted, np.float32).tobytes()


def test_concat_adds_to_the_bias_view_by_view() -> None:
    # Beside 2 ** 60 a small number is lost in float64; behind it has cancelled out, none is.
    large, small = 2.0**30, 2.0**-30
    scores = np.array([[large, -large], [1, 1]], np.float32)
    weights = np.array([[[large, large], [large, -small]], [[1, -(large**2)], [0, 5]]], np.float32)
    bias = np.array([1, 0], np.float32)
    # 1 + 2**60 - 2**60 + 1 + 0, and 0 + 2**60 + 1 - 2**60 + 5
    assert Layer(weights=weights, bias=bias).answer(scores).tolist() == [1, 5]


def test_each_exit_has_a_layer_of_its_own() -> None:
    layers = tuple(some_layer(first_bias=value) for value in (1, 2))
    scores = np.zeros((2, 2), np.float32)
    for number, value in enumerate((1, 2)):
        answer = aggregated(scores, Concat(layers=layers), exit_number=number)
        assert answer.tolist() == [value, 0]


def some_layer(*, first_bias: float = 0, views: int = 2) -> Layer:
    return Layer(
        weights=np.zeros((views, 2, 2), np.float32), bias=np.array([first_bias, 0], np.float32)
    )


@pytest.mark.parametrize(
    ("shape", "told"), [((1, 2), "here are 1 of 2"), ((3, 2), "3 of 2"), ((2, 3), "2 of 3")]
)
def test_other_views_than_were_learned_are_refused(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(DataError, match=f"for 2 views of 2 classes; .*{told}"):
        some_layer().answer(np.zeros(shape, np.float32))


def test_layers_are_known_by_every_number_in_them() -> None:
    known = Concat(layers=(some_layer(), some_layer()))
    assert known.sha256 == Concat(layers=(some_layer(), some_layer())).sha256
    others = [
        (some_layer(),),
        (some_layer(first_bias=1), some_layer()),
        (some_layer(), some_layer(first_bias=1e-40)),
        (some_layer(), some_layer(views=3)),
    ]
    assert len({known.sha256, *(Concat(layers=layers).sha256 for layers in others)}) == 5
