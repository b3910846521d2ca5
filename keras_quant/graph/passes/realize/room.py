"""Where a trained channel's bias may lie so that it answers as its integers do, with room to spare.

Integers answer with a staircase of their own. The trained channel has the same one for an
interval of biases, usually a tenth of an accumulator step wide; at its ends some accumulator
lies on a tie, half-way between two codes, and there Keras' float32 may round it the other way:
then at every position and image with that accumulator. So biases are kept off the ends.

With 255 thresholds there is often no room for any bias: modulo one accumulator step, thresholds
lie anywhere, if the pitch (accumulator steps an output step) is any number. With a pitch of
m / q, m an odd integer and q a power of two, they lie on the odd multiples of 1 / 2q, half a place
away from integers on both sides: a gain moved by less than a thousandth makes room around every
integer, which is where a kernel has its bias whatever its weights are multiplied by.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.staircase import Staircase

# Rounding error of a float32 sum and of the gain behind it, as a share of the largest the sum
# could be: a unit in the last place each. Sums of many terms seldom come near their bound, which
# leaves room for the adding up of errors; those of a first layer do. On Fashion-MNIST
# (mobilenet_v2, w4a8) no code of 600 images then differs from Keras', where half of it, and half
# of ENOUGH, leaves 5 in the first layer.
FLOAT32_ERROR = 2.0**-22
# Room of at least this share of what could be had is left as it is, so that a model whose
# biases were moved once is not moved again for float32's rounding of them.
ENOUGH = 0.5
# A channel with the right staircase is not moved by more than this for the sake of room. Only
# one whose single accumulator step passes many codes would be, and its sums are short.
MAX_MOVE_STEPS = 0.05
# Where no interval is twice as wide as the needed room, a bias has this share of the widest.
NEARLY_HALF = 0.45
# A bias kept in float32 cannot be placed finer than this share of itself.
PLACED = 2.0**-23
# Rounding error of the ends of intervals, in accumulator steps.
DUST = 2.0**-40
# A channel that has this share of the room that another gain, or other biases, could give stays.
NEARLY_ALL = 0.9
MAX_TRIES = 16
# A gain is moved by at most this share: a quarter of an output step at the end of 8 bits.
MAX_GAIN_MOVE = 2.0**-10
PITCH_DIVISORS = (1, 2, 4, 8, 16, 32, 64)
# A gain kept in float32 cannot be placed finer than this share of itself.
PLACED_GAIN = 2.0**-23


def offset_interval(
    channels: Channels, stairs: Staircase
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The biases with which the ideal channels have the given staircase.

    Args:
        channels: their unit counts, not their bias.
        stairs: thresholds to have.
    Returns: low, high: two (channels,) float64, in accumulator steps: biases strictly between
        them do; low is not the smaller one where no bias does.
    """
    ties = np.multiply.outer(channels.pitch, stairs.heights)
    # -inf and +inf, of levels out of reach, bound nothing.
    low = (ties - stairs.above).max(axis=1)
    high = np.subtract(ties, stairs.below, out=ties).min(axis=1)
    return low, high


