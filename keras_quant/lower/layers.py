"""What a layer is in the graph: its op, its attributes, the layout of its kernel.

The graph's windows slide over images. A sequence (length, channels) is an image of height 1, a
vector (channels,) one of a single pixel, and what has more axes is laid out as a sequence. So a
Conv1D is a conv2d, and a Dense layer on anything but vectors is a conv2d of 1x1. A depthwise
convolution with a depth multiplier is a conv2d with a group for each input channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_quant.functional import Step
from keras_quant.graph.ir import Shape

Pair = tuple[int, int]

# Ops that read images only.
ON_IMAGES = (
    *("conv2d", "depthwise_conv2d", "conv2d_transpose"),
    *("max_pool", "avg_pool", "mean", "pad"),
)


def image_shape(shape: Shape) -> Shape:
    """The (height, width, channels) as which the graph sees values of a shape."""
    if len(shape) == 3:
        return shape
    return 1, int(np.prod(shape[:-1])), shape[-1]


def op_of(step: Step) -> str:
    """The graph's op for a step that opens a node."""
    if step.kind == "batch_norm":
        return "depthwise_conv2d"
    if step.kind == "depthwise_conv2d" and step.layer.depth_multiplier > 1:
        return "conv2d"
    if step.kind == "dense" and len(step.layer.input_shape) > 2:
        return "conv2d"
    return step.kind


def kernel_layout(values: np.ndarray, step: Step) -> np.ndarray:
    """A Keras kernel in the graph's layout, see `graph.ir.Weight`.

    Args:
        values: the layer's kernel, or something of its shape.
    """
    if step.kind == "conv2d_transpose":
        return values.transpose(0, 1, 3, 2)
    if step.kind == "depthwise_conv2d":
        height, width, channels, multiplier = values.shape
        grouped = values.reshape(height, width, 1, channels * multiplier)
        return grouped if multiplier > 1 else grouped[:, :, 0]
    if op_of(step) == "conv2d" and values.ndim < 4:
        return values.reshape(*[1] * (4 - values.ndim), *values.shape)
    return values


def attrs_of(step: Step) -> dict[str, Any]:
    """A layer's settings under the graph's names."""
    layer = step.layer
    if step.kind in ("conv2d", "depthwise_conv2d"):
        groups = layer.groups if step.kind == "conv2d" else layer.input_shape[-1]
        return {
            "strides": _pair(layer.strides),
            "padding": "valid" if is_causal(step) else layer.padding.lower(),
            "dilation": _pair(layer.dilation_rate),
            **({"groups": groups} if op_of(step) == "conv2d" and groups > 1 else {}),
        }
    if step.kind == "conv2d_transpose":
        return {"strides": _pair(layer.strides), "padding": layer.padding.lower()}
    if step.kind in ("max_pool", "avg_pool"):
        return {
            "pool_size": _pair(layer.pool_size),
            "strides": _pair(layer.strides),
            "padding": layer.padding.lower(),
        }
    if step.kind == "pad":
        return {"padding": _margins(layer.padding)}
    return {}


def is_causal(step: Step) -> bool:
    """Whether a Conv1D looks back only."""
    return getattr(step.layer, "padding", "") == "causal"


def causal_margins(step: Step) -> tuple[Pair, Pair]:
    """What a causal Conv1D pads in front of a sequence."""
    (taps,), (dilation,) = step.layer.kernel_size, step.layer.dilation_rate
    return (0, 0), ((taps - 1) * dilation, 0)


def _pair(setting: int | Sequence[int]) -> Pair:
    """A setting of a layer that slides over images, or over sequences."""
    values = (setting,) if isinstance(setting, int) else tuple(setting)
    height, width = values if len(values) == 2 else (1, *values)
    return height, width


def _margins(padding: Sequence[Any]) -> tuple[Pair, Pair]:
    """Margins of an image, or (before, after) of a sequence."""
    if isinstance(padding[0], int):
        return (0, 0), _pair(padding)
    return _pair(padding[0]), _pair(padding[1])
