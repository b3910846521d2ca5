"""Ranges of tensors that share a scale, and the finest grid that reaches over a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.calibration.statistics import TensorStatistics
from keras_quant.qparams import GridSpec, QParams

Range = tuple[float, float]  # low <= 0 <= high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """A tensor that is to be rounded: what was seen of it, and which codes it may have."""

    statistics: TensorStatistics
    spec: GridSpec


def finest(tensors: Sequence[Observed], low: float, high: float) -> QParams:
    """The grid of the smallest scale that tensors may have and that reaches from low to high.

    A zero point is rounded, so that an end may be half a step beyond the last code.
    """
    spec = tensors[0].spec
    needed = float(np.float32(max(_scale(t.spec, low, high) for t in tensors))) or 1.0
    scale = 2.0 ** math.ceil(math.log2(needed)) if spec.power_of_two else needed
    for _, end in bound(tensors):
        bounded = float(np.float32(end / spec.at().qmax))
        scale = min(scale, bounded) if bounded >= needed else scale
    return spec.at(scale, min(spec.at().qmax, round(-low / scale)))


def spanning(grid: QParams, tensors: Sequence[Observed]) -> QParams:
    """The grid, or the finest one that reaches to the ends that values of tensors may have."""
    spans = [tensor.spec.span for tensor in tensors if tensor.spec.span is not None]
    spec = tensors[0].spec
    if not spans:
        return grid
    if not spec.symmetric:
        low, high = (grid.scale * (code - grid.zero_point) for code in (grid.qmin, grid.qmax))
        wide = joint([(low, high), *spans])
        return grid if wide == (low, high) else finest(tensors, *wide)
    needed = max(_scale(t.spec, *t.spec.span) for t in tensors if t.spec.span is not None)
    if needed <= grid.scale:
        return grid
    needed = float(np.float32(needed))
    return spec.at(2.0 ** math.ceil(math.log2(needed)) if spec.power_of_two else needed)


def bound(tensors: Sequence[Observed]) -> list[Range]:
    """The range up to the bound, if all tensors have the same one, and the same codes."""
    ends = {(tensor.spec.bound, tensor.spec.at().qmax) for tensor in tensors}
    end, _ = ends.pop()
    return [] if ends or end is None else [(0.0, end)]


def joint(ranges: Sequence[Range]) -> Range:
    """The range that holds several."""
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def range_of(tensor: Observed) -> Range:
    """From the smallest value to the largest, and to 0."""
    moments = tensor.statistics.moments
    return min(0.0, float(moments.low)), max(0.0, float(moments.high))


def _scale(spec: GridSpec, low: float, high: float) -> float:
    """The scale with which the codes reach from low to high; of symmetric unsigned ones from 0."""
    codes = spec.at()
    if not spec.symmetric:
        return (high - low) / codes.qmax
    return max(high / codes.qmax, low / codes.qmin) if spec.signed else high / codes.qmax
