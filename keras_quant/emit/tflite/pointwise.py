"""Writes the functions of graph.pointwise as TFLite operators of float32."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.emission import Emission
from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.pointwise import HALTED

# Functions that are one operator.
_OPERATORS = {
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "hard_swish": "HARD_SWISH",
    "elu": "ELU",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
}
# A step as a ramp. float32 numbers just below HALTED are 2**-24 apart, so that it has come to 1 at
# the first of them; slope and shift are float32 numbers, and near HALTED so is their sum.
_STEP = -(2.0**24), float(np.float32(HALTED)) * 2.0**24
# Slope and shift of ramps that are cut at 0 and 1.
_RAMPS = {"hard_sigmoid": (0.2, 0.5), "hard_sigmoid_keras3": (1 / 6, 0.5), "is_on": _STEP}
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

    if function == "swish":
        inputs = [real, _between(emission, output, "LOGISTIC", [real])]
        return emission.write(output, "MUL", inputs, options=schema.MulOptionsT())
    if function in _RAMPS:
        return _write_ramp(emission, function, real, output)
    return _write_share(emission, function, real, output)


def _write_ramp(emission: Emission, function: str, real: int, output: Tensor) -> int:
    """A line that is cut at 0 and 1."""
    slope, shift = (
        _constant(emission, f"{function}/{index}", value)
        for index, value in enumerate(_RAMPS[function])
    )
    sloped = _between(emission, output, "MUL", [real, slope], schema.MulOptionsT())
    options = schema.AddOptionsT(fusedActivationFunction=_CUT_AT_ONE)
    line = _between(emission, output, "ADD", [sloped, shift], options)
    return emission.write(output, "RELU", [line])


def _write_share(emission: Emission, function: str, real: int, output: Tensor) -> int:
    """What a sum of halting scores says, of products with 0 and 1, which are exact."""
    zero_one = replace(output, name=f"{output.name}/is_on")
    on = _write_ramp(emission, "is_on", real, zero_one)
    one = _constant(emission, "one", 1.0)
    off = _between(emission, output, "SUB", [one, on], schema.SubOptionsT())
    rest = _between(emission, output, "RELU", [real])
    below = _between(emission, output, "MUL", [on, rest], schema.MulOptionsT())
    added = schema.AddOptionsT()
    if function == "halted_share":
        return emission.write(output, "ADD", [below, off], options=added)
    halted = _between(emission, output, "ADD", [below, off], added)
    if function == "less_halted_share":
        return emission.write(output, "NEG", [halted], options=schema.NegOptionsT())
    return emission.write(output, "SUB", [one, halted], options=schema.SubOptionsT())


def _constant(emission: Emission, name: str, value: float) -> int:
    return emission.file.constant(name, np.array([value], np.float32))


def _between(
    emission: Emission, output: Tensor, op: str, inputs: list[int], options: Any = None
) -> int:
    """Emits an operator whose values only others of the function read."""
    tensor = replace(output, name=f"{output.name}/{op.lower()}")
    return emission.write(tensor, op, inputs, options=options)
