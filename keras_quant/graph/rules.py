"""What each op asks of its tensors: the shape it gives, and which quantization it takes.

A shape rule gets the node and its input shapes, and returns the output shape or raises
GraphError. A qparams rule gets the node, its input tensors and its output tensor, and returns
one line for each problem.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Node, Shape, Tensor
from keras_quant.graph.windows import (
    Window,
    extent,
    meets_pixels,
    output_size,
    transposed_size,
    window_of,
)
from keras_quant.qparams import QParams, holds_range, same_grid

Tensors = Sequence[Tensor]
Problems = list[str]


def same_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Elementwise: every input has the output's shape."""
    if len(set(shapes)) > 1:
        raise GraphError(f"input shapes differ: {', '.join(map(str, shapes))}")
    return shapes[0]


def broadcast_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """add, multiply: sizes of an axis are equal or 1; (channels,) means (1, 1, channels)."""
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    if any(len({*sizes} - {1}) > 1 for sizes in zip(*aligned, strict=True)):
        raise GraphError(
            f"input shapes are {', '.join(map(str, shapes))}; each axis, from the last on, needs "
            "equal sizes, or 1"
        )
    return tuple(map(max, zip(*aligned, strict=True)))


def conv2d_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, in) to (out_height, out_width, out)."""
    taken, given = node.kernel.values.shape[2:]
    groups = node.attrs.get("groups", 1)
    if given % groups:
        raise GraphError(f"{given} output channels do not divide into {groups} groups")
    return *_slide(window_of(node), shapes[0], taken * groups), given


def transpose_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, in) to (out_height, out_width, out), as `windows.transposed_size`."""
    taken, given = node.kernel.values.shape[2:]
    height, width, channels = _image(shapes[0])
    if channels != taken:
        raise GraphError(f"input has {channels} channels; the kernel takes {taken}")
    window = window_of(node)
    size = transposed_size(window, (height, width))
    if window.output_padding is not None and (
        window.padding != "same"
        or any(taps < stride for taps, stride in zip(window.size, window.strides, strict=True))
        or output_size(window, size) != (height, width)
    ):
        raise GraphError(
            f"output_padding is {window.output_padding}; it goes with padding 'same', a kernel at "
            f"least as large as the strides {window.strides}, and an output on which the window "
            f"has {(height, width)} positions, not {output_size(window, size)}"
        )
    return *size, given


def depthwise_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, channels) to (out_height, out_width, channels)."""
    channels = node.kernel.values.shape[2]
    return *_slide(window_of(node), shapes[0], channels), channels


def dense_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(in,) to (out,)."""
    taken, given = node.kernel.values.shape
    if shapes[0] != (taken,):
        raise GraphError(f"input shape is {shapes[0]}; the kernel takes ({taken},)")
    return (given,)


def pool_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, channels) to (out_height, out_width, channels)."""
    channels = _image(shapes[0])[2]
    return *_slide(window_of(node), shapes[0], channels), channels


def mean_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, channels) to (channels,)."""
    return (_image(shapes[0])[2],)


def pad_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, channels), height and width grown or cut by the padding."""
    height, width, channels = _image(shapes[0])
    rows, columns = node.attrs["padding"]
    size = height + sum(rows), width + sum(columns)
    if min(size) < 1:
        raise GraphError(f"padding {rows, columns} leaves nothing of {shapes[0]}")
    return *size, channels


def reshaped(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Any shape to the wanted one of as many elements, or to (elements,)."""
    elements = int(np.prod(shapes[0]))
    shape: Shape = node.attrs.get("shape", (elements,))
    if int(np.prod(shape)) != elements:
        raise GraphError(f"{shapes[0]} has {elements} elements; {shape} has {int(np.prod(shape))}")
    return shape


def transposed(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Any shape, its axes in another order."""
    order: Shape = node.attrs["perm"]
    if len(order) != len(shapes[0]):
        raise GraphError(f"perm has {len(order)} axes; {shapes[0]} has {len(shapes[0])}")
    return tuple(shapes[0][axis] for axis in order)


def upsampled_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """(height, width, channels), height and width times the size."""
    height, width, channels = _image(shapes[0])
    rows, columns = node.attrs["size"]
    return height * rows, width * columns, channels


def concat_shape(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Shapes that are equal but for one axis, along which they add up."""
    axis = node.attrs["axis"]
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(others) > 1 or axis >= len(shapes[0]):
        given = ", ".join(map(str, shapes))
        raise GraphError(f"input shapes {given} cannot be joined along axis {axis}")
    return *shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]


