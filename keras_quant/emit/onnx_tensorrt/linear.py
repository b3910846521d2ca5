"""How nodes with a kernel are written as ONNX operators that TensorRT runs in int8.

A kernel's codes go through a DQ with one scale an output channel, along axis 0 of Conv and of
Gemm with transB. Biases are float.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from keras_quant.emit.onnx_tensorrt.bias import with_room
from keras_quant.emit.onnx_tensorrt.emission import Emission, is_odd, shift
from keras_quant.emit.onnx_tensorrt.windows import kept, margins, padded, sliding
from keras_quant.emit.shared.subpixel import SubPixel, subpixel
from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.linear import dequantized
from keras_quant.graph.windows import window_of
from keras_quant.qparams import QParams


def emit_linear(emission: Emission, node: Node) -> None:
    """conv2d, depthwise_conv2d, conv2d_transpose or dense, of codes or of floats."""
    value, carried = emission.read(node), shift(emission.source(node).qparams)
    node = with_room(emission.graph, node)
    op, attrs = _operator(emission, node)
    if carried and any(attrs.get("pads", ())):
        value = _pad_codes(emission, node, value)
        attrs["pads"] = [0, 0, 0, 0]
    inputs = [value, _emit_kernel(emission, node), _emit_bias(emission, node)]
    given = emission.output(node)
    value = emission.file.operator(op, inputs, f"{given.name}/{op}", name=node.name, **attrs)
    if given.qparams is None:
        value = emission.activate(value, node.attrs.get("activation", "none"))
    emission.write(node, value, _folded_shift(given.qparams))


def emit_transposed(emission: Emission, node: Node) -> None:
    """conv2d_transpose, of codes or of floats.

    Of codes a convolution whose channels are interleaved: a ConvTranspose would run in float
    (seen in the engines of TensorRT for RTX 1.7.1, with its scales on axis 1 as on axis 0). And
    what shifted codes add to a sum depends on which taps a pixel meets; here each phase of the
    output has biases of its own.
    """
    source, output = emission.source(node), emission.output(node)
    if source.qparams is None:
        emit_linear(emission, _as_large_as_strides(node))
        return
    height, width, _ = source.shape
    parts = subpixel(node, (height, width))
    channels = parts.convolution.kernel.values.shape[-1]
    blocks = replace(output, name=f"{output.name}/blocks", shape=(*parts.size, channels))
    tensors = {**emission.graph.tensors, blocks.name: blocks}
    inner = replace(emission, graph=replace(emission.graph, tensors=tensors))
    emit_linear(inner, replace(parts.convolution, output=blocks.name))
    _interleave(inner, node, blocks, parts)


def emit_kernel_codes(emission: Emission, name: str, kernel: np.ndarray, scale: np.ndarray) -> str:
    """Emits a constant of int8 codes on its way through a DQ.

    Args:
        kernel: output channels first.
        scale: of each output channel.
    """
    file = emission.file
    scales = file.constant(f"{name}/scale", scale.astype(np.float32))
    zeros = file.constant(f"{name}/zero", np.zeros(len(scale), np.int8))
    if emission.int8_weights:
        codes = file.constant(name, kernel)
    else:
        factors = scale.astype(np.float32).reshape(-1, *[1] * (kernel.ndim - 1))
        stored = file.constant(name, kernel.astype(np.float32) * factors)
        codes = file.operator("QuantizeLinear", [stored, scales, zeros], f"{name}/q", axis=0)
    return file.operator("DequantizeLinear", [codes, scales, zeros], f"{name}/dq", axis=0)


def _as_large_as_strides(node: Node) -> Node:
    """A smaller kernel gets taps of 0: else ConvTranspose needs its output_padding."""
    weight, window = node.kernel, window_of(node)
    missing = [
        max(stride - taps, 0) for stride, taps in zip(window.strides, window.size, strict=True)
    ]
    values = np.pad(weight.values, [(0, missing[0]), (0, missing[1]), (0, 0), (0, 0)])
    return replace(node, weight=replace(weight, values=values))


def _interleave(emission: Emission, node: Node, blocks: Tensor, parts: SubPixel) -> None:
    """Makes rectangles of pixels of channels, and the node's output of those that are kept."""
    move = Node(
        name=f"{node.name}/interleave", op="reshape", inputs=(blocks.name,), output=node.output
    )
    file, channels = emission.file, emission.output(node).shape[2]
    (rows, columns), (high, wide) = parts.size, parts.strides

    def reshape(value: str, shape: tuple[int, ...], output: str) -> str:
        sizes = file.constant(f"{output}/shape", np.array([0, *shape], np.int64))
        return file.operator("Reshape", [value, sizes], output)

    value = emission.read(move)
    value = reshape(value, (high, wide, channels, rows, columns), f"{move.name}/rectangles")
    value = file.operator("Transpose", [value], f"{move.name}/rows", perm=[0, 3, 4, 1, 5, 2])
    value = reshape(value, (channels, rows * high, columns * wide), f"{move.name}/image")
    if parts.is_cut:
        value = kept(emission, move, value, parts.kept)
    emission.write(move, value, shift(blocks.qparams), clamped=False)


