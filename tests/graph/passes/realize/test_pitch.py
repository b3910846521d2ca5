"""The search for a bias against trying all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.pitch import pitch_interval, widest_bias
from keras_quant.graph.passes.realize.staircase import Staircase, ideal_staircase
from keras_quant.qparams import signed, unsigned

SEARCH_PRECISION = 1e-4  # the peak's length is found to a millionth of pitches of up to 50


def staircase(seed: int, *, bits: int, is_signed: bool) -> tuple[Staircase, np.ndarray, np.ndarray]:
    """Five random channels: their staircase, offset and pitch."""
    rng = np.random.default_rng(seed)
    scale, bias = rng.uniform(0.01, 0.2, 5), rng.normal(size=5)
    channels = Channels(
        input_scale=1.0,
        output=signed(bits, 0.5, narrow_range=False) if is_signed else unsigned(bits, 0.5),
        weight_scale=scale,
        bias=bias,
        lowest=np.full(5, -300.0),
        highest=np.full(5, 300.0),
    )
    return ideal_staircase(channels), bias / scale, 0.5 / scale


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 5), is_signed=st.booleans())
def test_ideal_pitch_is_allowed_at_the_ideal_offset(seed, bits, is_signed):
    stairs, offset, pitch = staircase(seed, bits=bits, is_signed=is_signed)
    low, high = pitch_interval(stairs, offset[:, None], pitch)
    assert (low[:, 0] <= pitch).all() and (pitch <= high[:, 0]).all()


@given(seed=st.integers(0, 10**6), bits=st.integers(1, 5), is_signed=st.booleans())
def test_no_bias_leaves_more_room_than_the_one_found(seed, bits, is_signed):
    stairs, offset, pitch = staircase(seed, bits=bits, is_signed=is_signed)
    max_factor = np.array([1, 2, 7, 18, 31])
    found, *integers = widest_bias(stairs, max_factor=max_factor, offset=offset, pitch=pitch)
    factor, bias = (np.zeros(5) for _ in integers)
    factor[found], bias[found] = integers
    assert (bias == np.rint(bias)).all() and (factor <= max_factor).all()
    low, high = pitch_interval(stairs, (bias / np.maximum(factor, 1))[:, None], pitch)
    length = np.where(found, (high - low)[:, 0], 0)
    for channel, most in enumerate(max_factor):
        every = [
            (k, b)
            for k in range(1, most + 1)
            for b in range(*np.floor(k * (offset[channel] + [-1, 1])).astype(int))
        ]
        ratios = np.tile([b / k for k, b in every], (5, 1))
        lows, highs = pitch_interval(stairs, ratios, pitch)
        longest = (highs - lows)[channel].max()
        assert length[channel] >= longest - SEARCH_PRECISION
