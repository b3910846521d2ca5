"""Reference kernels of the ops without weights.

Each `bind_...` prepares one node for many batches: it gets the node and the tensors that the
node reads and writes, and returns a function of the input arrays to the output array.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import partial

import numpy as np

from keras_quant.graph.ir import Node, Tensor
from keras_quant.graph.pointwise import ACTIVATIONS, POINTWISE
from keras_quant.graph.rounding import Kernel, code_dtype, levels, to_codes
from keras_quant.graph.windows import pad_image, taps, window_of
from keras_quant.qparams import INT8_CODES, QParams

Array = np.ndarray


def bind_quantize(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """code = round_half_even(x * float32(1 / scale)), as XNNPACK computes it."""
    target = output.grid
    inverse = np.float32(1) / np.float32(target.scale)
    return lambda x: to_codes(x * inverse, target)


def bind_dequantize(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """real = float32(scale) * (code - zero_point)."""
    source = inputs[0].grid
    scale = np.float32(source.scale)
    return lambda x: levels(x, source) * scale


def bind_requantize(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """code = round_half_even((code - zero_point) * float32(s_in / s_out)), in float32."""
    source, target = inputs[0].grid, output.grid
    ratio = np.float32(source.scale) / np.float32(target.scale)
    return lambda x: to_codes(levels(x, source) * ratio, target)


def bind_add(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """code = round_half_even((real_a + real_b) / s_out) in float64; or a float32 sum.

    An input of fewer axes gets axes of 1 behind the batch axis.
    """
    aligned = partial(_aligned, rank=len(output.shape))
    if output.qparams is None:
        activate = ACTIVATIONS[node.attrs.get("activation", "none")].formula
        return lambda a, b: activate(aligned(a) + aligned(b))
    first, second, target = inputs[0].grid, inputs[1].grid, output.qparams
    if _adds_alike_in_float32(first, second, target):
        return lambda a, b: _add_in_float32(aligned(a), aligned(b), first, second, target)
    return lambda a, b: _add(aligned(a), aligned(b), first, second, target)


def _add(a: Array, b: Array, first: QParams, second: QParams, target: QParams) -> Array:
    real = (a - np.float64(first.zero_point)) * first.scale
    real = real + (b - np.float64(second.zero_point)) * second.scale
    real /= target.scale
    return to_codes(real, target)


def _add_in_float32(a: Array, b: Array, first: QParams, second: QParams, target: QParams) -> Array:
    """As `_add`, in half the time."""
    steps, more = levels(a, first), levels(b, second)
    steps *= np.float32(first.scale / target.scale)
    more *= np.float32(second.scale / target.scale)
    return to_codes(steps + more, target)


@functools.lru_cache(maxsize=1024)
def _adds_alike_in_float32(first: QParams, second: QParams, target: QParams) -> bool:
    """Whether float32 gives every pair of codes the sum that float64 gives it; all are tried."""
    counts = [qparams.qmax - qparams.qmin + 1 for qparams in (first, second)]
    if max(counts) > INT8_CODES:
        return False
    a = np.arange(first.qmin, first.qmax + 1)[:, np.newaxis]
    b = np.arange(second.qmin, second.qmax + 1)
    grids = (first, second, target)
    return np.array_equal(_add(a, b, *grids), _add_in_float32(a, b, *grids))


def bind_multiply(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """A product, or a float32 one; an input of fewer axes gets axes of 1 behind the batch axis.

    Codes: round_half_even(float32(a * b) * M) with a and b the codes less their zero points and
    M = float32(float32(s_a * s_b) / s_out), as XNNPACK computes it. Products of two 8-bit codes
    are exact in float32.
    """
    aligned = partial(_aligned, rank=len(output.shape))
    if output.qparams is None:
        activate = ACTIVATIONS[node.attrs.get("activation", "none")].formula
        return lambda a, b: activate(aligned(a) * aligned(b))
    first, second, target = inputs[0].grid, inputs[1].grid, output.qparams
    multiplier = np.float32(first.scale) * np.float32(second.scale) / np.float32(target.scale)

    def kernel(a: Array, b: Array) -> Array:
        product = aligned(levels(a, first)) * aligned(levels(b, second))
        return to_codes(product * multiplier, target)

    return kernel


def bind_lookup(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """The table's entry of each code, of its channel's row where there is one for each."""
    dtype = np.float32 if output.qparams is None else code_dtype(output.qparams)
    table, first = node.entries.astype(dtype), inputs[0].grid.qmin
    if table.ndim == 1:
        return lambda x: table[x.astype(np.intp) - first]
    channels = np.arange(len(table))
    return lambda x: table[channels, x.astype(np.intp) - first]


def bind_max_pool(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Maximum of each window; padded pixels never win."""
    window, source = window_of(node), inputs[0].qparams
    lowest = -np.inf if source is None else int(np.iinfo(code_dtype(source)).min)

    def kernel(x: Array) -> Array:
        views = (pixels for _, pixels in taps(x, window, lowest))
        largest: Array = next(views).copy()
        for pixels in views:
            np.maximum(largest, pixels, out=largest)
        return largest

    return kernel


