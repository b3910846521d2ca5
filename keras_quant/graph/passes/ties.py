"""Keeping a trained model's values away from ties, which float32 cannot be trusted with.

Where an accumulator puts the output within float32's rounding error of half-way between two
codes, Keras may round it one way and exact arithmetic the other; and then at every position
and image with that accumulator. A channel has a handful of such places at most, and its bias
can be moved off them by much less than an output step.
"""

from __future__ import annotations

import numpy as np

from keras_quant.graph.passes.staircase import Channels, Staircase

# Rounding error of a float32 sum, as a share of the largest it could be: half a unit in the
# last place. Sums seldom come near their bound, which leaves room for the adding up of errors.
FLOAT32_ERROR = 2.0**-24
# Room of at least this share of what could be had is left as it is, so that a model whose
# biases were moved once is not moved again for float32's rounding of them.
ENOUGH = 0.25
# A move must stay small beside an output step. Larger ones are only asked for where a single
# accumulator step passes many codes, and there are few accumulators to be mistaken about.
MAX_MOVE_STEPS = 0.02


def tie_shift(channels: Channels, stairs: Staircase) -> np.ndarray:
    """How far to move each channel's bias so that no accumulator lies near a tie.

    Returns: (channels,) float64 in accumulator steps, each in [-1/2, 1/2]: the smallest move
        that leaves `needed_room`, or the one that leaves the most where none does. 0 where
        there is room already, where the move would pass MAX_MOVE_STEPS, and where the
        multiplier is a power of two: then float32 computes without error, and ties are where
        the model was meant to have them.
    """
    ties = _ties(channels, stairs)
    needed = needed_room(channels)
    multiplier = channels.unit / channels.output.scale
    mantissa, _ = np.frexp(multiplier)
    shift = np.zeros(len(needed))
    room = room_around(ties, shift)
    for index in np.flatnonzero((room < needed) & (mantissa != 0.5)):
        candidate, gained = _best_move(ties[index], needed[index])
        small = abs(candidate) * multiplier[index] <= MAX_MOVE_STEPS
        # The model keeps its bias in float32, so it cannot be placed finer than that.
        placeable = gained > 2 * FLOAT32_ERROR * abs(channels.bias[index] / channels.unit[index])
        if small and placeable and room[index] < ENOUGH * gained:
            shift[index] = candidate
    return shift


def snapped_bias(channels: Channels, stairs: Staircase, factor: np.ndarray) -> np.ndarray:
    """Rounds biases to what integers can say, and not to where they would lie near a tie.

    Args:
        factor: (channels,) int64, >= 1: stored accumulator steps a step of n.
    Returns: (channels,) float64, integers in stored accumulator steps: the nearest one that
        leaves `needed_room`, or the roomiest within one step of n.
    """
    ties, needed = _ties(channels, stairs), needed_room(channels)
    offset = channels.bias / channels.unit
    best = np.rint(offset * factor)
    room = room_around(ties, best / factor - offset)
    for distance in range(1, int(factor.max(initial=1)) // 2 + 1):
        for bias in (np.rint(offset * factor) + distance, np.rint(offset * factor) - distance):
            gained = room_around(ties, bias / factor - offset)
            better = (room < needed) & (gained > room) & (2 * distance <= factor)
            best, room = np.where(better, bias, best), np.where(better, gained, room)
    return best


def needed_room(channels: Channels) -> np.ndarray:
    """(channels,) float64: float32's error in accumulator steps; at most a quarter."""
    reach = np.maximum(channels.highest, -channels.lowest) + np.abs(channels.bias / channels.unit)
    return np.minimum(reach * FLOAT32_ERROR, 0.25)


def room_around(ties: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Distance of the nearest tie from an integer when biases are moved.

    Args:
        ties: (channels, levels), NaN where there is none.
        shift: (channels,), in accumulator steps.
    Returns: (channels,) float64 in [0, 1/2].
    """
    moved = ties - shift[:, None]
    distance = np.abs(moved - np.rint(moved))
    return np.where(np.isnan(distance), 0.5, distance).min(axis=1, initial=0.5)


def _ties(channels: Channels, stairs: Staircase) -> np.ndarray:
    """(channels, levels) float64: the real accumulators at which codes change."""
    ties = (stairs.heights * channels.output.scale - channels.bias[:, None]) / channels.unit[
        :, None
    ]
    return np.where(stairs.crossings, ties, np.nan)


def _best_move(ties: np.ndarray, needed: float) -> tuple[float, float]:
    """The smallest move into a gap of the ties' fractions that has room, and the room."""
    fractions = np.sort(np.mod(ties[~np.isnan(ties)], 1.0))
    ends = np.append(fractions[1:], fractions[0] + 1)
    half = (ends - fractions) / 2
    inset = np.minimum(half, needed)
    moves = []
    for low, high in ((fractions + inset, ends - inset), (fractions + inset - 1, ends - inset - 1)):
        moves.append(np.clip(0.0, np.minimum(low, high), np.maximum(low, high)))
    move = np.concatenate(moves)
    room = np.concatenate([inset, inset])
    roomy = room >= room.max()
    chosen = int(np.argmin(np.where(roomy, np.abs(move), np.inf)))
    return float(move[chosen]), float(room[chosen])
