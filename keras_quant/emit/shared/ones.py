"""Averages of codes as depthwise convolutions with ones, whose scale is 1 / their number.

Convolution kernels round as the reference does, where those for averages often do not.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph, Node, Tensor, Weight


def with_ones(node: Node, size: tuple[int, int], *, channels: int) -> Node:
    """A depthwise convolution that averages windows; it keeps the node's strides."""
    share = np.float32(1) / np.float32(size[0] * size[1])
    ones = Weight(
        values=np.ones((*size, channels), np.int8), scale=np.full(channels, share), bits=8
    )
    attrs = {name: node.attrs[name] for name in ("strides", "padding") if name in node.attrs}
    return replace(node, op="depthwise_conv2d", weight=ones, attrs=attrs)


def mean_with_ones(graph: Graph, node: Node) -> tuple[list[Node], Tensor]:
    """A mean of codes as an average of the whole image, and a reshape of the pixel that is left.

    Returns: the nodes in order, and the pixel.
    """
    height, width, channels = graph.tensors[node.inputs[0]].shape
    qparams = graph.tensors[node.output].qparams
    pixel = Tensor(name=f"{node.name}/pixel", shape=(1, 1, channels), qparams=qparams)
    average = with_ones(replace(node, output=pixel.name), (height, width), channels=channels)
    flatten = Node(
        name=f"{node.name}/flatten", op="reshape", inputs=(pixel.name,), output=node.output
    )
    return [average, flatten], pixel
