"""What a realized node computes: its channels, and their staircases."""

from __future__ import annotations

import numpy as np

from keras_quant.graph.exact import accumulator_range
from keras_quant.graph.ir import Node
from keras_quant.graph.passes.realize.channels import Channels
from keras_quant.graph.passes.realize.staircase import (
    Staircase,
    kernel_multiplier,
    kernel_staircase,
)
from keras_quant.qparams import QParams


def realized_channels(
    node: Node, source: QParams, output: QParams
) -> tuple[Channels, np.ndarray, Staircase]:
    """Reads the channels of a realized node from codes to codes.

    Args:
        source: grid of the codes that it reads.
        output: grid of the codes that it gives.
    Returns: the channels, their scales and biases as stored; (channels,) what their weight codes
        were multiplied by; and the staircases of the kernel over the codes before that.
    """
    kernel, scale = node.kernel, node.kernel.code_scale
    bias = np.zeros(len(scale), np.int64) if node.bias is None else node.bias.astype(np.int64)
    factor = np.ones_like(bias) if kernel.multiplier is None else kernel.multiplier
    lowest, highest = accumulator_range(kernel.values // factor, source)
    channels = Channels(
        input_scale=source.scale,
        output=output,
        weight_scale=scale.astype(np.float64) * factor,
        bias=bias.astype(np.float64) * source.scale * scale.astype(np.float64),
        lowest=lowest.astype(np.float64),
        highest=highest.astype(np.float64),
    )
    multiplier = kernel_multiplier(source.scale, scale, output.scale)
    stairs = kernel_staircase(channels, factor=factor, bias=bias, multiplier=multiplier)
    return channels, factor, stairs
