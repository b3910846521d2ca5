"""A transposed convolution as a convolution to strides times the channels, in files' operators.

Output pixels a stride apart meet the same taps of the kernel, on neighbouring input pixels. So
an ordinary convolution computes all pixels of one phase in channels of their own, every product
once, and its output is then interleaved: channels become rectangles of pixels (Shi et al.,
"Is the deconvolution layer the same as a convolutional layer?", 2016). Sums, biases and
rounding are those of the transposed convolution, code by code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from keras_quant.graph.ir import Node, Weight
from keras_quant.graph.windows import Margins, Pair, padding_of, transposed_size, window_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubPixel:
    """What computes a conv2d_transpose.

    Attributes:
        convolution: the conv2d, named as the node; its channels are (row, column, channel) of
            the rectangle that each position becomes.
        size: (height, width) of the convolution's output.
        strides: (height, width) of each rectangle.
        kept: first and, exclusive, last row and column of the interleaved image to keep.
    """

    convolution: Node
    size: Pair
    strides: Pair
    kept: Margins

    @property
    def is_cut(self) -> bool:
        """Whether some of the interleaved image is not kept."""
        whole = (self.size[0] * self.strides[0], self.size[1] * self.strides[1])
        return self.kept != ((0, whole[0]), (0, whole[1]))


def subpixel(node: Node, size: Pair) -> SubPixel:
    """Rewrites a conv2d_transpose.

    Args:
        size: (height, width) of its input.
    """
    window = window_of(node)
    wanted = transposed_size(window, size)
    cut = padding_of(window, wanted)
    taps = [-(-window.size[axis] // window.strides[axis]) for axis in (0, 1)]
    margins, kept, counts = [], [], []
    for axis in (0, 1):
        stride = window.strides[axis]
        shift, first = divmod(cut[axis][0], stride)
        count = -(-(first + wanted[axis]) // stride)
        margins.append((taps[axis] - 1 - shift, count + shift - size[axis]))
        kept.append((first, first + wanted[axis]))
        counts.append(count)
    attrs = {name: value for name, value in node.attrs.items() if name == "activation"}
    return SubPixel(
        convolution=replace(
            node,
            op="conv2d",
            weight=_by_phase(node, (taps[0], taps[1])),
            bias=tiled(node.bias, window.strides[0] * window.strides[1]),
            attrs={**attrs, "padding": tuple(margins)},
        ),
        size=(counts[0], counts[1]),
        strides=window.strides,
        kept=(kept[0], kept[1]),
    )


def _by_phase(node: Node, taps: Pair) -> Weight:
    """The kernel (taps high, taps wide, in, rows * columns * out): turned, and by phase."""
    (rows, columns), weight = window_of(node).strides, node.kernel
    height, width, taken, given = weight.values.shape
    whole = np.zeros((taps[0] * rows, taps[1] * columns, taken, given), weight.values.dtype)
    whole[:height, :width] = weight.values
    split = whole.reshape(taps[0], rows, taps[1], columns, taken, given)[::-1, :, ::-1]
    return replace(
        weight,
        values=split.transpose(0, 2, 4, 1, 3, 5).reshape(*taps, taken, -1),
        scale=tiled(weight.scale, rows * columns),
        multiplier=tiled(weight.multiplier, rows * columns),
    )


def tiled(values: np.ndarray | None, phases: int) -> np.ndarray | None:
    """The channels' values, once for each phase."""
    return None if values is None else np.tile(values, phases)
