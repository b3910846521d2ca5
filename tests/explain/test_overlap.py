from __future__ import annotations

import numpy as np
import pytest

from keras_quant.explain.overlap import largest, overlap


def test_a_map_overlaps_itself_and_not_its_reverse() -> None:
    values = np.arange(20.0).reshape(4, 5)
    same = overlap(values, 3 * values + 1)
    assert (same.iou, same.rank_correlation) == (1.0, pytest.approx(1.0))
    reverse = overlap(values, -values)
    assert (reverse.iou, reverse.rank_correlation) == (0.0, pytest.approx(-1.0))


def test_the_largest_fifth_is_counted_by_hand() -> None:
    values = np.array([[0.0, 1, 2, 3, 4], [5, 6, 7, 8, 9]])
    assert np.argwhere(largest(values)).tolist() == [[1, 3], [1, 4]]
    other = values.copy()
    other[1, 3] = -1  # 7 takes its place: one in common of three
    assert overlap(values, other).iou == pytest.approx(1 / 3)


def test_of_equal_values_those_that_come_first_count() -> None:
    assert np.argwhere(largest(np.ones((1, 10)))).tolist() == [[0, 0], [0, 1]]


def test_an_empty_map_has_no_overlap() -> None:
    found = overlap(np.zeros((4, 4)), np.eye(4))
    assert found.iou is None and found.rank_correlation is None
