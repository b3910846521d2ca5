"""Which way of adding codes in ONNX Runtime gives the reference's: found by trying all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_quant.emit.onnx_x86.emission import stored_range
from keras_quant.graph.sums import clipped, exact_sums, wrong_sums
from keras_quant.qparams import QParams


def kernel_is_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether QLinearAdd gives the reference's code for every pair of codes.

    It computes (fixed + a * ratio_a) + b * ratio_b from stored codes in float32, and rounds the
    zero point with the rest (MLAS, qladd.cpp); with AVX2 products are not rounded by themselves.
    """
    wanted = exact_sums(first, second, output)
    return all((codes == wanted).all() for codes in _kernel_codes(first, second, output))


def floats_are_exact(first: QParams, second: QParams, output: QParams) -> bool:
    """Whether dequantizing, adding and quantizing in float32 does so.

    The operators are those of `emit.onnx_x86.ops`: the sum is multiplied by float32(1 / scale).
    """
    return wrong_sums(first, second, output)[0] == 0


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
        yield clipped(np.rint(total) - point, output)


def _stored(qparams: QParams) -> np.ndarray:
    low, high, _ = stored_range(qparams)
    return np.arange(low, high + 1)
