"""Finds the integers and the float32 scale with which a kernel reproduces a staircase.

A realized channel stores factor * code as its weights and has an integer bias, so its
kernel sees factor * n + bias. Divided by the factor that is a line with two parameters:
the offset (bias / factor, in accumulator steps) and the pitch (accumulator steps an output
step). It reproduces the staircase when, for each level with height h,

    below + offset < h * pitch < above + offset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.channels import Channels, count_thresholds, ideal_steps
from keras_quant.graph.passes.realize.pitch import EMPTY, pitch_interval, widest_bias
from keras_quant.graph.passes.realize.rows import Rows, replace_rows, select_rows
from keras_quant.graph.passes.realize.staircase import (
    Staircase,
    count_wrong,
    kernel_multiplier,
    kernel_staircase,
    replace_stairs,
    select_stairs,
)

# XNNPACK takes multipliers below 256. One of 255 already sends every accumulator but 0 to
# an end of an output of up to 8 bits, so no code changes by staying at it.
MAX_MULTIPLIER = 255.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Integers(Rows):
    """Realized channels, and how well they do.

    Attributes:
        factor: (channels,) int64; stored weight codes are factor * code. 0 for a channel
            whose code is the same for every input.
        bias: (channels,) int64, in stored accumulator steps.
        weight_scale: (channels,) float32, scale of the stored codes.
        wrong: (channels,) int64, thresholds that lie elsewhere than the ideal's, at least.
    """

    factor: np.ndarray
    bias: np.ndarray
    weight_scale: np.ndarray
    wrong: np.ndarray


def solve(
    channels: Channels, stairs: Staircase, max_factor: np.ndarray
) -> tuple[Integers, Staircase]:
    """Looks for realized channels that equal the ideal ones for every accumulator.

    Those that `solve_exactly` does not find get the largest factor with the rounded bias and the
    ideal's own pitch.

    Args:
        stairs: of the ideal channels.
        max_factor: (channels,) int64; 0 where no factor keeps within int32.
    Returns: the integers; `wrong` is 0 where equality is proven. Other channels have the rounded
        bias, or are constant where max_factor is 0. And the staircases of the integers.
    """
    integers = solve_exactly(channels, stairs, max_factor)
    open_ = (integers.wrong > 0) & (max_factor > 0)
    integers = replace_rows(
        integers, open_, own_pitch_integers(select_rows(channels, open_), max_factor[open_])
    )
    wrong = integers.wrong > 0
    part = select_rows(integers, wrong)
    found = integer_staircase(select_rows(channels, wrong), part)
    part = replace(part, wrong=count_wrong(select_stairs(stairs, wrong), found))
    return replace_rows(integers, wrong, part), replace_stairs(stairs, wrong, found)


def solve_exactly(channels: Channels, stairs: Staircase, max_factor: np.ndarray) -> Integers:
    """Looks for realized channels that equal the ideal ones for every accumulator.

    Tried in order, each on the channels that still differ: a constant; the largest factor
    with the bias rounded to it; every factor with its best bias.

    Args:
        stairs, max_factor: as for `solve`.
    Returns: `wrong` is 0 where equality is proven; other channels are left constant.
    """
    integers = constant_integers(channels)
    for find_lines in (rounded_lines, widest_lines):
        open_ = (integers.wrong > 0) & (max_factor > 0)
        if not open_.any():
            break
        part, part_stairs = select_rows(channels, open_), select_stairs(stairs, open_)
        likely, factor, bias = find_lines(part, part_stairs, max_factor[open_])
        part, part_stairs = select_rows(part, likely), select_stairs(part_stairs, likely)
        proven, found = prove_lines(part, part_stairs, factor, bias)
        integers = replace_rows(integers, np.flatnonzero(open_)[likely][proven], found)
    return integers


def prove_lines(
    channels: Channels, stairs: Staircase, factor: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, Integers]:
    """Finds the best weight scales for given integers, and which of them reproduce a staircase.

    The middle of the allowed pitches stays furthest from float32's rounding. Where
    accumulators fall on ties, the interval shrinks to the ideal's own pitch.

    Args:
        factor: (channels,) int64, >= 1.
        bias: (channels,) float64, integers.
    Returns: (channels,) bool, those whose thresholds are all right, and their integers.
    """
    low, high = pitch_interval(stairs, (bias / factor)[:, None], channels.pitch)
    middle, length = ((low + high) / 2)[:, 0], (high - low)[:, 0]
    integers = Integers(
        factor=factor,
        bias=bias.astype(np.int64),
        weight_scale=_weight_scale(channels, 1 / (factor * middle)),
        wrong=np.zeros_like(factor),
    )
    proven = length > -EMPTY * channels.pitch
    found = integer_staircase(select_rows(channels, proven), select_rows(integers, proven))
    proven[proven] = count_wrong(select_stairs(stairs, proven), found) == 0
    return proven, select_rows(integers, proven)


def rounded_lines(
    channels: Channels, stairs: Staircase, max_factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest factor with the bias rounded to it.

    Where the ideal multiplier is a power of two, accumulators fall on ties, and the factor
    is a power of two as well: the float32 product is then exact, and ties round alike.

    Args:
        max_factor: (channels,) int64, >= 1.
    Returns: as `widest_lines`, all channels.
    """
    mantissa, _ = np.frexp(channels.unit / channels.output.scale)
    power = 2 ** np.floor(np.log2(max_factor)).astype(np.int64)
    factor = np.where(mantissa == 0.5, power, max_factor)
    return np.full(len(factor), True), factor, np.rint(channels.offset * factor)


def widest_lines(
    channels: Channels, stairs: Staircase, max_factor: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The factor and bias that leave the pitch the most room.

    Args:
        max_factor: (channels,) int64, >= 1.
    Returns: (channels,) bool, those where some may do; factors (found,) int64; biases (found,)
        float64, integers.
    """
    return widest_bias(stairs, max_factor=max_factor, offset=channels.offset, pitch=channels.pitch)


def constant_integers(channels: Channels) -> Integers:
    """Channels that answer every input as the ideal ones answer the accumulator 0."""
    steps = ideal_steps(channels, np.zeros_like(channels.bias))
    return Integers(
        factor=np.zeros(len(steps), np.int64),
        bias=steps.astype(np.int64),
        weight_scale=_weight_scale(channels, np.ones(len(steps))),
        wrong=count_thresholds(channels),
    )


def own_pitch_integers(channels: Channels, max_factor: np.ndarray) -> Integers:
    """Channels that differ from the ideal ones in the rounding of their bias alone.

    Args:
        max_factor: (channels,) int64, >= 1.
    Returns: with `wrong` not counted yet, but not 0.
    """
    return Integers(
        factor=max_factor,
        bias=np.rint(channels.offset * max_factor).astype(np.int64),
        weight_scale=_weight_scale(channels, 1 / (max_factor * channels.pitch)),
        wrong=np.ones_like(max_factor),
    )


def integer_staircase(channels: Channels, integers: Integers) -> Staircase:
    """The staircases of integers, exactly as float32 kernels compute them."""
    multiplier = kernel_multiplier(
        channels.input_scale, integers.weight_scale, channels.output.scale
    )
    return kernel_staircase(
        channels, factor=integers.factor, bias=integers.bias, multiplier=multiplier
    )


def _weight_scale(channels: Channels, multiplier: NDArray[np.float64]) -> NDArray[np.float32]:
    ratio = np.float64(np.float32(channels.output.scale)) / np.float32(channels.input_scale)
    scale: NDArray[np.float64] = np.minimum(multiplier, MAX_MULTIPLIER) * ratio
    return scale.astype(np.float32)
