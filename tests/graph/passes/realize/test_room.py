from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.room import (
    ENOUGH,
    MAX_GAIN_MOVE,
    MAX_MOVE_STEPS,
    is_cramped,
    nearest_integer_biases,
    needed_room,
    offset_interval,
    room_within,
    roomy_biases,
    roomy_gains,
    settle,
)
from keras_quant.graph.passes.realize.staircase import Staircase, ideal_staircase
from keras_quant.qparams import unsigned

REACH = 1000.0
AN_EIGHTH_STEP = 1 / 16  # half the distance of 8 places
FLOAT64_ROUNDING = 1e-9
NONE = np.array([-np.inf])  # room that channels have


def channels_of(unit, bias, *, bits: int = 3) -> Channels:
    unit, bias = np.broadcast_arrays(np.atleast_1d(np.float64(unit)), np.float64(bias))
    return Channels(
        input_scale=1.0,
        output=unsigned(bits, 1.0),
        weight_scale=unit,
        bias=bias,
        lowest=np.full(len(unit), -REACH),
        highest=np.full(len(unit), REACH),
    )


def with_bias(channels: Channels, bias: np.ndarray) -> Channels:
    return dataclasses.replace(channels, bias=bias)


def settled(channels: Channels, stairs: Staircase) -> np.ndarray:
    return settle(channels, *offset_interval(channels, stairs))


def cramped(channels: Channels, stairs: Staircase) -> np.ndarray:
    return is_cramped(channels, room_within(channels, *offset_interval(channels, stairs)))


def room_of(channels: Channels) -> np.ndarray:
    """Distance of the nearest tie from an integer, by trying every accumulator."""
    n = np.arange(-REACH, REACH + 1)
    output = channels.output
    heights = np.arange(output.qmin + 1, output.qmax + 1) - 0.5
    real = (n[None] * channels.unit[:, None] + channels.bias[:, None]) / output.scale
    distance = np.abs(real[:, :, None] - heights).min(axis=(1, 2))
    return distance * output.scale / channels.unit


def test_a_channel_on_a_tie_moves_just_off_it():
    # 10 * 0.22 - 0.7 = 1.5: seen in a trained net, where Keras rounded 458 codes the other way.
    channels = channels_of(0.22, -0.7 + 1e-9)
    stairs = ideal_staircase(channels)
    needed = needed_room(channels)
    assert room_of(channels) < needed
    moved = with_bias(channels, settled(channels, stairs))
    assert room_of(moved) >= needed - FLOAT64_ROUNDING
    assert np.abs(moved.bias - channels.bias) <= needed * 0.22
    np.testing.assert_array_equal(ideal_staircase(moved).above, stairs.above)


def test_a_channel_with_room_stays():
    channels = channels_of(0.22, -0.61)
    assert room_of(channels) > needed_room(channels)
    assert settled(channels, ideal_staircase(channels)) == channels.bias


@pytest.mark.parametrize("side", [1, -1], ids=["above the lower end", "below the upper end"])
def test_half_of_the_needed_room_is_enough(side: int) -> None:
    channels = channels_of([0.22, 0.22], -0.61)
    stairs, needed = ideal_staircase(channels), needed_room(channels)
    low, high = offset_interval(channels, stairs)
    end = low if side > 0 else high
    beside = with_bias(channels, (end + side * needed * [0.55, 0.45]) * channels.unit)
    assert cramped(beside, stairs).tolist() == [False, True]
    stays, moves = settled(beside, stairs)
    assert stays == beside.bias[0]
    assert moves == pytest.approx((end + side * needed)[1] * 0.22, abs=1e-3 * needed[1] * 0.22)


def test_a_channel_that_has_nearly_all_room_is_given_no_other_bias() -> None:
    channels = channels_of([0.21, 0.21], -0.61)
    needed = needed_room(channels)
    for find in (roomy_biases, nearest_integer_biases):
        biases = find(channels, needed * [0.95, 0.85])
        assert np.isfinite(biases).any(axis=1).tolist() == [False, True]


def test_a_gain_that_float32_puts_no_nearer_stays() -> None:
    for share, stays in ((2.0**-24, True), (2.0**-22, False)):
        near = channels_of(1 / (600.25 * (1 + share)), 0.0, bits=8)
        near = dataclasses.replace(near, highest=np.array([2e5]))
        assert (roomy_gains(near) == 1) == stays


def test_ties_of_powers_of_two_are_meant():
    channels = channels_of(0.25, 0.5)
    assert settled(channels, ideal_staircase(channels)) == channels.bias
    assert not cramped(channels, ideal_staircase(channels)).any()


def test_a_move_that_is_large_beside_an_output_step_is_not_made():
    channels = channels_of(1e12, 0.5)  # the accumulator 0 lies on a tie, and is exact in float32
    assert settled(channels, ideal_staircase(channels)) == channels.bias


