"""The pitches that a staircase allows, and the bias that allows the most of them.

For one offset the conditions of `graph.passes.fit` bound the pitch, so the allowed pitches
are an interval. Its length is a concave function of the offset (the least of some linear
functions less the largest of others), and its peak decides: for a factor only the two
integers beside factor * peak need a look, and where neither has an interval, none has.
"""

from __future__ import annotations

import numpy as np

from keras_quant.graph.passes.staircase import Staircase, select_stairs

# A ternary search keeps 2/3 of its bracket a turn: 2 * (2/3)**24 is about 1e-4 steps, a
# hundredth of what the largest factor (127) tells apart.
PEAK_TURNS = 24
# Elements of the search's largest temporary array: 2 MB of float64 stay within a core's cache.
MAX_ELEMENTS = 2**18


def pitch_interval(
    stairs: Staircase, offset: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds the pitches that reproduce the staircase at the given offsets.

    Args:
        offset: (channels, candidates) float64.
        pitch: (channels,) float64, > 0; only pitches within a factor 2 of it are wanted.
    Returns: low, high: (channels, candidates) float64; no pitch will do where low >= high.
    """
    heights = stairs.heights
    upper = np.where(heights > 0, stairs.above, stairs.below)[:, None, :]
    lower = np.where(heights > 0, stairs.below, stairs.above)[:, None, :]
    high = ((upper + offset[..., None]) / heights).min(axis=-1)
    low = ((lower + offset[..., None]) / heights).max(axis=-1)
    return np.maximum(low, pitch[:, None] / 2), np.minimum(high, pitch[:, None] * 2)


def widest_bias(
    stairs: Staircase, *, max_factor: np.ndarray, offset: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Picks the factor and integer bias whose interval of pitches is the longest.

    Args:
        max_factor: (channels,) int64, >= 1.
        offset: (channels,) float64; offsets up to one step away are searched.
        pitch: (channels,) float64, as for `pitch_interval`.
    Returns: factor (channels,) int64 in 1 .. max_factor; bias (channels,) float64, integers.
    """
    factor, bias = np.empty_like(max_factor), np.empty_like(offset)
    rows = max(1, MAX_ELEMENTS // int(2 * max_factor.max() * len(stairs.levels)))
    for start in range(0, len(offset), rows):
        part = slice(start, start + rows)
        few = select_stairs(stairs, part)
        peak = _peak_offset(few, offset[part], pitch[part])
        factor[part], bias[part] = _widest_beside(few, max_factor[part], peak, pitch[part])
    return factor, bias


def _peak_offset(stairs: Staircase, offset: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    low, high = offset - 1, offset + 1
    for _ in range(PEAK_TURNS):
        third = (high - low) / 3
        probes = np.stack([low + third, high - third], axis=1)
        shortest, longest = pitch_interval(stairs, probes, pitch)
        length = longest - shortest
        rising = length[:, 0] < length[:, 1]
        low, high = np.where(rising, probes[:, 0], low), np.where(rising, high, probes[:, 1])
    return (low + high) / 2


def _widest_beside(
    stairs: Staircase, max_factor: np.ndarray, peak: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    factors = np.repeat(np.arange(1, max_factor.max() + 1), 2)
    biases = np.floor(factors * peak[:, None]) + np.arange(len(factors)) % 2
    low, high = pitch_interval(stairs, biases / factors, pitch)
    length = np.where(factors <= max_factor[:, None], high - low, -np.inf)
    best = np.argmax(length, axis=1)
    return factors[best], biases[np.arange(len(best)), best]
