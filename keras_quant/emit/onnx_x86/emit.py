"""Writes a realized graph as an ONNX file that is fused and exact in ONNX Runtime on x86."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_quant.emit.onnx.file import OnnxFile
from keras_quant.emit.onnx_x86.emission import Emission
from keras_quant.emit.onnx_x86.legalize import legalize
from keras_quant.emit.onnx_x86.limits import find_problems
from keras_quant.emit.onnx_x86.ops import OP_EMITTERS
from keras_quant.emit.onnx_x86.pixels import join_pixels
from keras_quant.emit.onnx_x86.weights import PRECISION_OPTION, saturating, stored_unsigned
from keras_quant.emit.shared.edges import split_at_edges
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph

# ONNX Runtime reads both from 1.12 (June 2022) on; nothing that is newer is needed.
OPSET, IR_VERSION = 17, 8


def emit_onnx_x86(
    graph: Graph,
    *,
    outputs: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Gives the bytes of an .onnx file.

    The file takes float32 (batch, *shape) inputs with any batch, channels last as in Keras, and
    its inputs and outputs have the names of the graph's tensors. Inputs and outputs of codes are
    uint8, each code shifted by `emit.onnx_x86.emission.stored_shift`. Where it needs a session
    option to be exact on processors without VNNI, metadata_props name it, and its value.

    Args:
        graph: a realized graph.
        outputs: names of the tensors that the file gives; None means the graph's outputs.
            Parity asks for all tensors of codes.
        metadata: what the file says of itself besides.
    Raises:
        EmitError: lists all nodes and tensors that ONNX Runtime cannot compute exactly.
    """
    problems = find_problems(graph)
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EmitError(f"graph {graph.name!r} cannot be written as ONNX for x86:{lines}")
    legal = legalize(split_at_edges(graph))
    unsigned = stored_unsigned(legal)
    at_risk = saturating(legal) - unsigned
    legal = join_pixels(legal, unsigned=unsigned)
    emission = Emission(
        graph=legal,
        file=OnnxFile(graph.name, opset=OPSET, ir_version=IR_VERSION),
        unsigned_weights=unsigned,
    )
    for name in legal.inputs:
        emission.take(name)
    for node in legal.nodes:
        OP_EMITTERS[node.op](emission, node)
    given = tuple(outputs or graph.outputs)
    for name in given:
        emission.give(name)
    return emission.file.pack(
        inputs={name: (_dtype(legal, name), legal.tensors[name].shape) for name in legal.inputs},
        outputs={name: (_dtype(legal, name), legal.tensors[name].shape) for name in given},
        metadata={**(metadata or {}), **({PRECISION_OPTION: "1"} if at_risk else {})},
    )


def _dtype(graph: Graph, name: str) -> type:
    return np.float32 if graph.tensors[name].qparams is None else np.uint8
