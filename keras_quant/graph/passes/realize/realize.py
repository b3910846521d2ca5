"""Turns an ideal graph into one that int8 kernels reproduce bit for bit.

A kernel has an integer bias and computes in float32. Rounding the bias to the accumulator's
grid is the only real loss: up to 1 % of all codes at 2 bits. Two remedies:

* threshold: a trained channel is a staircase with few thresholds, and another line through the
  integers often has exactly the same. Its equality is proven for every input.
* snapped: where there is none (outputs of 8 bits, mostly), the bias is rounded, and the
  report says by how much to move the bias of the trained model so that it has the very
  staircase of the integers. Biases are also moved where an accumulator lies so near a tie that
  Keras' float32 does not know to which side to round it, and gains where no bias is far enough
  from all ties (`room`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize.nodes import INT8_MAX, PlacedNode, place_nodes
from keras_quant.graph.passes.realize.room import needed_room
from keras_quant.graph.verify import verify

StoredLimits = Callable[[Graph], Mapping[str, int]]
"""Gives the largest stored weight codes that a target allows, by node."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelReport:
    """How the output channels of one node were realized.

    Attributes:
        node: name of the node.
        channels: how many output channels it has; each is one of the three below.
        threshold: channels equal to the ideal as trained, but for `wrong_thresholds`.
        snapped: channels that are equal once the model's bias and gain are moved.
        rounded: channels whose bias integers cannot say, left so because snapping was not
            wanted.
        delta: (channels,) float64, real, to add to the trained layer's bias; 0 but where
            snapped.
        gain: (channels,) float64, to multiply the trained layer's gain by; 1 but where snapped.
        largest_shift_steps: the largest of `delta`, in steps of the output.
        wrong_thresholds: thresholds that lie elsewhere than those of the ideal channel
            (after `delta` and `gain`); each can change codes by one, for the accumulators
            between the two places only.
        thresholds: all thresholds within reach of the input.
    """

    node: str
    channels: int
    threshold: int
    snapped: int
    rounded: int
    delta: np.ndarray
    gain: np.ndarray
    largest_shift_steps: float
    wrong_thresholds: int
    thresholds: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Realized:
    """A graph without ideal nodes, and a report for each node that was one."""

    graph: Graph
    reports: tuple[ChannelReport, ...]


def realize(
    graph: Graph,
    *,
    stored_max: int | Mapping[str, int] = INT8_MAX,
    snap: bool = True,
    immovable: Collection[str] = (),
    fixed_gain: Collection[str] = (),
) -> Realized:
    """Gives each ideal node from codes to codes an int32 bias and float32 scales.

    Nodes with a float input or output, and nodes realized before, pass unchanged. A channel
    whose code is the same for every input gets weight codes 0: its scale need not be one
    that float32 can hold.

    Args:
        stored_max: largest stored weight code; weights are multiplied up towards it, which
            makes the bias finer. 7 for kernels that take int4. By node, those that are not named
            have INT8_MAX.
        snap: False keeps the trained model as it is, and lets channels differ from it.
        immovable: names of nodes that are treated as with snap=False.
        fixed_gain: names of nodes whose bias may be moved, but not their gain.
    Raises:
        GraphError: some nodes cannot be realized; each is named with its reason.
    """
    placed = place_nodes(
        graph, stored_max=stored_max, snap=snap, immovable=immovable, fixed_gain=fixed_gain
    )
    reports = tuple(map(report, placed.values()))
    return Realized(graph=store_integers(graph, placed), reports=reports)


def store_integers(graph: Graph, placed: Mapping[str, PlacedNode]) -> Graph:
    """The graph with the integers that `place_nodes` found for it.

    Raises:
        GraphError: it breaks the rules of its operations.
    """
    nodes = (_stored(placed[node.name]) if node.name in placed else node for node in graph.nodes)
    stored = replace(graph, nodes=tuple(nodes))
    verify(stored)
    return stored


def report(placed: PlacedNode) -> ChannelReport:
    """Says how a node is realized."""
    trained, placement, integers = placed.read.trained, placed.placement, placed.placement.integers
    delta = placement.bias - trained.bias
    gain = placement.weight_scale / trained.weight_scale
    snapped = (delta != 0) | (gain != 1)
    rounded = np.zeros_like(snapped)
    if not placed.snap:
        offset = integers.bias / np.maximum(integers.factor, 1)
        rounded = (integers.wrong > 0) & (np.abs(offset - trained.offset) > needed_room(trained))
    changed = rounded | snapped
    return ChannelReport(
        node=placed.read.node.name,
        channels=len(changed),
        threshold=int((~changed).sum()),
        snapped=int(snapped.sum()),
        rounded=int(rounded.sum()),
        delta=delta,
        gain=gain,
        largest_shift_steps=float(np.abs(delta).max() / trained.output.scale),
        wrong_thresholds=int(placement.wrong.sum()),
        thresholds=int(placement.thresholds.sum()),
    )


def _stored(placed: PlacedNode) -> Node:
    node, integers = placed.read.node, placed.placement.integers
    weight = replace(
        node.kernel,
        values=node.kernel.values * integers.factor.astype(np.int8),
        scale=integers.weight_scale,
        multiplier=np.maximum(integers.factor, 1).astype(np.int32),
    )
    return replace(node, weight=weight, bias=integers.bias.astype(np.int32))
