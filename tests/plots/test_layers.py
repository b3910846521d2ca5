from __future__ import annotations

import pytest

from keras_quant.errors import UsageError
from keras_quant.graph.costs.cost import GraphCost, NodeCost
from keras_quant.plots import bits_of_layers


def node(name: str, *, weights: int | None, inputs: int) -> NodeCost:
    counted = dict.fromkeys(NodeCost.__slots__, 0)
    given = {"name": name, "weight_bits": weights, "activation_bits": inputs}
    return NodeCost(**(counted | {"op": "conv2d", "shape": ()} | given))


def total(*nodes: NodeCost) -> GraphCost:
    return GraphCost(**(dict.fromkeys(GraphCost.__slots__, 0) | {"nodes": nodes}))


def test_each_layer_with_a_kernel_has_a_bar_of_its_weights_and_one_of_its_inputs() -> None:
    nodes = [
        node("first", weights=8, inputs=8),
        node("relu", weights=None, inputs=4),
        node("second", weights=2, inputs=4),
        node("head", weights=32, inputs=32),
    ]
    (axes,) = bits_of_layers(total(*nodes), title="run").axes
    weights, inputs = axes.containers
    assert [bar.get_width() for bar in weights] == [8, 2, 9]  # float reaches the edge
    assert [bar.get_width() for bar in inputs] == [8, 4, 9]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["8", "2", "float", "8", "4", "float"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "head"]


def test_a_graph_without_kernels_is_refused() -> None:
    with pytest.raises(UsageError, match="no layer has a kernel"):
        bits_of_layers(total(node("relu", weights=None, inputs=4)), title="run")
