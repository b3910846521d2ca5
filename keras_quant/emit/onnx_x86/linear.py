"""How conv2d, depthwise_conv2d and dense are written as ONNX operators.

Codes to codes: Conv or Gemm between DequantizeLinear and QuantizeLinear, which ONNX Runtime
fuses to QLinearConv or QGemm. It adds the int32 bias to the accumulator, and requantizes by
float32(float32(s_x * s_w) / s_out): the realized form of `graph.ir`, halves to even.

Codes to floats, as a classifier's head: dense is fused to a QGemm that gives float32(n) *
float32(s_x * s_w), conv2d is a ConvInteger; the float bias is added behind.

Floats: Conv or Gemm of floats; weights that have codes are stored as int8 all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.emit.onnx_x86.emission import FLOAT, Emission, stored_range
from keras_quant.emit.onnx_x86.weights import UINT8_ZERO
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import padding_of, window_of


def emit_linear(emission: Emission, node: Node) -> None:
    """conv2d, depthwise_conv2d or dense, of codes or of floats."""
    if emission.output(node).qparams is not None:
        _emit_integer(emission, node)
    elif node.kernel.scale is None:
        _emit_float(emission, node)
    elif emission.source(node).qparams is None:
        _emit_weight_only(emission, node)
    elif node.op == "dense":
        _emit_head(emission, node)
    else:
        _emit_convolution_to_floats(emission, node)


def _emit_integer(emission: Emission, node: Node) -> None:
    source = emission.source(node).grid
    inputs = [emission.real(node), _dequantized_weight(emission, node)]
    if node.bias is not None:
        unit = np.float32(source.scale) * node.kernel.code_scale
        inputs.append(_dequantized(emission, f"{node.name}/bias", node.bias, unit, axis=0))
    op, attrs = _operator(emission, node)
    real = emission.file.operator(op, inputs, f"{node.name}/real", **attrs)
    emission.quantize(emission.output(node), real)


def _emit_head(emission: Emission, node: Node) -> None:
    inputs = [emission.real(node), _dequantized_weight(emission, node)]
    op, attrs = _operator(emission, node)
    product = emission.file.operator(op, inputs, f"{node.name}/product", **attrs)
    _emit_bias(emission, node, product)


def _emit_convolution_to_floats(emission: Emission, node: Node) -> None:
    """In steps, as a Conv between floats would not be fused with what stands around it.

    Weights are uint8, because ONNX Runtime 1.23 has no ConvInteger of int8.
    """
    source, file = emission.source(node).grid, emission.file
    inputs = [
        emission.value(node.inputs[0]),
        file.constant(f"{node.name}/weight", _as_uint8(_in_layout(node))),
        file.scalar(stored_range(source)[2], np.uint8),
        file.scalar(UINT8_ZERO, np.uint8),
    ]
    _, attrs = _operator(emission, node)
    total = file.operator("ConvInteger", inputs, f"{node.name}/accumulator", **attrs)
    total = file.operator("Cast", [total], f"{node.name}/accumulator_float", to=FLOAT)
    unit = source.scale * node.kernel.code_scale.astype(np.float64)
    _emit_scale_and_bias(emission, node, total, unit)


def _emit_weight_only(emission: Emission, node: Node) -> None:
    """Floats with integer weights: y = activation(sum(x * code) * scale + bias).

    The codes become floats once, when the model is loaded. Not by a DequantizeLinear: that
    would be computed each time, and behind one ONNX Runtime rounds what a Gemm reads to 8 bits
    (its MatMulNBits).
    """
    file = emission.file
    codes = file.constant(f"{node.name}/weight", _in_layout(node))
    floats = file.operator("Cast", [codes], f"{node.name}/weight/real", to=FLOAT)
    op, attrs = _operator(emission, node)
    inputs = [emission.value(node.inputs[0]), floats]
    total = file.operator(op, inputs, f"{node.name}/total", **attrs)
    _emit_scale_and_bias(emission, node, total, node.kernel.code_scale)


def _emit_float(emission: Emission, node: Node) -> None:
    values = emission.file.constant(f"{node.name}/weight", _in_layout(node))
    inputs = [emission.value(node.inputs[0]), values]
    if node.bias is not None:
        bias = node.bias.astype(np.float32)
        inputs.append(emission.file.constant(f"{node.name}/bias", bias))
    op, attrs = _operator(emission, node)
    total = emission.file.operator(op, inputs, f"{node.name}/sum", **attrs)
    emission.write_activated(node, total, _activation(node))


def _emit_scale_and_bias(emission: Emission, node: Node, total: str, scale: np.ndarray) -> None:
    """Multiplies sums of codes by the channels' scales, adds the float bias, and activates."""
    shape = (-1,) if node.op == "dense" else (-1, 1, 1)
    scales = scale.astype(np.float32).reshape(shape)
    given = [total, emission.file.constant(f"{node.name}/scale", scales)]
    product = emission.file.operator("Mul", given, f"{node.name}/product")
    _emit_bias(emission, node, product)


