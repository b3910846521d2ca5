"""What a graph costs with kernels at other widths, and what each kernel adds to it at each width.

Costs depend on the widths of kernels alone, not on their codes, so that one graph tells them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_quant.graph.costs.cost import NodeCost, cost
from keras_quant.graph.costs.energy import Memory, access_pj, memory_for
from keras_quant.graph.ir import Graph, Node

_PJ_PER_NJ = 1000.0


def with_widths(graph: Graph, bits: Mapping[str, int]) -> Graph:
    """A graph for counting costs: its kernels claim other widths than their codes need.

    Args:
        bits: by the name of each node whose kernel is to have others.
    """

    def claimed(node: Node) -> Node:
        if node.name not in bits:
            return node
        weight = dataclasses.replace(node.kernel, bits=bits[node.name])
        return dataclasses.replace(node, weight=weight)

    return dataclasses.replace(graph, nodes=tuple(map(claimed, graph.nodes)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A cost as a sum.

    Attributes:
        fixed: what widths do not change.
        values: by node, in the order given; by width, in the order given.
    """

    fixed: float
    values: tuple[tuple[float, ...], ...]


def size_bytes(graph: Graph, names: Sequence[str], widths: Sequence[int]) -> Parts:
    """Bytes of weights: `NodeCost.weight_bytes` of all nodes.

    Args:
        names: of the nodes with kernels whose widths are to be chosen.
        widths: that each may have.
    """
    return _parts(graph, names, widths, lambda node: float(node.weight_bytes))


def bit_operations(graph: Graph, names: Sequence[str], widths: Sequence[int]) -> Parts:
    """Bit operations for one image, as `size_bytes`."""
    return _parts(graph, names, widths, lambda node: float(node.bit_operations))


def energy_nj(
    graph: Graph, names: Sequence[str], widths: Sequence[int], *, memory: Memory
) -> Parts:
    """Modelled energy for one image, as `size_bytes`, of weights that lie in a given memory.

    `graph.costs.cost` puts them into the smallest that holds them: the sum is that energy where the
    bytes of the chosen widths are those of this memory.
    """
    parts = []
    for width in widths:
        total = cost(with_widths(graph, dict.fromkeys(names, width)))
        there = memory_for(total.weight_bytes)
        parts.append({node.name: _moved(node, there, memory) for node in total.nodes})
    fixed = sum(value for name, value in parts[0].items() if name not in names)
    return Parts(fixed=fixed, values=tuple(tuple(p[name] for p in parts) for name in names))


def _moved(node: NodeCost, there: Memory, memory: Memory) -> float:
    """A node's energy, had its weights lain in another memory."""
    read = [access_pj(node.weight_bytes, one) / _PJ_PER_NJ for one in (there, memory)]
    return node.energy_nj - read[0] + read[1]


def _parts(
    graph: Graph, names: Sequence[str], widths: Sequence[int], of: Callable[[NodeCost], float]
) -> Parts:
    parts = []
    for width in widths:
        nodes = cost(with_widths(graph, dict.fromkeys(names, width))).nodes
        parts.append({node.name: of(node) for node in nodes})
    fixed = sum(value for name, value in parts[0].items() if name not in names)
    return Parts(fixed=fixed, values=tuple(tuple(p[name] for p in parts) for name in names))
