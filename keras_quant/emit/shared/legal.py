"""Rewriting a graph, node by node, into one that a format's kernels compute exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from keras_quant.graph.ir import Graph, Node, Tensor

Legal = tuple[list[Node], list[Tensor]]
"""What takes the place of a node, and the tensors that this adds."""

Rule = Callable[[Graph, Node], Legal]


def apply_rules(graph: Graph, rules: Mapping[str, Rule]) -> Graph:
    """Gives the graph with each node replaced as the rule of its operation says.

    Args:
        rules: by operation; nodes of others stay as they are.
    """
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        rule = rules.get(node.op)
        legal, added = ([node], []) if rule is None else rule(graph, node)
        nodes += legal
        tensors |= {tensor.name: tensor for tensor in added}
    return replace(graph, nodes=tuple(nodes), tensors=tensors)
