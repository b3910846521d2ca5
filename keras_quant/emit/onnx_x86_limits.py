"""What ONNX Runtime's kernels cannot compute exactly, found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_quant.emit.onnx_x86_add import floats_are_exact, kernel_is_exact
from keras_quant.emit.onnx_x86_emission import UINT8_MAX
from keras_quant.emit.onnx_x86_ops import OP_EMITTERS
from keras_quant.errors import close_names
from keras_quant.graph.ir import Graph, Node
from keras_quant.qparams import QParams

# QLinearGlobalAveragePool refuses other multipliers (MLAS, qlgavgpool.cpp).
_LEAST_MULTIPLIER, _MULTIPLIER_BOUND = 2.0**-32, 256.0


def find_problems(graph: Graph) -> list[str]:
    """Gives one line for each thing that cannot be written, naming its node or tensor."""
    problems = []
    for tensor in graph.tensors.values():
        if tensor.qparams is not None:
            problems += [f"tensor {tensor.name!r}: {line}" for line in _range(tensor.qparams)]
    for node in graph.nodes:
        if node.op in OP_EMITTERS:
            problems += [f"layer {node.name!r}: {line}" for line in _node(graph, node)]
        else:
            names = close_names(node.op, OP_EMITTERS)
            problems.append(f"layer {node.name!r}: no ONNX operator for {node.op!r}{names}")
    return problems


def _range(qparams: QParams) -> Iterator[str]:
    if qparams.qmax - qparams.qmin > UINT8_MAX:
        yield (
            f"codes {qparams.qmin} to {qparams.qmax} do not fit uint8; at most {UINT8_MAX + 1} "
            "codes are allowed. Use 8 bits or fewer."
        )
    if not qparams.qmin <= qparams.zero_point <= qparams.qmax:
        yield (
            f"zero_point is {qparams.zero_point}; {qparams.qmin} to {qparams.qmax} is allowed. "
            "Widen the range of codes until it holds real 0."
        )


def _node(graph: Graph, node: Node) -> Iterator[str]:
    """Only codes have limits: ONNX Runtime computes all float operators of a graph."""
    read = [graph.tensors[name].qparams for name in node.inputs]
    sources = [qparams for qparams in read if qparams is not None]
    output = graph.tensors[node.output].qparams
    if output is None or not sources:
        return
    scale = None if node.weight is None else node.weight.scale
    if scale is not None and scale.dtype != np.float32:
        yield "weight.scale is float64, the graph is ideal. Apply graph.passes.realize first."
    if node.op == "mean":
        yield from _mean(graph, node, sources[0], output)
    if node.op == "add":
        yield from _add(sources[0], sources[1], output)


def _mean(graph: Graph, node: Node, source: QParams, output: QParams) -> Iterator[str]:
    height, width, _ = graph.tensors[node.inputs[0]].shape
    multiplier = source.scale / output.scale / (height * width)
    if not _LEAST_MULTIPLIER <= multiplier < _MULTIPLIER_BOUND:
        yield (
            f"s_x / s_out / {height * width} is {multiplier:g}; 2**-32 to below "
            f"{_MULTIPLIER_BOUND:g} is allowed. Calibrate the output's scale."
        )


def _add(first: QParams, second: QParams, output: QParams) -> Iterator[str]:
    if kernel_is_exact(first, second, output) or floats_are_exact(first, second, output):
        return
    yield (
        f"adds codes of scale {first.scale:g} and {second.scale:g} to scale {output.scale:g}; "
        "float32 rounds some sums to another code. Give the three tensors one scale, or scales "
        "that are powers of two."
    )
