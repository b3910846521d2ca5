"""Windows against loops over single pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.windows import (
    Window,
    meets_pixels,
    output_size,
    overlap,
    pad_image,
    padding_of,
    patches,
    taps,
    transposed_size,
)

SMALL = st.integers(1, 3)
MARGINS = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    return Window(
        size=(draw(SMALL), draw(SMALL)),
        strides=(draw(SMALL), draw(SMALL)),
        dilation=(draw(SMALL), draw(SMALL)),
        padding=draw(st.one_of(st.sampled_from(["same", "valid"]), MARGINS)),
    )


@pytest.mark.parametrize(
    ("length", "size", "stride", "dilation", "count", "margins"),
    [
        # counts and margins as TensorFlow's own notes on padding work them out
        (13, 6, 5, 1, 3, (1, 2)),
        (32, 3, 1, 1, 32, (1, 1)),
        (32, 3, 2, 1, 16, (0, 1)),
        (33, 3, 2, 1, 17, (1, 1)),
        (32, 1, 2, 1, 16, (0, 0)),
        (10, 3, 1, 2, 10, (2, 2)),
        (10, 2, 1, 1, 10, (0, 1)),
    ],
)
def test_same_padding_puts_the_larger_half_last(length, size, stride, dilation, count, margins):
    window = Window(size=(size, 1), strides=(stride, 1), dilation=(dilation, 1), padding="same")
    assert output_size(window, (length, 1)) == (count, 1)
    assert padding_of(window, (length, 1)) == (margins, (0, 0))


def test_a_valid_window_that_does_not_fit_has_no_position():
    assert output_size(Window(size=(3, 1), dilation=(2, 1)), (4, 1)) == (0, 1)
    assert output_size(Window(size=(3, 1), dilation=(2, 1)), (5, 1)) == (1, 1)


@given(window=windows(), height=st.integers(7, 9), width=st.integers(7, 9))
def test_patches_hold_the_pixels_that_the_taps_meet(window: Window, height: int, width: int):
    x = np.arange(2 * height * width * 2).reshape(2, height, width, 2) + 1
    (top, _), (left, _) = padding_of(window, (height, width))
    rows, columns = output_size(window, (height, width))
    seen = patches(x, window, -1)
    expected = np.full((2, rows, columns, *window.size, 2), -1)
    for row, column, tap_row, tap_column in np.ndindex(rows, columns, *window.size):
        at_row = row * window.strides[0] + tap_row * window.dilation[0] - top
        at_column = column * window.strides[1] + tap_column * window.dilation[1] - left
        if 0 <= at_row < height and 0 <= at_column < width:
            expected[:, row, column, tap_row, tap_column] = x[:, at_row, at_column]
    np.testing.assert_array_equal(seen, expected)
    for tap, pixels in taps(x, window, -1):
        np.testing.assert_array_equal(pixels, seen[:, :, :, tap[0], tap[1]])


@given(window=windows(), rows=st.integers(1, 4), columns=st.integers(1, 4))
def test_overlap_is_the_transpose_of_patches(window: Window, rows: int, columns: int):
    """<patches(x), views> = <x, overlap(views)>, on integers."""
    named = "valid" if isinstance(window.padding, tuple) else window.padding
    window = replace(window, dilation=(1, 1), padding=named)
    rng = np.random.default_rng(0)
    views = rng.integers(-9, 9, (2, rows, columns, *window.size, 3))
    x = rng.integers(-9, 9, (2, *transposed_size(window, (rows, columns)), 3))
    assert output_size(window, x.shape[1:3]) == (rows, columns)
    assert (patches(x, window, 0) * views).sum() == (x * overlap(views, window)).sum()


@pytest.mark.parametrize(
    ("margins", "meets"),
    [(((2, 2), (2, 2)), True), (((3, 0), (0, 0)), False), (((0, 0), (0, 3)), False)],
)
def test_a_window_meets_pixels_where_margins_are_smaller_than_what_it_covers(margins, meets):
    assert meets_pixels(Window(size=(2, 3), dilation=(2, 1)), margins) is meets


def test_nothing_to_pad_copies_nothing():
    x = np.zeros((1, 2, 2, 1), np.int8)
    assert pad_image(x, ((0, 0), (0, 0)), 5) is x
