"""How each node of a graph is written as ONNX operators that ONNX Runtime computes exactly.

An emitter gets the emission and a node. Codes flow as uint8; an operator that ONNX Runtime
fuses with the DequantizeLinear in front of it and the QuantizeLinear behind it is written as
floats between the two, with the scales that make the fused kernel compute the reference's code
(MLAS as of ONNX Runtime 1.31).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.emit.onnx_x86.add import kernel_is_exact
from keras_quant.emit.onnx_x86.emission import Emission, stored_range
from keras_quant.emit.onnx_x86.linear import emit_linear
from keras_quant.emit.onnx_x86.lookup import emit_lookup, emit_pointwise
from keras_quant.emit.onnx_x86.moves import (
    emit_concat,
    emit_pad,
    emit_reshape,
    emit_transpose,
    emit_upsample,
)
from keras_quant.emit.onnx_x86.multiply import emit_multiply
from keras_quant.emit.onnx_x86.transposed import emit_transposed
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import padding_of, window_of
from keras_quant.qparams import QParams

_BOTH_WAYS = np.array([0, np.inf], np.float32)


def emit_quantize(emission: Emission, node: Node) -> None:
    """Floats to codes: rint(x * float32(1 / scale)).

    QuantizeLinear divides; that gives another float32 unless the scale is a power of two, and
    so the product comes first, and a QuantizeLinear of scale 1 behind it.
    """
    output, real = emission.output(node), emission.value(node.inputs[0])
    if np.frexp(np.float32(output.grid.scale))[0] == 0.5:
        emission.quantize(output, real)
    else:
        _quantize_steps(emission, node, real)


def emit_dequantize(emission: Emission, node: Node) -> None:
    """Codes to floats, for layers that stay in float.

    Not by a DequantizeLinear: ONNX Runtime quantizes the float weights of a layer that has one
    in front and a QuantizeLinear behind it (WeightBiasQuantization).
    """
    emission.values[node.output] = emission.converted(node)


def emit_requantize(emission: Emission, node: Node) -> None:
    """Codes to codes: rint((code - zero_point) * float32(s_in / s_out)).

    Where both are stored alike, the range is clamped. Else an operator that changes nothing
    stands between DequantizeLinear and QuantizeLinear, for else ONNX Runtime would merge the two
    with their neighbours (DoubleQDQPairsRemover): a LeakyRelu of slope 1, which is fused to a
    table of 256 codes. It computes s_x * (code - zero_point) / s_y, so the ratio is given as s_x,
    and 1 as s_y. An addition of 0 takes a third of the time, but rounds halves away from zero on
    aarch64.
    """
    source, target = (tensor.grid for tensor in (emission.source(node), emission.output(node)))
    if source.scale == target.scale and stored_range(source)[2] == stored_range(target)[2]:
        emission.values[node.output] = emission.value(node.inputs[0])
        if target.qmin > source.qmin or target.qmax < source.qmax:
            emission.unclamped.add(node.output)
        return
    ratio = np.float32(source.scale) / np.float32(target.scale)
    real = emission.real(node, scale=float(ratio))
    same = emission.file.operator("LeakyRelu", [real], f"{node.name}/same", alpha=1.0)
    emission.quantize(emission.output(node), same, scale=1.0)


def emit_add(emission: Emission, node: Node) -> None:
    """Codes by QLinearAdd where that is exact, else by way of floats; or floats."""
    output, file, name = emission.output(node), emission.file, f"{node.name}/sum"
    if output.qparams is None:
        total = file.operator("Add", [emission.real(node, 0), emission.real(node, 1)], name)
        emission.write_activated(node, total, str(node.attrs.get("activation", "none")))
        return
    first, second = (emission.graph.tensors[source].grid for source in node.inputs)
    if kernel_is_exact(first, second, output.qparams):
        total = file.operator("Add", [emission.real(node, 0), emission.real(node, 1)], name)
        emission.quantize(output, total)
    else:
        total = file.operator(
            "Add", [emission.converted(node, 0), emission.converted(node, 1)], name
        )
        _quantize_steps(emission, node, total)


def emit_max_pool(emission: Emission, node: Node) -> None:
    """Codes as they are stored, or floats; padded pixels never win."""
    emission.pass_on(node, "MaxPool", **_window(emission, node))


def emit_avg_pool(emission: Emission, node: Node) -> None:
    """Floats; of codes, `emit.onnx_x86.legalize` makes a convolution."""
    inputs, attrs = [emission.value(node.inputs[0])], _window(emission, node)
    counts = int(node.attrs.get("padding") != "same")
    emission.write(emission.output(node), "AveragePool", inputs, count_include_pad=counts, **attrs)


def emit_mean(emission: Emission, node: Node) -> None:
    """Over height and width: codes by QLinearGlobalAveragePool, or floats."""
    source, output, file = emission.source(node), emission.output(node), emission.file
    mean, flatten = f"{node.name}/mean", "Flatten"
    if output.qparams is None:
        value = file.operator("GlobalAveragePool", [emission.value(node.inputs[0])], mean)
        emission.write(output, flatten, [value])
        return
    height, width, _ = source.shape
    given, gives = average_scales(source.grid, output.qparams, height * width)
    real = file.operator("GlobalAveragePool", [emission.real(node, scale=given)], mean)
    inputs = [real, *emission.grid(gives, stored_range(output.qparams)[2])]
    pixel = file.operator("QuantizeLinear", inputs, f"{node.name}/pixel")
    emission.write_unclamped(output, flatten, [pixel])


def average_scales(source: QParams, output: QParams, count: int) -> tuple[float, float]:
    """Scales of codes in and out with which QLinearGlobalAveragePool computes the reference's.

    The kernel's multiplier is float32(s_in / float32(s_out * count)), the reference's
    float32(float32(s_in * float32(1 / count)) / s_out). They are equal for powers of two; else
    the scales given to the kernel are others of the same ratio. Its divisor is then 1, or the
    float32 below it, and there is a dividend for each multiplier: so for all 2**23 mantissas.
    """
    s_in, s_out, number = (np.float32(value) for value in (source.scale, output.scale, count))
    share = np.float32(1) / number
    wanted = s_in * share / s_out
    if s_in / (s_out * number) == wanted:
        return float(s_in), float(s_out)
    divisor = share * number
    near = wanted * divisor
    dividends = (near, *np.nextafter(near, _BOTH_WAYS))
    return float(next(n for n in dividends if n / divisor == wanted)), float(share)


def emit_relu(emission: Emission, node: Node) -> None:
    """Floats."""
    activation = "relu" if node.attrs.get("max_value") is None else "relu6"
    emission.write_activated(node, emission.value(node.inputs[0]), activation)


def emit_softmax(emission: Emission, node: Node) -> None:
    """Floats, over the channels."""
    inputs, output = [emission.value(node.inputs[0])], emission.output(node)
    emission.write(output, "Softmax", inputs, axis=1 if len(output.shape) == 3 else -1)


OP_EMITTERS: dict[str, Callable[[Emission, Node], None]] = {
    "add": emit_add,
    "avg_pool": emit_avg_pool,
    "concat": emit_concat,
    "conv2d": emit_linear,
    "conv2d_transpose": emit_transposed,
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


def _quantize_steps(emission: Emission, node: Node, real: str) -> None:
    """Quantizes real * float32(1 / scale), to a node's output."""
    output = emission.output(node)
    inverse = emission.file.scalar(np.float32(1) / np.float32(output.grid.scale))
    steps = emission.file.operator("Mul", [real, inverse], f"{node.name}/steps")
    emission.quantize(output, steps, scale=1.0)


def _window(emission: Emission, node: Node) -> dict[str, Any]:
    """The attributes that pooling operators share."""
    window = window_of(node)
    height, width, _ = emission.source(node).shape
    (top, bottom), (left, right) = padding_of(window, (height, width))
    return {
        "kernel_shape": window.size,
        "strides": window.strides,
        "pads": (top, left, bottom, right),
    }
