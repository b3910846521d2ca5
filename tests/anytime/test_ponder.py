from __future__ import annotations

import numpy as np

from keras_quant.anytime.ponder import reached, spread, units_at


def test_each_position_goes_through_the_first_unit_and_those_that_change_it() -> None:
    masks = [np.array([[[True, True, False]]]), np.array([[[True, False, False]]])]
    assert units_at(masks).tolist() == [[[3, 2, 1]]]


def test_a_window_of_3x3_reaches_the_neighbours_within_the_image() -> None:
    mask = np.zeros((2, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 2, 2] = True
    found = reached(mask).astype(int)
    assert found[0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found[1].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]


def test_pixels_get_the_value_of_the_position_that_they_lie_in() -> None:
    values = np.array([[[1, 2], [3, 4]]])
    assert spread(values, (4, 2)).tolist() == [[[1, 2], [1, 2], [3, 4], [3, 4]]]
    assert spread(values, (2, 5))[0, 0].tolist() == [1, 1, 1, 2, 2]
