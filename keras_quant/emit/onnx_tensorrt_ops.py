"""How each node of a graph is written as ONNX operators that TensorRT runs in int8.

An emitter gets the emission and a node, and writes the node's output to the emission.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.emit.onnx_tensorrt_bias import roomy_bias
from keras_quant.emit.onnx_tensorrt_emission import Emission, is_odd, shift, shift_codes
from keras_quant.emit.onnx_tensorrt_limits import average_is_exact
from keras_quant.graph.ir import Node, Weight
from keras_quant.graph.windows import Pair, padding_of, window_of
from keras_quant.qparams import QParams

Margins = tuple[Pair, Pair]


def emit_linear(emission: Emission, node: Node) -> None:
    """conv2d, depthwise_conv2d or dense, of codes or of floats."""
    value, carried = emission.read(node), shift(emission.source(node).qparams)
    op, attrs = _linear_op(emission, node)
    if carried and any(attrs.get("pads", ())):
        value = _pad_codes(emission, node, value, _margins(emission, node))
        attrs["pads"] = [0, 0, 0, 0]
    inputs = [value, _emit_kernel(emission, node), _emit_bias(emission, node)]
    given = emission.output(node)
    value = emission.file.operator(op, inputs, f"{given.name}/{op}", name=node.name, **attrs)
    if given.qparams is None:
        value = _activate(emission, value, node.attrs.get("activation", "none"))
    emission.write(node, value, _folded_shift(given.qparams))


def emit_quantize(emission: Emission, node: Node) -> None:
    """Floats to codes, by the float32 product with 1 / scale."""
    qparams = emission.output(node).qparams
    assert qparams is not None, node.name
    inverse = np.float32(1) / np.float32(qparams.scale)
    emission.write_steps(node, _scaled(emission, node, emission.read(node), inverse))


def emit_dequantize(emission: Emission, node: Node) -> None:
    """Codes to floats."""
    emission.write(node, emission.read(node), shift(emission.source(node).qparams))


def emit_requantize(emission: Emission, node: Node) -> None:
    """Codes to codes on another grid, by the float32 ratio of the scales."""
    source, output = emission.source(node).qparams, emission.output(node).qparams
    assert source is not None and output is not None, node.name
    ratio = np.float32(source.scale) / np.float32(output.scale)
    stored = emission.read_stored(node)
    codes = emission.add(stored, shift_codes(source), f"{node.output}/counted")
    emission.write_steps(node, _scaled(emission, node, codes, ratio))


def emit_add(emission: Emission, node: Node) -> None:
    """Codes or floats."""
    terms = [emission.read(node, index) for index in range(len(node.inputs))]
    carried = sum(shift(emission.graph.tensors[name].qparams) for name in node.inputs)
    total = emission.file.operator("Add", terms, f"{node.output}/sum", name=node.name)
    total = _activate(emission, total, node.attrs.get("activation", "none"))
    emission.write(node, total, carried)


def emit_max_pool(emission: Emission, node: Node) -> None:
    """Codes or floats; codes keep their grid and range."""
    attrs = _sliding(emission, node)
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
        op, attrs = "AveragePool", _sliding(emission, node)
    value = emission.file.operator(
        op, [emission.read(node)], f"{node.output}/{op}", name=node.name, **attrs
    )
    emission.write(node, _flat(emission, node, value), shift(source.qparams))


def emit_pad(emission: Emission, node: Node) -> None:
    """Codes or floats, with real 0."""
    source = emission.source(node).qparams
    value = _padded(emission, node, emission.read(node), node.attrs["padding"])
    emission.write(node, value, shift(source), clamped=False)


def emit_reshape(emission: Emission, node: Node) -> None:
    """Codes or floats, row-major with the channels last."""
    value, given = emission.read(node), emission.source(node).shape
    if len(given) == 3 and given[:2] != (1, 1):
        value = emission.file.operator(
            "Transpose", [value], f"{node.output}/channels_last", perm=[0, 2, 3, 1]
        )
    shape = np.array([0, *emission.output(node).shape], np.int64)
    inputs = [value, emission.file.constant(f"{node.name}/shape", shape)]
    value = emission.file.operator("Reshape", inputs, f"{node.output}/flat", name=node.name)
    emission.write(node, value, shift(emission.source(node).qparams), clamped=False)


def emit_relu(emission: Emission, node: Node) -> None:
    """Floats."""
    activation = "relu" if node.attrs.get("max_value") is None else "relu6"
    emission.write(node, _activate(emission, emission.read(node), activation))


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
    "conv2d": emit_linear,
    "dense": emit_linear,
    "depthwise_conv2d": emit_linear,
    "dequantize": emit_dequantize,
    "max_pool": emit_max_pool,
    "mean": emit_average,
    "pad": emit_pad,
    "quantize": emit_quantize,
    "relu": emit_relu,
    "requantize": emit_requantize,
    "reshape": emit_reshape,
    "softmax": emit_softmax,
}


def _linear_op(emission: Emission, node: Node) -> tuple[str, dict[str, Any]]:
    """ONNX's operator for a node with weights, and its attributes."""
    if node.op == "dense":
        return "Gemm", {"transB": 1}
    taken = emission.source(node).shape[-1]
    shared = _weight(node).values.shape[2] if node.op == "conv2d" else 1
    dilations = list(window_of(node).dilation)
    return "Conv", {
        **_sliding(emission, node),
        "dilations": dilations,
        "group": taken // shared,
    }