def _operator(emission: Emission, node: Node) -> tuple[str, dict[str, Any]]:
    """ONNX's operator for a node with weights, and its attributes."""
    if node.op == "dense":
        return "Gemm", {"transB": 1}
    if node.op == "conv2d_transpose":
        return "ConvTranspose", sliding(emission, node)
    taken = emission.source(node).shape[-1]
    shared = node.kernel.values.shape[2] if node.op == "conv2d" else 1
    dilations = list(window_of(node).dilation)
    return "Conv", {
        **sliding(emission, node),
        "dilations": dilations,
        "group": taken // shared,
    }


# The axes of a kernel as ONNX has them.
_LAYOUTS = {
    "dense": (1, 0),
    "conv2d": (3, 2, 0, 1),
    "depthwise_conv2d": (2, 0, 1),
    "conv2d_transpose": (2, 3, 0, 1),
}


def _emit_kernel(emission: Emission, node: Node) -> str:
    """A kernel in ONNX's layout, on the way through a DQ where it has codes."""
    weight, name = node.kernel, f"{node.name}/weight"

    def in_layout(values: np.ndarray) -> np.ndarray:
        values = values.transpose(_LAYOUTS[node.op])
        return values[:, np.newaxis] if node.op == "depthwise_conv2d" else values

    if weight.scale is None or emission.source(node).qparams is None:
        return emission.file.constant(name, in_layout(dequantized(weight)))
    return emit_kernel_codes(emission, name, in_layout(weight.values), weight.scale)


def _emit_bias(emission: Emission, node: Node) -> str:
    """The bias in float32, with what shifted codes add to a sum, less the output's shift."""
    weight, source, output = node.kernel, emission.source(node), emission.output(node)
    kernel = weight.values.astype(np.float64)
    scale = np.ones(kernel.shape[-1]) if weight.scale is None else weight.scale.astype(np.float64)
    bias = np.zeros_like(scale) if node.bias is None else node.bias.astype(np.float64)
    missing = kernel.reshape(-1, kernel.shape[-1]).sum(axis=0) * scale * shift(source.qparams)
    bias = bias + missing - _folded_shift(output.qparams)
    return emission.file.constant(f"{node.name}/bias", bias.astype(np.float32))


def _folded_shift(qparams: QParams | None) -> float:
    """The output's shift, where a bias may take it in."""
    return 0.0 if is_odd(qparams) else shift(qparams)


def _pad_codes(emission: Emission, node: Node, value: str) -> str:
    """Pads shifted codes with real 0, and quantizes again: padding with 0 would be another real."""
    source = emission.source(node).grid
    value = padded(emission, node, value, margins(emission, node))
    scales = emission.scales(source.scale)
    codes = emission.file.operator("QuantizeLinear", [value, *scales], f"{node.name}/pad_q")
    return emission.file.operator("DequantizeLinear", [codes, *scales], f"{node.name}/pad_dq")
