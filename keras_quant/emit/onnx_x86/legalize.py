"""Rewrites a realized graph into nodes that ONNX Runtime's kernels compute exactly, and fast.

Its QLinearAveragePool averages in floats, so an average of codes becomes a depthwise
convolution with ones. So does a mean of codes that were clamped: ONNX Runtime computes
QLinearGlobalAveragePool channels first behind a Clip, which is four times as slow (1280
channels of 3x3) and moves the whole image before it. All means the same.
"""

from __future__ import annotations

from keras_quant.emit.onnx_x86.emission import saturates, stored_shift
from keras_quant.emit.shared.aligned import aligned
from keras_quant.emit.shared.concat import stored_alike
from keras_quant.emit.shared.legal import Legal, Rule, apply_rules
from keras_quant.emit.shared.ones import mean_with_ones, with_ones
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.windows import window_of


def legalize(graph: Graph) -> Graph:
    """Gives a graph of the same tensors and codes, with some tensors more."""
    return apply_rules(graph, _RULES)


def _legal_avg_pool(graph: Graph, node: Node) -> Legal:
    output = graph.tensors[node.output]
    if output.qparams is None:
        return [node], []
    channels = output.shape[-1]
    return [with_ones(node, window_of(node).size, channels=channels)], []


def _legal_mean(graph: Graph, node: Node) -> Legal:
    source = graph.tensors[node.inputs[0]].qparams
    if source is None or saturates(source):
        return [node], []
    nodes, pixel = mean_with_ones(graph, node)
    return nodes, [pixel]


def _legal_concat(graph: Graph, node: Node) -> Legal:
    return stored_alike(graph, node, stored_shift)


_RULES: dict[str, Rule] = {
    "add": aligned,
    "avg_pool": _legal_avg_pool,
    "concat": _legal_concat,
    "mean": _legal_mean,
    "multiply": aligned,
}
