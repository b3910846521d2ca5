from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.proof.fusion import check_fused
from keras_quant.qparams import unsigned
from tests.emit.random_graphs import GraphBuilder


def float_graph() -> Graph:
    weight = Weight(values=np.ones((2, 3), np.float32))
    dense = Node(name="dense", op="dense", inputs=("image",), output="out", weight=weight)
    tensors = {"image": Tensor(name="image", shape=(2,)), "out": Tensor(name="out", shape=(3,))}
    return Graph(name="g", inputs=("image",), outputs=("out",), tensors=tensors, nodes=(dense,))


def test_layers_of_codes_are_fused() -> None:
    builder = GraphBuilder(np.random.default_rng(0), (4, 4, 2), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 2, 3), qparams=unsigned(4, 1.0))
    check_fused(builder.graph(), emit_onnx_x86(builder.graph()))


def test_a_float_layer_may_multiply_floats_and_no_other() -> None:
    graph = float_graph()
    content = emit_onnx_x86(graph)
    check_fused(graph, content)
    with pytest.raises(EmitError, match="multiplies floats in 1 .*MatMul|Gemm; only none may"):
        check_fused(replace(graph, nodes=()), content)
