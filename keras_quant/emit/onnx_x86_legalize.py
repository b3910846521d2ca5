"""Rewrites a realized graph into nodes that ONNX Runtime's kernels compute exactly, and fast.

Its QLinearAveragePool averages in floats, so an average of codes becomes a depthwise
convolution with ones. So does a mean of codes that were clamped: ONNX Runtime computes
QLinearGlobalAveragePool channels first behind a Clip, which is four times as slow (1280
channels of 3x3) and moves the whole image before it. All means the same.
"""

from __future__ import annotations

from dataclasses import replace

from keras_quant.emit.ones import mean_with_ones, with_ones
from keras_quant.emit.onnx_x86_emission import saturates
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.windows import window_of


def legalize(graph: Graph) -> Graph:
    """Gives a graph of the same tensors and codes, with some tensors more."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        source, output = graph.tensors[node.inputs[0]].qparams, graph.tensors[node.output]
        if output.qparams is None or source is None:
            nodes.append(node)
        elif node.op == "avg_pool":
            channels = output.shape[-1]
            nodes.append(with_ones(node, window_of(node).size, channels=channels))
        elif node.op == "mean" and not saturates(source):
            legal, pixel = mean_with_ones(graph, node)
            nodes += legal
            tensors[pixel.name] = pixel
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes), tensors=tensors)
