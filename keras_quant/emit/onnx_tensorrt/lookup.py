"""Writes tables and products of codes for TensorRT, which has no integer operators for them.

Both are computed in floats between DQ and Q, which TensorRT fuses to one kernel with int8 at
both ends: a table as the very function where rounding that gives each entry (see `tables`), else
by Gather, which copies the entries.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from keras_quant.emit.onnx.pointwise import write_function
from keras_quant.emit.onnx_tensorrt.emission import Emission, stored_shift
from keras_quant.emit.shared.products import product_multiplier
from keras_quant.emit.shared.tables import find_function, leaky_slopes, read_table
from keras_quant.graph.ir import Node
from keras_quant.graph.pointwise import POINTWISE


def emit_lookup(emission: Emission, node: Node) -> None:
    """Codes to codes by a function where one is exact, else by Gather; codes to floats."""
    if emission.output(node).qparams is None:
        emission.write(node, _gather(emission, node))
        return
    table = read_table(emission.graph, node)
    slopes = leaky_slopes(table)
    # Steps stay tables: a comparison in fp16 would be one of rounded values.
    tried = [name for name, one in POINTWISE.items() if not one.jumps]
    function = None if slopes is not None else find_function(table, tried)
    if slopes is not None:
        value = _leaky_relu(emission, node, slopes)
    elif function is not None:
        value = write_function(emission.file, function, emission.read_reals(node), node.name)
    else:
        emission.write_steps(node, _gather(emission, node))
        return
    inverse = emission.file.scalar(np.float32(1) / np.float32(table.target.scale))
    emission.write_steps(
        node, emission.file.operator("Mul", [value, inverse], f"{node.output}/steps")
    )


def emit_pointwise(emission: Emission, node: Node) -> None:
    """A function of each of a tensor's floats."""
    function: str = node.attrs["function"]
    emission.write(node, write_function(emission.file, function, emission.read(node), node.name))


def emit_multiply(emission: Emission, node: Node) -> None:
    """Codes, by the exact product of integers and the reference's multiplier; or floats."""
    output, file, name = emission.output(node).qparams, emission.file, f"{node.output}/product"
    if output is None:
        product = file.operator("Mul", [emission.read(node, i) for i in (0, 1)], name)
        emission.write(node, emission.activate(product, node.attrs.get("activation", "none")))
        return
    product = file.operator("Mul", [emission.read_counted(node, i) for i in (0, 1)], name)
    first, second = (emission.graph.tensors[name].grid for name in node.inputs)
    multiplier = product_multiplier(first, second, output)
    inputs = [product, file.scalar(multiplier)]
    emission.write_steps(node, file.operator("Mul", inputs, f"{node.output}/steps"))


def _leaky_relu(emission: Emission, node: Node, slopes: np.ndarray) -> str:
    real, name, file = emission.read_reals(node), f"{node.output}/leaky", emission.file
    if len(slopes) == 1:
        return file.operator("LeakyRelu", [real], name, alpha=float(slopes[0]))
    slope = file.constant(f"{node.name}/slope", _by_channel(emission, node, slopes))
    return file.operator("PRelu", [real, slope], name)


def _gather(emission: Emission, node: Node) -> str:
    """Any table: copies the entry of each code, less the zero point where it is one."""
    source, output, file = emission.source(node).grid, emission.output(node), emission.file
    rows = np.atleast_2d(node.entries)
    entries = rows if output.qparams is None else rows - output.qparams.zero_point
    lowest = source.qmin + stored_shift(source)
    code = emission.add(emission.read_stored(node), -lowest, f"{node.name}/place")
    position = file.operator("Cast", [code], f"{node.name}/position", to=TensorProto.INT32)
    if len(rows) > 1:
        begins = np.arange(len(rows), dtype=np.int32) * rows.shape[1]
        begin = file.constant(f"{node.name}/begin", _by_channel(emission, node, begins))
        position = file.operator("Add", [position, begin], f"{node.name}/channel_position")
    table = file.constant(f"{node.name}/table", entries.ravel().astype(np.float32))
    return file.operator("Gather", [table, position], f"{node.output}/entries", name=node.name)


def _by_channel(emission: Emission, node: Node, values: np.ndarray) -> np.ndarray:
    """Values of channels, as they broadcast to a node's output within the file."""
    return values.reshape(-1, 1, 1) if len(emission.output(node).shape) == 3 else values
