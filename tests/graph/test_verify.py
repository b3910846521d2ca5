"""Each rule of a graph, broken once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.verify import verify
from keras_quant.qparams import signed, unsigned

Change = Callable[[Graph], Graph]


def with_node(name: str, /, **fields: Any) -> Change:
    """Changes fields of one node."""

    def change(graph: Graph) -> Graph:
        nodes = [replace(node, **fields) if node.name == name else node for node in graph.nodes]
        return replace(graph, nodes=tuple(nodes))

    return change


def with_weight(name: str, /, **fields: Any) -> Change:
    """Changes fields of one node's weight."""

    def change(graph: Graph) -> Graph:
        node = next(node for node in graph.nodes if node.name == name)
        return with_node(name, weight=replace(node.weight, **fields))(graph)

    return change


def with_tensor(name: str, /, **fields: Any) -> Change:
    """Changes fields of one tensor."""

    def change(graph: Graph) -> Graph:
        tensor = replace(graph.tensors[name], **fields)
        return replace(graph, tensors={**graph.tensors, name: tensor})

    return change


def with_last(op: str, source: str, tensor: Tensor, **fields: Any) -> Change:
    """Appends a node that reads source and writes a new tensor."""

    def change(graph: Graph) -> Graph:
        node = Node(name="last", op=op, inputs=(source,), output=tensor.name, **fields)
        tensors = {**graph.tensors, tensor.name: tensor}
        return replace(graph, nodes=(*graph.nodes, node), tensors=tensors)

    return change


def swapped(graph: Graph) -> Graph:
    first, second, *rest = graph.nodes
    return replace(graph, nodes=(second, first, *rest))


def all_worst(graph: Graph) -> Graph:
    """One 16-bit dense layer whose sum can reach 65535 * 127 * 300, about 2.5e9."""
    tensors = [
        Tensor(name="x", shape=(300,)),
        Tensor(name="codes", shape=(300,), qparams=unsigned(16, 1.0)),
        Tensor(name="y", shape=(1,)),
    ]
    weight = Weight(values=np.full((300, 1), 127, np.int8), scale=np.ones(1), bits=8)
    nodes = (
        Node(name="quantize", op="quantize", inputs=("x",), output="codes"),
        Node(name="dense", op="dense", inputs=("codes",), output="y", weight=weight),
    )
    named = {tensor.name: tensor for tensor in tensors}
    return Graph(name="g", inputs=("x",), outputs=("y",), tensors=named, nodes=nodes)


FOUR = unsigned(4, 0.5)
POOLED = Tensor(name="pooled", shape=(2, 2, 4), qparams=FOUR)
TWICE, SWAPPED = {"perm": (0, 2)}, {"perm": (1, 0)}
HALF_POOL = {"pool_size": (2, 2), "strides": (2, 2), "padding": "same"}

