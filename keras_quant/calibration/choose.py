"""Grids of activations, chosen by what was seen of them: a table of calibrators.

A calibrator gets the tensors that are to share one step, each with the codes that it may have, and
says which step that is. Steps are any float32 number, or powers of two and, for values with a
bound, that which gives the bound the highest code.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.calibration.histogram import Histogram
from keras_quant.calibration.statistics import TensorStatistics
from keras_quant.errors import UsageError, close_names
from keras_quant.qparams import QParams

# A step this many halvings below the one that holds all values clips nearly everything.
HALVINGS = 8
# Real steps are tried at so many places an octave; beside the best, the error is flat to within
# 0.1 % of itself.
PLACES = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A tensor that is to be rounded.

    Attributes:
        statistics: what was seen of it.
        codes: those that it may have; the scale is the calibrator's to find.
        power_of_two: its step must be a power of two, or that of its bound.
        bound: the largest value there is, behind a ReLU6; None where there is none.
    """

    statistics: TensorStatistics
    codes: QParams
    power_of_two: bool = True
    bound: float | None = None


Calibrator = Callable[[Sequence[Observed]], QParams]


def choose(name: str, tensors: Sequence[Observed]) -> QParams:
    """Finds the grid of tensors that share a step.

    Args:
        name: a key of CALIBRATORS.
        tensors: one or more.
    Returns: the codes of the first, with the step that is all tensors'.
    Raises:
        UsageError: there is no such calibrator.
    """
    return calibrator(name)(tensors)


def calibrator(name: str) -> Calibrator:
    """A calibrator by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in CALIBRATORS:
        raise UsageError(
            f"calibrator {name!r} is not known{close_names(name, CALIBRATORS)}; calibrators are "
            f"{', '.join(CALIBRATORS)}"
        )
    return CALIBRATORS[name]


def least_squares(tensors: Sequence[Observed]) -> QParams:
    """The step with the least squared error, each tensor's relative to its energy, summed."""
    steps = _finer_steps(tensors)

    def error(step: float) -> float:
        return sum(relative_error(t.statistics, _with_step(t.codes, step)) for t in tensors)

    return _with_step(tensors[0].codes, min(steps, key=error))


def minmax(tensors: Sequence[Observed]) -> QParams:
    """The smallest step with which no value is clipped."""
    needed = _holding_step(tensors)
    return _with_step(tensors[0].codes, min(s for s in _allowed(tensors, [needed]) if s >= needed))


CALIBRATORS: Mapping[str, Calibrator] = {"least_squares": least_squares, "minmax": minmax}


def relative_error(statistics: TensorStatistics, grid: QParams) -> float:
    """Mean squared error of rounding a tensor to a grid, over its mean square."""
    error = squared_error(statistics.histogram, grid) / max(1, statistics.moments.count)
    return error / (float(statistics.moments.mean_square) or 1.0)


def squared_error(histogram: Histogram, grid: QParams) -> float:
    """Sum of the squared errors of rounding to a grid, each bin's values spread evenly over it.

    With x rounded to code k, the integral of (x - scale * k)**2 from 0 is
    k * scale**3 / 12 + (x - scale * k)**3 / 3: each code that lies between adds the error of its
    whole cell. Beyond the last code k stays, and the error grows with the distance.
    """
    filled = np.flatnonzero(histogram.counts)
    if not filled.size:
        return 0.0
    edges = histogram.edges[filled[0] : filled[-1] + 2]
    codes = np.clip(
        np.rint(edges / grid.scale), grid.qmin - grid.zero_point, grid.qmax - grid.zero_point
    )
    integral = codes * grid.scale**3 / 12 + (edges - grid.scale * codes) ** 3 / 3
    counts = histogram.counts[filled[0] : filled[-1] + 1]
    return float(counts @ np.diff(integral)) / histogram.width


def _finer_steps(tensors: Sequence[Observed]) -> list[float]:
    """The steps worth trying, ascending: from each tensor's holding one down."""
    ratios = [2.0 ** (-place / PLACES) for place in range(HALVINGS * PLACES + 1)]
    holding = {_holding_step([tensor]) for tensor in tensors}
    return sorted(_allowed(tensors, [step * ratio for step in holding for ratio in ratios]))


def _allowed(tensors: Sequence[Observed], steps: Iterable[float]) -> set[float]:
    """The steps that tensors may have, as near above the given ones as they are."""
    found = {float(np.float32(step)) for step in steps}
    if any(tensor.power_of_two for tensor in tensors):
        found = {2.0 ** math.ceil(math.log2(step)) for step in steps}
    bounded = {(tensor.bound, tensor.codes.qmax) for tensor in tensors}
    bound, qmax = bounded.pop()
    return found if bounded or bound is None else found | {float(np.float32(bound / qmax))}


def _holding_step(tensors: Sequence[Observed]) -> float:
    """The float32 step with which each tensor's range ends at its last codes; 1 if all are 0."""
    steps = [0.0]
    for tensor in tensors:
        moments, codes = tensor.statistics.moments, tensor.codes
        steps.append(float(moments.high) / codes.qmax)
        if codes.qmin:
            steps.append(float(moments.low) / codes.qmin)
    return float(np.float32(max(steps))) or 1.0


def _with_step(codes: QParams, step: float) -> QParams:
    return dataclasses.replace(codes, scale=step)
