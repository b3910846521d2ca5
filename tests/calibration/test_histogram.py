from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_quant.calibration.histogram import (
    BINS,
    MAX_EXPONENT,
    MIN_EXPONENT,
    Histogram,
    empty,
    histogram_of,
    merge,
)

LARGEST = float(np.finfo(np.float32).max)
VALUES = arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(-LARGEST, LARGEST, width=32)
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, LARGEST, -LARGEST])
    | st.floats(-8, 8, width=32),
)


def filled(histogram: Histogram) -> dict[int, int]:
    """How many values are in which bin, counted from the one that starts at 0."""
    places = np.flatnonzero(histogram.counts)
    return {int(place) - BINS: int(histogram.counts[place]) for place in places}


def assert_equal(a: Histogram, b: Histogram) -> None:
    assert (a.exponent, a.zeros) == (b.exponent, b.zeros)
    np.testing.assert_array_equal(a.counts, b.counts)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_hand_counted_values() -> None:
    """8192 bins reach to 8 when they are 2**-10 wide, and 5 is less than 8 and not than 4."""
    step = 2.0**-10
    found = histogram_of(floats(0, 0, -0.0, step / 2, step, 1.5 * step, -step, -step / 2, 5))
    assert (found.exponent, found.width, found.zeros) == (-10, step, 3)
    assert filled(found) == {0: 1, 1: 2, -1: 1, -2: 1, 5 * 1024: 1}
    assert found.edges[BINS] == 0 and found.edges[BINS + 5 * 1024] == 5


def test_bins_reach_beyond_the_largest_value_and_no_further_than_they_must() -> None:
    assert histogram_of(floats(0.99)).exponent == -13
    assert histogram_of(floats(1.0)).exponent == -12  # a bin starts at 1, behind the last of 2**13
    assert histogram_of(floats(-1.0, 0.5)).exponent == -12


def test_growing_puts_neighbours_together() -> None:
    fine = histogram_of(floats(0.25, 0.25 + 2.0**-14, 0.25 + 2.0**-13, -(2.0**-14), -(2.0**-13)))
    assert (fine.exponent, filled(fine)) == (-14, {4096: 1, 4097: 1, 4098: 1, -2: 1, -3: 1})
    grown = merge([fine, histogram_of(floats(0.75))])
    assert (grown.exponent, filled(grown)) == (-13, {2048: 2, 2049: 1, -1: 1, -2: 1, 6144: 1})


@given(st.lists(VALUES, max_size=4))
def test_parts_make_the_histogram_of_the_whole_in_any_order(parts: list[np.ndarray]) -> None:
    whole = histogram_of(np.concatenate([floats(), *parts]))
    found = [histogram_of(part) for part in parts]
    assert_equal(merge(found), whole)
    assert_equal(merge(found[::-1]), whole)
    grown = empty()
    for part in found:
        grown = merge([grown, part])
    assert_equal(grown, whole)


@given(VALUES)
def test_each_value_is_in_the_bin_around_it(values: np.ndarray) -> None:
    found = histogram_of(values)
    assert MIN_EXPONENT <= found.exponent <= MAX_EXPONENT
    assert found.counts.sum() + found.zeros == values.size
    exact = values.astype(np.float64)
    above = np.searchsorted(found.edges, exact[exact > 0], "right") - 1
    below = np.searchsorted(found.edges, exact[exact < 0], "left") - 1
    places = np.concatenate([above, below])
    np.testing.assert_array_equal(np.bincount(places, minlength=2 * BINS), found.counts)


@pytest.mark.parametrize("values", [(), (0.0,), (-0.0, 0.0)])
def test_nothing_but_zeros_fills_no_bin(values: tuple[float, ...]) -> None:
    found = histogram_of(floats(*values))
    assert (found.zeros, found.counts.any(), found.exponent) == (len(values), False, MIN_EXPONENT)
