from __future__ import annotations

import numpy as np
import pytest

from keras_quant.graph.ir import Weight
from keras_quant.lower.signs import Signs, fold_signs


def codes(scale: np.ndarray, bias: np.ndarray, n: np.ndarray, signs: Signs) -> np.ndarray:
    """What sums are rounded to, (sums, channels)."""
    sums = n[:, None] * signs.input_scale * scale + bias
    return np.clip(np.rint(sums / signs.output_scale), -1, 1)


@pytest.mark.parametrize("dead_band", [0.0, 0.01, 0.25, 0.33, 5.0])
@pytest.mark.parametrize("output_scale", [1.0, 0.3])
def test_line_is_rounded_to_the_signs_of_the_sums(dead_band: float, output_scale: float) -> None:
    rng = np.random.default_rng(0)
    # Eighths of sums: many are at 0, and at the ends of the dead band.
    scale, bias = rng.integers(1, 9, 64) / 8, rng.integers(-40, 40, 64) / 32
    signs = Signs(dead_band=dead_band, input_scale=0.25, output_scale=output_scale)
    kernel = Weight(values=np.ones((1, 64), np.int8), scale=scale, bits=4)
    n = np.arange(-400, 401)
    sums = n[:, None] * 0.25 * scale + bias
    expected = np.where(sums >= dead_band, 1, np.where(sums <= -dead_band, -1, 0))
    assert {-1, 1} <= set(np.unique(expected))
    folded, shift = fold_signs(kernel, bias, signs)
    np.testing.assert_array_equal(codes(folded.scale, shift, n, signs), expected)
    np.testing.assert_array_equal(folded.values, kernel.values)


def test_no_sum_comes_near_the_middle_of_two_codes() -> None:
    """As no float32 kernel has to know on which side it is."""
    kernel = Weight(values=np.ones((1, 1), np.int8), scale=np.array([1e-3]), bits=4)
    signs = Signs(dead_band=0.0, input_scale=1.0, output_scale=1.0)
    folded, shift = fold_signs(kernel, np.array([0.0123456]), signs)
    sums = np.arange(-1000, 1000) * folded.scale + shift
    assert np.abs(np.abs(sums) - 0.5).min() >= 1.5


def test_kernel_without_a_bias_has_its_signs_at_0() -> None:
    kernel = Weight(values=np.ones((1, 1), np.int8), scale=np.ones(1), bits=4)
    signs = Signs(dead_band=0.0, input_scale=1.0, output_scale=1.0)
    folded, shift = fold_signs(kernel, None, signs)
    found = codes(folded.scale, shift, np.arange(-2, 3), signs)
    np.testing.assert_array_equal(found[:, 0], [-1, -1, 1, 1, 1])
