"""What every way to make views one answer promises, over the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_quant.anytime.views import AGGREGATIONS, aggregated

FLOAT32_ROUNDING = 1e-5
SCORES = arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


@pytest.mark.parametrize("name", AGGREGATIONS)
@given(scores=SCORES)
def test_scores_lie_between_those_of_views_whatever_their_order(
    name: str, scores: np.ndarray
) -> None:
    one = aggregated(scores, name)
    assert (one.dtype, one.shape) == (np.float32, (4,))
    slack = FLOAT32_ROUNDING * 100
    assert (scores.min(axis=0) - slack <= one).all() and (one <= scores.max(axis=0) + slack).all()
    np.testing.assert_allclose(aggregated(scores[::-1], name), one, atol=slack)
    np.testing.assert_array_equal(aggregated(scores[:1], name), scores[0])


def test_the_surest_view_decides_by_max_and_all_do_by_average() -> None:
    scores = np.array([[9, 0, 0], [0, 6, 0], [0, 6, 0]], np.float32)
    assert aggregated(scores, "max").tolist() == [9, 6, 0]
    assert aggregated(scores, "average").tolist() == [3, 4, 0]
