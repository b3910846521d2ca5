"""Thresholds against the codes of every accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.passes.realize.channels import Channels, count_thresholds
from keras_quant.graph.passes.realize.staircase import (
    Staircase,
    count_wrong,
    ideal_staircase,
    kernel_staircase,
)
from keras_quant.qparams import QParams, signed, unsigned

GRIDS = st.sampled_from(
    [
        unsigned(1, 1.0),
        unsigned(3, 0.25),
        signed(4, 0.3, narrow_range=True),
        QParams(scale=0.7, zero_point=5, qmin=0, qmax=7, bits=3),
    ]
)


def channel(output: QParams, *, scale: float, bias: float, lowest: int, highest: int) -> Channels:
    return Channels(
        input_scale=1.0,
        output=output,
        weight_scale=np.array([scale]),
        bias=np.array([bias]),
        lowest=np.array([lowest], np.float64),
        highest=np.array([highest], np.float64),
    )


def codes_by_thresholds(stairs: Staircase, n: np.ndarray, output: QParams) -> np.ndarray:
    return output.qmin + np.count_nonzero(n[:, None] >= stairs.above[0], axis=1)


@given(
    output=GRIDS,
    scale=st.sampled_from([0.125, 0.1, 1.0, 3.0, 1e-3, 1e-30]),
    bias=st.one_of(st.floats(-5, 5), st.integers(-20, 20).map(lambda eighths: eighths / 8)),
    lowest=st.integers(-60, 0),
    highest=st.integers(0, 60),
)
def test_thresholds_give_the_code_of_every_accumulator(output, scale, bias, lowest, highest):
    stairs = ideal_staircase(
        channel(output, scale=scale, bias=bias, lowest=lowest, highest=highest)
    )
    n = np.arange(lowest, highest + 1)
    steps = np.rint((n * scale + bias) / output.scale) + output.zero_point
    expected = np.clip(steps, output.qmin, output.qmax)
    np.testing.assert_array_equal(codes_by_thresholds(stairs, n, output), expected)


def test_levels_out_of_reach_are_infinite():
    far = channel(unsigned(2, 1.0), scale=1.0, bias=1.0, lowest=0, highest=1)
    stairs = ideal_staircase(far)
    np.testing.assert_array_equal(stairs.above, [[0, 1, np.inf]])
    np.testing.assert_array_equal(stairs.below, [[-np.inf, 0, 1]])
    assert count_thresholds(far) == 1


def test_halves_round_to_even():
    # outputs 0.5, 1.5 and 2.5 give the codes 0, 2 and 2
    stairs = ideal_staircase(channel(unsigned(2, 1.0), scale=0.5, bias=0.0, lowest=0, highest=9))
    np.testing.assert_array_equal(stairs.above, [[2, 3, 6]])


@pytest.mark.parametrize("bias", [1e18, 3e18])  # halves that round down and up
def test_threshold_is_found_where_float64_loses_the_accumulator(bias):
    # bias + 2n rounds to multiples of 128 or 512, so the guess by division is far off
    output = unsigned(2, 2e18)
    far = channel(output, scale=2.0, bias=bias, lowest=-400, highest=400)
    n = np.arange(-400, 401)
    expected = np.rint((n * 2.0 + bias) / output.scale)
    stairs = ideal_staircase(far)
    np.testing.assert_array_equal(codes_by_thresholds(stairs, n, far.output), expected)
    assert len(np.unique(expected)) == 2


def test_accumulators_are_rounded_to_float32():
    # 2**24 + 1 is none: it becomes 2**24, whose half code rounds to the even 0
    reach = channel(unsigned(1, 1.0), scale=1.0, bias=0.0, lowest=0, highest=1)
    integers = {"factor": np.array([1]), "bias": np.array([2**24])}
    for power, threshold in ((-25, np.inf), (-24, 0)):
        multiplier = np.array([2.0**power], np.float32)
        assert kernel_staircase(reach, **integers, multiplier=multiplier).above == [[threshold]]


INTEGERS = {
    "output": GRIDS,
    "factor": st.integers(0, 9),
    "bias": st.integers(-30, 30),
    "multiplier": st.sampled_from([0.0625, 0.1, 0.5, 3.0]),
}


def codes_of_integers(n: np.ndarray, output: QParams, factor, bias, multiplier) -> np.ndarray:
    realized = np.rint(np.float32(factor * n + bias) * np.float32(multiplier))
    return np.clip(realized + output.zero_point, output.qmin, output.qmax)


@given(**INTEGERS)
def test_thresholds_of_integers_give_the_code_of_every_accumulator(
    output, factor, bias, multiplier
):
    n = np.arange(-40, 41)
    stairs = kernel_staircase(
        channel(output, scale=1.0, bias=0.0, lowest=-40, highest=40),
        factor=np.array([factor]),
        bias=np.array([bias]),
        multiplier=np.array([multiplier], np.float32),
    )
    expected = codes_of_integers(n, output, factor, bias, multiplier)
    np.testing.assert_array_equal(codes_by_thresholds(stairs, n, output), expected)


@given(**INTEGERS)
def test_wrong_thresholds_are_counted_exactly(output, factor, bias, multiplier):
    ideal = channel(output, scale=0.1, bias=0.3, lowest=-40, highest=40)
    stairs, n = ideal_staircase(ideal), np.arange(-40, 41)
    codes = codes_of_integers(n, output, factor, bias, multiplier) - output.zero_point
    reached = np.vstack([codes[:, None] >= stairs.levels, np.full(len(stairs.levels), True)])
    first = np.argmax(reached, axis=0) - 40
    expected = np.where(np.isinf(stairs.above[0]), 41, stairs.above[0])
    integers = kernel_staircase(
        ideal,
        factor=np.array([factor]),
        bias=np.array([bias]),
        multiplier=np.array([multiplier], np.float32),
    )
    assert count_wrong(stairs, integers) == [np.count_nonzero(first != expected)]


@pytest.mark.parametrize("unit", [0.3, 1 / 7, 2.0**-9, 1e-3])
def test_thresholds_beside_ties_are_those_of_float64(unit: float) -> None:
    # Biases that put an accumulator on a tie, or beside it by units in the last place.
    output = unsigned(8, 1.0)
    ties = (np.arange(0, 40) + 0.5 - 12 * unit)[:, None]
    beside = ties + np.spacing(ties) * np.arange(-8, 9)
    bias = beside.ravel()
    reach = np.full(len(bias), 3000.0)
    many = Channels(
        input_scale=1.0,
        output=output,
        weight_scale=np.full(len(bias), unit),
        bias=bias,
        lowest=-reach,
        highest=reach,
    )
    stairs = ideal_staircase(many)
    n = np.arange(-3000, 3001)
    codes = np.clip(np.rint(n[:, None] * unit + bias), 0, 255)
    expected = np.stack([np.searchsorted(column, stairs.levels) for column in codes.T]) - 3000.0
    np.testing.assert_array_equal(stairs.above, np.where(expected > 3000, np.inf, expected))
