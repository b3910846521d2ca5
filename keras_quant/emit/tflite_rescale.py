"""Chooses scales with which TFLite clamps signed codes at no cost.

The bottom of an unsigned range is clamped by a fused RELU. For a signed range of fewer than
256 codes TFLite has only RELU_N1_TO_1, which clamps at real -1: right where the lowest code
stands for -1. Multiplying the scale of a tensor by a power of two, and dividing it out of the
weights of its readers, changes no code; so tensors get such scales where they can. Without,
each would be written twice, which is 5 % of the time of a 4-bit ResNet-20.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from keras_quant.emit.tflite_legalize import on_one_grid
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import INT8_CODES

_BORDERS = ("quantize", "dequantize", "multiply", "lookup")


def rescale(graph: Graph) -> Graph:
    """Gives a graph of equal codes and equal float outputs.

    Args:
        graph: a realized graph.
    """
    factors = _factors(graph)

    def rescaled(tensor: Tensor) -> Tensor:
        if tensor.qparams is None:
            return tensor
        scale = tensor.qparams.scale * factors[tensor.name]
        return replace(tensor, qparams=replace(tensor.qparams, scale=scale))

    def compensated(node: Node) -> Node:
        if node.weight is None or node.weight.scale is None:
            return node
        ratio = factors.get(node.output, 1.0) / factors.get(node.inputs[0], 1.0)
        scale = node.weight.scale * node.weight.scale.dtype.type(ratio)
        return replace(node, weight=replace(node.weight, scale=scale))

    return replace(
        graph,
        tensors={name: rescaled(tensor) for name, tensor in graph.tensors.items()},
        nodes=tuple(map(compensated, graph.nodes)),
    )


def _factors(graph: Graph) -> dict[str, float]:
    """A power of two for each tensor of codes."""
    fixed = _fixed(graph)
    factors: dict[str, float] = {}
    for group in _groups(graph):
        wanted = Counter(factor for name in group if (factor := _wanted(graph, name)))
        best = max(wanted, key=wanted.__getitem__, default=1.0)
        factors |= dict.fromkeys(group, 1.0 if group & fixed else best)
    return factors


def _groups(graph: Graph) -> list[set[str]]:
    """Tensors of codes in sets that one factor must hold for: what no weight lies between."""
    groups = [{name} for name, tensor in graph.tensors.items() if tensor.qparams is not None]
    for node in graph.nodes:
        if node.weight is None:
            tied = {*node.inputs, node.output}
            joined = [group for group in groups if group & tied]
            groups = [group for group in groups if not group & tied]
            groups += [set().union(*joined)] if joined else []
    return groups


def _fixed(graph: Graph) -> set[str]:
    """Tensors whose scale meets floats, the caller, or an operation that asks for the reals."""
    borders = [node for node in graph.nodes if node.op in _BORDERS]
    return {*graph.outputs, *(name for node in borders for name in (*node.inputs, node.output))}


def _wanted(graph: Graph, name: str) -> float | None:
    """The factor with which a tensor's lowest code stands for -1, where that saves a pass."""
    qparams, producer = graph.tensors[name].qparams, graph.producer(name)
    if qparams is None or producer is None or not qparams.signed:
        return None
    if producer.weight is None and not (producer.op == "add" and on_one_grid(graph, producer)):
        return None
    depth = qparams.zero_point - qparams.qmin
    height = qparams.qmax - qparams.zero_point
    if height > depth or qparams.qmax - qparams.qmin == INT8_CODES - 1:
        return None
    factor = 1 / (depth * qparams.scale)
    return factor if np.frexp(factor)[0] == 0.5 else None
