"""Writes a realized graph as a TFLite file whose int8 kernels compute the reference's codes."""

from __future__ import annotations

from collections.abc import Sequence

from keras_quant.emit.tflite_emission import Emission
from keras_quant.emit.tflite_file import TFLiteFile
from keras_quant.emit.tflite_legalize import legalize
from keras_quant.emit.tflite_limits import find_problems
from keras_quant.emit.tflite_ops import OP_EMITTERS
from keras_quant.emit.tflite_rescale import rescale
from keras_quant.errors import EmitError
from keras_quant.graph.ir import Graph


def emit_tflite(graph: Graph, *, outputs: Sequence[str] | None = None) -> bytes:
    """Gives the bytes of a .tflite file.

    The file takes float32 (batch, *shape) inputs with any batch, and has a signature
    "serving_default" whose names are the graph's tensor names. Output tensors of codes are
    int8, each code shifted by `tflite_emission.stored_offset`.

    Args:
        graph: a realized graph.
        outputs: names of the tensors that the file gives; None means the graph's outputs.
            Parity asks for all tensors of codes.
    Raises:
        EmitError: lists all nodes and tensors that TFLite cannot compute exactly.
    """
    problems = find_problems(graph)
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EmitError(f"graph {graph.name!r} cannot be written as TFLite:{lines}")
    legal = legalize(rescale(graph))
    emission = Emission(graph=legal, file=TFLiteFile(graph.name))
    for name in legal.inputs:
        emission.index[name] = emission.define(legal.tensors[name])
    for node in legal.nodes:
        emission.index[node.output] = OP_EMITTERS[node.op](emission, node)
    return emission.file.pack(
        inputs={name: emission.index[name] for name in graph.inputs},
        outputs={name: emission.index[name] for name in outputs or graph.outputs},
    )
