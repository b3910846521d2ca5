"""Which way of adding codes in ONNX Runtime gives the reference's: found by trying all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from keras_quant.emit.onnx_x86.emission import stored_range
from keras_quant.qparams import QParams


def kernel_is_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether QLinearAdd gives the reference's code for every pair of codes.

    It computes (fixed + a * ratio_a) + b * ratio_b from stored codes in float32, and rounds the
    zero point with the rest (MLAS, qladd.cpp); with AVX2 products are not rounded by themselves.
    """
    wanted = _wanted(first, second, output)
    return all((codes == wanted).all() for codes in _kernel_codes(first, second, output))


def floats_are_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether dequantizing, adding and quantizing in float32 does so.

    The operators are those of `onnx_x86_ops`: the sum is multiplied by float32(1 / scale).
    """
    a, b = (_levels(q).astype(np.float32) * np.float32(q.scale) for q in (first, second))
    steps = np.add.outer(a, b) * (np.float32(1) / np.float32(output.scale))
    return bool((_clipped(steps, output) == _wanted(first, second, output)).all())


def _wanted(first: QParams, second: QParams, output: QParams) -> np.ndarray:
    """The reference's codes less the zero point, as in `graph.kernels.bind_add`."""
    a, b = (_levels(q).astype(np.float64) * q.scale for q in (first, second))
    return _clipped(np.add.outer(a, b) / output.scale, output)


def _kernel_codes(first: QParams, second: QParams, output: QParams) -> Iterator[np.ndarray]:
    """The same as QLinearAdd computes them, without and with fused multiply-add."""
    scale, point = np.float32(output.scale), stored_range(output)[2]
    ratios = [np.float32(q.scale) / scale for q in (first, second)]
    points = [np.float32(stored_range(q)[2]) for q in (first, second)]
    a, b = _stored(first), _stored(second)
    fixed = np.float32(point) - (ratios[0] * points[0] + ratios[1] * points[1])
    for fused in (False, True):
        product: type[np.floating] = np.float64 if fused else np.float32
        partial = (fixed + a.astype(product) * product(ratios[0])).astype(np.float32)
        total = np.add.outer(partial, b.astype(product) * product(ratios[1])).astype(np.float32)
        yield _clipped(np.rint(total) - point, output)


def _stored(qparams: QParams) -> np.ndarray:
    low, high, _ = stored_range(qparams)
    return np.arange(low, high + 1)


def _levels(qparams: QParams) -> np.ndarray:
    return np.arange(qparams.qmin, qparams.qmax + 1) - qparams.zero_point


def _clipped(steps: NDArray[np.floating], output: QParams) -> NDArray[np.floating]:
    bounds = output.qmin - output.zero_point, output.qmax - output.zero_point
    codes: NDArray[np.floating] = np.clip(np.rint(steps), *bounds)
    return codes
