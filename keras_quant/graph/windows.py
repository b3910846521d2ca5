"""Where the windows of a convolution or a pooling lie: sizes, padding, views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from keras_quant.graph.ir import Node

Pair = tuple[int, int]
Margins = tuple[Pair, Pair]
"""((top, bottom), (left, right)), in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window that slides over the height and width of an image.

    Attributes:
        size: (height, width) in taps.
        strides: (height, width) between neighbouring outputs.
        dilation: (height, width) between neighbouring taps.
        padding: "same" or "valid", with TensorFlow's meaning; or the margins themselves.
        output_padding: of a transposed convolution, as `transposed_size` takes it.
    """

    size: Pair
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str | Margins = "valid"
    output_padding: Pair | None = None


def window_of(node: Node) -> Window:
    """Gives the window of a convolution or pooling node.

    That of a conv2d_transpose slides over the output, and meets each pixel of the input once.
    """
    height, width = node.attrs["pool_size"] if node.weight is None else node.weight.values.shape[:2]
    return Window(
        size=(height, width),
        strides=node.attrs.get("strides", (1, 1)),
        dilation=node.attrs.get("dilation", (1, 1)),
        padding=node.attrs.get("padding", "valid"),
        output_padding=node.attrs.get("output_padding"),
    )


def output_size(window: Window, size: Pair) -> Pair:
    """Counts the positions of a window on an image of (height, width).

    Returns: (height, width); below 1 where a "valid" window does not fit.
    """
    return _count(window, size[0], 0), _count(window, size[1], 1)


def transposed_size(window: Window, size: Pair) -> Pair:
    """Gives an image on which a window without dilation has `size` positions.

    As Keras' Conv2DTranspose sizes its output: the strides times the input, and with padding
    "valid" what the window reaches beyond them. With an output_padding, which goes with padding
    "same": what the window covers, less half of it, rounded down, on either side, and so much more.
    """
    if window.output_padding is not None:
        height, width = (
            (count - 1) * stride + taps % 2 + more
            for count, stride, taps, more in zip(
                size, window.strides, window.size, window.output_padding, strict=True
            )
        )
        return height, width
    height, width = (
        count * stride + (max(taps - stride, 0) if window.padding == "valid" else 0)
        for count, stride, taps in zip(size, window.strides, window.size, strict=True)
    )
    return height, width


def padding_of(window: Window, size: Pair) -> Margins:
    """Gives what the window pads on an image of (height, width).

    Of an odd total the larger half goes to the bottom and the right, as in TensorFlow
    (https://www.tensorflow.org/api_docs/python/tf/nn, "Notes on padding").
    """
    return _margins(window, size[0], 0), _margins(window, size[1], 1)


def meets_pixels(window: Window, margins: Margins) -> bool:
    """Whether every position of a window meets a pixel of an image that has these margins."""
    sizes = zip(margins, extent(window), strict=True)
    return all(max(pair) < covered for pair, covered in sizes)


def pad_image(x: np.ndarray, padding: Margins, fill: float) -> np.ndarray:
    """Pads (batch, height, width, channels) with fill; x itself where there is nothing to pad."""
    (top, bottom), (left, right) = padding
    if not any((top, bottom, left, right)):
        return x
    batch, height, width, channels = x.shape
    shape = (batch, top + height + bottom, left + width + right, channels)
    padded = np.full(shape, fill, x.dtype)
    padded[:, top : top + height, left : left + width] = x
    return padded


def patches(x: np.ndarray, window: Window, fill: float) -> np.ndarray:
    """Gives what a window sees at each of its positions.

    Args:
        x: (batch, height, width, channels).
        window: the window.
        fill: the value of padded pixels.
    Returns: a view (batch, out_height, out_width, taps_high, taps_wide, channels) of x, or of
        a padded copy; do not write to it.
    """
    padded = pad_image(x, padding_of(window, x.shape[1:3]), fill)
    (stride_y, stride_x), (rate_y, rate_x) = window.strides, window.dilation
    views = sliding_window_view(padded, extent(window), axis=(1, 2))
    views = views[:, ::stride_y, ::stride_x, :, ::rate_y, ::rate_x]
    seen: np.ndarray = views.transpose(0, 1, 2, 4, 5, 3)
    return seen


def taps(x: np.ndarray, window: Window, fill: float) -> Iterator[tuple[Pair, np.ndarray]]:
    """Gives for each tap (row, column) of a window the pixels it meets.

    Yields: ((row, column), a view (batch, out_height, out_width, channels)).
    """
    seen = patches(x, window, fill)
    for tap in np.ndindex(*window.size):
        yield tap, seen[:, :, :, tap[0], tap[1]]


def overlap(views: np.ndarray, window: Window) -> np.ndarray:
    """Adds up what each position of a window gives to the pixels it covers.

    The transpose of `patches`, for a window without dilation.

    Args:
        views: (batch, rows, columns, taps_high, taps_wide, channels).
    Returns: (batch, height, width, channels) of views' dtype, `transposed_size` large.
    """
    rows, columns = views.shape[1:3]
    stride_y, stride_x = window.strides
    height, width = transposed_size(window, (rows, columns))
    (top, bottom), (left, right) = padding_of(window, (height, width))
    shape = (len(views), top + height + bottom, left + width + right, views.shape[-1])
    sums = np.zeros(shape, views.dtype)
    for y, x in np.ndindex(*window.size):
        covered = sums[:, y::stride_y, x::stride_x][:, :rows, :columns]
        covered += views[:, :, :, y, x]
    return sums[:, top : top + height, left : left + width]


def extent(window: Window) -> Pair:
    """(height, width) of pixels that a window covers, the gaps of its dilation included."""
    return _extent(window, 0), _extent(window, 1)


def _extent(window: Window, axis: int) -> int:
    return (window.size[axis] - 1) * window.dilation[axis] + 1


def _count(window: Window, length: int, axis: int) -> int:
    """Positions of a window along an axis."""
    if window.padding == "same":
        return -(-length // window.strides[axis])
    length += sum(_margins(window, length, axis))
    return (length - _extent(window, axis)) // window.strides[axis] + 1


def _margins(window: Window, length: int, axis: int) -> Pair:
    """Pixels padded before and after an axis."""
    if not isinstance(window.padding, str):
        return window.padding[axis]
    if window.padding == "valid":
        return 0, 0
    last = (_count(window, length, axis) - 1) * window.strides[axis]
    total = max(last + _extent(window, axis) - length, 0)
    return total // 2, total - total // 2
