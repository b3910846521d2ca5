"""How each node of a graph is written as ONNX operators that TensorRT runs in int8.

An emitter gets the emission and a node, and writes the node's output to the emission.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.emit.onnx_tensorrt.emission import Emission, shift, shift_codes
from keras_quant.emit.onnx_tensorrt.limits import add_is_exact, average_is_exact
from keras_quant.emit.onnx_tensorrt.linear import (
    emit_kernel_codes,
    emit_linear,
    emit_transposed,
)
from keras_quant.emit.onnx_tensorrt.lookup import (
    emit_lookup,
    emit_multiply,
    emit_pointwise,
)
from keras_quant.emit.onnx_tensorrt.moves import (
    emit_concat,
    emit_pad,
    emit_reshape,
    emit_transpose,
    emit_upsample,
)
from keras_quant.emit.onnx_tensorrt.windows import sliding
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams


def emit_quantize(emission: Emission, node: Node) -> None:
    """Floats to codes, by the float32 product with 1 / scale."""
    qparams = emission.output(node).grid
    inverse = np.float32(1) / np.float32(qparams.scale)
    emission.write_steps(node, _scaled(emission, node, emission.read(node), inverse))


def emit_dequantize(emission: Emission, node: Node) -> None:
    """Codes to floats."""
    emission.write(node, emission.read(node), shift(emission.source(node).qparams))


def emit_requantize(emission: Emission, node: Node) -> None:
    """Codes to codes on another grid, by the float32 ratio of the scales."""
    source, output = emission.source(node).grid, emission.output(node).grid
    ratio = np.float32(source.scale) / np.float32(output.scale)
    stored = emission.read_stored(node)
    codes = emission.add(stored, shift_codes(source), f"{node.output}/counted")
    emission.write_steps(node, _scaled(emission, node, codes, ratio))


def emit_add(emission: Emission, node: Node) -> None:
    """Codes or floats."""
    first, second = (emission.graph.tensors[name].qparams for name in node.inputs)
    output = emission.output(node).qparams
    if first and second and output and not add_is_exact(first, second, output):
        _emit_exact_add(emission, node, output)
        return
    terms = [emission.read(node, index) for index in range(len(node.inputs))]
    carried = sum(shift(emission.graph.tensors[name].qparams) for name in node.inputs)
    total = emission.file.operator("Add", terms, f"{node.output}/sum", name=node.name)
    total = emission.activate(total, node.attrs.get("activation", "none"))
    emission.write(node, total, carried)


def emit_max_pool(emission: Emission, node: Node) -> None:
    """Codes or floats; codes keep their grid and range."""
    attrs = sliding(emission, node)
    value = emission.file.operator(
        "MaxPool", [emission.read(node)], f"{node.output}/pool", name=node.name, **attrs
    )
    emission.write(node, value, shift(emission.source(node).qparams), clamped=False)


def emit_average(emission: Emission, node: Node) -> None:
    """avg_pool or mean, of codes or of floats."""
    source, output = emission.source(node), emission.output(node)
    if output.qparams is not None and not average_is_exact(emission.graph, node):
        _emit_exact_average(emission, node)
        return
    op, attrs = "GlobalAveragePool", {}
    if node.op == "avg_pool":
        counts = int(node.attrs.get("padding") != "same")
        op, attrs = "AveragePool", {**sliding(emission, node), "count_include_pad": counts}
    value = emission.file.operator(
        op, [emission.read(node)], f"{node.output}/{op}", name=node.name, **attrs
    )
    emission.write(node, _flat(emission, node, value), shift(source.qparams))


def emit_relu(emission: Emission, node: Node) -> None:
    """Floats."""
    activation = "relu" if node.attrs.get("max_value") is None else "relu6"
    emission.write(node, emission.activate(emission.read(node), activation))


def emit_clip(emission: Emission, node: Node) -> None:
    """Floats; a Relu where only the negative ones are cut off."""
    value = emission.read(node)
    if dict(node.attrs) == {"minimum": 0.0}:
        emission.write(node, emission.activate(value, "relu"))
        return
    ends = [node.attrs.get(name) for name in ("minimum", "maximum")]
    inputs = [value, *("" if end is None else emission.file.scalar(end) for end in ends)]
    value = emission.file.operator("Clip", inputs, f"{node.output}/clip", name=node.name)
    emission.write(node, value)


def emit_softmax(emission: Emission, node: Node) -> None:
    """Floats, over the channels."""
    axis = 1 if len(emission.output(node).shape) == 3 else -1
    value = emission.file.operator(
        "Softmax", [emission.read(node)], f"{node.output}/softmax", name=node.name, axis=axis
    )
    emission.write(node, value)


OP_EMITTERS: dict[str, Callable[[Emission, Node], None]] = {
    "add": emit_add,
    "avg_pool": emit_average,
    "clip": emit_clip,
    "concat": emit_concat,
    "conv2d": emit_linear,
    "conv2d_transpose": emit_transposed,
    "dense": emit_linear,
    "depthwise_conv2d": emit_linear,
    "dequantize": emit_dequantize,
    "lookup": emit_lookup,
    "max_pool": emit_max_pool,
    "mean": emit_average,
    "multiply": emit_multiply,
    "pad": emit_pad,
    "pointwise": emit_pointwise,
    "quantize": emit_quantize,
    "relu": emit_relu,
    "requantize": emit_requantize,
    "reshape": emit_reshape,
    "softmax": emit_softmax,
    "transpose": emit_transpose,
    "upsample": emit_upsample,
}


def _emit_exact_add(emission: Emission, node: Node, output: QParams) -> None:
    """The sum of reals that carry no shift, times the inverse of the output's scale."""
    terms = [emission.read_reals(node, index) for index in range(len(node.inputs))]
    total = emission.file.operator("Add", terms, f"{node.output}/sum", name=node.name)
    inverse = np.float32(1) / np.float32(output.scale)
    emission.write_steps(node, _scaled(emission, node, total, inverse))


def _emit_exact_average(emission: Emission, node: Node) -> None:
    """The sum of integers, by a convolution with ones, times the reference's multiplier."""
    source, output, file = emission.source(node), emission.output(node), emission.file
    channels = source.shape[-1]
    size = source.shape[:2] if node.op == "mean" else window_of(node).size
    kernel = np.ones((channels, 1, *size), np.int8)
    ones = emit_kernel_codes(emission, f"{node.name}/ones", kernel, np.ones(channels))
    attrs: dict[str, Any] = {"kernel_shape": list(size)}
    if node.op == "avg_pool":
        attrs = sliding(emission, node)
    attrs["group"] = channels
    inputs = [emission.read_stored(node), ones]
    sums = file.operator("Conv", inputs, f"{node.output}/sums", name=node.name, **attrs)
    count = size[0] * size[1]
    sums = emission.add(sums, count * shift_codes(source.qparams), f"{node.output}/counted")
    share = np.float32(1) / np.float32(count)
    multiplier = np.float32(source.grid.scale) * share / np.float32(output.grid.scale)
    emission.write_steps(node, _flat(emission, node, _scaled(emission, node, sums, multiplier)))


def _flat(emission: Emission, node: Node, value: str) -> str:
    """Drops height and width, which a mean leaves as 1."""
    if node.op != "mean":
        return value
    return emission.file.operator("Flatten", [value], f"{node.output}/flat", axis=1)


def _scaled(emission: Emission, node: Node, value: str, factor: np.float32) -> str:
    if factor == 1:
        return value
    inputs = [value, emission.file.scalar(factor)]
    return emission.file.operator("Mul", inputs, f"{node.output}/steps")
