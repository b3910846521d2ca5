"""A channel's output code as a staircase over its integer accumulator n.

The code never falls as n grows, so a channel is known by its thresholds: for each code j
the smallest n whose code is at least j. Two channels whose thresholds agree answer alike
for every n within reach, which makes equality a finite check (`count_wrong`).

Code j is compared through its level, j - zero_point, and through its height, level - 1/2,
the real output (in output steps) at which rounding passes from one code to the next.

A threshold is the integer above (height * pitch - offset), as long as that is further from all
integers than rounding errors reach; the few that are nearer are found by evaluating the channel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.channels import Channels

# A bound of the rounding errors of some float64 operations, as a share of the largest value that
# they meet: 16 units in the last place. Divisions, products and sums make half of one each.
FLOAT64_ERROR = 2.0**-48
# Of a float32 accumulator times a float32 multiplier: half a unit in the last place for each of
# the two roundings, times 2.
FLOAT32_ERROR = 2.0**-22

Outputs = Callable[[NDArray[np.float64], NDArray[np.intp]], NDArray[np.float64]]
"""From accumulators (any,) and the positions of their channels (any,) to output steps (any,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Staircase:
    """Where the code of each channel passes each level.

    Attributes:
        levels: (levels,) float64, the integers qmin + 1 - zero_point .. qmax - zero_point.
        above: (channels, levels) float64, the smallest n whose code reaches the level;
            +inf where no n within reach does.
        below: (channels, levels) float64, the largest n whose code stays under the level;
            -inf where every n within reach is at the level or over it.
    """

    levels: NDArray[np.float64]
    above: NDArray[np.float64]
    below: NDArray[np.float64]

    @property
    def heights(self) -> NDArray[np.float64]:
        """(levels,) float64: outputs, in output steps, at which a level begins; never 0."""
        return self.levels - 0.5


def select_stairs(stairs: Staircase, index: np.ndarray | slice) -> Staircase:
    """The staircases of the channels at the given positions, or of a mask (channels,) bool."""
    if isinstance(index, np.ndarray) and index.dtype == bool and index.all():
        return stairs
    return replace(stairs, above=stairs.above[index], below=stairs.below[index])


def replace_stairs(stairs: Staircase, index: np.ndarray, part: Staircase) -> Staircase:
    """The staircases with those at the given positions, or of a mask, replaced."""
    if len(part.above) == 0:
        return stairs
    above, below = stairs.above.copy(), stairs.below.copy()
    above[index], below[index] = part.above, part.below
    return replace(stairs, above=above, below=below)


def ideal_staircase(channels: Channels) -> Staircase:
    """Finds the thresholds of the ideal channels, bit for bit as float64 computes them."""
    unit = np.maximum(channels.unit, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # an infinite guess is none
        pitch, offset = channels.output.scale / unit, channels.bias / unit

    def outputs(n: NDArray[np.float64], channel: NDArray[np.intp]) -> NDArray[np.float64]:
        real = n * channels.unit[channel] + channels.bias[channel]
        return np.rint(real / channels.output.scale)

    largest = np.abs(channels.heights).max()
    error = FLOAT64_ERROR * (largest * pitch + np.abs(offset))
    return _staircase(channels, pitch, offset, error, outputs)


def kernel_staircase(
    channels: Channels,
    *,
    factor: NDArray[np.int64],
    bias: NDArray[np.int64],
    multiplier: NDArray[np.float32],
) -> Staircase:
    """Finds the thresholds of realized channels, bit for bit as kernels compute them.

    The code of n is
    clip(round_half_even(float32(factor * n + bias) * multiplier) + zero_point) in float32.

    Args:
        channels: for the reach of n and the output's codes.
        factor: (channels,) integers, >= 0.
        bias: (channels,) integers.
        multiplier: (channels,) float32, > 0.
    """
    stored = np.maximum(factor, 1).astype(np.float64)
    pitch, offset = 1 / (multiplier.astype(np.float64) * stored), bias / stored

    def outputs(n: NDArray[np.float64], channel: NDArray[np.intp]) -> NDArray[np.float64]:
        accumulator = factor[channel] * n + bias[channel]  # exact: far below 2**53
        steps: NDArray[np.float32] = accumulator.astype(np.float32) * multiplier[channel]
        return np.rint(steps)

    largest = np.abs(channels.heights).max()
    error = FLOAT32_ERROR * largest * pitch + FLOAT64_ERROR * np.abs(offset)
    error = np.where(factor == 0, np.inf, error)
    return _staircase(channels, pitch, offset, error, outputs)


def kernel_multiplier(
    input_scale: float, weight_scale: NDArray[np.float32], output_scale: float
) -> NDArray[np.float32]:
    """The float32 factor from accumulator to output steps, as int8 kernels derive it.

    Args:
        weight_scale: float32 of any shape.
    Returns: float32 of the same shape.
    """
    multiplier: NDArray[np.float32]
    multiplier = np.float32(input_scale) * weight_scale / np.float32(output_scale)
    return multiplier


def count_wrong(stairs: Staircase, found: Staircase) -> NDArray[np.int64]:
    """Counts the thresholds that lie elsewhere, (channels,) int64.

    Zero proves that codes are equal for every n within reach.
    """
    wrong: NDArray[np.int64] = np.count_nonzero(stairs.above != found.above, axis=1)
    return wrong


def _staircase(
    channels: Channels,
    pitch: NDArray[np.float64],
    offset: NDArray[np.float64],
    error: NDArray[np.float64],
    outputs: Outputs,
) -> Staircase:
    """Finds the thresholds of a function of n that never falls.

    Args:
        pitch, offset: (channels,) of the line n = height * pitch - offset.
        error: (channels,) how far the function may be from that line, in n.
        outputs: the function.
    """
    levels = channels.levels
    lowest, beyond = channels.lowest[:, None], channels.highest[:, None] + 1
    with np.errstate(over="ignore", invalid="ignore"):  # such guesses are told apart below
        guess = np.multiply.outer(pitch, channels.heights)
        guess -= offset[:, None]
        above = np.ceil(guess)
        fraction = np.subtract(above, guess, out=guess)
        fraction -= 0.5
        np.abs(fraction, out=fraction)
        unsure = ~(fraction < (0.5 - error)[:, None])  # true for NaN
    np.clip(above, lowest, beyond, out=above)
    channel, level = np.nonzero(unsure)
    if channel.size > 0:
        above[channel, level] = _first_reaching(
            levels[level],
            np.nan_to_num(above[channel, level]),
            (lowest[channel, 0] - 1, beyond[channel, 0]),
            lambda n, index: outputs(n, channel[index]),
        )
    below = above - 1
    np.copyto(below, -np.inf, where=above == lowest)
    np.copyto(above, np.inf, where=above == beyond)
    return Staircase(levels=levels, above=above, below=below)


def _first_reaching(
    levels: NDArray[np.float64],
    guess: NDArray[np.float64],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    outputs: Outputs,
) -> NDArray[np.float64]:
    """Finds the smallest n of each function that reaches its level, all arrays (any,).

    A guess is bracketed by two steps on either side, and by the whole reach where rounding put
    the threshold further away; bisection does the rest.

    Args:
        guess: about where each level is reached, an integer.
        ends: integers that no n reaches, on either side; the greater one is the answer where no
            n within reaches the level.
        outputs: from accumulators and their positions among the levels to output steps.
    """
    under, over = ends
    every = np.arange(len(levels))
    below, above = np.maximum(guess - 2, under), np.minimum(guess + 2, over)
    below = np.where((below > under) & (outputs(below, every) >= levels), under, below)
    above = np.where((above < over) & (outputs(above, every) < levels), over, above)
    while (wide := np.flatnonzero(above - below > 1)).size > 0:
        middle = np.floor((below[wide] + above[wide]) / 2)
        reached = outputs(middle, wide) >= levels[wide]
        above[wide[reached]] = middle[reached]
        below[wide[~reached]] = middle[~reached]
    return above
