"""Where a trained channel's bias may lie so that it answers as its integers do, with room to spare.

Integers answer with a staircase of their own. The trained channel has the same one for an
interval of biases, usually a tenth of an accumulator step wide; at its ends some accumulator
lies on a tie, half-way between two codes, and there Keras' float32 may round it the other way:
then at every position and image with that accumulator. So biases are kept off the ends.

With 255 thresholds there is often no room for any bias: modulo one accumulator step, thresholds
lie anywhere, if the pitch (accumulator steps an output step) is any number. With a pitch of
m / q, m an integer, they lie on q places at equal distances: a gain moved by less than a
thousandth makes room.
"""

from __future__ import annotations

import numpy as np

from keras_quant.graph.passes.staircase import Channels, Staircase, ideal_staircase

# Rounding error of a float32 sum and of the gain behind it, as a share of the largest the sum
# could be: half a unit in the last place each. Sums seldom come near their bound, which leaves
# room for the adding up of errors. On CIFAR-10 (resnet20, w4a4) logits of 2 of 10,000 images
# then differ from Keras', where half of it leaves 25.
FLOAT32_ERROR = 2.0**-23
# Room of at least this share of what could be had is left as it is, so that a model whose
# biases were moved once is not moved again for float32's rounding of them.
ENOUGH = 0.25
# A channel with the right staircase is not moved by more than this for the sake of room. Only
# one whose single accumulator step passes many codes would be, and its sums are short.
MAX_MOVE_STEPS = 0.02
# A bias kept in float32 cannot be placed finer than this share of itself.
PLACED = 2.0**-23
# Rounding error of the ends of intervals, in accumulator steps.
DUST = 2.0**-40
MAX_TRIES = 16
# A gain is moved by at most this share: a quarter of an output step at the end of 8 bits.
MAX_GAIN_MOVE = 2.0**-10
PITCH_DIVISORS = (1, 2, 4, 8)


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
        and so do those of power-of-two multipliers with the right staircase: float32 computes
        these without error, and ties are where the model was meant to have them.
    """
    low, high = offset_interval(channels, stairs)
    offset, multiplier = channels.bias / channels.unit, channels.unit / channels.output.scale
    room = np.minimum(needed_room(channels), (high - low) / 2)
    enough = ENOUGH * np.maximum(room, 0)
    # A width below 0 puts the middle between ends that have changed places.
    ends = np.sort([low + room, high - room], axis=0)
    settled = np.clip(offset, *ends)
    distance = np.abs(settled - offset)
    mantissa, _ = np.frexp(multiplier)
    has_room = (offset - low >= enough) & (high - offset >= enough)
    large = distance * multiplier > MAX_MOVE_STEPS
    inside = (offset >= low) & (offset <= high)
    stays = (inside & ((mantissa == 0.5) | has_room | large)) | (
        distance <= PLACED * np.abs(offset) + DUST
    )
    return np.where(stays, channels.bias, settled * channels.unit)


def find_cramped(channels: Channels, stairs: Staircase) -> np.ndarray:
    """Positions of channels whose bias has too little room, and whose ties are not meant."""
    low, high = offset_interval(channels, stairs)
    offset = channels.bias / channels.unit
    mantissa, _ = np.frexp(channels.unit / channels.output.scale)
    room = np.minimum(offset - low, high - offset)
    return np.flatnonzero((room < ENOUGH * needed_room(channels)) & (mantissa != 0.5))


def roomy_biases(channels: Channels) -> np.ndarray:
    """Biases at the ends of intervals that have room, whatever staircase they give.

    Returns: (channels, up to MAX_TRIES) float64 biases, real, by their distance from the
        channel's own, which is at most one accumulator step and the needed room; NaN where
        there are no more.
    """
    offset, needed = channels.bias / channels.unit, needed_room(channels)
    heights = ideal_staircase(channels).heights
    found = np.full((len(offset), MAX_TRIES), np.nan)
    for index, pitch in enumerate(channels.output.scale / channels.unit):
        fractions = np.sort(np.mod(heights * pitch - offset[index], 1.0))
        ends = np.concatenate([fractions - 1, fractions])
        wide = np.flatnonzero(np.diff(ends) >= 2 * needed[index])
        moves = np.clip(0.0, ends[wide] + needed[index], ends[wide + 1] - needed[index])
        moves = moves[np.argsort(np.abs(moves))][:MAX_TRIES]
        small = moves[np.abs(moves) <= MAX_MOVE_STEPS * pitch]
        found[index, : len(small)] = (offset[index] + small) * channels.unit[index]
    return found


def roomy_gains(channels: Channels) -> np.ndarray:
    """Gains, near 1, that put the channels' ties on a few places modulo one accumulator step.

    Returns: (channels,) float64 factors of the unit: the nearest to 1 that leave twice the needed
        room, else the fewest places that are reached within MAX_GAIN_MOVE; 1 for a channel whose
        pitch is too short for that.
    """
    pitch, needed = channels.output.scale / channels.unit, needed_room(channels)
    gains = np.ones_like(pitch)
    for divisor in PITCH_DIVISORS:
        near = np.maximum(np.rint(pitch * divisor), 1) / divisor
        reached = np.abs(near - pitch) <= MAX_GAIN_MOVE * pitch
        leaves_room = 1 / (2 * divisor) >= 2 * needed
        gains = np.where(reached & (leaves_room | (gains == 1)), pitch / near, gains)
    return gains


def needed_room(channels: Channels) -> np.ndarray:
    """(channels,) float64: float32's error in accumulator steps; at most a quarter."""
    reach = np.maximum(channels.highest, -channels.lowest) + np.abs(channels.bias / channels.unit)
    return np.minimum(reach * FLOAT32_ERROR, 0.25)
