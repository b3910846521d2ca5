"""What every format asks of a graph before anything is written, reported line by line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

import numpy as np

from keras_quant.errors import close_names
from keras_quant.graph.ir import Graph, Node
from keras_quant.qparams import INT8_CODES, QParams

Sources = list[QParams]
NodeLimits = Callable[[Graph, Node, Sources, QParams], Iterable[str]]


def problems_of(
    graph: Graph, ops: Collection[str], limits: NodeLimits, *, language: str, stored: str
) -> list[str]:
    """Gives one line for each thing that cannot be written, naming its node or tensor.

    Args:
        ops: the operations that the format has.
        limits: what it asks of a node from codes to codes: of the graph, the node, the grids of
            its inputs that have codes, and the output's. Of floats everything can be written.
        language: of the operators, for messages.
        stored: type of the codes in the file, likewise.
    """
    problems = []
    for tensor in graph.tensors.values():
        if tensor.qparams is not None:
            lines = _range(tensor.qparams, stored)
            problems += [f"tensor {tensor.name!r}: {line}" for line in lines]
    for node in graph.nodes:
        if node.op in ops:
            problems += [f"layer {node.name!r}: {line}" for line in _node(graph, node, limits)]
        else:
            names = close_names(node.op, ops)
            problems.append(f"layer {node.name!r}: no {language} operator for {node.op!r}{names}")
    return problems


def _range(qparams: QParams, stored: str) -> Iterator[str]:
    if qparams.qmax - qparams.qmin >= INT8_CODES:
        yield (
            f"codes {qparams.qmin} to {qparams.qmax} do not fit {stored}; at most {INT8_CODES} "
            "codes are allowed. Use 8 bits or fewer."
        )
    if not qparams.qmin <= qparams.zero_point <= qparams.qmax:
        yield (
            f"zero_point is {qparams.zero_point}; {qparams.qmin} to {qparams.qmax} is allowed. "
            "Widen the range of codes until it holds real 0."
        )


def _node(graph: Graph, node: Node, limits: NodeLimits) -> Iterator[str]:
    read = [graph.tensors[name].qparams for name in node.inputs]
    sources = [qparams for qparams in read if qparams is not None]
    output = graph.tensors[node.output].qparams
    if output is None or not sources:
        return
    scale = None if node.weight is None else node.weight.scale
    if scale is not None and scale.dtype != np.float32:
        yield "weight.scale is float64, the graph is ideal. Apply graph.passes.realize first."
        return
    yield from limits(graph, node, sources, output)