def takes_reals_gives_codes(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """quantize."""
    return _expect(inputs, codes=False) + _expect([output], codes=True)


def takes_codes_gives_reals(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """dequantize."""
    return _expect(inputs, codes=True) + _expect([output], codes=False)


def codes_only(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """requantize: any grid to any other."""
    return _expect([*inputs, output], codes=True)


def reals_only(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """relu, clip, softmax, pointwise."""
    return _expect([*inputs, output], codes=False)


def all_codes_or_all_reals(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """add, multiply, avg_pool, mean: codes on any grids, or float32 throughout."""
    problems = _expect([*inputs, output], codes=output.qparams is not None)
    return problems + _activation_problems(node, output)


def table_fits(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """lookup: codes to codes or reals, with an entry for each code of the input."""
    problems = _expect(inputs, codes=True)
    source, target, table = inputs[0].qparams, output.qparams, node.table
    if problems or source is None or table is None:
        return problems
    codes = source.qmax - source.qmin + 1
    shapes = [(codes,), (*inputs[0].shape[-1:], codes)]
    dtype = np.dtype(np.float32 if target is None else np.int32)
    if table.shape not in shapes or table.dtype != dtype:
        problems.append(
            f"table is {table.dtype} {table.shape}; {dtype} {shapes[0]} or {shapes[1]} is needed"
        )
    elif not np.isfinite(table).all():
        problems.append("table holds NaN or infinity")
    elif target is not None and not (target.qmin <= table.min() <= table.max() <= target.qmax):
        problems.append(
            f"table holds codes from {table.min()} to {table.max()}; {output.name} takes "
            f"{target.qmin} to {target.qmax}"
        )
    return problems


def keeps_qparams(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """max_pool, pad, reshape, transpose, upsample: codes pass unchanged."""
    given, kept = _values(inputs[0].qparams), _values(output.qparams)
    if given == kept:
        return []
    return [
        f"{inputs[0].name} and {output.name} must have the same quantization parameters; "
        f"they have {given} and {kept} (scale, zero_point, qmin, qmax)"
    ]


def holds_all_codes(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """concat: float32 throughout, or codes of one grid, within the output's range."""
    target = output.qparams
    problems = _expect([*inputs, output], codes=target is not None)
    if problems or target is None:
        return problems
    return [
        f"{tensor.name} has {_values(source)}; {output.name} has {_values(target)} (scale, "
        "zero_point, qmin, qmax): scale and zero_point must be its own, and the range within its"
        for tensor in inputs
        if (source := tensor.qparams) is not None
        and not (same_grid(source, target) and holds_range(target, source))
    ]


def linear_forms(node: Node, inputs: Tensors, output: Tensor) -> Problems:
    """Ops with a kernel: the forms that `graph.ir` describes."""
    scale, bias = node.kernel.scale, node.bias
    problems = _activation_problems(node, output)
    if inputs[0].qparams is None:
        problems += _expect([output], codes=False)
    elif scale is None:
        problems.append("the weight is float but the input has codes; dequantize the input first")
    if output.qparams is None:
        if bias is not None and bias.dtype.kind != "f":
            problems.append(f"bias is {bias.dtype}; a float output takes a float bias")
    elif scale is not None and bias is not None:
        wanted = {"float64": "float64", "float32": "int32"}.get(str(scale.dtype))
        if wanted is not None and bias.dtype != wanted:
            problems.append(
                f"bias is {bias.dtype} and weight.scale {scale.dtype}; allowed are float64 with "
                "float64 (ideal) and int32 with float32 (realized)"
            )
    return problems


def _expect(tensors: Tensors, *, codes: bool) -> Problems:
    """One line for each tensor that is not what it should be."""
    has, wants = ("is float32", "codes") if codes else ("has codes", "float32")
    return [
        f"{tensor.name} {has}; this op needs {wants} there"
        for tensor in tensors
        if (tensor.qparams is not None) != codes
    ]


def _activation_problems(node: Node, output: Tensor) -> Problems:
    activation = node.attrs.get("activation", "none")
    if output.qparams is None or activation == "none":
        return []
    return [
        f"activation is {activation!r} but {output.name} has codes; "
        "clamp with the output's qmin and qmax instead"
    ]


def _values(qparams: QParams | None) -> tuple[float, int, int, int] | None:
    """What makes two QParams alike to a kernel."""
    if qparams is None:
        return None
    return qparams.scale, qparams.zero_point, qparams.qmin, qparams.qmax


def _image(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise GraphError(f"input shape is {shape}; (height, width, channels) is needed")
    return shape


def _slide(window: Window, shape: Shape, channels: int) -> tuple[int, int]:
    """Output height and width of a window over an image of so many channels."""
    height, width, given = _image(shape)
    if given != channels:
        raise GraphError(f"input has {given} channels; the kernel takes {channels}")
    size = output_size(window, (height, width))
    if not isinstance(window.padding, str) and not meets_pixels(window, window.padding):
        raise GraphError(
            f"padding is {window.padding}; a window that covers {extent(window)} needs less on "
            "each side, or it would meet no pixel there"
        )
    if min(size) < 1:
        raise GraphError(f"a window of {window.size} does not fit on {(height, width)}")
    return size