def _emit_bias(emission: Emission, node: Node, product: str) -> None:
    """Adds the float bias, which no kernel of codes takes, and applies the activation."""
    if node.bias is not None:
        shape = (-1,) if node.op == "dense" else (-1, 1, 1)
        bias = emission.file.constant(
            f"{node.name}/bias", node.bias.astype(np.float32).reshape(shape)
        )
        product = emission.file.operator("Add", [product, bias], f"{node.name}/sum")
    emission.write_activated(node, product, _activation(node))


def _dequantized_weight(emission: Emission, node: Node) -> str:
    scale = node.kernel.code_scale.astype(np.float32)
    codes, zero_points = _stored(emission, node)
    name, axis = f"{node.name}/weight", 1 if node.op == "dense" else 0
    return _dequantized(emission, name, codes, scale, axis=axis, zero_points=zero_points)


def _dequantized(
    emission: Emission,
    name: str,
    codes: np.ndarray,
    scale: np.ndarray,
    *,
    axis: int,
    zero_points: np.ndarray | None = None,
) -> str:
    """Constant codes as floats: scale * (code - zero_point) for each channel along axis."""
    points = np.zeros(len(scale), codes.dtype) if zero_points is None else zero_points
    file = emission.file
    inputs = [
        file.constant(name, codes),
        file.constant(f"{name}_scale", scale),
        file.constant(f"{name}_zero_point", points),
    ]
    return file.operator("DequantizeLinear", inputs, f"{name}/real", axis=axis)


def _stored(emission: Emission, node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Codes as int8 or uint8 in ONNX's layout, and the channels' zero points."""
    codes, channels = _in_layout(node), node.kernel.values.shape[-1]
    if node.name not in emission.unsigned_weights:
        return codes, np.zeros(channels, np.int8)
    return _as_uint8(codes), np.full(channels, UINT8_ZERO, np.uint8)


def _as_uint8(codes: np.ndarray) -> np.ndarray:
    return (codes.astype(np.int16) + UINT8_ZERO).astype(np.uint8)


def _in_layout(node: Node) -> np.ndarray:
    """A kernel as ONNX has it: (out, in, height, width), and (in, out) for dense."""
    values = node.kernel.values
    if node.op == "dense":
        return values
    if node.op == "depthwise_conv2d":
        values = values[:, :, np.newaxis]
    return np.ascontiguousarray(values.transpose(3, 2, 0, 1))


def _operator(emission: Emission, node: Node) -> tuple[str, dict[str, Any]]:
    if node.op == "dense":
        return "Gemm", {}
    height, width, channels = emission.source(node).shape
    window = window_of(node)
    (top, bottom), (left, right) = padding_of(window, (height, width))
    taken = 1 if node.op == "depthwise_conv2d" else node.kernel.values.shape[2]
    return "Conv", {
        "kernel_shape": window.size,
        "strides": window.strides,
        "dilations": window.dilation,
        "pads": (top, left, bottom, right),
        "group": channels // taken,
    }


def _activation(node: Node) -> str:
    return str(node.attrs.get("activation", "none"))
