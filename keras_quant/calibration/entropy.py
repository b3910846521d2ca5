"""Ranges that keep the distribution of values: the least Kullback-Leibler divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_quant.calibration.finest import Observed, bound, finest, joint, range_of
from keras_quant.calibration.histogram import BINS
from keras_quant.qparams import QParams

# Bins from 0 to the largest value: TensorRT's number of them; the last ones may be empty.
COARSE = 2048
# Ranges are tried at so many places between one bin a code and all bins.
PLACES = 128
# What an empty code gets, as in ONNX Runtime's smooth_distribution: the divergence stays finite.
SMALL = 1e-4


def entropy(tensors: Sequence[Observed]) -> QParams:
    """The grid of which the codes tell most of how values are distributed.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017): the histogram is cut at a range, P is what
    lies within, with all that lies beyond added to its ends, and Q what the codes tell of it: the
    bins of a code share its count evenly, but for those that are empty. That range is taken whose
    sum of P log(P / Q) is least. As in ONNX Runtime's `CalibrationMethod.Entropy`, Q is counted
    before the ends are added to P, and P and Q are smoothed. Other than there:

    - 2,048 bins, as in TensorRT, where ONNX Runtime has 128; 128 ranges are tried.
    - A tensor has as many codes as its scheme says, where both have 128 of one sign.
    - Exact zeros, as a ReLU gives, are left out: they have a code in each grid.
    - Codes with a zero point have ranges whose ends are shrunk alike.

    Tensors that share a grid have the least sum of their divergences.
    """
    low, high = joint([range_of(tensor) for tensor in tensors])
    ratios = np.linspace(_narrowest(tensors), 1, PLACES)
    ranges = [(low * ratio, high * ratio) for ratio in ratios] + bound(tensors)
    grids = {}
    for ends in ranges:
        grid = finest(tensors, *ends)
        grids[grid.scale, grid.zero_point] = grid
    costs = {key: sum(divergence(t, grid) for t in tensors) for key, grid in grids.items()}
    return grids[min(costs, key=lambda key: (costs[key], -key[0]))]


def _narrowest(tensors: Sequence[Observed]) -> float:
    """The share of a range in which there is one bin a code."""
    bins = max(len(_coarse(tensor)[1]) for tensor in tensors)
    codes = max(2**tensor.spec.bits for tensor in tensors)
    return float(min(1.0, codes / max(1, bins)))


def divergence(tensor: Observed, grid: QParams) -> float:
    """Sum of P log(P / Q), see `entropy`: of a tensor, and of what a grid's codes tell of it.

    Args:
        grid: its scale and zero point; the codes are the tensor's own.
    Returns: 0 or more; 0 of a tensor of zeros.
    """
    centres, counts = _coarse(tensor)
    codes = tensor.spec.at(grid.scale, grid.zero_point)
    places = np.rint(centres / codes.scale) + codes.zero_point
    within = (places >= codes.qmin) & (places <= codes.qmax)
    if not counts.any() or not within.any():
        return 0.0 if not counts.any() else np.inf
    inside, place = counts[within], (places[within] - codes.qmin).astype(np.int64)
    p = inside.copy()
    p[0] += counts[~within & (places < codes.qmin)].sum()
    p[-1] += counts[~within & (places > codes.qmax)].sum()
    filled = inside > 0
    size = codes.qmax - codes.qmin + 1
    sums = np.bincount(place, inside, minlength=size)
    shares = np.bincount(place, filled, minlength=size)
    q = np.where(filled, sums[place] / np.maximum(1, shares[place]), 0.0)
    return _kullback_leibler(_smoothed(p), _smoothed(q))


def _coarse(tensor: Observed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and counts of COARSE bins or fewer of each sign that has values."""
    histogram = tensor.statistics.histogram
    merged = BINS // COARSE
    counts = histogram.counts.reshape(-1, merged).sum(axis=1).astype(np.float64)
    centres = (np.arange(-COARSE, COARSE) + 0.5) * merged * histogram.width
    low, high = range_of(tensor)
    known = (centres > low - merged * histogram.width) & (centres < high + merged * histogram.width)
    return np.asarray(centres[known], np.float64), np.asarray(counts[known], np.float64)


def _smoothed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """A distribution without zeros: what empty places get is taken from the others."""
    empty = counts == 0
    if empty.all():
        return np.full(counts.shape, 1 / counts.size)
    taken = SMALL * empty.sum() / (~empty).sum()
    found = np.where(empty, SMALL, np.maximum(counts - taken, SMALL))
    return np.asarray(found / found.sum())


def _kullback_leibler(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return float((p * np.log(p / q)).sum())
