from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.graph.ir import Graph, Node, Tensor
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.text import describe_nodes, format_graph, grid_text
from keras_quant.qparams import QParams, signed, unsigned


@pytest.mark.parametrize(
    ("qparams", "expected"),
    [
        (None, "float32"),
        (unsigned(4, 0.25), "0..15 * 2^-2"),
        (unsigned(4, 1.0), "0..15 * 2^0"),
        (signed(4, 0.75, narrow_range=True), "-7..7 * 0.75"),
        (QParams(scale=0.02, zero_point=128, qmin=0, qmax=255, bits=8), "0..255 - 128 * 0.02"),
    ],
)
def test_grid_is_codes_zero_point_and_scale(qparams: QParams | None, expected: str):
    assert grid_text(qparams) == expected


def test_a_node_is_what_it_reads_computes_and_writes(graph: Graph):
    conv, head = describe_nodes(graph)[1], describe_nodes(graph)[-1]
    assert (conv.node, conv.op, conv.inputs) == ("conv", "conv2d", "pixels [0..255 * 0.003921569]")
    codes = graph.nodes[1].weight.values
    assert conv.kernel == f"3x3x2x4, 4 bits, codes {codes.min()}..{codes.max()}, float64 bias"
    assert conv.settings == "strides 2x2, padding same"
    assert conv.output == "features [0..15 * 2^-2] 3x3x4"
    assert head.kernel == "4x3, 3 bits, codes -4..6, multiplier 1..2, float64 bias"
    assert head.output == "logits [float32] 3"


def test_a_realized_node_shows_its_integers(graph: Graph):
    conv = describe_nodes(realize(graph, snap=False).graph)[1]
    assert conv.kernel.endswith("int32 bias") and "multiplier" in conv.kernel


def test_float_kernel_and_missing_bias_are_said(graph: Graph):
    conv = graph.nodes[1]
    weight = replace(conv.weight, values=conv.weight.values.astype(np.float32), scale=None, bits=32)
    changed = replace(graph, nodes=(replace(conv, weight=weight, bias=None),))
    assert describe_nodes(changed)[0].kernel == "3x3x2x4, float32, no bias"


def test_margins_are_pairs():
    tensors = {name: Tensor(name=name, shape=()) for name in "xy"}
    attrs = {"padding": ((0, 1), (2, 3))}
    node = Node(name="pad", op="pad", inputs=("x",), output="y", attrs=attrs)
    graph = Graph(name="g", inputs=("x",), outputs=("y",), tensors=tensors, nodes=(node,))
    line = describe_nodes(graph)[0]
    assert (line.settings, line.output) == ("padding 0x1 2x3", "y [float32] scalar")


def test_lines_are_aligned_and_one_a_node(graph: Graph):
    first, headings, *lines = format_graph(graph).splitlines()
    assert first == "graph small: image [float32] 6x6x2 -> logits [float32] 3"
    assert len(lines) == len(graph.nodes)
    for heading, field in [("op", "op"), ("inputs", "inputs"), ("output", "output")]:
        at = headings.index(heading)
        for line, words in zip(lines, describe_nodes(graph), strict=True):
            assert line[at:].startswith(getattr(words, field))
            assert line[at - 2 : at] == "  "
