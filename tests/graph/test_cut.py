"""Codes of fewer bits are the upper bits of base codes."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.graph.cut import BASE_MAX, cut_codes

EVERY = np.arange(-BASE_MAX, BASE_MAX + 1)


def test_codes_are_those_of_the_hand() -> None:
    base = np.array([-127, -121, -120, -9, -8, -7, 0, 7, 8, 24, 119, 120, 127])
    expected = [-7, -7, -7, -1, 0, 0, 0, 0, 1, 2, 7, 7, 7]
    np.testing.assert_array_equal(cut_codes(base, bits=4, qmin=-7, qmax=7), expected)
    full = [-8, -8, -7, -1, 0, 0, 0, 0, 1, 2, 7, 7, 7]
    np.testing.assert_array_equal(cut_codes(base, bits=4, qmin=-8, qmax=7), full)
    base = np.array([-127, -97, -96, -33, -32, 31, 32, 127])
    np.testing.assert_array_equal(
        cut_codes(base, bits=2, qmin=-2, qmax=1), [-2, -2, -1, -1, 0, 0, 1, 1]
    )


def test_all_bits_are_the_stored_codes_themselves() -> None:
    np.testing.assert_array_equal(cut_codes(EVERY, bits=8, qmin=-127, qmax=127), EVERY)


@pytest.mark.parametrize("bits", range(2, 8))
def test_cutting_is_rounding_to_the_nearest_of_the_wider_step(bits: int) -> None:
    highest = 2 ** (bits - 1) - 1
    found = cut_codes(EVERY, bits=bits, qmin=-highest - 1, qmax=highest)
    nearest = np.floor(EVERY / 2 ** (8 - bits) + 0.5).clip(-highest - 1, highest)
    np.testing.assert_array_equal(found, nearest)
    assert found.dtype == np.int8
    lowest = -highest if bits == 7 else -highest - 1  # -127 is no less than 64 steps of two
    assert set(np.unique(found)) == set(range(lowest, highest + 1))
