"""Writes a table of codes with the fastest operators that give exactly its entries.

The ways to compute one (see `tables`), in the order in which they are tried, with the time
measured on x86 with AVX512 in ns an element of 65,536:

| operators | ns | exact because |
|---|---|---|
| QLinearLeakyRelu | 0.25 | one product, rounded as IEEE 754 says |
| DequantizeLinear, PRelu, QuantizeLinear | 0.3 | the same, with a slope for each channel |
| QLinearSigmoid | 0.25 | no entry is near a half |
| DequantizeLinear, other functions, QuantizeLinear | 0.3 to 1.6 | see `tables` |
| Cast, Gather | 2.7 | copies the entries, one by one |
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from keras_quant.emit.onnx.pointwise import write_function
from keras_quant.emit.onnx_x86.emission import Emission, stored_range, stored_shift
from keras_quant.emit.shared.tables import Table, find_function, leaky_slopes, read_table
from keras_quant.graph.ir import Node
from keras_quant.graph.pointwise import POINTWISE

# The fastest first.
_FUNCTIONS = (
    *("sigmoid", "hard_sigmoid", "hard_sigmoid_keras3", "tanh", "hard_swish"),
    *("swish", "gelu_tanh", "gelu", "elu"),
)


def emit_lookup(emission: Emission, node: Node) -> None:
    """Codes to codes in the fastest exact way; codes to floats by Gather."""
    if emission.output(node).qparams is None:
        _gather(emission, node)
        return
    table = read_table(emission.graph, node, divides=True)
    slopes = leaky_slopes(table)
    function = None if slopes is not None else find_function(table, _FUNCTIONS)
    if slopes is not None:
        reals = np.where(table.reals < 0, table.reals * slopes[:, None], table.reals)
        _quantize(emission, node, table, _leaky_relu(emission, node, slopes), reals)
    elif function is not None:
        value = write_function(emission.file, function, emission.real(node), node.name)
        _quantize(emission, node, table, value, POINTWISE[function].formula(table.reals))
    else:
        _gather(emission, node)


def emit_pointwise(emission: Emission, node: Node) -> None:
    """A function of each of a tensor's floats."""
    value = emission.value(node.inputs[0])
    function: str = node.attrs["function"]
    emission.values[node.output] = write_function(emission.file, function, value, node.name)


def _leaky_relu(emission: Emission, node: Node, slopes: np.ndarray) -> str:
    real, name, file = emission.real(node), f"{node.name}/leaky", emission.file
    if len(slopes) == 1:
        return file.operator("LeakyRelu", [real], name, alpha=float(slopes[0]))
    slope = file.constant(f"{node.name}/slope", _by_channel(emission, node, slopes))
    return file.operator("PRelu", [real, slope], name)


def _quantize(emission: Emission, node: Node, table: Table, value: str, reals: np.ndarray) -> None:
    """Rounds a value to the output's codes; no clamp where none of the reals needs one."""
    target = table.target
    codes = np.rint(table.steps(reals)) + target.zero_point
    in_range = bool(target.qmin <= codes.min() and codes.max() <= target.qmax)
    emission.quantize(emission.output(node), value, in_range=in_range)


def _gather(emission: Emission, node: Node) -> None:
    """Any table: copies entries to where their stored codes are."""
    source, output, file, name = (
        emission.source(node).grid,
        emission.output(node),
        emission.file,
        node.name,
    )
    rows = np.atleast_2d(node.entries)
    lowest, highest, _ = stored_range(source)
    entries = np.pad(rows, [(0, 0), (lowest, 0)], mode="edge")
    if output.qparams is not None:
        entries = (entries + stored_shift(output.qparams)).astype(np.uint8)
    value = emission.value(node.inputs[0])
    position = file.operator("Cast", [value], f"{name}/code", to=TensorProto.INT32)
    if len(rows) > 1:
        begins = np.arange(len(rows), dtype=np.int32) * (highest + 1)
        begin = file.constant(f"{name}/begin", _by_channel(emission, node, begins))
        position = file.operator("Add", [position, begin], f"{name}/position")
    table = file.constant(f"{name}/table", entries.ravel())
    emission.write(output, "Gather", [table, position])


def _by_channel(emission: Emission, node: Node, values: np.ndarray) -> np.ndarray:
    """Values of channels, as they broadcast to a node's output within the file."""
    return values.reshape(-1, 1, 1) if len(emission.output(node).shape) == 3 else values
