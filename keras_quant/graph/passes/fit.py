"""Finds the integers and the float32 scale with which a kernel reproduces a staircase.

A realized channel stores factor * code as its weights and has an integer bias, so its
kernel sees factor * n + bias. Divided by the factor that is a line with two parameters:
the offset (bias / factor, in accumulator steps) and the pitch (accumulator steps an output
step). It reproduces the staircase when, for each level with height h,

    below + offset < h * pitch < above + offset.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from keras_quant.graph.passes.pitch import pitch_interval, widest_bias
from keras_quant.graph.passes.staircase import (
    Channels,
    Staircase,
    count_wrong,
    kernel_multiplier,
    select_channels,
    select_stairs,
)

# XNNPACK takes multipliers below 256. One of 255 already sends every accumulator but 0 to
# an end of an output of up to 8 bits, so no code changes by staying at it.
MAX_MULTIPLIER = 255.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fit:
    """Realized channels, and how well they do.

    Attributes:
        factor: (channels,) int64; stored weight codes are factor * code. 0 for a channel
            whose code is the same for every input.
        bias: (channels,) int64, in stored accumulator steps.
        weight_scale: (channels,) float32, scale of the stored codes.
        wrong: (channels,) int64, thresholds that lie elsewhere than the ideal's.
    """

    factor: np.ndarray
    bias: np.ndarray
    weight_scale: np.ndarray
    wrong: np.ndarray


def solve(channels: Channels, stairs: Staircase, max_factor: np.ndarray) -> Fit:
    """Looks for realized channels that equal the ideal ones for every accumulator.

    Tried in order, each on the channels that still differ: a constant; the largest factor
    with the bias rounded to it; every factor with its best bias. What is left gets the
    largest factor with the rounded bias and the ideal's own pitch.

    Args:
        max_factor: (channels,) int64; 0 where no factor keeps within int32.
    Returns: `wrong` is 0 where equality is proven. Other channels have the rounded bias, or
        are constant where max_factor is 0.
    """
    best = fit_constant(channels, stairs)
    for attempt in (fit_rounded, fit_widest):
        open_ = np.flatnonzero((best.wrong > 0) & (max_factor > 0))
        if open_.size == 0:
            break
        part, part_stairs = select_channels(channels, open_), select_stairs(stairs, open_)
        tried = attempt(part, part_stairs, max_factor[open_])
        taken = np.flatnonzero(tried.wrong == 0)
        best = merge_fits(best, open_[taken], select_fits(tried, taken))
    open_ = np.flatnonzero((best.wrong > 0) & (max_factor > 0))
    part, part_stairs = select_channels(channels, open_), select_stairs(stairs, open_)
    return merge_fits(best, open_, fit_own_pitch(part, part_stairs, max_factor[open_]))


def fit_constant(channels: Channels, stairs: Staircase) -> Fit:
    """Channels that answer every input as the ideal ones answer the accumulator 0."""
    output = channels.output
    steps = np.rint(channels.bias / output.scale)
    code = np.clip(steps, output.qmin - output.zero_point, output.qmax - output.zero_point)
    return Fit(
        factor=np.zeros(len(code), np.int64),
        bias=code.astype(np.int64),
        weight_scale=_weight_scale(channels, np.ones(len(code))),
        wrong=np.count_nonzero(stairs.crossings, axis=1),
    )


def fit_line(channels: Channels, stairs: Staircase, factor: np.ndarray, bias: np.ndarray) -> Fit:
    """Finds the best weight scale for given integers.

    The middle of the allowed pitches stays furthest from float32's rounding. Where
    accumulators fall on ties, the interval shrinks to the ideal's own pitch.

    Args:
        factor: (channels,) int64, >= 1.
        bias: (channels,) float64, integers.
    """
    low, high = pitch_interval(stairs, (bias / factor)[:, None], natural_pitch(channels))
    scale = _weight_scale(channels, 2 / (factor * (low + high)[:, 0]))
    multiplier = kernel_multiplier(channels.input_scale, scale, channels.output.scale)
    return Fit(
        factor=factor,
        bias=bias.astype(np.int64),
        weight_scale=scale,
        wrong=count_wrong(stairs, factor=factor, bias=bias, multiplier=multiplier),
    )


def fit_rounded(channels: Channels, stairs: Staircase, max_factor: np.ndarray) -> Fit:
    """Channels with the largest factor and the bias rounded to it.

    Where the ideal multiplier is a power of two, accumulators fall on ties, and the factor
    is a power of two as well: the float32 product is then exact, and ties round alike.

    Args:
        max_factor: (channels,) int64, >= 1.
    """
    mantissa, _ = np.frexp(channels.unit / channels.output.scale)
    power = 2 ** np.floor(np.log2(max_factor)).astype(np.int64)
    factor = np.where(mantissa == 0.5, power, max_factor)
    return fit_line(channels, stairs, factor, np.rint(channels.bias / channels.unit * factor))


def fit_widest(channels: Channels, stairs: Staircase, max_factor: np.ndarray) -> Fit:
    """Channels with the factor and bias that leave the pitch the most room.

    Args:
        max_factor: (channels,) int64, >= 1.
    """
    factor, bias = widest_bias(
        stairs,
        max_factor=max_factor,
        offset=channels.bias / channels.unit,
        pitch=natural_pitch(channels),
    )
    return fit_line(channels, stairs, factor, bias)


def fit_own_pitch(channels: Channels, stairs: Staircase, max_factor: np.ndarray) -> Fit:
    """Channels that differ from the ideal ones in the rounding of their bias alone.

    Args:
        max_factor: (channels,) int64, >= 1.
    """
    scale = _weight_scale(channels, 1 / (max_factor * natural_pitch(channels)))
    multiplier = kernel_multiplier(channels.input_scale, scale, channels.output.scale)
    bias = np.rint(channels.bias / channels.unit * max_factor).astype(np.int64)
    return Fit(
        factor=max_factor,
        bias=bias,
        weight_scale=scale,
        wrong=count_wrong(stairs, factor=max_factor, bias=bias, multiplier=multiplier),
    )


def natural_pitch(channels: Channels) -> np.ndarray:
    """(channels,) float64: the pitch of the ideal channels themselves."""
    return channels.output.scale / channels.unit


def _weight_scale(channels: Channels, multiplier: np.ndarray) -> np.ndarray:
    ratio = np.float64(np.float32(channels.output.scale)) / np.float32(channels.input_scale)
    return (np.minimum(multiplier, MAX_MULTIPLIER) * ratio).astype(np.float32)


def select_fits(fit: Fit, index: np.ndarray) -> Fit:
    """The fits of the channels at the given positions."""
    return Fit(**{field.name: getattr(fit, field.name)[index] for field in fields(Fit)})


def merge_fits(fit: Fit, index: np.ndarray, part: Fit) -> Fit:
    """The fits with those at the given positions replaced."""
    merged = select_fits(fit, np.arange(len(fit.factor)))
    for field in fields(Fit):
        getattr(merged, field.name)[index] = getattr(part, field.name)
    return merged
