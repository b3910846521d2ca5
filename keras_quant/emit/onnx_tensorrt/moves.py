"""How nodes that move values and change none are written for TensorRT.

Each stands between a DQ and a Q of one scale, which TensorRT then moves out of the way.
"""

from __future__ import annotations

import numpy as np

from keras_quant.emit.onnx.layout import stored_order
from keras_quant.emit.onnx_tensorrt.emission import Emission, shift
from keras_quant.emit.onnx_tensorrt.windows import kept, padded
from keras_quant.graph.ir import Node
from keras_quant.graph.windows import Margins

# By an image's axis: where it lies within the file, behind the batch.
_IMAGE_AXES = (2, 3, 1)
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def emit_pad(emission: Emission, node: Node) -> None:
    """Pads codes or floats with real 0, or cuts them."""
    margins: Margins = node.attrs["padding"]
    value = emission.read(node)
    if min(map(min, margins)) < 0:
        sizes = emission.source(node).shape[:2]
        (top, bottom), (left, right) = margins
        bounds = (-top, sizes[0] + bottom), (-left, sizes[1] + right)
        value = kept(emission, node, value, bounds)
    else:
        value = padded(emission, node, value, margins)
    _write_moved(emission, node, value)


def emit_reshape(emission: Emission, node: Node) -> None:
    """Codes or floats, row-major with the channels last."""
    value, given, wanted = emission.read(node), emission.source(node).shape, emission.output(node)
    file, is_image = emission.file, len(wanted.shape) == len(_IMAGE_AXES)
    if len(given) == len(_IMAGE_AXES) and given[:2] != (1, 1):
        value = file.operator(
            "Transpose", [value], f"{node.output}/channels_last", perm=_TO_CHANNELS_LAST
        )
    shape = file.constant(f"{node.name}/shape", np.array([0, *wanted.shape], np.int64))
    value = file.operator("Reshape", [value, shape], f"{node.output}/flat", name=node.name)
    if is_image:
        value = file.operator(
            "Transpose", [value], f"{node.output}/channels_first", perm=_TO_CHANNELS_FIRST
        )
    _write_moved(emission, node, value)


def emit_transpose(emission: Emission, node: Node) -> None:
    """Codes or floats, their axes in another order."""
    value = emission.file.operator(
        "Transpose",
        [emission.read(node)],
        f"{node.output}/transposed",
        name=node.name,
        perm=stored_order(node.attrs["perm"]),
    )
    _write_moved(emission, node, value)


def emit_upsample(emission: Emission, node: Node) -> None:
    """Codes or floats; each pixel becomes a rectangle of equal ones."""
    scales = np.array([1, 1, *node.attrs["size"]], np.float32)
    inputs = [emission.read(node), "", emission.file.constant(f"{node.name}/scales", scales)]
    value = emission.file.operator(
        "Resize",
        inputs,
        f"{node.output}/resized",
        name=node.name,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    _write_moved(emission, node, value)


def emit_concat(emission: Emission, node: Node) -> None:
    """Floats, or codes of one scale, each shifted as the output is."""
    output, axis = emission.output(node), node.attrs["axis"]
    is_image = len(output.shape) == len(_IMAGE_AXES)
    values = []
    for index, name in enumerate(node.inputs):
        missing = shift(emission.graph.tensors[name].qparams) - shift(output.qparams)
        value = emission.read(node, index)
        values.append(emission.add(value, missing, f"{node.name}/shifted{index}"))
    value = emission.file.operator(
        "Concat",
        values,
        f"{node.output}/joined",
        name=node.name,
        axis=_IMAGE_AXES[axis] if is_image else axis + 1,
    )
    emission.write(node, value, shift(output.qparams), clamped=False)


def _write_moved(emission: Emission, node: Node, value: str) -> None:
    emission.write(node, value, shift(emission.source(node).qparams), clamped=False)
