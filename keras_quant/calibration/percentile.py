"""Ranges that leave out the values furthest out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_quant.calibration.finest import Observed, Range, finest, joint, range_of
from keras_quant.calibration.histogram import BINS, Histogram
from keras_quant.qparams import QParams

# What ONNX Runtime's quantize_static takes, and NVIDIA's pytorch-quantization nearly (99.99).
DEFAULT_PERCENT = 99.999


def percentile(tensors: Sequence[Observed], percent: float = DEFAULT_PERCENT) -> QParams:
    """The finest grid that holds all but the values furthest out.

    ONNX Runtime's `CalibrationMethod.Percentile` (onnxruntime/python/tools/quantization/
    calibrate.py), Wu et al., "Integer Quantization for Deep Learning Inference" (2020), 3.3: of
    symmetric codes percent of the sizes |x| are within the range; of others half of what is left
    out lies at each end. Ends are edges of the histogram's bins, of which it has 4,096 or more up
    to the largest value. Tensors that share a grid have the range that holds each one's.

    Args:
        percent: above 0, up to 100.
    """
    low, high = joint([_range(tensor, percent / 100) for tensor in tensors])
    if low == high:  # nearly all are exact zeros
        low, high = joint([range_of(tensor) for tensor in tensors])
    return finest(tensors, low, high)


def _range(tensor: Observed, share: float) -> Range:
    low, high = range_of(tensor)
    histogram = tensor.statistics.histogram
    if tensor.spec.symmetric:
        end = _end(histogram.counts[BINS:] + histogram.counts[:BINS][::-1], histogram, 1 - share)
        return max(low, -end), min(high, end)
    left_out = (1 - share) / 2
    return (
        max(low, -_end(histogram.counts[:BINS][::-1], histogram, left_out)),
        min(high, _end(histogram.counts[BINS:], histogram, left_out)),
    )


def _end(counts: np.ndarray, histogram: Histogram, left_out: float) -> float:
    """The nearest edge to 0 beyond which there is no more than a share of all values.

    Args:
        counts: of bins from 0 outwards.
    """
    total = int(histogram.counts.sum()) + histogram.zeros
    beyond = np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])
    return float(np.argmax(beyond <= left_out * total)) * histogram.width
