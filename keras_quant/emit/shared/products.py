"""What the ONNX formats share of products: axes that are aligned, and the multiplier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.qparams import QParams


def aligned(graph: Graph, node: Node) -> tuple[list[Node], list[Tensor]]:
    """Rewrites a multiply so that all it reads have its output's rank.

    Returns: a reshape for each input of fewer axes, which gets axes of 1 behind the batch axis,
        the multiply, and the tensors between them.
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


def product_multiplier(first: QParams, second: QParams, output: QParams) -> np.float32:
    """What the reference multiplies a product of codes with, see `kernels.bind_multiply`."""
    product = np.float32(first.scale) * np.float32(second.scale)
    multiplier: np.float32 = product / np.float32(output.scale)
    return multiplier


def with_aligned_products(graph: Graph) -> Graph:
    """Gives a graph of the same meaning, each multiply of which is `aligned`."""
    nodes: list[Node] = []
    tensors = dict(graph.tensors)
    for node in graph.nodes:
        legal, added = aligned(graph, node) if node.op == "multiply" else ([node], [])
        nodes += legal
        tensors |= {tensor.name: tensor for tensor in added}
    return replace(graph, nodes=tuple(nodes), tensors=tensors)
