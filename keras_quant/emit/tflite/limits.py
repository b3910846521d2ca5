"""What TFLite's int8 kernels cannot compute exactly, found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from keras_quant.emit.shared.limits import Sources, problems_of
from keras_quant.emit.tflite.legalize import on_one_grid
from keras_quant.emit.tflite.ops import OP_EMITTERS
from keras_quant.emit.tflite.packing import packed_type
from keras_quant.graph.ir import Graph, Node, Weight
from keras_quant.graph.passes.pads import has_margins, is_never_negative
from keras_quant.graph.sums import wrong_sums
from keras_quant.qparams import QParams

# XNNPACK refuses other requantization scales (src/operators/convolution-nhwc.c).
_LEAST_MULTIPLIER, _MULTIPLIER_BOUND = 2.0**-32, 256.0
# Of a product; XNNPACK leaves others to the builtin kernel (src/operators/binary-elementwise-nd.c).
_LEAST_PRODUCT_MULTIPLIER = 2.0**-16


def find_problems(graph: Graph) -> list[str]:
    """Gives one line for each thing that cannot be written, naming its node or tensor."""
    problems = problems_of(graph, OP_EMITTERS, _node, language="TFLite", stored="int8")
    return problems + [
        f"layer {node.name!r}: max_pool pads {node.attrs['padding']} around what may be below 0; "
        "TFLite pads a pooling by 'same' only, and a pad in front of it is 0. Use padding 'same'."
        for node in graph.nodes
        if node.op == "max_pool" and has_margins(node) and not is_never_negative(graph, node)
    ]


def find_float_nodes(graph: Graph) -> list[str]:
    """Gives one line for each float that a legal graph gives; where none, that it computes."""
    floats = [node for node in graph.nodes if graph.tensors[node.output].qparams is None]
    heads = [node for node in floats if node.output in graph.outputs]
    remedy = "Quantize it, and add only codes of one scale; or export it with a float head."
    if heads:
        remedy = "Give the graph's outputs codes with passes.integer_head."
    return [
        f"layer {node.name!r}: {node.op} gives floats; a file with an int8 head has none. {remedy}"
        for node in heads or floats
    ]


def find_unpacked_nodes(graph: Graph, pack: str) -> list[str]:
    """Gives one line for each node of narrow codes that were multiplied beyond their width.

    Args:
        graph: realized.
        pack: see `emit.tflite.options.TFLiteOptions`.
    """
    return [
        f"layer {node.name!r}: stored codes reach {_largest(node)}, where the logical ones could "
        f"be packed. Realize the graph with tflite_packing.stored_limits and pack={pack!r}."
        for node in graph.nodes
        if packed_type(graph, _logical(node), pack) != packed_type(graph, node, pack)
    ]


def _logical(node: Node) -> Node:
    """The node with codes as they were before they were multiplied up."""
    weight = node.weight
    if weight is None or weight.multiplier is None:
        return node
    values = (weight.values // weight.multiplier).astype(np.int8)
    return replace(node, weight=replace(weight, values=values))


def _largest(node: Node) -> int:
    return int(np.abs(node.kernel.values.astype(np.int32)).max())


def _node(graph: Graph, node: Node, sources: Sources, output: QParams) -> Iterator[str]:
    if node.weight is not None:
        yield from _linear(node.weight, sources[0], output)
    if node.op == "add" and not on_one_grid(graph, node):
        yield from _add(sources[0], sources[1], output)
    if node.op == "multiply":
        yield from _multiply(sources[0], sources[1], output)


def _linear(weight: Weight, source: QParams, output: QParams) -> Iterator[str]:
    multiplier = np.float32(source.scale) * weight.code_scale / np.float32(output.scale)
    refused = np.flatnonzero((multiplier < _LEAST_MULTIPLIER) | (multiplier >= _MULTIPLIER_BOUND))
    if refused.size:
        yield (
            f"s_x * s_w / s_out is {multiplier[refused[0]]:g} in channel {refused[0]} "
            f"({refused.size} such channels); 2**-32 to below {_MULTIPLIER_BOUND:g} is allowed. "
            "Calibrate the output's scale."
        )


def _multiply(first: QParams, second: QParams, output: QParams) -> Iterator[str]:
    multiplier = first.scale * second.scale / output.scale
    if not _LEAST_PRODUCT_MULTIPLIER <= multiplier < _MULTIPLIER_BOUND:
        yield (
            f"s_a * s_b / s_out is {multiplier:g}; 2**-16 to below {_MULTIPLIER_BOUND:g} is "
            "allowed. Calibrate the output's scale."
        )


def _add(first: QParams, second: QParams, output: QParams) -> Iterator[str]:
    """Compares all sums of two codes, computed in float32 as the file will, and exactly."""
    differing, pairs = wrong_sums(first, second, output)
    if differing:
        yield (
            f"adds codes of scale {first.scale:g} and {second.scale:g} to scale "
            f"{output.scale:g}; float32 rounds {differing} of {pairs} sums to another code. "
            "Give the three tensors one scale, or scales that are powers of two."
        )
