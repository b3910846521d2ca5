"""Exact integer sums of products, computed by floating-point matrix products.

Each partial sum of integers is an integer; where none can pass 2**24 in magnitude, float32
arithmetic makes no error in any order of summation, and BLAS does the work about ten times as
fast as numpy's integer loops. Longer sums are cut into blocks that keep this bound, and the
blocks are added in float64, which is exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_quant.qparams import QParams

FLOAT32_EXACT = 2**24
FLOAT64_EXACT = 2**53

Product = Callable[[np.ndarray], np.ndarray]


def accumulator_range(kernel: np.ndarray, qparams: QParams) -> tuple[np.ndarray, np.ndarray]:
    """Gives the least and greatest value of the accumulator of each output channel.

    Every partial sum lies within them too, because each term can be 0 (padding).

    Args:
        kernel: integer codes, output channels on the last axis.
        qparams: of the input codes.
    Returns: lowest and highest sum of (code - zero_point) * kernel, int64 (channels,).
    """
    weights = kernel.reshape(-1, kernel.shape[-1])
    total = weights.sum(axis=0, dtype=np.int64)
    positive = np.maximum(weights, 0).sum(axis=0, dtype=np.int64)
    negative = total - positive
    low, high = _level_range(qparams)
    return low * positive + high * negative, high * positive + low * negative


def exact_dtype(largest: int) -> type[np.floating]:
    """Gives the narrowest float type that holds each integer up to largest in magnitude."""
    assert largest <= FLOAT64_EXACT, largest
    return np.float32 if largest <= FLOAT32_EXACT else np.float64


def exact_product(kernel: np.ndarray, qparams: QParams, *, headroom: int) -> Product:
    """Prepares the exact product of levels with an integer matrix.

    Args:
        kernel: integers (rows, channels).
        qparams: of the codes that will be given.
        headroom: what will be added to the result later, in magnitude.
    Returns: a function of float32 integers (..., rows), each a code minus its zero point,
        to the exact (..., channels) product in float32, or in float64 where the result or
        the result plus headroom may pass 2**24.
    """
    low, high = accumulator_range(kernel, qparams)
    largest = int(max(high.max(), -low.min())) + headroom
    if exact_dtype(largest) is np.float32:
        whole = kernel.astype(np.float32)
        return lambda x: x @ whole
    blocks = [(rows, kernel[rows].astype(np.float32)) for rows in _exact_blocks(kernel, qparams)]

    def product(x: np.ndarray) -> np.ndarray:
        total = np.zeros((*x.shape[:-1], kernel.shape[1]), np.float64)
        for rows, block in blocks:
            total += x[..., rows] @ block
        return total

    return product


def _term_ranges(kernel: np.ndarray, qparams: QParams) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value of each term of the sums, int64 (terms, channels)."""
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(np.int64)
    low, high = _level_range(qparams)
    return np.minimum(weights * low, weights * high), np.maximum(weights * low, weights * high)


def _level_range(qparams: QParams) -> tuple[int, int]:
    """Least and greatest code minus its zero point; 0, of what is padded, is within."""
    return min(qparams.qmin - qparams.zero_point, 0), max(qparams.qmax - qparams.zero_point, 0)


def _exact_blocks(kernel: np.ndarray, qparams: QParams) -> list[slice]:
    """Cuts the rows of a matrix into the longest blocks whose float32 product is exact."""
    low, high = _term_ranges(kernel, qparams)
    ends = np.cumsum(np.stack([-low, high]), axis=1)
    blocks: list[slice] = []
    start, base = 0, np.zeros_like(ends[:, :1])
    while start < len(kernel):
        fits = (ends - base <= FLOAT32_EXACT).all(axis=(0, 2))
        stop = len(kernel) if fits.all() else int(fits.argmin())
        assert stop > start, "a single product passes 2**24: codes wider than 16 bits"
        blocks.append(slice(start, stop))
        start, base = stop, ends[:, stop - 1 : stop]
    return blocks
