"""Costs against layers counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.graph.costs.cost import cost
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.qparams import unsigned


def test_layers_counted_by_hand(graph: Graph):
    found = {node.name: node for node in cost(graph).nodes}
    conv, head, add = found["conv"], found["head"], found["add"]
    assert (conv.op, conv.shape) == ("conv2d", (3, 3, 4))
    assert conv.parameters == 3 * 3 * 2 * 4 + 4
    assert conv.macs == 3 * 3 * (3 * 3 * 2 * 4)
    assert (conv.weight_bits, conv.activation_bits) == (4, 8)
    assert conv.bit_operations == 648 * 4 * 8
    assert conv.weight_bytes == 72 * 4 // 8 + 4 * 4 + 4 * 4
    assert conv.float_bytes == 4 * 76
    assert (head.macs, head.weight_bits, head.activation_bits) == (12, 3, 4)
    assert head.weight_bytes == 5 + 12 + 12  # 36 bits are 5 bytes
    assert (add.parameters, add.macs, add.weight_bits, add.weight_bytes) == (0, 0, None, 0)


def test_sums_are_of_all_nodes(graph: Graph):
    total = cost(graph)
    assert total.parameters == 76 + 15
    assert total.macs == 648 + 12
    assert total.bit_operations == 648 * 32 + 12 * 12
    assert total.weight_bytes == 68 + 29
    assert total.float_bytes == 4 * 91


def test_a_depthwise_kernel_meets_one_channel_only():
    node = Node(
        name="depthwise",
        op="depthwise_conv2d",
        inputs=("x",),
        output="y",
        attrs={"padding": "same"},
        weight=Weight(values=np.ones((3, 3, 8), np.int8), scale=np.ones(8), bits=2),
    )
    qparams = unsigned(2, 1.0)
    tensors = {name: Tensor(name=name, shape=(5, 5, 8), qparams=qparams) for name in "xy"}
    graph = Graph(name="g", inputs=("x",), outputs=("y",), tensors=tensors, nodes=(node,))
    assert cost(graph).macs == 5 * 5 * 3 * 3 * 8
    assert cost(graph).weight_bytes == 18 + 8 * 4


def test_kernel_values_that_are_0_are_counted_and_biases_are_not(graph: Graph):
    conv = next(node for node in graph.nodes if node.weight is not None)
    values = conv.kernel.values.copy()
    before = values.size - np.count_nonzero(values)
    values.flat[np.flatnonzero(values)[:3]] = 0
    pruned = replace(conv, weight=replace(conv.kernel, values=values), bias=np.zeros(4))
    nodes = tuple(pruned if node is conv else node for node in graph.nodes)
    assert cost(replace(graph, nodes=nodes)).zeros == cost(graph).zeros + 3
    assert cost(graph).nodes[graph.nodes.index(conv)].zeros == before


def one_node(node: Node, shape: tuple[int, ...], output: tuple[int, ...]) -> Graph:
    qparams = unsigned(2, 1.0)
    tensors = {
        n: Tensor(name=n, shape=s, qparams=qparams) for n, s in (("x", shape), ("y", output))
    }
    return Graph(name="g", inputs=("x",), outputs=("y",), tensors=tensors, nodes=(node,))


def linear(op: str, kernel: tuple[int, ...], **attrs: object) -> Node:
    weight = Weight(values=np.ones(kernel, np.int8), scale=np.ones(kernel[-1]), bits=2)
    return Node(name="n", op=op, inputs=("x",), output="y", attrs=attrs, weight=weight)


def test_a_group_meets_its_own_channels_only():
    node = linear("conv2d", (3, 3, 2, 6), groups=4, padding="same")
    found = cost(one_node(node, (5, 5, 8), (5, 5, 6)))
    assert found.macs == 5 * 5 * 6 * (3 * 3 * 2)
    assert found.parameters == 3 * 3 * 2 * 6


def test_a_depth_multiplier_counts_each_of_its_channels():
    node = linear("conv2d", (3, 3, 1, 16), groups=8, padding="same")
    assert cost(one_node(node, (5, 5, 8), (5, 5, 16))).macs == 5 * 5 * 16 * 3 * 3


def test_a_transposed_kernel_is_used_once_for_each_input_pixel():
    node = linear("conv2d_transpose", (3, 3, 4, 6), strides=(2, 2), padding="same")
    found = cost(one_node(node, (5, 5, 4), (10, 10, 6)))
    assert found.macs == 5 * 5 * (3 * 3 * 4 * 6)
    assert found.bit_operations == found.macs * 2 * 2


def test_float_layers_count_32_bits(graph: Graph):
    conv = graph.nodes[1]
    real = Weight(values=conv.weight.values.astype(np.float32))
    real_conv = replace(conv, inputs=("image",), weight=real)
    found = cost(replace(graph, nodes=(real_conv,)))
    assert found.bit_operations == 648 * 32 * 32
    assert found.weight_bytes == found.float_bytes == 4 * 76


def test_peaks_and_energies_are_of_the_whole_graph(graph: Graph):
    total = cost(graph)
    assert total.peak_live_bytes == max(node.live_bytes for node in total.nodes) == 360
    assert total.peak_live_logical_bytes == 360
    assert total.energy_nj == pytest.approx(total.arithmetic_nj + total.memory_nj)
    assert total.energy_nj == pytest.approx(sum(node.energy_nj for node in total.nodes))
    assert (total.weight_memory, total.activation_memory) == ("8 kB cache", "8 kB cache")


def test_memory_energy_is_of_inputs_weights_and_output_once(graph: Graph):
    found = {node.name: node for node in cost(graph).nodes}
    # 64 bits of a cache of 8 kB are 10 pJ: 72 bytes of pixels, 68 of weights, 18 of codes.
    assert found["conv"].memory_nj == pytest.approx((72 + 68 + 18) / 8 * 10 / 1000)
    assert found["add"].memory_nj == pytest.approx((18 + 18 + 18) / 8 * 10 / 1000)


def test_weights_and_activations_each_have_the_memory_that_holds_them():
    # 1000x200 codes of 4 bits are 100,000 bytes, with 800 of scales; 1000 codes of 8 bits in.
    weight = Weight(values=np.ones((1000, 200), np.int8), scale=np.ones(200), bits=4)
    node = Node(name="dense", op="dense", inputs=("x",), output="y", weight=weight)
    tensors = {
        name: Tensor(name=name, shape=(size,), qparams=unsigned(8, 1.0))
        for name, size in (("x", 1000), ("y", 200))
    }
    graph = Graph(name="g", inputs=("x",), outputs=("y",), tensors=tensors, nodes=(node,))
    total = cost(graph)
    assert (total.weight_memory, total.activation_memory) == ("1 MB cache", "8 kB cache")
    assert total.memory_nj == pytest.approx((100_800 / 8 * 100 + 1200 / 8 * 10) / 1000)


def test_activations_are_where_their_peak_fits_not_their_sum():
    # Each of two copies of 3,000 bytes, made one after the other, lives beside its source.
    qparams = unsigned(8, 1.0)
    tensors = {name: Tensor(name=name, shape=(3000,), qparams=qparams) for name in "xyz"}
    nodes = tuple(
        Node(name=output, op="reshape", inputs=(source,), output=output)
        for source, output in ("xy", "yz")
    )
    graph = Graph(name="g", inputs=("x",), outputs=("z",), tensors=tensors, nodes=nodes)
    assert cost(graph).peak_live_logical_bytes == 6000
    assert cost(graph).activation_memory == "8 kB cache"


def test_no_node_is_free(graph: Graph):
    assert all(node.energy_nj > 0 for node in cost(graph).nodes)


def test_a_graph_without_nodes_costs_nothing():
    tensors = {"x": Tensor(name="x", shape=(2,))}
    empty = Graph(name="g", inputs=("x",), outputs=("x",), tensors=tensors, nodes=())
    assert (cost(empty).energy_nj, cost(empty).peak_live_bytes) == (0, 0)
