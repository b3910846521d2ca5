"""Sums and products of tensors of unlike ranks, which files with channels first cannot align."""

from __future__ import annotations

from dataclasses import replace

from keras_quant.emit.shared.legal import Legal, apply_rules
from keras_quant.graph.ir import Graph, Node


def aligned(graph: Graph, node: Node) -> Legal:
    """Rewrites an add or a multiply so that all it reads have its output's rank.

    Returns: a reshape for each input of fewer axes, which gets axes of 1 behind the batch axis,
        the node, and the tensors between them.
    """
    rank = len(graph.tensors[node.output].shape)
    nodes, tensors, inputs = [], [], []
    for place, name in enumerate(node.inputs):
        source = graph.tensors[name]
        if len(source.shape) < rank:
            shape = (*[1] * (rank - len(source.shape)), *source.shape)
            name = f"{node.name}/{place}"
            tensors.append(replace(source, name=name, shape=shape))
            attrs = {"shape": shape}
            nodes.append(
                Node(name=name, op="reshape", inputs=(source.name,), output=name, attrs=attrs)
            )
        inputs.append(name)
    return [*nodes, replace(node, inputs=tuple(inputs))], tensors


def with_aligned_inputs(graph: Graph) -> Graph:
    """Gives a graph of the same meaning, each add and multiply of which is `aligned`."""
    return apply_rules(graph, {"add": aligned, "multiply": aligned})