def bind_avg_pool(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Mean of each window, see `_bind_average`.

    What padding "same" pads does not count, as in Keras; margins do, as a pad in front would.
    """
    window = window_of(node)

    def window_sum(x: Array) -> Array:
        views = (pixels for _, pixels in taps(x, window, 0))
        total: Array = next(views).copy()
        for pixels in views:
            total += pixels
        return total

    count: int | Array = int(np.prod(window.size))
    if window.padding == "same":
        count = window_sum(np.ones((1, *inputs[0].shape[:2], 1), np.int32))
    return _bind_average(window_sum, count, inputs[0], output)


def bind_mean(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Mean over height and width, see `_bind_average`."""
    height, width, _ = inputs[0].shape
    return _bind_average(lambda x: x.sum(axis=(1, 2)), height * width, inputs[0], output)


def bind_pad(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Pads with real 0, or crops where the margins are below 0."""
    source = inputs[0].qparams
    zero = 0 if source is None else source.zero_point
    rows, columns = margins = node.attrs["padding"]
    if min(*rows, *columns) < 0:
        kept = [slice(-before, after or None) for before, after in margins]
        return lambda x: x[:, kept[0], kept[1]]
    return lambda x: pad_image(x, margins, zero)


def bind_reshape(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Row-major, the batch axis kept."""
    return lambda x: x.reshape(len(x), *output.shape)


def bind_transpose(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Axes in another order, the batch axis first; axis i of the output is axis perm[i]."""
    order = (0, *(axis + 1 for axis in node.attrs["perm"]))
    return lambda x: np.ascontiguousarray(x.transpose(order))


def bind_upsample(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Each pixel becomes a rectangle of equal ones, as UpSampling2D's "nearest"."""
    rows, columns = node.attrs["size"]
    return lambda x: x.repeat(rows, axis=1).repeat(columns, axis=2)


def bind_concat(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """Arrays side by side along an axis."""
    axis = node.attrs["axis"] + 1
    dtype = np.float32 if output.qparams is None else code_dtype(output.qparams)
    return lambda *arrays: np.concatenate(arrays, axis=axis, dtype=dtype)


def bind_relu(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """max(x, 0), then at most max_value."""
    return ACTIVATIONS["relu" if node.attrs.get("max_value") is None else "relu6"].formula


def bind_clip(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """min(max(x, minimum), maximum), of those that are given, in float32."""
    low, high = node.attrs.get("minimum", -np.inf), node.attrs.get("maximum", np.inf)
    return lambda x: np.clip(x, np.float32(low), np.float32(high))


def bind_pointwise(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """A function of each value."""
    return POINTWISE[node.attrs["function"]].formula


def bind_softmax(node: Node, inputs: Sequence[Tensor], output: Tensor) -> Kernel:
    """exp(x) over its sum along the last axis, shifted by the maximum against overflow."""

    def kernel(x: Array) -> Array:
        powers: Array = np.exp(x - x.max(axis=-1, keepdims=True))
        shares: Array = powers / powers.sum(axis=-1, keepdims=True)
        return shares

    return kernel


def _bind_average(add_up: Kernel, count: int | Array, source: Tensor, output: Tensor) -> Kernel:
    """Turns sums of count terms into means; of so many at each place, where count is an array.

    Codes: round_half_even(float32(n) * M) with M = float32(float32(s_in * float32(1 / count))
    / s_out), which is what a depthwise convolution with ones and scale 1 / count computes.
    Reals: float64 sum over count, rounded to float32 once.
    """
    if output.qparams is None:
        return lambda x: (add_up(x.astype(np.float64)) / count).astype(np.float32)
    codes, target = source.grid, output.qparams
    share = np.float32(1) / np.float32(count)
    multiplier = np.float32(codes.scale) * share / np.float32(target.scale)

    def kernel(x: Array) -> Array:
        sums = add_up(x.astype(np.int32) - np.int32(codes.zero_point))
        return to_codes(sums.astype(np.float32) * multiplier, target)

    return kernel


def _aligned(x: Array, rank: int) -> Array:
    """With axes of 1 behind the batch axis, until so many follow it."""
    return x.reshape(len(x), *[1] * (rank + 1 - x.ndim), *x.shape[1:])
