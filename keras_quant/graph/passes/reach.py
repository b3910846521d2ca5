"""Bounds of the reals that a node of floats can give, from bounds of what it reads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from keras_quant.graph.ir import Node
from keras_quant.graph.pointwise import POINTWISE

Interval = tuple[float, float]

EVERYTHING: Interval = (-math.inf, math.inf)

_WITHIN = ("max_pool", "avg_pool", "mean", "reshape", "transpose", "upsample", "concat", "pad")


def reach(node: Node, sources: Sequence[Interval]) -> Interval:
    """Gives the least and the greatest real of a node's output, or bounds beyond them.

    Args:
        node: of floats, its weight and bias too.
        sources: of the tensors that it reads.
    """
    low, high = _reach_of_values(node, sources)
    if node.attrs.get("activation", "none") != "none":  # of those that give 0 for the negative
        return max(low, 0.0), max(high, 0.0)
    return low, high


def _reach_of_values(node: Node, sources: Sequence[Interval]) -> Interval:
    lows, highs = zip(*sources, strict=True)
    if node.op == "pointwise":
        low, high = POINTWISE[node.attrs["function"]].bounds
        # What has no upper bound nowhere passes a ReLU's values; others do: sigmoid(0) is 0.5.
        return low, high if np.isfinite(high) else max(highs[0], 0.0)
    if node.op in _WITHIN:  # padded pixels are 0
        return min(*lows, 0.0), max(*highs, 0.0)
    if node.op == "add":
        return sum(lows), sum(highs)
    if not np.isfinite(sources).all():
        return EVERYTHING
    if node.weight is not None:
        return _reach_of_sums(node, *sources[0])
    if node.op == "multiply":
        products = np.multiply.outer(*sources)
        return float(products.min()), float(products.max())
    return EVERYTHING


def _reach_of_sums(node: Node, low: float, high: float) -> Interval:
    """Of sums of products with a kernel; at a border, each product may be missing."""
    kernel = node.kernel.values.astype(np.float64)
    kernel = kernel.reshape(-1, kernel.shape[-1])
    low, high = min(low, 0.0), max(high, 0.0)
    rising, falling = np.maximum(kernel, 0).sum(axis=0), np.minimum(kernel, 0).sum(axis=0)
    bias = np.zeros(kernel.shape[1]) if node.bias is None else node.bias.astype(np.float64)
    lows, highs = rising * low + falling * high + bias, rising * high + falling * low + bias
    return float(lows.min()), float(highs.max())
