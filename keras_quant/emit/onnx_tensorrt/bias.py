"""Float scales and biases with which float32 sums round to the codes of the reference.

A realized node answers with a staircase: the code as a function of its integer accumulator.
The file computes a line in real numbers, in float32 and in an order that nobody knows. So of all
lines with that very staircase the one is taken whose bias has the widest interval, and the bias is
put into its middle, where rounding errors have the most room before they change a code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.realized import realized_channels
from keras_quant.graph.passes.realize.room import offset_interval
from keras_quant.graph.passes.realize.staircase import Staircase
from keras_quant.qparams import QParams

# The pitch (accumulator steps an output step) is searched this far around the node's own; a ternary
# search keeps 2/3 of its bracket a turn, down to 1e-6 of it.
MAX_PITCH_MOVE = 2.0**-6
PITCH_TURNS = 32


def with_room(graph: Graph, node: Node) -> Node:
    """Gives a realized node from codes to codes the line of `roomy_line`, others as they are."""
    source, output = (graph.tensors[name].qparams for name in (node.inputs[0], node.output))
    if node.weight is None or source is None or output is None:
        return node
    scale, bias = roomy_line(node, source, output)
    return replace(node, weight=replace(node.weight, scale=scale), bias=bias)


def roomy_line(node: Node, source: QParams, output: QParams) -> tuple[np.ndarray, np.ndarray]:
    """Gives the weight scales and real biases of a realized node, as far as can be from ties.

    Args:
        node: with weights; source and output are the grids of its codes.
    Returns: scale, (channels,) float32, of the stored weight codes; bias, (channels,) float64:
        (n * s_x * scale + bias) / s_out, rounded, are the codes of the reference for every
        accumulator n of stored codes within reach.
    """
    channels, factor, stairs = realized_channels(node, source, output)
    scale = (_roomy_scale(channels, stairs) / factor).astype(np.float32)
    chosen = replace(channels, weight_scale=scale.astype(np.float64) * factor)
    low, high = offset_interval(chosen, stairs)
    # An open end, or none: a channel that never changes its code, or one no real line equals.
    has_middle = np.isfinite(low) & np.isfinite(high) & (low < high)
    middle = np.where(has_middle, (low + high) / 2, 0) * chosen.unit
    found = np.where(has_middle, scale, node.kernel.code_scale)
    return found, np.where(has_middle, middle, channels.bias)


def _roomy_scale(channels: Channels, stairs: Staircase) -> np.ndarray:
    """(channels,) float64 weight scales whose interval of biases is the widest.

    Its width is a concave function of the pitch: the least of some linear ones, less the largest
    of others.
    """

    def scaled(move: NDArray[np.float64]) -> Channels:
        return replace(channels, weight_scale=channels.weight_scale / (1 + move))

    def width(move: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = offset_interval(scaled(move), stairs)
        with np.errstate(invalid="ignore"):  # both ends open
            return np.nan_to_num(high - low, posinf=0.0)

    low = np.full(len(channels.bias), -MAX_PITCH_MOVE)
    high = -low
    for _ in range(PITCH_TURNS):
        third = (high - low) / 3
        rising = width(low + third) < width(high - third)
        low, high = np.where(rising, low + third, low), np.where(rising, high, high - third)
    best = (low + high) / 2
    better = width(best) > width(np.zeros_like(best))
    return scaled(np.where(better, best, 0.0)).weight_scale
