"""Rewrites a realized graph into nodes that ONNX Runtime's kernels compute exactly.

Its QLinearAveragePool averages in floats, so an average of codes becomes a depthwise
convolution with ones, whose scale is 1 / their number. Both mean the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph, Node, Weight
from keras_quant.graph.windows import window_of


def legalize(graph: Graph) -> Graph:
    """Gives a graph of the same tensors, and of the same codes."""
    return replace(graph, nodes=tuple(_legal(graph, node) for node in graph.nodes))


def _legal(graph: Graph, node: Node) -> Node:
    output = graph.tensors[node.output]
    if node.op != "avg_pool" or output.qparams is None:
        return node
    height, width = window_of(node).size
    share = np.float32(1) / np.float32(height * width)
    channels = output.shape[-1]
    ones = Weight(
        values=np.ones((height, width, channels), np.int8),
        scale=np.full(channels, share),
        bits=8,
    )
    attrs = {name: node.attrs[name] for name in ("strides", "padding") if name in node.attrs}
    return replace(node, op="depthwise_conv2d", weight=ones, attrs=attrs)
