"""What each width of each layer adds to what a model costs, by quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_quant.graph.costs.cost import GraphCost, cost
from keras_quant.graph.costs.energy import MEMORIES
from keras_quant.graph.costs.widths import (
    Parts,
    bit_operations,
    energy_nj,
    size_bytes,
    with_widths,
)
from keras_quant.graph.ir import Graph
from keras_quant.search.choose import Limit

LayerTimes = Mapping[tuple[str, int], float]
"""Milliseconds of a layer at a width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """Costs of a model whose layers may have several widths.

    Attributes:
        graph: of the model, with some bits; activations have those that they are to have.
        layers: whose widths are chosen.
        widths: that each may have.
        times: where latency was measured by layer.
        rest_ms: what was measured of everything else.
    """

    graph: Graph
    layers: tuple[str, ...]
    widths: tuple[int, ...]
    times: LayerTimes | None = None
    rest_ms: float = 0.0

    def cases(self, quantity: str, most: float) -> list[tuple[Limit, ...]]:
        """Limits that together mean that a quantity is at most so much; one of the cases must hold.

        Energy has a case for each memory that may hold the weights, since what is read costs by
        where it lies; the others have one.
        """
        if quantity == "energy":
            size = self._size()
            return [
                (
                    self._limit(energy_nj(*self._given, memory=memory), most),
                    self._limit(size, memory.size_bytes),
                )
                for memory in MEMORIES
            ]
        if quantity == "latency_ms":
            assert self.times is not None
            values = [[self.times[layer, width] for width in self.widths] for layer in self.layers]
            return [(Limit(values=values, most=most - self.rest_ms),)]
        parts = self._size() if quantity == "size" else bit_operations(*self._given)
        return [(self._limit(parts, most),)]

    def total(self, quantity: str, bits: Mapping[str, int]) -> float:
        """What the model costs with chosen widths, in the unit of the quantity."""
        if quantity == "latency_ms":
            assert self.times is not None
            return self.rest_ms + sum(self.times[layer, bits[layer]] for layer in self.layers)
        chosen = {node: bits[layer] for node, layer in nodes_of(self.graph, self.layers).items()}
        return of_quantity(cost(with_widths(self.graph, chosen)), quantity)

    def fastest(self) -> dict[str, int]:
        """The width of each layer that took the least time."""
        assert self.times is not None
        return {
            layer: min((self.times[layer, width], width) for width in self.widths)[1]
            for layer in self.layers
        }

    @property
    def _given(self) -> tuple[Graph, list[str], tuple[int, ...]]:
        return self.graph, list(nodes_of(self.graph, self.layers)), self.widths

    def _size(self) -> Parts:
        return size_bytes(*self._given)

    def _limit(self, parts: Parts, most: float) -> Limit:
        """Adds up the nodes of each layer."""
        owners = list(nodes_of(self.graph, self.layers).values())
        sums = {layer: [0.0] * len(self.widths) for layer in self.layers}
        for owner, values in zip(owners, parts.values, strict=True):
            sums[owner] = [a + b for a, b in zip(sums[owner], values, strict=True)]
        return Limit(values=[sums[layer] for layer in self.layers], most=most - parts.fixed)


def of_quantity(total: GraphCost, quantity: str) -> float:
    """What `graph.costs` counts of a quantity."""
    return {
        "size": float(total.weight_bytes),
        "bitops": float(total.bit_operations),
        "energy": total.energy_nj,
    }[quantity]


def nodes_of(graph: Graph, layers: Sequence[str]) -> dict[str, str]:
    """By the name of each node with a kernel the layer that it is of; a layer may have several."""
    found = {}
    for node in graph.nodes:
        if node.weight is not None:
            owner = next((name for name in (node.name, *node.layers) if name in layers), None)
            if owner is not None:
                found[node.name] = owner
    return found
