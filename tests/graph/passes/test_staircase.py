"""Thresholds against the codes of every accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.passes.staircase import Channels, Staircase, count_wrong, ideal_staircase
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
    stairs = ideal_staircase(channel(unsigned(2, 1.0), scale=1.0, bias=1.0, lowest=0, highest=1))
    np.testing.assert_array_equal(stairs.above, [[0, 1, np.inf]])
    np.testing.assert_array_equal(stairs.below, [[-np.inf, 0, 1]])
    np.testing.assert_array_equal(stairs.crossings, [[False, True, False]])


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
    stairs = Staircase(levels=np.array([1.0]), above=np.array([[1.0]]), below=np.array([[-np.inf]]))
    integers = {"factor": np.array([1]), "bias": np.array([2**24])}
    assert count_wrong(stairs, **integers, multiplier=np.array([2.0**-25], np.float32)) == [1]
    assert count_wrong(stairs, **integers, multiplier=np.array([2.0**-24], np.float32)) == [0]


@given(
    output=GRIDS,
    factor=st.integers(1, 9),
    bias=st.integers(-30, 30),
    multiplier=st.sampled_from([0.0625, 0.1, 0.5, 3.0]),
)
def test_wrong_thresholds_are_counted_exactly(output, factor, bias, multiplier):
    stairs = ideal_staircase(channel(output, scale=0.1, bias=0.3, lowest=-40, highest=40))
    realized = np.float32(factor * np.arange(-41, 42) + bias) * np.float32(multiplier)
    reached = np.rint(realized)[:, None] >= stairs.levels
    reached[0], reached[-1] = False, True  # out of reach on either side
    first = np.argmax(reached, axis=0) - 41
    expected = np.where(np.isinf(stairs.above[0]), 41, stairs.above[0])
    wrong = count_wrong(
        stairs,
        factor=np.array([factor]),
        bias=np.array([bias]),
        multiplier=np.array([multiplier], np.float32),
    )
    assert wrong[0] == np.count_nonzero(first != expected)
