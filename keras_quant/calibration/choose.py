"""Grids of activations, chosen by what was seen of them: a table of calibrators.

A calibrator gets the tensors that are to share a scale, each with the codes that it may have, and
says which scale and zero point they get. Scales are any float32 number; or powers of two and, for
values with a bound, that which gives the bound the highest code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.calibration.histogram import Histogram
from keras_quant.calibration.statistics import TensorStatistics
from keras_quant.errors import UsageError, close_names
from keras_quant.qparams import GridSpec, QParams

DEFAULT_CALIBRATOR = "least_squares"
# A range this many halvings below the one that holds all values clips nearly everything.
HALVINGS = 8
# Ranges are tried at so many places an octave; beside the best, the error is flat.
PLACES = 16

Range = tuple[float, float]  # low <= 0 <= high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A tensor that is to be rounded: what was seen of it, and which codes it may have."""

    statistics: TensorStatistics
    spec: GridSpec


Calibrator = Callable[[Sequence[Observed]], QParams]


def choose(name: str, tensors: Sequence[Observed]) -> QParams:
    """Finds the grid of tensors that share a scale and a zero point.

    Args:
        name: a key of CALIBRATORS.
        tensors: one or more; all of them symmetric, or none.
    Returns: the codes of the first tensor; scale and zero point are all tensors'.
    Raises:
        UsageError: there is no such calibrator.
    """
    return load_calibrator(name)(tensors)


def load_calibrator(name: str) -> Calibrator:
    """Gives a calibrator by its name in CALIBRATORS.

    Raises:
        UsageError: there is no such calibrator.
    """
    if name not in CALIBRATORS:
        raise UsageError(
            f"calibrator {name!r} is not known{close_names(name, CALIBRATORS)}; calibrators are "
            f"{', '.join(CALIBRATORS)}"
        )
    return CALIBRATORS[name]


def minmax(tensors: Sequence[Observed]) -> QParams:
    """The finest grid that reaches from the smallest value to the largest."""
    return _finest(tensors, *_joint_range(tensors))


def least_squares(tensors: Sequence[Observed]) -> QParams:
    """The grid with the least squared error, each tensor's relative to its energy, summed."""
    if all(tensor.spec.symmetric for tensor in tensors):
        ranges = (r for tensor in tensors for r in _shrunk(_range(tensor)))
        return _finest(tensors, *_best_range(tensors, ranges))
    best = widest = _joint_range(tensors)
    octaves, before = float(HALVINGS), None
    for places in (1, 4, PLACES):
        low, high = best if before is None else (end * 2.0 ** (1 / before) for end in best)
        start = max(low, widest[0]), min(high, widest[1])
        best = _best_range(tensors, _shrunk_apart(start, places, octaves))
        octaves, before = 2 / places, places
    return _finest(tensors, *best)


CALIBRATORS: Mapping[str, Calibrator] = {"least_squares": least_squares, "minmax": minmax}


def relative_error(statistics: TensorStatistics, grid: QParams) -> float:
    """Mean squared error of rounding a tensor to a grid, over its mean square."""
    error = squared_error(statistics.histogram, grid) / max(1, statistics.moments.count)
    return error / (float(statistics.moments.mean_square) or 1.0)


def squared_error(histogram: Histogram, grid: QParams) -> float:
    """Sum of the squared errors of rounding to a grid, each bin's values spread evenly over it.

    Where x is rounded to k scales, the integral of (x - scale * k)**2 from 0 to x is
    k * scale**3 / 12 + (x - scale * k)**3 / 3: each code that lies between adds the error of its
    whole cell. Beyond the last code k stays, and the error grows with the distance.
    """
    filled = np.flatnonzero(histogram.counts)
    if not filled.size:
        return 0.0
    edges = histogram.edges[filled[0] : filled[-1] + 2]
    codes = np.rint(edges / grid.scale)
    codes = np.clip(codes, grid.qmin - grid.zero_point, grid.qmax - grid.zero_point)
    integral = codes * grid.scale**3 / 12 + (edges - grid.scale * codes) ** 3 / 3
    counts = histogram.counts[filled[0] : filled[-1] + 1]
    return float(counts @ np.diff(integral)) / histogram.width


def _best_range(tensors: Sequence[Observed], ranges: Iterator[Range]) -> Range:
    """The range whose finest grid has the least error; of equal ones the narrowest."""
    errors: dict[tuple[float, int], tuple[float, Range]] = {}
    for low, high in [*ranges, *_bound(tensors)]:
        grid = _finest(tensors, low, high)
        key = grid.scale, grid.zero_point
        if key not in errors:
            rounded = [(t.statistics, t.spec.at(*key)) for t in tensors]
            errors[key] = sum(relative_error(*pair) for pair in rounded), (low, high)
    return errors[min(errors, key=lambda key: (errors[key][0], key))][1]


def _finest(tensors: Sequence[Observed], low: float, high: float) -> QParams:
    """The grid of the smallest scale that tensors may have and that reaches from low to high.

    A zero point is rounded, so that an end may be half a step beyond the last code.
    """
    spec = tensors[0].spec
    needed = float(np.float32(max(_scale(t.spec, low, high) for t in tensors))) or 1.0
    scale = 2.0 ** math.ceil(math.log2(needed)) if spec.power_of_two else needed
    for _, bound in _bound(tensors):
        bounded = float(np.float32(bound / spec.at().qmax))
        scale = min(scale, bounded) if bounded >= needed else scale
    return spec.at(scale, min(spec.at().qmax, round(-low / scale)))


def _scale(spec: GridSpec, low: float, high: float) -> float:
    """The scale with which the codes reach from low to high; of symmetric unsigned ones from 0."""
    codes = spec.at()
    if not spec.symmetric:
        return (high - low) / codes.qmax
    return max(high / codes.qmax, low / codes.qmin) if spec.signed else high / codes.qmax


def _bound(tensors: Sequence[Observed]) -> list[Range]:
    """The range up to the bound, if all tensors have the same one, and the same codes."""
    ends = {(tensor.spec.bound, tensor.spec.at().qmax) for tensor in tensors}
    bound, _ = ends.pop()
    return [] if ends or bound is None else [(0.0, bound)]


def _joint_range(tensors: Sequence[Observed]) -> Range:
    ranges = [_range(tensor) for tensor in tensors]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _range(tensor: Observed) -> Range:
    moments = tensor.statistics.moments
    return min(0.0, float(moments.low)), max(0.0, float(moments.high))


def _shrunk(full: Range) -> Iterator[Range]:
    for place in range(HALVINGS * PLACES + 1):
        ratio = 2.0 ** (-place / PLACES)
        yield full[0] * ratio, full[1] * ratio


def _shrunk_apart(full: Range, places: int, octaves: float) -> Iterator[Range]:
    """Both ends shrunk on their own; an end that is 0 has nothing to shrink."""
    ratios = [2.0 ** (-place / places) for place in range(round(octaves * places) + 1)]
    lows, highs = (sorted({end * ratio for ratio in ratios}) for end in full)
    return ((low, high) for low in lows for high in highs)
