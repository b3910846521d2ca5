"""Rewrites a realized graph into nodes that TFLite's kernels compute exactly.

XNNPACK's int8 AVERAGE_POOL_2D, and ADD and QUANTIZE between different scales, do not round
as the reference does, and its MEAN not always. So averaging and requantizing become
depthwise convolutions with ones, and an add on different grids goes through float32. The
legal graph means the same as the given one: the reference computes equal codes from both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keras_quant.emit.shared.concat import stored_alike
from keras_quant.emit.shared.legal import Legal, Rule, apply_rules
from keras_quant.emit.shared.ones import mean_with_ones, with_ones
from keras_quant.emit.tflite.emission import stored_shift
from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams

# XNNPACK's MEAN rounds n * M + zero_point, with M and the sum in float32: an error of at most
# 3 * 2**-24 * 255 + 2**-17. A mean this far from a tie is rounded right.
_CLEAR_OF_TIE = 2.0**-12


def legalize(graph: Graph) -> Graph:
    """Gives a graph of the same inputs, outputs and meaning.

    Args:
        graph: a realized graph in which `emit.tflite.limits.find_problems` finds none.
    """
    return apply_rules(graph, _RULES)


def on_one_grid(graph: Graph, node: Node) -> bool:
    """Whether all that a node reads and writes has one scale, or is float32."""
    qparams = [graph.tensors[name].qparams for name in (*node.inputs, node.output)]
    return len({None if item is None else item.scale for item in qparams}) == 1


def _legal_linear(graph: Graph, node: Node) -> Legal:
    """From codes to floats, as a classifier's head: dequantize the codes first."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if source.qparams is None or output.qparams is not None:
        return [node], []
    dequantize, real = _dequantized(node, source)
    return [dequantize, replace(node, inputs=(real.name,))], [real]


def _legal_add(graph: Graph, node: Node) -> Legal:
    """On different grids: dequantize both, add in float32, quantize."""
    output = graph.tensors[node.output]
    if output.qparams is None or on_one_grid(graph, node):
        return [node], []
    parts = {name: _dequantized(node, graph.tensors[name]) for name in node.inputs}
    total = Tensor(name=f"{node.name}/sum", shape=output.shape)
    add = replace(
        node,
        inputs=tuple(parts[name][1].name for name in node.inputs),
        output=total.name,
        attrs={"activation": "none" if output.qparams.signed else "relu"},
    )
    quantize = Node(
        name=f"{node.name}/quantize", op="quantize", inputs=(total.name,), output=node.output
    )
    dequantizes, reals = zip(*parts.values(), strict=True)
    return [*dequantizes, add, quantize], [*reals, total]


def _legal_avg_pool(graph: Graph, node: Node) -> Legal:
    """Of codes: a depthwise convolution with ones whose scale is 1 / their number."""
    output = graph.tensors[node.output]
    if output.qparams is None:
        return [node], []
    return [with_ones(node, window_of(node).size, channels=output.shape[-1])], []


def _legal_mean(graph: Graph, node: Node) -> Legal:
    """Of codes, where MEAN might round a tie otherwise: as an average pool over the image."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if source.qparams is None or output.qparams is None or _mean_is_exact(source, output.qparams):
        return [node], []
    nodes, pixel = mean_with_ones(graph, node)
    return nodes, [pixel]


def _mean_is_exact(source: Tensor, output: QParams) -> bool:
    """Whether no sum comes near a tie; or ties are computed exactly, and rounded to even.

    MEAN rounds after adding the stored zero point, so ties go to even codes only where that
    is even; it is one of the two below, see `Emission.write_clamped`.
    """
    count = source.shape[0] * source.shape[1]
    low, high = (q - source.grid.zero_point for q in (source.grid.qmin, source.grid.qmax))
    multiplier = source.grid.scale / output.scale / count
    means = np.arange(low * count, high * count + 1) * multiplier
    if np.abs(means - np.floor(means) - 0.5).min() > _CLEAR_OF_TIE:
        return True
    stored = (output.zero_point - output.qmin, output.zero_point - output.qmax + 127)
    return np.frexp(multiplier)[0] == 0.5 and all(point % 2 == 0 for point in stored)


def _legal_requantize(graph: Graph, node: Node) -> Legal:
    """Between different scales: a 1x1 depthwise convolution with ones."""
    source, output = graph.tensors[node.inputs[0]], graph.tensors[node.output]
    if on_one_grid(graph, node):
        return [node], []
    if len(output.shape) == 3:
        return [with_ones(node, (1, 1), channels=output.shape[-1])], []
    elements = int(np.prod(output.shape))
    before = Tensor(name=f"{node.name}/before", shape=(1, 1, elements), qparams=source.qparams)
    after = Tensor(name=f"{node.name}/after", shape=(1, 1, elements), qparams=output.qparams)
    to_image = Node(
        name=f"{node.name}/to_image", op="reshape", inputs=node.inputs, output=before.name
    )
    scaled = replace(node, inputs=(before.name,), output=after.name)
    from_image = Node(
        name=f"{node.name}/from_image", op="reshape", inputs=(after.name,), output=node.output
    )
    nodes = [to_image, with_ones(scaled, (1, 1), channels=elements), from_image]
    return nodes, [before, after]


def _legal_concat(graph: Graph, node: Node) -> Legal:
    """Of codes in ranges with other ends, which are stored with other shifts: shift them first."""
    return stored_alike(graph, node, stored_shift)


_RULES: dict[str, Rule] = {
    "conv2d": _legal_linear,
    "conv2d_transpose": _legal_linear,
    "depthwise_conv2d": _legal_linear,
    "dense": _legal_linear,
    "add": _legal_add,
    "avg_pool": _legal_avg_pool,
    "concat": _legal_concat,
    "mean": _legal_mean,
    "requantize": _legal_requantize,
}


def _dequantized(node: Node, source: Tensor) -> tuple[Node, Tensor]:
    """What turns the codes that a node reads into float32, and the result."""
    real = Tensor(name=f"{node.name}/{source.name}", shape=source.shape)
    dequantize = Node(name=real.name, op="dequantize", inputs=(source.name,), output=real.name)
    return dequantize, real
