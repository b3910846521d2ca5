"""How each node of a legal graph is written as TFLite operators.

An emitter gets the emission and a node, and returns the file's tensor for the node's output.
Versions are the lowest that know the types given (op_version.cc of TFLite).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_quant.emit.tflite.emission import Emission
from keras_quant.emit.tflite.head import codes_before, emit_head
from keras_quant.emit.tflite.lookup import emit_lookup
from keras_quant.emit.tflite.packing import PACKED_VERSIONS, packed_type
from keras_quant.emit.tflite.patches import emit_patches
from keras_quant.emit.tflite.pointwise import emit_pointwise
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import window_of

_PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
_ACTIVATIONS: dict[str, int] = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}


# Lowest versions of linear operators, of floats and of codes; TRANSPOSE_CONV takes a bias from 3,
# and an activation from 4 on.
_VERSIONS = {
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 12),
    "TRANSPOSE_CONV": (4, 4),
}


def emit_linear(emission: Emission, node: Node) -> int:
    """A node with a kernel, of codes or of floats."""
    if emission.output(node).qparams is not None:
        return _emit_integer_linear(emission, node)
    codes = codes_before(emission.graph, node)
    if node.kernel.scale is not None and node.op == "dense" and codes is not None:
        return emit_head(emission, node, codes, activation=_activation(node))
    if node.kernel.scale is not None:
        return _emit_weight_only_linear(emission, node)
    op, options, values, _ = _linear_op(node)
    options.fusedActivationFunction = _activation(node)
    weight = emission.file.constant(f"{node.name}/weight", values.astype(np.float32))
    bias = emission.file.constant(f"{node.name}/bias", _bias(node, np.float32))
    inputs = _operands(emission, node, emission.inputs(node)[0], weight, bias)
    version = _VERSIONS[op][0]
    return emission.write(emission.output(node), op, inputs, options=options, version=version)


def _emit_integer_linear(emission: Emission, node: Node) -> int:
    op, options, values, axis = _linear_op(node)
    data, version = emission.inputs(node)[0], _VERSIONS[op][1]
    source, scale = emission.source(node).grid, node.kernel.code_scale
    element_type = packed_type(emission.graph, node, emission.options.pack)
    if element_type is not None:
        version = PACKED_VERSIONS[element_type]
    if element_type is not None and node.op == "conv2d":
        op, options = "FULLY_CONNECTED", schema.FullyConnectedOptionsT(keepNumDims=True)
        data, values = emit_patches(emission, node), values.reshape(len(values), -1)
    bias_scale = np.float32(source.scale) * scale
    weight = emission.file.constant(
        f"{node.name}/weight", values, scale=scale, axis=axis, element_type=element_type
    )
    # Never without a bias: XNNPACK crashes on an int8 depthwise convolution that has none.
    bias = emission.file.constant(f"{node.name}/bias", _bias(node, np.int32), scale=bias_scale)
    inputs = _operands(emission, node, data, weight, bias)
    output = emission.output(node)
    return emission.write_clamped(output, op, inputs, options=options, version=version)


def _emit_weight_only_linear(emission: Emission, node: Node) -> int:
    """Floats with integer weights: y = activation(sum(x * code) * scale + bias).

    The codes go through a DEQUANTIZE of scale 1, which is computed once, when the model is
    loaded. The channels' scales come after the sum, which is more accurate: where x counts
    in powers of two, the sum is exact.
    """
    op, options, values, _ = _linear_op(node)
    output, file = emission.output(node), emission.file
    codes = file.constant(f"{node.name}/weight", values, scale=np.ones(1))
    filters = file.activation(f"{node.name}/unpacked", values.shape, batched=False)
    file.operator("DEQUANTIZE", [codes], filters, version=2)
    bias = _bias(node, np.float32)
    zeros = file.constant(f"{node.name}/zeros", np.zeros_like(bias))
    sums = replace(output, name=f"{output.name}/sums")
    inputs = _operands(emission, node, emission.inputs(node)[0], filters, zeros)
    index = emission.write(sums, op, inputs, options=options, version=_VERSIONS[op][0])
    scaled = replace(output, name=f"{output.name}/scaled")
    scales = file.constant(f"{node.name}/scale", node.kernel.code_scale.astype(np.float32))
    index = emission.write(scaled, "MUL", [index, scales], options=schema.MulOptionsT())
    add = schema.AddOptionsT(fusedActivationFunction=_activation(node))
    biases = file.constant(f"{node.name}/bias", bias)
    return emission.write(output, "ADD", [index, biases], options=add)


def emit_quantize(emission: Emission, node: Node) -> int:
    """Floats to codes; what a relu gave cannot fall below real 0."""
    output, inputs = emission.output(node), emission.inputs(node)
    producer = emission.graph.producer(node.inputs[0])
    rectified = producer is not None and (
        producer.op == "relu" or producer.attrs.get("activation", "none") != "none"
    )
    falls_short = output.grid.signed or not rectified
    write = emission.write_clamped if falls_short else emission.write
    return write(output, "QUANTIZE", inputs)


def emit_dequantize(emission: Emission, node: Node) -> int:
    """Codes to floats."""
    return emission.write(emission.output(node), "DEQUANTIZE", emission.inputs(node), version=2)


def emit_requantize(emission: Emission, node: Node) -> int:
    """Codes to codes on the same grid: only the range changes."""
    inputs = emission.inputs(node)
    return emission.write_clamped(emission.output(node), "QUANTIZE", inputs, version=2)


def emit_add(emission: Emission, node: Node) -> int:
    """Codes on one grid, or floats; one of fewer axes gets axes of 1 behind the batch axis."""
    output = emission.output(node)
    inputs = [_aligned(emission, node, name, len(output.shape)) for name in node.inputs]
    options = schema.AddOptionsT(fusedActivationFunction=_activation(node))
    if output.qparams is None:
        return emission.write(output, "ADD", inputs, options=options)
    return emission.write_clamped(output, "ADD", inputs, options=options, version=2)


def emit_multiply(emission: Emission, node: Node) -> int:
    """Codes or floats; one of fewer axes gets axes of 1 behind the batch axis.

    XNNPACK's int8 MUL computes what the reference does: no code differs over all pairs of codes
    for 30 triples of powers of two and 30 of other scales, zero points at random, with M from
    2**-16 to below 2**8. It leaves others to the builtin kernel, which rounds otherwise.
    """
    output = emission.output(node)
    inputs = [_aligned(emission, node, name, len(output.shape)) for name in node.inputs]
    options = schema.MulOptionsT(fusedActivationFunction=_activation(node))
    if output.qparams is None:
        return emission.write(output, "MUL", inputs, options=options)
    return emission.write_clamped(output, "MUL", inputs, options=options, version=2)


def _aligned(emission: Emission, node: Node, name: str, rank: int) -> int:
    """A tensor that a node reads, with so many axes behind the batch axis."""
    tensor = emission.graph.tensors[name]
    if len(tensor.shape) == rank:
        return emission.index[name]
    shape = (*[1] * (rank - len(tensor.shape)), *tensor.shape)
    sizes = np.array([-1, *shape], np.int32)
    inputs = [emission.index[name], emission.file.constant(f"{node.name}/{name}/shape", sizes)]
    aligned = replace(tensor, name=f"{node.name}/{name}/aligned", shape=shape)
    return emission.write(aligned, "RESHAPE", inputs)


def emit_max_pool(emission: Emission, node: Node) -> int:
    """Codes or floats; codes keep their grid and range."""
    inputs, options = emission.inputs(node), _pooling(node)
    output = emission.output(node)
    return emission.write(output, "MAX_POOL_2D", inputs, options=options, version=2)


def emit_avg_pool(emission: Emission, node: Node) -> int:
    """Floats."""
    inputs, options = emission.inputs(node), _pooling(node)
    return emission.write(emission.output(node), "AVERAGE_POOL_2D", inputs, options=options)


def emit_mean(emission: Emission, node: Node) -> int:
    """Codes or floats, over height and width."""
    axes = emission.file.constant("height_and_width", np.array([1, 2], np.int32))
    inputs = [*emission.inputs(node), axes]
    output, options = emission.output(node), schema.ReducerOptionsT()
    signed = [t.qparams is not None and t.qparams.signed for t in (emission.source(node), output)]
    # Means of codes that all stand for 0 or more cannot fall below the lowest code.
    write = emission.write_clamped if any(signed) else emission.write
    return write(output, "MEAN", inputs, options=options, version=2)


def emit_pad(emission: Emission, node: Node) -> int:
    """Codes or floats; TFLite pads an int8 tensor with its zero point."""
    margins = np.array([(0, 0), *node.attrs["padding"], (0, 0)], np.int32)
    if margins.min() < 0:
        return _emit_crop(emission, node, margins)
    inputs = [*emission.inputs(node), emission.file.constant(f"{node.name}/padding", margins)]
    options, output = schema.PadOptionsT(), emission.output(node)
    return emission.write(output, "PAD", inputs, options=options, version=2)


def _emit_crop(emission: Emission, node: Node, margins: np.ndarray) -> int:
    output = emission.output(node)
    size = np.array([-1, *output.shape], np.int32)  # -1: to the end, for any batch
    bounds = {"begin": -margins[:, 0], "size": size}
    constants = [
        emission.file.constant(f"{node.name}/{key}", values) for key, values in bounds.items()
    ]
    inputs, options = [*emission.inputs(node), *constants], schema.SliceOptionsT()
    return emission.write(output, "SLICE", inputs, options=options, version=2)


def emit_upsample(emission: Emission, node: Node) -> int:
    """Codes or floats.

    With half-pixel centers, since (y + 0.5) / size is never next to a whole number, where
    rounding in float32 could pick the pixel beside the right one.
    """
    output = emission.output(node)
    size = emission.file.constant(f"{node.name}/size", np.array(output.shape[:2], np.int32))
    options = schema.ResizeNearestNeighborOptionsT(halfPixelCenters=True)
    inputs = [*emission.inputs(node), size]
    return emission.write(output, "RESIZE_NEAREST_NEIGHBOR", inputs, options=options, version=3)


def emit_concat(emission: Emission, node: Node) -> int:
    """Floats, or codes that are stored alike."""
    options = schema.ConcatenationOptionsT(axis=node.attrs["axis"] + 1)
    output, inputs = emission.output(node), emission.inputs(node)
    return emission.write(output, "CONCATENATION", inputs, options=options, version=2)


def emit_reshape(emission: Emission, node: Node) -> int:
    """Codes or floats, row-major."""
    output = emission.output(node)
    shape = emission.file.constant(f"{node.name}/shape", np.array([-1, *output.shape], np.int32))
    return emission.write(output, "RESHAPE", [*emission.inputs(node), shape])


def emit_transpose(emission: Emission, node: Node) -> int:
    """Codes or floats, their axes in another order behind the batch axis."""
    order = np.array([0, *(axis + 1 for axis in node.attrs["perm"])], np.int32)
    inputs = [*emission.inputs(node), emission.file.constant(f"{node.name}/order", order)]
    options, output = schema.TransposeOptionsT(), emission.output(node)
    return emission.write(output, "TRANSPOSE", inputs, options=options, version=2)


def emit_relu(emission: Emission, node: Node) -> int:
    """Floats."""
    op = "RELU" if node.attrs.get("max_value") is None else "RELU6"
    return emission.write(emission.output(node), op, emission.inputs(node))


def emit_softmax(emission: Emission, node: Node) -> int:
    """Floats, over the last axis."""
    options = schema.SoftmaxOptionsT(beta=1.0)
    return emission.write(emission.output(node), "SOFTMAX", emission.inputs(node), options=options)


OP_EMITTERS: dict[str, Callable[[Emission, Node], int]] = {
    "add": emit_add,
    "avg_pool": emit_avg_pool,
    "concat": emit_concat,
    "conv2d": emit_linear,
    "conv2d_transpose": emit_linear,
    "dense": emit_linear,
    "depthwise_conv2d": emit_linear,
    "dequantize": emit_dequantize,
    "lookup": emit_lookup,
    "max_pool": emit_max_pool,
    "mean": emit_mean,
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


def _linear_op(node: Node) -> tuple[str, Any, np.ndarray, int]:
    """Operator, its options, the weight in its layout, and the axis of output channels there."""
    values = node.kernel.values
    if node.op == "dense":
        return "FULLY_CONNECTED", schema.FullyConnectedOptionsT(), values.T, 0
    if node.op == "conv2d_transpose":
        options = schema.TransposeConvOptionsT(**_sliding(node))
        return "TRANSPOSE_CONV", options, _at_least_strides(values, node), 0
    height, width = window_of(node).dilation
    window = {**_sliding(node), "dilationHFactor": height, "dilationWFactor": width}
    if node.op == "conv2d":
        return "CONV_2D", schema.Conv2DOptionsT(**window), values.transpose(3, 0, 1, 2), 0
    options = schema.DepthwiseConv2DOptionsT(**window, depthMultiplier=1)
    return "DEPTHWISE_CONV_2D", options, values[np.newaxis], 3


def _at_least_strides(values: np.ndarray, node: Node) -> np.ndarray:
    """(out, height, width, in) of a kernel, with zeros where it is smaller than its strides.

    XNNPACK leaves gaps between kernels to builtin kernels; zeros that fill them change nothing.
    """
    window = window_of(node)
    missing = [max(s - n, 0) for n, s in zip(window.size, window.strides, strict=True)]
    grown = np.pad(values, ((0, missing[0]), (0, missing[1]), (0, 0), (0, 0)))
    turned: np.ndarray = grown.transpose(3, 0, 1, 2)
    return turned


def _operands(emission: Emission, node: Node, data: int, weight: int, bias: int) -> list[int]:
    """The inputs of a linear operator, in its order."""
    if node.op != "conv2d_transpose":
        return [data, weight, bias]
    # XNNPACK takes the batch from the input; height and width are those given here.
    shape = np.array([1, *emission.output(node).shape], np.int32)
    sizes = emission.file.constant(f"{node.name}/output_shape", shape)
    return [sizes, weight, data, bias]


def _pooling(node: Node) -> schema.Pool2DOptionsT:
    height, width = window_of(node).size
    return schema.Pool2DOptionsT(**_sliding(node), filterHeight=height, filterWidth=width)


def _sliding(node: Node) -> dict[str, int]:
    """The options that all sliding windows have."""
    window = window_of(node)
    height, width = window.strides
    return {
        "padding": _PADDINGS[node.attrs.get("padding", "valid")],
        "strideH": height,
        "strideW": width,
    }


def _bias(node: Node, dtype: type) -> np.ndarray:
    """A node's bias, zeros where it has none."""
    channels = node.kernel.values.shape[-1]
    return np.zeros(channels, dtype) if node.bias is None else node.bias.astype(dtype)


def _activation(node: Node) -> int:
    return _ACTIVATIONS[node.attrs.get("activation", "none")]
