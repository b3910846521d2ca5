from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_quant.data.resize import averaged, middle, resized, sides
from keras_quant.errors import DataError

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


def shared(whole: int, part: int) -> list[list[Fraction]]:
    """How much of each pixel lies in each larger one, whose sides are whole / part pixels."""
    side = Fraction(whole, part)
    return [
        [
            max(Fraction(0), min((to + 1) * side, Fraction(of + 1)) - max(to * side, Fraction(of)))
            for of in range(whole)
        ]
        for to in range(part)
    ]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_averages_are_the_means_of_areas_with_halves_rounded_up(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    values = st.integers(0, 255) if data.draw(st.booleans()) else st.sampled_from([0, 1, 254, 255])
    count = height * width * 2
    pixels = data.draw(st.lists(values, min_size=count, max_size=count))
    x = np.array(pixels, np.uint8).reshape(1, height, width, 2)
    found = averaged(x, size)
    rows, columns = shared(height, size[0]), shared(width, size[1])
    area = Fraction(height, size[0]) * Fraction(width, size[1])
    for top, left, channel in np.ndindex(*size, 2):
        total = sum(
            rows[top][row] * columns[left][column] * int(x[0, row, column, channel])
            for row in range(height)
            for column in range(width)
        )
        assert found[0, top, left, channel] == floor(total / area + Fraction(1, 2))
    assert found.dtype == np.uint8 and found.shape == (1, *size, 2)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32 - 1),
)
def test_averages_by_whole_factors_are_those_of_blocks(
    factors: tuple[int, int], size: tuple[int, int], channels: int, seed: int
) -> None:
    (down, across), (height, width) = factors, size
    shape = (3, height * down, width * across, channels)
    x = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    means = x.reshape(3, height, down, width, across, channels).mean(axis=(2, 4))
    assert np.array_equal(averaged(x, size), np.floor(means + 0.5))


def test_averages_of_hand() -> None:
    x = np.array([[0, 1, 1, 0], [1, 0, 0, 0]], np.uint8).reshape(1, 2, 4, 1)
    assert averaged(x, (1, 2)).ravel().tolist() == [1, 0]  # of 2/4, and of 1/4
    # Of columns of 1.5 pixels: (0 + 1 + (1 + 0) / 2) / 3, and ((1 + 0) / 2 + 1 + 0) / 3.
    assert averaged(x[:, :, :3], (1, 2)).ravel().tolist() == [1, 1]
    assert averaged(x, (2, 4)) is x


def test_averages_of_floats_are_their_means() -> None:
    x = X.astype(np.float32)
    expected = x.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    found = averaged(x, (2, 3))
    assert found.dtype == np.float32 and np.array_equal(found, expected)  # halves and quarters


@pytest.mark.parametrize("size", [(2, 7), (5, 6)])
def test_images_are_not_averaged_to_more_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"have 4x6 pixels .* to {size[0]}x{size[1]}, which is l"):
        averaged(X, size)


@pytest.mark.parametrize(
    ("shorter", "whole", "expected"),
    [(16, (32, 32), (16, 16)), (20, (30, 40), (20, 27)), (1, (2, 9), (1, 4))],
)
def test_the_longer_side_keeps_its_share(
    shorter: int, whole: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert sides(shorter, whole) == expected
