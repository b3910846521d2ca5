"""What a graph costs on paper: parameters, multiply-accumulates, bit operations, bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.graph.ir import Graph, Node, Shape, Weight

FLOAT_BITS = 32
_FLOAT_BYTES = 4
_SCALE_BYTES = 4  # one float32 a channel
_BIAS_BYTES = 4  # one int32 or float32 a channel


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """Cost of one node for one image.

    Attributes:
        name: of the node.
        op: of the node.
        shape: of its output, without the batch axis.
        parameters: kernel and bias values.
        macs: multiply-accumulates of the kernel; 0 for a node without one.
        weight_bits: logical bits of the kernel's values, 32 for float32; None without a kernel.
        activation_bits: logical bits of the first input, 32 for float32.
        bit_operations: macs * weight_bits * activation_bits.
        kernel_bits: all kernel values at their logical bits.
        weight_bytes: kernel at its logical bits, packed, with 4 bytes a channel for the scales
            of codes and 4 for the bias.
        float_bytes: 4 for each parameter.
    """

    name: str
    op: str
    shape: Shape
    parameters: int
    macs: int
    weight_bits: int | None
    activation_bits: int
    bit_operations: int
    kernel_bits: int
    weight_bytes: int
    float_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCost:
    """Costs of all nodes in order, and their sums."""

    nodes: tuple[NodeCost, ...]
    parameters: int
    macs: int
    bit_operations: int
    kernel_bits: int
    weight_bytes: int
    float_bytes: int


def cost(graph: Graph) -> GraphCost:
    """Counts what each node of a graph costs, and all together.

    Bit operations are macs * weight_bits * activation_bits, the cost of a multiplier array, so
    that float32 and integers compare as products of widths; additions are left out.
    """
    nodes = tuple(_node_cost(graph, node) for node in graph.nodes)
    return GraphCost(
        nodes=nodes,
        parameters=sum(node.parameters for node in nodes),
        macs=sum(node.macs for node in nodes),
        bit_operations=sum(node.bit_operations for node in nodes),
        kernel_bits=sum(node.kernel_bits for node in nodes),
        weight_bytes=sum(node.weight_bytes for node in nodes),
        float_bytes=sum(node.float_bytes for node in nodes),
    )


def _node_cost(graph: Graph, node: Node) -> NodeCost:
    shape, weight = graph.tensors[node.output].shape, node.weight
    source = graph.tensors[node.inputs[0]].qparams
    activation_bits = FLOAT_BITS if source is None else source.bits
    biases = 0 if node.bias is None else node.bias.size
    weights = 0 if weight is None else weight.values.size
    macs = _macs(graph, node)
    return NodeCost(
        name=node.name,
        op=node.op,
        shape=shape,
        parameters=weights + biases,
        macs=macs,
        weight_bits=None if weight is None else weight.bits,
        activation_bits=activation_bits,
        bit_operations=0 if weight is None else macs * weight.bits * activation_bits,
        kernel_bits=0 if weight is None else weights * weight.bits,
        weight_bytes=_weight_bytes(weight) + biases * _BIAS_BYTES,
        float_bytes=(weights + biases) * _FLOAT_BYTES,
    )


def _macs(graph: Graph, node: Node) -> int:
    """Each kernel value is used once at each position; (features,) is one position.

    Positions are those of the output, but of the input where a kernel is spread over the output
    (conv2d_transpose). Padded pixels count, and products that fall off the edge.
    """
    if node.weight is None:
        return 0
    spread = node.op == "conv2d_transpose"
    positions = graph.tensors[node.inputs[0] if spread else node.output].shape[:-1]
    return int(node.weight.values.size * np.prod(positions))


def _weight_bytes(weight: Weight | None) -> int:
    """Packed values, and the scales where they are codes."""
    if weight is None:
        return 0
    packed = -(-weight.values.size * weight.bits // 8)
    return packed if weight.scale is None else packed + weight.scale.size * _SCALE_BYTES
