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

from keras_quant.graph.passes.staircase import Channels, Staircase, ideal_staircase

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
MAX_TRIES = 16
# A gain is moved by at most this share: a quarter of an output step at the end of 8 bits.
MAX_GAIN_MOVE = 2.0**-10
PITCH_DIVISORS = (1, 2, 4, 8, 16, 32, 64)


def offset_interval(channels: Channels, stairs: Staircase) -> tuple[np.ndarray, np.ndarray]:
    """The biases with which the ideal channels have the given staircase.

    Args:
        channels: their unit counts, not their bias.
        stairs: thresholds to have.
    Returns: two (channels,) float64, in accumulator steps: biases strictly between them do;
        the first is not the smaller one where no bias does.
    """
    ties = stairs.heights * (channels.output.scale / channels.unit)[:, None]
    low = np.where(np.isfinite(stairs.above), ties - stairs.above, -np.inf).max(axis=1)
    high = np.where(np.isfinite(stairs.below), ties - stairs.below, np.inf).min(axis=1)
    return low, high


def settle(channels: Channels, stairs: Staircase) -> np.ndarray:
    """Moves biases, no further than needed, to where the ideal channels have a staircase.

    Args:
        channels: as trained.
        stairs: thresholds to have: those of the channels' integers.
    Returns: (channels,) float64 biases, real: with `needed_room` to either end of the interval,
        or in its middle where it is narrower. Biases that have enough room stay as they are,
        and so do those with the right staircase where all scales are powers of two: float32
        computes these without error, and ties are where the model was meant to have them.
    """
    low, high = offset_interval(channels, stairs)
    offset, multiplier = channels.bias / channels.unit, channels.unit / channels.output.scale
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


def find_cramped(channels: Channels, stairs: Staircase) -> np.ndarray:
    """Positions of channels whose bias has too little room, and whose ties are not meant."""
    low, high = offset_interval(channels, stairs)
    offset = channels.bias / channels.unit
    room = np.minimum(offset - low, high - offset)
    return np.flatnonzero((room < ENOUGH * needed_room(channels)) & ~_are_ties_meant(channels))


def _are_ties_meant(channels: Channels) -> np.ndarray:
    """(channels,) bool: all scales are powers of two, with which float32 makes no error.

    A product that is one is not enough: pixels of 1/255 times a gain of 255 are no whole numbers in
    float32, so that Keras would round a half of them to either side.
    """
    is_power = [
        np.frexp(scale)[0] == 0.5
        for scale in (channels.input_scale, channels.output.scale, channels.weight_scale)
    ]
    return np.logical_and.reduce(np.broadcast_arrays(*is_power))


def roomy_biases(channels: Channels) -> np.ndarray:
    """Biases at the ends of intervals that have room, whatever staircase they give.

    Returns: (channels, 1 + MAX_TRIES) float64 biases, real, at most one accumulator step and the
        needed room from the channel's own. The first is the nearest whose staircase an integer
        bias has as well, so that integers are found at once; then all by their distance; NaN
        where there are no more.
    """
    offset, needed = channels.bias / channels.unit, needed_room(channels)
    heights = ideal_staircase(channels).heights
    found = np.full((len(offset), 1 + MAX_TRIES), np.nan)
    for index, pitch in enumerate(channels.output.scale / channels.unit):
        ties = np.mod(heights * pitch - offset[index], 1.0)
        moves, has_integer = _roomy_moves(ties, offset[index], needed[index])
        small = np.abs(moves) <= MAX_MOVE_STEPS * pitch
        for place, chosen in ((0, moves[small & has_integer][:1]), (1, moves[small][:MAX_TRIES])):
            biases = (offset[index] + chosen) * channels.unit[index]
            found[index, place : place + len(biases)] = biases
    return found


def _roomy_moves(ties: np.ndarray, offset: float, needed: float) -> tuple[np.ndarray, np.ndarray]:
    """The moves of an offset to where it has room, in accumulator steps, by their length.

    Args:
        ties: where ties lie, from the offset on, modulo one step; (levels,) in 0 .. 1.
    Returns: (moves,) float64, and (moves,) bool: an integer lies as far from all ties.
    """
    fractions = np.sort(ties)
    ends = np.concatenate([fractions - 1, fractions])
    widths = np.diff(ends)
    room = min(needed, NEARLY_HALF * widths.max())
    wide = np.flatnonzero(widths >= 2 * room)
    low, high = ends[wide] + room, ends[wide + 1] - room
    moves = np.clip(0.0, low, high)
    order = np.argsort(np.abs(moves))
    has_integer = np.floor(offset + high) >= offset + low
    return moves[order], has_integer[order]


def roomy_gains(channels: Channels) -> np.ndarray:
    """Gains, near 1, that put the channels' ties on a few places modulo one accumulator step.

    The places are the odd multiples of 1 / 2q, from which integers keep away.

    Returns: (channels,) float64 factors of the unit: the nearest to 1 that leave twice the needed
        room, else the fewest places that are reached within MAX_GAIN_MOVE; 1 for a channel whose
        pitch is too short for that.
    """
    pitch, needed = channels.output.scale / channels.unit, needed_room(channels)
    gains = np.ones_like(pitch)
    for divisor in PITCH_DIVISORS:
        near = (2 * np.rint((pitch * divisor - 1) / 2) + 1) / divisor  # an odd numerator
        reached = np.abs(near - pitch) <= MAX_GAIN_MOVE * pitch
        leaves_room = 1 / (2 * divisor) >= 2 * needed
        gains = np.where(reached & (leaves_room | (gains == 1)), pitch / near, gains)
    return gains


def needed_room(channels: Channels) -> np.ndarray:
    """(channels,) float64: float32's error in accumulator steps; at most a quarter."""
    reach = np.maximum(channels.highest, -channels.lowest) + np.abs(channels.bias / channels.unit)
    return np.minimum(reach * FLOAT32_ERROR, 0.25)
