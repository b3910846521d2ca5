"""How nodes that move values and change none are written as ONNX operators.

They move codes as they are stored, clamped or not yet. What moves whole pixels does so channels
last, as ONNX Runtime's integer kernels work: it then leaves the Transposes out.
"""

from __future__ import annotations

import numpy as np

from keras_quant.emit.onnx.layout import stored_order
from keras_quant.emit.onnx_x86.emission import TO_NCHW, TO_NHWC, Emission, stored_range
from keras_quant.graph.ir import Node, Shape, Tensor
from keras_quant.graph.windows import Margins, padding_of, window_of

# By an image's axis: where it lies within the file, behind the batch.
_IMAGE_AXES = (2, 3, 1)


def emit_pad(emission: Emission, node: Node) -> None:
    """Pads codes with the stored zero point, or floats with 0; or cuts them."""
    if min(map(min, node.attrs["padding"])) < 0:
        _cut(emission, node)
        return
    (top, bottom), (left, right) = node.attrs["padding"]
    margins = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    qparams = emission.source(node).qparams
    file = emission.file
    zero = file.scalar(0)
    if qparams is not None:
        zero = file.scalar(stored_range(qparams)[2], np.uint8)
    emission.pass_on(node, "Pad", [file.constant(f"{node.name}/margins", margins), zero])
    readers = emission.graph.consumers(node.output)
    if any(_refuses_margins(emission, node, reader) for reader in readers):
        # Without bounds it only keeps a pooling from taking the margins over: ONNX Runtime adds
        # them to its own (PadFusion), and allows less than a window.
        barrier = emission.file.operator(
            "Clip", [emission.values[node.output]], f"{node.name}/kept"
        )
        emission.values[node.output] = barrier


def emit_reshape(emission: Emission, node: Node) -> None:
    """Row-major, channels last."""
    value, output = emission.values[node.inputs[0]], emission.output(node)
    if len(emission.source(node).shape) == 3:
        value = emission.file.operator("Transpose", [value], f"{node.name}/nhwc", perm=TO_NHWC)
    if len(output.shape) == 3:
        value = _reshaped(emission, value, output.shape, f"{node.name}/image")
        emission.pass_on(node, "Transpose", value=value, perm=TO_NCHW)
    else:
        emission.pass_on(
            node, "Reshape", [_sizes(emission, f"{node.name}/shape", output.shape)], value=value
        )


def emit_transpose(emission: Emission, node: Node) -> None:
    """Axes in another order."""
    emission.pass_on(node, "Transpose", perm=stored_order(node.attrs["perm"]))


def emit_upsample(emission: Emission, node: Node) -> None:
    """Repeats pixels, then rows: five times as fast as a Resize (16x16x32 to 32x32x32)."""
    (height, width, channels), (rows, columns) = emission.source(node).shape, node.attrs["size"]
    file, name = emission.file, node.name
    value = file.operator(
        "Transpose", [emission.values[node.inputs[0]]], f"{name}/nhwc", perm=TO_NHWC
    )
    repeats = file.constant(f"{node.name}/repeats", np.array([1, 1, 1, columns], np.int64))
    value = file.operator("Tile", [value, repeats], f"{name}/pixels")
    value = _reshaped(emission, value, (height, width * columns * channels), f"{name}/lines")
    repeats = file.constant(f"{node.name}/repeats", np.array([1, 1, rows], np.int64))
    value = file.operator("Tile", [value, repeats], f"{name}/rows")
    value = _reshaped(emission, value, emission.output(node).shape, f"{name}/image")
    emission.pass_on(node, "Transpose", value=value, perm=TO_NCHW)


def emit_concat(emission: Emission, node: Node) -> None:
    """Floats, or codes that are stored alike; clamped behind it where all have its range."""
    tensors, output = [emission.graph.tensors[name] for name in node.inputs], emission.output(node)
    in_image = len(output.shape) == len(_IMAGE_AXES)
    axis = _IMAGE_AXES[node.attrs["axis"]] if in_image else node.attrs["axis"] + 1
    if all(_range(tensor) == _range(output) for tensor in tensors):
        values = [emission.values[name] for name in node.inputs]
        emission.pass_on(node, "Concat", values[1:], value=values[0], axis=axis)
    else:
        emission.write(output, "Concat", [emission.value(name) for name in node.inputs], axis=axis)


def _range(tensor: Tensor) -> tuple[int, int, int] | None:
    return None if tensor.qparams is None else stored_range(tensor.qparams)


def _cut(emission: Emission, node: Node) -> None:
    margins: Margins = node.attrs["padding"]
    sizes = emission.source(node).shape[:2]
    bounds = [(-low, size + high) for (low, high), size in zip(margins, sizes, strict=True)]
    slices = (*np.array(bounds, np.int64).T, np.array(_IMAGE_AXES[:2], np.int64))
    constants = [emission.file.constant(f"{node.name}/bounds", values) for values in slices]
    emission.pass_on(node, "Slice", constants)


def _reshaped(emission: Emission, value: str, shape: Shape, output: str) -> str:
    sizes = _sizes(emission, f"{output}/shape", shape)
    return emission.file.operator("Reshape", [value, sizes], output)


def _sizes(emission: Emission, name: str, shape: Shape) -> str:
    return emission.file.constant(name, np.array([-1, *shape], np.int64))


def _refuses_margins(emission: Emission, pad: Node, pool: Node) -> bool:
    """Whether a pooling behind a pad would have margins as wide as its window."""
    if pool.op not in ("max_pool", "avg_pool"):
        return False
    window = window_of(pool)
    height, width, _ = emission.source(pool).shape
    own = np.array(padding_of(window, (height, width)))
    return bool((own + pad.attrs["padding"] >= np.array(window.size)[:, np.newaxis]).any())
