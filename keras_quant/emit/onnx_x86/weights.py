"""How weights are stored so that ONNX Runtime's integer kernels are exact on every x86 processor.

uint8 activations times int8 weights is the fast product, and saturates where there is no VNNI:
VPMADDUBSW adds two neighbouring products in int16. With 8-bit activations and two weights that
add up to more than 128, the sum is wrong. So weights are multiplied up only as far as that allows
(`stored_limits`); those that are larger as they are can be stored in another way. uint8 weights
(zero point 128) go through 16-bit products added up in 32 bits, and are slower where there is
VNNI. Depthwise kernels do so with both (MLAS, qdwconv.cpp).
"""

from __future__ import annotations

import numpy as np

from keras_quant.emit.onnx_x86.emission import stored_range
from keras_quant.graph.costs.cost import cost
from keras_quant.graph.ir import Graph, Node
from keras_quant.graph.passes.realize import INT8_MAX

UINT8_ZERO = 128
INT16_MAX = 32767

SAFE_SHARE = 0.1
"""Up to this share of a net's multiply-accumulates, weights are stored as uint8 where needed.

The first layer of 4-bit nets, and their head, have 8-bit weights on 8-bit activations. Where
more would be slower, int8 stays, and the file says which session option makes it exact.
"""

PRECISION_OPTION = "session.x64quantprecision"
"""Session option with which ONNX Runtime itself converts int8 weights to uint8, where needed."""


def stored_limits(graph: Graph) -> dict[str, int]:
    """The largest stored weight code, by node, with which no pair of products saturates.

    `graph.passes.realize` multiplies codes up to it; a node that is not named has int8's room.

    Args:
        graph: ideal.
    """
    limits = {}
    for node in graph.nodes:
        source = graph.tensors[node.inputs[0]].qparams
        if source is not None and _adds_pairs(node):
            limits[node.name] = min(INT8_MAX, INT16_MAX // (2 * stored_range(source)[1]))
    return limits


def saturating(graph: Graph) -> frozenset[str]:
    """Names of nodes whose int8 weights can overflow int16 on processors without VNNI."""
    return frozenset(node.name for node in graph.nodes if _can_saturate(graph, node))


def stored_unsigned(graph: Graph) -> frozenset[str]:
    """Names of nodes whose weights are stored as uint8: the saturating ones, where they are few."""
    names, total = saturating(graph), cost(graph)
    few = sum(node.macs for node in total.nodes if node.name in names) <= SAFE_SHARE * total.macs
    return names if few else frozenset()


def _can_saturate(graph: Graph, node: Node) -> bool:
    source = graph.tensors[node.inputs[0]].qparams
    if source is None or node.weight is None or not _adds_pairs(node):
        return False
    codes = np.ascontiguousarray(node.weight.values.reshape(-1, node.weight.values.shape[-1]).T)
    if codes.shape[1] > 2:
        codes = np.partition(codes, (1, -2), axis=1)  # two least, any, two greatest
    pair = np.maximum(codes[:, -2:].clip(0).sum(axis=1), -codes[:, :2].clip(None, 0).sum(axis=1))
    return bool(stored_range(source)[1] * int(pair.max()) > INT16_MAX)


def _adds_pairs(node: Node) -> bool:
    """Whether products are added in pairs, of 16 bits; depthwise kernels add up in 32."""
    return node.weight is not None and node.op != "depthwise_conv2d"
