"""What ONNX Runtime's kernels cannot compute exactly, found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator

from keras_quant.emit.onnx_x86.add import floats_are_exact, kernel_is_exact
from keras_quant.emit.onnx_x86.ops import OP_EMITTERS
from keras_quant.emit.shared.limits import Sources, problems_of
from keras_quant.graph.ir import Graph, Node
from keras_quant.qparams import QParams

# QLinearGlobalAveragePool refuses other multipliers (MLAS, qlgavgpool.cpp).
_LEAST_MULTIPLIER, _MULTIPLIER_BOUND = 2.0**-32, 256.0


def find_problems(graph: Graph) -> list[str]:
    """Gives one line for each thing that cannot be written, naming its node or tensor."""
    return problems_of(graph, OP_EMITTERS, _node, language="ONNX", stored="uint8")


def _node(graph: Graph, node: Node, sources: Sources, output: QParams) -> Iterator[str]:
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
