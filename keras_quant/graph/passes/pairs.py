"""How large weight codes may be so that two products fit int16.

x86 processors without VNNI multiply uint8 by int8 with VPMADDUBSW, which adds two neighbouring
products in int16, and saturates. With 8-bit activations two weights of more than 64 can pass
that. Weights are multiplied up only as far as this allows; it leaves biases half as fine as
they could be, and files exact on all processors.
"""

from __future__ import annotations

from keras_quant.graph.ir import Graph, Node

INT16_MAX = 32767
UINT8_MAX = 255


def pair_limit(graph: Graph, node: Node) -> int:
    """The largest magnitude of a node's weight codes with which no pair of products saturates.

    Depthwise kernels add up in 32 bits; they have no limit but that of int8.
    """
    source = graph.tensors[node.inputs[0]].qparams
    assert source is not None, node.name
    if node.op == "depthwise_conv2d":
        return 127
    # Signed codes may be stored with their lowest as 1 (emit.onnx_x86_emission).
    largest = min(source.qmax - source.qmin + 1, UINT8_MAX)
    return min(127, INT16_MAX // (2 * largest))
