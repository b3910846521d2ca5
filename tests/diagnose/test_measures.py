"""What is counted of codes and errors, against figures made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_quant.diagnose.contents import TensorContents
from keras_quant.diagnose.kernels import describe_kernel
from keras_quant.diagnose.measures import Codes, Error, Errors, correlation

FLOAT64_ROUNDING = 1e-12
INT8 = TensorContents(name="x", dtype="int8", scale=0.5, zero_point=0, low=-128, high=127)
RELU = TensorContents(name="x", dtype="int8", scale=0.5, zero_point=-128, low=-128, high=127)


def error_of(expected: list[float], found: list[float], tensor: TensorContents = INT8) -> Error:
    errors = Errors(tensor)
    for one, other in zip(expected, found, strict=True):  # batch by batch
        errors.add(np.array([[one]], np.float32), np.array([[other]], np.float32))
    summed = errors.error()
    assert summed is not None
    return summed


def test_sqnr_is_ten_times_the_logarithm_of_the_energies() -> None:
    error = error_of([3, 4], [3, 3])  # energies 25 and 1
    assert error.sqnr_db == pytest.approx(10 * math.log10(25), abs=FLOAT64_ROUNDING)


def test_equal_values_have_no_noise_to_share_out() -> None:
    error = error_of([3, 4], [3, 4])
    assert error.sqnr_db == math.inf
    assert (error.cosine, error.gain) == (1, 1)
    assert (error.cut_noise, error.offset_noise) == (None, None)


def test_zeros_have_neither_sqnr_nor_cosine() -> None:
    error = error_of([0, 0], [1, 0])
    assert (error.sqnr_db, error.cosine, error.gain) == (None, None, None)


def test_values_that_are_an_eighth_have_that_gain_and_the_same_direction() -> None:
    error = error_of([8, -16, 24], [1, -2, 3])
    assert error.gain == pytest.approx(1 / 8, abs=FLOAT64_ROUNDING)
    assert error.cosine == pytest.approx(1, abs=FLOAT64_ROUNDING)


def test_what_lies_beyond_the_grid_makes_noise_of_its_own() -> None:
    # The grid ends at 63.5. One of four values is beyond it, by 10; another is off by 1.
    error = error_of([73.5, 1, 2, 3], [63.5, 2, 2, 3])
    assert error.cut_off == 1 / 4
    assert error.cut_noise == pytest.approx(100 / 101, abs=FLOAT64_ROUNDING)


def test_a_value_that_rounds_to_the_last_code_is_not_cut_off() -> None:
    assert error_of([63.7], [63.5]).cut_off == 0
    assert error_of([63.8], [63.5]).cut_off == 1


def test_a_mean_error_of_a_channel_is_told_apart() -> None:
    errors = Errors(INT8)
    expected = np.zeros((4, 2), np.float32)
    errors.add(expected, np.array([[1, 1], [1, -1], [1, 1], [1, -1]], np.float32))
    summed = errors.error()
    assert summed is not None and summed.offset_noise == 1 / 2  # all of one channel's, none of
    # the other's


def test_values_that_are_not_finite_give_no_error() -> None:
    errors = Errors(INT8)
    errors.add(np.array([[np.inf]], np.float32), np.array([[1]], np.float32))
    assert errors.error() is None


def test_codes_at_real_zero_are_at_no_end() -> None:
    codes = Codes(RELU, channels_first=False)
    codes.add(np.array([[-128, 127], [-128, 0]], np.int8))
    seen = codes.seen()
    assert seen is not None
    assert seen.at_ends == 1 / 4  # 127 alone; -128 is what a ReLU gives
    assert (seen.used, seen.dead, seen.channels) == (1, 1, 2)
    assert (seen.least, seen.most) == (0, 127.5)


def test_a_bound_of_a_function_is_no_end_of_a_grid() -> None:
    relu6 = TensorContents(
        name="x", dtype="int8", scale=0.5, zero_point=-128, low=-128, high=-116, is_bounded=True
    )
    codes = Codes(relu6, channels_first=False)
    codes.add(np.array([[-116, -120]], np.int8))
    seen = codes.seen()
    assert seen is not None and seen.at_ends == 0


def test_codes_add_up_over_batches() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-100, 100, (6, 3, 2, 2)).astype(np.int8)
    whole, parts = (Codes(INT8, channels_first=True) for _ in range(2))
    whole.add(values)
    parts.add(values[:2])
    parts.add(values[2:])
    assert whole.seen() == parts.seen()


def test_a_dead_channel_is_counted_where_the_channels_are() -> None:
    values = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2).astype(np.int8)
    values[:, 1] = 7
    for first, array in ((True, values), (False, np.moveaxis(values, 1, -1))):
        codes = Codes(INT8, channels_first=first)
        codes.add(array)
        seen = codes.seen()
        assert seen is not None and (seen.dead, seen.channels) == (1, 3)


def test_an_outlier_is_measured_against_what_all_but_a_thousandth_reach() -> None:
    codes = Codes(INT8, channels_first=False)
    codes.add(np.array([[10]] * 2000 + [[100]], np.int8))
    seen = codes.seen()
    assert seen is not None and seen.outliers == 10


def test_a_constant_correlates_with_nothing() -> None:
    assert correlation(np.ones(3), np.arange(3.0)) == 0
    assert correlation(np.arange(3.0), 5 - 2 * np.arange(3.0)) == pytest.approx(-1)


def test_kernel_says_dead_channels_and_how_far_ranges_are_apart() -> None:
    codes = np.array([[127, -3], [0, 0], [64, 1]])
    kernel = describe_kernel(
        codes, axis=0, dtype="int8", scales=np.array([1.0, 1.0, 0.25]), bounds=(-128, 127)
    )
    assert (kernel.dead, kernel.channels, kernel.scales) == (1, 3, 3)
    assert kernel.spread == 127 / 16
    assert kernel.at_bounds == 1 / 6
    assert kernel.used == pytest.approx((127 + 64) / 2 / 127)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_that_is_no_positive_number_is_said(scale: float) -> None:
    kernel = describe_kernel(
        np.ones((2, 2)), axis=0, dtype="int8", scales=np.array([scale]), bounds=(-128, 127)
    )
    assert kernel.is_broken and kernel.spread is None
