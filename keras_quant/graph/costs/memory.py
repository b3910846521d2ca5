"""How much memory the tensors of a graph take while it runs, node by node.

What is counted is the graph as it stands, in its own order: nothing is computed in place, and
nothing is added for what a runtime needs besides (packed weights, scratch, tensors of rewritten
operations).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from keras_quant.graph.ir import Graph, Tensor

FLOAT_BITS = 32


def tensor_bits(tensor: Tensor) -> int:
    """Logical bits of each value of a tensor: 32 for float32."""
    return FLOAT_BITS if tensor.qparams is None else tensor.qparams.bits


def logical_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor for one image, its values packed at their logical bits."""
    return -(-math.prod(tensor.shape) * tensor_bits(tensor) // 8)


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor for one image as runtimes hold it: codes in int8, reals in float32."""
    return math.prod(tensor.shape) * -(-tensor_bits(tensor) // 8)


def live_bytes(graph: Graph, bytes_of: Callable[[Tensor], int]) -> tuple[int, ...]:
    """Bytes of all tensors that have to exist while each node runs; the peak is their maximum.

    A tensor lives from the node that writes it to the last node that reads it, both included;
    an input of the graph from the first node on, an output to the last node.

    Args:
        bytes_of: `stored_bytes` or `logical_bytes`.
    Returns: one number a node, in order.
    """
    last_node = len(graph.nodes) - 1
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.inputs, 0)
    for index, node in enumerate(graph.nodes):
        first[node.output] = index
        last |= dict.fromkeys((*node.inputs, node.output), index)
    last |= dict.fromkeys(graph.outputs, last_node)
    sizes = {name: bytes_of(graph.tensors[name]) for name in first}
    return tuple(
        sum(size for name, size in sizes.items() if first[name] <= index <= last[name])
        for index in range(len(graph.nodes))
    )