def test_a_channel_moves_to_where_it_has_another_staircase():
    channels = channels_of(0.22, [-0.61, -0.61])
    other = ideal_staircase(channels_of(0.22, [-0.61 + 0.3, -0.61 - 0.7]))
    moved = with_bias(channels, settled(channels, other))
    np.testing.assert_array_equal(ideal_staircase(moved).above, other.above)
    assert (room_of(moved) >= ENOUGH * needed_room(channels)).all()


@given(unit=st.floats(1e-3, 0.5), bias=st.floats(-5, 5), bits=st.integers(1, 8))
@example(unit=0.5, bias=2.0**-52, bits=2)
def test_settled_biases_keep_the_staircase_and_settle_once(unit, bias, bits):
    channels = channels_of(unit, bias, bits=bits)
    stairs = ideal_staircase(channels)
    low, high = offset_interval(channels, stairs)
    assert low <= bias / unit + FLOAT64_ROUNDING and bias / unit - FLOAT64_ROUNDING <= high
    once = with_bias(channels, settled(channels, stairs))
    np.testing.assert_array_equal(ideal_staircase(once).above, stairs.above)
    np.testing.assert_array_equal(settled(once, stairs), once.bias)


@given(unit=st.floats(2e-3, 0.3), bias=st.floats(-5, 5), bits=st.integers(1, 4))
def test_roomy_biases_have_room_and_are_near(unit, bias, bits):
    channels = channels_of(unit, bias, bits=bits)
    (others,), ((first,),) = (
        find(channels, NONE) for find in (roomy_biases, nearest_integer_biases)
    )
    found = others[np.isfinite(others)]
    distance = np.abs(found - channels.bias)
    one_step = unit * (1 + needed_room(channels))
    assert (distance <= np.minimum(one_step, MAX_MOVE_STEPS) + FLOAT64_ROUNDING).all()
    assert (np.diff(distance) >= -FLOAT64_ROUNDING).all()
    assert np.isnan(first) or np.abs(found - first).min() <= FLOAT64_ROUNDING
    needed = needed_room(channels)
    for candidate in found:
        assert room_of(with_bias(channels, np.array([candidate]))) >= needed - FLOAT64_ROUNDING


def test_where_no_interval_is_wide_enough_biases_get_near_its_middle():
    channels = dataclasses.replace(channels_of(4 / 1377, 0.3, bits=8), highest=np.array([2e6]))
    assert needed_room(channels) > 1 / 8  # half the distance of 4 places
    for candidate in roomy_biases(channels, NONE)[0, :1]:
        assert room_of(with_bias(channels, np.array([candidate]))) >= 0.9 / 8 - FLOAT64_ROUNDING


@given(unit=st.floats(1 / 512, 1 / 64), bias=st.floats(-5, 5), bits=st.integers(2, 8))
def test_with_a_roomy_gain_the_first_bias_is_one_of_integers(unit, bias, bits):
    unit = unit * roomy_gains(channels_of(unit, bias, bits=bits))
    channels = channels_of(unit, bias, bits=bits)
    first = with_bias(channels, nearest_integer_biases(channels, NONE)[:, 0])
    integers = [with_bias(channels, f(first.bias / unit) * unit) for f in (np.floor, np.ceil)]
    roomy = [c for c in integers if room_of(c) >= needed_room(c) - FLOAT64_ROUNDING]
    above = ideal_staircase(first).above
    assert any(np.array_equal(ideal_staircase(c).above, above) for c in roomy)


@given(unit=st.floats(1 / 512, 1 / 64), bias=st.floats(-5, 5), bits=st.integers(1, 8))
def test_roomy_gains_leave_room_that_a_bias_finds(unit, bias, bits):
    channels = channels_of(unit, bias, bits=bits)
    gain = roomy_gains(channels)
    assert (np.abs(gain - 1) <= MAX_GAIN_MOVE * (1 + FLOAT64_ROUNDING)).all()
    moved = channels_of(unit * gain, bias, bits=bits)
    (found,) = roomy_biases(moved, NONE)
    rooms = [room_of(with_bias(moved, np.array([b])))[0] for b in found[np.isfinite(found)]]
    assert max(rooms) >= min(AN_EIGHTH_STEP, needed_room(moved)[0]) - FLOAT64_ROUNDING


@pytest.mark.parametrize(
    ("reach", "pitch"),
    [(1e3, 600 + 19 / 64), (2e5, 600.25), (2e6, 600.5)],
    ids=["little room is needed", "more", "all of it"],
)
def test_pitches_move_no_further_than_the_needed_room_asks(reach, pitch):
    channels = dataclasses.replace(channels_of(1 / 600.3, 0.3, bits=8), highest=np.array([reach]))
    moved = channels.unit * roomy_gains(channels)
    np.testing.assert_allclose(1 / moved, pitch, rtol=1e-12)


def test_a_pitch_too_short_keeps_its_gain():
    assert roomy_gains(channels_of(1 / 3.9, 0.0)) == 1
