"""Integers for ideal channels, and how far biases and gains move so that these answer alike.

Where the integers of the trained bias leave too little room, those of the likeliest bias beside
it are looked for, then those of another gain; then of all biases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.channels import Channels, count_thresholds
from keras_quant.graph.passes.realize.room import (
    is_cramped,
    nearest_integer_biases,
    offset_interval,
    room_within,
    roomy_biases,
    roomy_gains,
    settle,
)
from keras_quant.graph.passes.realize.rows import (
    Rows,
    concatenate_rows,
    replace_rows,
    select_rows,
)
from keras_quant.graph.passes.realize.solve import Integers, integer_staircase, solve, solve_exactly
from keras_quant.graph.passes.realize.staircase import (
    FLOAT64_ERROR,
    Staircase,
    count_wrong,
    ideal_staircase,
    select_stairs,
)

# Channels times levels that are looked at together: 1 MB of float64, so that the few arrays of
# a turn stay within a core's cache.
MAX_ELEMENTS = 2**17


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement(Rows):
    """Channels and the integers that answer as they do.

    Attributes:
        bias: (channels,) float64, real; the trained one but where moved.
        weight_scale: (channels,) float64; the trained one but where a gain is moved.
        integers: those that do.
        wrong: (channels,) int64, thresholds of the integers that lie elsewhere than those of
            these biases and scales.
        thresholds: (channels,) int64, all that are within reach of the input.
    """

    bias: np.ndarray
    weight_scale: np.ndarray
    integers: Integers
    wrong: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Placed(Rows):
    """Channels on their way to room.

    Attributes:
        channels: with biases and gains as moved so far.
        integers: their integers.
        room: (channels,) float64, how far their biases are from having other staircases than
            the integers, in accumulator steps; below 0 where they have others.
    """

    channels: Channels
    integers: Integers
    room: np.ndarray


def place(trained: Channels, max_factor: np.ndarray, *, snap: bool, move_gain: bool) -> Placement:
    """Finds integers for channels, each by itself.

    Args:
        trained: the ideal channels.
        max_factor: (channels,) int64, the most that weight codes are multiplied by; 0 where no
            factor keeps within int32.
        snap: whether biases may be moved.
        move_gain: whether gains may be moved, too.
    """
    rows = max(1, MAX_ELEMENTS // len(trained.levels))
    parts = []
    for start in range(0, max(1, len(max_factor)), rows):
        part = slice(start, start + rows)
        few, factors = select_rows(trained, part), max_factor[part]
        parts.append(_place(few, factors, snap=snap, move_gain=move_gain))
    return concatenate_rows(parts)


def _place(trained: Channels, max_factor: np.ndarray, *, snap: bool, move_gain: bool) -> Placement:
    stairs = ideal_staircase(trained)
    integers, found = solve(trained, stairs, max_factor)
    moved, wrong = trained, integers.wrong
    if snap:
        settled = replace(trained, bias=settle(trained, *offset_interval(trained, found)))
        placed = _placed(settled, integers, found)
        placed = _make_room(trained, placed, max_factor, move_gain=move_gain)
        moved, integers, wrong = placed.channels, placed.integers, _count_wrong(placed)
    return Placement(
        bias=moved.bias,
        weight_scale=moved.weight_scale,
        integers=integers,
        wrong=wrong,
        thresholds=count_thresholds(trained),
    )


def _placed(channels: Channels, integers: Integers, stairs: Staircase) -> _Placed:
    """Joins channels with integers of given staircases."""
    room = room_within(channels, *offset_interval(channels, stairs))
    return _Placed(channels=channels, integers=integers, room=room)


def _make_room(
    trained: Channels, placed: _Placed, max_factor: np.ndarray, *, move_gain: bool
) -> _Placed:
    """Looks for integers with room, for those channels that have too little.

    Args:
        trained: in whose neighbourhood biases are looked for.
        placed: those channels with their biases settled.
    """
    open_ = np.arange(len(max_factor))
    for biases in (nearest_integer_biases, roomy_biases):
        open_ = _cramped(placed, open_)
        placed = _search(placed, open_, select_rows(trained, open_), max_factor, biases)
        if move_gain:
            open_ = _cramped(placed, open_)
            start = select_rows(placed.channels, open_)
            start = replace(start, weight_scale=start.weight_scale * roomy_gains(start))
            placed = _search(placed, open_, start, max_factor, biases)
    return placed


def _cramped(placed: _Placed, index: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the given positions whose channels have too little room."""
    few = select_rows(placed, index)
    return index[is_cramped(few.channels, few.room)]


def _search(
    placed: _Placed,
    index: np.ndarray,
    start: Channels,
    max_factor: np.ndarray,
    find_biases: Callable[[Channels, np.ndarray], np.ndarray],
) -> _Placed:
    """Looks for integers of roomy biases around those of `start`; else keeps what is placed.

    Args:
        index: positions (some,) of the channels to look at.
        start: those channels, with the gains that they are to have.
        find_biases: gives biases (some, tries) to try in turn, from channels and the room that
            they have; NaN where there are no more.
    """
    if index.size == 0:
        return placed
    open_ = np.arange(len(index))
    for biases in find_biases(start, placed.room[index]).T:
        open_ = open_[np.isfinite(biases[open_])]
        if open_.size == 0:
            break
        channels = replace(select_rows(start, open_), bias=biases[open_])
        stairs = ideal_staircase(channels)
        integers = solve_exactly(channels, stairs, max_factor[index[open_]])
        found = integers.wrong == 0
        if found.any():
            channels, stairs = select_rows(channels, found), select_stairs(stairs, found)
            part = _placed(channels, select_rows(integers, found), stairs)
            placed = replace_rows(placed, index[open_[found]], part)
        open_ = open_[~found]
    return placed


def _count_wrong(placed: _Placed) -> np.ndarray:
    """Thresholds that integers have elsewhere than their channels, (channels,) int64.

    None, where the bias lies further within the interval than rounding errors reach.
    """
    channels = placed.channels
    largest = np.abs(channels.heights).max()
    error = FLOAT64_ERROR * (largest * channels.pitch + np.abs(channels.offset))
    wrong, open_ = np.zeros(len(error), np.int64), ~(placed.room > error)
    few = select_rows(placed, open_)
    found = integer_staircase(few.channels, few.integers)
    wrong[open_] = count_wrong(ideal_staircase(few.channels), found)
    return wrong
