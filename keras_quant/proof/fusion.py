"""Checks that ONNX Runtime computes a file's codes with integer kernels."""

from __future__ import annotations

from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner

# Types of operators that multiply floats, in ONNX Runtime's domains too.
_FLOAT_PRODUCTS = {
    *("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits"),
}


def check_fused(graph: Graph, content: bytes) -> None:
    """Checks that the optimized graph multiplies floats in the graph's float layers only.

    Args:
        graph: the realized graph.
        content: the .onnx file that was emitted from it.
    Raises:
        EmitError: a layer of codes runs in floats, slower than it should.
    """
    expected = [
        node.name
        for node in graph.nodes
        if node.weight is not None and graph.tensors[node.inputs[0]].qparams is None
    ]
    runner = OnnxRuntimeRunner(content)
    found = {
        operator: count
        for operator, count in runner.operators.items()
        if operator.rpartition(":")[2] in _FLOAT_PRODUCTS
    }
    if sum(found.values()) > len(expected):
        version = runner.info.versions["onnxruntime"]
        raise EmitError(
            f"graph {graph.name!r}: ONNX Runtime {version} multiplies floats in "
            f"{', '.join(f'{count} {op}' for op, count in found.items())}; only "
            f"{', '.join(expected) or 'none'} may. Install another version of onnxruntime"
        )
