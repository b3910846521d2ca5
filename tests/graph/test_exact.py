"""Floating-point products of integers against Python's and int64's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.exact import FLOAT32_EXACT, accumulator_range, exact_dtype, exact_product
from keras_quant.qparams import QParams, signed, unsigned

BYTES = unsigned(8, 0.1)
SHIFTED = QParams(scale=0.1, zero_point=100, qmin=0, qmax=255, bits=8)


def test_range_is_reached_by_the_worst_codes():
    kernel = np.array([[3, -1], [-2, -4]], np.int8)
    low, high = accumulator_range(kernel, unsigned(2, 1.0))
    assert low.tolist() == [-6, -15]
    assert high.tolist() == [9, 0]


def test_range_counts_padding_as_zero():
    # codes 5 to 7 around zero point 4 lie 1 to 3 above it; a padded pixel lies at 0
    above = QParams(scale=1.0, zero_point=4, qmin=5, qmax=7, bits=2)
    low, high = accumulator_range(np.array([[2]], np.int8), above)
    assert (low.tolist(), high.tolist()) == ([0], [6])


@pytest.mark.parametrize(
    ("largest", "dtype"), [(FLOAT32_EXACT, np.float32), (FLOAT32_EXACT + 1, np.float64)]
)
def test_float32_is_used_up_to_its_last_exact_integer(largest: int, dtype: type):
    assert exact_dtype(largest) is dtype


@pytest.mark.parametrize("qparams", [BYTES, SHIFTED, signed(8, 0.1, narrow_range=False)])
@pytest.mark.parametrize("rows", [10, 3000])
def test_worst_case_sums_are_exact(qparams: QParams, rows: int):
    rng = np.random.default_rng(rows)
    kernel = rng.choice(np.array([-127, 126, 127], np.int8), (rows, 3))
    kernel[:, 0] = 127
    codes = rng.integers(qparams.qmin, qparams.qmax + 1, (4, rows))
    codes[0] = qparams.qmax
    levels = codes - qparams.zero_point
    found = exact_product(kernel, qparams, headroom=0)(levels.astype(np.float32))
    assert found.dtype == (np.float32 if rows == 10 else np.float64)
    np.testing.assert_array_equal(found, levels @ kernel.astype(np.int64))


def test_headroom_widens_the_result():
    kernel = np.ones((2, 1), np.int8)
    x = np.ones((1, 2), np.float32)
    assert exact_product(kernel, BYTES, headroom=FLOAT32_EXACT - 510)(x).dtype == np.float32
    assert exact_product(kernel, BYTES, headroom=FLOAT32_EXACT - 509)(x).dtype == np.float64


@given(st.integers(0, 2**32 - 1), st.integers(500, 2500), st.integers(9, 16))
def test_wide_codes_and_long_sums_are_exact(seed: int, rows: int, bits: int):
    rng = np.random.default_rng(seed)
    qparams = signed(bits, 0.1, narrow_range=False)
    kernel = rng.integers(-127, 128, (rows, 4)).astype(np.int8)
    codes = rng.integers(qparams.qmin, qparams.qmax + 1, (2, rows))
    found = exact_product(kernel, qparams, headroom=0)(codes.astype(np.float32))
    np.testing.assert_array_equal(found, codes @ kernel.astype(np.int64))
