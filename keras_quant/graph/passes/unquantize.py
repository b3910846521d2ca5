"""Gives a graph of codes as one of floats, for targets that have no int8 kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Weight
from keras_quant.graph.linear import dequantized
from keras_quant.qparams import QParams

_CONVERSIONS = ("quantize", "dequantize", "requantize")


def unquantize(graph: Graph) -> Graph:
    """Gives the same network in float32: the weights of the codes, no codes between layers.

    Activations are neither rounded nor cut off at the end of their range, but for the ReLU and
    ReLU6 that the ranges of codes stand for. So it answers nearly, not exactly, as the graph does.

    Args:
        graph: a realized graph, or an ideal one.
    Returns: a graph of the same inputs; tensors that only converted are gone, and an output
        among them has the name of what it converted.
    Raises:
        GraphError: the graph has tables, which say nothing of the functions that they hold.
    """
    tables = [node.name for node in graph.nodes if node.table is not None]
    if tables:
        raise GraphError(
            f"layers {', '.join(tables)}: tables of codes have no form in floats. Keep these "
            "layers in float, or choose a target with int8 kernels"
        )
    alias: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if node.op in _CONVERSIONS:
            alias[node.output] = inputs[0]
        else:
            nodes.append(replace(_unquantized(graph, node), inputs=inputs))
    tensors = {
        name: replace(tensor, qparams=None)
        for name, tensor in graph.tensors.items()
        if name not in alias
    }
    outputs = tuple(alias.get(name, name) for name in graph.outputs)
    return replace(graph, nodes=tuple(nodes), tensors=tensors, outputs=outputs)


def _unquantized(graph: Graph, node: Node) -> Node:
    qparams = graph.tensors[node.output].qparams
    if node.weight is not None:
        source = graph.tensors[node.inputs[0]].qparams
        node = replace(
            node, weight=Weight(values=dequantized(node.weight)), bias=_real_bias(node, source)
        )
    if qparams is not None and (node.weight is not None or node.op in ("add", "multiply")):
        node = replace(node, attrs={**node.attrs, "activation": _rectifier(qparams)})
    return node


def _real_bias(node: Node, source: QParams | None) -> np.ndarray | None:
    """The bias in float32; an integer one counts in steps of input scale times weight scale."""
    if node.bias is None or node.bias.dtype != np.int32:
        return None if node.bias is None else node.bias.astype(np.float32)
    assert node.weight is not None and node.weight.scale is not None, node.name
    assert source is not None, node.name
    step = source.scale * node.weight.scale.astype(np.float64)
    real: np.ndarray = (node.bias * step).astype(np.float32)
    return real


def _rectifier(qparams: QParams) -> str:
    """The activation that a range of codes stands for, see lower: a ReLU6 has fewer codes."""
    if qparams.signed:
        return "none"
    is_cut = qparams.qmax - qparams.qmin < 2**qparams.bits - 1
    six = qparams.zero_point + int(np.rint(6.0 / qparams.scale))
    return "relu6" if is_cut and qparams.qmax == six else "relu"
