"""The pitches that a staircase allows, and the bias that allows the most of them.

For one offset the conditions of `solve` bound the pitch, so the allowed pitches are an interval.
Its length is a concave function of the offset (the least of some linear functions less the
largest of others). So where any integer over a factor has an interval, one of the two beside an
offset with an interval has one; and the longest is beside the peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.passes.realize.staircase import Staircase, select_stairs

# The peak is looked for until no offset can be longer by more than this share of the pitch, far
# less than float32 scales tell apart. Seen to take 4 to 8 turns.
PEAK_PRECISION = 2.0**-20
PEAK_TURNS = 32
# An interval shorter than minus this share of the pitch is empty for float32 kernels, too: their
# two roundings move an output by 2**-23 of it. In between, only thresholds prove or refute.
EMPTY = 2.0**-20
# How many levels are looked at before more are, and before all are: few offsets satisfy them.
FEW_LEVELS = 16
MORE_LEVELS = 64
# Elements of the largest temporary array: 2 MB of float64 stay within a core's cache.
MAX_ELEMENTS = 2**18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Conditions:
    """The pitch lies between (lower + offset) / heights and (upper + offset) / heights.

    Attributes:
        heights: (levels,) float64.
        lower, upper: (channels, levels) float64.
        pitch: (channels,) float64; only pitches within a factor 2 of it are wanted.
    """

    heights: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    pitch: NDArray[np.float64]


def pitch_interval(
    stairs: Staircase, offset: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds the pitches that reproduce the staircase at the given offsets.

    Args:
        offset: (channels, candidates) float64.
        pitch: (channels,) float64, > 0; only pitches within a factor 2 of it are wanted.
    Returns: low, high: (channels, candidates) float64; no pitch will do where low >= high.
    """
    return _interval(_conditions(stairs, pitch), offset)


