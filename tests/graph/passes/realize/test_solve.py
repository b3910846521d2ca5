"""Realized channels against ideal ones, accumulator by accumulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.solve import Integers, integer_staircase, solve
from keras_quant.graph.passes.realize.staircase import ideal_staircase
from keras_quant.qparams import QParams, signed, unsigned

CHANNELS = 6


@st.composite
def random_channels(draw: st.DrawFn) -> Channels:
    """Channels whose outputs lie within, across or far beyond the output's range."""
    bits, scale = draw(st.integers(1, 8)), draw(st.sampled_from([1.0, 0.25, 0.03]))
    kind = draw(st.sampled_from(["unsigned", "narrow", "full", "shifted"]))
    output = {
        "unsigned": unsigned(bits, scale),
        "narrow": signed(max(bits, 2), scale, narrow_range=True),
        "full": signed(bits, scale, narrow_range=False),
        "shifted": QParams(scale=scale, zero_point=1, qmin=0, qmax=2**bits - 1, bits=bits),
    }[kind]
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    reach = rng.integers(0, 400, CHANNELS)
    unit = scale * 2.0 ** rng.integers(-9, 4, CHANNELS)
    bias = scale * rng.integers(-8, 8, CHANNELS) / 4
    if draw(st.booleans()):  # otherwise powers of two, with accumulators on ties
        unit, bias = unit * rng.uniform(0.5, 1, CHANNELS), bias + scale * rng.normal(size=CHANNELS)
    input_scale = draw(st.sampled_from([1.0, 1 / 255, 0.0625]))
    return Channels(
        input_scale=input_scale,
        output=output,
        weight_scale=unit / input_scale,
        bias=bias,
        lowest=-reach.astype(np.float64),
        highest=reach.astype(np.float64),
    )


def ideal_codes(channels: Channels, channel: int, n: np.ndarray) -> np.ndarray:
    output, unit = channels.output, channels.input_scale * channels.weight_scale[channel]
    steps = np.rint((n * unit + channels.bias[channel]) / output.scale)
    return np.clip(steps + output.zero_point, output.qmin, output.qmax)


def realized_codes(
    channels: Channels, integers: Integers, channel: int, n: np.ndarray
) -> np.ndarray:
    """What an int8 kernel computes, written from its definition."""
    output = channels.output
    multiplier = np.float32(channels.input_scale) * integers.weight_scale[channel]
    multiplier = np.float32(multiplier) / np.float32(output.scale)
    accumulator = (n * integers.factor[channel] + integers.bias[channel]).astype(np.int32)
    steps = np.rint(accumulator.astype(np.float32) * multiplier)
    return np.clip(steps + output.zero_point, output.qmin, output.qmax)


def differing(channels: Channels, integers: Integers, channel: int) -> int:
    n = np.arange(channels.lowest[channel], channels.highest[channel] + 1)
    return np.count_nonzero(
        ideal_codes(channels, channel, n) != realized_codes(channels, integers, channel, n)
    )


@given(channels=random_channels(), max_factor=st.sampled_from([1, 2, 18, 127]))
def test_no_code_differs_where_no_threshold_is_wrong(channels, max_factor):
    integers, found = solve(channels, ideal_staircase(channels), np.full(CHANNELS, max_factor))
    for channel in range(CHANNELS):
        assert (differing(channels, integers, channel) == 0) == (integers.wrong[channel] == 0)
    np.testing.assert_array_equal(found.above, integer_staircase(channels, integers).above)
    np.testing.assert_array_equal(found.below, integer_staircase(channels, integers).below)


def tied(output: QParams, *, bias: float) -> Channels:
    """One channel whose odd accumulators lie exactly between two codes."""
    return Channels(
        input_scale=0.5,
        output=output,
        weight_scale=np.array([output.scale]),
        bias=np.array([bias]),
        lowest=np.array([-40.0]),
        highest=np.array([40.0]),
    )


def test_ties_round_to_even_as_the_ideal_does():
    for output in (unsigned(4, 1.0), signed(4, 0.25, narrow_range=False), unsigned(8, 2.0)):
        for halves in range(-4, 5):
            channels = tied(output, bias=halves * output.scale / 2)
            integers, _ = solve(channels, ideal_staircase(channels), np.array([18]))
            assert differing(channels, integers, 0) == 0
            assert integers.factor[0] == 16  # the largest power of two, whose products are exact


def test_multiplier_stays_within_what_xnnpack_takes():
    channels = Channels(
        input_scale=1.0,
        output=unsigned(8, 1.0),
        weight_scale=np.array([1e6]),
        bias=np.array([0.0]),
        lowest=np.array([-3.0]),
        highest=np.array([3.0]),
    )
    integers, _ = solve(channels, ideal_staircase(channels), np.array([1]))
    assert integers.weight_scale[0] < 256
    assert differing(channels, integers, 0) == 0


def test_constant_channels_need_no_weights():
    channels = Channels(
        input_scale=0.1,
        output=signed(3, 0.5, narrow_range=True),
        weight_scale=np.array([1e-30, 1e-300, 1.0, 1.0]),
        bias=np.array([0.9, -7.0, 50.0, -0.1]),
        lowest=np.array([-99.0, -99.0, -99.0, 0.0]),
        highest=np.array([99.0, 99.0, 99.0, 0.0]),
    )
    integers, _ = solve(channels, ideal_staircase(channels), np.full(4, 127))
    assert integers.factor.tolist() == [0, 0, 0, 0]
    assert integers.bias.tolist() == [2, -3, 3, 0]
    assert [differing(channels, integers, channel) for channel in range(4)] == [0, 0, 0, 0]