BROKEN: list[tuple[str, Change]] = [
    ("2 nodes are called 'add'", with_node("mean", name="add")),
    ("there is no output", lambda g: replace(g, outputs=())),
    (
        "output 'logit' is not a tensor; close names: logits",
        lambda g: replace(g, outputs=("logit",)),
    ),
    (
        "'logits' is 2 of the inputs and outputs; put a reshape node in between",
        lambda g: replace(g, outputs=("logits", "logits")),
    ),
    (
        "'image' is 2 of the inputs and outputs",
        lambda g: replace(g, outputs=("logits", "image")),
    ),
    ("tensor 'sums' is listed as 'means'", with_tensor("means", name="sums")),
    ("conv: reads 'pixels', which no earlier node writes", swapped),
    ("mean: writes 'features', which is written already", with_node("mean", output="features")),
    (
        "tensor 'spare' is neither",
        lambda g: replace(g, tensors={**g.tensors, "spare": Tensor(name="spare", shape=())}),
    ),
    ("mean: tensor 'sum' is not defined; close names: sums", with_node("mean", inputs=("sum",))),
    (
        "quantize: image has codes; this op needs float32 there",
        with_tensor("image", qparams=unsigned(8, 1.0)),
    ),
    ("'pixels': scale is 1e-50; normal float32", with_tensor("pixels", qparams=unsigned(8, 1e-50))),
    ("op 'denze' is unknown; close names: dense", with_node("head", op="denze")),
    ("'stride'; close names: strides", with_node("conv", attrs={"stride": (1, 1)})),
    ("strides is [2, 2]; allowed is (height, width)", with_node("conv", attrs={"strides": [2, 2]})),
    ("strides is (0, 1); allowed", with_node("conv", attrs={"strides": (0, 1)})),
    ("padding is 'SAME'; allowed is", with_node("conv", attrs={"padding": "SAME"})),
    (
        "padding is ((-1, 0), (0, 0)); allowed is",
        with_node("conv", attrs={"padding": ((-1, 0), (0, 0))}),
    ),
    (
        "padding is ((0, 3), (1, 1)); a window that covers (3, 3) needs less",
        with_node("conv", attrs={"padding": ((0, 3), (1, 1))}),
    ),
    ("attribute 'pool_size' is missing", with_node("mean", op="max_pool")),
    ("add reads 2 tensor(s); 1 are given", with_node("add", inputs=("features",))),
    ("mean takes no weight and no bias", with_node("mean", bias=np.zeros(4))),
    ("dense needs a weight", with_node("head", weight=None)),
    ("weight is (12,); dense takes 2 axes", with_weight("head", values=np.ones(12, np.int8))),
    ("weight codes are int16; int8", with_weight("head", values=np.ones((4, 3), np.int16))),
    ("weight.bits is 32; int8 codes have 1 to 8", with_weight("head", bits=32)),
    ("weight.scale is float64 (1,)", with_weight("head", scale=np.ones(1))),
    ("weight.scale must be finite and > 0", with_weight("head", scale=np.array([1.0, 0.0, 1.0]))),
    ("weight.scale must be finite", with_weight("head", scale=np.array([1.0, np.nan, 1.0]))),
    ("multiplier must be int32 (3,)", with_weight("head", multiplier=np.zeros(3, np.int32))),
    ("not multiples", with_weight("head", multiplier=np.full(3, 2, np.int32))),
    ("weight without scale is int8", with_weight("head", scale=None, multiplier=None)),
    ("bias is (4,); (3,) is needed", with_node("head", bias=np.zeros(4))),
    ("bias is int64; float64", with_node("head", bias=np.zeros(3, np.int64))),
    ("bias holds NaN", with_node("head", bias=np.full(3, np.nan))),
    (
        "gives (3, 3, 4); its output 'features' is declared as",
        with_tensor("features", shape=(2, 2, 4)),
    ),
    ("the kernel takes (4,)", with_tensor("means", shape=(5,))),
    ("input has 3 channels; the kernel takes 2", with_tensor("pixels", shape=(6, 6, 3))),
    (
        "does not fit on (2, 2)",
        lambda g: with_tensor("pixels", shape=(2, 2, 2))(
            with_node("conv", attrs={"padding": "valid"})(g)
        ),
    ),
    ("input shape is (4,); (height, width, channels)", with_last("mean", "means", POOLED)),
    (
        "input shapes are (3, 3, 4), (6, 6, 2); each axis, from the last on, needs equal sizes",
        with_node("add", inputs=("features", "pixels")),
    ),
    ("perm is (0, 2); allowed is the axes", with_last("transpose", "sums", POOLED, attrs=TWICE)),
    ("perm has 2 axes; (3, 3, 4) has 3", with_last("transpose", "sums", POOLED, attrs=SWAPPED)),
    (
        "must have the same quantization parameters",
        with_last("max_pool", "features", POOLED, attrs=HALF_POOL),
    ),
    (
        "conv: features has codes; this op needs float32",
        with_tensor("pixels", qparams=None),
    ),
    (
        "weight.bits is 8 for float values",
        with_weight(
            "head", values=np.ones((4, 3), np.float32), scale=None, multiplier=None, bits=8
        ),
    ),
    ("pixels is float32; this op needs codes", with_tensor("pixels", qparams=None)),
    (
        "sums has codes; this op needs float32",
        with_last("relu", "sums", Tensor(name="r", shape=(3, 3, 4))),
    ),
    (
        "means is float32; this op needs codes",
        with_last("requantize", "logits", Tensor(name="means", shape=(3,))),
    ),
    ("features is float32; this op needs codes", with_tensor("features", qparams=None)),
    (
        "activation is 'relu' but features has codes",
        with_node("conv", attrs={"activation": "relu"}),
    ),
    (
        "the weight is float but the input has codes",
        with_weight(
            "head", values=np.ones((4, 3), np.float32), scale=None, multiplier=None, bits=32
        ),
    ),
    (
        "bias is int32; a float output takes a float bias",
        with_node("head", bias=np.ones(3, np.int32)),
    ),
    ("bias is int32 and weight.scale float64", with_node("conv", bias=np.ones(4, np.int32))),
    ("accumulators of 1 channel(s) can pass int32: channel 0 reaches 0 to 2496883500", all_worst),
]


def test_a_sound_graph_passes(graph: Graph):
    verify(graph)


@pytest.mark.parametrize(("message", "change"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_rule_is_named(graph: Graph, message: str, change: Change):
    with pytest.raises(GraphError) as caught:
        verify(change(graph))
    assert message in str(caught.value)


def test_an_integer_bias_counts_towards_overflow(graph: Graph):
    scale = graph.nodes[1].weight.scale.astype(np.float32)
    bias = np.array([2**31 - 1, 0, 0, 0], np.int32)
    broken = with_node("conv", bias=bias)(with_weight("conv", scale=scale)(graph))
    with pytest.raises(GraphError, match="conv: accumulators of 1 channel"):
        verify(broken)


def test_all_problems_are_told_at_once(graph: Graph):
    broken = with_node("add", inputs=("features",))(with_weight("head", bits=0)(graph))
    with pytest.raises(GraphError, match=r"breaks 2 rule\(s\):\n  add: .*\n  head: "):
        verify(broken)


def test_signed_codes_pass_as_unsigned_ones_do(graph: Graph):
    verify(with_tensor("pixels", qparams=signed(8, 0.1, narrow_range=True))(graph))
