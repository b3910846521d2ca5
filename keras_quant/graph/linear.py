"""Reference kernels of convolutions and dense layers, in each form of `graph.ir`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_quant.graph.exact import (
    Product,
    accumulator_range,
    exact_dtype,
    exact_product,
)
from keras_quant.graph.ir import Node, Tensor, Weight
from keras_quant.graph.pointwise import ACTIVATIONS
from keras_quant.graph.rounding import Kernel, levels, to_codes
from keras_quant.graph.windows import (
    Window,
    overlap,
    pad_image,
    padding_of,
    patches,
    taps,
    window_of,
)
from keras_quant.qparams import QParams

Array = np.ndarray

# A product with so few channels waits for its pixels. Laid out for each row of a window, and not
# for each window, they are a third as many: 1.7 times as fast with 16 channels, 1.1 with 32 to 64,
# and slower from 128 on, where a product of all images at a time gains more.
_NARROW = 64


def bind_linear(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Prepares a node with a kernel for many batches.

    Returns: a function of the input array, codes or float32, to the output array.
    """
    source = inputs[0].qparams
    accumulate = _ACCUMULATORS[node.op](node, source)
    finish = _finish(node, inputs[0], output)
    if source is None:
        return lambda x: finish(accumulate(x.astype(np.float64)))
    return lambda x: finish(accumulate(levels(x, source)))


def dequantized(weight: Weight) -> Array:
    """Gives the real values of a kernel as float32: values * scale, or values."""
    if weight.scale is None:
        return weight.values
    return weight.values.astype(np.float32) * weight.scale.astype(np.float32)


def _conv2d(node: Node, source: QParams | None) -> Callable[[Array], Array]:
    window, kernel = window_of(node), _kernel(node, source)
    if lays_out_rows(node):
        return _conv2d_by_rows(node, source, window, kernel)
    groups = node.attrs.get("groups", 1)
    matrix = kernel.reshape(-1, kernel.shape[-1])
    rows, channels = matrix.shape
    products = [_product(part, node, source) for part in np.split(matrix, groups, axis=1)]

    def accumulate(x: Array) -> Array:
        seen = patches(x, window, 0)
        shape = seen.shape[:3]
        parts = [
            product(part.reshape(math.prod(shape), rows))
            for product, part in zip(products, np.split(seen, groups, axis=-1), strict=True)
        ]
        sums = parts[0] if groups == 1 else np.concatenate(parts, axis=-1)
        return sums.reshape(*shape, channels)

    return accumulate


def lays_out_rows(node: Node) -> bool:
    """Whether a convolution is computed row by row of its window, one product for each."""
    high, _, _, channels = node.kernel.values.shape
    by_ones = node.attrs.get("strides", (1, 1))[0] == 1
    is_whole = node.attrs.get("groups", 1) == 1
    return bool(high > 1 and by_ones and channels <= _NARROW and is_whole)


def _conv2d_by_rows(
    node: Node, source: QParams | None, window: Window, kernel: Array
) -> Callable[[Array], Array]:
    """Adds up what each row of a window sees, in the sum's own type: each part fits it too."""
    high, wide, taken, channels = kernel.shape
    rate, across = window.dilation
    row = Window(size=(1, wide), strides=(1, window.strides[1]), dilation=(1, across))
    products = [_product(part.reshape(wide * taken, channels), node, source) for part in kernel]
    dtype = _sum_dtype(kernel, node, source)

    def accumulate(x: Array) -> Array:
        padded = pad_image(x, padding_of(window, x.shape[1:3]), 0)
        seen = patches(padded, row, 0)
        images, length, columns = seen.shape[:3]
        laid = seen.reshape(images, length, columns, wide * taken)
        rows = length - (high - 1) * rate
        total = np.zeros((images, rows * columns, channels), dtype)
        for tap, product in enumerate(products):
            part = laid[:, tap * rate : tap * rate + rows]
            total += product(part.reshape(images, rows * columns, wide * taken))
        return total.reshape(images, rows, columns, channels)

    return accumulate


