"""Writes the functions of graph.pointwise as TFLite operators of float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.emission import Emission
from keras_quant.graph.ir import Node, Tensor

# Functions that are one operator.
_OPERATORS = {
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "hard_swish": "HARD_SWISH",
    "elu": "ELU",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
}
# Slope and shift of ramps that are cut at 0 and 1.
_RAMPS = {"hard_sigmoid": (0.2, 0.5), "hard_sigmoid_keras3": (1 / 6, 0.5)}
_CUT_AT_ONE = schema.ActivationFunctionType.RELU_N1_TO_1


def emit_pointwise(emission: Emission, node: Node) -> int:
    """A function of each of a tensor's floats."""
    real = emission.inputs(node)[0]
    return write_function(emission, node.attrs["function"], real, emission.output(node))


def write_function(emission: Emission, function: str, real: int, output: Tensor) -> int:
    """Emits a function of float32 values.

    Args:
        function: a name of graph.pointwise.
        real: the file's tensor of arguments.
        output: what the file's tensor of results is called.
    Returns: the file's tensor of results.
    """
    if function in _OPERATORS:
        options = schema.GeluOptionsT(approximate=function == "gelu_tanh")
        own = options if _OPERATORS[function] == "GELU" else None
        return emission.write(output, _OPERATORS[function], [real], options=own)

    def between(op: str, inputs: list[int], options: Any = None) -> int:
        tensor = replace(output, name=f"{output.name}/{op.lower()}")
        return emission.write(tensor, op, inputs, options=options)

    if function == "swish":
        inputs = [real, between("LOGISTIC", [real])]
        return emission.write(output, "MUL", inputs, options=schema.MulOptionsT())
    slope, shift = (
        emission.file.constant(f"{function}/{index}", np.array([value], np.float32))
        for index, value in enumerate(_RAMPS[function])
    )
    sloped = between("MUL", [real, slope], schema.MulOptionsT())
    options = schema.AddOptionsT(fusedActivationFunction=_CUT_AT_ONE)
    return emission.write(output, "RELU", [between("ADD", [sloped, shift], options)])
