from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.graph.passes.staircase import Channels, ideal_staircase
from keras_quant.graph.passes.ties import (
    ENOUGH,
    MAX_MOVE_STEPS,
    needed_room,
    snapped_bias,
    tie_shift,
)
from keras_quant.qparams import unsigned

REACH = 1000.0


def channels_of(unit, bias, *, bits: int = 3) -> Channels:
    unit, bias = np.atleast_1d(np.float64(unit)), np.atleast_1d(np.float64(bias))
    return Channels(
        input_scale=1.0,
        output=unsigned(bits, 1.0),
        weight_scale=unit,
        bias=bias,
        lowest=np.full(len(unit), -REACH),
        highest=np.full(len(unit), REACH),
    )


def room_of(channels: Channels) -> np.ndarray:
    """Distance of the nearest tie from an integer, by trying every accumulator."""
    n = np.arange(-REACH, REACH + 1)
    output = channels.output
    heights = np.arange(output.qmin + 1, output.qmax + 1) - 0.5
    real = (n[None] * channels.unit[:, None] + channels.bias[:, None]) / output.scale
    distance = np.abs(real[:, :, None] - heights).min(axis=(1, 2))
    return distance * output.scale / channels.unit


def moved(channels: Channels) -> Channels:
    shift = tie_shift(channels, ideal_staircase(channels))
    return dataclasses.replace(channels, bias=channels.bias + shift * channels.unit)


def test_a_channel_on_a_tie_is_moved_just_off_it():
    # 10 * 0.22 - 0.7 = 1.5: seen in a trained net, where Keras rounded 458 codes the other way.
    channels = channels_of(0.22, -0.7 + 1e-9)
    needed = needed_room(channels)
    assert room_of(channels) < needed
    assert room_of(moved(channels)) >= 0.999 * needed
    assert np.abs(moved(channels).bias - channels.bias) <= 1.001 * needed * 0.22


def test_a_channel_with_room_stays():
    channels = channels_of(0.22, -0.61)
    assert room_of(channels) > needed_room(channels)
    assert tie_shift(channels, ideal_staircase(channels)) == 0


def test_ties_of_powers_of_two_are_meant():
    assert tie_shift(channels_of(0.25, 0.5), ideal_staircase(channels_of(0.25, 0.5))) == 0


def test_a_move_that_is_large_beside_an_output_step_is_not_made():
    channels = channels_of(300.1, 0.5)  # the accumulator 0 lies on a tie, and is exact in float32
    shift = tie_shift(channels, ideal_staircase(channels))
    assert np.abs(shift * channels.unit) <= MAX_MOVE_STEPS


@given(
    unit=st.floats(1e-3, 0.5),
    level=st.integers(1, 7),
    accumulator=st.integers(-900, 900),
    off=st.floats(-1e-6, 1e-6),
)
def test_moves_are_small_leave_room_and_are_made_once(unit, level, accumulator, off):
    channels = channels_of(unit, level - 0.5 - accumulator * unit + off * unit)
    once = moved(channels)
    assert np.abs(once.bias - channels.bias) <= min(unit / 2, MAX_MOVE_STEPS)
    room, needed = room_of(once), needed_room(channels)
    mantissa, _ = np.frexp(unit)
    if mantissa != 0.5 and once.bias != channels.bias:
        assert room >= ENOUGH * min(needed[0], 1 / 28)  # 7 ties leave a gap of a seventh at least
        np.testing.assert_array_equal(moved(once).bias, once.bias)


@pytest.mark.parametrize("factor", [1, 2, 9, 18])
def test_snapped_bias_is_an_integer_within_one_accumulator_step_of_the_own_one(factor):
    rng = np.random.default_rng(0)
    channels = channels_of(rng.uniform(0.001, 0.3, 200), rng.normal(0, 3, 200))
    bias = snapped_bias(channels, ideal_staircase(channels), np.full(200, factor))
    np.testing.assert_array_equal(bias, np.rint(bias))
    distance = np.abs(bias / factor - channels.bias / channels.unit)
    assert (distance <= 0.5 / factor + 0.5).all()


def test_snapped_bias_is_not_the_nearest_where_that_lies_on_a_tie():
    # 1.5 / 0.3 = 5, so that every whole offset puts an accumulator on the tie at 1.5.
    channels = channels_of(0.3, 4.1 * 0.3, bits=2)
    stairs = ideal_staircase(channels)
    assert snapped_bias(channels, stairs, np.array([2])) == 9  # offset 4.5; 8 would be nearer
    assert snapped_bias(channels, stairs, np.array([1])) == 4  # there is no other
