"""How conv2d_transpose is written as ONNX operators: ONNX Runtime has no integer ConvTranspose."""

from __future__ import annotations

import numpy as np

from keras_quant.emit.onnx_x86.emission import TO_NCHW, TO_NHWC, Emission
from keras_quant.emit.onnx_x86.linear import emit_linear
from keras_quant.emit.shared.subpixel import SubPixel, subpixel
from keras_quant.graph.ir import Node

_IMAGE_AXES = np.array([1, 2], np.int64)


def emit_transposed(emission: Emission, node: Node) -> None:
    """Of codes or of floats: a convolution, and its channels interleaved."""
    height, width, _ = emission.source(node).shape
    parts = subpixel(node, (height, width))
    emit_linear(emission, parts.convolution)
    emission.values[node.output] = _interleaved(emission, node, parts)


def _interleaved(emission: Emission, node: Node, parts: SubPixel) -> str:
    """Channels last, where whole rows of a rectangle are moved at once.

    As the convolution works channels last too, ONNX Runtime leaves the outer two Transposes out.
    """
    file, name, channels = emission.file, f"{node.name}/interleaved", emission.output(node).shape[2]
    (rows, columns), (high, wide) = parts.size, parts.strides

    def reshape(value: str, shape: tuple[int, ...], output: str) -> str:
        sizes = file.constant(f"{output}/shape", np.array([-1, *shape], np.int64))
        return file.operator("Reshape", [value, sizes], output)

    value = file.operator("Transpose", [emission.values[node.output]], f"{name}/nhwc", perm=TO_NHWC)
    value = reshape(value, (rows, columns, high, wide, channels), f"{name}/rectangles")
    value = file.operator("Transpose", [value], f"{name}/rows", perm=(0, 1, 3, 2, 4, 5))
    value = reshape(value, (rows * high, columns * wide, channels), f"{name}/image")
    if parts.is_cut:
        bounds = np.array(parts.kept, np.int64).T
        slices = [file.constant(f"{name}/bounds", ends) for ends in (*bounds, _IMAGE_AXES)]
        value = file.operator("Slice", [value, *slices], f"{name}/kept")
    return file.operator("Transpose", [value], name, perm=TO_NCHW)
