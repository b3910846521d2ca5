"""Channels placed together against each by itself."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from keras_quant.graph.passes.realize import place as module
from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.place import place
from keras_quant.graph.passes.realize.room import (
    is_cramped,
    needed_room,
    offset_interval,
    room_within,
)
from keras_quant.graph.passes.realize.solve import integer_staircase
from keras_quant.graph.passes.realize.staircase import count_wrong, ideal_staircase
from keras_quant.qparams import unsigned

COUNT = 64


def channels_of(seed: int, *, bits: int, reach: float) -> Channels:
    rng = np.random.default_rng(seed)
    pitch = rng.uniform(2, 300, COUNT)
    return Channels(
        input_scale=1 / 255,
        output=unsigned(bits, 0.03),
        weight_scale=0.03 * 255 / pitch,
        bias=rng.normal(0, 0.03 * 2**bits / 3, COUNT),
        lowest=np.full(COUNT, -reach),
        highest=np.full(COUNT, reach),
    )


@pytest.mark.parametrize(("bits", "reach"), [(4, 4e3), (8, 4e4), (8, 1e6)])
@pytest.mark.parametrize("factor", [1, 9])
def test_channels_do_not_depend_on_those_beside_them(
    bits: int, reach: float, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels, factors = channels_of(0, bits=bits, reach=reach), np.full(COUNT, factor)
    together = place(channels, factors, snap=True, move_gain=True)
    monkeypatch.setattr(module, "MAX_ELEMENTS", 1)
    alone = place(channels, factors, snap=True, move_gain=True)
    for one, other in ((together, alone), (together.integers, alone.integers)):
        for field in fields(one):
            if field.name != "integers":
                a, b = getattr(one, field.name), getattr(other, field.name)
                np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.mark.parametrize("move_gain", [True, False])
def test_with_gains_all_channels_get_room_and_without_not(move_gain: bool) -> None:
    channels = channels_of(1, bits=8, reach=4e4)
    placed = place(channels, np.ones(COUNT, np.int64), snap=True, move_gain=move_gain)
    moved = replace(channels, bias=placed.bias, weight_scale=placed.weight_scale)
    found = integer_staircase(channels, placed.integers)
    np.testing.assert_array_equal(placed.wrong, count_wrong(ideal_staircase(moved), found))
    room = room_within(moved, *offset_interval(moved, found))
    assert (room[placed.wrong > 0] < needed_room(moved)[placed.wrong > 0]).all()
    cramped = is_cramped(moved, room)
    assert cramped.any() != move_gain
    assert (placed.weight_scale == channels.weight_scale).all() != move_gain