def _conv2d_transpose(node: Node, source: QParams | None) -> Callable[[Array], Array]:
    window, kernel = window_of(node), _kernel(node, source)
    height, width, rows, channels = kernel.shape
    product = _product(kernel.transpose(2, 0, 1, 3).reshape(rows, -1), node, source)
    dtype = _sum_dtype(kernel, node, source)

    def accumulate(x: Array) -> Array:
        terms = product(x.reshape(-1, rows)).astype(dtype, copy=False)
        return overlap(terms.reshape(*x.shape[:3], height, width, channels), window)

    return accumulate


def _dense(node: Node, source: QParams | None) -> Callable[[Array], Array]:
    return _product(_kernel(node, source), node, source)


def _depthwise(node: Node, source: QParams | None) -> Callable[[Array], Array]:
    window, kernel = window_of(node), _kernel(node, source)
    kernel = kernel.astype(_sum_dtype(kernel, node, source))

    def accumulate(x: Array) -> Array:
        terms = (pixels * kernel[tap] for tap, pixels in taps(x, window, 0))
        total: Array = next(terms)
        for term in terms:
            total += term
        return total

    return accumulate


_ACCUMULATORS = {
    "conv2d": _conv2d,
    "conv2d_transpose": _conv2d_transpose,
    "dense": _dense,
    "depthwise_conv2d": _depthwise,
}


def _kernel(node: Node, source: QParams | None) -> Array:
    """The kernel's codes where the input has codes, else its values in float64."""
    return dequantized(node.kernel).astype(np.float64) if source is None else node.kernel.values


def _product(kernel: Array, node: Node, source: QParams | None) -> Product:
    if source is None:
        return lambda x: x @ kernel
    return exact_product(kernel, source, headroom=_headroom(node))


def _sum_dtype(kernel: Array, node: Node, source: QParams | None) -> type[np.floating]:
    """What holds each sum of codes, and its bias, exactly; float64 for sums of reals."""
    if source is None:
        return np.float64
    low, high = accumulator_range(kernel, source)
    return exact_dtype(int(max(high.max(), -low.min())) + _headroom(node))


def _headroom(node: Node) -> int:
    """Greatest magnitude of an integer bias, which is added to the accumulator."""
    if node.bias is None or node.bias.dtype != np.int32:
        return 0
    return int(np.abs(node.bias.astype(np.int64)).max())


def _finish(node: Node, source: Tensor, output: Tensor) -> Callable[[Array], Array]:
    """What turns accumulators, which it may overwrite, into the node's output."""
    if output.qparams is None:
        return _finish_real(node, source.qparams)
    if node.kernel.code_scale.dtype == np.float32:
        return _finish_realized(node, source.grid, output.qparams)
    return _finish_ideal(node, source.grid, output.qparams)


def _finish_real(node: Node, source: QParams | None) -> Callable[[Array], Array]:
    """real = n * s_x * s_w + bias, then the activation; n is real where the input is."""
    unit: float | Array = 1.0
    if source is not None:
        unit = source.scale * node.kernel.code_scale.astype(np.float64)
    bias = 0.0 if node.bias is None else node.bias.astype(np.float64)
    activate = ACTIVATIONS[node.attrs.get("activation", "none")].formula
    return lambda n: activate((n * unit + bias).astype(np.float32))


def _finish_ideal(node: Node, source: QParams, output: QParams) -> Callable[[Array], Array]:
    """code = round_half_even((n * (s_x * s_w) + bias) / s_out), all in float64."""
    unit = source.scale * node.kernel.code_scale
    bias = 0.0 if node.bias is None else node.bias

    def finish(n: Array) -> Array:
        real = n * unit
        real += bias
        real /= output.scale
        return to_codes(real, output)

    return finish


def _finish_realized(node: Node, source: QParams, output: QParams) -> Callable[[Array], Array]:
    """code = round_half_even(float32(n + bias) * M), M = float32(float32(s_x * s_w) / s_out)."""
    multiplier = np.float32(source.scale) * node.kernel.code_scale / np.float32(output.scale)
    bias = np.int32(0) if node.bias is None else node.bias

    def finish(n: Array) -> Array:
        n += bias.astype(n.dtype)  # exact, see _headroom
        steps = n.astype(np.float32, copy=False)
        steps *= multiplier
        return to_codes(steps, output)

    return finish
