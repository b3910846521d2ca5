"""A channel's output code as a staircase over its integer accumulator n.

The code never falls as n grows, so a channel is known by its thresholds: for each code j
the smallest n whose code is at least j. Two channels whose thresholds agree answer alike
for every n within reach, which makes equality a finite check (`count_wrong`).

Code j is compared through its level, j - zero_point, and through its height, level - 1/2,
the real output (in output steps) at which rounding passes from one code to the next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.qparams import QParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Channels:
    """The ideal output channels of one node.

    The code of accumulator n is
    clip(round_half_even((n * unit + bias) / output.scale) + zero_point), all in float64.

    Attributes:
        input_scale: scale of the input codes, > 0.
        output: grid of the output codes.
        weight_scale: (channels,) float64, > 0.
        bias: (channels,) float64, real.
        lowest: (channels,) float64, an integer: no input makes n lower; at most 0.
        highest: (channels,) float64, an integer: no input makes n higher; at least 0.
    """

    input_scale: float
    output: QParams
    weight_scale: np.ndarray
    bias: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @property
    def unit(self) -> np.ndarray:
        """(channels,) float64: the real value of one accumulator step."""
        return self.input_scale * self.weight_scale


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

    levels: np.ndarray
    above: np.ndarray
    below: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """(levels,) float64: outputs, in output steps, at which a level begins; never 0."""
        return self.levels - 0.5

    @property
    def crossings(self) -> np.ndarray:
        """(channels, levels) bool: the level is passed somewhere within reach."""
        return np.isfinite(self.above) & np.isfinite(self.below)


def select_channels(channels: Channels, index: np.ndarray) -> Channels:
    """The channels at the given positions."""
    return replace(
        channels,
        weight_scale=channels.weight_scale[index],
        bias=channels.bias[index],
        lowest=channels.lowest[index],
        highest=channels.highest[index],
    )


def select_stairs(stairs: Staircase, index: np.ndarray | slice) -> Staircase:
    """The staircases of the channels at the given positions."""
    return replace(stairs, above=stairs.above[index], below=stairs.below[index])


def ideal_staircase(channels: Channels) -> Staircase:
    """Finds the thresholds of the ideal channels, bit for bit as float64 computes them."""
    levels = _levels(channels)
    unit = np.maximum(channels.unit, np.finfo(np.float64).tiny)[:, None]
    with np.errstate(over="ignore"):  # clipped below
        guess = ((levels - 0.5) * channels.output.scale - channels.bias[:, None]) / unit

    def outputs(n: np.ndarray) -> np.ndarray:
        real = n * channels.unit[:, None] + channels.bias[:, None]
        return np.rint(real / channels.output.scale)

    return _staircase(channels, levels, guess, outputs)


def kernel_staircase(
    channels: Channels, *, factor: np.ndarray, bias: np.ndarray, multiplier: np.ndarray
) -> Staircase:
    """Finds the thresholds of realized channels, bit for bit as kernels compute them.

    Args:
        channels: for the reach of n and the output's codes.
        factor: (channels,) integers, >= 0.
        bias: (channels,) integers.
        multiplier: (channels,) float32, > 0.
    """
    levels = _levels(channels)
    stored = np.maximum(factor, 1)[:, None].astype(np.float64)
    guess = ((levels - 0.5) / multiplier[:, None].astype(np.float64) - bias[:, None]) / stored
    outputs = functools.partial(kernel_outputs, factor=factor, bias=bias, multiplier=multiplier)
    return _staircase(channels, levels, guess, outputs)


def kernel_outputs(
    n: np.ndarray, *, factor: np.ndarray, bias: np.ndarray, multiplier: np.ndarray
) -> np.ndarray:
    """round_half_even(float32(factor * n + bias) * multiplier) in float32.

    Args:
        n: (channels, any) float64, integers.
        factor, bias: (channels,) integers.
        multiplier: (channels,) float32.
    """
    accumulator = factor[:, None] * n + bias[:, None]  # exact: far below 2**53
    return np.rint(accumulator.astype(np.float32) * multiplier[:, None])


def _levels(channels: Channels) -> np.ndarray:
    output = channels.output
    return np.arange(output.qmin + 1, output.qmax + 1, dtype=np.float64) - output.zero_point


def _staircase(
    channels: Channels,
    levels: np.ndarray,
    guess: np.ndarray,
    outputs: Callable[[np.ndarray], np.ndarray],
) -> Staircase:
    """Finds the thresholds of a function of n that never falls.

    A guess is bracketed by two steps on either side, and by the whole reach where rounding put
    the threshold further away; bisection does the rest.

    Args:
        guess: (channels, levels) float64, about where each level is reached.
        outputs: from (channels, levels) accumulators to output steps.
    """
    under, over = channels.lowest[:, None] - 1, channels.highest[:, None] + 1
    guess = np.clip(np.ceil(guess), under, over)
    below, above = np.maximum(guess - 2, under), np.minimum(guess + 2, over)
    below = np.where((below > under) & (outputs(below) >= levels), under, below)
    above = np.where((above < over) & (outputs(above) < levels), over, above)
    while (wide := above - below > 1).any():
        middle = np.floor((below + above) / 2)
        reached = outputs(middle) >= levels
        above = np.where(wide & reached, middle, above)
        below = np.where(wide & ~reached, middle, below)
    return Staircase(
        levels=levels,
        above=np.where(above == over, np.inf, above),
        below=np.where(below == under, -np.inf, below),
    )


def kernel_multiplier(
    input_scale: float, weight_scale: np.ndarray, output_scale: float
) -> np.ndarray:
    """The float32 factor from accumulator to output steps, as int8 kernels derive it.

    Args:
        weight_scale: float32 of any shape.
    Returns: float32 of the same shape.
    """
    return np.float32(input_scale) * weight_scale / np.float32(output_scale)


def count_wrong(
    stairs: Staircase, *, factor: np.ndarray, bias: np.ndarray, multiplier: np.ndarray
) -> np.ndarray:
    """Counts the thresholds that a realized channel has elsewhere.

    The realized code of n is
    clip(round_half_even(float32(factor * n + bias) * multiplier) + zero_point) in float32.
    Zero proves that its codes equal the staircase's for every n within reach.

    Args:
        factor: (channels,) integers, > 0.
        bias: (channels,) integers.
        multiplier: (channels,) float32, > 0.
    Returns: (channels,) int64.
    """

    outputs = functools.partial(kernel_outputs, factor=factor, bias=bias, multiplier=multiplier)
    late = outputs(stairs.above) < stairs.levels
    early = outputs(stairs.below) >= stairs.levels
    return np.count_nonzero(late | early, axis=1)
