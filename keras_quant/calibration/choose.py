"""Grids of activations, chosen by what was seen of them: a table of calibrators.

A calibrator gets the tensors that are to share a scale, each with the codes that it may have, and
says which scale and zero point they get. Scales are any float32 number; or powers of two and, for
values with a bound, that which gives the bound the highest code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from keras_quant.calibration.entropy import entropy
from keras_quant.calibration.finest import Observed, Range, bound, finest, joint, range_of
from keras_quant.calibration.histogram import Histogram
from keras_quant.calibration.percentile import percentile
from keras_quant.calibration.statistics import TensorStatistics
from keras_quant.errors import DataError, SchemeError, UsageError, close_names
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import Scheme

DEFAULT_CALIBRATOR = "least_squares"
# A range this many halvings below the one that holds all values clips nearly everything.
HALVINGS = 8
# Ranges are tried at so many places an octave; beside the best, the error is flat.
PLACES = 16

Error = Callable[[TensorStatistics, QParams], float]
Calibrator = Callable[[Sequence[Observed]], QParams]


def choose(name: str, tensors: Sequence[Observed]) -> QParams:
    """Finds the grid of tensors that share a scale and a zero point.

    Args:
        name: see `load_calibrator`.
        tensors: one or more; all of them symmetric, or none.
    Returns: the codes of the first tensor; scale and zero point are all tensors'.
    Raises:
        UsageError: there is no such calibrator.
        DataError: the statistics lack what the calibrator needs.
    """
    return load_calibrator(name)(tensors)


def load_calibrator(name: str) -> Calibrator:
    """Gives a calibrator by its name in CALIBRATORS; "percentile:99.9" says the percentage too.

    Raises:
        UsageError: there is no such calibrator, or no such percentage.
    """
    word, colon, number = name.partition(":")
    if word not in CALIBRATORS:
        raise UsageError(
            f"calibrator {name!r} is not known{close_names(name, CALIBRATORS)}; calibrators are "
            f"{', '.join(CALIBRATORS)}"
        )
    if not colon:
        return CALIBRATORS[word]
    if word != "percentile":
        raise UsageError(f"calibrator {name!r}: {word} takes no number; percentile:99.9 does")
    try:
        percent = float(number)
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise UsageError(f"calibrator {name!r}: a percentage above 0, up to 100, is expected")
    return functools.partial(percentile, percent=percent)


def check_calibrators(scheme: Scheme) -> None:
    """Compares the calibrators that a scheme's rules name with those that there are.

    Raises:
        SchemeError: all that do not fit, each with the place of its rule.
    """
    problems = []
    for index, rule in enumerate(scheme.rules):
        try:
            load_calibrator(rule.calibrator or DEFAULT_CALIBRATOR)
        except UsageError as error:
            problems.append(f"rules[{index}]: {error}")
    if problems:
        raise SchemeError(f"scheme {scheme.name!r}: {'; '.join(problems)}")


def minmax(tensors: Sequence[Observed]) -> QParams:
    """The finest grid that reaches from the smallest value to the largest."""
    return finest(tensors, *joint([range_of(t) for t in tensors]))


def least_squares(tensors: Sequence[Observed]) -> QParams:
    """The grid with the least squared error, each tensor's relative to its energy, summed."""
    return _least(tensors, relative_error)


def mse(tensors: Sequence[Observed]) -> QParams:
    """The grid with the least mean squared error, each tensor's as it is, summed.

    That of `least_squares` where a tensor has its scale for itself; among several the loud ones
    decide.
    """
    return _least(tensors, mean_error)


def moving_average(tensors: Sequence[Observed]) -> QParams:
    """The finest grid that holds the range that images have on average.

    What a moving average of ranges tends to, image by image: here it is their mean, which does not
    depend on their order, nor on the size of batches.

    Raises:
        DataError: the statistics were collected without the ranges of images.
    """
    return finest(tensors, *joint([_mean_range(tensor) for tensor in tensors]))


CALIBRATORS: Mapping[str, Calibrator] = {
    "least_squares": least_squares,
    "mse": mse,
    "minmax": minmax,
    "moving_average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
}


def relative_error(statistics: TensorStatistics, grid: QParams) -> float:
    """Mean squared error of rounding a tensor to a grid, over its mean square."""
    return mean_error(statistics, grid) / (float(statistics.moments.mean_square) or 1.0)


def mean_error(statistics: TensorStatistics, grid: QParams) -> float:
    """Mean squared error of rounding a tensor to a grid."""
    return squared_error(statistics.histogram, grid) / max(1, statistics.moments.count)


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


def _least(tensors: Sequence[Observed], error: Error) -> QParams:
    """The grid with the least sum of errors among those that reach over shrunk ranges."""
    if all(tensor.spec.symmetric for tensor in tensors):
        ranges = (r for tensor in tensors for r in _shrunk(range_of(tensor)))
        return finest(tensors, *_best_range(tensors, ranges, error))
    best = widest = joint([range_of(t) for t in tensors])
    octaves, before = float(HALVINGS), None
    for places in (1, 4, PLACES):
        low, high = best if before is None else (end * 2.0 ** (1 / before) for end in best)
        start = max(low, widest[0]), min(high, widest[1])
        best = _best_range(tensors, _shrunk_apart(start, places, octaves), error)
        octaves, before = 2 / places, places
    return finest(tensors, *best)


def _mean_range(tensor: Observed) -> Range:
    seen = tensor.statistics.ranges
    if not seen.images and tensor.statistics.moments.count:
        raise DataError(
            "the statistics have no ranges of images, which moving_average needs: collect them anew"
        )
    images = max(1, seen.images)
    return min(0.0, seen.low / images), max(0.0, seen.high / images)


def _best_range(tensors: Sequence[Observed], ranges: Iterator[Range], error: Error) -> Range:
    """The range whose finest grid has the least error; of equal ones the narrowest."""
    errors: dict[tuple[float, int], tuple[float, Range]] = {}
    for low, high in [*ranges, *bound(tensors)]:
        grid = finest(tensors, low, high)
        key = grid.scale, grid.zero_point
        if key not in errors:
            rounded = [(t.statistics, t.spec.at(*key)) for t in tensors]
            errors[key] = sum(error(*pair) for pair in rounded), (low, high)
    return errors[min(errors, key=lambda key: (errors[key][0], key))][1]


def _shrunk(full: Range) -> Iterator[Range]:
    for place in range(HALVINGS * PLACES + 1):
        ratio = 2.0 ** (-place / PLACES)
        yield full[0] * ratio, full[1] * ratio


def _shrunk_apart(full: Range, places: int, octaves: float) -> Iterator[Range]:
    """Both ends shrunk on their own; an end that is 0 has nothing to shrink."""
    ratios = [2.0 ** (-place / places) for place in range(round(octaves * places) + 1)]
    lows, highs = (sorted({end * ratio for ratio in ratios}) for end in full)
    return ((low, high) for low in lows for high in highs)
