"""Concatenations of codes that a file stores with different shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import QParams


def stored_alike(
    graph: Graph, node: Node, stored_shift: Callable[[QParams], int]
) -> tuple[list[Node], list[Tensor]]:
    """Rewrites a concat so that the codes of all it reads are stored with its output's shift.

    Args:
        stored_shift: what the file adds to each code of a tensor before it stores it.
    Returns: a requantize for each input that is stored otherwise, the concat, and the tensors
        between them.
    """
    output = graph.tensors[node.output].qparams
    nodes, shifted, inputs = [], [], []
    for place, name in enumerate(node.inputs):
        source = graph.tensors[name]
        if (
            source.qparams is not None
            and output is not None
            and stored_shift(source.qparams) != stored_shift(output)
        ):
            name = f"{node.name}/{place}"
            shifted.append(replace(source, name=name, qparams=output))
            nodes.append(Node(name=name, op="requantize", inputs=(source.name,), output=name))
        inputs.append(name)
    return [*nodes, replace(node, inputs=tuple(inputs))], shifted
