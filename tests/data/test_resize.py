from __future__ import annotations

import numpy as np
import pytest

from keras_quant.data.resize import middle, resized

X = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resized_images_keep_their_dtype_and_their_mean(dtype: type) -> None:
    x = X.astype(dtype)
    small = resized(x, (2, 3))
    assert small.dtype == dtype and small.shape == (2, 2, 3, 3)
    # A linear ramp stays one: the mean of each channel is kept, up to rounding to pixels.
    assert np.abs(small.mean(axis=(1, 2)) - x.mean(axis=(1, 2))).max() <= 0.5
    assert resized(x, (4, 6)) is x


def test_one_colour_stays_that_colour() -> None:
    x = np.full((1, 8, 8, 1), 77, np.uint8)
    assert (resized(resized(x, (3, 5)), (8, 8)) == 77).all()


def test_the_middle_is_cut_out_at_equal_margins() -> None:
    assert np.array_equal(middle(X, (2, 4)), X[:, 1:3, 1:5])
    assert np.array_equal(middle(X, (3, 3)), X[:, 0:3, 1:4])
