"""Ranges of codes, at their ends."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.qparams import (
    GridSpec,
    QParams,
    dequantize,
    fits_int8,
    holds_range,
    hull,
    quantize,
    signed,
    unsigned,
)


def codes(qmin: int, qmax: int, *, bits: int = 9) -> QParams:
    return QParams(scale=0.5, qmin=qmin, qmax=qmax, bits=bits)


@pytest.mark.parametrize(
    ("qmin", "qmax", "fits"), [(0, 255, True), (-1, 254, True), (0, 256, False)]
)
def test_256_codes_fit_int8_and_one_more_does_not(qmin: int, qmax: int, fits: bool) -> None:
    assert fits_int8(codes(qmin, qmax)) == fits


def test_values_are_signed_where_codes_lie_below_that_of_zero() -> None:
    assert [codes(qmin, 7).signed for qmin in (-1, 0, 1)] == [True, False, False]


def test_a_range_holds_itself_and_what_lies_within() -> None:
    outer = codes(-8, 7)
    assert all(holds_range(outer, codes(*ends)) for ends in ((-8, 7), (-7, 6)))
    assert not any(holds_range(outer, codes(*ends)) for ends in ((-9, 7), (-8, 8)))


@pytest.mark.parametrize(("qmin", "qmax", "bits"), [(0, 0, 8), (1, 0, 8), (0, 16, 4), (-8, 8, 4)])
def test_a_range_has_two_codes_at_least_and_no_more_than_its_bits_can_say(
    qmin: int, qmax: int, bits: int
) -> None:
    with pytest.raises(AssertionError):
        codes(qmin, qmax, bits=bits)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_is_positive_and_finite(scale: float) -> None:
    with pytest.raises(AssertionError):
        QParams(scale=scale, qmin=0, qmax=1, bits=1)


def test_the_hull_holds_all_ranges_in_as_many_bits_as_that_takes() -> None:
    parts = [codes(0, 15, bits=4), codes(-8, 7, bits=4)]
    found = hull(parts)
    assert (found.qmin, found.qmax, found.bits, found.scale) == (-8, 15, 5, 0.5)
    assert hull([codes(0, 3, bits=4), codes(0, 1, bits=1)]).bits == 4


def test_bits_become_codes() -> None:
    def ends(grid: QParams) -> tuple[int, int]:
        return grid.qmin, grid.qmax

    assert ends(unsigned(4, 1.0)) == (0, 15)
    assert ends(signed(4, 1.0, narrow_range=False)) == (-8, 7)
    assert ends(signed(4, 1.0, narrow_range=True)) == (-7, 7)
    free = GridSpec(bits=4, signed=True, symmetric=False).at(0.5, 3)
    assert (*ends(free), free.zero_point, free.scale, free.bits) == (0, 15, 3, 0.5, 4)


def test_reals_are_rounded_halves_to_even_and_clipped() -> None:
    grid = QParams(scale=0.5, zero_point=3, qmin=0, qmax=15, bits=4)
    real = np.array([-9, -1.5, -0.25, 0, 0.25, 0.75, 1, 6, 9], np.float32)
    found = quantize(real, grid)
    assert found.tolist() == [0, 0, 3, 3, 3, 5, 5, 15, 15] and found.dtype == np.int32
    assert dequantize(found, grid).tolist() == [-1.5, -1.5, 0, 0, 0, 1, 1, 6, 6]