def _emit_kernel(emission: Emission, node: Node) -> str:
    """A kernel, output channels first, on the way through a DQ where it has codes."""
    scale, kernel, name = _weight(node).scale, _weight(node).values, f"{node.name}/weight"
    if node.op == "depthwise_conv2d":
        kernel = kernel[:, :, np.newaxis]
    kernel = kernel.T if node.op == "dense" else kernel.transpose(3, 2, 0, 1)
    if scale is None or emission.source(node).qparams is None:
        reals = kernel if scale is None else _by_channel(kernel, scale)
        return emission.file.constant(name, reals.astype(np.float32))
    return _emit_codes(emission, name, kernel, scale)


def _emit_codes(emission: Emission, name: str, kernel: np.ndarray, scale: np.ndarray) -> str:
    """A constant of int8 codes, channels first, on its way through a DQ."""
    file = emission.file
    scales = file.constant(f"{name}/scale", scale.astype(np.float32))
    zeros = file.constant(f"{name}/zero", np.zeros(len(scale), np.int8))
    if emission.int8_weights:
        codes = file.constant(name, kernel)
    else:
        stored = file.constant(name, _by_channel(kernel, scale))
        codes = file.operator("QuantizeLinear", [stored, scales, zeros], f"{name}/q", axis=0)
    return file.operator("DequantizeLinear", [codes, scales, zeros], f"{name}/dq", axis=0)


def _by_channel(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """kernel * scale in float32, channels first."""
    factors = scale.astype(np.float32).reshape(-1, *[1] * (kernel.ndim - 1))
    return kernel.astype(np.float32) * factors


def _emit_bias(emission: Emission, node: Node) -> str:
    """The bias in float32, with what shifted codes add to a sum, less the output's shift."""
    weight, source, output = _weight(node), emission.source(node), emission.output(node)
    kernel = weight.values.astype(np.float64)
    scale = np.ones(kernel.shape[-1]) if weight.scale is None else weight.scale.astype(np.float64)
    bias = np.zeros_like(scale) if node.bias is None else node.bias.astype(np.float64)
    if source.qparams is not None and output.qparams is not None:
        bias = roomy_bias(node, source.qparams, output.qparams)
    missing = kernel.reshape(-1, kernel.shape[-1]).sum(axis=0) * scale * shift(source.qparams)
    bias = bias + missing - _folded_shift(output.qparams)
    return emission.file.constant(f"{node.name}/bias", bias.astype(np.float32))


def _folded_shift(qparams: QParams | None) -> float:
    """The output's shift, where a bias may take it in."""
    return 0.0 if is_odd(qparams) else shift(qparams)


def _emit_exact_average(emission: Emission, node: Node) -> None:
    """The sum of integers, by a convolution with ones, times the reference's multiplier."""
    source, output, file = emission.source(node), emission.output(node), emission.file
    assert source.qparams is not None and output.qparams is not None, node.name
    channels = source.shape[-1]
    size = source.shape[:2] if node.op == "mean" else window_of(node).size
    kernel = np.ones((channels, 1, *size), np.int8)
    ones = _emit_codes(emission, f"{node.name}/ones", kernel, np.ones(channels))
    attrs: dict[str, Any] = {"group": channels, "kernel_shape": list(size)}
    if node.op == "avg_pool":
        attrs["strides"] = list(window_of(node).strides)
    inputs = [emission.read_stored(node), ones]
    sums = file.operator("Conv", inputs, f"{node.output}/sums", name=node.name, **attrs)
    count = size[0] * size[1]
    sums = emission.add(sums, count * shift_codes(source.qparams), f"{node.output}/counted")
    share = np.float32(1) / np.float32(count)
    multiplier = np.float32(source.qparams.scale) * share / np.float32(output.qparams.scale)
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


def _activate(emission: Emission, value: str, activation: str) -> str:
    if activation == "none":
        return value
    if activation == "relu":
        return emission.file.operator("Relu", [value], f"{value}/relu")
    limits = [emission.file.scalar(limit) for limit in (0.0, 6.0)]
    return emission.file.operator("Clip", [value, *limits], f"{value}/relu6")


def _pad_codes(emission: Emission, node: Node, value: str, margins: Margins) -> str:
    """Pads shifted codes with real 0, and quantizes again: padding with 0 would be another real."""
    source = emission.source(node).qparams
    assert source is not None, node.name
    padded = _padded(emission, node, value, margins)
    scales = emission.scales(source.scale)
    codes = emission.file.operator("QuantizeLinear", [padded, *scales], f"{node.name}/pad_q")
    return emission.file.operator("DequantizeLinear", [codes, *scales], f"{node.name}/pad_dq")


def _padded(emission: Emission, node: Node, value: str, margins: Margins) -> str:
    (top, bottom), (left, right) = margins
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    inputs = [
        value,
        emission.file.constant(f"{node.name}/pads", pads),
        emission.file.scalar(-shift(emission.source(node).qparams)),
    ]
    return emission.file.operator("Pad", inputs, f"{node.name}/padded")


def _sliding(emission: Emission, node: Node) -> dict[str, Any]:
    """The attributes that all sliding windows have."""
    window, (rows, columns) = window_of(node), _margins(emission, node)
    return {
        "kernel_shape": list(window.size),
        "strides": list(window.strides),
        "pads": [rows[0], columns[0], rows[1], columns[1]],
    }


def _margins(emission: Emission, node: Node) -> Margins:
    height, width = emission.source(node).shape[:2]
    return padding_of(window_of(node), (height, width))


def _weight(node: Node) -> Weight:
    assert node.weight is not None, node.name
    return node.weight
