"""Patches: all pixels that a convolution multiplies for one output pixel, side by side.

Pads, slices and concatenations move codes and change none. First each pixel gets those
beside it that its window spans, then those of the rows below; so a 3x3 window takes 6 slices
and not 9, and a concatenation no more inputs than XNNPACK allows for windows of up to 5x5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.emission import Emission
from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.windows import Window, output_size, padding_of, window_of

_BATCH, _CHANNELS = 0, 3
_HEIGHT, _WIDTH = 0, 1  # in shapes and windows, which have no batch axis


def emit_patches(emission: Emission, node: Node) -> int:
    """Emits what makes a convolution's input the input of a fully connected layer.

    Args:
        node: a conv2d with codes as input.
    Returns: the file's tensor (batch, out_height, out_width, taps * channels), in the order
        of a kernel (height, width, channels).
    """
    window, source = window_of(node), emission.source(node)
    height, width, _ = source.shape
    size = output_size(window, (height, width))
    index = emission.index[source.name]
    patches = replace(source, name="patches")  # of all nodes alike: a file has nine for each
    patches, index = _pad(emission, patches, index, padding_of(window, (height, width)))
    for axis in (_WIDTH, _HEIGHT):
        patches, index = _gather(emission, patches, index, window=window, axis=axis, size=size)
    return index


def _pad(
    emission: Emission, patches: Tensor, index: int, margins: tuple[tuple[int, int], ...]
) -> tuple[Tensor, int]:
    if margins == ((0, 0), (0, 0)):
        return patches, index
    height, width, channels = patches.shape
    shape = (height + sum(margins[0]), width + sum(margins[1]), channels)
    padded = replace(patches, shape=shape)
    values = np.array([(0, 0), *margins, (0, 0)], np.int32)
    inputs = [index, emission.file.constant("padding", values)]
    return padded, emission.write(padded, "PAD", inputs, options=schema.PadOptionsT(), version=2)


def _gather(
    emission: Emission,
    patches: Tensor,
    index: int,
    *,
    window: Window,
    axis: int,
    size: tuple[int, int],
) -> tuple[Tensor, int]:
    """Puts the pixels that a window's taps meet along an axis into the channels.

    Args:
        size: of the output, (height, width).
    """
    taps, stride = window.size[axis], window.strides[axis]
    if taps == stride == 1:
        return patches, index
    shape = list(patches.shape)
    shape[axis] = size[axis]
    part = replace(patches, shape=tuple(shape))
    parts = [
        _slice(emission, part, index, axis=axis, first=tap * window.dilation[axis], stride=stride)
        for tap in range(taps)
    ]
    if taps == 1:
        return part, parts[0]
    joined = replace(part, shape=(*part.shape[:2], taps * part.shape[2]))
    options = schema.ConcatenationOptionsT(axis=_CHANNELS)
    return joined, emission.write(joined, "CONCATENATION", parts, options=options, version=2)


def _slice(
    emission: Emission, part: Tensor, index: int, *, axis: int, first: int, stride: int
) -> int:
    """Every stride-th pixel of an axis from the first on, as many as part has."""
    begin, strides = np.zeros(4, np.int32), np.ones(4, np.int32)
    end = np.array([1, *part.shape], np.int32)
    begin[axis + 1], strides[axis + 1] = first, stride
    end[axis + 1] = first + stride * (part.shape[axis] - 1) + 1
    bounds = [emission.file.constant("slice", values) for values in (begin, end, strides)]
    any_batch = 1 << _BATCH
    options = schema.StridedSliceOptionsT(beginMask=any_batch, endMask=any_batch)
    return emission.write(part, "STRIDED_SLICE", [index, *bounds], options=options, version=2)
