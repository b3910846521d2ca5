"""Float biases with which float32 sums round to the codes of the reference.

A realized node answers with a staircase: the code as a function of its integer accumulator.
The file computes the same line in real numbers, in float32 and in an order that nobody knows. So
its bias is put into the middle of the interval of all real biases with that very staircase,
where rounding errors have the most room before they change a code.
"""

from __future__ import annotations

import numpy as np

from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Node
from keras_quant.graph.passes.room import offset_interval
from keras_quant.graph.passes.staircase import Channels, kernel_multiplier, kernel_staircase
from keras_quant.qparams import QParams


def roomy_bias(node: Node, source: QParams, output: QParams) -> np.ndarray:
    """Gives the real biases of a realized node, as far as can be from those of other codes.

    Args:
        node: with weights; source and output are the grids of its codes.
    Returns: (channels,) float64: (n * s_x * s_w + bias) / s_out, rounded, are the codes of the
        reference for every accumulator n within reach.
    """
    assert node.weight is not None and node.weight.scale is not None, node.name
    scale = node.weight.scale
    stored = np.zeros(len(scale), np.int64) if node.bias is None else node.bias.astype(np.int64)
    factor = np.ones_like(stored) if node.weight.multiplier is None else node.weight.multiplier
    lowest, highest = accumulator_range(node.weight.values // factor, source)
    channels = Channels(
        input_scale=source.scale,
        output=output,
        weight_scale=scale.astype(np.float64) * factor,
        bias=stored * source.scale * scale.astype(np.float64),
        lowest=lowest.astype(np.float64),
        highest=highest.astype(np.float64),
    )
    multiplier = kernel_multiplier(source.scale, scale, output.scale)
    stairs = kernel_staircase(channels, factor=factor, bias=stored, multiplier=multiplier)
    low, high = offset_interval(channels, stairs)
    # An open end, or none: a channel that never changes its code, or one no real line equals.
    has_middle = np.isfinite(low) & np.isfinite(high) & (low < high)
    middle = np.where(has_middle, (low + high) / 2, 0) * channels.unit
    real: np.ndarray = np.where(has_middle, middle, channels.bias)
    return real
