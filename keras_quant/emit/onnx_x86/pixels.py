"""Convolutions of pixels of few channels, as of fewer pixels of more channels.

MLAS has kernels for int8 weights that read an image where it lies. They take input channels by
fours, and output channels by eights from 16 on (MlasConvSymPackWSize, convsym.cpp). For others it
first copies what each window meets, which with few channels takes longer than the products. But
four pixels of three channels side by side are one of twelve, without a byte moved. A window on
those computes the outputs of all of them, in channels of their own; weights of pixels that an
output does not meet are 0.

Measured on x86 with AVX512 VNNI, ONNX Runtime 1.32, in us:

| input | convolution | as it is | joined |
|---|---|---|---|
| 224x224x3 | 3x3, strides 2, 32 channels | 456 | 233 |
| 224x224x3 | 7x7, strides 2, 64 channels | 1399 | 1040 |
| 224x224x3 | 3x3, 64 channels | 2398 | 1917 |
| 32x32x3 | 3x3, 16 channels | 65 | 32 |
| 28x28x1 | 3x3, 32 channels | 45 | 28 |
| 56x56x6 | 3x3, 64 channels | 200 | 144 |
| 56x56x50 | 3x3, 64 channels | 660 | 825 |
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import gcd

import numpy as np

from keras_quant.emit.shared.legal import Legal, apply_rules
from keras_quant.emit.shared.subpixel import tiled
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.windows import padding_of, window_of

TAKEN_BY = 4
GIVEN_BY, LEAST_GIVEN = 8, 16
MOST_CHANNELS = 6  # see the table: of more, products of zeros take longer than copies


def join_pixels(graph: Graph, *, unsigned: Collection[str] = ()) -> Graph:
    """Gives a graph of the same tensors and codes, with some tensors more.

    Args:
        unsigned: names of the nodes whose weights are stored as uint8, which no such kernel takes.
    """

    def rule(graph: Graph, node: Node) -> Legal:
        pixels = 1 if node.name in unsigned else _pixels_to_join(graph, node)
        return ([node], []) if pixels == 1 else _joined(graph, node, pixels)

    return apply_rules(graph, {"conv2d": rule})


def _pixels_to_join(graph: Graph, node: Node) -> int:
    """How many pixels beside each other have channels by fours; 1 where they stay as they are."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    (_, width, channels), window = source.shape, window_of(node)
    pixels, stride = TAKEN_BY // gcd(channels, TAKEN_BY), window.strides[1]
    given = output.shape[2] * (pixels // stride)
    fits = (
        source.qparams is not None
        and output.qparams is not None
        and channels <= MOST_CHANNELS
        and node.attrs.get("groups", 1) == 1
        and window.dilation[1] == 1
        and (width % pixels, pixels % stride, output.shape[1] * stride) == (0, 0, width)
        and (given >= LEAST_GIVEN and given % GIVEN_BY == 0)
    )
    return pixels if fits else 1


def _joined(graph: Graph, node: Node, pixels: int) -> Legal:
    """The convolution of joined pixels, between reshapes that move nothing."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    (height, width, channels), window = source.shape, window_of(node)
    rows, (left, _) = padding_of(window, (height, width))
    stride = window.strides[1]
    beside = pixels // stride
    # Joined pixels, counted from the one at an output's place, in which its window lies.
    first, last = -left // pixels, (stride * (beside - 1) - left + window.size[1] - 1) // pixels
    begins = [stride * place - left - first * pixels for place in range(beside)]
    conv = replace(
        node,
        inputs=(f"{node.name}/joined",),
        output=f"{node.name}/beside",
        weight=_joined_kernel(node.kernel, begins, pixels * (last - first + 1), pixels),
        bias=tiled(node.bias, beside),
        attrs={**node.attrs, "strides": (window.strides[0], 1), "padding": (rows, (-first, last))},
    )
    wide = replace(source, name=conv.inputs[0], shape=(height, width // pixels, channels * pixels))
    rows_out, columns, given = output.shape
    made = replace(output, name=conv.output, shape=(rows_out, columns // beside, given * beside))
    return [_reshape(source, wide), conv, _reshape(made, output)], [wide, made]


def _reshape(source: Tensor, output: Tensor) -> Node:
    return Node(
        name=f"{output.name}/reshape",
        op="reshape",
        inputs=(source.name,),
        output=output.name,
        attrs={"shape": output.shape},
    )


def _joined_kernel(weight: Weight, begins: list[int], width: int, pixels: int) -> Weight:
    """A kernel of so many pixels, with an output for each place where the given one begins."""
    height, taps, taken, given = weight.values.shape
    values = np.zeros((height, width, taken, len(begins), given), np.int8)
    for place, begin in enumerate(begins):
        values[:, begin : begin + taps, :, place] = weight.values
    return replace(
        weight,
        values=values.reshape(height, width // pixels, pixels * taken, len(begins) * given),
        scale=tiled(weight.scale, len(begins)),
        multiplier=tiled(weight.multiplier, len(begins)),
    )
