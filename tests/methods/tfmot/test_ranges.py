"""Ranges are nudged to the very scale and zero point of TensorFlow's kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.tfmot.ranges import grid_of, nudge  # noqa: E402
from keras_quant.tf import tf  # noqa: E402

ENDS = st.floats(-1e4, 1e4, width=32)
BITS = st.integers(2, 8)
FAR = np.float32(1e30)


def fake_quantized(x: np.ndarray, low: float, high: float, **settings: object) -> np.ndarray:
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, **settings).numpy()


@given(low=ENDS, high=ENDS, bits=BITS, narrow_range=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_grid_is_that_of_the_kernel(low, high, bits, narrow_range, seed) -> None:
    low, high = min(low, high, 0.0), max(low, high, 0.0)
    assume(high - low > 1e-6)
    grid = nudge(np.float32(low), np.float32(high), bits=bits, narrow_range=narrow_range)
    zero, count = np.float32(grid.zero_point), np.float32(grid.qmax - grid.qmin)
    lowest = (np.float32(grid.qmin) - zero) * grid.scale
    # Ends of the range show scale and offset: they are computed from nothing else.
    settings = {"num_bits": bits, "narrow_range": narrow_range}
    bottom, top = fake_quantized(np.array([-FAR, FAR], np.float32), low, high, **settings)
    assert bottom == lowest
    ends = multiplied_and_added(count, grid.scale, lowest)
    assert np.abs(top - ends).min() <= 2 * np.spacing(max(top, -bottom))
    x = np.random.default_rng(seed).uniform(low - 1, high + 1, 200).astype(np.float32)
    highest = (np.float32(grid.qmax) - zero) * grid.scale
    shifted = np.clip(x, lowest, highest) - lowest
    inverse = count / (np.float32(high) - np.float32(low))
    steps = np.floor(multiplied_and_added(shifted, inverse, np.float32(0.5)))
    values = fake_quantized(x, low, high, **settings)
    assert (grid.codes_of(values) - grid.qmin == steps).any(axis=0).all()


def multiplied_and_added(a, b, c) -> np.ndarray:
    """a * b + c in float32: with two roundings, and with one, as processors may do."""
    return np.stack([a * b + c, (np.float64(a) * b + c).astype(np.float32)])


@given(reach=st.floats(2.0**-20, 2.0**20, width=32), bits=BITS)
def test_symmetric_narrow_range_has_its_zero_in_the_middle(reach, bits) -> None:
    grid = nudge(np.float32(-reach), np.float32(reach), bits=bits, narrow_range=True)
    assert int(grid.zero_point) - grid.qmin == grid.qmax - int(grid.zero_point)


def test_ranges_of_channels_are_nudged_each_by_itself() -> None:
    low, high = np.float32([-1, -2, 0]), np.float32([1, 6, 255])
    grid = nudge(low, high, bits=8, narrow_range=False)
    for place, ends in enumerate(zip(low, high, strict=True)):
        one = grid_of(*map(float, ends), bits=8, narrow_range=False)
        assert (one.scale, one.zero_point) == (grid.scale[place], grid.zero_point[place])


@pytest.mark.parametrize(
    ("low", "high", "narrow_range", "scale", "zero_point", "qmin"),
    [
        (0.0, 255.0, False, 1.0, 0, 0),
        (-128.0, 127.0, False, 1.0, 128, 0),
        (-127.0, 127.0, True, 1.0, 128, 1),
        (-0.5, 254.5, False, 1.0, 1, 0),  # halves go away from zero, as in C's round
        (1.0, 256.0, False, 1.0, 0, 0),  # a range without 0 is moved to it
    ],
)
def test_known_ranges(low, high, narrow_range, scale, zero_point, qmin) -> None:
    grid = grid_of(low, high, bits=8, narrow_range=narrow_range)
    assert (grid.scale, grid.zero_point, grid.qmin, grid.qmax) == (scale, zero_point, qmin, 255)