def widest_bias(
    stairs: Staircase, *, max_factor: np.ndarray, offset: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Picks the factor and integer bias whose interval of pitches is the longest.

    Args:
        max_factor: (channels,) int64, >= 1.
        offset: (channels,) float64, at which the staircase has an interval: that of the ideal
            channel; offsets up to one step away are searched.
        pitch: (channels,) float64, as for `pitch_interval`.
    Returns: (channels,) bool, those where some integers may have an interval; of these, factors
        (found,) int64 in 1 .. max_factor and biases (found,) float64, integers.
    """
    most = int(max_factor.max(initial=1))
    rows = max(1, MAX_ELEMENTS // max(2 * most * FEW_LEVELS, len(stairs.levels)))
    parts = []
    for start in range(0, max(1, len(offset)), rows):
        part = slice(start, start + rows)
        conditions = _conditions(select_stairs(stairs, part), pitch[part])
        parts.append(_widest(conditions, max_factor[part], offset[part]))
    found, factor, bias = (np.concatenate(each) for each in zip(*parts, strict=True))
    return found, factor, bias


def _widest(
    conditions: _Conditions, max_factor: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `widest_bias` returns, for channels that have room in the cache at a time."""
    *_, length = _beside(conditions, max_factor, offset)
    found = length.max(axis=1) > -EMPTY * conditions.pitch
    conditions, max_factor = _select(conditions, found), max_factor[found]
    peak = _peak_offset(conditions, offset[found])
    factors, biases, length = _beside(conditions, max_factor, peak)
    best = np.argmax(length, axis=1)
    return found, factors[best], biases[np.arange(len(best)), best]


def _beside(
    conditions: _Conditions, max_factor: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The integers beside each factor times an offset, and the lengths of their intervals.

    Returns: factors (candidates,) int64, biases (channels, candidates) float64, and lengths
        (channels, candidates) float64; those below -EMPTY pitches are upper bounds.
    """
    factors = np.repeat(np.arange(1, max_factor.max(initial=1) + 1), 2)
    biases = np.floor(factors * offset[:, None]) + np.arange(len(factors)) % 2
    low, high = _interval(_some_levels(conditions, FEW_LEVELS), biases / factors)
    length = np.where(factors <= max_factor[:, None], high - low, -np.inf)
    for levels in (MORE_LEVELS, len(conditions.heights)):
        channel, candidate = np.nonzero(length > -EMPTY * conditions.pitch[:, None])
        ratio = biases[channel, candidate] / factors[candidate]
        length[channel, candidate] = _lengths(_some_levels(conditions, levels), channel, ratio)
    return factors, biases, length


def _lengths(conditions: _Conditions, channel: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(any,) float64 lengths of the intervals of channels, by position, at offsets (any,)."""
    length = np.empty(len(offset))
    rows = max(1, MAX_ELEMENTS // len(conditions.heights))
    for start in range(0, len(offset), rows):
        part = slice(start, start + rows)
        low, high = _interval(_select(conditions, channel[part]), offset[part, None])
        length[part] = (high - low)[:, 0]
    return length


def _peak_offset(conditions: _Conditions, offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """The offset, up to one step from the given one, whose interval is the longest.

    Kelley's cutting planes (1960), of one variable: the length is looked at where the tangents
    beside the peak meet, which it does not exceed.

    Args:
        offset: (channels,) float64.
    Returns: (channels,) float64.
    """
    ends = np.stack([offset - 1, offset + 1])
    sides = [_tangent(conditions, end) for end in ends]
    length, slope = (np.stack([side[which] for side in sides]) for which in (0, 1))
    first = np.argmax(length, axis=0)
    every = np.arange(len(offset))
    peak: NDArray[np.float64] = ends[first, every]
    longest = length[first, every]
    open_ = np.flatnonzero((slope[0] > 0) & (slope[1] < 0))
    for _ in range(PEAK_TURNS):
        if open_.size == 0:
            break
        x, y, s = ends[:, open_], length[:, open_], slope[:, open_]
        move = (y[1] - y[0] - s[1] * (x[1] - x[0])) / (s[0] - s[1])
        met = np.clip(x[0] + move, *x)
        found, rise = _tangent(_select(conditions, open_), met)
        better = found > longest[open_]
        peak[open_[better]], longest[open_[better]] = met[better], found[better]
        side = np.where(rise > 0, 0, 1)
        ends[side, open_], length[side, open_], slope[side, open_] = met, found, rise
        could = y[0] + s[0] * move - longest[open_]
        open_ = open_[(rise != 0) & (could > PEAK_PRECISION * conditions.pitch[open_])]
    return peak


def _tangent(conditions: _Conditions, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval's length at offsets (channels,), and how it grows with the offset."""
    every, pitch, inverse = np.arange(len(offset)), conditions.pitch, 1 / conditions.heights
    sums = conditions.upper + offset[:, None]
    sums /= conditions.heights
    at = sums.argmin(axis=1)
    high, rise = sums[every, at], inverse[at]
    np.add(conditions.lower, offset[:, None], out=sums)
    sums /= conditions.heights
    at = sums.argmax(axis=1)
    low, fall = sums[every, at], inverse[at]
    rise, fall = np.where(high < 2 * pitch, rise, 0), np.where(low > pitch / 2, fall, 0)
    return np.minimum(high, 2 * pitch) - np.maximum(low, pitch / 2), rise - fall


def _interval(conditions: _Conditions, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest pitch at offsets (channels, candidates), both of their shape."""
    sums = conditions.upper[:, None, :] + offset[..., None]
    sums /= conditions.heights
    high = sums.min(axis=-1)
    np.add(conditions.lower[:, None, :], offset[..., None], out=sums)
    sums /= conditions.heights
    low = sums.max(axis=-1)
    pitch = conditions.pitch[:, None]
    return np.maximum(low, pitch / 2), np.minimum(high, pitch * 2)


def _conditions(stairs: Staircase, pitch: np.ndarray) -> _Conditions:
    """Below 0, where dividing by a height turns an inequality, thresholds change sides."""
    heights, upper, lower = stairs.heights, stairs.above, stairs.below
    negative = np.count_nonzero(heights < 0)
    if negative:
        parts = ((stairs.below, stairs.above), (stairs.above, stairs.below))
        upper, lower = (
            np.concatenate([first[:, :negative], then[:, negative:]], axis=1)
            for first, then in parts
        )
    return _Conditions(heights=heights, lower=lower, upper=upper, pitch=pitch)


def _select(conditions: _Conditions, index: np.ndarray) -> _Conditions:
    """The conditions of the channels at the given positions."""
    return _Conditions(
        heights=conditions.heights,
        lower=conditions.lower[index],
        upper=conditions.upper[index],
        pitch=conditions.pitch[index],
    )


def _some_levels(conditions: _Conditions, count: int) -> _Conditions:
    """So many of the conditions, evenly spaced: what they refuse, all refuse."""
    levels = len(conditions.heights)
    if count >= levels:
        return conditions
    some = np.linspace(0, levels - 1, count).astype(np.intp)
    return _Conditions(
        heights=conditions.heights[some],
        lower=conditions.lower[:, some],
        upper=conditions.upper[:, some],
        pitch=conditions.pitch,
    )
