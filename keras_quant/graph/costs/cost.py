"""What a graph costs on paper: parameters, multiply-accumulates, bytes, memory, energy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.graph.costs.energy import Memory, access_pj, arithmetic_pj, memory_for
from keras_quant.graph.costs.memory import live_bytes, logical_bytes, stored_bytes, tensor_bits
from keras_quant.graph.ir import Graph, Node, Shape, Weight

_FLOAT_BYTES = 4
_SCALE_BYTES = 4  # one float32 a channel
_BIAS_BYTES = 4  # one int32 or float32 a channel
_PJ_PER_NJ = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """Cost of one node for one image.

    Attributes:
        name: of the node.
        op: of the node.
        shape: of its output, without the batch axis.
        parameters: kernel and bias values.
        zeros: kernel values that are 0.
        macs: multiply-accumulates of the kernel; 0 for a node without one.
        weight_bits: logical bits of the kernel's values, 32 for float32; None without a kernel.
        activation_bits: logical bits of the first input, 32 for float32.
        bit_operations: macs * weight_bits * activation_bits.
        kernel_bits: all kernel values at their logical bits.
        weight_bytes: kernel at its logical bits, packed, with 4 bytes a channel for the scales
            of codes and 4 for the bias; or a table at the bits of what it gives.
        float_bytes: 4 for each parameter.
        live_bytes: of the activations that exist while the node runs, codes in int8 and reals
            in float32; see `graph.costs.memory`.
        live_logical_bytes: of the same at their logical bits, packed.
        arithmetic_nj: energy of computing, by the model of `graph.costs.energy`.
        memory_nj: energy of reading inputs and weights and writing the output, by that model.
        energy_nj: both.
    """

    name: str
    op: str
    shape: Shape
    parameters: int
    zeros: int
    macs: int
    weight_bits: int | None
    activation_bits: int
    bit_operations: int
    kernel_bits: int
    weight_bytes: int
    float_bytes: int
    live_bytes: int
    live_logical_bytes: int
    arithmetic_nj: float
    memory_nj: float
    energy_nj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCost:
    """Costs of all nodes in order, and their sums; peaks for what is live at a time.

    Attributes:
        weight_memory: where the energy model keeps the weights.
        activation_memory: where it keeps the activations.
    """

    nodes: tuple[NodeCost, ...]
    parameters: int
    zeros: int
    macs: int
    bit_operations: int
    kernel_bits: int
    weight_bytes: int
    float_bytes: int
    peak_live_bytes: int
    peak_live_logical_bytes: int
    arithmetic_nj: float
    memory_nj: float
    energy_nj: float
    weight_memory: str
    activation_memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memories:
    """Where the energy model keeps what nodes read and write."""

    weights: Memory
    activations: Memory


def cost(graph: Graph) -> GraphCost:
    """Counts what each node of a graph costs, and all together.

    Bit operations are macs * weight_bits * activation_bits, the cost of a multiplier array, so
    that float32 and integers compare as products of widths; additions are left out.
    """
    stored, logical = live_bytes(graph, stored_bytes), live_bytes(graph, logical_bytes)
    memories = _Memories(
        weights=memory_for(sum(_weight_bytes(graph, node) for node in graph.nodes)),
        activations=memory_for(max(logical, default=0)),
    )
    nodes = tuple(
        _node_cost(graph, node, memories, live=live)
        for node, live in zip(graph.nodes, zip(stored, logical, strict=True), strict=True)
    )
    return GraphCost(
        nodes=nodes,
        parameters=sum(node.parameters for node in nodes),
        zeros=sum(node.zeros for node in nodes),
        macs=sum(node.macs for node in nodes),
        bit_operations=sum(node.bit_operations for node in nodes),
        kernel_bits=sum(node.kernel_bits for node in nodes),
        weight_bytes=sum(node.weight_bytes for node in nodes),
        float_bytes=sum(node.float_bytes for node in nodes),
        peak_live_bytes=max(stored, default=0),
        peak_live_logical_bytes=max(logical, default=0),
        arithmetic_nj=sum(node.arithmetic_nj for node in nodes),
        memory_nj=sum(node.memory_nj for node in nodes),
        energy_nj=sum(node.energy_nj for node in nodes),
        weight_memory=memories.weights.name,
        activation_memory=memories.activations.name,
    )


def _node_cost(graph: Graph, node: Node, memories: _Memories, *, live: tuple[int, int]) -> NodeCost:
    shape, weight = graph.tensors[node.output].shape, node.weight
    activation_bits = tensor_bits(graph.tensors[node.inputs[0]])
    biases = 0 if node.bias is None else node.bias.size
    weights = 0 if weight is None else weight.values.size
    macs = _macs(graph, node)
    arithmetic_nj = arithmetic_pj(graph, node, macs=macs) / _PJ_PER_NJ
    memory_nj = _memory_pj(graph, node, memories) / _PJ_PER_NJ
    return NodeCost(
        name=node.name,
        op=node.op,
        shape=shape,
        parameters=weights + biases,
        zeros=0 if weight is None else weights - int(np.count_nonzero(weight.values)),
        macs=macs,
        weight_bits=None if weight is None else weight.bits,
        activation_bits=activation_bits,
        bit_operations=0 if weight is None else macs * weight.bits * activation_bits,
        kernel_bits=0 if weight is None else weights * weight.bits,
        weight_bytes=_weight_bytes(graph, node),
        float_bytes=(weights + biases) * _FLOAT_BYTES,
        live_bytes=live[0],
        live_logical_bytes=live[1],
        arithmetic_nj=arithmetic_nj,
        memory_nj=memory_nj,
        energy_nj=arithmetic_nj + memory_nj,
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


def _memory_pj(graph: Graph, node: Node, memories: _Memories) -> float:
    """Each input is read once, the weights too, and the output is written once."""
    moved = sum(logical_bytes(graph.tensors[name]) for name in (*node.inputs, node.output))
    weights = access_pj(_weight_bytes(graph, node), memories.weights)
    return access_pj(moved, memories.activations) + weights


def _weight_bytes(graph: Graph, node: Node) -> int:
    """Packed values with the scales where they are codes, and the bias; or a packed table."""
    biases = 0 if node.bias is None else node.bias.size * _BIAS_BYTES
    entries = 0 if node.table is None else node.table.size
    table = -(-entries * tensor_bits(graph.tensors[node.output]) // 8)
    return table + biases + _kernel_bytes(node.weight)


def _kernel_bytes(weight: Weight | None) -> int:
    if weight is None:
        return 0
    packed = -(-weight.values.size * weight.bits // 8)
    return packed if weight.scale is None else packed + weight.scale.size * _SCALE_BYTES
