"""What a layer is in the graph: its op, its attributes, the layout of its values and its kernel.

The graph's windows slide over images, and sequences (length, channels) are images of height 1
wherever they go. For an op on images a vector (channels,) becomes one of a single pixel, and what
has more axes a sequence. So a Conv1D is a conv2d, and a Dense layer on anything but vectors is a
conv2d of 1x1. A depthwise convolution with a depth multiplier is a conv2d with a group for each
input channel. A dilated Conv2DTranspose, whose strides are 1, is a conv2d with its kernel turned.
What a PReLU with a slope for each position reads becomes a vector, whose channels have tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_quant.graph.ir import Shape
from keras_quant.model.operations import Lookup, Operation
from keras_quant.model.pointwise import varies_by_position

Pair = tuple[int, int]

# Ops that read images only.
ON_IMAGES = (
    *("conv2d", "depthwise_conv2d", "conv2d_transpose"),
    *("max_pool", "avg_pool", "mean", "pad", "upsample"),
)


def layout(shape: Shape) -> Shape:
    """The shape in which the graph holds values of a shape, but at the model's ends."""
    return (1, *shape) if len(shape) == 2 else shape


def image_shape(shape: Shape) -> Shape:
    """The (height, width, channels) as which ops on images see values of a shape."""
    if len(shape) == 3:
        return shape
    return 1, int(np.prod(shape[:-1])), shape[-1]


def op_shape(operation: Operation) -> Shape:
    """The shape that an operation's op gives; what reads it finds it in its layout."""
    if operation.kind == "mean":
        return operation.shape[-1:]
    if operation.kind == "global_max_pool":
        return 1, 1, operation.shape[-1]
    if isinstance(operation, Lookup) and varies_by_position(operation.function):
        return (int(np.prod(operation.shape)),)
    return (
        image_shape(operation.shape) if op_of(operation) in ON_IMAGES else layout(operation.shape)
    )


def op_of(operation: Operation) -> str:
    """The graph's op for an operation that opens a node, or only moves values."""
    if operation.kind == "batch_norm":
        return "depthwise_conv2d"
    if operation.kind == "global_max_pool":
        return "max_pool"
    if operation.kind == "depthwise_conv2d" and operation.layer.depth_multiplier > 1:
        return "conv2d"
    if operation.kind == "conv2d_transpose" and _is_dilated(operation):
        return "conv2d"
    if operation.kind == "dense" and len(operation.input_shapes[0]) > 1:
        return "conv2d"
    return operation.kind


def kernel_layout(values: np.ndarray, operation: Operation) -> np.ndarray:
    """A Keras kernel in the graph's layout, see `graph.ir.Weight`.

    Args:
        values: the layer's kernel, or something of its shape.
    """
    if operation.kind == "conv2d_transpose":
        values = values.transpose(0, 1, 3, 2)
        if _is_dilated(operation):
            return values[::-1, ::-1]
        return np.pad(values, [(0, more) for more in (*_taps_beyond(operation), 0, 0)])
    if operation.kind == "depthwise_conv2d":
        height, width, channels, multiplier = values.shape
        grouped = values.reshape(height, width, 1, channels * multiplier)
        return grouped if multiplier > 1 else grouped[:, :, 0]
    if op_of(operation) == "conv2d" and values.ndim < 4:
        return values.reshape(*[1] * (4 - values.ndim), *values.shape)
    return values


def attrs_of(operation: Operation) -> dict[str, Any]:
    """A layer's settings under the graph's names."""
    return _ATTRS[operation.kind](operation) if operation.kind in _ATTRS else {}


def margins_of(operation: Operation) -> tuple[Pair, Pair] | None:
    """What is padded in front of an op, which then pads nothing; None where it pads itself.

    Returns: ((top, bottom), (left, right)): of a causal Conv1D the past, of a dilated
        Conv2DTranspose all from where its window reaches a pixel.
    """
    layer = operation.layer
    if operation.kind == "conv2d_transpose" and _is_dilated(operation):
        rows, columns = (
            _reached((taps - 1) * dilation, layer.padding.lower())
            for taps, dilation in zip(layer.kernel_size, layer.dilation_rate, strict=True)
        )
        return rows, columns
    if getattr(layer, "padding", "") != "causal":
        return None
    (taps,), (dilation,) = layer.kernel_size, layer.dilation_rate
    return (0, 0), ((taps - 1) * dilation, 0)


