"""What is fused, and what is counted of it: by hand."""

from __future__ import annotations

import pytest

from keras_quant.bench.estimate.fusion import fuse
from keras_quant.errors import ModelError
from tests.bench.estimate.graphs import Builder, residual


def test_a_shortcut_is_added_by_the_convolution_that_comes_last() -> None:
    layers = fuse(residual())
    assert [layer.nodes for layer in layers] == [
        ("conv1",),
        ("conv2", "add"),
        ("mean",),
        ("logits",),
    ]
    conv2 = layers[1]
    # It reads its input and the shortcut, which is the same tensor here, and writes the sum.
    assert (conv2.read, conv2.written) == (2 * 8 * 8 * 16, 8 * 8 * 16)


def test_of_two_branches_the_one_that_is_computed_last_adds() -> None:
    net = (
        Builder((8, 8, 4))
        .node("branch", "conv2d", ("image",), (8, 8, 4), kernel=(3, 3, 4, 4))
        .node("shortcut", "conv2d", ("image",), (8, 8, 4), kernel=(1, 1, 4, 4))
        .node("sum", "add", ("branch", "shortcut"), (8, 8, 4))
        .node("relu", "relu", ("sum",), (8, 8, 4))
    )
    nodes = [layer.nodes for layer in fuse(net.graph())]
    assert nodes == [("branch",), ("shortcut", "sum", "relu")]


def test_what_the_caller_gets_too_is_written_before_a_relu() -> None:
    net = (
        Builder((8, 8, 4))
        .node("conv", "conv2d", ("image",), (8, 8, 4), kernel=(1, 1, 4, 4))
        .node("relu", "relu", ("conv",), (8, 8, 4))
    )
    assert len(fuse(net.graph("relu"))) == 1
    assert len(fuse(net.graph("conv", "relu"))) == 2


def test_a_layer_is_a_product_of_matrices_that_is_counted_by_hand() -> None:
    conv1, conv2, _, logits = fuse(residual())
    assert (conv1.rows, conv1.columns, conv1.depth, conv1.taps) == (64, 16, 27, 9)
    assert (conv1.macs, conv1.weights) == (64 * 16 * 27, 16 * 27 + 16)
    assert (conv1.read, conv1.written) == (8 * 8 * 3, 8 * 8 * 16)
    assert conv2.macs == 64 * 16 * 144
    assert (logits.rows, logits.columns, logits.depth, logits.macs) == (1, 10, 16, 160)


def test_strides_are_told() -> None:
    net = Builder((8, 8, 4)).node(
        "conv", "conv2d", ("image",), (4, 4, 8), kernel=(3, 3, 4, 8), strides=(2, 2), padding="same"
    )
    (layer,) = fuse(net.graph())
    assert not layer.unit_stride and layer.rows == 16


def test_groups_divide_columns_and_a_channel_a_group_is_depthwise() -> None:
    net = (
        Builder((8, 8, 8))
        .node("grouped", "conv2d", ("image",), (8, 8, 6), kernel=(1, 1, 4, 6), groups=2)
        .node("single", "depthwise_conv2d", ("grouped",), (8, 8, 6), kernel=(3, 3, 6))
    )
    grouped, single = fuse(net.graph())
    assert (grouped.kind, grouped.groups, grouped.columns) == ("matrix", 2, 3)
    assert grouped.macs == grouped.rows * grouped.columns * grouped.depth * grouped.groups
    assert (single.kind, single.groups, single.macs) == ("depthwise", 6, 64 * 9 * 6)


def test_two_filters_a_channel_are_depthwise_too() -> None:
    net = Builder((8, 8, 4)).node(
        "doubled", "conv2d", ("image",), (8, 8, 8), kernel=(3, 3, 1, 8), groups=4
    )
    (layer,) = fuse(net.graph())
    assert (layer.kind, layer.columns, layer.macs) == ("depthwise", 2, 64 * 9 * 8)


def test_a_batch_norm_that_stands_alone_only_moves_values() -> None:
    net = Builder((8, 8, 4)).node(
        "norm", "depthwise_conv2d", ("image",), (8, 8, 4), kernel=(1, 1, 4), activation="relu"
    )
    (layer,) = fuse(net.graph())
    assert (layer.kind, layer.macs, layer.weights) == ("values", 0, 8)


def test_padding_reshaping_and_concatenation_are_no_work() -> None:
    net = (
        Builder((8, 8, 4))
        .node("pad", "pad", ("image",), (10, 10, 4), padding=((1, 1), (1, 1)))
        .node("conv", "conv2d", ("pad",), (8, 8, 4), kernel=(3, 3, 4, 4))
        .node("concat", "concat", ("conv", "image"), (8, 8, 8), axis=2)
        .node("flat", "reshape", ("concat",), (512,))
    )
    assert [layer.name for layer in fuse(net.graph())] == ["conv"]


def test_what_two_read_is_not_taken_in() -> None:
    net = (
        Builder((8, 8, 4))
        .node("conv", "conv2d", ("image",), (8, 8, 4), kernel=(1, 1, 4, 4))
        .node("relu", "relu", ("conv",), (8, 8, 4))
        .node("sum", "add", ("conv", "relu"), (8, 8, 4))
    )
    layers = fuse(net.graph())
    assert [layer.nodes for layer in layers] == [("conv",), ("relu", "sum")]


def test_a_sum_of_other_shapes_is_a_kernel_of_its_own() -> None:
    net = (
        Builder((8, 8, 4))
        .node("conv", "conv2d", ("image",), (8, 8, 4), kernel=(1, 1, 4, 4))
        .node("pool", "mean", ("image",), (4,))
        .node("sum", "add", ("conv", "pool"), (8, 8, 4))
    )
    assert [layer.name for layer in fuse(net.graph())] == ["conv", "pool", "sum"]


def test_only_codes_times_codes_are_int8() -> None:
    assert [layer.integer for layer in fuse(residual())] == [None] * 4
    assert [layer.integer for layer in fuse(residual(bits=4))] == [True] * 4
    wide = fuse(residual(bits=16))
    assert [layer.integer for layer in wide] == [False] * 4


def test_a_graph_that_only_moves_is_refused() -> None:
    net = Builder((2, 2, 1)).node("flat", "reshape", ("image",), (4,))
    with pytest.raises(ModelError, match="net: has no layer that takes time"):
        fuse(net.graph())