def settle(
    channels: Channels, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Moves biases, no further than needed, to where the ideal channels have a staircase.

    Args:
        channels: as trained.
        low, high: the `offset_interval` of the staircase to have: that of the channels' integers.
    Returns: (channels,) float64 biases, real: with `needed_room` to either end of the interval,
        or in its middle where it is narrower. Biases that have enough room stay as they are,
        and so do those with the right staircase where all scales are powers of two: float32
        computes these without error, and ties are where the model was meant to have them.
    """
    offset, multiplier = channels.offset, channels.unit / channels.output.scale
    room = np.minimum(needed_room(channels), (high - low) / 2)
    enough = ENOUGH * np.maximum(room, 0)
    # A width below 0 puts the middle between ends that have changed places.
    ends = np.sort([low + room, high - room], axis=0)
    settled = np.clip(offset, *ends)
    distance = np.abs(settled - offset)
    has_room = (offset - low >= enough) & (high - offset >= enough)
    large = distance * multiplier > MAX_MOVE_STEPS
    inside = (offset >= low) & (offset <= high)
    stays = (inside & (_are_ties_meant(channels) | has_room | large)) | (
        distance <= PLACED * np.abs(offset) + DUST
    )
    return np.where(stays, channels.bias, settled * channels.unit)


def room_within(
    channels: Channels, low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far biases are from the ends of an interval, (channels,) float64 accumulator steps.

    Args:
        low, high: the `offset_interval` of the channels' integers.
    Returns: below 0 for biases outside.
    """
    return np.minimum(channels.offset - low, high - channels.offset)


def is_cramped(channels: Channels, room: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(channels,) bool: whose bias has too little room, and whose ties are not meant."""
    return (room < ENOUGH * needed_room(channels)) & ~_are_ties_meant(channels)


def nearest_integer_biases(channels: Channels, room: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest bias with more room whose staircase an integer bias has as well.

    So integers are found at once. Modulo one step all integers are one place, and lie between the
    same two ties.

    Args:
        room: (channels,) what the channels have.
    Returns: (channels, 1) float64, real, as `roomy_biases`; NaN where there is none.
    """
    ties, wanted = _ties_and_room(channels)
    every, offset = np.arange(len(ties)), channels.offset
    place = np.ceil(offset) - offset
    ties = np.concatenate([ties[:, -1:] - 1, ties, ties[:, :1] + 1], axis=1)
    upper = np.count_nonzero(ties[:, :-1] <= place[:, None], axis=1)
    low, high = ties[every, upper - 1] + wanted, ties[every, upper] - wanted
    has_room = (low <= place) & (place <= high)
    beyond = [np.clip(0.0, low - back, high - back) for back in (0, 1)]
    moves = np.where(np.abs(beyond[0]) <= np.abs(beyond[1]), *beyond)
    allowed = has_room & (np.abs(moves) <= MAX_MOVE_STEPS * channels.pitch)
    allowed &= room < NEARLY_ALL * wanted
    return np.where(allowed, (offset + moves) * channels.unit, np.nan)[:, None]


def roomy_biases(channels: Channels, room: NDArray[np.float64]) -> NDArray[np.float64]:
    """Biases at the ends of intervals with more room, whatever staircase they give.

    Args:
        room: (channels,) what the channels have.
    Returns: (channels, MAX_TRIES) float64, real, at most one accumulator step and the needed
        room from the channel's own; the nearest first; NaN where there are no more.
    """
    ties, wanted = _ties_and_room(channels)
    worth = (room < NEARLY_ALL * wanted)[:, None]
    wanted, pitch = wanted[:, None], channels.pitch[:, None]
    ends = np.concatenate([ties - 1, ties], axis=1)
    low, high = ends[:, :-1] + wanted, ends[:, 1:] - wanted
    moves = np.clip(0.0, low, high)
    has_room = (np.diff(ends, axis=1) >= 2 * wanted) & (np.abs(moves) <= MAX_MOVE_STEPS * pitch)
    moves = np.where(has_room & worth, moves, np.nan)
    order = np.argsort(np.abs(moves), axis=1)[:, :MAX_TRIES]  # NaN last
    found: NDArray[np.float64] = np.full((len(ties), MAX_TRIES), np.nan)
    found[:, : order.shape[1]] = np.take_along_axis(moves, order, axis=1)
    return (channels.offset[:, None] + found) * channels.unit[:, None]


def _ties_and_room(channels: Channels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where ties lie, from the offset on, modulo one step; and the room that is wanted.

    Returns: ties (channels, levels) float64 in 0 .. 1, ascending; room (channels,) float64 in
        accumulator steps: that which is needed, or nearly half of the widest interval.
    """
    ties = np.multiply.outer(channels.pitch, channels.heights)
    ties -= channels.offset[:, None]
    ties -= np.floor(ties)
    ties.sort(axis=1)
    around = ties[:, 0] + 1 - ties[:, -1]
    widest = np.maximum(np.diff(ties, axis=1).max(axis=1, initial=0), around)
    return ties, np.minimum(needed_room(channels), NEARLY_HALF * widest)


def roomy_gains(channels: Channels) -> NDArray[np.float64]:
    """Gains, near 1, that put the channels' ties on a few places modulo one accumulator step.

    The places are the odd multiples of 1 / 2q, from which integers keep away.

    Returns: (channels,) float64 factors of the unit: the nearest to 1 that leave twice the needed
        room, else the fewest places that are reached within MAX_GAIN_MOVE; 1 for a channel whose
        pitch is too short for that, or so near to such places that float32 puts it no nearer.
    """
    pitch, needed = channels.pitch, needed_room(channels)
    gains = np.ones_like(pitch)
    for divisor in PITCH_DIVISORS:
        near = (2 * np.rint((pitch * divisor - 1) / 2) + 1) / divisor  # an odd numerator
        reached = np.abs(near - pitch) <= MAX_GAIN_MOVE * pitch
        leaves_room = 1 / (2 * divisor) >= 2 * needed
        gains = np.where(reached & (leaves_room | (gains == 1)), pitch / near, gains)
    return np.where(np.abs(gains - 1) <= PLACED_GAIN, 1.0, gains)


def needed_room(channels: Channels) -> NDArray[np.float64]:
    """(channels,) float64: float32's error in accumulator steps; at most a quarter."""
    largest = channels.reach + np.abs(channels.offset)
    return np.minimum(largest * FLOAT32_ERROR, 0.25)


def _are_ties_meant(channels: Channels) -> NDArray[np.bool_]:
    """(channels,) bool: all scales are powers of two, with which float32 makes no error.

    A product that is one is not enough: pixels of 1/255 times a gain of 255 are no whole numbers in
    float32, so that Keras would round a half of them to either side.
    """
    is_power = [
        np.frexp(scale)[0] == 0.5
        for scale in (channels.input_scale, channels.output.scale, channels.weight_scale)
    ]
    meant: NDArray[np.bool_] = np.logical_and.reduce(np.broadcast_arrays(*is_power))
    return meant