def _taps_beyond(operation: Operation) -> Pair:
    """Taps of 0 that make a kernel cover what output_padding adds to padding "valid"."""
    layer = operation.layer
    grows = layer.output_padding is not None and layer.padding.lower() == "valid"
    return _pair(layer.output_padding) if grows else (0, 0)


def _is_dilated(operation: Operation) -> bool:
    return any(rate > 1 for rate in operation.layer.dilation_rate)


def _reached(reach: int, padding: str) -> Pair:
    """Pixels on either side, of an axis on which each is spread over so many that follow."""
    return (reach, reach) if padding == "valid" else (reach - reach // 2, reach // 2)


def _pair(setting: int | Sequence[int]) -> Pair:
    """A setting of a layer that slides over images, or over sequences."""
    values = (setting,) if isinstance(setting, int) else tuple(setting)
    height, width = values if len(values) == 2 else (1, *values)
    return height, width


def _conv(operation: Operation) -> dict[str, Any]:
    layer = operation.layer
    groups = layer.groups if operation.kind == "conv2d" else operation.input_shapes[0][-1]
    return {
        "strides": _pair(layer.strides),
        "padding": "valid" if margins_of(operation) else layer.padding.lower(),
        "dilation": _pair(layer.dilation_rate),
        **({"groups": groups} if op_of(operation) == "conv2d" and groups > 1 else {}),
    }


def _transposed_conv(operation: Operation) -> dict[str, Any]:
    layer = operation.layer
    if _is_dilated(operation):
        return {"dilation": _pair(layer.dilation_rate), "padding": "valid"}
    attrs = {"strides": _pair(layer.strides), "padding": layer.padding.lower()}
    if layer.output_padding is not None and attrs["padding"] == "same":
        attrs["output_padding"] = _pair(layer.output_padding)
    return attrs


def _pool(operation: Operation) -> dict[str, Any]:
    layer = operation.layer
    return {
        "pool_size": _pair(layer.pool_size),
        "strides": _pair(layer.strides),
        "padding": layer.padding.lower(),
    }


def _global_pool(operation: Operation) -> dict[str, Any]:
    size = layout(operation.input_shapes[0])[:2]
    return {"pool_size": size, "strides": size, "padding": "valid"}


def _pad(operation: Operation) -> dict[str, Any]:
    """What a padding adds on either side of height and width, or a cropping takes, below 0."""
    crops = hasattr(operation.layer, "cropping")
    margins = -np.array(operation.layer.cropping) if crops else np.array(operation.layer.padding)
    rows, columns = margins.tolist() if margins.ndim > 1 else ((0, 0), margins.tolist())
    return {"padding": (tuple(rows), tuple(columns))}


def _upsample(operation: Operation) -> dict[str, Any]:
    """How often each row and each column is repeated."""
    (height, width, _), (above, wider, _) = (
        layout(operation.input_shapes[0]),
        layout(operation.shape),
    )
    return {"size": (above // height, wider // width)}


def _concat(operation: Operation) -> dict[str, Any]:
    """The axis, counted without the batch."""
    axis = operation.layer.axis % (1 + len(operation.shape)) - 1
    return {"axis": axis + len(layout(operation.shape)) - len(operation.shape)}


def _transpose(operation: Operation) -> dict[str, Any]:
    """The order of the axes of values in the graph's layout."""
    order = [axis - 1 for axis in operation.layer.dims]
    more = len(layout(operation.shape)) - len(order)
    return {"perm": (*range(more), *(axis + more for axis in order))}


_ATTRS: dict[str, Callable[[Operation], dict[str, Any]]] = {
    "avg_pool": _pool,
    "concat": _concat,
    "conv2d": _conv,
    "conv2d_transpose": _transposed_conv,
    "depthwise_conv2d": _conv,
    "global_max_pool": _global_pool,
    "max_pool": _pool,
    "pad": _pad,
    "reshape": lambda operation: {"shape": layout(operation.shape)},
    "transpose": _transpose,
    "upsample": _upsample,
}
