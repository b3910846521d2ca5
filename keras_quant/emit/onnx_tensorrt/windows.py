"""Sliding windows and margins in files for TensorRT."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_quant.emit.onnx_tensorrt.emission import Emission, shift
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import Margins, padding_of, window_of


def sliding(emission: Emission, node: Node) -> dict[str, Any]:
    """The attributes that all sliding windows have."""
    window, (rows, columns) = window_of(node), margins(emission, node)
    return {
        "kernel_shape": list(window.size),
        "strides": list(window.strides),
        "pads": [rows[0], columns[0], rows[1], columns[1]],
    }


def margins(emission: Emission, node: Node) -> Margins:
    """What a node pads, or, if its window slides over its output, cuts off."""
    image = emission.output(node) if node.op == "conv2d_transpose" else emission.source(node)
    height, width = image.shape[:2]
    return padding_of(window_of(node), (height, width))


def padded(emission: Emission, node: Node, value: str, around: Margins) -> str:
    """Pads what a node reads with real 0."""
    (top, bottom), (left, right) = around
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    inputs = [
        value,
        emission.file.constant(f"{node.name}/pads", pads),
        emission.file.scalar(-shift(emission.source(node).qparams)),
    ]
    return emission.file.operator("Pad", inputs, f"{node.name}/padded")


def kept(emission: Emission, node: Node, value: str, bounds: Margins) -> str:
    """Cuts an image.

    Args:
        bounds: first and, exclusive, last row and column to keep.
    """
    slices = (*np.array(bounds, np.int64).T, np.array([2, 3], np.int64))
    names = ("starts", "ends", "axes")
    constants = [
        emission.file.constant(f"{node.name}/{name}", values)
        for name, values in zip(names, slices, strict=True)
    ]
    return emission.file.operator("Slice", [value, *constants], f"{node.name}/kept")
