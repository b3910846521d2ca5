"""Moves scales behind additions of unlike scales off the ties that float32 rounds wrong.

A sum of two codes of any scales may lie so near to a half of the output's step that float32 ends
on the other side of it: with 8 bits, mostly one or two of 65,536 pairs do. The step that the sum is
rounded to is then moved by as few float32 ulps as help, which moves all halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.sums import wrong_sums
from keras_quant.qparams import QParams

MAX_ULPS = 64
"""How far a scale is moved, at most 8e-6 of itself: Keras' own float32 sums err as much."""


def settle_sums(graph: Graph) -> Graph:
    """Gives the graph with scales for which float32 adds all codes right, where some are near.

    A scale is moved wherever it stands, so that what was on one grid stays on it.
    """
    moved: dict[float, float] = {}
    added = [node for node in graph.nodes if node.op == "add" and _has_codes(graph, node)]
    for node in added:
        scale = graph.tensors[node.output].grid.scale
        if _wrong(graph, node, moved) and scale not in moved:
            others = [n for n in added if scale in _scales(graph, n) and n is not node]
            right = [n for n in others if not _wrong(graph, n, moved)]
            moved |= _found(graph, [node, *right], scale, moved)
    return _with_scales(graph, moved) if moved else graph


def _found(
    graph: Graph, nodes: list[Node], scale: float, moved: Mapping[float, float]
) -> dict[float, float]:
    """A scale near another one for which float32 adds right in all nodes; none where none is."""
    for candidate in _around(scale):
        tried = {**moved, scale: candidate}
        if not any(_wrong(graph, node, tried) for node in nodes):
            return {scale: candidate}
    return {}


def _around(scale: float) -> Iterator[float]:
    """float32 numbers beside one, the nearest first."""
    up = down = np.float32(scale)
    for _ in range(MAX_ULPS):
        up, down = np.nextafter(up, np.float32(np.inf)), np.nextafter(down, np.float32(0))
        yield float(up)
        yield float(down)


def _has_codes(graph: Graph, node: Node) -> bool:
    names = (*node.inputs, node.output)
    return all(graph.tensors[name].qparams is not None for name in names)


def _scales(graph: Graph, node: Node) -> set[float]:
    return {graph.tensors[name].grid.scale for name in (*node.inputs, node.output)}


def _wrong(graph: Graph, node: Node, moved: Mapping[float, float]) -> bool:
    """Whether float32 adds any codes wrong; those of one scale need no float32."""
    if len(_scales(graph, node)) == 1:
        return False
    first, second, output = (
        _rescaled(graph.tensors[name].grid, moved) for name in (*node.inputs, node.output)
    )
    return wrong_sums(first, second, output)[0] > 0


def _rescaled(qparams: QParams, moved: Mapping[float, float]) -> QParams:
    return replace(qparams, scale=moved.get(qparams.scale, qparams.scale))


def _with_scales(graph: Graph, moved: Mapping[float, float]) -> Graph:
    tensors = {
        name: tensor
        if tensor.qparams is None
        else replace(tensor, qparams=_rescaled(tensor.qparams, moved))
        for name, tensor in graph.tensors.items()
    }
    return replace(graph, tensors=tensors)
